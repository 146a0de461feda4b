package view

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// shown is what a view wrote.
func shown(o Options, use func(View)) (out, errs string) {
	var stdout, stderr bytes.Buffer
	o.Out, o.Err = &stdout, &stderr
	use(New(o))
	return stdout.String(), stderr.String()
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func object1(address, container string) object.Object {
	return object.Object{Address: object.Address(address), Container: container}
}

func changed(address, container string, d plan.Delta) engine.Event {
	return engine.Event{Stage: engine.Changed, Object: object1(address, container), Delta: d,
		Elapsed: 400 * time.Millisecond}
}

// failed is a run in which one of two containers could not be made true.
func failed() Applied {
	return Applied{
		Containers: []string{"101", "103"}, Elapsed: 12345 * time.Millisecond,
		Result: engine.Result{
			Plan: plan.New([]plan.Change{{Address: "volume/103/ssl",
				Delta: plan.Delta{Action: plan.Create, Reason: "absent"}}}),
			Mutations: 3,
			Failures: []engine.Failure{
				{Address: "unit/103/step-ca.service", Source: object.Source{File: "lxc.json", Line: 7},
					Message: "unit/103/step-ca.service: it did not start\nbecause", Hint: "look"},
				{Address: "trust/101", Message: "blocked by unit/103/step-ca.service: it did not start",
					BlockedBy: "unit/103/step-ca.service"},
				{Address: "agent/101", Message: "blocked by unit/103/step-ca.service: it did not start",
					BlockedBy: "unit/103/step-ca.service"},
			},
		},
	}
}

// What is wrong comes last, where it is seen, and behind it the way out.
func TestErrorsComeLast(t *testing.T) {
	var b bytes.Buffer
	New(Options{Out: &b, Err: &b}).Validation(Validation{Hint: "a way", Next: []string{"phoenix migrate"},
		Diagnostics: diag.List{
			{File: "f", Line: 1, Summary: "wrong"}, {Severity: diag.Note, File: "f", Line: 2, Summary: "by the way"},
		}})
	want(t, "refused", b.String(), "f:2: note: by the way\nf:1: error: wrong\nthe configuration cannot be used: 1 "+
		"error; nothing was touched\n  hint: a way\nnext: phoenix migrate\n")
}

// A plan that could not look everywhere does not say that there is nothing to do.
func TestPlanThatDoesNotKnow(t *testing.T) {
	out, errs := shown(Options{}, func(v View) { v.Plan(engine.Result{Failures: failed().Result.Failures}) })
	if strings.Contains(out, "nothing to do") ||
		!strings.HasSuffix(errs, "not everything could be looked at: what is to do is not known\n") {
		t.Errorf("%s\n%s", out, errs)
	}
	if out, _ := shown(Options{}, func(v View) { v.Plan(engine.Result{}) }); out != "nothing to do\n" {
		t.Errorf("nothing: %q", out)
	}
}

func TestAppliedForPeople(t *testing.T) {
	out, errs := shown(Options{}, func(v View) {
		v.Event(engine.Event{Stage: engine.Changing, Object: object1("volume/103/ssl", "103")})
		v.Event(changed("volume/103/ssl", "103", plan.Delta{Action: plan.Create, Reason: "absent"}))
		v.Event(changed("file/103/x", "103",
			plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: "mode"}, {Path: "owner"}}}))
		v.Applied(failed())
	})
	want(t, "stdout", out, "changed volume/103/ssl (create: absent) 0.4s\nchanged file/103/x (update: mode, "+
		"owner) 0.4s\n")
	want(t, "stderr", errs, `error: unit/103/step-ca.service (lxc.json:7): it did not start
  because
  hint: look
blocked by unit/103/step-ca.service: it did not start
  so not done: trust/101, agent/101
0 of 2 containers up to date, 1 change, 12.3 s
`)
}

