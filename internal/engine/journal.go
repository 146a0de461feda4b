package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// journalLimit is how large a Journal's file gets before it becomes the old one; the old one before it is dropped.
const journalLimit = 1 << 20 // bytes

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
	e := Entry{Time: time.Now(), By: j.By, Object: ev.Object.Address, Action: ev.Delta.Action, Reason: ev.Delta.Reason, Elapsed: ev.Elapsed}
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
	case ev.Stage != Failed || errors.As(ev.Err, &held) || errors.As(ev.Err, &blocked) || j.last[e.Object] == ev.Err.Error():
		return nil
	default:
		e.Error = ev.Err.Error()
		j.last[e.Object] = e.Error
	}
	return j.write(e)
}

func (j *Journal) write(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(j.Path), 0o711); err != nil {
		return err
	}
	if fi, err := os.Stat(j.Path); err == nil && fi.Size() > journalLimit {
		if err := os.Rename(j.Path, j.Path+".1"); err != nil {
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
