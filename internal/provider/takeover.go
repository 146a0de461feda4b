package provider

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// DefinitionVar is in the environment of a container's init: the digest of the lxc configuration it was started with.
const DefinitionVar = "PHOENIX_DEFINITION"

// ContainerMark is the first line of an lxc configuration that is phoenix's.
func ContainerMark(id string) string {
	return "# phoenix: " + string(object.NewAddress(spec.KindContainer, id))
}

// Definition reads the digest from an lxc configuration; empty: it has none.
func Definition(config string) string {
	_, after, _ := strings.Cut(config, "lxc.environment = "+DefinitionVar+"=")
	digest, _, _ := strings.Cut(after, "\n")
	return digest
}

// A container that was running when phoenix took it over was started with another configuration, and is not restarted
// for that: a file beside its configuration names its init, by process id and start, and the digest that it was brought
// to while it ran. The next start ends that; without the file it is restarted, nothing more.
const takenOver = "taken-over"

// TakeOver writes that the init pid of the container in the directory home was brought to the definition with that
// digest.
func TakeOver(h host.Host, home string, pid int, digest string) error {
	born, err := bornAt(h, pid)
	if err != nil {
		return err
	}
	line := strings.Join([]string{digest, strconv.Itoa(pid), born}, " ") + "\n"
	return h.WriteFile(filepath.Join(home, takenOver), []byte(line), 0o600, host.Root)
}

// TakenOver gives the digest; empty: the running init is not the one that was taken over.
func TakenOver(h host.Host, home string, pid int) string {
	raw, err := h.ReadFile(filepath.Join(home, takenOver))
	if err != nil {
		return ""
	}
	f := strings.Fields(string(raw))
	if len(f) != 3 || f[1] != strconv.Itoa(pid) {
		return ""
	}
	if born, err := bornAt(h, pid); err != nil || born != f[2] {
		return ""
	}
	return f[0]
}

// LetGo forgets that a container was taken over.
func LetGo(h host.Host, home string) error { return h.Remove(filepath.Join(home, takenOver)) }

// SaveStarted writes down what the init pid of a container was started with.
func SaveStarted(h host.Host, path string, pid int, text string) error {
	born, err := bornAt(h, pid)
	if err != nil {
		return err
	}
	if err := h.MkdirAll(filepath.Dir(path), 0o755, host.Root); err != nil {
		return err
	}
	return h.WriteFile(path, []byte(strconv.Itoa(pid)+" "+born+"\n"+text), 0o600, host.Root)
}

// Started is what SaveStarted wrote; false: not about the init pid.
func Started(h host.Host, path string, pid int) (string, bool) {
	raw, err := h.ReadFile(path)
	if err != nil {
		return "", false
	}
	first, text, _ := strings.Cut(string(raw), "\n")
	born, err := bornAt(h, pid)
	return text, err == nil && first == strconv.Itoa(pid)+" "+born
}

// bornAt is when a process was started, in ticks since the boot of the machine.
func bornAt(h host.Host, pid int) (string, error) {
	stat, err := h.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	f := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	if len(f) < 20 {
		return "", strconv.ErrSyntax
	}
	return f[19], nil
}
