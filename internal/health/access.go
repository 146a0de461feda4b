package health

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// describe is a file's mode and owner as people read it: 0700 100000:100000.
func describe(mode spec.Mode, uid, gid int) string { return fmt.Sprintf("%04o %d:%d", mode, uid, gid) }

func seen(m host.Meta) string { return describe(spec.ModeOf(m.Mode), m.UID, m.GID) }

// expected is how a volume should be. Of a directory of the users' own only what the file says counts.
func expected(v spec.Volume, m host.Meta, uid, gid int) string {
	demands, mode := v.Demands(), v.Mode
	if !demands.UID {
		uid = m.UID
	}
	if !demands.GID {
		gid = m.GID
	}
	if !demands.Mode {
		mode = spec.ModeOf(m.Mode)
	}
	return describe(mode, uid, gid)
}

// runVolumeOwner looks at a volume from the hypervisor, through the id map.
func runVolumeOwner(_ context.Context, h host.Host, c Check, v spec.Volume) Result {
	m, err := h.Lstat(v.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return c.fail("the volume does not exist", v.Path, "phoenix create "+v.Container)
	}
	if err != nil {
		return c.fail("the volume cannot be looked at", err.Error(), c.apply())
	}
	want := expected(v, m, v.IDMap.Outside(v.UID), v.IDMap.Outside(v.GID))
	if !m.Mode.IsDir() || seen(m) != want {
		return c.fail("mode or owner of the volume is wrong on the hypervisor",
			v.Path+" is "+m.Mode.Type().String()+" "+seen(m)+", wanted "+want, c.apply())
	}
	return c.pass("mode and owner are right on the hypervisor", want)
}

// runVolumeParents looks at the way to a volume: the container's own directory of volumes shows nothing to anybody but
// root and lets at most the container's own root through, and nobody else can change anything above. A pool's
// directory, which is not phoenix's to close, may be looked into as long as the volume itself is closed.
func runVolumeParents(_ context.Context, h host.Host, c Check, v spec.Volume) Result {
	parent := path.Dir(v.Path)
	private := path.Base(parent) == v.Container || v.Mode&0o007 != 0
	for dir := parent; ; dir = path.Dir(dir) {
		m, err := h.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir == parent {
			return c.unasked("the way to the volume was not looked at: there is no volume", err.Error())
		}
		if err != nil {
			return c.fail("the way to the volume cannot be looked at", err.Error(), c.apply())
		}
		if problem := open(m, private && dir == parent, v.IDMap); problem != "" {
			return c.fail(dir+" is open: "+problem, seen(m),
				c.apply()+", and where the directory is not phoenix's own: chmod go-w "+dir)
		}
		if dir == path.Dir(dir) {
			break
		}
	}
	m, _ := h.Lstat(parent) // was there a moment ago
	return c.pass("the directories above the volume are closed", parent+" is "+seen(m))
}

func open(m host.Meta, private bool, ids spec.IDMap) string {
	mode, root := m.Mode.Perm(), ids.Outside(0)
	switch {
	case m.UID != 0 && m.UID != root:
		return fmt.Sprintf("it belongs to %d", m.UID)
	case mode&0o022 != 0 && m.Mode&fs.ModeSticky == 0:
		return "others can change it"
	case !private:
		return ""
	case mode&0o067 != 0:
		return "others can look into it"
	case mode&0o010 != 0 && m.GID != 0 && m.GID != root:
		return fmt.Sprintf("group %d can enter it", m.GID)
	}
	return ""
}

// runVolumeMount looks at a volume from inside its container.
func runVolumeMount(_ context.Context, h host.Host, c Check, v spec.Volume) Result {
	b, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return c.fail("the mounts cannot be read", err.Error(), c.apply())
	}
	if _, ok := mountAt(parseMounts(b), v.MountPoint); !ok {
		return c.fail("the volume is not mounted at "+v.MountPoint, "nothing is mounted there",
			"phoenix apply "+v.Container+" && phoenix restart "+v.Container)
	}
	m, err := h.Lstat(v.MountPoint)
	if err != nil {
		return c.fail("the mount point cannot be looked at", err.Error(), c.apply())
	}
	want := expected(v, m, v.UID, v.GID)
	if seen(m) != want {
		return c.fail("mode or owner of "+v.MountPoint+" is wrong inside", seen(m)+", wanted "+want, c.apply())
	}
	return c.pass("mounted at "+v.MountPoint+" with the right mode and owner", want)
}

// keyFile is one file that holds keys.
type keyFile struct {
	Path  string    `json:"path"`
	Mode  spec.Mode `json:"mode"`
	Owner string    `json:"owner,omitempty"`
	Group string    `json:"group,omitempty"`
}