func TestAppliedSummaries(t *testing.T) {
	one := plan.New([]plan.Change{{Address: "a/1", Delta: plan.Delta{Action: plan.Update}}})
	cases := map[string]struct {
		applied   Applied
		out, errs string
	}{
		"not healthy": {
			Applied{Containers: []string{"103"}, Result: engine.Result{Plan: one}, Elapsed: time.Second,
				Health: &health.Report{Checks: []health.Result{
					{ID: "PHX-A-001", Object: "running/103", Status: health.Pass},
					{ID: "PHX-A-002", Object: "running/103", Status: health.Fail}}}},
			"container 103\n  pass  PHX-A-001  running/103\n  fail  PHX-A-002  running/103\n",
			"not healthy: 2 checks, 1 passed, 1 failed, 0 skipped\nnot healthy: 1 of 2 checks failed, 0 skipped; 1 " +
				"container up to date, 1 change, 1.0 s\n",
		},
		"nothing": {Applied{Containers: []string{"103"}, Elapsed: 80 * time.Millisecond},
			"nothing to do (0 changes, 0.08 s)\n", ""},
		"done": {Applied{Containers: []string{"103"}, Result: engine.Result{Plan: one}, Elapsed: time.Second},
			"1 container up to date, 1 change, 1.0 s\n", ""},
		"a bridge failed": {
			Applied{Containers: []string{"103"},
				Result: engine.Result{Failures: []engine.Failure{{Address: "network/vmbr0", Message: "no"}}}},
			"", "error: network/vmbr0: no\n1 failure, 0 changes, 0.0 s\n",
		},
		"interrupted": {
			Applied{Containers: []string{"103"}, Stopped: errors.New("interrupt signal received"),
				Result: engine.Result{Plan: one, Failures: []engine.Failure{
					{Address: "a/1", Err: context.Canceled, Message: "context canceled"},
					{Address: "b/1", BlockedBy: "a/1", Message: "blocked by a/1"},
					{Address: "c/1", Err: errors.New("real"), Message: "real"},
				}}},
			"", "error: c/1: real\nnot done: a/1, b/1\nerror: stopped: interrupt signal received (0 changes, 0.0 " +
				"s)\n  hint: run it again: it goes on from where it stands\n",
		},
		"addresses": {
			Applied{
				Containers: []string{"103"}, Result: engine.Result{Plan: one},
				Addresses: []Address{{URL: "https://x.y", Try: "curl x"}},
				Root:      &Root{Fingerprint: "ab12", Get: "phoenix ca show"},
			},
			"\naddresses to try:\n  https://x.y\n      curl x\nroot certificate, sha256 ab12:\n      phoenix ca " +
				"show\n\n1 container up to date, 1 change, 0.0 s\n", "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, errs := shown(Options{}, func(v View) { v.Applied(c.applied) })
			want(t, "stdout", out, c.out)
			want(t, "stderr", errs, c.errs)
		})
	}
}

func TestQuietSaysOnlyWhatIsWrong(t *testing.T) {
	out, errs := shown(Options{Quiet: true}, func(v View) {
		v.Event(changed("volume/103/ssl", "103", plan.Delta{Action: plan.Create}))
		v.Applied(Applied{Containers: []string{"103"}})
		v.Health(health.Report{Healthy: true,
			Checks: []health.Result{{ID: "PHX-A-001", Object: "running/103", Status: health.Pass}}})
		v.Plan(engine.Result{Plan: plan.New([]plan.Change{{Address: "a/1", Delta: plan.Delta{Action: plan.Create}}})})
	})
	want(t, "stdout", out, "")
	want(t, "stderr", errs, "")
}

func TestHealthForPeople(t *testing.T) {
	report := health.Report{Checks: []health.Result{
		{ID: "PHX-CT-001", Object: "running/103", Status: health.Pass, Summary: "runs"},
		{ID: "PHX-CERT-003", Object: "certificate/101/a", Status: health.Fail, Summary: "wrong", Evidence: "seen",
			Fix: "phoenix apply 101"},
		{ID: "PHX-NET-001", Object: "network/vmbr0", Status: health.Pass, Summary: "up"},
		{ID: "PHX-CT-002", Object: "agent/103", Status: health.Skip, Summary: "blocked by running/103 (PHX-CT-001)"},
	}}
	out, errs := shown(Options{}, func(v View) { v.Health(report) })
	want(t, "stdout", out, `hypervisor
  pass  PHX-NET-001  network/vmbr0  up
container 103
  pass  PHX-CT-001  running/103  runs
  skip  PHX-CT-002  agent/103    blocked by running/103 (PHX-CT-001)
container 101
  fail  PHX-CERT-003  certificate/101/a  wrong
        evidence: seen
        fix: phoenix apply 101
`)
	want(t, "stderr", errs, "not healthy: 4 checks, 2 passed, 1 failed, 1 skipped\n")
	out, _ = shown(Options{Quiet: true}, func(v View) { v.Health(report) })
	want(t, "quiet", out, "container 101\n  fail  PHX-CERT-003  certificate/101/a  wrong\n        evidence: seen\n   "+
		"     fix: phoenix apply 101\n")
}

