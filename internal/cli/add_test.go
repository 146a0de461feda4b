package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An application is added to a site, comes up, is removed and deleted; each second run changes nothing, and a file
// keeps its mode.
func TestAddAndRemoveAppOfASite(t *testing.T) {
	h := newBenchHouse(t, 1)
	dir := filepath.Join(t.TempDir(), "etc")
	h.app.opts.config = []string{dir}
	step := func(want int, args ...string) string {
		t.Helper()
		code, out, said := h.run(t, args...)
		if code != want {
			t.Fatalf("%s: exit %d\n%s%s", args, code, out, said)
		}
		return out + said
	}
	step(exitDone, "init", "--dir", dir, "--bridge", "phxadds2", "--subnet", "10.87.98.0/24", "--yes")
	containers := filepath.Join(dir, fileNames[0])
	if err := h.app.host.Chmod(containers, 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := h.app.host.ReadFile(containers)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Container string
		Changed   bool
		Unplanned string
		Files     []struct{ Diff string }
		Plan      struct{ Changes []struct{ Address string } }
	}
	text := step(exitDone, "add", "app", "wiki", "--port", "8080", "-o", "json")
	if err := json.Unmarshal([]byte(text), &doc); err != nil || !doc.Changed || doc.Container != "201" ||
		doc.Unplanned != "" || len(doc.Files) != 2 || len(doc.Plan.Changes) == 0 {
		t.Fatalf("%v: %s", err, text)
	}
	if meta, err := h.app.host.Lstat(containers); err != nil || meta.Mode.Perm() != 0o640 || meta.UID != os.Geteuid() {
		t.Errorf("%+v, %v", meta, err)
	}
	if text := step(exitDone, "add", "app", "wiki", "--port", "8080"); !strings.Contains(text, "nothing was changed") {
		t.Error(text)
	}
	step(exitConfig, "add", "app", "wiki", "--port", "8081")
	step(exitUsage, "add", "app", "other", "--port", "0", "--scheme", "ftp")
	step(exitUsage, "add", "app", "../x", "--port", "80")
	step(exitDone, "validate")
	step(exitUnhealthy, "up") // nobody answers in there
	text = step(exitDone, "remove", "app", "wiki")
	if !strings.Contains(text, "delete 201") || !strings.Contains(text, "stay as they are") {
		t.Error(text)
	}
	if after, err := h.app.host.ReadFile(containers); err != nil || string(after) != string(before) {
		t.Errorf("%v: not as before:\n%s", err, after)
	}
	if text := step(exitDone, "remove", "app", "wiki"); !strings.Contains(text, "nothing was changed") {
		t.Error(text)
	}
	// the id of what is left is given to no other
	if text := step(exitDone, "add", "app", "blog", "--port", "80"); !strings.Contains(text, "container 202") {
		t.Error(text)
	}
	step(exitDone, "remove", "app", "blog")
	// what is left to do is done with the file that has the container, as it is printed
	h.app.opts.config = []string{containers + ".orig"}
	hypervisor := filepath.Join(dir, fileNames[1])
	if text := step(exitDone, "--config", hypervisor, "delete", "201", "--yes"); !strings.Contains(text, "deleted container/201") {
		t.Error(text)
	}
}
