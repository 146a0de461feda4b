package provider

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// aptHost is a host of which only apt's configuration is known.
type aptHost struct {
	host.Host
	dump string
}

func (h aptHost) Run(_ context.Context, c host.Command) (host.Result, error) {
	if !slices.Equal(c.Argv, []string{"apt-config", "dump", "Acquire::http::Proxy"}) || c.Mutates {
		return host.Result{}, errors.New("unexpected command")
	}
	return host.Result{Stdout: []byte(h.dump)}, nil
}

// The proxy goes to mmdebstrap as apt-config prints it; one with a password does not go into an environment.
func TestAptProxy(t *testing.T) {
	const key = "Acquire::http::Proxy"
	for dump, want := range map[string][2]string{
		"":                                    {"", ""},
		key + " \"http://10.0.0.5:3142/\";\n": {"http://10.0.0.5:3142/", "http_proxy=http://10.0.0.5:3142/"},
		key + " \"\";\n" + key + "::deb.example \"http://a:1\";\n": {"", ""},
		"Acquire::http::proxy \"http://a:1\";\n":                   {"http://a:1", "http_proxy=http://a:1"},
		key + " \"DIRECT\";\n":                                     {"", ""},
		key + " \"http://me:secret@a:1\";\n":                       {"http://me:secret@a:1", ""},
	} {
		got := AptProxy(t.Context(), aptHost{dump: dump})
		env := append(proxyEnvironment(got), "")[0]
		if got != want[0] || env != want[1] {
			t.Errorf("%q: %q and %q, want %q", dump, got, env, want)
		}
	}
}
