package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

const longPassword = "correct horse battery"

// Secrets come from files, standard input and pipes, and never without a limit.
func TestSecretsAreRead(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r, w, err := os.Pipe() // as a shell's <(command)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(longPassword + "\nmore\n"); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ from, want, bad string }{
		"file": {put("file", longPassword+"\r\nsecond line\n"), longPassword, ""}, "stdin": {"-", longPassword, ""},
		"short": {put("short", "short\n"), "", "too short"}, "empty": {put("empty", ""), "", "too short"},
		"large":   {put("large", strings.Repeat("x", secretLimit+1)), "", "larger than"},
		"device":  {"/dev/zero", "", "is a device"},
		"pipe":    {fmt.Sprintf("/proc/self/fd/%d", r.Fd()), longPassword, ""},
		"nothing": {"", "", "--password-file is missing"}, "absent": {filepath.Join(dir, "absent"), "", "no such file"},
	} {
		a := &app{host: &host.Local{}, stdin: strings.NewReader(longPassword + "\n")}
		got, err := a.readPassword(c.from, true)
		if string(got) != c.want || (err == nil) != (c.bad == "") || err != nil &&
			!strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestKeysOfABackup(t *testing.T) {
	one, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	identity, list := filepath.Join(dir, "identity"), filepath.Join(dir, "recipients")
	for path, text := range map[string]string{identity: "# mine\n" + one.String() + "\n",
		list: "# all\n" + one.Recipient().String() + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{host: &host.Local{}, stdin: strings.NewReader("")}
	if k, err := a.sealingKey(keyFlags{recipientsFile: list,
		recipients: []string{one.Recipient().String()}}); err != nil || len(k.Recipients) != 2 {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err := a.openingKey(keyFlags{identity: identity}); err != nil || len(k.Identity) == 0 {
		t.Errorf("%v", err)
	}
	for name, f := range map[string]keyFlags{
		"both": {passwordFile: list, recipients: []string{one.Recipient().String()}}, "none": {},
		"nonsense": {recipients: []string{"age1x"}}, "an identity": {recipients: []string{one.String()}},
	} {
		if _, err := a.sealingKey(f); err == nil || strings.Contains(err.Error(), one.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]keyFlags{"both": {passwordFile: list, identity: identity},
		"recipients": {identity: list}} {
		if _, err := a.openingKey(f); err == nil || strings.Contains(err.Error(), one.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is typed can be corrected, and stopped.
func TestTyped(t *testing.T) {
	for in, want := range map[string]string{"abc\n": "abc", "abx\x7fc\r": "abc", "zzz\x15abc\x04rest": "abc",
		"\x7fabc": "abc"} {
		if got, err := typed(strings.NewReader(in)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := typed(strings.NewReader("abc\x03")); err == nil {
		t.Error("Ctrl-C is taken for a letter")
	}
}
