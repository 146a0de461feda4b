package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// steps counts what this call has changed so far.
var steps int

// strike stands before each change that lasts. With a file strikes each is written down in it; the one that the file
// strike-at names does not come about: the call dies together with who made it, as in a power cut. Nothing of either
// goes on or cleans up.
func (b base) strike() {
	steps++
	words := []string{filepath.Base(os.Args[0])}
	for _, a := range os.Args[1:] {
		if len(words) == 4 || strings.HasPrefix(a, "-") {
			break
		}
		words = append(words, filepath.Base(a))
	}
	name := fmt.Sprintf("%s: %d", strings.Join(words, " "), steps)
	if _, err := os.Stat(b.path("strikes")); err == nil {
		if f, err := os.OpenFile(b.path("strikes"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
			fmt.Fprintln(f, name)
			f.Close()
		}
	}
	at, err := os.ReadFile(b.path("strike-at"))
	if err != nil || strings.TrimSpace(string(at)) != name {
		return
	}
	if os.Rename(b.path("strike-at"), b.path("struck")) != nil {
		return // another call was it
	}
	_ = syscall.Kill(os.Getppid(), syscall.SIGKILL)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
