package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// record is ROOT/applied.json: the configuration that a person last had applied, for each container. watch goes by it,
// so that a file that is merely saved deploys nothing, and where there is no record there is no site to keep: what was
// deleted stays deleted, for the record went first. Values that are secrets are not in it.
type record struct {
	Containers map[string]string  `json:"containers"` // by id, the key in Revisions
	Site       string             `json:"site"`       // the revision of what belongs to no container
	Revisions  map[string]applied `json:"revisions"`  // those that are referred to, by digest
	Program    program            `json:"program"`    // the phoenix that brought the site to where it is
}

// applied is one configuration as it was applied.
type applied struct {
	Time        time.Time         `json:"time"`
	Version     string            `json:"version"` // of phoenix
	Directories []string          `json:"folders"` // where scripts are looked for
	Files       []appliedFile     `json:"files"`
	Scripts     map[string]string `json:"scripts,omitempty"` // SHA-256 by name
}

type appliedFile struct {
	Name string `json:"name"`
	Text string `json:"text"` // without secrets
}

func (h *house) recordPath() string { return filepath.Join(h.machine.Root, "applied.json") }

// readRecord gives nil where nothing was applied yet, or by a phoenix that kept no record.
func (a *app) readRecord(path string) (*record, error) {
	raw, err := a.host.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, hint("remove it; "+a.again("apply")+" writes it again",
			"the record of what was applied, %s, cannot be read: %w", path, err)
	}
	return r, nil
}

// revision is the house's configuration, to be recorded.
func (h *house) revision(version string, now time.Time) (string, applied) {
	r := applied{Time: now.UTC().Truncate(time.Second), Version: version, Scripts: map[string]string{}}
	for _, dir := range h.files.directories {
		if abs, err := filepath.Abs(dir); err == nil {
			r.Directories = append(r.Directories, abs)
		}
	}
	sum := sha256.New()
	for _, f := range h.files.list {
		name, err := filepath.Abs(f.Name)
		if err != nil {
			name = f.Name
		}
		r.Files = append(r.Files, appliedFile{Name: name, Text: string(config.WithoutSecrets(f))})
		fmt.Fprintf(sum, "%d %s\n", len(f.Data), config.WithoutSecrets(f))
	}
	for name, script := range h.machine.Scripts {
		r.Scripts[name] = script.SHA256
	}
	for _, name := range slices.Sorted(maps.Keys(r.Scripts)) {
		fmt.Fprintf(sum, "%q %s\n", name, r.Scripts[name])
	}
	return hex.EncodeToString(sum.Sum(nil)[:12]), r
}

// remember records that the configuration was applied to these containers, and to what they share with others. A record
// that says so already is left alone.
func (s *session) remember(ctx context.Context, containers []string) error {
	if len(containers) == 0 {
		return nil
	}
	unlock, err := s.houseLock(s.machine.Root).lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if s.guard != nil {
		if err := s.guard(ctx); err != nil {
			return err
		}
	}
	old, err := s.readRecord(s.recordPath())
	if err != nil {
		s.log.Warn("the record of what was applied is written again", "error", err)
	}
	if err := s.mayOverwrite(old, s.guard != nil); err != nil {
		return err
	}
	if err := s.rememberPools(); err != nil {
		return err
	}
	key, revision := s.revision(s.version, s.host.Now())
	next := old.with(key, revision, containers)
	// it was about all
	if missing := func(id string) bool { return !slices.Contains(containers, id) }; !slices.ContainsFunc(s.atBoot(),
		missing) {
		maps.DeleteFunc(next.Containers, func(id, _ string) bool { _, known := s.cfg.Container(id); return !known })
	}
	next.Program = s.program()
	next.prune()
	if raw, err := json.Marshal(next); err != nil || old != nil && old.same(next) {
		return err
	} else if err := s.host.MkdirAll(s.machine.Root, 0o711, host.Root); err != nil {
		return err
	} else {
		return s.host.WriteFile(s.recordPath(), raw, 0o600, host.Root)
	}
}

// rememberProgram records that this phoenix brings the site to where it is.
func (s *session) rememberProgram(ctx context.Context) error {
	unlock, err := s.houseLock(s.machine.Root).lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := s.readRecord(s.recordPath())
	if err != nil || r == nil {
		return err
	}
	if err := s.mayOverwrite(r, s.guard != nil); err != nil {
		return err
	}
	r.Program = s.program()
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.host.WriteFile(s.recordPath(), raw, 0o600, host.Root)
}

// with is the record after a revision was applied to containers.
func (r *record) with(key string, revision applied, containers []string) *record {
	out := &record{Containers: map[string]string{}, Site: key, Revisions: map[string]applied{}}
	if r != nil {
		maps.Copy(out.Containers, r.Containers)
		maps.Copy(out.Revisions, r.Revisions)
	}
	if _, known := out.Revisions[key]; !known {
		out.Revisions[key] = revision
	}
	for _, id := range containers {
		out.Containers[id] = key
	}
	return out
}

// prune drops revisions that nothing refers to.
func (r *record) prune() {
	used := append(slices.Collect(maps.Values(r.Containers)), r.Site)
	maps.DeleteFunc(r.Revisions, func(key string, _ applied) bool { return !slices.Contains(used, key) })
}

func (r *record) same(other *record) bool {
	return r.Program == other.Program && r.Site == other.Site && maps.Equal(r.Containers, other.Containers)
}

// forgetSite makes watch keep nothing more: first every container is marked, so that a round which is under way stops
// too, then the record goes. Killed in between, the marks hold.
func (s *session) forgetSite() error {
	if _, err := s.host.Lstat(s.machine.Root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ids := s.ids()
	if old, err := s.readRecord(s.recordPath()); err == nil && old != nil {
		for id := range old.Containers {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if err := s.hold(ids, heldDeleted); err != nil {
		return err
	}
	return s.host.Remove(s.recordPath())
}

// adopt records the configuration of a site that an older phoenix made, which kept no record. There is none where no
// container exists but those that a person stopped or deleted.
func (s *session) adopt(ctx context.Context) (bool, error) {
	var ids []string
	for _, o := range s.objects {
		if o.Address.Kind() != spec.KindContainer || s.held(o.Container) {
			continue
		}
		if obs, err := s.target.Observe(ctx, o); err == nil && len(obs.Status) > 0 {
			ids = append(ids, o.Container)
		}
	}
	if len(ids) == 0 {
		return false, nil
	}
	s.log.Info("no record of what was applied: the configuration as it is now counts as applied", "containers", ids)
	return true, s.remember(ctx, s.ids())
}

// unheld are the objects without those of containers that a person stopped or deleted, though others depend on these.
// What others need of them is taken from the pins; what cannot be known without them is left as it is.
func (s *session) unheld(objects []object.Object) []object.Object {
	pins := health.ReadPins(s.host, s.objects)
	held, dropped := map[string]bool{"": false}, map[object.Address]bool{}
	var out []object.Object
	for _, o := range objects { // ordered: what it depends on came before
		if _, known := held[o.Container]; !known {
			held[o.Container] = s.held(o.Container)
		}
		lost := func(n object.Need) bool { return dropped[n.From] && pins[n.From][n.Field] == "" }
		if held[o.Container] || slices.ContainsFunc(o.Needs, lost) {
			dropped[o.Address] = true
			continue
		}
		out = append(out, withPins(o, pins))
	}
	return engine.Among(out)
}
