package nginx

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// The users' own snippets are in ownDir, which phoenix only reads: http/*.conf for the http block, NAME/*.conf for the
// server of a name. nginx includes copies of them, in copiesDir, that were found good together with all else. So one
// that is broken never gets as far as a reload, and never holds up a change of phoenix's own.
func ownDir(s spec.Nginx) string { return filepath.Join(s.Dir, "own") }

func copiesDir(s spec.Nginx) string { return filepath.Join(s.Dir, "phoenix-own") }

const (
	ownHTTP = "http"
	// ownLoaded is the copy that is phoenix's: it reports the digest of the others.
	ownLoaded = ownHTTP + "/phoenix-loaded.conf"
	mostOwn   = 128
	ownSize   = 256 << 10
)

// snippets are files by their path below a directory, such as http/limits.conf. It is an error where they are too many
// or too large to be snippets.
func snippets(h host.Host, dir string) (map[string]string, error) {
	out := map[string]string{}
	tops, err := h.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, top := range tops {
		files, err := h.ReadDir(filepath.Join(dir, top))
		if err != nil || !plainName(top) {
			continue // a file, such as a README, or what is no name
		}
		for _, name := range files {
			file := filepath.Join(dir, top, name)
			if !strings.HasSuffix(name, ".conf") || !plainPath("/"+name) {
				continue
			}
			text, err := h.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if len(out) == mostOwn || len(text) > ownSize {
				return nil, provider.PermanentHint(fmt.Errorf("%s: more than %d files, or one of more than %d kB",
					file, mostOwn, ownSize>>10), "take out what is no snippet of nginx's configuration")
			}
			out[path.Join(top, name)] = string(text)
		}
	}
	return out, nil
}

// withLoaded adds the copy that reports the digest of the others; where there are none nothing is added.
func withLoaded(own map[string]string) map[string]string {
	out := maps.Clone(own)
	delete(out, ownLoaded)
	if len(out) == 0 {
		return out
	}
	v := values{Loaded: loadedName(spec.NginxOwn), Digest: ownDigest(out)}
	out[ownLoaded] = "# Written by phoenix; changes made here are undone.\n" + execute(ownTemplate, v)
	return out
}

var ownTemplate = parse("own", loadedServer)

