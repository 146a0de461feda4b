package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

var update = flag.Bool("update", false, "write the diagnostics into testdata; read the difference before you commit it")

// TestLoad compares all that Load has to say about each testdata/load/*.txtar with its section "want": text, file,
// line, order.
func TestLoad(t *testing.T) {
	cases, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { testLoad(t, name) })
	}
}

func testLoad(t *testing.T, name string) {
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	files, want := filesOf(a)
	cfg, diags := config.Load(files)
	if (cfg == nil) != diags.HasErrors() {
		t.Errorf("config is %v, errors are %v", cfg, diags.HasErrors())
	}
	got := text(diags)
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("got:\n%s\nwant:\n%s", got, want)
	}
	a.Files = a.Files[:len(files)]
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func filesOf(a *txtar.Archive) (files []config.File, want string) {
	for _, f := range a.Files {
		if f.Name == "want" {
			return files, string(f.Data)
		}
		files = append(files, config.File{Name: f.Name, Data: f.Data})
	}
	return files, ""
}

func text(l diag.List) string {
	var b strings.Builder
	for _, d := range l {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

// TestSecretsAreNeverShown covers the values that the test data and the users' file hold.
func TestSecretsAreNeverShown(t *testing.T) {
	for _, name := range []string{"isolation", "names"} {
		a, err := txtar.ParseFile("testdata/load/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		files, _ := filesOf(a)
		_, diags := config.Load(files)
		if got := text(diags); got == "" || strings.Contains(got, "sesame") || strings.Contains(got, "hunter2") {
			t.Errorf("%s: a secret is shown, or nothing is:\n%s", name, got)
		}
	}
}

// TestLoadIsDeterministic loads the same files again and again, in both orders.
func TestLoadIsDeterministic(t *testing.T) {
	for _, name := range []string{"good", "sharing", "names", "keys_and_types"} {
		a, err := txtar.ParseFile("testdata/load/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		files, _ := filesOf(a)
		cfg, diags := config.Load(files)
		for i := range 20 {
			files[0], files[1] = files[1], files[0]
			again, diagsAgain := config.Load(files)
			if !reflect.DeepEqual(cfg, again) || !reflect.DeepEqual(diags, diagsAgain) {
				t.Fatalf("%s: load %d differs:\n%s\nfrom\n%s", name, i, text(diagsAgain), text(diags))
			}
		}
	}
}

func TestGoodConfig(t *testing.T) {
	a, err := txtar.ParseFile("testdata/load/good.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filesOf(a)
	cfg, diags := config.Load(files)
	if cfg == nil {
		t.Fatal(diags)
	}
	ca, _ := cfg.Container("103")
	if ca == nil || !ca.IsCA() || ca.MAC != "52:54:00:00:00:03" || ca.Network.Name != "eth0" ||
		len(ca.Network.Nameservers) != 2 {
		t.Errorf("container 103 is %+v", ca)
	}
	if v := ca.Volumes[0]; v.UID == nil || *v.UID != 0 || v.Mode == nil || *v.Mode != 0o700 || v.Source.Line != 11 ||
		v.Source.File != "lxc.json" {
		t.Errorf("volume is %+v", v)
	}
	hello, _ := cfg.Container("201")
	if len(hello.Options) != 1 || hello.Options[0].Key != "lxc.prlimit.nofile" || hello.Options[0].Value != "1024" ||
		hello.OwnScript() != "apps/hello.sh" {
		t.Errorf("container 201 is %+v", hello)
	}
	if got := time.Duration(cfg.Hypervisor.StepCA.RootLifetime); got != 10*365*24*time.Hour {
		t.Errorf("root lifetime is %v", got)
	}
}
