package provider

import (
	"errors"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// What a failed build said last is shown, and not its command.
func TestSaidOfABuild(t *testing.T) {
	run := &host.RunError{Argv: []string{"mmdebstrap", "--dpkgopt=path-exclude=/usr/share/man/*"},
		Output: "I: one\n\nI: two\nI: three\nE: no mirror\nE: apt-get update failed\n", Code: 25,
		Cause: errors.New("exit status 25")}
	err := said(run, "bookworm")
	text := err.Error()
	if strings.Contains(text, "dpkgopt") || strings.Contains(text, "one") ||
		!strings.HasSuffix(text, "E: no mirror\nE: apt-get update failed") {
		t.Errorf("%q", text)
	}
	if !errors.Is(err, run.Cause) || Hint(err) == "" {
		t.Errorf("cause or hint is lost: %q", Hint(err))
	}
	if plain := errors.New("no room"); !errors.Is(said(plain, "bookworm"), plain) {
		t.Error("another failure is another one")
	}
}
