package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// What inotify would not tell: each change of a polled file, also one that leaves size and times as they are, and
// of its part where only that counts; the coming and going of a file, and the mode of a directory.
func TestPolledFiles(t *testing.T) {
	dir := t.TempDir()
	text, list, directory := filepath.Join(dir, "x.fw"), filepath.Join(dir, ".vmlist"), filepath.Join(dir, "local")
	when := time.Now().Add(-time.Hour).Truncate(time.Second)
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write(text, "enable: 1")
	write(list, `{"version": 1, "ids": {"1": {"node": "a", "version": 1}, "2": {"node": "a"}}}`)
	if err := os.Mkdir(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := NewWake()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	wait := func(limit time.Duration) []object.Address {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		woken, err := w.Wait(ctx, limit)
		if err != nil {
			t.Fatal(err)
		}
		return woken
	}
	if _, err := w.Watch(map[object.Address]provider.Watch{
		"firewall/1":  {Polls: []provider.Poll{{Path: text}}},
		"container/1": {Polls: []provider.Poll{{Path: list, Part: "ids/1/node"}}},
		"container/2": {Polls: []provider.Poll{{Path: list, Part: "ids/2/node"}}},
		"running/1":   {Polls: []provider.Poll{{Path: directory}}},
	}); err != nil {
		t.Fatal(err)
	}
	const moved = `{"ids": {"1": {"node": "b"}, "2": {"node": "a"}}}`
	everybody := []object.Address{"container/1", "container/2", "firewall/1", "running/1"}
	if first := wait(10 * time.Second); !slices.Equal(first, everybody) {
		t.Errorf("what is polled first woke %v", first)
	}
	for _, x := range []struct {
		name   string
		change func()
		want   []object.Address
	}{
		{"same size, same time", func() { write(text, "enable: 0") }, []object.Address{"firewall/1"}},
		{"one's node", func() { write(list, moved) }, []object.Address{"container/1"}},
		{"what does not count", func() { write(list, `{"version": 7,`+moved[1:]) }, nil},
		{"mode", func() { _ = os.Chmod(directory, 0o555) }, []object.Address{"running/1"}},
		{"gone", func() { _ = os.Remove(text) }, []object.Address{"firewall/1"}},
		{"back", func() { write(text, "enable: 0") }, []object.Address{"firewall/1"}},
		{"no document", func() { write(list, "") }, []object.Address{"container/1", "container/2"}},
	} {
		x.change()
		limit := 10 * time.Second
		if x.want == nil {
			limit = 3 * pollEvery
		}
		if woken := wait(limit); !slices.Equal(woken, x.want) {
			t.Errorf("%s: woke %v, want %v", x.name, woken, x.want)
		}
	}
}
