package cli

import (
	"bytes"
	"strings"
	"testing"
)

// Completion knows ids, applications and certificates from the files alone, and is silent where they cannot be used.
func TestCompletion(t *testing.T) {
	complete := func(config string, args ...string) (out, said string) {
		var stdout, stderr bytes.Buffer
		args = append([]string{"__complete", "--config", config}, args...)
		Main(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
		return stdout.String(), stderr.String()
	}
	for want, args := range map[string][]string{
		"201\thello\n":                     {"status", "20"},
		"hello\t201\n":                     {"remove", "app", ""},
		"hello-backend.homelab.internal\n": {"cert", "renew", "hello"},
		"www.homelab.internal\n":           {"cert", "show", "w"},
	} {
		if out, _ := complete("../../examples/homelab", args...); !strings.HasPrefix(out, want) &&
			!strings.Contains(out, "\n"+want) {
			t.Errorf("%s: %q is not in %q", args, want, out)
		}
		if out, said := complete(t.TempDir(), args...); !strings.HasPrefix(out, ":") || strings.Contains(said, "error") {
			t.Errorf("%s without files: %q, %q", args, out, said)
		}
	}
}
