package volumes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The steps of a first build print on standard output, of which the caller takes the name of the directory. The
// programs that take minutes and a network are replaced by ones that leave what the steps after them need.
func TestMachineBuildPrintsOnlyItsDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a build enters a mount namespace: needs root")
	}
	tools := t.TempDir()
	for name, script := range map[string]string{
		"apt-get":    `echo "http://mirror.test/debian bookworm"`,
		"apt-cache":  `echo "  Candidate: 1"`,
		"apt-config": `:`,
		"mmdebstrap": `for last; do :; done; root=${last%/sources.list}/root; mkdir -p "$root/boot"; touch "$root/boot/vmlinuz-1" "$root/boot/initrd.img-1"; echo noise`,
		"mke2fs":     `for file; do :; done; echo "Creating regular file"; for a; do case $a in */root.img) touch "$a" ;; esac; done`,
	} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cache := t.TempDir()
	for _, round := range []string{"built", "cached"} {
		cmd := exec.Command(beside("tools/zfs-machine/machine"), "build", cache)
		cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", round, err, stderr.String())
		}
		dir, rest, _ := strings.Cut(string(out), "\n")
		if info, err := os.Stat(filepath.Join(dir, "root.img")); err != nil || rest != "" {
			t.Errorf("%s: printed %q; want one line, the directory of root.img (%v, %v)", round, out, info, err)
		}
	}
}
