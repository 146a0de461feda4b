package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// journalLimit is how large a Journal's file gets. Then half of it is kept, which the containers share: one whose
// objects have many events pushes out its own, and nobody else's.
const (
	journalLimit = 1 << 20 // bytes
	mostOfText   = 2 << 10 // bytes of an error or a reason, whose first lines say the most
	mostFields   = 64
)

// Entry is one line of a Journal: what was done to an object, or why it could not be.
type Entry struct {
	Time    time.Time      `json:"time"`
	By      string         `json:"by"` // watch, or agent/ID
	Object  object.Address `json:"object"`
	Action  plan.Action    `json:"action,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Fields  []string       `json:"fields,omitempty"` // which differed; never their values
	Error   string         `json:"error,omitempty"`
	Elapsed time.Duration  `json:"elapsed_ns,omitempty"`
}

// Journal keeps the last Entries in a file of JSON lines. Its methods may be called at once.
type Journal struct {
	Path string
	By   string
	mu   sync.Mutex
	last map[object.Address]string // errors already told, so that a lasting one is one line
}

// Note writes down what an Event tells, if it is worth it. Only what was changed and what failed anew is.
func (j *Journal) Note(ev Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.last == nil {
		j.last = map[object.Address]string{}
	}
	e := Entry{Time: time.Now(), By: j.By, Object: ev.Object.Address, Action: ev.Delta.Action, Reason: ev.Delta.Reason,
		Elapsed: ev.Elapsed}
	for _, f := range ev.Delta.Fields {
		e.Fields = append(e.Fields, f.Path)
	}
	var held *HeldError
	var blocked *blockedError
	switch {
	case ev.Stage == True || ev.Stage == Changed:
		delete(j.last, e.Object)
		if ev.Stage == True {
			return nil
		}
	case ev.Stage != Failed || errors.As(ev.Err, &held) || errors.Is(ev.Err, ErrLeft) || errors.As(ev.Err, &blocked) ||
		j.last[e.Object] == ev.Err.Error():
		return nil
	default:
		e.Error = ev.Err.Error()
		j.last[e.Object] = e.Error
	}
	return j.write(e)
}

// Write writes down what is about no change that was made.
func (j *Journal) Write(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Time, e.By = time.Now(), j.By
	return j.write(e)
}

func (j *Journal) write(e Entry) error {
	e.Error, e.Reason, e.Fields = cut(e.Error), cut(e.Reason), e.Fields[:min(len(e.Fields), mostFields)]
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(j.Path), 0o711); err != nil {
		return err
	}
	if fi, err := os.Stat(j.Path); err == nil && fi.Size() > journalLimit {
		if err := j.compact(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(j.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

func cut(text string) string {
	if len(text) <= mostOfText {
		return text
	}
	return strings.ToValidUTF8(text[:mostOfText], "") + "…"
}

// compact keeps the newest entries of each scope, within its share of half the limit. Killed anywhere, it leaves the
// old file or the new one.
func (j *Journal) compact() error {
	list, err := ReadJournal(j.Path)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, e := range newest(list, journalLimit/2) {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	fresh := j.Path + ".new"
	if err := os.WriteFile(fresh, b.Bytes(), 0o600); err != nil {
		return err
	}
	if err := os.Rename(fresh, j.Path); err != nil {
		return err
	}
	if err := os.Remove(j.Path + ".1"); !errors.Is(err, fs.ErrNotExist) { // of an earlier phoenix
		return err
	}
	return nil
}

// newest are the entries, in their order, that fit into so many bytes when each scope has an equal share of them, and
// what one does not need goes to the others.
func newest(list []Entry, budget int) []Entry {
	size := map[string]int{}
	length := make([]int, len(list))
	for i, e := range list {
		line, _ := json.Marshal(e) // it was read from JSON
		length[i] = len(line) + 1
		size[e.Object.Scope()] += length[i]
	}
	scopes := slices.SortedFunc(maps.Keys(size),
		func(a, b string) int { return cmp.Or(cmp.Compare(size[a], size[b]), cmp.Compare(a, b)) })
	share := map[string]int{}
	for i, scope := range scopes { // the smallest first
		share[scope] = min(size[scope], budget/(len(scopes)-i))
		budget -= share[scope]
	}
	keep := make([]bool, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		scope := list[i].Object.Scope()
		if share[scope] -= length[i]; share[scope] >= 0 {
			keep[i] = true
		}
	}
	var out []Entry
	for i, e := range list {
		if keep[i] {
			out = append(out, e)
		}
	}
	return out
}

// ReadJournal gives the entries of a Journal's files, oldest first. A line that a power cut left half is passed over.
func ReadJournal(path string) ([]Entry, error) {
	var out []Entry
	for _, name := range []string{path + ".1", path} {
		b, err := host.ReadRegular(name, host.ReadLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		lines.Buffer(nil, journalLimit)
		for lines.Scan() {
			var e Entry
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				out = append(out, e)
			}
		}
	}
	return out, nil
}
