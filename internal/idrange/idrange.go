// Package idrange knows who has which user and group ids of a hypervisor, by the files that say so, and which ranges
// are free for containers. It is pure: the files' content comes in as values.
package idrange

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Size is how many ids a container has.
const Size = 1 << 16

// Shared is the range that all containers had before each had its own, and that Proxmox gives to all. It is also what
// Debian gives to the first user that adduser makes.
var Shared = spec.IDMap{Base: 100000, Count: Size}

// Where a block is looked for. The first lies above what systemd-nspawn takes for its containers (0x80000 to
// 0x6fffffff) and below what systemd calls the foreign range (0x7ffe0000), and so in what a signed 32-bit number holds:
// 4094 ranges. Only where others have too much of it the second is taken, from its end.
var (
	Usual  = spec.IDMap{Base: 0x70000000, Count: 0x7ffe0000 - 0x70000000}
	second = spec.IDMap{Base: Least, Count: 0x70000000 - Least}
)

// Least is the first id that a container's range may have; those below are the hypervisor's own, but for Shared.
const Least = 0x80000

// least is how many ranges a block has to have.
const least = 64

// Paths of the files, in the order of Files' fields.
var Paths = [4]string{"/etc/subuid", "/etc/subgid", "/etc/passwd", "/etc/group"}

// Files are the contents of those that say who has which ids.
type Files [4]string

// Claim is a range that somebody has.
type Claim struct {
	Who  string // user or group
	Root bool   // it is root's
	File string
	Line int // 1-based
	spec.IDMap
}

// String tells who has what, where.
func (c Claim) String() string {
	return fmt.Sprintf("%d:%d is %s's (%s:%d)", c.Base, c.Count, c.Who, c.File, c.Line)
}

// Overlaps is whether two ranges have an id in common.
func Overlaps(a, b spec.IDMap) bool {
	return a.Count > 0 && b.Count > 0 && a.Base < b.Base+b.Count && b.Base < a.Base+a.Count
}

// Within is whether all of a range is in another one.
func Within(in, out spec.IDMap) bool {
	return in.Count > 0 && in.Base >= out.Base && in.Base+in.Count <= out.Base+out.Count
}

// Text is a range as subuid(5) has it, without the user.
func Text(m spec.IDMap) string { return fmt.Sprintf("%d:%d", m.Base, m.Count) }

// Parse is the inverse of Text.
func Parse(text string) (spec.IDMap, bool) {
	base, count, ok := strings.Cut(text, ":")
	m := spec.IDMap{Base: number(base), Count: number(count)}
	return m, ok && m.Base >= 0 && m.Count > 0
}

// number is a plain one that an id can have; -1: it is none.
func number(text string) int {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// Claims are all ranges that the files give to somebody, and each user and group with an id of its own. Lines that make
// no sense give nothing to anybody.
func (f Files) Claims() (out []Claim) {
	for i, content := range f {
		n := 0
		for line := range strings.Lines(content) {
			n++
			if c, ok := claim(i, strings.Split(strings.TrimSpace(line), ":")); ok {
				c.File, c.Line = Paths[i], n
				out = append(out, c)
			}
		}
	}
	return out
}

// claim reads the fields of a line of the i-th file.
func claim(i int, fields []string) (Claim, bool) {
	if len(fields) < 3 || fields[0] == "" || strings.HasPrefix(fields[0], "#") {
		return Claim{}, false
	}
	c := Claim{Who: fields[0], Root: fields[0] == "root" || fields[0] == "0"}
	if i < 2 {
		c.Base, c.Count = number(fields[1]), number(fields[2])
		return c, len(fields) == 3 && c.Base >= 0 && c.Count > 0
	}
	c.Base, c.Count = number(fields[2]), 1
	return c, c.Base >= 0
}

// Others are those who have an id of the range and are not root.
func Others(claims []Claim, m spec.IDMap) []Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c Claim) bool { return c.Root || !Overlaps(c.IDMap, m) })
}

// Block is the range from which containers get theirs: the line of root's that was written for it, else one that nobody
// has anything of. It is the same each time; false: there is none.
func (f Files) Block() (spec.IDMap, bool) {
	claims := f.Claims()
	var best spec.IDMap
	for _, c := range claims {
		if c.Root && reserved(c.IDMap) && len(free(claims, c.IDMap)) > 0 &&
			(c.Count > best.Count || c.Count == best.Count && c.Base < best.Base) {
			best = c.IDMap
		}
	}
	if best.Count > 0 {
		return best, true
	}
	if m := largest(claims, Usual); m.Count >= least*Size {
		return m, true
	}
	m := largest(claims, second)
	if over := m.Count - Usual.Count; over > 0 {
		m.Base, m.Count = m.Base+over, Usual.Count
	}
	return m, m.Count >= least*Size
}