// On a terminal each container has one line, drawn over; what was done stays.
func TestLive(t *testing.T) {
	out, _ := shown(Options{Live: true, Width: 40}, func(v View) {
		v.Event(engine.Event{Stage: engine.Changing, Object: object1("volume/103/ssl", "103"),
			Delta: plan.Delta{Action: plan.Create, Reason: strings.Repeat("long ", 20)}})
		v.Event(changed("volume/103/ssl", "103", plan.Delta{Action: plan.Create}))
		// the same picture is not drawn again
		v.Event(engine.Event{Stage: engine.True, Object: object1("file/103/x", "103")})
		v.Event(engine.Event{Stage: engine.Failed, Object: object1("network/vmbr0", ""), Err: errors.New("no")})
		v.Error(errors.New("broken"), "")
	})
	want(t, "terminal", out, "\x1b[2K103     0 changes  volume/103/ssl (cre…\n"+
		"\x1b[1A\x1b[2K103      1 change  true so far\n"+
		"\x1b[1A\x1b[2Khost    0 changes  failed at network/v…\n"+
		"\x1b[2K103      1 change  true so far\n")

	out, _ = shown(Options{Live: true, Width: 80}, func(v View) {
		v.Event(engine.Event{Stage: engine.True, Object: object1("file/103/x", "103")})
		v.Applied(Applied{Containers: []string{"103"}})
	})
	want(t, "a run without changes leaves no lines", out, "\x1b[2K103     0 changes  true so "+
		"far\n\x1b[1A\x1b[Jnothing to do (0 changes, 0.00 s)\n")
}

func TestColourIsAskedFor(t *testing.T) {
	for _, color := range []bool{false, true} {
		_, errs := shown(Options{Color: color}, func(v View) { v.Error(errors.New("x"), "") })
		if strings.Contains(errs, "\x1b[") != color {
			t.Errorf("colour %v: %q", color, errs)
		}
	}
}

// The shapes of the JSON documents are a contract: keys are compared, in full.
func TestJSONShapes(t *testing.T) {
	keys := func(use func(View)) map[string]any {
		t.Helper()
		out, _ := shown(Options{JSON: true}, use)
		var doc map[string]any
		dec := json.NewDecoder(strings.NewReader(out))
		if err := dec.Decode(&doc); err != nil || dec.More() {
			t.Fatalf("not one JSON document: %v\n%s", err, out)
		}
		return doc
	}
	a := failed()
	a.Health = &health.Report{}
	cases := map[string]struct {
		use  func(View)
		want string
	}{
		"plan": {func(v View) { v.Plan(engine.Result{Plan: plan.New(nil)}) },
			`{"changes":[],"summary":{"create":0,"delete":0,"replace":0,"update":0}}`},
		"applied": {func(v View) { v.Applied(a) },
			`{"changes":[{"address":"volume/103/ssl","action":"create","reason":"absent"}],"summary":{"create":1,"delete":0,"replace":0,"update":0},
			"mutations":3,"elapsed_ms":12345,"health":{"healthy":false,"checks":null},"failures":[
			{"address":"unit/103/step-ca.service","source":{"file":"lxc.json","line":7},"message":"unit/103/step-ca.service: it did not start\nbecause","hint":"look"},
			{"address":"trust/101","message":"blocked by unit/103/step-ca.service: it did not start","blocked_by":"unit/103/step-ca.service"},
			{"address":"agent/101","message":"blocked by unit/103/step-ca.service: it did not start","blocked_by":"unit/103/step-ca.service"}]}`},
		"status": {func(v View) {
			v.Status(Status{Containers: []Container{{ID: 103, Name: "ca", State: "running", IP: "10.0.0.1"}}})
		},
			`{"containers":[{"id":103,"name":"ca","state":"running","ip":"10.0.0.1","volumes":[],"certificates":[]}]}`},
		"certificate": {func(v View) {
			v.Status(Status{Containers: []Container{{Volumes: []Volume{{}}, Certificates: []Certificate{{}}}}})
		}, `{"containers":[{"id":0,"name":"","state":"","ip":"","volumes":[{"mount_point":"","source":"","owner":"","mode":""}],"certificates":[
			{"common_name":"","dns_names":null,"serial":"","issuer":"","not_before":"0001-01-01T00:00:00Z","not_after":"0001-01-01T00:00:00Z","path":""}]}]}`},
		"validation": {func(v View) {
			v.Validation(Validation{Diagnostics: diag.List{{File: "f", Line: 3, Path: "a.b", Summary: "s", Hint: "h"}}})
		}, `{"valid":false,"containers":0,"objects":0,"diagnostics":[{"severity":"error","file":"f","line":3,"path":"a.b","summary":"s","hint":"h"}]}`},
		"removed": {func(v View) { v.Removed(Removed{Mutations: 2, Elapsed: time.Second}) },
			`{"objects":[],"mutations":2,"elapsed_ms":1000}`},
		"removed, with a note": {func(v View) { v.Removed(Removed{Notes: []string{"n"}, Elapsed: time.Second}) },
			`{"objects":[],"notes":["n"],"mutations":0,"elapsed_ms":1000}`},
		"error": {func(v View) { v.Error(errors.New("x"), "y") },
			`{"error":{"message":"x","hint":"y"}}`},
		"version": {func(v View) { v.Version(Version{Version: "v1", Go: "go1", Platform: "l/a"}) },
			`{"version":"v1","go":"go1","platform":"l/a"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var doc map[string]any
			if err := json.Unmarshal([]byte(c.want), &doc); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(doc, keys(c.use)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
