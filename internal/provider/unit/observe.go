package unit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Status is a unit as systemd and the files have it. The words are systemd's.
type Status struct {
	Load    string `json:"load"`    // loaded, masked, bad-setting, ...
	Active  string `json:"active"`  // active, inactive, failed, activating, ...
	Sub     string `json:"sub"`     // running, exited, auto-restart, ...
	Enabled string `json:"enabled"` // enabled, disabled, static, masked-runtime, ...
	File    string `json:"-"`       // content of the file in /etc; empty: none
	DropIn  string `json:"-"`       // content of phoenix's drop-in; empty: none
	Stale   bool   `json:"stale"`   // systemd works with older files than those on disk
	Mark    string `json:"mark,omitempty"`
	PID     int    `json:"-"`     // of the main process; 0: none
	Ready   bool   `json:"ready"` // accepts connections
}

// properties are those that Observe asks for, in one call.
const properties = "LoadState,ActiveState,SubState,UnitFileState,MainPID,NeedDaemonReload,FragmentPath,DropInPaths,Environment,Result"

// dialLimit bounds how long a look waits for a connection that is neither taken nor refused.
const dialLimit = time.Second

// Observe implements provider.Driver. While systemd does not answer yet, as at boot, it fails and may be tried again.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Unit) (*Status, error) {
	p, err := show(ctx, h, s.Name)
	if err != nil {
		return nil, err
	}
	st := &Status{Load: p["LoadState"], Active: p["ActiveState"], Sub: p["SubState"]}
	if st.File, err = read(h, filePath(s)); err != nil {
		return nil, err
	}
	if st.DropIn, err = read(h, dropInPath(s)); err != nil {
		return nil, err
	}
	if st.Load == "not-found" && st.File == "" && st.DropIn == "" {
		return nil, nil
	}
	if st.Enabled, err = enabled(h, s, p["UnitFileState"]); err != nil {
		return nil, err
	}
	st.Stale = stale(s, p, st)
	st.PID, _ = strconv.Atoi(p["MainPID"]) // absent for units without processes
	if st.Mark, err = running(h, s, p["MainPID"]); err != nil {
		return nil, err
	}
	st.Ready = s.Ready != "" && st.Active == "active" && accepts(ctx, h, s.Ready)
	return st, nil
}

// show asks systemd for a unit's properties; it answers for units that do not exist as well.
func show(ctx context.Context, h host.Host, name string) (map[string]string, error) {
	res, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "show", "--property", properties, "--", name}})
	if err != nil {
		return nil, fmt.Errorf("systemd does not answer for %s: %w", name, err)
	}
	p := make(map[string]string)
	for line := range strings.Lines(string(res.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		p[key] = value
	}
	if p["LoadState"] == "" {
		return nil, fmt.Errorf("systemctl show %s gave no LoadState", name)
	}
	return p, nil
}

// read gives a file's text; a link to /dev/null, as systemctl mask makes it, reads as empty.
func read(h host.Host, path string) (string, error) {
	if to, err := h.Readlink(path); err == nil && to == "/dev/null" {
		return "", nil
	}
	b, err := h.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// stale reports whether systemd has to read the files again. NeedDaemonReload compares times of files it knows; files
// that were added or removed show in the paths, and a clock that was set back in the mark.
func stale(s spec.Unit, p map[string]string, st *Status) bool {
	known := strings.Contains(" "+p["DropInPaths"]+" ", " "+dropInPath(s)+" ")
	marked := carrierOf(s) != byEnvironment || st.DropIn != dropIn(s) ||
		strings.Contains(p["Environment"], variable+"="+mark(s))
	return p["NeedDaemonReload"] == "yes" || !marked || known != (st.DropIn != "") ||
		s.Content != "" && st.File != "" && p["FragmentPath"] != filePath(s)
}

// enabled mends a word of systemd that may be old: what it said once it says until the next daemon-reload, whatever
// became of the links.
func enabled(h host.Host, s spec.Unit, word string) (string, error) {
	if word != "enabled" && word != "disabled" {
		return word, nil
	}
	entries, err := h.ReadDir(directory)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		path := filepath.Join(directory, e)
		if ext := filepath.Ext(e); ext == ".wants" || ext == ".requires" {
			if _, err := h.Lstat(filepath.Join(path, s.Name)); err == nil {
				return "enabled", nil
			}
		} else if to, err := h.Readlink(path); err == nil && filepath.Base(to) == s.Name { // Alias=
			return "enabled", nil
		}
	}
	return "disabled", nil
}

// running is the mark of the running instance; empty: none runs, or it carries no mark.
func running(h host.Host, s spec.Unit, pid string) (string, error) {
	switch carrierOf(s) {
	case byCredential:
		return read(h, filepath.Join(credentials, s.Name, credential))
	case byEnvironment:
		if pid == "0" {
			return "", nil
		}
		environ, err := read(h, filepath.Join("/proc", pid, "environ"))
		for entry := range strings.SplitSeq(environ, "\x00") {
			if m, ok := strings.CutPrefix(entry, variable+"="); ok {
				return m, nil
			}
		}
		return "", err
	}
	return "", nil
}

func accepts(ctx context.Context, h host.Host, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
