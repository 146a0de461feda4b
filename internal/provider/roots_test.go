package provider_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

func TestExposed(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	leaf := func(issued time.Time) *x509.Certificate {
		return &x509.Certificate{NotBefore: issued.Add(-spec.LeafBackdate)}
	}
	issuer := func(made time.Time) []*x509.Certificate {
		return []*x509.Certificate{{NotBefore: made.Add(-spec.CABackdate)}}
	}
	before, after := now.Add(-time.Second), now
	for name, c := range map[string]struct {
		leaf    *x509.Certificate
		issuers []*x509.Certificate
		since   time.Time
		want    string
	}{
		"no time":              {leaf(before), issuer(before), time.Time{}, ""},
		"both younger":         {leaf(after), issuer(after), now, ""},
		"leaf older":           {leaf(before), issuer(after), now, "issued before 2026-01-02T03:04:05Z"},
		"intermediate older":   {leaf(after), issuer(before), now, "intermediate from before 2026-01-02T03:04:05Z"},
		"leaf alone, younger":  {leaf(after), nil, now, ""},
		"leaf alone and older": {leaf(before), nil, now, "issued before"},
	} {
		if got := provider.Exposed(c.leaf, c.issuers, c.since); (got == "") != (c.want == "") ||
			!strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
