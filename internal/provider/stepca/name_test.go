package stepca_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// nameIn is the common name of the certificate in a directory of the CA's secrets.
func nameIn(t *testing.T, s spec.StepCA, directory string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.Dir, "secrets", directory, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("no PEM in %s", directory)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c.Subject.CommonName
}

// No two roots of a site have one name: in a phone's list of authorities the name is all there is to tell the old one
// by.
func TestRootsHaveNamesOfTheirOwn(t *testing.T) {
	needRoot(t)
	year := time.Now().UTC().Year()
	name := func(n int) string { return fmt.Sprintf("Test Root %d R%d", year, n) }
	s, h := caSpec(t), &host.Local{}
	first := converge(t, h, s)
	if got := nameIn(t, s, "root"); got != name(1) {
		t.Errorf("the first root is %q", got)
	}
	s.Pinned, s.MakeNext = first.RootFingerprint, true
	converge(t, h, s)
	if got := nameIn(t, s, "next-root"); got != name(2) {
		t.Errorf("the next root is %q", got)
	}
	// The root is lost: the one that takes its place is not called as the next one, which somebody may have been given.
	if err := os.Remove(filepath.Join(s.Dir, "secrets", "root", "key")); err != nil {
		t.Fatal(err)
	}
	s.MakeNext, s.NewRoot = false, true
	converge(t, h, s)
	if got := nameIn(t, s, "root"); got != name(3) {
		t.Errorf("the third root is %q", got)
	}
	// All of the volume is lost: there was a root, which is pinned.
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	converge(t, h, s)
	if got := nameIn(t, s, "root"); got != name(2) {
		t.Errorf("the root of an empty volume is %q", got)
	}
}

// A name that is as long as it may be makes room for year and number.
func TestLongRootName(t *testing.T) {
	needRoot(t)
	s := caSpec(t)
	s.RootName = strings.Repeat("ä", 32)
	converge(t, &host.Local{}, s)
	got, suffix := nameIn(t, s, "root"), fmt.Sprintf(" %d R1", time.Now().UTC().Year())
	if want := strings.Repeat("ä", (64-len(suffix))/2) + suffix; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
