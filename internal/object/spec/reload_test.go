package spec

import (
	"slices"
	"testing"
)

func TestReloadUnits(t *testing.T) {
	for _, c := range []struct {
		reload, want []string
	}{
		{nil, nil},
		{[]string{"systemctl", "try-reload-or-restart", "web"}, []string{"web.service"}},
		{[]string{"/usr/bin/systemctl", "--no-block", "restart", "b.service", "a.socket", "b"},
			[]string{"a.socket", "b.service"}},
		{[]string{"systemctl", "is-active", "web"}, nil},
		{[]string{"systemctl"}, nil},
		{[]string{"nginx", "-s", "reload"}, nil},
		{[]string{"/bin/sh", "-c", "cp a b && systemctl reload web; /bin/systemctl restart db@1.service || true"},
			[]string{"db@1.service", "web.service"}},
		{[]string{"/bin/sh", "-c", "systemctl restart $UNIT 'web*'"}, nil},
	} {
		if got := (Certificate{Reload: c.reload}).ReloadUnits(); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.reload, got, c.want)
		}
	}
}
