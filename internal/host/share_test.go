package host

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// noted is a command that notes each of its runs in a file.
func noted(t *testing.T, script string) (c Command, runs func() int) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	c = Command{Argv: []string{"sh", "-c", `echo run >>"$1"; ` + script, "sh", log}, Shared: true}
	return c, func() int {
		raw, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(raw), "run")
	}
}

func TestSharedRunsOnceForAll(t *testing.T) {
	l := &Local{}
	c, runs := noted(t, "sleep 0.2; echo said")
	var wait sync.WaitGroup
	for i := range 30 {
		wait.Go(func() {
			if i > 20 { // these come while the first run is under way
				time.Sleep(100 * time.Millisecond)
			}
			res, err := l.Run(context.Background(), c)
			if err != nil || string(res.Stdout) != "said\n" {
				t.Errorf("%q, %v", res.Stdout, err)
			}
		})
	}
	wait.Wait()
	if n := runs(); n > 3 {
		t.Errorf("30 that asked at once took %d runs", n)
	}
}

func TestSharedSeesWhatWasChangedBefore(t *testing.T) {
	l := &Local{}
	file := filepath.Join(t.TempDir(), "state")
	c := Command{Argv: []string{"sh", "-c", `cat "$1"; sleep 0.2`, "sh", file}, Shared: true}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = l.Run(context.Background(), c) }) // what it says is of no interest
	time.Sleep(100 * time.Millisecond)
	write("new")
	if res, err := l.Run(context.Background(), c); err != nil || string(res.Stdout) != "new" {
		t.Errorf("whoever asks after a change was told %q, %v", res.Stdout, err)
	}
	wait.Wait()
}

func TestSharedOutlivesTheFirst(t *testing.T) {
	l := &Local{}
	c, _ := noted(t, "sleep 0.2; echo said")
	first, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := l.Run(first, c); err == nil {
			t.Error("the first was stopped and says nothing")
		}
	})
	time.Sleep(time.Millisecond)
	wait.Go(func() {
		if res, err := l.Run(context.Background(), c); err != nil || string(res.Stdout) != "said\n" {
			t.Errorf("the second: %q, %v", res.Stdout, err)
		}
	})
	time.Sleep(50 * time.Millisecond)
	cancel()
	wait.Wait()
}
