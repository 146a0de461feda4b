package issued

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Report is what a CA issued, judged.
type Report struct {
	Certificates []Verdict      `json:"certificates"`
	More         map[string]int `json:"more,omitempty"`
	Lost         []string       `json:"lost,omitempty"` // times, RFC 3339
	Silent       []string       `json:"silent,omitempty"`
}

// Alarming is a certificate that a person has to look at.
func (v Verdict) Alarming() bool { return v.State == Unwanted || v.State == Foreign }

// Report judges all.
func (p Policy) Report(l List) Report {
	r := Report{Certificates: []Verdict{}, More: l.More, Silent: p.Silent}
	for _, x := range l.Certificates {
		r.Certificates = append(r.Certificates, p.Judge(x))
	}
	for _, t := range l.Lost {
		r.Lost = append(r.Lost, t.UTC().Format("2006-01-02T15:04:05Z"))
	}
	return r
}

// Of are the verdicts of one state.
func (r Report) Of(states ...State) []Verdict {
	return slices.DeleteFunc(slices.Clone(r.Certificates),
		func(v Verdict) bool { return !slices.Contains(states, v.State) })
}

// Trace adds the addresses that orders came from, by order.
func (r *Report) Trace(from map[string]string) {
	for i, v := range r.Certificates {
		if ip, err := netip.ParseAddr(from[v.Order]); err == nil {
			r.Certificates[i].From = ip.String()
		}
	}
}

// Serial writes a certificate's serial number, given in hexadecimal digits, as openssl x509 -serial does: upper case,
// two digits a byte.
func Serial(digits string) string {
	if strings.Trim(digits, "0123456789abcdefABCDEF") != "" || digits == "" {
		return digits
	}
	return strings.ToUpper(strings.Repeat("0", len(digits)%2) + digits)
}

// Words are all that is known of a certificate, for people.
func (v Verdict) Words() string {
	said := fmt.Sprintf("serial %s for %s, valid %s to %s", Serial(v.Serial), strings.Join(v.Names, ", "),
		v.NotBefore.UTC().Format(time.RFC3339), v.NotAfter.UTC().Format(time.RFC3339))
	if v.Account != "" {
		said += ", account " + v.Account
	}
	if v.From != "" {
		said += ", from " + v.From
	}
	return said
}

// UnwantedFix is what a person may do about certificates that nothing wants.
func UnwantedFix(list []Verdict) string {
	return "if somebody is meant to have it, add the name to step_ca.allowed_names; else " + untrust(list)
}

// ForeignFix is what a person has to do about certificates that somebody else has.
func ForeignFix(list []Verdict) string {
	return "find out who asked for it, and keep them from it; then " + untrust(list)
}

// untrust says what ends certificates: no client asks whether one was revoked.
func untrust(list []Verdict) string {
	last := slices.MaxFunc(list, func(a, b Verdict) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter
	return "phoenix ca rotate --new-root --yes makes it worthless; without that it ends at " +
		last.UTC().Format(time.RFC3339)
}

const (
	textMost  = 260 // of a name or id
	namesEach = 100
)

// Bounded is a list as it came from a container, cleaned: nothing in it does anything to a terminal or takes for ever
// to show.
func (l List) Bounded() List {
	for i, x := range l.Certificates {
		if _, err := hex.DecodeString(strings.Repeat("0", len(x.Serial)%2) + x.Serial); err != nil {
			x.Serial = printable(x.Serial)
		}
		for _, text := range []*string{&x.Account, &x.AccountID, &x.Order, &x.Key, &x.Root} {
			*text = printable(*text)
		}
		x.Names = slices.Clone(x.Names[:min(len(x.Names), namesEach)])
		for j := range x.Names {
			x.Names[j] = printable(x.Names[j])
		}
		l.Certificates[i] = x
	}
	more := map[string]int{}
	for names, n := range l.More {
		more[printable(names)] = n
	}
	l.More = more
	return l
}

// printable keeps ASCII that can be seen: names in certificates and what step-ca gives to things have nothing else.
func printable(s string) string {
	s = s[:min(len(s), textMost)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
