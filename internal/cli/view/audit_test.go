package view

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
)

// found is an audit with one open finding, one accepted, one on the system, and something that was not seen.
func found() Audit {
	return Audit{
		Findings: []Finding{
			{Rule: "PHX-AUD-001", Severity: "high", File: "/etc/phoenix/lxc a.json", Line: 518,
				Path: "lxc_configs.101.mount_points[0].host_path", Object: "container/101",
				Summary: "container 101 would share <it>", Why: "keys", Fix: "give it a volume & more",
				Title: "one directory"},
			{Rule: "PHX-AUD-012", Severity: "medium", File: "lxc.json", Line: 9,
				Path: "lxc_configs.103.apparmor_profile", Object: "container/103", Summary: "unconfined",
				Why: "barrier",
				Fix: "remove it", Title: "no AppArmor", Accepted: &Acceptance{Reason: "known", Until: "2027-01-31"}},
			{Rule: "PHX-AUD-052", Severity: "critical", Object: "container/103", Summary: "a key can be read",
				Why: "all", Fix: "chmod", Title: "open key"},
		},
		NotSeen: []NotSeen{{"container/201", "it does not run"}},
		Rules:   40, Version: "v1",
	}
}

func TestAuditForPeople(t *testing.T) {
	out, errs := shown(Options{}, func(v View) { v.Audit(found()) })
	want(t, "stdout", out,
		`high      PHX-AUD-001  /etc/phoenix/lxc a.json:518: container/101: container 101 would share <it>
          why: keys
          fix: give it a volume & more
accepted  PHX-AUD-012  lxc.json:9: unconfined (until 2027-01-31: known)
critical  PHX-AUD-052  container/103: a key can be read
          why: all
          fix: chmod
not seen  container/201: it does not run
`)
	want(t, "stderr", errs, "2 findings: 1 critical, 1 high; 1 accepted\n")
	if out, errs := shown(Options{}, func(v View) { v.Audit(Audit{Rules: 3}) }); !strings.Contains(out,
		"clean: nothing found") || errs != "" {
		t.Errorf("a clean audit says %q %q", out, errs)
	}
}

