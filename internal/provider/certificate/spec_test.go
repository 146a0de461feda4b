package certificate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func TestDecode(t *testing.T) {
	for want, change := range map[string]func(*spec.Certificate){
		"":                        func(*spec.Certificate) {},
		"is not among dns_names":  func(s *spec.Certificate) { s.CommonName = "b.internal" },
		"no wildcard":             func(s *spec.Certificate) { s.DNSNames = append(s.DNSNames, "*.internal") },
		"key_type \"dsa\"":        func(s *spec.Certificate) { s.KeyType = "dsa" },
		"challenge \"dns-01\"":    func(s *spec.Certificate) { s.Challenge = "dns-01" },
		"lets others at the key":  func(s *spec.Certificate) { s.Mode = 0o644 },
		"is not the SHA-256":      func(s *spec.Certificate) { s.Fingerprint = "zz" },
		"is not an https address": func(s *spec.Certificate) { s.ACME.Directory = "http://ca" },
		"key_path \"k\" is not":   func(s *spec.Certificate) { s.KeyPath = "k" },
		"are the same":            func(s *spec.Certificate) { s.KeyPath = s.CertPath },
		"cannot be negative":      func(s *spec.Certificate) { s.RenewBefore = -1 },
	} {
		s := spec.Certificate{
			CommonName: "a.internal", DNSNames: []string{"a.internal"},
			ACME:       spec.ACME{Directory: "https://ca", RootFile: "/r"},
			AccountDir: "/a", CertPath: "/c", KeyPath: "/k",
		}
		change(&s)
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got, diags := Driver{}.Decode(raw)
		if text := fmt.Sprint(diags); diags.HasErrors() != (want != "") || !strings.Contains(text, want) {
			t.Errorf("want %q: %s", want, text)
		}
		if want == "" && (got.Mode != 0o600 || got.KeyType != "ec-p256" || got.Challenge != spec.HTTP01) {
			t.Errorf("left out: %+v", got)
		}
	}
}
