package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// What inotify(7) is asked for. Reading is no change.
const fileChanges = unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF |
	unix.IN_MODIFY | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF

// settle is how long Wait stays after the last of several changes, and stay how long at most: an editor or a restart
// makes many changes at once.
const (
	settle = 5 * time.Millisecond
	stay   = 100 * time.Millisecond
)

// Wake tells when something that objects rest on has changed. Only one goroutine may use it.
type Wake struct {
	files     int // inotify; -1: the kernel gives none, and Watch asks again
	links     int // rtnetlink(7)
	filters   int // nfnetlink: nftables; -1 until somebody rests on it
	cancelled int // eventfd(2)
	poked     int // eventfd(2)
	polled    int // eventfd(2)
	polls     *poller
	onPolls   map[provider.Poll]owners
	watched   map[string]int32 // directory or file -> watch descriptor
	// watch descriptor -> name in the directory ("" is the thing itself) -> who rests on it
	names     map[int32]map[string]owners
	processes map[handle]process // their pidfd, or their list of mounts
	onLinks   owners
	onFilters owners
}

type owners []object.Address

// handle is what of a process is watched: its end, or the mounts that it sees.
type handle struct {
	pid    int
	mounts bool
}

type process struct {
	fd     int
	owners owners
}

// open gives what poll(2) waits on: a pidfd becomes readable at the end of the process, a list of mounts has an
// exceptional condition after a change (proc_pid_mountinfo(5)).
func (h handle) open() (fd int, err error) {
	if h.mounts {
		return unix.Open("/proc/"+strconv.Itoa(h.pid)+"/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return unix.PidfdOpen(h.pid, 0)
}

func (h handle) events() int16 {
	if h.mounts {
		return unix.POLLPRI
	}
	return unix.POLLIN
}

// NewWake opens what is needed; Close gives it back. Inotify instances are few, and all containers share them: without
// one it goes on, as the end of processes, links and a timer still wake.
func NewWake() (*Wake, error) {
	w := &Wake{files: -1, filters: -1, watched: map[string]int32{}, names: map[int32]map[string]owners{},
		processes: map[handle]process{}}
	var err error
	if w.cancelled, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if w.poked, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if w.polled, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w.polls = newPoller(func() { ring(w.polled) })
	if w.links, err = netlink(unix.NETLINK_ROUTE,
		unix.RTMGRP_LINK|unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR); err != nil {
		return nil, err
	}
	return w, nil
}

// netlink opens a socket that becomes readable with what these groups tell.
func netlink(family int, groups uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return -1, fmt.Errorf("netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return -1, errors.Join(fmt.Errorf("netlink: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// openFiles gets an inotify instance, where there was none yet.
func (w *Wake) openFiles() error {
	if w.files >= 0 {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &NoInotifyError{err}
	}
	w.files = fd
	return nil
}

// NoInotifyError says that no change of a file is seen when it happens.
type NoInotifyError struct{ Err error }

// Error implements error.
func (e *NoInotifyError) Error() string {
	return "no inotify instance: " + e.Err.Error() + "; changes of files are found by the timer (phoenix setup --yes " +
		"raises fs.inotify.max_user_instances)"
}

// Unwrap gives the kernel's reason.
func (e *NoInotifyError) Unwrap() error { return e.Err }

// Close gives everything back.
func (w *Wake) Close() error {
	w.polls.close()
	errs := []error{unix.Close(w.links), unix.Close(w.cancelled), unix.Close(w.poked), unix.Close(w.polled)}
	for _, fd := range []int{w.files, w.filters} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	for _, p := range w.processes {
		errs = append(errs, unix.Close(p.fd))
	}
	return errors.Join(errs...)
}

// Watch replaces what is watched. It reports whether anything is watched that was not before: what happened to it
// between the last look and now is not told by Wait, so that one more look is due.
func (w *Wake) Watch(watches map[object.Address]provider.Watch) (added bool, err error) {
	blind := w.openFiles()
	known := maps.Clone(w.watched)
	w.names, w.onLinks, w.onFilters, w.onPolls = map[int32]map[string]owners{}, nil, nil, map[provider.Poll]owners{}
	used, alive := map[string]bool{}, map[handle]owners{}
	errs := []error{blind}
	for a, watch := range watches {
		for _, path := range watch.Paths {
			if blind == nil {
				errs = append(errs, w.watchPath(path, a, used))
			}
		}
		for _, pid := range watch.Processes {
			alive[handle{pid: pid}] = append(alive[handle{pid: pid}], a)
		}
		for _, pid := range watch.Mounts {
			alive[handle{pid, true}] = append(alive[handle{pid, true}], a)
		}
		for _, poll := range watch.Polls {
			w.onPolls[poll] = append(w.onPolls[poll], a)
		}
		if watch.Links {
			w.onLinks = append(w.onLinks, a)
		}
		if watch.Filters {
			w.onFilters = append(w.onFilters, a)
		}
	}
	w.watchPolls()
	fresh, err := w.watchFilters()
	errs = append(errs, err)
	for path, wd := range w.watched {
		if !used[path] {
			_, _ = unix.InotifyRmWatch(w.files, uint32(wd)) // gone with the directory, where that is gone
			delete(w.watched, path)
		}
	}
	began, err := w.watchProcesses(alive)
	fresh = fresh || began
	for path, wd := range w.watched {
		old, was := known[path]
		fresh = fresh || !was || old != wd
	}
	return fresh, errors.Join(append(errs, err)...)
}

// watchPath watches the directory of path for its name, so that a file that is replaced or comes into being is seen,
// and a directory itself. Where directories are missing, the nearest one above is watched for the next.
func (w *Wake) watchPath(path string, a object.Address, used map[string]bool) error {
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		if err := w.add(path, "", a, used); err != nil {
			return err
		}
	}
	for dir, name := filepath.Dir(path), filepath.Base(path); ; dir, name = filepath.Dir(dir), filepath.Base(dir) {
		err := w.add(dir, name, a, used)
		missing := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
		if !missing || dir == "/" {
			return err
		}
	}
}

func (w *Wake) add(path, name string, a object.Address, used map[string]bool) error {
	wd, err := unix.InotifyAddWatch(w.files, path, fileChanges|unix.IN_ONLYDIR)
	if err != nil {
		return &fs.PathError{Op: "watch", Path: path, Err: err}
	}
	used[path], w.watched[path] = true, int32(wd)
	if w.names[int32(wd)] == nil {
		w.names[int32(wd)] = map[string]owners{}
	}
	w.names[int32(wd)][name] = append(w.names[int32(wd)][name], a)
	return nil
}

func (w *Wake) watchPolls() {
	want := make(map[provider.Poll]bool, len(w.onPolls))
	for poll := range w.onPolls {
		want[poll] = true
	}
	w.polls.watch(want)
}

// watchFilters listens to nftables once somebody rests on it. In a container nobody does, and nobody there may.
func (w *Wake) watchFilters() (added bool, err error) {
	if len(w.onFilters) == 0 || w.filters >= 0 {
		return false, nil
	}
	w.filters, err = netlink(unix.NETLINK_NETFILTER, 1<<(unix.NFNLGRP_NFTABLES-1))
	return err == nil, err
}

func (w *Wake) watchProcesses(alive map[handle]owners) (added bool, err error) {
	var errs []error
	for h, p := range w.processes {
		if _, still := alive[h]; !still {
			errs = append(errs, unix.Close(p.fd))
			delete(w.processes, h)
		}
	}
	for h, who := range alive {
		p, known := w.processes[h]
		if !known {
			fd, err := h.open()
			if err != nil {
				fd = -1 // ended since it was seen: Wait tells at once
			}
			p.fd, added = fd, true
		}
		p.owners = who
		w.processes[h] = p
	}
	return added, errors.Join(errs...)
}

// Poke makes Wait return. Any goroutine may call it.
func (w *Wake) Poke() { ring(w.poked) }

func ring(fd int) {
	one := make([]byte, 8)
	binary.NativeEndian.PutUint64(one, 1)
	_, _ = unix.Write(fd, one) // full means that Wait is woken already
}

// Wait returns the objects that rest on what has changed, each once, or none when limit is over or ctx has ended.
func (w *Wake) Wait(ctx context.Context, limit time.Duration) ([]object.Address, error) {
	stop := context.AfterFunc(ctx, func() { ring(w.cancelled) })
	defer stop()
	var woken []object.Address
	for end := time.Now().Add(limit); ctx.Err() == nil; {
		more, poked, err := w.poll(time.Until(end))
		if err != nil {
			return nil, err
		}
		if len(more) > 0 && len(woken) == 0 {
			end = time.Now().Add(stay)
		}
		woken = append(woken, more...)
		quiet := len(more) == 0 && len(woken) > 0
		if quiet || poked || !time.Now().Before(end) {
			break
		}
	}
	slices.Sort(woken)
	return slices.Compact(woken), nil
}

// poll waits for one change that somebody rests on, or for wait; after a change it takes what comes within settle.
func (w *Wake) poll(wait time.Duration) (woken []object.Address, poked bool, err error) {
	fds := []unix.PollFd{{Fd: int32(w.cancelled), Events: unix.POLLIN}, {Fd: int32(w.files), Events: unix.POLLIN},
		{Fd: int32(w.links), Events: unix.POLLIN},
		{Fd: int32(w.filters), Events: unix.POLLIN}, {Fd: int32(w.poked), Events: unix.POLLIN},
		{Fd: int32(w.polled), Events: unix.POLLIN}}
	const first = 6 // of the processes
	var handles []handle
	for h, p := range w.processes {
		if p.fd < 0 {
			woken = append(woken, p.owners...)
			delete(w.processes, h)
			continue
		}
		fds, handles = append(fds, unix.PollFd{Fd: int32(p.fd), Events: h.events()}), append(handles, h)
	}
	if len(woken) > 0 {
		return woken, false, nil
	}
	ms := int(max(0, wait) / time.Millisecond)
	if wait > stay { // not yet woken
		ms = int(wait / time.Millisecond)
	} else {
		ms = min(ms, int(settle/time.Millisecond))
	}
	if _, err := unix.Poll(fds, ms); err != nil && !errors.Is(err, unix.EINTR) {
		return nil, false, fmt.Errorf("poll: %w", err)
	}
	if fds[4].Revents != 0 {
		drain(w.poked)
		poked = true
	}
	if fds[1].Revents != 0 {
		woken = append(woken, w.readFiles()...)
	}
	if fds[2].Revents != 0 {
		drain(w.links)
		woken = append(woken, w.onLinks...)
	}
	if fds[3].Revents != 0 {
		drain(w.filters)
		woken = append(woken, w.onFilters...)
	}
	if fds[5].Revents != 0 {
		drain(w.polled)
		for _, poll := range w.polls.take() {
			woken = append(woken, w.onPolls[poll]...)
		}
	}
	for i, h := range handles {
		if fds[first+i].Revents != 0 {
			woken = append(woken, w.changed(h)...)
		}
	}
	return woken, poked, nil
}

// changed is who rests on a process that is gone or whose mounts have changed.
func (w *Wake) changed(h handle) owners {
	p := w.processes[h]
	if !h.mounts {
		_ = unix.Close(p.fd) // the process is gone
		delete(w.processes, h)
	}
	return p.owners
}

// readFiles takes what inotify has. A queue that ran over, or a watch that was taken away, wakes everybody it may
// concern.
func (w *Wake) readFiles() []object.Address {
	var woken []object.Address
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.files, buf)
		if err != nil || n <= 0 {
			return woken
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00")
			woken = append(woken, w.concerned(wd, mask, name)...)
			b = b[size:]
		}
	}
}

func (w *Wake) concerned(wd int32, mask uint32, name string) []object.Address {
	const everybody = unix.IN_Q_OVERFLOW | unix.IN_IGNORED | unix.IN_UNMOUNT | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	if mask&everybody == 0 {
		return w.names[wd][name]
	}
	var woken []object.Address
	for d, names := range w.names {
		if d != wd && mask&unix.IN_Q_OVERFLOW == 0 {
			continue
		}
		for _, who := range names {
			woken = append(woken, who...)
		}
	}
	for path, d := range w.watched {
		if d == wd {
			delete(w.watched, path)
		}
	}
	return woken
}

func drain(fd int) {
	buf := make([]byte, 16<<10)
	for {
		if n, err := unix.Read(fd, buf); err != nil || n <= 0 {
			return
		}
	}
}
