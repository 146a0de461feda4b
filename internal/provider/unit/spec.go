// Package unit keeps systemd units: their files, enabled or not, running or not, and running with the inputs they
// should have.
//
// What a process read at its start is part of the unit's truth. The driver puts a digest of it, the mark, into the
// unit's drop-in as Environment=PHOENIX_INPUTS=, and the mark of the running instance is read from /proc/PID/environ: a
// kill between "configuration written" and "restarted" is seen at the next look. A oneshot leaves no process, and a
// unit without inputs may run a program that overwrites its environment (nginx does); those get the mark as a
// credential (systemd.exec(5), SetCredential=), which systemd shows under /run/credentials for as long as that instance
// lives.
//
// A look costs one systemctl show (6 ms). A daemon-reload costs 80 ms and is done only when systemd has not noticed by
// itself.
package unit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	directory = "/etc/systemd/system"
	// systemd hides them from units with a mount namespace of their own, as the agent's daemon has: it looks as PID 1
	// does.
	credentials = "/proc/1/root/run/credentials"
	variable    = "PHOENIX_INPUTS"
	credential  = "phoenix.inputs"
)

// Driver keeps units.
type Driver struct {
	UpLimit time.Duration // from started to accepting connections; 0: a minute
}

// New returns the driver without its types.
func New() provider.Erased { return provider.New(Driver{}) }

// name is systemd.unit(5)'s, templates' instances included, templates themselves not.
var name = regexp.MustCompile(
	`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.(service|socket|timer|path|target|mount|slice)$`)

// Decode implements provider.Driver.
func (Driver) Decode(raw json.RawMessage) (spec.Unit, diag.List) {
	s, diags := provider.Decode[spec.Unit](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !name.MatchString(s.Name) {
		diags.Errorf("%q is not the name of a unit, such as step-ca.service", s.Name)
	}
	if !isService(s) && (s.Inputs != "" || s.Also != "" || s.Oneshot) {
		diags.Errorf("%s: only a .service has inputs or is one_shot", s.Name)
	}
	if _, _, err := net.SplitHostPort(s.Ready); s.Ready != "" && err != nil {
		diags.Errorf("%s: ready: %v", s.Name, err)
	}
	return s, diags
}

func isService(s spec.Unit) bool { return strings.HasSuffix(s.Name, ".service") }

func filePath(s spec.Unit) string   { return filepath.Join(directory, s.Name) }
func dropInPath(s spec.Unit) string { return filepath.Join(directory, s.Name+".d", "50-phoenix.conf") }

// How the running instance carries its mark.
type carrier int

const (
	byNothing carrier = iota
	byEnvironment
	byCredential
)

func carrierOf(s spec.Unit) carrier {
	switch {
	case !isService(s) || s.Content == "" && (s.DropIn == "" || s.Lasting) && s.Inputs == "" && s.Also == "":
		return byNothing
	case s.Oneshot || s.Inputs == "" && s.Also == "":
		return byCredential
	}
	return byEnvironment
}

// mark is the digest of all that a running instance depends on; empty where nothing can carry it.
func mark(s spec.Unit) string {
	if carrierOf(s) == byNothing {
		return ""
	}
	b, err := json.Marshal([]string{s.Content, s.DropIn, s.Inputs, s.Also})
	if err != nil {
		panic(err) // strings always marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// dropIn is the whole drop-in: the spec's, and the mark; empty: there is none. A oneshot stays active once it has run,
// as otherwise nothing would tell that it did.
func dropIn(s spec.Unit) string {
	text := s.DropIn
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	switch carrierOf(s) {
	case byEnvironment:
		text += "[Service]\nEnvironment=" + variable + "=" + mark(s) + "\n"
	case byCredential:
		text += "[Service]\nSetCredential=" + credential + ":" + mark(s) + "\n"
	}
	if s.Oneshot {
		text += "RemainAfterExit=yes\n"
	}
	return text
}
