package unit

import (
	"context"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// system is a host with these files and this answer of systemctl show.
type system struct {
	host.Host
	files map[string]string
	shown string
}

func (s system) Run(context.Context, host.Command) (host.Result, error) {
	return host.Result{Stdout: []byte(s.shown)}, nil
}

func (s system) ReadFile(path string) ([]byte, error) {
	if text, ok := s.files[path]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (s system) ReadDir(string) ([]string, error) { return []string{"multi-user.target.wants"}, nil }

func (s system) Lstat(path string) (host.Meta, error) {
	_, err := s.ReadFile(path)
	return host.Meta{}, err
}

func (s system) Readlink(path string) (string, error) {
	return "", &fs.PathError{Op: "readlink", Path: path, Err: fs.ErrNotExist}
}

const link = directory + "/multi-user.target.wants/step-ca.service"

var stepCA = spec.Unit{Name: "step-ca.service",
	Content: "[Service]\nExecStart=/bin/step-ca\n[Install]\nWantedBy=multi-user.target\n", Inputs: "a", Also: "b"}

func trueSystem() system {
	return system{
		files: map[string]string{
			filePath(stepCA): stepCA.Content, dropInPath(stepCA): dropIn(stepCA), link: "",
			"/proc/42/environ": "PATH=/bin\x00PHOENIX_INPUTS=" + mark(stepCA) + "\x00HOME=/",
		},
		shown: "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=42\nNeedDaemonReload=no\nResult=success\n" +
			"FragmentPath=" + filePath(stepCA) + "\nDropInPaths=/x.conf " + dropInPath(stepCA) +
			"\nEnvironment=A=1 PHOENIX_INPUTS=" + mark(stepCA) + "\n",
	}
}

func delta(t *testing.T, s system, want spec.Unit) plan.Delta {
	t.Helper()
	have, err := Driver{}.Observe(context.Background(), s, "unit/103/x", want)
	if err != nil {
		t.Fatal(err)
	}
	return Driver{}.Diff(want, have)
}

func TestDiffNamesWhatDiffers(t *testing.T) {
	if d := delta(t, trueSystem(), stepCA); !d.Empty() {
		t.Fatalf("a true unit: %+v", d)
	}
	swap := func(old, new string) func(*system) {
		return func(s *system) { s.shown = strings.Replace(s.shown, old, new, 1) }
	}
	file := func(path, text string) func(*system) { return func(s *system) { s.files[path] = text } }
	for name, c := range map[string]struct {
		change func(*system)
		fields string
	}{
		"other inputs run":  {file("/proc/42/environ", "PHOENIX_INPUTS=old\x00"), fieldInputs},
		"process just died": {func(s *system) { delete(s.files, "/proc/42/environ") }, fieldInputs},
		"crash loop": {swap("ActiveState=active\nSubState=running",
			"ActiveState=activating\nSubState=auto-restart"), fieldState},
		"older file":     {swap("NeedDaemonReload=no", "NeedDaemonReload=yes"), fieldLoaded},
		"drop-in unseen": {swap(" "+dropInPath(stepCA), ""), fieldLoaded},
		"packaged file":  {swap(filePath(stepCA), "/lib/systemd/system/step-ca.service"), fieldLoaded},
		"until reboot":   {swap("=enabled", "=enabled-runtime"), fieldEnabled},
		"link gone":      {func(s *system) { delete(s.files, link) }, fieldEnabled},
		"masked":         {swap("LoadState=loaded", "LoadState=masked"), fieldMasked},
		"file edited":    {file(filePath(stepCA), "x"), fieldFile},
		"drop-in edited": {file(dropInPath(stepCA), "x"), fieldDropIn},
	} {
		s := trueSystem()
		c.change(&s)
		if d := delta(t, s, stepCA); len(d.Fields) != 1 || d.Fields[0].Path != c.fields {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestDiffAtBoot(t *testing.T) {
	for shown, want := range map[string]string{
		"ActiveState=inactive\nSubState=dead": "", "ActiveState=failed\nSubState=failed": "",
		"ActiveState=activating\nSubState=auto-restart": fieldState, "ActiveState=active\nSubState=running": "",
	} {
		s, unit := trueSystem(), stepCA
		unit.AtBoot = true
		s.shown = strings.Replace(s.shown, "ActiveState=active\nSubState=running", shown, 1)
		d := delta(t, s, unit)
		if got := len(d.Fields) == 1 && d.Fields[0].Path == want; want == "" && !d.Empty() || want != "" && !got {
			t.Errorf("%q: %+v", shown, d)
		}
	}
}

func TestMarkCoversAllInputs(t *testing.T) {
	seen := map[string]bool{mark(stepCA): true}
	for _, change := range []func(*spec.Unit){
		func(s *spec.Unit) { s.Content += "#" }, func(s *spec.Unit) { s.DropIn = "#" },
		func(s *spec.Unit) {
			s.Inputs = "b"
		}, func(s *spec.Unit) { s.Also = "a" }, func(s *spec.Unit) { s.Inputs, s.Also = "ab", "" },
	} {
		s := stepCA
		if change(&s); seen[mark(s)] {
			t.Errorf("same mark for %+v", s)
		}
		seen[mark(s)] = true
	}
	if plain := (spec.Unit{Name: "nginx.service"}); mark(plain) != "" || dropIn(plain) != "" {
		t.Errorf("a packaged unit gets a drop-in: %q", dropIn(plain))
	}
	if timer := (spec.Unit{Name: "x.timer", DropIn: "[Timer]"}); dropIn(timer) != "[Timer]\n" {
		t.Errorf("timer: %q", dropIn(timer))
	}
}

// Lines of units may hold what others must not read.
func TestNoContentInDelta(t *testing.T) {
	s := trueSystem()
	s.files[filePath(stepCA)], s.files[dropInPath(stepCA)] = "Environment=TOKEN=hunter2", "Environment=TOKEN=hunter2"
	text, err := json.Marshal(delta(t, s, stepCA))
	if err != nil || strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "step-ca\n") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestNotThere(t *testing.T) {
	s := system{shown: "LoadState=not-found\nActiveState=inactive\nMainPID=0\n"}
	if d := delta(t, s, stepCA); d.Action != plan.Create {
		t.Errorf("%+v", d)
	}
	if d := delta(t, s, spec.Unit{Name: "nginx.service", Stopped: true}); !d.Empty() {
		t.Errorf("a unit that is not there is stopped: %+v", d)
	}
	if _, err := (Driver{}).Observe(context.Background(), system{}, "unit/103/x", stepCA); err == nil {
		t.Error("an empty answer was taken")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, raw := range []string{
		`{"name":"step-ca"}`, `{"name":"../x.service"}`, `{"name":"x@.service"}`, `{"name":"x.timer","inputs":"a"}`,
		`{"name":"x.service","ready":"9000"}`,
	} {
		if _, diags := (Driver{}).Decode(json.RawMessage(raw)); !diags.HasErrors() {
			t.Errorf("taken: %s", raw)
		}
	}
	if _, diags := (Driver{}).Decode(json.RawMessage(`{"name":"getty@tty1.service"}`)); diags.HasErrors() {
		t.Error(diags)
	}
}
