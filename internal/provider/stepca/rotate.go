package stepca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/keybox"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// While one root takes another's place, both stand in the volume. Which of them signs is the pin's to say (spec.Pins):
// the directories follow it, one rename after the other, and whatever a killed run left of them is gone on with.
func (l layout) nextRoot() string         { return filepath.Join(l.secrets(), "next-root") }
func (l layout) nextIntermediate() string { return filepath.Join(l.secrets(), "next-intermediate") }
func (l layout) oldRoot() string          { return filepath.Join(l.secrets(), "old-root") }

// beside are the directories of a rotation that are there.
func (l layout) beside(h host.Host) ([]string, error) {
	var out []string
	for _, dir := range []string{l.nextRoot(), l.nextIntermediate(), l.oldRoot()} {
		_, err := h.Lstat(dir)
		if err == nil {
			out = append(out, dir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

// usable reads a root's directory; false where it holds none that could sign.
func usable(h host.Host, dir string) (pair, bool) {
	p, err := readPair(h, dir)
	return p, rootState(p, err, h.Now()) == rootUsable
}

// successor is the root that the pin wants in the place of the one that is there (or no longer is).
func successor(h host.Host, l layout, s spec.StepCA, root pair) (pair, bool) {
	if s.Pinned == "" || root.cert != nil && fingerprint(root.cert) == s.Pinned {
		return pair{}, false
	}
	next, ok := usable(h, l.nextRoot())
	return next, ok && fingerprint(next.cert) == s.Pinned
}

// succeed puts the next root in the root's place, which is kept beside. Its intermediate follows in ensureIntermediate.
func succeed(h host.Host, l layout) error {
	if _, err := h.Lstat(l.root()); err == nil {
		if err := setAside(h, l, l.oldRoot()); err != nil {
			return err
		}
		if err := h.Rename(l.root(), l.oldRoot()); err != nil {
			return err
		}
	}
	return h.Rename(l.nextRoot(), l.root())
}

// asidePrefix begins the names of directories with roots that were set aside.
const asidePrefix = "lost-root-"

// setAside keeps what is left of a root in dir, for whoever may still mend it.
func setAside(h host.Host, l layout, dir string) error {
	_, err := h.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.Rename(dir, filepath.Join(l.secrets(), asidePrefix+strconv.FormatInt(h.Now().UnixNano(), 10)))
}

// offered are the roots that the CA hands out: the one it signs under first, then the one that is trusted besides.
func offered(h host.Host, l layout, s spec.StepCA, root pair) []*x509.Certificate {
	out := []*x509.Certificate{root.cert}
	for _, other := range []struct{ want, dir string }{{s.Next, l.nextRoot()}, {s.Old, l.oldRoot()}} {
		if other.want == "" {
			continue
		}
		if p, err := readPair(h, other.dir); err == nil && fingerprint(p.cert) == other.want {
			out = append(out, p.cert)
		}
	}
	return out
}

func encodeCerts(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(encodeCert(c))
	}
	return b.Bytes()
}

// lookRotation tells what of a rotation is still to be done, the intermediate apart.
func (st *Status) lookRotation(h host.Host, l layout, s spec.StepCA, root pair) {
	if why := stalePassword(h, l.root(), s, root); why != "" {
		st.wrong(l.root(), why, "encrypted with a password of its own")
	}
	if next, ok := usable(h, l.nextRoot()); ok {
		st.NextRoot = fingerprint(next.cert)
	}
	if wantNext(s, root) && (st.NextRoot == "" || s.Next != "" && st.NextRoot != s.Next) {
		st.wrong(l.nextRoot(), nonEmpty(st.NextRoot, rootAbsent),
			nonEmpty(s.Next, "a root that can take this one's place"))
	}
	if old, err := readPair(h, l.oldRoot()); err == nil {
		st.OldRoot = fingerprint(old.cert)
	}
	if goneIn(h, l, s) {
		st.wrong(l.oldRoot(), "the key of the root that is gone", rootAbsent)
	}
}

// goneIn is whether the old root's directory holds the one that is gone, or what a killed run left of it.
func goneIn(h host.Host, l layout, s spec.StepCA) bool {
	old, err := readPair(h, l.oldRoot())
	return s.Gone != "" && !errors.Is(err, errNoPair) && (err != nil || fingerprint(old.cert) == s.Gone)
}

func nonEmpty(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// wantNext is whether another root has to stand beside. One that has become the root is not missed, nor one that was
// lost with a root in whose place a person wants a new one.
func wantNext(s spec.StepCA, root pair) bool {
	return s.MakeNext || s.Next != "" && !s.NewRoot && s.Next != fingerprint(root.cert)
}

// stalePassword says why a root's key has to be encrypted anew; empty: it need not.
func stalePassword(h host.Host, dir string, s spec.StepCA, root pair) string {
	m, err := h.Lstat(filepath.Join(dir, filePassword))
	switch {
	case root.passwords > 1:
		return "in the middle of a change of its password"
	case err == nil && m.ModTime.Before(s.Exposed):
		return "encrypted with a password from before " + s.Exposed.Format(time.RFC3339)
	}
	return ""
}

// ensurePassword encrypts a root's key anew. Both passwords stand in the file until the key is written, so that at
// every moment one of them opens it.
func ensurePassword(h host.Host, dir string, s spec.StepCA, root pair) error {
	if stalePassword(h, dir, s, root) == "" {
		return nil
	}
	fresh := keybox.NewPassword()
	key, err := keybox.Seal(root.key, fresh)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filePassword)
	old, err := h.ReadFile(path)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
		mode fs.FileMode
	}{
		{path, bytes.Join([][]byte{bytes.TrimSpace(old), fresh}, []byte("\n")), 0o400},
		{filepath.Join(dir, fileKey), key, 0o600},
		{path, fresh, 0o400},
	} {
		if err := h.WriteFile(f.path, f.data, f.mode, host.Root); err != nil {
			return err
		}
	}
	return nil
}

// ensureNext makes the next root and its intermediate where a person wants them. One that everybody was told to trust
// cannot be made again.
func ensureNext(h host.Host, l layout, s spec.StepCA, root pair) error {
	if !wantNext(s, root) {
		return nil
	}
	next, ok := usable(h, l.nextRoot())
	switch {
	case ok && (s.Next == "" || fingerprint(next.cert) == s.Next):
	case s.Next != "":
		return provider.PermanentHint(fmt.Errorf("the next root, sha256 %s, is not in %s", s.Next, l.nextRoot()),
			"phoenix ca rotate --new-root --yes makes another and goes on")
	default:
		if err := setAside(h, l, l.nextRoot()); err != nil {
			return err
		}
		var err error
		if next, err = mintRoot(h, l, s); err != nil {
			return err
		}
		if err := putPair(h, l.nextRoot(), next); err != nil {
			return err
		}
	}
	have, err := readPair(h, l.nextIntermediate())
	if err == nil && intermediateFault(s, next.cert, have.cert, h.Now()) == "" {
		return nil
	}
	_, err = replaceIntermediate(h, l.nextIntermediate(), s, next)
	return err
}

// dropGone destroys the key of a root that no container trusts any more.
func dropGone(h host.Host, l layout, s spec.StepCA) error {
	if !goneIn(h, l, s) {
		return nil
	}
	return h.RemoveAll(l.oldRoot())
}
