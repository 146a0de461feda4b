package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// loaded is the house of testdata/good with a root directory of the test's own.
func loaded(t *testing.T, prepare func(root string)) *house {
	t.Helper()
	return loadedFrom(t, "testdata/good", prepare)
}

func loadedFrom(t *testing.T, config string, prepare func(root string)) *house {
	t.Helper()
	t.Setenv("PHOENIX_CACHE", t.TempDir())
	root := t.TempDir()
	if prepare != nil {
		prepare(root)
	}
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	a.opts = options{config: []string{config}, runtime: "lxc", root: root, output: "text"}
	if err := a.begin(); err != nil {
		t.Fatal(err)
	}
	h, err := a.load()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What is pinned on this machine is in the CA's spec, so that no other root is made silently where its volume is lost.
func TestThePinReachesTheCA(t *testing.T) {
	fingerprint := strings.Repeat("ab", 32)
	for want, prepare := range map[string]func(string){
		"": nil,
		fingerprint: func(root string) {
			pin, ok := specOf[spec.Pin](loaded(t, nil).objects, object.NewAddress(spec.KindPin, "103"))
			if !ok {
				t.Fatal("the house has no pin")
			}
			path := filepath.Join(root, "pins", filepath.Base(pin.Path))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(fingerprint+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		ca, ok := specOf[spec.StepCA](loaded(t, prepare).objects, object.NewAddress(spec.KindStepCA, "103"))
		if !ok || ca.Pinned != want {
			t.Errorf("pinned in the spec: %q (%v), want %q", ca.Pinned, ok, want)
		}
	}
}

func TestSelected(t *testing.T) {
	h := loaded(t, nil)
	if got := h.atBoot(); !slices.Equal(got, []string{"101", "103"}) {
		t.Errorf("started at boot: %v", got)
	}
	objects, containers := h.selected([]string{"101"})
	if !slices.Equal(containers, []string{"103", "101"}) && !slices.Equal(containers, []string{"101", "103"}) {
		t.Errorf("101 brings %v, want the CA that it needs, and no template", containers)
	}
	if _, ok := object.Find(objects, object.NewAddress(spec.KindTemplate, "900")); !ok {
		t.Error("the template is missing")
	}
	if _, containers = h.selected([]string{"900"}); !slices.Equal(containers, []string{"900"}) {
		t.Errorf("a template alone: %v", containers)
	}
	if err := h.known([]string{"103", "7"}); err == nil || !strings.Contains(err.Error(), "7") {
		t.Errorf("an unknown id: %v", err)
	}
}

// start touches the named containers and what their running needs on the hypervisor, and nothing else.
func TestOutside(t *testing.T) {
	s := &session{house: loaded(t, nil)}
	s.app = &app{host: &host.Local{}}
	for _, o := range s.outside([]string{"103"}) {
		if o.Host != "" {
			t.Errorf("%s is not on the hypervisor", o.Address)
		}
	}
	own := s.own([]string{"101"})
	if _, diags := plan.Order(own); diags.HasErrors() {
		t.Errorf("they do not stand for themselves: %v", diags)
	}
	for _, o := range own {
		if o.Container == "103" {
			t.Errorf("%s is touched", o.Address)
		}
	}
	if _, ok := object.Find(s.outside([]string{"103"}), object.NewAddress(spec.KindRunning, "103")); !ok {
		t.Error("the running itself is missing")
	}
}

func TestState(t *testing.T) {
	for status, want := range map[string]string{`{"state":"running"}`: "running", `{"state":"stopped"}`: "stopped",
		`null`: "", ``: ""} {
		if got := stateOf([]byte(status)); got != want {
			t.Errorf("%s: %q, want %q", status, got, want)
		}
	}
}

func TestCertificatesOfAStatus(t *testing.T) {
	for status, want := range map[string][]string{
		`{"common_name":"a","serial":"01","path":"/x"}`:            {"a"},
		`{"common_name":"a","path":"/x"}`:                          nil, // none there yet
		`{"certificates":[{"common_name":"b","serial":"02"}]}`:     {"b"},
		`{"certificates":[{"dns_names":["c","d"],"serial":"03"}]}`: {"c"},
		`{"certificates":[{"common_name":"b"}],"sth":[1,"two"]}`:   nil,
		// One certificate for two names is said for each of them, and is one.
		`{"certificates":[{"dns_names":["c","d"],"serial":"03"},{"dns_names":["c","d"],"serial":"03"},{"dns_names":["e"],"serial":"04"}]}`: {"c", "e"},
		`{"certificates":"three"}`: nil,
		``:                         nil,
	} {
		var got []string
		for _, c := range certificates([]byte(status)) {
			got = append(got, c.CommonName)
		}
		var full []string
		for _, c := range fullCertificates(object.Object{Spec: json.RawMessage(`{}`)}, []byte(status)) {
			full = append(full, c.CommonName)
		}
		if !slices.Equal(got, want) || !slices.Equal(full, want) {
			t.Errorf("%s: status %v, cert list %v, want %v", status, got, full, want)
		}
	}
}
