package host

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
)

// listingLimit is the output that is kept of a listing: 20,000 interfaces, or as many tables as a machine has.
const listingLimit = 32 << 20

// fewTables is up to how many tables nft lists all of them faster than one by one: 1.0.6 asks the
// kernel for all rules once for each table (measured with 1.0.6: 100 containers 0.6 s of a processor, 300 4.5 s).
const fewTables = 120

var errCut = errors.New("the output is longer than what is kept")

var (
	// links is what is read of every interface, `ip -json -details address show dev NAME` for each.
	links = &Listing{Command: Command{Argv: []string{"ip", "-json", "-details", "address", "show"},
		Output: listingLimit}, Split: splitLinks}
	tables = &Listing{Command: Command{Argv: []string{"nft", "--stateless", "list", "tables"}, Output: listingLimit},
		Split: splitTableNames}
	// rulesets has the families of phoenix' own tables. Elements of others' sets are left out; phoenix has no named set.
	rulesets = map[string]*Listing{"bridge": ruleset("bridge"), "inet": ruleset("inet")}
)

func ruleset(family string) *Listing {
	return &Listing{Command: Command{Argv: []string{"nft", "--stateless", "--terse", "list", "ruleset", family},
		Output: listingLimit}, Split: splitTables}
}

// Link is what ip(8) shows of an interface as JSON, an array with one object.
func Link(ctx context.Context, h Host, name string) (Result, []string, error) {
	if parts, known := links.Parts(ctx, h); known {
		return Result{Stdout: parts[name]}, links.Command.Argv, nil
	}
	argv := []string{"ip", "-json", "-details", "address", "show", "dev", name}
	res, err := h.Run(ctx, Command{Argv: argv})
	if err != nil && strings.Contains(string(res.Stderr), "does not exist") {
		return Result{}, argv, nil
	}
	return res, argv, err
}

func splitLinks(out []byte) (map[string][]byte, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, err
	}
	parts := make(map[string][]byte, len(all))
	for _, raw := range all {
		var l struct {
			Name string `json:"ifname"`
		}
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, err
		}
		if l.Name != "" { // ip writes {} for those that a filter leaves out
			parts[l.Name] = append(append([]byte("["), raw...), ']')
		}
	}
	return parts, nil
}

// Table is what nft shows of a table; empty: there is none.
func Table(ctx context.Context, h Host, family, name string) (string, error) {
	if text, known := tableInRound(ctx, h, family, name); known {
		return text, nil
	}
	argv := []string{"nft", "--stateless", "list", "table", family, name}
	res, err := h.Run(ctx, Command{Argv: argv})
	switch {
	case err != nil && strings.Contains(string(res.Stderr), "No such file or directory"):
		return "", nil
	case err == nil && !strings.HasPrefix(string(res.Stdout), "table "+family+" "+name+" {\n"):
		return "", Misread(argv, res, errors.New("no table"))
	}
	return string(res.Stdout), err
}

// tableInRound finds out at once which tables there are, and what is in them where they are few.
func tableInRound(ctx context.Context, h Host, family, name string) (text string, known bool) {
	names, known := tables.Parts(ctx, h)
	if !known {
		return "", false
	}
	if _, there := names[family+" "+name]; !there {
		return "", true
	}
	if rulesets[family] == nil || len(names) > fewTables {
		return "", false
	}
	texts, _ := rulesets[family].Parts(ctx, h)
	whole, there := texts[family+" "+name] // one that went away meanwhile is asked for by itself
	return string(whole), there
}

// splitTableNames reads the lines of `nft list tables`.
func splitTableNames(out []byte) (map[string][]byte, error) {
	parts := map[string][]byte{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "table" {
			return nil, errors.New("not a list of tables")
		}
		parts[f[1]+" "+f[2]] = nil
	}
	return parts, nil
}

// splitTables gives the text of each table as `nft list table` writes it: from the line that opens it to the one with
// its closing bracket alone.
func splitTables(out []byte) (map[string][]byte, error) {
	parts := map[string][]byte{}
	for rest := string(out); strings.TrimSpace(rest) != ""; {
		text, after, closed := strings.Cut(rest, "\n}\n")
		f := strings.Fields(text)
		if !closed || len(f) < 4 || f[0] != "table" || f[3] != "{" {
			return nil, errors.New("not a list of tables")
		}
		parts[f[1]+" "+f[2]] = []byte(strings.TrimLeft(text, "\n") + "\n}\n")
		rest = after
	}
	return parts, nil
}
