package idshift

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes that hold ids, or that the kernel drops with a change of owner.
const (
	capability = "security.capability"
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// special are the bits of a mode that a change of owner takes away.
const special = unix.S_ISUID | unix.S_ISGID

// file is one inode, opened with O_PATH or for reading as a directory.
type file struct {
	w       *walk
	fd      int
	st      *unix.Stat_t
	changed bool
}

// path reaches the inode itself, also where the descriptor is one of O_PATH, and whatever is at its name by now.
func (f *file) path() string { return "/proc/self/fd/" + strconv.Itoa(f.fd) }

func (f *file) moveIDs() error {
	uid, gid := f.w.move.id(f.st.Uid), f.w.move.id(f.st.Gid)
	moves := uid != f.st.Uid || gid != f.st.Gid
	if f.st.Mode&unix.S_IFMT == unix.S_IFLNK { // it has no mode, no capability and no ACL
		return f.chown(moves, uid, gid)
	}
	has, err := f.attributes()
	if err != nil {
		return err
	}
	before, err := f.before(has)
	if err != nil {
		return err
	}
	if has[aclAccess] || has[aclDefault] {
		if err := errors.Join(f.moveACL(has, aclAccess), f.moveACL(has, aclDefault)); err != nil {
			return err
		}
	}
	if moves && before.fragile(f.st.Mode) && !has[Attribute] {
		if err := f.set(Attribute, before.encode()); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err // without the attribute a walk that is not killed still keeps everything
		}
		has[Attribute] = true
	}
	if err := f.chown(moves, uid, gid); err != nil {
		return err
	}
	return f.restore(has, before, moves)
}

func (f *file) chown(moves bool, uid, gid uint32) error {
	if !moves {
		return nil
	}
	if err := f.about("chown"); err != nil {
		return err
	}
	return unix.Fchownat(f.fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
}

func (f *file) about(what string) error {
	f.changed = true
	return f.w.about(what)
}

// restore gives back what the kernel took away with the owner, now or in a walk that was killed.
func (f *file) restore(has map[string]bool, before state, moved bool) error {
	moves := before.capability != nil && f.w.moveRoot(before.capability)
	if !has[Attribute] && !moves && !(moved && before.fragile(f.st.Mode)) {
		return nil
	}
	if before.mode != f.st.Mode&0o7777 || before.mode&special != 0 {
		if err := f.about("chmod"); err != nil {
			return err
		}
		if err := unix.Fchmodat(unix.AT_FDCWD, f.path(), before.mode, 0); err != nil {
			return err
		}
	}
	if before.capability != nil {
		if err := f.set(capability, before.capability); err != nil {
			return err
		}
	}
	if !has[Attribute] {
		return nil
	}
	if err := f.about("forget"); err != nil {
		return err
	}
	if err := unix.Removexattr(f.path(), Attribute); err != nil && !errors.Is(err, unix.ENODATA) &&
		!errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}

// state is what a file had before it changed hands.
type state struct {
	mode       uint32 // permissions with setuid, setgid and sticky
	capability []byte // nil: none
}

// fragile is whether a change of owner takes something away.
func (s state) fragile(mode uint32) bool {
	return s.capability != nil || mode&unix.S_IFMT != unix.S_IFDIR && s.mode&special != 0
}

func (s state) encode() []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{1}, s.mode), s.capability...)
}

func decodeState(b []byte) (state, error) {
	if len(b) < 5 || b[0] != 1 {
		return state{}, errors.New("its " + Attribute + " makes no sense")
	}
	s := state{mode: binary.LittleEndian.Uint32(b[1:]) & 0o7777}
	if len(b) > 5 {
		s.capability = b[5:]
	}
	return s, nil
}

// before is what the file has, or had before a walk that was killed.
func (f *file) before(has map[string]bool) (state, error) {
	if has[Attribute] {
		b, err := f.get(Attribute)
		if err != nil {
			return state{}, err
		}
		return decodeState(b)
	}
	s := state{mode: f.st.Mode & 0o7777}
	if !has[capability] {
		return s, nil
	}
	var err error
	s.capability, err = f.get(capability)
	return s, err
}

// Version 3 of a file's capability (linux/capability.h, vfs_ns_cap_data) has the id of the root that it is good for.
const (
	capRevision = 0xff000000
	capVersion3 = 0x03000000
	capRoot     = 20 // offset
	capSize     = 24
)

// moveRoot moves the root in a capability, in place; false: it stays.
func (w *walk) moveRoot(b []byte) bool {
	if len(b) != capSize || binary.LittleEndian.Uint32(b)&capRevision != capVersion3 {
		return false
	}
	old := binary.LittleEndian.Uint32(b[capRoot:])
	root := w.move.id(old)
	binary.LittleEndian.PutUint32(b[capRoot:], root)
	return root != old
}

// An ACL as an attribute (linux/posix_acl_xattr.h): a version, then entries of a tag, permissions and an id.
const (
	aclHead      = 4
	aclEntry     = 8
	aclUser      = 0x02
	aclGroup     = 0x08
	aclQualifier = 4 // offset in an entry
)

func (f *file) moveACL(has map[string]bool, name string) error {
	if !has[name] {
		return nil
	}
	b, err := f.get(name)
	if err != nil {
		return err
	}
	moves := false
	for i := aclHead; i+aclEntry <= len(b); i += aclEntry {
		if tag := binary.LittleEndian.Uint16(b[i:]); tag != aclUser && tag != aclGroup {
			continue
		}
		old := binary.LittleEndian.Uint32(b[i+aclQualifier:])
		id := f.w.move.id(old)
		binary.LittleEndian.PutUint32(b[i+aclQualifier:], id)
		moves = moves || id != old
	}
	if !moves {
		return nil
	}
	return f.set(name, b)
}

// attributes are the names of those that the walk cares about.
func (f *file) attributes() (map[string]bool, error) {
	n, err := unix.Listxattr(f.path(), f.w.names[:])
	buf := f.w.names[:max(n, 0)]
	if errors.Is(err, unix.ERANGE) { // a container may give a file many
		buf = make([]byte, 1<<16)
		n, err = unix.Listxattr(f.path(), buf)
		buf = buf[:max(n, 0)]
	}
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return map[string]bool{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for name := range strings.SplitSeq(string(buf), "\x00") {
		switch name {
		case capability, aclAccess, aclDefault, Attribute:
			out[name] = true
		}
	}
	return out, nil
}

// valueSize is the most that an attribute may hold (XATTR_SIZE_MAX).
const valueSize = 64 << 10

func (f *file) get(name string) ([]byte, error) {
	b := make([]byte, 256)
	n, err := unix.Getxattr(f.path(), name, b)
	if errors.Is(err, unix.ERANGE) {
		b = make([]byte, valueSize)
		n, err = unix.Getxattr(f.path(), name, b)
	}
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

func (f *file) set(name string, value []byte) error {
	if err := f.about("set " + name); err != nil {
		return err
	}
	return unix.Setxattr(f.path(), name, value, 0)
}
