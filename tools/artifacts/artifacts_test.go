package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// bed is a pins file with one small artifact, "hello", and a cache.
type bed struct {
	t           *testing.T
	pins, cache string
	artifact    Artifact
}

func newBed(t *testing.T) *bed {
	dir := t.TempDir()
	b := &bed{t: t, pins: filepath.Join(dir, "artifacts.json"), cache: filepath.Join(dir, "cache")}
	b.artifact = Artifact{Name: "hello", Module: "example.test/dep", Version: "v1.0.0", Sum: "h1:abc=",
		Package: "example.test/hello", Ldflags: "-s -w"}
	mod := filepath.Join(dir, "hello")
	if err := os.Mkdir(mod, 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("hello/go.mod", "module example.test/hello\n\ngo 1.25.0\n")
	b.write("hello/go.sum", "example.test/dep v1.0.0 h1:abc=\n")
	b.write("hello/main.go", "package main\n\nvar word = \"hello\"\n\nfunc main() { println(word) }\n")
	b.pin(nil)
	return b
}

func (b *bed) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(b.pins), name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) pin(sha map[string]string) {
	b.t.Helper()
	b.artifact.SHA256 = sha
	raw, err := json.Marshal(map[string]any{"artifacts": []Artifact{b.artifact}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("artifacts.json", string(raw))
}

// run calls the program as main does.
func (b *bed) run() (index map[string]Built, log string, code int) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(b.t.Context(), []string{"-pins", b.pins, "-cache", b.cache}, &stdout, &stderr)
	if code == 0 {
		if err := json.Unmarshal(stdout.Bytes(), &index); err != nil {
			b.t.Fatalf("output is not JSON: %v\n%s", err, stdout.String())
		}
	}
	return index, stderr.String(), code
}

func (b *bed) mustRun() (Built, string) {
	b.t.Helper()
	index, log, code := b.run()
	if code != 0 {
		b.t.Fatalf("exit %d\n%s", code, log)
	}
	return index["hello"], log
}

func here(t *testing.T) string {
	t.Helper()
	tc, err := toolchain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tc
}

func TestBuildsOnceAndRuns(t *testing.T) {
	b := newBed(t)
	built, log := b.mustRun()
	if !strings.Contains(log, "no sha256 is pinned for "+here(t)) {
		t.Errorf("an unpinned toolchain is not mentioned:\n%s", log)
	}
	if out, err := exec.Command(built.Path).CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("built program: %q, %v", out, err)
	}
	before, err := os.Stat(built.Path)
	if err != nil {
		t.Fatal(err)
	}
	again, log := b.mustRun()
	after, err := os.Stat(built.Path)
	if err != nil {
		t.Fatal(err)
	}
	if again != built || log != "" || !os.SameFile(before, after) {
		t.Errorf("the second run built again: %+v\n%s", again, log)
	}
	var onDisk map[string]Built
	raw, err := os.ReadFile(filepath.Join(b.cache, "artifacts", "index.json"))
	if err != nil || json.Unmarshal(raw, &onDisk) != nil || onDisk["hello"] != built {
		t.Errorf("index.json: %s, %v", raw, err)
	}
}

