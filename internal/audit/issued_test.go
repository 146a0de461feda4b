package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/issued"
)

// Each certificate that is not in order is a finding of its own, with all that is known of it; what is in order is
// none.
func TestIssued(t *testing.T) {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var r issued.Report
	for i, state := range []issued.State{issued.Accounted, issued.Unwanted, issued.Listed, issued.Foreign,
		issued.Former, issued.Pending, issued.Unwanted, issued.Unclear} {
		r.Certificates = append(r.Certificates,
			issued.Verdict{State: state, Container: "101", From: "10.0.0.9", Certificate: issued.Certificate{
				Serial: strings.Repeat("a", i+1), Names: []string{"n.x"}, NotBefore: noon,
				NotAfter: noon.Add(time.Hour),
				Account:  "thumb",
			}})
	}
	s := Issued("container/103", r)
	want := []string{"PHX-AUD-075 aa", "PHX-AUD-076 aaaa", "PHX-AUD-075 aaaaaaa"}
	found := Findings(s)
	if len(found) != len(want) || len(s.Unseen) != 1 || !strings.Contains(s.Unseen[0].Reason, "AAAAAAAA") {
		t.Fatalf("%d findings, not seen %v", len(found), s.Unseen)
	}
	for i, f := range found {
		rule, serial, _ := strings.Cut(want[i], " ")
		for _, part := range []string{"serial " + issued.Serial(serial) + " for n.x",
			"2026-05-01T12:00:00Z to 2026-05-01T13:00:00Z", "thumb", "10.0.0.9"} {
			if !strings.Contains(f.Summary, part) {
				t.Errorf("no %q in %s", part, f.Summary)
			}
		}
		if f.Rule.ID != rule || f.Object != "container/103" || f.Fix == "" {
			t.Errorf("got %+v", f)
		}
	}
}
