package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// program is a phoenix: which one brought the site to where it is, or runs.
type program struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// name tells two programs apart also where neither has a version.
func (p program) name() string { return p.Version + " (" + p.SHA256[:min(12, len(p.SHA256))] + ")" }

// described is what git describe gives of a release, or of a commit after it.
var described = regexp.MustCompile(`^v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:-([0-9]+)-g[0-9a-f]+)?(-dirty)?$`)

// before tells whether one version is lower than another, as far as that is known: of a release and the commits after
// it, in their order; of a tree that was changed only what its release says. Any other name has no order.
func before(a, b string) bool {
	x, y := described.FindStringSubmatch(a), described.FindStringSubmatch(b)
	if x == nil || y == nil {
		return false
	}
	last := 4
	if x[5] != "" || y[5] != "" {
		last = 3
	}
	for i := 1; i <= last; i++ {
		m, _ := strconv.Atoi(x[i]) // digits, or nothing, which is 0
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return false
}

func (s *session) program() program {
	return program{Version: s.version, SHA256: s.machine.Binary.SHA256}
}

func (w *watcher) programName() string { return w.session.program().name() }

// mayOverwrite is why this phoenix may not change a site: a higher version brought it to where it is. A person may say
// otherwise. What runs unattended needs more: to be the same program, or to be known to be higher.
func (s *session) mayOverwrite(r *record, unattended bool) error {
	if r == nil || r.Program.SHA256 == "" || r.Program.SHA256 == s.machine.Binary.SHA256 {
		return nil
	}
	own := s.program()
	lower, higher := before(own.Version, r.Program.Version), before(r.Program.Version, own.Version)
	switch {
	case higher:
		return nil
	case lower && !s.opts.downgrade:
		return hint("use that one, or say --downgrade where you call up, create or apply",
			"this is phoenix %s, and %s, which is higher, brought the site to where it is: nothing was changed",
			own.name(), r.Program.name())
	case unattended && s.succeeds != r.Program.SHA256: // a person put this one in its place
		return hint("the phoenix that is meant, installed and watching: "+s.again("setup")+" --yes",
			"this is phoenix %s; another one, %s, brought the site to where it is, and which is newer is not known: "+
				"nothing is changed unattended", own.name(), r.Program.name())
	}
	return nil
}

// succeedsVariable tells a program that it was begun in the place of another, and which.
const succeedsVariable = "PHOENIX_SUCCEEDS"

// errReplaced is watch's own program on disk being another one now.
var errReplaced = errors.New("the program was replaced")

// self is watch's own program as it was when it began.
type self struct {
	path    string
	meta    host.Meta
	sum     string
	environ []string
	told    string // of a program that does not run
}

func (a *app) ownProgram(s *session) (self, error) {
	m, err := a.host.Lstat(s.machine.Binary.Path)
	return self{path: s.machine.Binary.Path, meta: m, sum: s.machine.Binary.SHA256, environ: os.Environ()}, err
}

// replaced is errReplaced where another program that runs stands in the place of this one. stay: there is another one
// that does not run, and nothing may be taken from it.
func (w *watcher) replaced(ctx context.Context) (stay bool, err error) {
	m, err := w.host.Lstat(w.self.path)
	if err != nil {
		return true, nil // between two: it comes, or what needs it says so
	}
	if m == w.self.meta {
		return false, nil
	}
	sum, err := w.host.Digest(w.self.path)
	if err != nil {
		return true, nil
	}
	if sum == w.self.sum {
		w.self.meta = m
		return false, nil
	}
	res, err := w.host.Run(ctx, host.Command{Argv: []string{w.self.path, "version", "-o", "json"},
		Limit: 10 * time.Second})
	var v program
	if err == nil {
		err = json.Unmarshal(res.Stdout, &v)
	}
	if err != nil || v.Version == "" {
		if w.self.told != sum {
			w.self.told = sum
			w.view.Error(fmt.Errorf("%s was replaced by what does not run: this phoenix, %s, goes on", w.self.path,
				w.version), "put the program there again")
		}
		return true, nil
	}
	return false, errReplaced
}

// execute begins the program on disk in this process's place.
func (w *watcher) execute() error {
	return fmt.Errorf("%s cannot be begun: %w", w.self.path,
		syscall.Exec(w.self.path, os.Args, append(w.self.environ, succeedsVariable+"="+w.self.sum)))
}

// watchPath is the lock that the watch of a site holds: there is one, and others see which.
func (h *house) watchPath() string {
	return strings.TrimSuffix(h.roundsPath(), "rounds.lock") + "watch.lock"
}

// alone takes the lock of the site's watch.
func (w *watcher) alone() error {
	if w.release != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	unlock, err := engine.FileLock{Path: w.session.watchPath(), Program: w.programName()}.Lock(ctx)
	if err != nil {
		return hint("end one of them", "another watch keeps this site: %w", err)
	}
	w.release = unlock
	return nil
}

// watchNote is what a person should know of the watch that keeps the site.
func (s *session) watchNote() string {
	holder, runs := engine.FileLock{Path: s.watchPath()}.Held()
	switch {
	case !runs:
		return ""
	case holder.Program != s.program().name():
		return fmt.Sprintf("phoenix watch is another one, %s (pid %d), than this, %s: it keeps nothing until it is "+
			"this one (%s, or end it and begin this one)",
			holder.Program, holder.PID, s.program().name(), s.again("setup")+" --yes")
	}
	return fmt.Sprintf("phoenix watch, the same version, keeps it so (pid %d)", holder.PID)
}

// watchSeen is what the watch of this site is, and whether a unit should run it.
func (s *session) watchSeen() health.WatchSeen {
	seen := health.WatchSeen{Own: s.program().name()}
	if holder, runs := (engine.FileLock{Path: s.watchPath()}).Held(); runs {
		seen.PID, seen.Program = holder.PID, holder.Program
	}
	raw, err := s.host.ReadFile("/etc/systemd/system/" + config.WatchUnit)
	named := strings.Contains(string(raw), " --root "+s.machine.Root+" ")
	if err == nil && (named || s.machine.Root == defaultRoot && !strings.Contains(string(raw), " --root ")) {
		seen.Unit = config.WatchUnit
	}
	return seen
}