func runKeyFile(_ context.Context, h host.Host, c Check, p keyFile) Result {
	want, err := h.Lookup(p.Owner, p.Group)
	if err != nil {
		return c.fail("the key's owner is not known", err.Error(), c.apply())
	}
	file, err := host.Follow(h, p.Path)
	if err != nil {
		return c.fail("the key file cannot be looked at", err.Error(), c.apply())
	}
	m, err := h.Lstat(file)
	if err != nil {
		return c.fail("the key file cannot be looked at", err.Error(), c.apply())
	}
	wanted := describe(p.Mode, want.UID, want.GID)
	if !m.Mode.IsRegular() || seen(m) != wanted {
		return c.fail("mode or owner of "+p.Path+" is wrong", m.Mode.Type().String()+" "+seen(m)+", wanted "+wanted,
			c.apply())
	}
	return c.pass(p.Path+" is closed", wanted)
}

// keyDirectory is a directory in which nothing but certificates may be read by others than root and User.
type keyDirectory struct {
	Path string `json:"path"`
	User string `json:"user,omitempty"`
	// Optional directories may be missing: an ACME account is made anew when it is needed.
	Optional bool `json:"optional,omitempty"`
}

func runKeyDirectory(_ context.Context, h host.Host, c Check, p keyDirectory) Result {
	user, err := h.Lookup(p.User, "")
	if err != nil {
		return c.fail("the keys' owner is not known", err.Error(), c.apply())
	}
	if _, err := h.Lstat(p.Path); p.Optional && errors.Is(err, fs.ErrNotExist) {
		return c.pass("there are no keys in "+p.Path, "no such directory")
	}
	w := keyWalk{h: h, user: user}
	if err := w.look(p.Path, false, 0); err != nil {
		return c.fail("the keys cannot be looked at", err.Error(), c.apply())
	}
	if len(w.open) > 0 {
		return c.fail("others can read or change what is secret in "+p.Path, strings.Join(w.open, "; "), c.apply())
	}
	if w.files == 0 {
		return c.fail("there is nothing in "+p.Path, "no file", c.apply()+restoreFix)
	}
	return c.pass("keys in "+p.Path+" are closed", fmt.Sprintf("%d files, all only for root and %s", w.files, p.User))
}

// keyWalk collects what is open under a directory.
type keyWalk struct {
	h     host.Host
	user  host.Owner
	files int
	open  []string
}

const (
	walkDepth    = 6
	keySizeLimit = 64 << 10 // bytes; larger files are databases
)

// look goes through at, whose parents are closed or not.
func (w *keyWalk) look(at string, closed bool, depth int) error {
	m, err := w.h.Lstat(at)
	if err != nil {
		return err
	}
	if m.Mode.IsRegular() {
		return w.file(at, m, closed)
	}
	if !m.Mode.IsDir() || depth == walkDepth {
		return nil
	}
	if m.Mode.Perm()&0o022 != 0 || !w.ours(m) {
		w.open = append(w.open, at+" is "+seen(m))
	}
	names, err := w.h.ReadDir(at)
	for _, name := range names {
		if err := w.look(path.Join(at, name), closed || w.closed(m), depth+1); err != nil &&
			!errors.Is(err, fs.ErrNotExist) {
			return err // what vanished meanwhile was temporary
		}
	}
	return err
}

// ours tells whether the owner is root or the user.
func (w *keyWalk) ours(m host.Meta) bool { return m.UID == 0 || m.UID == w.user.UID }

// closed tells whether nobody but root and the user gets through.
func (w *keyWalk) closed(m host.Meta) bool {
	mode := m.Mode.Perm()
	return w.ours(m) && mode&0o007 == 0 && (mode&0o070 == 0 || m.GID == 0 || m.GID == w.user.GID)
}

// file judges one file: a private key is closed itself, other things by themselves or by a directory above,
// certificates are public.
func (w *keyWalk) file(at string, m host.Meta, closed bool) error {
	w.files++
	kind, err := w.classify(at, m)
	if err != nil {
		return err
	}
	shut := w.closed(m)
	if kind == plainFile {
		shut = shut || closed
	}
	if kind != publicFile && !shut {
		w.open = append(w.open, at+" is "+seen(m))
	}
	return nil
}

const (
	plainFile  = iota
	publicFile // certificates only
	secretFile // a private key
)

// classify looks for PEM. What it reads goes nowhere.
func (w *keyWalk) classify(at string, m host.Meta) (int, error) {
	if m.Size > keySizeLimit {
		return plainFile, nil
	}
	b, err := w.h.ReadFile(at)
	if err != nil {
		return plainFile, err
	}
	kind := plainFile
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return secretFile, nil
		}
		kind = publicFile
	}
	return kind, nil
}
