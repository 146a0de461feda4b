package health

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// process puts a process with some inotify instances into a fake /proc.
func (h *fakeHost) process(pid string, uid int, userns string, instances int) {
	dir := "/proc/" + pid
	h.put(dir, fs.ModeDir|0o555, uid, uid, "")
	h.put(dir+"/fd", fs.ModeDir|0o500, uid, uid, "")
	h.links[dir+"/ns/user"] = userns
	for i := range instances {
		fd := dir + "/fd/" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		h.put(fd, 0o400, uid, uid, "")
		h.links[fd] = "anon_inode:inotify"
		h.put(strings.Replace(fd, "/fd/", "/fdinfo/", 1), 0o400, uid, uid,
			"pos:\t0\ninotify wd:1 ino:2\ninotify wd:2 ino:3\n")
	}
}

func headroomCases() []runCase {
	machine := func(spoil func(*fakeHost)) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.links["/proc/self/ns/user"] = "user:[1]"
			h.put("/proc", fs.ModeDir|0o555, 0, 0, "")
			for key, v := range map[string]string{"fs/inotify/max_user_instances": "128",
				"fs/inotify/max_user_watches": "8192", "kernel/pty/max": "4096",
				"kernel/pty/nr": "3", "net/ipv4/neigh/default/gc_thresh3": "1024"} {
				h.put("/proc/sys/"+key, 0o644, 0, 0, v+"\n")
			}
			h.put("/proc/key-users", 0o444, 0, 0, "    0:     9 8/8 900/1000 40/25000\n  100000:    30 30/30 24/200 "+
				"800/20000\n")
			h.put("/proc/1/net/stat/arp_cache", 0o444, 0, 0, "entries  allocs\n00000010 00000002\n00000010 00000000\n")
			h.process("1", 0, "user:[1]", 5)
			h.process("77", 100000, "user:[2]", 9)
			h.process("78", 1000, "user:[1]", 100) // of somebody who works on the machine
			spoil(h)
			return nothing{}
		}
	}
	users := func(text string) func(*fakeHost) {
		return func(h *fakeHost) { h.put("/proc/key-users", 0o444, 0, 0, text) }
	}
	const low = "used up a limit of the kernel | "
	return []runCase{
		{kindHeadroom, "room", machine(func(*fakeHost) {}), Pass, "inotify instances 14 of 128, inotify watches 28 " +
			"of 8192, keys of user 100000 24 of 200, " +
			"bytes in them 800 of 20000, terminals 3 of 4096, IPv4 neighbours 16 of 1024"},
		{kindHeadroom, "instances", machine(func(h *fakeHost) { h.process("79", 165536, "user:[3]", 105) }), Fail,
			low + "inotify instances 119 of 128"},
		{kindHeadroom, "keys", machine(users("0: 9 8/8 0/1000 4/25000\n1065536: 1 1/1 195/200 1/20000\n100000: 1 1/1 " +
			"3/200 1/20000\n")), Fail, low + "keys of user 1065536 195 of 200"},
		{kindHeadroom, "bytes of keys", machine(users("100000: 1 1/1 2/200 19900/20000\n")), Fail,
			low + "bytes in them 19900 of 20000"},
		{kindHeadroom, "neighbours", machine(func(h *fakeHost) {
			h.put("/proc/1/net/stat/arp_cache", 0o444, 0, 0, "entries  allocs\n000003f0 00000002\n")
		}), Fail, low + "IPv4 neighbours 1008 of 1024"},
		{kindHeadroom, "a kernel that tells nothing", func(*testing.T, *fakeHost) any { return nothing{} }, Pass, ""},
	}
}

// On this machine: an instance more is one more in the count.
func TestHeadroomIsMeasured(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("others' files need root")
	}
	own := func() (n int64) {
		for _, m := range inotifyMeters(t.Context(), onlySelf{&host.Local{}}) {
			if m.what == "inotify instances" {
				n = m.used
			}
		}
		return n
	}
	before := own()
	for range 3 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if after := own(); after != before+3 {
		t.Errorf("%d before, %d after three more", before, after)
	}
}

// onlySelf shows this process alone: others come and go.
type onlySelf struct{ *host.Local }

func (h onlySelf) ReadDir(dir string) ([]string, error) {
	if dir == "/proc" {
		self, err := os.Readlink("/proc/self")
		return []string{self}, err
	}
	return h.Local.ReadDir(dir)
}
