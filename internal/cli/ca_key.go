package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/phoenix-hypervisor/phoenix/internal/backup"
)

// keyFlags say what a backup is encrypted for, or opened with. No secret is in an argument or in the environment,
// where others see it.
type keyFlags struct {
	passwordFile, identity, recipientsFile string
	recipients                             []string
}

// secretLimit is the most that is read of a file with a password, an identity or recipients, in bytes.
const secretLimit = 64 << 10

func (f *keyFlags) password(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "its first line is the password; - is standard input")
}

// sealingKey is what a backup is made for.
func (a *app) sealingKey(f keyFlags) (backup.Key, error) {
	lines := f.recipients
	if f.recipientsFile != "" {
		raw, err := a.readSecret(f.recipientsFile)
		if err != nil {
			return backup.Key{}, err
		}
		lines = append(lines, strings.Split(string(raw), "\n")...)
	}
	if len(lines) == 0 {
		password, err := a.readPassword(f.passwordFile, true)
		return backup.Key{Password: password}, err
	}
	if f.passwordFile != "" {
		return backup.Key{}, &usageError{err: errors.New("a backup is for a password or for recipients, not for both"),
			hint: "leave one of them out"}
	}
	list, err := backup.CheckRecipients(lines)
	if err != nil {
		return backup.Key{}, &usageError{err: err, hint: "age-keygen -y IDENTITY (package age) shows the recipient " +
			"of an identity"}
	}
	return backup.Key{Recipients: list}, nil
}

// openingKey is what a backup is opened with.
func (a *app) openingKey(f keyFlags) (backup.Key, error) {
	if f.identity == "" {
		password, err := a.readPassword(f.passwordFile, false)
		return backup.Key{Password: password}, err
	}
	if f.passwordFile != "" {
		return backup.Key{}, &usageError{err: errors.New("a backup is opened with a password or with an identity"),
			hint: "leave one of them out"}
	}
	raw, err := a.readSecret(f.identity)
	if err != nil {
		return backup.Key{}, err
	}
	if err := backup.CheckIdentity(raw); err != nil {
		return backup.Key{}, hint("age-keygen -o FILE (package age) makes one", "%s: %w", f.identity, err)
	}
	return backup.Key{Identity: raw}, nil
}

// readPassword reads the first line of a file, of standard input, or what is typed at the terminal: twice where it is
// a new one.
func (a *app) readPassword(from string, isNew bool) ([]byte, error) {
	var raw []byte
	var err error
	switch f, typed := a.stdin.(*os.File); {
	case from != "":
		raw, err = a.readSecret(from)
	case typed && isTerminal(f):
		raw, err = a.typedPassword(f, isNew)
	default:
		return nil, &usageError{err: errors.New("--password-file is missing"),
			hint: "a file whose first line is the password, or - for standard input"}
	}
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) < backup.PasswordMin {
		return nil, hint("for example: openssl rand -base64 24",
			"the password is too short: whoever has the file may guess; it needs %d characters", backup.PasswordMin)
	}
	return line, nil
}

// readSecret reads a small file, standard input (-), or a pipe that a shell made of a command's output.
func (a *app) readSecret(from string) ([]byte, error) {
	if from == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, secretLimit))
	}
	if fi, err := os.Stat(from); err == nil && fi.Mode()&os.ModeNamedPipe != 0 {
		return readPipe(from)
	}
	raw, err := a.host.ReadFile(from)
	if err == nil && len(raw) > secretLimit {
		err = fmt.Errorf("%s is larger than %d bytes", from, secretLimit)
	}
	return raw, err
}

// pipePatience is how long somebody may take to write a password into a pipe.
const pipePatience = time.Minute

func readPipe(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(pipePatience)) // every pipe has one
	return io.ReadAll(io.LimitReader(f, secretLimit))
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// typedPassword reads a line without showing it.
func (a *app) typedPassword(f *os.File, twice bool) ([]byte, error) {
	first, err := a.typedLine(f, "password: ")
	if err != nil || !twice {
		return first, err
	}
	second, err := a.typedLine(f, "the same again: ")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two are not the same: nothing was done")
	}
	return first, err
}

func (a *app) typedLine(f *os.File, prompt string) ([]byte, error) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet); err != nil {
		return nil, err
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETSF, old) // as it was, as far as that can be
		fmt.Fprintln(a.stderr)
	}()
	fmt.Fprint(a.stderr, prompt)
	return typed(f)
}

// typed reads a line as a terminal would, with what corrects it, and without signals: whoever is stopped here must
// see again.
func typed(r io.Reader) ([]byte, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < secretLimit; {
		n, err := r.Read(one)
		if n == 0 || err != nil {
			return line, nil
		}
		switch c := one[0]; c {
		case '\n', '\r', 4: // Ctrl-D
			return line, nil
		case 3: // Ctrl-C
			return nil, errors.New("stopped: nothing was done")
		case 8, 127:
			line = line[:max(len(line)-1, 0)]
		case 21: // Ctrl-U
			line = line[:0]
		default:
			line = append(line, c)
		}
	}
	return line, nil
}
