// Package conformance makes one table of the conformance suite: each provider of volumes and of containers against each
// part of it, from the providers' own tests.
package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

// row is one driver, and where its suite is run.
type row struct{ pkg, kind, test string }

var rows = []row{
	{"dir", "volume", "TestConformance"},
	{"btrfs", "volume", "TestConformance"},
	{"zfs", "volume", "TestConformance"},
	{"pve", "volume", "TestVolumeConformance"},
	{"lxc", "ids", "TestIDsConformance"},
	{"lxc", "container", "TestContainerConformance"},
	{"lxc", "running", "TestRunningConformance"},
	{"pve", "ids", "TestIDsConformance"},
	{"pve", "container, created", "TestContainerConformance/created"},
	{"pve", "container, cloned", "TestContainerConformance/cloned"},
	{"pve", "running", "TestRunningConformance"},
	{"pve", "snapshot", "TestSnapshotConformance"},
	{"pve", "template", "TestTemplateConformance"},
}

// result is how one test ended.
type result struct {
	how string // PASS, SKIP or FAIL
	why string // what it said first
}

var (
	began = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(\S+)`)
	said  = regexp.MustCompile(`^\s+[\w.]+\.go:\d+: (.*)`)
	ended = regexp.MustCompile(`^\s*--- (PASS|SKIP|FAIL): (\S+)`)
)

// parse reads what a test binary says with -test.v: results by the tests' names.
func parse(output string) map[string]result {
	out, why, current := map[string]result{}, map[string]string{}, ""
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		if m := began.FindStringSubmatch(line); m != nil {
			current = m[1]
		} else if m := ended.FindStringSubmatch(line); m != nil {
			out[m[2]] = result{how: m[1], why: why[m[2]]}
		} else if m := said.FindStringSubmatch(line); m != nil && why[current] == "" {
			why[current] = m[1]
		}
	}
	return out
}

// find is how a part of a row ended: by itself, or because a test around it was skipped.
func find(results map[string]result, test, part string) (result, bool) {
	name := test + "/" + strings.ReplaceAll(part, " ", "_")
	if r, ok := results[name]; ok {
		return r, true
	}
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return result{}, false
		}
		name = name[:i]
		if r := results[name]; r.how == "SKIP" {
			return r, true
		}
	}
}

// report is the table, with a note for each reason, and what is wrong with it.
func report(rows []row, results map[string]map[string]result) (table string, wrong []string) {
	var notes []string
	var out strings.Builder
	fmt.Fprintf(&out, "%-24s", "")
	for _, part := range conformance.Parts {
		fmt.Fprintf(&out, " %-12s", part)
	}
	out.WriteByte('\n')
	for _, row := range rows {
		name := row.pkg + " " + row.kind
		fmt.Fprintf(&out, "%-24s", name)
		for _, part := range conformance.Parts {
			r, ok := find(results[row.pkg], row.test, part)
			cell, problem := "pass", ""
			switch {
			case !ok:
				cell, problem = "NOT RUN", "was not run"
			case r.how == "FAIL":
				cell, problem = "FAIL", "failed"
			case r.how == "SKIP" && r.why == "":
				cell, problem = "skip", "was skipped without a reason"
			case r.how == "SKIP":
				if !slices.Contains(notes, r.why) {
					notes = append(notes, r.why)
				}
				cell = fmt.Sprintf("skip (%d)", slices.Index(notes, r.why)+1)
			}
			if problem != "" {
				wrong = append(wrong, name+": "+part+" "+problem)
			}
			fmt.Fprintf(&out, " %-12s", cell)
		}
		out.WriteByte('\n')
	}
	for i, note := range notes {
		fmt.Fprintf(&out, "(%d) %s\n", i+1, note)
	}
	return out.String(), wrong
}