func ownDigest(own map[string]string) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(own)) {
		fmt.Fprintf(sum, "%s %d\n%s", name, len(own[name]), own[name])
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// observeOwn compares the snippets with their copies.
func observeOwn(ctx context.Context, h host.Host, s spec.Nginx) (*Status, error) {
	own, err := snippets(h, ownDir(s))
	if err != nil {
		return nil, err
	}
	copies, err := snippets(h, copiesDir(s))
	if err != nil {
		return nil, err
	}
	st := &Status{Present: true, Differ: []string{}}
	want := withLoaded(own)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have, ok := copies[name]; !ok || have != want[name] {
			st.Differ = append(st.Differ, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		if _, ok := want[name]; !ok {
			st.Differ = append(st.Differ, name)
		}
	}
	_, err = h.Lstat(nextDir(s))
	st.Unchecked = err == nil
	if st.Running = running(h); st.Running {
		st.Loaded = loaded(ctx, h, spec.NginxOwn)
		if len(want) > 0 {
			st.Own = ownDigest(own)
		}
	}
	return st, nil
}

func diffOwn(want spec.Nginx, have *Status) plan.Delta {
	var d plan.Delta
	for _, name := range have.Differ {
		d.Compare(filepath.Join(copiesDir(want), name), "another one", "as in "+ownDir(want))
	}
	if have.Running {
		d.Compare("loaded", have.Loaded, have.Own)
	}
	if have.Unchecked {
		d.Compare(nextDir(want), "left behind", "removed")
	}
	return d
}

// applyOwn replaces the copies once nginx has found the new ones good, and has them loaded.
func applyOwn(ctx context.Context, h host.Host, s spec.Nginx) error {
	if err := h.RemoveAll(nextDir(s)); err != nil { // of an apply that was killed
		return err
	}
	own, err := snippets(h, ownDir(s))
	if err != nil {
		return err
	}
	want := withLoaded(own)
	if err := lintOwn(ctx, h, s, want); err != nil {
		return err
	}
	if err := copyOwn(h, s, want); err != nil {
		return err
	}
	digest := ""
	if len(want) > 0 {
		digest = ownDigest(own)
	}
	if !running(h) || loaded(ctx, h, spec.NginxOwn) == digest {
		return nil
	}
	s.Part = spec.NginxOwn
	return reload(ctx, h, s, digest)
}

// copyOwn makes the copies what they should be; those that are go last, so that a kill in between leaves a difference.
func copyOwn(h host.Host, s spec.Nginx, want map[string]string) error {
	have, err := snippets(h, copiesDir(s))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have[name] == want[name] {
			continue
		}
		if err := writeSnippet(h, filepath.Join(copiesDir(s), name), want[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; ok {
			continue
		}
		if err := h.Remove(filepath.Join(copiesDir(s), name)); err != nil {
			return err
		}
	}
	return nil
}

func writeSnippet(h host.Host, file, text string) error {
	if err := h.MkdirAll(filepath.Dir(file), 0o755, host.Root); err != nil {
		return err
	}
	return h.WriteFile(file, []byte(text), fileMode, host.Root)
}

// lintOwn has nginx read the whole configuration as it is, with other copies.
func lintOwn(ctx context.Context, h host.Host, s spec.Nginx, want map[string]string) error {
	said, err := tryOwn(ctx, h, s, want)
	if err != nil || said == "" {
		return errors.Join(err, h.RemoveAll(nextDir(s)))
	}
	if alone, err := tryOwn(ctx, h, s, nil); err != nil || alone != "" {
		return errors.Join(err, fmt.Errorf("nginx does not take its configuration without %s either: %s", ownDir(s), alone),
			h.RemoveAll(nextDir(s)))
	}
	culprit, line := blamed(s, said)
	for name := range want {
		if culprit != "" || name == ownLoaded {
			continue
		}
		// What nginx names is phoenix's own file, where it repeats what a snippet said before.
		without := maps.Clone(want)
		delete(without, name)
		if again, err := tryOwn(ctx, h, s, without); err == nil && again == "" {
			culprit = filepath.Join(ownDir(s), name)
		}
	}
	at := ownDir(s)
	if culprit != "" {
		at = culprit + line
	}
	err = provider.PermanentHint(fmt.Errorf("%s: nginx does not take the snippet: %s; nothing of %s was changed, what was "+
		"loaded before stays", at, said, ownDir(s)), "correct it or take it out; all else of the gateway goes on")
	return errors.Join(err, h.RemoveAll(nextDir(s)))
}

// blamed is the snippet that a message of nginx's names, with :LINE.
func blamed(s spec.Nginx, said string) (file, line string) {
	_, after, ok := strings.Cut(said, " in "+filepath.Join(nextDir(s), "own")+"/")
	if i := strings.LastIndex(after, ":"); ok && i > 0 {
		number := strings.TrimRight(strings.Fields(after[i+1:] + " ")[0], ",;")
		return filepath.Join(ownDir(s), after[:i]), ":" + number
	}
	return "", ""
}

// tryOwn reports what nginx has against the configuration that is in place, with these copies; empty: nothing.
func tryOwn(ctx context.Context, h host.Host, s spec.Nginx, copies map[string]string) (said string, err error) {
	dir := nextDir(s)
	if err := h.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := h.MkdirAll(dir, 0o700, host.Root); err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		if err := writeSnippet(h, filepath.Join(dir, "own", name), copies[name]); err != nil {
			return "", err
		}
	}
	base, err := h.ReadFile(confFile(s))
	if err != nil {
		return "", err
	}
	names, err := h.ReadFile(tlsFile(s))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	elsewhere := strings.NewReplacer(copiesDir(s)+"/", filepath.Join(dir, "own")+"/",
		filepath.Join(tlsDir(s), "*.conf"), filepath.Join(dir, "tls.conf*"))
	if err := h.WriteFile(filepath.Join(dir, "tls.conf"), []byte(elsewhere.Replace(string(names))), 0o600,
		host.Root); err != nil {
		return "", err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := h.WriteFile(conf, []byte(elsewhere.Replace(string(base))), 0o600, host.Root); err != nil {
		return "", err
	}
	return test(ctx, h, conf)
}

// test has nginx read a configuration; said is what it has against it.
func test(ctx context.Context, h host.Host, conf string) (said string, err error) {
	// it makes its log files
	_, err = h.Run(ctx, host.Command{Argv: []string{"nginx", "-t", "-q", "-c", conf}, Mutates: true})
	var failed *host.RunError
	if errors.As(err, &failed) && failed.Code > 0 {
		return complaint(failed), nil
	}
	return "", err
}

// complaint is the line that says why nginx did not take a configuration.
func complaint(failed *host.RunError) string {
	for line := range strings.Lines(failed.Error()) {
		if _, after, ok := strings.Cut(strings.TrimSpace(line), "[emerg]"); ok {
			if _, text, numbered := strings.Cut(strings.TrimSpace(after), ": "); numbered {
				return text
			}
			return strings.TrimSpace(after)
		}
	}
	return failed.Error()
}
