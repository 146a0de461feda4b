package main

import (
	"fmt"
	"os"
	"os/exec"
)

// fail is a program that does nothing and says so.
func fail(call) error {
	fmt.Fprintln(os.Stderr, "it cannot be done today")
	return exitCode(1)
}

// hang is a program that waits for a child, as a shell does. Both hold its output, and the child outlives it.
func hang(call) error {
	child := exec.Command("sleep", "600")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	return child.Run()
}

// garbage is a program that does nothing and ends well.
func garbage(call) error {
	fmt.Print("\x00\xff{]: \x1b[2J PID: x State: 0x7f\nJ\xff\xff\xff\xff")
	return nil
}