// reserved is whether a line of root's is a block: it begins and ends where ranges do, which no other program's does.
func reserved(m spec.IDMap) bool {
	return m.Base%Size == 0 && m.Count%Size == 0 && m.Count >= least*Size && m.Base >= second.Base &&
		m.Base+m.Count <= 1<<31
}

// free are the ranges in m of which nobody but root has anything.
func free(claims []Claim, m spec.IDMap) (out []spec.IDMap) {
	others := Others(claims, m)
	for base := m.Base; base+Size <= m.Base+m.Count; base += Size {
		r := spec.IDMap{Base: base, Count: Size}
		if !slices.ContainsFunc(others, func(c Claim) bool { return Overlaps(c.IDMap, r) }) {
			out = append(out, r)
		}
	}
	return out
}

// largest is the largest part of window of which nobody has anything, root's other programs neither; in whole ranges.
func largest(claims []Claim, window spec.IDMap) (best spec.IDMap) {
	all := slices.DeleteFunc(slices.Clone(claims), func(c Claim) bool { return !Overlaps(c.IDMap, window) })
	slices.SortFunc(all, func(a, b Claim) int { return cmp.Compare(a.Base, b.Base) })
	end := window.Base + window.Count
	all = append(all, Claim{IDMap: spec.IDMap{Base: end, Count: 1}})
	at := window.Base
	for _, c := range all {
		first, last := (at+Size-1)/Size*Size, min(c.Base, end)/Size*Size
		if last-first > best.Count {
			best = spec.IDMap{Base: first, Count: last - first}
		}
		at = max(at, c.Base+c.Count)
	}
	return best
}

// Templates is the range of a block that templates have: no container runs in it.
func Templates(block spec.IDMap) spec.IDMap { return spec.IDMap{Base: block.Base, Count: Size} }

// Free is the range of a block for a container of which nobody in taken has anything, that comes first from the given
// one on, which counts from 0, and around; false: there is none left.
func Free(block spec.IDMap, taken []spec.IDMap, first int) (spec.IDMap, bool) {
	used := map[int]bool{}
	for _, t := range taken {
		if !Overlaps(t, block) {
			continue
		}
		last := min(t.Base+t.Count, block.Base+block.Count) - 1
		for i := (max(t.Base, block.Base) - block.Base) / Size; i <= (last-block.Base)/Size; i++ {
			used[i] = true
		}
	}
	slots := block.Count/Size - 1 // the first one is the templates'
	for i := range slots {
		if at := (first+i)%slots + 1; !used[at] {
			return spec.IDMap{Base: block.Base + at*Size, Count: Size}, true
		}
	}
	return spec.IDMap{}, false
}

// Slot is whether a range is one that a block gives to containers.
func Slot(block, m spec.IDMap) bool {
	return m.Count == Size && Within(m, block) && (m.Base-block.Base)%Size == 0 && m.Base != block.Base
}

// Maps are the ranges of user ids that a container's configuration maps, lxc's own or Proxmox's (its snapshots too).
func Maps(config string) (out []spec.IDMap) {
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		rest, ok := strings.CutPrefix(line, "lxc.idmap")
		if !ok {
			continue
		}
		f := strings.Fields(strings.TrimLeft(rest, " \t=:"))
		if len(f) != 4 || f[0] != "u" {
			continue
		}
		if m := (spec.IDMap{Base: number(f[2]), Count: number(f[3])}); m.Base >= 0 && m.Count > 0 {
			out = append(out, m)
		}
	}
	return out
}

// Root is the range that a container's configuration gives to its root; false: it maps none.
func Root(config string) (spec.IDMap, bool) {
	for line := range strings.Lines(config) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "lxc.idmap")
		f := strings.Fields(strings.TrimLeft(rest, " \t=:"))
		if ok && len(f) == 4 && f[0] == "u" && f[1] == "0" {
			m := spec.IDMap{Base: number(f[2]), Count: number(f[3])}
			return m, m.Base >= 0 && m.Count > 0
		}
	}
	return spec.IDMap{}, false
}

// Kernel are the ranges outside of a process' uid_map (user_namespaces(7)).
func Kernel(uidMap string) (out []spec.IDMap) {
	for line := range strings.Lines(uidMap) {
		if f := strings.Fields(line); len(f) == 3 {
			if m := (spec.IDMap{Base: number(f[1]), Count: number(f[2])}); m.Base >= 0 && m.Count > 0 {
				out = append(out, m)
			}
		}
	}
	return out
}
