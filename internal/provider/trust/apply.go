package trust

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
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
	root, err := ensureFile(ctx, h, s)
	if err != nil {
		return err
	}
	if !fresh {
		done, err := add(ctx, h, s, root)
		if done || err != nil {
			return err
		}
	}
	return update(ctx, h)
}

// ensureFile puts the root among the local ones; it asks the network only where it is not there.
func ensureFile(ctx context.Context, h host.Host, s spec.Trust) ([]byte, error) {
	have, err := h.ReadFile(localFile(s))
	if ignoreAbsent(err) != nil {
		return nil, err
	}
	if m, err := h.Lstat(localFile(s)); err == nil && modeOf(m) == goodMode && holds(have, s.Fingerprint) {
		return have, nil
	}
	if !holds(have, s.Fingerprint) {
		if have, err = fetch(ctx, h, s); err != nil {
			return nil, err
		}
	}
	if err := h.MkdirAll(localDir, 0o755, host.Root); err != nil {
		return nil, err
	}
	return have, h.WriteFile(localFile(s), have, 0o644, host.Root)
}

// holds reports whether PEM is this one certificate and no other.
func holds(raw []byte, fingerprint string) bool {
	return slices.Equal(fingerprints(raw), []string{fingerprint})
}

// update runs Debian's tool. Without --fresh it would not make the hash links anew when a file changed its content.
func update(ctx context.Context, h host.Host) error {
	_, err := h.Run(ctx, host.Command{Argv: []string{"update-ca-certificates", "--fresh"}, Mutates: true})
	return err
}

// subjectHash is the output of openssl x509 -subject_hash.
var subjectHash = regexp.MustCompile(`^[0-9a-f]{8}\n$`)

// add does what update-ca-certificates does for one new file, in 5 ms where the tool hashes the whole store anew for a
// second. It reports false, and has changed nothing, where that is not enough: another program hangs on the store (hooks),
// there is no bundle yet, or the hash is taken.
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
