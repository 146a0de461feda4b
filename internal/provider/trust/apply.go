package trust

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Apply implements provider.Driver. The bundle is written last: where the wanted root is in it, the links are right.
func (Driver) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.Trust, _ plan.Delta) error {
	if s.Fingerprint == "" {
		return provider.Permanent(fmt.Errorf("the fingerprint of the root is not known"))
	}
	// Whatever the name already stands for in the store has to go with it.
	_, err := h.Readlink(link(s))
	if ignoreAbsent(err) != nil {
		return err
	}
	fresh := err == nil
	roots, err := ensureFile(ctx, h, s)
	if err != nil {
		return err
	}
	if !fresh && len(trusted(s)) == 1 && s.Gone == "" {
		done, err := add(ctx, h, s, roots)
		if done || err != nil {
			return err
		}
	}
	if err := ensureSingles(h, s, roots); err != nil {
		return err
	}
	return update(ctx, h)
}

// ensureFile puts the roots into the one file that programs read; it asks the network only for those that are not
// there.
func ensureFile(ctx context.Context, h host.Host, s spec.Trust) ([]byte, error) {
	have, err := h.ReadFile(localFile(s))
	if ignoreAbsent(err) != nil {
		return nil, err
	}
	m, err := h.Lstat(localFile(s))
	if err == nil && modeOf(m) == goodMode && slices.Equal(fingerprints(have), trusted(s)) {
		return have, nil
	}
	if have, err = gather(ctx, h, s, have); err != nil {
		return nil, err
	}
	if err := h.MkdirAll(localDir, 0o755, host.Root); err != nil {
		return nil, err
	}
	return have, h.WriteFile(localFile(s), have, 0o644, host.Root)
}

// gather gives the wanted roots in their order: from what is there, else from the CA.
func gather(ctx context.Context, h host.Host, s spec.Trust, have []byte) ([]byte, error) {
	var out, offered []byte
	for _, f := range trusted(s) {
		root := find(have, f)
		if root == nil {
			if offered == nil {
				err := provider.Wait(ctx, func(ctx context.Context) (err error) {
					offered, err = fetch(ctx, h, s)
					return err
				})
				if err != nil {
					return nil, err
				}
			}
			if root = find(offered, f); root == nil {
				return nil, notOffered(s, f, offered)
			}
		}
		out = append(out, root...)
	}
	return out, nil
}

// ensureSingles writes a file for each of two roots, and removes those of roots that are not wanted any more.
func ensureSingles(h host.Host, s spec.Trust, roots []byte) error {
	if all := trusted(s); len(all) > 1 {
		for _, f := range all {
			path := filepath.Join(localDir, single(s, f)+".crt")
			if have, err := h.ReadFile(path); err == nil && slices.Equal(fingerprints(have), []string{f}) {
				continue
			}
			if err := h.WriteFile(path, find(roots, f), 0o644, host.Root); err != nil {
				return err
			}
		}
	}
	old, err := left(h, s)
	for _, n := range old {
		err = errors.Join(err, h.Remove(filepath.Join(localDir, n)))
	}
	return err
}

// update runs Debian's tool. Without --fresh it would not make the hash links anew when a file changed its content.
func update(ctx context.Context, h host.Host) error {
	_, err := h.Run(ctx, host.Command{Argv: []string{"update-ca-certificates", "--fresh"}, Mutates: true})
	return err
}

// subjectHash is the output of openssl x509 -subject_hash.
var subjectHash = regexp.MustCompile(`^[0-9a-f]{8}\n$`)

// add does what update-ca-certificates does for one new file, in 5 ms where the tool hashes the whole store anew for a
// second. It reports false, and has changed nothing, where that is not enough: another program hangs on the store
// (hooks), there is no bundle yet, or the hash is taken.
func add(ctx context.Context, h host.Host, s spec.Trust, root []byte) (bool, error) {
	hooks, err := h.ReadDir(hooksDir)
	if ignoreAbsent(err) != nil || len(hooks) > 0 {
		return false, ignoreAbsent(err)
	}
	all, err := h.ReadFile(bundle)
	if err != nil || len(fingerprints(all)) == 0 {
		return false, ignoreAbsent(err)
	}
	res, err := h.Run(ctx, host.Command{Argv: []string{"openssl", "x509", "-noout", "-subject_hash"}, Stdin: root})
	if err != nil || !subjectHash.Match(res.Stdout) {
		return false, err
	}
	byHash := storeDir + "/" + string(res.Stdout[:8]) + ".0"
	if _, err := h.Lstat(byHash); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := h.Symlink(localFile(s), link(s)); err != nil {
		return false, err
	}
	if err := h.Symlink(s.Name+".pem", byHash); err != nil {
		return false, err
	}
	if slices.Contains(fingerprints(all), s.Fingerprint) {
		return true, nil
	}
	if all[len(all)-1] != '\n' {
		all = append(all, '\n')
	}
	return true, h.WriteFile(bundle, append(all, root...), 0o644, host.Root)
}

// Delete implements provider.Deleter.
func (Driver) Delete(ctx context.Context, h host.Host, _ object.Address, s spec.Trust) error {
	_, fileErr := h.Lstat(localFile(s))
	_, linkErr := h.Lstat(link(s))
	if errors.Is(fileErr, fs.ErrNotExist) && errors.Is(linkErr, fs.ErrNotExist) {
		return nil
	}
	if err := h.Remove(localFile(s)); err != nil {
		return err
	}
	s.Both, s.Fingerprint = nil, ""
	if err := ensureSingles(h, s, nil); err != nil {
		return err
	}
	return update(ctx, h)
}

func modeOf(m host.Meta) string {
	kind := ""
	if !m.Mode.IsRegular() {
		kind = " no regular file"
	}
	return fmt.Sprintf("%04o %d:%d%s", m.Mode.Perm(), m.UID, m.GID, kind)
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
