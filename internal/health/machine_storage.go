package health

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// storageParams are directories that containers are in, or will be.
type storageParams struct {
	Directories []string `json:"directories"`
	Creates     bool     `json:"creates,omitempty"`
}

// What must be left: for a Debian's files where one is to be made, else for what is written while nothing is made.
const (
	roomToMake, filesToMake = 512 << 20, 20_000
	roomToKeep, filesToKeep = 32 << 20, 500
)

// mounted is a file system as it is mounted (proc_pid_mountinfo(5)).
type mounted struct {
	point, kind, device string
	options             []string // of the mount and of the file system
}

// runStorage looks at the file systems that containers are on: whether they can be written to, run programs, and have
// room.
func runStorage(ctx context.Context, h host.Host, c Check, p storageParams) Result {
	raw, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return c.fail("what is mounted is not known", err.Error(), "findmnt")
	}
	var said []string
	for _, dir := range p.Directories {
		m := mountOn(string(raw), dir)
		if r, bad := c.mountOptions(dir, m); bad {
			return r
		}
		room, err := roomAt(ctx, h, existing(h, dir))
		if err != nil {
			return c.fail("how much room "+dir+" has is not known", why(err), "df -h "+dir+"; df -i "+dir)
		}
		if r, bad := c.room(dir, m, room, p.Creates); bad {
			return r
		}
		said = append(said, fmt.Sprintf("%s: %s on %s, %d MiB free", dir, m.kind, m.point, room.bytes>>20))
	}
	return c.pass("the file systems of the containers can be used and have room", strings.Join(said, "; "))
}

// mountOptions says which option of a mount keeps containers from working there.
func (c Check) mountOptions(dir string, m mounted) (Result, bool) {
	for _, x := range []struct{ option, effect string }{
		{"ro", "nothing can be written"},
		{"noexec", "no program of a container runs"},
		{"nosuid", "sudo, ping and the like have no rights in containers"},
	} {
		if !slices.Contains(m.options, x.option) {
			continue
		}
		fix := fmt.Sprintf("mount -o remount,%s %s, and the same in /etc/fstab; or choose another --root",
			map[string]string{"ro": "rw", "noexec": "exec", "nosuid": "suid"}[x.option], m.point)
		if x.option == "ro" {
			fix = "dmesg | grep -i " + filepath.Base(m.device) + " says whether the disk failed; if not: " + fix
		}
		return c.fail(fmt.Sprintf("%s is mounted %s: %s", m.point, x.option, x.effect),
			fmt.Sprintf("%s is on %s (%s, %s)", dir, m.point, m.device, m.kind), fix), true
	}
	return Result{}, false
}

// room says what there is too little of.
func (c Check) room(dir string, m mounted, r freeRoom, creates bool) (Result, bool) {
	bytes, files := int64(roomToKeep), int64(filesToKeep)
	if creates {
		bytes, files = roomToMake, filesToMake
	}
	switch {
	case r.bytes < bytes:
		return c.fail(fmt.Sprintf("%s is full: %d MiB are free, %d are needed", m.point, r.bytes>>20, bytes>>20),
			fmt.Sprintf("%s is on %s (%s, %s)", dir, m.point, m.device, m.kind),
			fmt.Sprintf("du -xh --max-depth=2 %s | sort -h | tail says what fills it; or choose another --root", m.point)), true
	case r.allFiles > 0 && r.files < files:
		return c.fail(fmt.Sprintf("%s has no inodes left: %d are free, %d are needed", m.point, r.files, files),
			fmt.Sprintf("%s is on %s (%s, %s) with %d inodes", dir, m.point, m.device, m.kind, r.allFiles),
			fmt.Sprintf("du -x --inodes --max-depth=2 %s | sort -n | tail says what has them; or choose another --root",
				m.point)), true
	}
	return Result{}, false
}

// mountOn is the file system that a path is on, or will be.
func mountOn(mountinfo, path string) (best mounted) {
	for line := range strings.Lines(mountinfo) {
		left, right, _ := strings.Cut(line, " - ")
		f, end := strings.Fields(left), strings.Fields(right)
		if len(f) < 6 || len(end) < 3 {
			continue
		}
		at := host.Unescape(f[4])
		if at != "/" && path != at && !strings.HasPrefix(path, at+"/") || len(at) < len(best.point) {
			continue
		}
		best = mounted{point: at, kind: end[0], device: end[1],
			options: slices.Concat(strings.Split(f[5], ","), strings.Split(end[2], ","))}
	}
	return best
}

// existing is the path, or the nearest directory above it that is there.
func existing(h host.Host, path string) string {
	for ; path != "/"; path = filepath.Dir(path) {
		if _, err := h.Lstat(path); err == nil {
			break
		}
	}
	return path
}

// freeRoom is what statfs(2) says.
type freeRoom struct {
	bytes           int64
	files, allFiles int64 // inodes; none at all: the file system makes them as it needs them
}

func roomAt(ctx context.Context, h host.Host, path string) (r freeRoom, err error) {
	res, err := h.Run(ctx, host.Command{Argv: []string{"stat", "-f", "-c", "%a %S %d %c", "--", path}})
	if err != nil {
		return r, err
	}
	f := strings.Fields(string(res.Stdout))
	if len(f) != 4 {
		return r, fmt.Errorf("stat says %q", res.Stdout)
	}
	n := make([]int64, len(f))
	for i, x := range f {
		if n[i], err = strconv.ParseInt(x, 10, 64); err != nil {
			return r, fmt.Errorf("stat says %q", res.Stdout)
		}
	}
	return freeRoom{bytes: n[0] * n[1], files: n[2], allFiles: n[3]}, nil
}
