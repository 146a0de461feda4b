package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// Binary keeps the phoenix binary inside running containers. It implements provider.Driver.
type Binary struct{}

// BinaryStatus is what was seen of the binary inside.
type BinaryStatus struct {
	SHA256 string `json:"sha256"`           // lower-case hex
	Daemon int    `json:"daemon,omitempty"` // process id, out here, of what init runs from it; 0: nothing
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// digestScript prints the digest of $1. openssl uses the processor's own instructions and is five times as fast as
// sha256sum.
const digestScript = `[ -f "$1" ] && [ -x "$1" ] || exit 3
openssl dgst -sha256 -r "$1" 2>/dev/null || sha256sum "$1"`

// pushScript takes the binary on its standard input and puts it in place when it is whole and on the disk.
const pushScript = `set -e
umask 022
mkdir -p "${1%/*}"
cat > "$1.new"
echo "$2  $1.new" | sha256sum --check --status || { echo "the binary arrived damaged" >&2; exit 1; }
chmod 0755 "$1.new"
touch --date="$3" "$1.new"
sync "$1.new"
mv -f "$1.new" "$1"`

// stamped reports whether the file in the root file system carries the binary's stamp. It is only looked at, never
// opened: what lies there is in the container's hands.
func stamped(h host.Host, s spec.Binary, pid int) bool {
	root := filepath.Join("/proc", strconv.Itoa(pid), "root")
	if s.Path != "" {
		root = filepath.Join(home(s.Path, s.ID), "rootfs")
	}
	m, err := h.Lstat(filepath.Join(root, s.Target))
	return err == nil && m.Mode.IsRegular() && m.Mode.Perm() == 0o755 && m.ModTime.Equal(provider.Stamp(s.SHA256))
}

// Decode implements provider.Driver.
func (Binary) Decode(raw json.RawMessage) (spec.Binary, diag.List) {
	s, diags := provider.Decode[spec.Binary](raw)
	if diags.HasErrors() {
		return s, diags
	}
	if !plainID.MatchString(s.ID) {
		diags.Errorf("%q is no id for a container", s.ID)
	}
	if s.Path != "" && !cleanPath(s.Path) {
		diags.Errorf("binary of container %s: lxcpath %q is not a clean absolute path", s.ID, s.Path)
	}
	if !cleanPath(s.Source) || !cleanPath(s.Target) {
		diags.Errorf("binary of container %s: source %q and target %q need clean absolute paths", s.ID, s.Source,
			s.Target)
	}
	if !hexDigest.MatchString(s.SHA256) {
		diags.Errorf("binary of container %s: %q is no sha256", s.ID, s.SHA256)
	}
	return s, diags
}

// digestLimit is for a look at a file of some 20 MB from inside.
const digestLimit = 30 * time.Second

// binaryMost is how large phoenix may be, in bytes.
const binaryMost = 256 << 20

// Observe implements provider.Driver; nil: the container does not run, or has no binary.
func (Binary) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Binary) (*BinaryStatus, error) {
	if s.Path != "" { // else they are Proxmox's, and running/ID has looked whose
		if _, defined, err := readConfig(h, s.Path, s.ID); !defined || err != nil {
			return nil, err
		}
	}
	pid, err := inside(s.Path, s.ID).InitPID(ctx, h)
	if err != nil || pid == 0 {
		return nil, err
	}
	st := &BinaryStatus{Daemon: daemon(h, pid, s.Target)}
	if stamped(h, s, pid) {
		st.SHA256 = s.SHA256
		return st, nil
	}
	res, err := inside(s.Path, s.ID).Attach(ctx, h, host.Command{Limit: digestLimit}, "sh", "-c", digestScript,
		"sh", s.Target)
	if err != nil {
		if res.Code == 3 || provider.NotRunning(res) {
			return nil, nil
		}
		return nil, err
	}
	digest, _, _ := strings.Cut(string(res.Stdout), " ")
	if !hexDigest.MatchString(digest) {
		return nil, host.Misread(inside(s.Path, s.ID).Enter("sh", "-c", digestScript, "sh", s.Target), res,
			errors.New("no digest"))
	}
	st.SHA256 = digest
	return st, nil
}

// daemon is the process that a container's init runs from the binary.
func daemon(h host.Host, pid int, target string) int {
	for child, exe := range children(h, pid) {
		if exe == target || strings.HasSuffix(exe, "/rootfs"+target) {
			return child
		}
	}
	return 0
}

// Diff implements provider.Driver.
func (Binary) Diff(want spec.Binary, have *BinaryStatus) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the binary is not there"}
	}
	var d plan.Delta
	d.Compare("sha256", have.SHA256, want.SHA256)
	return d
}

// Apply implements provider.Driver: the binary goes in over lxc-attach's standard input.
func (Binary) Apply(ctx context.Context, h host.Host, _ object.Address, s spec.Binary, _ plan.Delta) error {
	digest, err := h.Digest(s.Source)
	if err != nil {
		return err
	}
	if digest != s.SHA256 {
		return provider.PermanentHint(fmt.Errorf("%s has sha256 %s, not %s", s.Source, digest, s.SHA256),
			"the binary was replaced meanwhile: run phoenix again")
	}
	// phoenix itself, on the hypervisor: larger than what Host reads
	content, err := host.ReadRegular(s.Source, binaryMost)
	if err != nil {
		return err
	}
	_, err = inside(s.Path, s.ID).Attach(ctx, h, host.Command{Stdin: content, Mutates: true}, "sh", "-c", pushScript,
		"sh", s.Target, s.SHA256, provider.StampText(s.SHA256))
	return err
}