func TestAuditForPrograms(t *testing.T) {
	out, _ := shown(Options{JSON: true}, func(v View) { v.Audit(found()) })
	var doc struct {
		Findings []map[string]any `json:"findings"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Findings) != 3 {
		t.Fatalf("%v in %s", err, out)
	}
	for _, key := range []string{"rule", "severity", "file", "line", "object", "summary", "fix", "why"} {
		if _, ok := doc.Findings[0][key]; !ok {
			t.Errorf("no %s in %v", key, doc.Findings[0])
		}
	}
	if out, _ := shown(Options{JSON: true}, func(v View) { v.Audit(Audit{}) }); !strings.Contains(out,
		`"findings": []`) {
		t.Errorf("an empty audit is %s", out)
	}
}

// member goes into a decoded JSON document; a missing one ends the test.
func member(t *testing.T, doc any, way ...any) any {
	t.Helper()
	for _, step := range way {
		ok := false
		switch key := step.(type) {
		case string:
			m, isMap := doc.(map[string]any)
			if doc, ok = m[key]; !isMap {
				ok = false
			}
		case int:
			if list, isList := doc.([]any); isList && key < len(list) {
				doc, ok = list[key], true
			}
		}
		if !ok {
			t.Fatalf("there is no %v of %v", step, way)
		}
	}
	return doc
}

// TestSARIF has the properties that SARIF 2.1.0 requires, by section, and those that code scanners need.
func TestSARIF(t *testing.T) {
	out, errs := shown(Options{Format: "sarif"}, func(v View) { v.Audit(found()) })
	var doc any
	if err := json.Unmarshal([]byte(out), &doc); err != nil || errs != "" {
		t.Fatal(err, errs)
	}
	for _, c := range []struct {
		want any
		way  []any
	}{
		{"2.1.0", []any{"version"}}, // 3.13.2
		{"https://json.schemastore.org/sarif-2.1.0.json", []any{"$schema"}},
		// 3.14.6, 3.19.8
		{"phoenix", []any{"runs", 0, "tool", "driver", "name"}},
		// 3.49.3
		{"PHX-AUD-001", []any{"runs", 0, "tool", "driver", "rules", 0, "id"}},
		// 3.27.11
		{"container 101 would share <it>. Fix: give it a volume & more",
			[]any{"runs", 0, "results", 0, "message", "text"}},
		// 3.27.10
		{"error", []any{"runs", 0, "results", 0, "level"}},
		{"error", []any{"runs", 0, "results", 2, "level"}},
		{"warning", []any{"runs", 0, "results", 1, "level"}},
		// 3.4.3
		{"file:///etc/phoenix/lxc%20a.json",
			[]any{"runs", 0, "results", 0, "locations", 0, "physicalLocation", "artifactLocation", "uri"}},
		// 3.30.5
		{518.0, []any{"runs", 0, "results", 0, "locations", 0, "physicalLocation", "region", "startLine"}},
		{"lxc.json", []any{"runs", 0, "results", 1, "locations", 0, "physicalLocation", "artifactLocation", "uri"}},
		{"container/103", []any{"runs", 0, "results", 2, "locations", 0, "logicalLocations", 0, "fullyQualifiedName"}},
		{"external", []any{"runs", 0, "results", 1, "suppressions", 0, "kind"}}, // 3.35.2
		{true, []any{"runs", 0, "invocations", 0, "executionSuccessful"}},       // 3.20.14
		{"not seen: container/201: it does not run",
			[]any{"runs", 0, "invocations", 0, "toolExecutionNotifications", 0, "message", "text"}},
	} {
		if got := member(t, doc, c.way...); got != c.want {
			t.Errorf("%v is %v, want %v", c.way, got, c.want)
		}
	}
	results := member(t, doc, "runs", 0, "results").([]any)
	for i := range results { // 3.27.6: the index leads to the rule of that id
		at := int(member(t, results[i], "ruleIndex").(float64))
		if member(t, results[i], "ruleId") != member(t, doc, "runs", 0, "tool", "driver", "rules", at, "id") {
			t.Errorf("result %d leads to another rule", i)
		}
	}
	if _, ok := results[2].(map[string]any)["locations"].([]any)[0].(map[string]any)["physicalLocation"]; ok {
		t.Error("what is in no file has a place in one")
	}
}

func TestEmptySARIF(t *testing.T) {
	out, _ := shown(Options{Format: "sarif"}, func(v View) { v.Audit(Audit{}) })
	var doc any
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	if results, ok := member(t, doc, "runs", 0, "results").([]any); !ok || len(results) != 0 {
		t.Errorf("results are %v", results)
	}
	if rules, ok := member(t, doc, "runs", 0, "tool", "driver", "rules").([]any); !ok || len(rules) != 0 {
		t.Errorf("rules are %v", rules)
	}
}

func TestJUnit(t *testing.T) {
	out, errs := shown(Options{Format: "junit"}, func(v View) { v.Audit(found()) })
	var doc junitSuites
	if err := xml.Unmarshal([]byte(out), &doc); err != nil || errs != "" || !strings.HasPrefix(out, "<?xml") {
		t.Fatalf("%v %s\n%s", err, errs, out)
	}
	s := doc.Suite
	if s.Tests != 4 || s.Failures != 2 || s.Skipped != 2 || len(s.Cases) != 4 || s.Errors != 0 {
		t.Errorf("got %+v", s)
	}
	if f := s.Cases[0].Failure; f == nil || f.Message != "container 101 would share <it>" ||
		!strings.Contains(f.Text, "fix: give it a volume & more") {
		t.Errorf("got %+v", s.Cases[0])
	}
	out, _ = shown(Options{Format: "junit"}, func(v View) { v.Audit(Audit{}) })
	if err := xml.Unmarshal([]byte(out), &doc); err != nil || doc.Suite.Failures != 0 {
		t.Errorf("an empty audit is %v %+v", err, doc)
	}
}

func TestMigrationForPeople(t *testing.T) {
	m := Migration{Valid: true, Changes: []Change{{"a.json", 3, "container/101", "gets a volume"}},
		Files: []MigratedFile{{File: "a.json", Diff: "--- a.json\n+++ a.json\n@@ -1 +1 @@\n-x\n+y\n"}}}
	out, errs := shown(Options{}, func(v View) { v.Migration(m) })
	want(t, "stdout", out, "--- a.json\n+++ a.json\n@@ -1 +1 @@\n-x\n+y\n")
	want(t, "stderr", errs, "a.json:3: container/101: gets a volume\nnothing was written; --write does it and keeps "+
		"the old files\n")
	out, _ = shown(Options{Color: true}, func(v View) { v.Migration(m) })
	if !strings.Contains(out, "\x1b[31m-x\x1b[0m\n\x1b[32m+y\x1b[0m\n") {
		t.Errorf("got %q", out)
	}
}
