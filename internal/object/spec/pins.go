package spec

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Pins is what a pin file on the hypervisor says: the root that certificates have to lead to and, while another takes
// its place, that other. All are fingerprints, the lower-case hex SHA-256 of the DER; those that are empty do not
// exist.
//
// It is a wish, and everything follows it: a root takes another's place in four of them.
//
//	ROOT             as always
//	ROOT, next NEW   NEW is made; everyone trusts both
//	NEW, old ROOT    the CA signs under NEW, and everyone's certificates lead to it; everyone still trusts both
//	NEW, gone ROOT   no container trusts ROOT any more, and its key is destroyed
//
// After that the file says NEW alone.
type Pins struct {
	Root string
	Next string
	Old  string
	Gone string
}

// The words before the other root.
const (
	pinNext = "next"
	pinOld  = "old"
	pinGone = "gone"
)

// ParsePins reads a pin file: a line with the root's fingerprint, and at most one with a word and another's.
func ParsePins(text string) (Pins, error) {
	var p Pins
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		at := &p.Root
		if len(f) == 2 {
			at = map[string]*string{pinNext: &p.Next, pinOld: &p.Old, pinGone: &p.Gone}[f[0]]
		}
		switch {
		case len(f) == 0:
			continue
		case at == nil || len(f) > 2 || !IsFingerprint(f[len(f)-1]):
			return Pins{}, fmt.Errorf("%.80q is neither a fingerprint nor next, old or gone with one",
				strings.TrimSpace(line))
		case *at != "":
			return Pins{}, fmt.Errorf("%.80q comes after another of its kind", strings.TrimSpace(line))
		}
		*at = f[len(f)-1]
	}
	return p, p.check()
}

func (p Pins) check() error {
	others := slices.DeleteFunc([]string{p.Next, p.Old, p.Gone}, func(s string) bool { return s == "" })
	switch {
	case p.Root == "":
		return fmt.Errorf("there is no root's fingerprint in it")
	case len(others) > 1:
		return fmt.Errorf("more than one other root is in it")
	case len(others) == 1 && others[0] == p.Root:
		return fmt.Errorf("the other root is the root itself")
	}
	return nil
}

// IsFingerprint is whether text is a SHA-256 in lower-case hex.
func IsFingerprint(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}

// String is the file's content.
func (p Pins) String() string {
	out := p.Root + "\n"
	for _, x := range [][2]string{{pinNext, p.Next}, {pinOld, p.Old}, {pinGone, p.Gone}} {
		if x[1] != "" {
			out += x[0] + " " + x[1] + "\n"
		}
	}
	return out
}

// Both are the roots that everyone trusts while one takes the other's place; none where there is but one.
func (p Pins) Both() []string {
	switch {
	case p.Next != "":
		return []string{p.Root, p.Next}
	case p.Old != "":
		return []string{p.Root, p.Old}
	}
	return nil
}

// Good are the roots that certificates may lead to where it may be either; none where only the root will do.
func (p Pins) Good() []string {
	if p.Next == "" {
		return nil
	}
	return p.Both()
}

// How far certificates are dated back, so that clocks that are a little behind take them.
const (
	LeafBackdate = time.Minute     // step-ca's own default
	CABackdate   = 5 * time.Minute // of what phoenix signs
)
