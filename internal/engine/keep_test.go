package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// texts is a driver of small files that knows what they rest on.
type texts struct {
	mu    sync.Mutex
	fail  error
	tries int
}

type text struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

func (*texts) Decode(raw json.RawMessage) (text, diag.List) { return provider.Decode[text](raw) }

func (*texts) Observe(_ context.Context, h host.Host, _ object.Address, s text) (*text, error) {
	b, err := h.ReadFile(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &text{Text: string(b)}, err
}

func (*texts) Diff(want text, have *text) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create}
	}
	var d plan.Delta
	d.Compare("text", have.Text, want.Text)
	return d
}

func (m *texts) Apply(_ context.Context, h host.Host, _ object.Address, s text, _ plan.Delta) error {
	m.mu.Lock()
	m.tries++
	err := m.fail
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return h.WriteFile(s.Path, []byte(s.Text), 0o600, host.Owner{UID: -1, GID: -1})
}

func (*texts) Watch(s text, _ *text) provider.Watch { return provider.Watch{Paths: []string{s.Path}} }

// keep runs a Keeper of one file; rounds come over the channel.
func keep(t *testing.T, m *texts, path string) <-chan Round {
	t.Helper()
	raw, err := json.Marshal(text{Path: path, Text: "right"})
	must(t, err)
	rounds := make(chan Round, 1000)
	k := &Keeper{
		Engine: &Engine{Local: NewLocal(Drivers{"texts/file": provider.New(m)}, &host.Local{}, nil, nil, nil)},
		Objects: func(bool) ([]object.Object, error) {
			return []object.Object{{Address: "file/1/x", Provider: "texts", Spec: raw}}, nil
		},
		Full: time.Hour, Report: func(r Round) { rounds <- r },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return rounds
}

func await(t *testing.T, rounds <-chan Round, good func(Round) bool) Round {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case r := <-rounds:
			if good(r) {
				return r
			}
		case <-limit:
			t.Fatal("the round never came")
		}
	}
}

// The interval is an hour: only the event can be what wakes it.
func TestKeeperRepairsWhatChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	rounds := keep(t, &texts{}, path)
	changed := func(r Round) bool { return len(r.Result.Plan.Changes) == 1 && r.Result.Err() == nil }
	await(t, rounds, changed)
	for range 3 {
		// its own write, seen and found right
		await(t, rounds, func(r Round) bool { return len(r.Result.Plan.Changes) == 0 })
		must(t, os.WriteFile(path, []byte("wrong"), 0o600))
		r := await(t, rounds, changed)
		if len(r.Woken) != 1 || r.Woken[0] != "file/1/x" {
			t.Errorf("woken by %v", r.Woken)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "right" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// What an object in a container rests on is that container's: this host has other files and processes by those names.
func TestKeeperWatchesThisHostOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	raw, err := json.Marshal(text{Path: path, Text: "right"})
	must(t, err)
	local := NewLocal(Drivers{"texts/file": provider.New(&texts{})}, &host.Local{}, nil, nil, nil)
	rounds := make(chan Round, 1000)
	k := &Keeper{
		Engine: &Engine{Local: local, Connect: func(context.Context, string) (Target, error) { return local, nil }},
		Objects: func(bool) ([]object.Object, error) {
			return []object.Object{{Address: "file/1/x", Provider: "texts", Host: "1", Spec: raw}}, nil
		},
		Full: time.Hour, Report: func(r Round) { rounds <- r },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	await(t, rounds, func(r Round) bool { return len(r.Result.Plan.Changes) == 1 })
	must(t, os.WriteFile(path, []byte("wrong"), 0o600))
	select {
	case r := <-rounds:
		t.Errorf("woken by %v", r.Woken)
	case <-time.After(300 * time.Millisecond):
	}
	cancel()
	group.Wait()
}

// A failure is tried again later and later, and not at all in between, whatever else wakes the Keeper.
func TestKeeperBacksOff(t *testing.T) {
	m := &texts{fail: errors.New("no room")}
	path := filepath.Join(t.TempDir(), "x")
	rounds := keep(t, m, path)
	for range 3 {
		await(t, rounds, func(r Round) bool {
			var held *HeldError
			return len(r.Result.Failures) == 1 && !errors.As(r.Result.Failures[0].Err, &held)
		})
	}
	m.mu.Lock()
	if m.tries != 3 {
		t.Errorf("tried %d times in 3 rounds that were due", m.tries)
	}
	m.fail = nil
	m.mu.Unlock()
	await(t, rounds, func(r Round) bool { return r.Result.Err() == nil })
	if b, err := os.ReadFile(path); err != nil || string(b) != "right" {
		t.Errorf("%q, %v", b, err)
	}
}

// What only a person can mend is left alone for a minute, and looked at at once when what it rests on changes.
func TestKeeperLooksAgainAtWhatWasMended(t *testing.T) {
	m := &texts{fail: provider.Permanent(errors.New("only a person can"))}
	path := filepath.Join(t.TempDir(), "x")
	rounds := keep(t, m, path)
	await(t, rounds, func(r Round) bool { return len(r.Result.Failures) == 1 })
	m.mu.Lock()
	m.fail = nil
	m.mu.Unlock()
	begun := time.Now()
	must(t, os.WriteFile(path, []byte("mended"), 0o600))
	await(t, rounds, func(r Round) bool { return r.Result.Err() == nil })
	if took := time.Since(begun); took > heldPermanent/4 {
		t.Errorf("looked at again after %s", took)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "events.jsonl")
	j := &Journal{Path: path, By: "watch"}
	o := object.Object{Address: "file/1/x"}
	failed := Event{Stage: Failed, Object: o, Err: errors.New("no room")}
	for _, ev := range []Event{
		{Stage: True, Object: o}, failed, failed,
		{Stage: Failed, Object: o, Err: &HeldError{Err: errors.New("no room")}},
		{Stage: Changed, Object: o,
			Delta: plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: "text", Have: "a", Want: "b"}}}}, failed,
	} {
		must(t, j.Note(ev))
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"time":"2026-`) // a power cut
	must(t, errors.Join(err, f.Close()))
	got, err := ReadJournal(path)
	must(t, err)
	if len(got) != 3 || got[0].Error != "no room" || got[1].Action != plan.Update || got[1].Fields[0] != "text" ||
		got[2].Error != "no room" {
		t.Errorf("got %+v", got)
	}
}
