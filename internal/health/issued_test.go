package health

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func verdict(state issued.State, name string) issued.Verdict {
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	return issued.Verdict{Certificate: issued.Certificate{Serial: "1f2e", Names: []string{name}, NotBefore: noon,
		NotAfter: noon.Add(24 * time.Hour), Account: "thumb"},
		State: state, Container: "101", From: "10.0.0.201"}
}

// The checks about what the CA issued name each certificate with all that is known of it.
func TestIssued(t *testing.T) {
	all := []string{"1F2E", "2026-05-01T12:00:00Z to 2026-05-02T12:00:00Z", "thumb", "10.0.0.201"}
	for name, c := range map[string]struct {
		kind   string
		states []issued.State
		err    error
		want   Status
		says   []string
	}{
		"nothing": {kindUnwanted, nil, nil, Pass, nil},
		"all in order": {kindUnwanted,
			[]issued.State{issued.Accounted, issued.Listed, issued.Former, issued.Pending}, nil, Pass,
			[]string{"4 valid certificates", "1 for names of allowed_names", "has no more: serial 1F2E"}},
		"unwanted": {kindUnwanted, []issued.State{issued.Accounted, issued.Unwanted}, nil, Fail,
			append(all, "unwanted.x")},
		"only foreign": {kindUnwanted, []issued.State{issued.Foreign}, nil, Pass, nil},
		"not known":    {kindUnwanted, nil, errors.New("no route"), Fail, []string{"no route"}},
		"none foreign": {kindForeign, []issued.State{issued.Accounted, issued.Unwanted}, nil, Pass,
			[]string{"1 accounted for"}},
		"foreign": {kindForeign, []issued.State{issued.Foreign, issued.Unclear}, nil, Fail,
			append(all, "foreign.x")},
		"not said": {kindForeign, []issued.State{issued.Unclear}, nil, Skip,
			[]string{"container 101 did not say", "unclear.x"}},
		"not known, foreign": {kindForeign, nil, errors.New("no route"), Fail, []string{"no route"}},
		"many": {kindForeign, []issued.State{issued.Foreign, issued.Foreign, issued.Foreign, issued.Foreign,
			issued.Foreign}, nil, Fail,
			[]string{"5 valid certificates"}},
	} {
		t.Run(name, func(t *testing.T) {
			var report issued.Report
			for _, s := range c.states {
				report.Certificates = append(report.Certificates, verdict(s, string(s)+".x"))
			}
			m := &model{running: map[string]spec.Running{}}
			check := m.add(c.kind, testObject("stepca/103", spec.StepCA{}), "103", issuedParams{}).Check
			if !AboutIssued(check) {
				t.Fatal("not one of them")
			}
			r := Issued(check, report, c.err)
			if r.Status != c.want || (r.Fix != "") != (r.Status == Fail) {
				t.Errorf("got %+v", r)
			}
			for _, part := range c.says {
				if !strings.Contains(r.Summary+" | "+r.Evidence, part) {
					t.Errorf("no %q in %s | %s", part, r.Summary, r.Evidence)
				}
			}
		})
	}
}
