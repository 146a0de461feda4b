package issued

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// State is what becomes of a certificate when it is compared with the configuration and with what the containers hold.
type State string

// The states, from what is in order to what is not.
const (
	Accounted State = "accounted" // for names of the container whose account ordered it
	Listed    State = "listed"    // for names of allowed_names that are nobody's here
	Former    State = "former"    // ordered by a container of ours, for names that it had then
	Pending   State = "pending"   // signed; nobody got it
	Unclear   State = "unclear"   // whose it is could not be asked
	Unwanted  State = "unwanted"  // for names that the configuration has no use for
	Foreign   State = "foreign"   // for names of a container, by an account that is not that container's
)

// Owner is an object that wants certificates for names.
type Owner struct {
	Object    string   `json:"object"`
	Container string   `json:"container"`
	Names     []string `json:"names"`
}

// Policy is what certificates are judged by.
type Policy struct {
	Allowed []string // every name that the CA may sign
	Listed  []string // those that the configuration's own allowed_names has: anybody may have them
	Owners  []Owner
	Held    map[string]Held  // by container, as it was said a moment ago
	Silent  []string         // containers that could not be asked
	Known   map[string]Known // by container, as it was said before
}

// Verdict is a certificate and what it is.
type Verdict struct {
	Certificate
	State  State  `json:"state"`
	Object string `json:"object,omitempty"` // that wants the names
	// that it was issued to; of Foreign ones and Unclear: whose names they are
	Container string `json:"container,omitempty"`
	From      string `json:"from,omitempty"` // the address that ordered it, where the CA's log still has it
}

// backdate is how far before its issuance a certificate's time begins, and how far clocks may differ.
const backdate = 2 * time.Minute

// Judge says what one certificate is.
func (p Policy) Judge(x Certificate) Verdict {
	v := Verdict{Certificate: x}
	if x.Pending {
		v.State = Pending
		return v
	}
	for _, id := range p.containers() {
		if p.holds(id, x) && p.entitled(id, x) {
			v.State, v.Container, v.Object = Accounted, id, p.objectOf(id, x.Names)
			if !within(x.Names, p.Allowed) {
				v.State = Former
			}
			return v
		}
	}
	owner := p.owner(x.Names)
	v.Object, v.Container = owner.Object, owner.Container
	switch {
	case !within(x.Names, p.Allowed):
		v.State = Unwanted
	case within(x.Names, p.Listed) || owner.Container == "":
		v.State = Listed
	case x.Account == "" || slices.Contains(p.Silent, owner.Container):
		v.State = Unclear
	default:
		v.State = Foreign
	}
	return v
}

// containers are all that are known of, in order.
func (p Policy) containers() []string {
	out := slices.Concat(slices.Collect(maps.Keys(p.Held)), slices.Collect(maps.Keys(p.Known)))
	slices.Sort(out)
	return slices.Compact(out)
}

// holds is whether a container has, or had at the time, the account or the certificate.
func (p Policy) holds(id string, x Certificate) bool {
	held := p.Held[id]
	if slices.Contains(held.Serials, x.Serial) || x.Account != "" && slices.Contains(held.Accounts, x.Account) {
		return true
	}
	return x.Account != "" && p.Known[id].Accounts.at(x.Account, x.NotBefore)
}

// entitled is whether all names were the container's when the certificate was issued.
func (p Policy) entitled(id string, x Certificate) bool {
	for _, name := range x.Names {
		if !slices.Contains(namesOf(p.Owners, id), name) && !p.Known[id].Names.at(name, x.NotBefore) {
			return false
		}
	}
	return true
}

func (p Policy) objectOf(id string, names []string) string {
	for _, o := range p.Owners {
		if o.Container == id && within(names, o.Names) {
			return o.Object
		}
	}
	return ""
}

// owner is whoever has most to do with the names; none has: the zero Owner.
func (p Policy) owner(names []string) Owner {
	for _, fits := range []func(Owner) bool{
		func(o Owner) bool { return within(names, o.Names) },
		func(o Owner) bool {
			return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(o.Names, n) })
		},
	} {
		if i := slices.IndexFunc(p.Owners, fits); i >= 0 {
			return p.Owners[i]
		}
	}
	return Owner{}
}

func namesOf(owners []Owner, id string) (out []string) {
	for _, o := range owners {
		if o.Container == id {
			out = append(out, o.Names...)
		}
	}
	return out
}

func within(names, list []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool {
		return !slices.ContainsFunc(list, func(l string) bool { return strings.EqualFold(l, n) })
	})
}

// Known is what is remembered of a container, so that a certificate is accounted for also after the container was made
// again, has another account, or lost a name.
type Known struct {
	Accounts Terms `json:"accounts,omitempty"` // thumbprints
	Names    Terms `json:"names,omitempty"`
}

// Terms are things with the time at which they ended; the zero time: they have not.
type Terms map[string]time.Time

func (t Terms) at(what string, when time.Time) bool {
	end, ok := t[what]
	return ok && (end.IsZero() || !when.After(end.Add(backdate)))
}

const termsMost = 256 // of one container

// now takes over what is; what was and is no more has ended. complete: what is not in the list has ended.
func (t Terms) now(list []string, complete bool, when time.Time) Terms {
	out := Terms{}
	for what, end := range t {
		if end.IsZero() && complete && !slices.Contains(list, what) {
			end = when
		}
		if end.IsZero() || when.Sub(end) < lifeMost {
			out[what] = end
		}
	}
	for _, what := range list {
		if len(out) < termsMost {
			out[what] = time.Time{}
		}
	}
	return out
}

// Remember is the memory after a look. Containers that could not be asked keep what is known of them.
func (p Policy) Remember(when time.Time) map[string]Known { return p.memory(when, true) }

// Learn is Remember after a look that may not have seen every account: none of them ends.
func (p Policy) Learn(when time.Time) map[string]Known { return p.memory(when, false) }

func (p Policy) memory(when time.Time, complete bool) map[string]Known {
	out := map[string]Known{}
	ids := p.containers()
	for _, o := range p.Owners {
		ids = append(ids, o.Container)
	}
	slices.Sort(ids)
	when = when.UTC().Truncate(time.Second)
	for _, id := range slices.Compact(ids) {
		held, asked := p.Held[id]
		k := Known{
			Accounts: p.Known[id].Accounts.now(held.Accounts, asked && complete, when),
			Names:    p.Known[id].Names.now(namesOf(p.Owners, id), true, when),
		}
		if len(k.Accounts)+len(k.Names) > 0 {
			out[id] = k
		}
	}
	return out
}

// AccountsIn are the accounts that the status of a certificate, or of a server that orders its own, names.
func AccountsIn(status json.RawMessage) []string {
	var s struct {
		Accounts []string `json:"accounts"`
	}
	if json.Unmarshal(status, &s) != nil {
		return nil
	}
	return Held{Accounts: s.Accounts}.Bounded().Accounts
}
