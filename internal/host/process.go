package host

import (
	"io"
	"os/exec"
	"syscall"
)

// Process is a running command with its pipes. Closing Stdin is the polite way to end it.
type Process struct {
	Stdin  io.WriteCloser
	Stdout io.ReadCloser
	argv   []string
	cmd    *exec.Cmd
	stderr *capped
}

// Start runs a command that is talked to; the caller calls Wait once it has read Stdout to its end. Standard error is
// kept for Wait's error. The command must not change the system by being started.
func (l *Local) Start(argv []string) (*Process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + searchPath(), "LC_ALL=C.UTF-8", "HOME=/root"}
	cmd.Dir = "/"
	// Its own group: a Ctrl-C at the terminal must not cut a change inside the container in two.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = killDelay // what it leaves behind may hold its pipes
	p := &Process{argv: argv, cmd: cmd, stderr: &capped{limit: errorLimit}}
	cmd.Stderr = p.stderr
	var err error
	if p.Stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.Stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, &RunError{Argv: argv, Code: -1, Cause: err}
	}
	return p, nil
}

// Kill ends the process at once, with what it has started.
func (p *Process) Kill() error { return signalGroup(p.cmd, syscall.SIGKILL) }

// Wait waits for the end; a code other than 0 is a *RunError.
func (p *Process) Wait() error {
	if err := p.cmd.Wait(); err != nil {
		return &RunError{Argv: p.argv, Output: tail(Result{Stderr: p.stderr.Bytes()}),
			Code: p.cmd.ProcessState.ExitCode(), Cause: err}
	}
	return nil
}
