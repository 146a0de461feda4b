package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// wire is a raw socket on one interface; on all where it has none.
type wire struct {
	fd    int
	index int
}

const everything = 0x0300 // ETH_P_ALL, as it stands in the packet

func open(iface string) (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
	if err != nil {
		return nil, err
	}
	w := &wire{fd: fd}
	if iface != "" {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return nil, err
		}
		w.index = i.Index
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) // a smaller one loses some
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: w.index}); err != nil {
		return nil, err
	}
	timeout := unix.Timeval{Usec: 20000}
	return w, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
}

func (w *wire) close() { _ = unix.Close(w.fd) }

// send waits where the queue is full.
func (w *wire) send(frame []byte) error {
	for {
		err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index, Halen: 6})
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// receive gives the next frame and the interface that it was on; nil: there was none for a while.
func (w *wire) receive(buffer []byte) (frame []byte, index int, err error) {
	n, from, err := unix.Recvfrom(w.fd, buffer, 0)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if l, ok := from.(*unix.SockaddrLinklayer); ok {
		index = l.Ifindex
	}
	return buffer[:n], index, nil
}

// mark is before the name of what a frame tries, somewhere in it.
const mark = "phxatk:"

// heard counts frames by interface and name.
type heard map[string]map[string]int

// listen counts marked frames on all interfaces but the attacker's own port, where all of them are, until its input
// ends.
func listen(but string, limit time.Duration) (heard, error) {
	w, err := open("")
	if err != nil {
		return nil, err
	}
	defer w.close()
	fmt.Fprintln(os.Stderr, "listening")
	var over atomic.Bool
	time.AfterFunc(limit, func() { over.Store(true) })
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whatever ends it
		time.Sleep(300 * time.Millisecond)   // what is under way
		over.Store(true)
	}()
	names, out, buffer := map[int]string{}, heard{}, make([]byte, 65536)
	for !over.Load() {
		frame, index, err := w.receive(buffer)
		if err != nil && !errors.Is(err, unix.ENETDOWN) {
			return nil, err
		}
		at := bytes.LastIndex(frame, []byte(mark))
		if at < 0 {
			continue
		}
		name, _, _ := bytes.Cut(frame[at+len(mark):], []byte{0})
		if names[index] == "" {
			i, err := net.InterfaceByIndex(index)
			if err != nil {
				return nil, err
			}
			names[index] = i.Name
		}
		if where := names[index]; where != but {
			if out[where] == nil {
				out[where] = map[string]int{}
			}
			out[where][string(name)]++
		}
	}
	return out, nil
}
