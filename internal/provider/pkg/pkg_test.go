package pkg

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const sample = `Package: nginx-light
Status: install ok installed
Version: 1.22.1-9
Description: small
 Package: not-this
 Status: install ok half-installed

Package: half
Status: install ok half-configured

Package: held
Status: hold ok installed

Package: gone
Status: deinstall ok config-files

Package: both
Status: install ok unpacked
Architecture: i386

Package: both
Status: install ok installed
Architecture: amd64
`

func TestStates(t *testing.T) {
	want := map[string]string{
		"nginx-light": installed, "half": "half-configured", "held": installed, "gone": "config-files",
		"both": installed, "not-this": absent, "nginx": absent,
	}
	var names []string
	for n := range want {
		names = append(names, n)
	}
	for n, state := range states([]byte(sample), names) {
		if state != want[n] {
			t.Errorf("%s: %s, want %s", n, state, want[n])
		}
	}
}

// The database is read as dpkg itself reads it.
func TestSameAsDpkgQuery(t *testing.T) {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n").Output()
	if err != nil {
		t.Skipf("no dpkg here: %v", err)
	}
	want := map[string]string{}
	s := spec.Package{}
	for line := range strings.Lines(string(out)) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		if want[name] != installed {
			want[name] = state
		}
		s.Names = append(s.Names, name)
	}
	if len(want) < 50 {
		t.Fatalf("dpkg-query knows %d packages only", len(want))
	}
	have, err := Driver{}.Observe(context.Background(), &host.Local{}, "package/101/x", s)
	if err != nil {
		t.Fatal(err)
	}
	for n, state := range want {
		if have.States[n] != state {
			t.Errorf("%s: %s, dpkg-query says %s", n, have.States[n], state)
		}
	}
}

func TestDiffNamesWhatIsMissing(t *testing.T) {
	s := spec.Package{Names: []string{"curl", "nginx", "jq"}}
	d := Driver{}.Diff(s, &Status{States: map[string]string{"curl": installed, "nginx": absent, "jq": "unpacked"}})
	if got := missing(s, d); len(got) != 2 || got[0] != "nginx" || got[1] != "jq" {
		t.Errorf("missing %v of %+v", got, d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, raw := range []string{`{}`, `{"names":["--reinstall"]}`, `{"names":["a b"]}`, `{"names":["nginx=1"]}`} {
		if _, diags := (Driver{}).Decode(json.RawMessage(raw)); !diags.HasErrors() {
			t.Errorf("taken: %s", raw)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	s := spec.Package{Names: []string{"nginx-light", "curl", "no-such-package"}}
	for b.Loop() {
		if _, err := (Driver{}).Observe(context.Background(), &host.Local{}, "package/101/x", s); err != nil {
			b.Skip(err)
		}
	}
}
