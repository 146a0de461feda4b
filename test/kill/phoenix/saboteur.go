package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// saboteur knows at which call something goes wrong, and what.
type saboteur struct {
	calls, at, fault, base string
	nth                    int
	after, parent, always  bool
	looks                  bool
	mu                     sync.Mutex // guards seen and the files
	seen                   map[string]int
}

func fromEnvironment(calls string) *saboteur {
	nth, err := strconv.Atoi(os.Getenv("PHX_NTH"))
	if err != nil {
		nth = 1
	}
	on := func(name string) bool { return os.Getenv(name) != "" }
	return &saboteur{
		calls: calls, at: os.Getenv("PHX_AT"), fault: os.Getenv("PHX_FAULT"), base: os.Getenv("PHX_BASE"), nth: nth,
		after: on("PHX_AFTER"), parent: on("PHX_PARENT"), always: on("PHX_ALWAYS"), looks: on("PHX_LOOKS"),
		seen: map[string]int{},
	}
}

// What differs from run to run: digests, process ids, random names, what is named after the root.
var (
	port   = regexp.MustCompile(`\b(phoenix_)?(v[0-9]+p)[0-9a-f]{4}\b`)
	table  = regexp.MustCompile(`\b(phoenix_host_\w+_)[0-9a-f]{4}\b`)
	digest = regexp.MustCompile(`[0-9a-f]{16,}`)
	pid    = regexp.MustCompile(`^(run kill .*) [0-9]+$`)
	random = regexp.MustCompile(`\.tmp-[0-9]+`)
)

func (k *saboteur) name(what string) string {
	if k.base != "" {
		what = strings.ReplaceAll(what, k.base, "BASE")
	}
	what = port.ReplaceAllString(what, "$1${2}N")
	what = table.ReplaceAllString(what, "${1}N")
	what = pid.ReplaceAllString(digest.ReplaceAllString(what, "H"), "$1 PID")
	return strings.ReplaceAll(random.ReplaceAllString(what, ".tmp-N"), "\n", `\n`)
}

// do makes a call. Where it is the chosen one the process ends there, or wrong is called instead of it or after it.
func (k *saboteur) do(what string, call, wrong func() error) error {
	hit, err := k.note(what)
	if err != nil {
		return err
	}
	if !hit {
		return call()
	}
	if k.fault == "pause" {
		k.pause()
		return call()
	}
	if k.after {
		err = call()
	}
	if k.fault == "kill" {
		k.die()
	}
	if err != nil {
		return err
	}
	return wrong()
}

// note writes the call down and tells whether it is the chosen one.
func (k *saboteur) note(raw string) (hit bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := os.OpenFile(k.calls, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	defer f.Close()
	what := k.name(raw)
	if _, err := fmt.Fprintln(f, what); err != nil {
		return false, err
	}
	k.seen[what]++
	if k.at == "" || what != k.at {
		return false, nil
	}
	// An agent that was ended is started anew with the same environment: what it counted is lost.
	_, err = os.Lstat(k.calls + ".struck")
	switch struck := !errors.Is(err, fs.ErrNotExist); {
	case struck:
		return k.always, nil
	case k.seen[what] != k.nth:
		return false, nil
	}
	return true, os.WriteFile(k.calls+".struck", []byte(raw), 0o644)
}

// pause lasts until the test makes a file.
func (k *saboteur) pause() {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := os.Lstat(k.calls + ".go"); err == nil {
			return
		}
	}
}

// die is SIGKILL: nothing is put in order, no deferred function runs.
func (k *saboteur) die() {
	if parent := os.Getppid(); k.parent && parent > 1 { // 0: it is in another pid namespace
		_ = syscall.Kill(parent, syscall.SIGKILL) // may be gone
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
