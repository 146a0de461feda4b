// Package netfilter tells which chain of a machine drops a packet, by the text in which nft lists its rules. It is for
// rules that others wrote (Docker, ufw, firewalld, a person): what it does not understand it does not blame. Pure.
package netfilter

import (
	"slices"
	"strings"
)

// Ruleset is what nft lists, by "FAMILY TABLE".
type Ruleset struct {
	tables []table
}

type table struct {
	family, name string
	chains       map[string]*chain
	order        []string // names of chains, as they are listed
}

// chain is a list of rules; one with a hook is where packets begin.
type chain struct {
	kind, hook, policy string
	rules              []string
}

// Parse reads the output of nft list ruleset. What is not a chain (sets, maps, counters) is left out.
func Parse(listing string) Ruleset {
	var r Ruleset
	var at *table
	var in *chain
	depth, skipped := 0, 0 // of braces; the depth that ends what is left out
	for _, line := range joined(listing) {
		opened, closed := braces(line)
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case skipped > 0:
		case depth == 0 && f[0] == "table" && len(f) >= 3:
			r.tables = append(r.tables, table{family: f[1], name: f[2], chains: map[string]*chain{}})
			at = &r.tables[len(r.tables)-1]
		case depth == 1 && f[0] == "chain" && len(f) >= 2 && at != nil:
			in = &chain{policy: "accept"}
			at.chains[f[1]] = in
			at.order = append(at.order, f[1])
		case depth == 1 && opened > closed:
			skipped = depth + 1
		case depth == 2 && in != nil && f[0] == "type":
			in.declare(line)
		case depth == 2 && in != nil && line != "}":
			in.rules = append(in.rules, line)
		}
		if depth += opened - closed; depth < skipped {
			skipped = 0
		}
		if depth < 2 {
			in = nil
		}
	}
	return r
}

// joined are the lines of a listing without comments; a set of values that goes over several lines is one.
func joined(listing string) (out []string) {
	rest := ""
	for line := range strings.Lines(listing) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(rest + " " + line)
		rest = ""
		if opened, closed := braces(line); opened > closed && !strings.HasSuffix(line, "{") {
			rest = line
			if !strings.HasPrefix(line, "table ") { // "table inet firewalld { # progname firewalld"
				continue
			}
			rest = ""
		}
		out = append(out, line)
	}
	return out
}

// braces counts those outside of quotes.
func braces(line string) (opened, closed int) {
	quoted := false
	for _, c := range line {
		switch {
		case c == '"':
			quoted = !quoted
		case c == '{' && !quoted:
			opened++
		case c == '}' && !quoted:
			closed++
		}
	}
	return opened, closed
}

// declare reads "type filter hook forward priority filter; policy drop;".
func (c *chain) declare(line string) {
	for part := range strings.SplitSeq(line, ";") {
		f := strings.Fields(part)
		for i := 0; i+1 < len(f); i += 2 {
			switch f[i] {
			case "type":
				c.kind = f[i+1]
			case "hook":
				c.hook = f[i+1]
			case "policy":
				c.policy = f[i+1]
			}
		}
	}
}

// HasTable tells whether there is a table of that name, in any family.
func (r Ruleset) HasTable(name string) bool {
	return slices.ContainsFunc(r.tables, func(t table) bool { return t.name == name })
}

// HasChain tells whether a table of the family has such a chain.
func (r Ruleset) HasChain(family, tableName, name string) bool {
	return slices.ContainsFunc(r.tables, func(t table) bool {
		return t.family == family && t.name == tableName && t.chains[name] != nil
	})
}

// ChainWithPrefix tells whether any chain's name begins so.
func (r Ruleset) ChainWithPrefix(prefix string) bool {
	return slices.ContainsFunc(r.tables, func(t table) bool {
		return slices.ContainsFunc(t.order, func(n string) bool { return strings.HasPrefix(n, prefix) })
	})
}