// A shell that reads the env lines gets the path, whatever is in it.
func TestEnvIsForAShell(t *testing.T) {
	var out bytes.Buffer
	const path = "/with space/it's $HOME/hello-world"
	if err := showEnv(&out, map[string]Built{"hello-world": {Path: path}}); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command("sh", "-c", out.String()+`printf %s "$PHOENIX_HELLO_WORLD"`).Output()
	if err != nil || string(got) != path {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPinMatchesInAnotherDirectory(t *testing.T) {
	first, _ := newBed(t).mustRun()
	b := newBed(t)
	b.pin(map[string]string{here(t): first.SHA256})
	built, _ := b.mustRun()
	if !built.Pinned || built.SHA256 != first.SHA256 {
		t.Errorf("the build is not reproducible or not checked: %+v, first %+v", built, first)
	}
}

func TestWrongPinPutsNothingInPlace(t *testing.T) {
	b := newBed(t)
	b.pin(map[string]string{here(t): strings.Repeat("0", 64)})
	_, log, code := b.run()
	if code != 1 || !strings.Contains(log, "nothing was put in place") {
		t.Errorf("exit %d\n%s", code, log)
	}
	left, err := filepath.Glob(filepath.Join(b.cache, "artifacts", "hello-*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestChangesAreBuiltAgain(t *testing.T) {
	changes := map[string]func(b *bed, built Built){
		"other ldflags": func(b *bed, _ Built) {
			b.artifact.Ldflags = "-X main.word=other"
			b.pin(nil)
		},
		"binary damaged": func(b *bed, built Built) {
			if err := os.WriteFile(built.Path, []byte("no program"), 0o755); err != nil {
				b.t.Fatal(err)
			}
		},
		"record lost": func(b *bed, built Built) {
			if err := os.Remove(filepath.Join(filepath.Dir(built.Path), "build.json")); err != nil {
				b.t.Fatal(err)
			}
		},
		"killed while building": func(b *bed, built Built) {
			dir := filepath.Dir(built.Path)
			if err := os.Rename(dir, dir+".tmp"); err != nil {
				b.t.Fatal(err)
			}
		},
		"killed while replacing": func(b *bed, built Built) {
			dir := filepath.Dir(built.Path)
			if err := os.Rename(dir, dir+".old"); err != nil {
				b.t.Fatal(err)
			}
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			built, _ := b.mustRun()
			change(b, built)
			again, log := b.mustRun()
			if !strings.Contains(log, "hello built in") {
				t.Fatalf("not built again:\n%s", log)
			}
			if sum, err := hashFile(again.Path); err != nil || sum != again.SHA256 {
				t.Errorf("hash %s, %v, index says %s", sum, err, again.SHA256)
			}
			entries, err := os.ReadDir(filepath.Join(b.cache, "artifacts"))
			if err != nil || len(entries) != 4 {
				t.Errorf("want the artifact, the index and their locks only: %v, %v", entries, err)
			}
		})
	}
}

func TestTwoAtOnceBuildOnce(t *testing.T) {
	b := newBed(t)
	logs := make([]bytes.Buffer, 4)
	var wg sync.WaitGroup
	for i := range logs {
		wg.Go(func() {
			var stdout bytes.Buffer
			if code := run(context.Background(), []string{"-pins", b.pins, "-cache", b.cache}, &stdout,
				&logs[i]); code != 0 {
				t.Errorf("run %d: exit %d\n%s", i, code, logs[i].String())
			}
		})
	}
	wg.Wait()
	builds := 0
	for i := range logs {
		builds += strings.Count(logs[i].String(), "hello built in")
	}
	if builds != 1 {
		t.Errorf("%d builds, want 1", builds)
	}
}

func TestRefused(t *testing.T) {
	cases := map[string]struct {
		change func(b *bed)
		want   string
	}{
		"go.sum differs": {func(b *bed) { b.write("hello/go.sum", "example.test/dep v1.0.0 h1:xyz=\n") },
			"the pin says h1:abc="},
		"not in go.sum": {func(b *bed) { b.write("hello/go.sum", "") }, "does not list example.test/dep v1.0.0"},
		"does not compile": {func(b *bed) { b.write("hello/main.go", "package main\n") },
			"function main is undeclared"},
		"misspelt key": {func(b *bed) { b.write("artifacts.json", `{"artifacts":[{"sha265":{}}]}`) },
			`unknown field "sha265"`},
		"path as name": {func(b *bed) {
			b.artifact.Name = "../hello"
			b.pin(nil)
		}, "not a plain file name"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			c.change(b)
			_, log, code := b.run()
			if code != 1 || !strings.Contains(log, c.want) {
				t.Errorf("exit %d, want 1 and %q in:\n%s", code, c.want, log)
			}
		})
	}
}

// The real pins must agree with the real modules: same version, same hash, and
// the main package is the module's tool.
func TestPinsAgreeWithModules(t *testing.T) {
	pins, err := readPins("../artifacts.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 2 {
		t.Errorf("%d artifacts are pinned, want step-ca and traefik", len(pins))
	}
	for _, a := range pins {
		if err := a.checkSum(filepath.Join("..", a.Name)); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		mod, err := os.ReadFile(filepath.Join("..", a.Name, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"tool " + a.Package + "\n",
			fmt.Sprintf("%s %s // indirect\n", a.Module, a.Version)} {
			if !strings.Contains(string(mod), want) {
				t.Errorf("tools/%s/go.mod has no line %q", a.Name, strings.TrimSpace(want))
			}
		}
	}
}
