package unit

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// watched is a system that remembers what was run and written.
type watched struct {
	system
	ran []string
}

func (w *watched) Run(ctx context.Context, c host.Command) (host.Result, error) {
	w.ran = append(w.ran, strings.Join(c.Argv, " "))
	return w.system.Run(ctx, c)
}

func (w *watched) MkdirAll(string, fs.FileMode, host.Owner) error { return nil }

func (w *watched) WriteFile(path string, data []byte, _ fs.FileMode, _ host.Owner) error {
	w.files[path] = string(data)
	return nil
}

// Clients are connected to a gateway: a new drop-in is written, and the process that runs is left alone.
func TestALastingUnitIsNotInterrupted(t *testing.T) {
	s := spec.Unit{Name: "nginx.service", DropIn: "[Service]\nProtectHome=yes\n", Lasting: true}
	h := &watched{system: system{files: map[string]string{directory + "/multi-user.target.wants/nginx.service": ""},
		shown: "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=42\nNeedDaemonReload=no\nResult=success\n" +
			"DropInPaths=" + dropInPath(s) + "\n"}}
	have, err := Driver{}.Observe(t.Context(), h, object.Address("unit/101/nginx.service"), s)
	if err != nil {
		t.Fatal(err)
	}
	d := Driver{}.Diff(s, have)
	if !d.Has(fieldDropIn) || d.Has(fieldState) || d.Has(fieldInputs) {
		t.Fatalf("want the drop-in alone: %+v", d)
	}
	if err := (Driver{}).Apply(t.Context(), h, object.Address("unit/101/nginx.service"), s, d); err != nil {
		t.Fatal(err)
	}
	if h.files[dropInPath(s)] != s.DropIn {
		t.Errorf("the drop-in is %q", h.files[dropInPath(s)])
	}
	for _, argv := range h.ran {
		if strings.Contains(argv, "stop") || strings.Contains(argv, "restart") {
			t.Errorf("the process that runs was interrupted: %s", argv)
		}
	}
}
