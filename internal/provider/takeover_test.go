package provider

import (
	"os"
	"os/exec"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

func TestTakenOverIsOneProcess(t *testing.T) {
	h, home := &host.Local{}, t.TempDir()
	if got := TakenOver(h, home, os.Getpid()); got != "" {
		t.Errorf("nothing was taken over: %q", got)
	}
	if err := TakeOver(h, home, os.Getpid(), "abc"); err != nil {
		t.Fatal(err)
	}
	if got := TakenOver(h, home, os.Getpid()); got != "abc" {
		t.Errorf("taken over with %q", got)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if got := TakenOver(h, home, other.Process.Pid); got != "" {
		t.Errorf("another process counts as taken over: %q", got)
	}
	if err := LetGo(h, home); err != nil {
		t.Fatal(err)
	}
	if got := TakenOver(h, home, os.Getpid()); got != "" {
		t.Errorf("it was let go: %q", got)
	}
}

// A process id that is used again is not the process that was taken over.
func TestTakenOverKnowsTheStart(t *testing.T) {
	h, home := &host.Local{}, t.TempDir()
	if err := TakeOver(h, home, os.Getpid(), "abc"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(home + "/" + takenOver)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home+"/"+takenOver, append(raw[:len(raw)-1], "1\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := TakenOver(h, home, os.Getpid()); got != "" {
		t.Errorf("a process with another start: %q", got)
	}
}
