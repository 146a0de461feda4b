// Package spec has what each kind of object should be. The configuration writes these, providers and health read them;
// they are pure data and their JSON goes over the agent's pipe. Paths are absolute. No secret is ever in a spec.
package spec

import (
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

// Mode is a file mode that reads and writes as an octal string such as "0600".
type Mode fs.FileMode

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText implements encoding.TextUnmarshaler; modes above 07777 are refused.
func (m *Mode) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || n > 0o7777 {
		return fmt.Errorf("mode %q is not an octal number up to 07777", b)
	}
	*m = Mode(n)
	return nil
}

// Perm is the mode as os functions take it, with setuid, setgid and sticky translated.
func (m Mode) Perm() fs.FileMode {
	p := fs.FileMode(m) & fs.ModePerm
	if m&0o4000 != 0 {
		p |= fs.ModeSetuid
	}
	if m&0o2000 != 0 {
		p |= fs.ModeSetgid
	}
	if m&0o1000 != 0 {
		p |= fs.ModeSticky
	}
	return p
}

// ModeOf is the inverse of Perm.
func ModeOf(p fs.FileMode) Mode {
	m := Mode(p & fs.ModePerm)
	if p&fs.ModeSetuid != 0 {
		m |= 0o4000
	}
	if p&fs.ModeSetgid != 0 {
		m |= 0o2000
	}
	if p&fs.ModeSticky != 0 {
		m |= 0o1000
	}
	return m
}

// Duration reads and writes as Go writes it: "24h".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// IDMap maps ids inside a user namespace to the host's: inside 0 is Base outside, Count ids. The zero value is no map
// (privileged).
type IDMap struct {
	Base  int `json:"base,omitempty"`
	Count int `json:"count,omitempty"`
}

// Outside is the host's id of an id inside.
func (m IDMap) Outside(id int) int { return m.Base + id }
