package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// However much happens to one container's objects, what happened to another's can be read, and the file stays small.
func TestJournalIsShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	j := &Journal{Path: path, By: "watch"}
	changed := func(scope string, n int) {
		t.Helper()
		must(t, j.Note(Event{Stage: Changed,
			Object: object.Object{Address: object.NewAddress("file", scope, fmt.Sprint(n))},
			Delta:  plan.Delta{Action: plan.Update}}))
	}
	for n := range 20 {
		changed("101", n)
		changed("vmbr0", n)
	}
	long := strings.Repeat("é", 10<<10)
	for n := range 3000 {
		must(t, j.Note(Event{Stage: Failed, Object: object.Object{Address: "file/201/x"},
			Err: fmt.Errorf("%d %s", n, long)}))
	}
	count := map[string]int{}
	list, err := ReadJournal(path)
	must(t, err)
	for i, e := range list {
		count[e.Object.Scope()]++
		if i > 0 && e.Time.Before(list[i-1].Time) {
			t.Error("they are out of order")
		}
	}
	if count["101"] != 20 || count["vmbr0"] != 20 || count["201"] < 50 {
		t.Errorf("what is left: %v", count)
	}
	if last := list[len(list)-1]; !strings.HasPrefix(last.Error, "2999 ") {
		t.Errorf("the last one is %.20s", last.Error)
	}
	fi, err := os.Stat(path)
	must(t, err)
	if fi.Size() > journalLimit+2*mostOfText {
		t.Errorf("%d bytes", fi.Size())
	}
}

// The old file of an earlier phoenix is taken in.
func TestJournalTakesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	must(t, os.WriteFile(path+".1", []byte(`{"object":"file/101/old"}`+"\n"), 0o600))
	must(t, os.WriteFile(path,
		[]byte(strings.Repeat(`{"object":"file/201/x","error":"`+strings.Repeat("x", 1000)+`"}`+"\n", 1100)), 0o600))
	must(t, (&Journal{Path: path}).Note(Event{Stage: Changed, Object: object.Object{Address: "file/102/new"}}))
	list, err := ReadJournal(path)
	must(t, err)
	if _, err := os.Stat(path + ".1"); !errors.Is(err, os.ErrNotExist) || list[0].Object != "file/101/old" ||
		list[len(list)-1].Object != "file/102/new" {
		t.Errorf("%v; first %s, last %s", err, list[0].Object, list[len(list)-1].Object)
	}
}

func TestNewestIsFair(t *testing.T) {
	var list []Entry
	for n := range 100 {
		for _, scope := range []string{"1", "2", "2", "3", "3", "3", "3"} {
			list = append(list, Entry{Object: object.NewAddress("file", scope, fmt.Sprintf("%03d", n))})
		}
	}
	size := 0
	for _, e := range newest(list, 1<<30) {
		size += len(fmt.Sprint(e.Object))
	}
	if got := len(newest(list, 1<<30)); got != len(list) || size == 0 {
		t.Errorf("with room for all, %d of %d", got, len(list))
	}
	count := map[string]int{}
	for _, e := range newest(list, 30000) {
		count[e.Object.Scope()]++
	}
	if count["1"] != 100 || count["2"] < 100 || count["2"] != count["3"] && count["2"] != 200 {
		t.Errorf("%v", count)
	}
}

const noInotify = "PHOENIX_TEST_NO_INOTIFY"

// Without an inotify instance Wake goes on by the timer and says so, and comes back once there is one. The limit is
// that of a user namespace made for it.
func TestWakeWithoutInotify(t *testing.T) {
	if os.Getenv(noInotify) != "" {
		withoutInotify(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("a user namespace needs root here and there")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWakeWithoutInotify$", "-test.v")
	cmd.Env = append(os.Environ(), noInotify+"=1")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func withoutInotify(t *testing.T) {
	const limit = "/proc/sys/user/max_inotify_instances"
	must(t, os.WriteFile(limit, []byte("0\n"), 0o644))
	wake, err := NewWake()
	if err != nil {
		t.Fatalf("it does not even begin: %v", err)
	}
	defer wake.Close()
	path := filepath.Join(t.TempDir(), "x")
	watches := map[object.Address]provider.Watch{"file/1/x": {Paths: []string{path}, Processes: []int{os.Getpid()}}}
	var blind *NoInotifyError
	var log bytes.Buffer
	var said Blindness
	for range 2 {
		_, err := wake.Watch(watches)
		if !errors.As(err, &blind) || !strings.Contains(err.Error(), "by the timer") {
			t.Fatalf("it does not say so: %v", err)
		}
		said.Tell(slog.New(slog.NewTextHandler(&log, nil)), err)
	}
	begun := time.Now()
	must(t, os.WriteFile(path, nil, 0o600))
	woken, err := wake.Wait(context.Background(), 200*time.Millisecond)
	if took := time.Since(begun); err != nil || len(woken) > 0 || took < 150*time.Millisecond {
		t.Errorf("it waits for the timer: %v, %v, after %s", woken, err, took)
	}
	must(t, os.WriteFile(limit, []byte("10\n"), 0o644))
	added, err := wake.Watch(watches)
	if err != nil || !added {
		t.Errorf("there is an instance again: %v, %v", added, err)
	}
	must(t, os.WriteFile(path, []byte("changed"), 0o600))
	if woken, err := wake.Wait(context.Background(), 10*time.Second); err != nil || len(woken) != 1 {
		t.Errorf("a change is not seen: %v, %v", woken, err)
	}
	for range 2 {
		said.Tell(slog.New(slog.NewTextHandler(&log, nil)), nil)
	}
	if got := log.String(); strings.Count(got, "not everything is watched") != 1 ||
		strings.Count(got, "watched again") != 1 {
		t.Errorf("said:\n%s", got)
	}
}
