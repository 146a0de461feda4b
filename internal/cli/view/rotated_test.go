package view

import (
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

func rotated() Rotated {
	var r Rotated
	for _, address := range []string{"stepca/103", "trust/101"} {
		change := plan.Change{Delta: plan.Delta{Action: plan.Update, Reason: "because"}}
		change.Address = object1(address, "").Address
		r.Add(Applied{Elapsed: 2 * time.Second,
			Result: engine.Result{Plan: plan.New([]plan.Change{change}), Mutations: 3}})
	}
	r.Root, r.Old = "bb", "aa"
	return r
}

// All parts of a rotation are told together, and what the root is now.
func TestRotated(t *testing.T) {
	out, _ := shown(Options{}, func(v View) { v.Rotated(rotated()) })
	want(t, "text", out, "2 changes, 2.0 s\nthe root is now sha256 bb; no container trusts sha256 aa any more\n"+
		"left to do: phones, browsers and other machines that were given the old root still trust it: remove it from "+
		"each of them, and give it the new one (phoenix ca show)\n"+
		"left to do: older backups of the CA hold the key of the old root: destroy them, once a new one was made "+
		"(phoenix ca backup FILE --password-file FILE)\n")
	known := rotated()
	known.RootName, known.OldName = "Site Root CA 2027 R2", "Site Root CA 2026 R1"
	out, _ = shown(Options{}, func(v View) { v.Rotated(known) })
	if line := `the root is now "Site Root CA 2027 R2" (sha256 bb); no container trusts "Site Root CA 2026 R1" (sha256 aa) any more`; !strings.Contains(out, line) {
		t.Errorf("%q has not %q", out, line)
	}
	same := rotated()
	same.Old, same.Down = "", []string{"201"}
	out, errs := shown(Options{}, func(v View) { v.Rotated(same) })
	if !strings.Contains(out, "the same, sha256 bb") || !strings.Contains(errs, "when they are started: 201") {
		t.Errorf("%q, %q", out, errs)
	}
	out, _ = shown(Options{JSON: true}, func(v View) { v.Step("one"); v.Rotated(rotated()) })
	for _, part := range []string{`"address": "stepca/103"`, `"address": "trust/101"`, `"update": 2`, `"mutations": 6`,
		`"root": "bb"`, `"old_root": "aa"`, `"left_to_do": [`, `"failures": []`} {
		if !strings.Contains(out, part) {
			t.Errorf("no %s in %s", part, out)
		}
	}
}

// The plan says where a new root stands, and that nothing was done.
func TestRotation(t *testing.T) {
	x := Rotation{Root: "aa", Steps: []string{"make", "trust"}, At: 1, Result: engine.Result{Plan: plan.New(nil)}}
	out, errs := shown(Options{}, func(v View) { v.Rotation(x) })
	want(t, "text", out, "   1. make\n-> 2. trust\nnothing to do\n")
	want(t, "error output", errs, "nothing was changed: --yes does it\n")
	out, _ = shown(Options{JSON: true}, func(v View) { v.Rotation(x) })
	if !strings.Contains(out, `"step": 2`) || !strings.Contains(out, `"changes": []`) {
		t.Error(out)
	}
}

func TestCertificates(t *testing.T) {
	list := []FullCertificate{{Certificate: Certificate{CommonName: "www.x", Serial: "1f", Path: "/c",
		NotAfter: time.Date(2026, 1, 2, 3, 4, 0, 0, time.Local)}, Container: "101"},
		{Certificate: Certificate{CommonName: "app.x", Serial: "2f", Path: "/d"}, Container: "102", Problem: "expired"},
		{Certificate: Certificate{CommonName: "db.x", Serial: "3f", Path: "/e"}, Container: "201", Problem: "stale",
			ReloadPending: "db.service does not exist yet"}}
	out, _ := shown(Options{}, func(v View) { v.Certificates(list) })
	want(t, "text", out, "101  www.x  valid until 2026-01-02 03:04                          /c\n102  app.x  expired  "+
		"                                             /d\n201  db.x   stale; reload pending: db.service does not "+
		"exist yet  /e\n")
	out, _ = shown(Options{}, func(v View) { v.CertificateDetails(list[1:]) })
	if !strings.Contains(out, "serial   2F\n") || !strings.Contains(out, "problem  expired\n") ||
		strings.Contains(out, "renewed at") {
		t.Error(out)
	}
	out, _ = shown(Options{JSON: true}, func(v View) { v.Certificates(list) })
	if !strings.Contains(out, `"dns_names": []`) || !strings.Contains(out, `"container": "102"`) {
		t.Error(out)
	}
}

func TestSealed(t *testing.T) {
	out, _ := shown(Options{}, func(v View) { v.Sealed(Sealed{File: "/f", Root: "aa"}) })
	want(t, "backup", out, "/f: the keys of the root sha256 aa, encrypted\nkeep the password or the identity as "+
		"well, and not beside it\n")
	out, _ = shown(Options{JSON: true},
		func(v View) { v.Sealed(Sealed{File: "/f", Root: "aa", Restored: true, Changes: 2, Next: "up"}) })
	want(t, "restore", out, "{\n  \"file\": \"/f\",\n  \"root\": \"aa\",\n  \"restored\": true,\n  \"changes\": 2\n}\n")
}
