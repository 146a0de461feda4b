package btrfs

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// readQuota reads the limit of the subvolume's quota group; none where quotas are off.
func (st *Status) readQuota(ctx context.Context, h host.Host, v spec.Volume) error {
	on, err := st.quota(ctx, h, v)
	if !on {
		st.Limit, st.Used = 0, 0
	}
	return err
}

// quota reports whether the file system has quotas. It prints one line a group after its headings; -F leaves one group.
func (st *Status) quota(ctx context.Context, h host.Host, v spec.Volume, more ...string) (on bool, err error) {
	argv := append(append([]string{"btrfs", "qgroup", "show", "-reF", "--raw"}, more...), v.Path)
	res, err := h.Run(ctx, host.Command{Argv: argv, Mutates: len(more) > 0})
	if err != nil {
		if strings.Contains(string(res.Stderr), "not enabled") {
			return false, nil
		}
		return false, err
	}
	for line := range strings.Lines(string(res.Stdout)) {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.HasPrefix(f[0], "0/") {
			continue
		}
		st.Limit = 0
		var bad1, bad2 error
		st.Used, bad1 = strconv.ParseInt(f[1], 10, 64)
		if f[3] != "none" {
			st.Limit, bad2 = strconv.ParseInt(f[3], 10, 64)
		}
		if err := errors.Join(bad1, bad2); err != nil {
			return false, host.Misread(argv, res, err)
		}
		return true, nil
	}
	return false, host.Misread(argv, res, errors.New("no line for the subvolume's own group"))
}

// limit makes the quota group's limit the volume's size.
func limit(ctx context.Context, h host.Host, v spec.Volume, have *Status) error {
	if have.Limit == v.SizeBytes {
		return nil
	}
	if err := quotasOn(ctx, h, v, have); err != nil {
		return err
	}
	if provider.Shrinks(v, have.Limit) {
		if _, err := have.quota(ctx, h, v, "--sync"); err != nil { // what was written just now counts
			return err
		}
		if err := provider.TooSmall(v, have.Limit, have.Used); err != nil {
			return err
		}
		if have.Used > emptySubvolume {
			if err := snapshot(ctx, h, v); err != nil {
				return err
			}
		}
	}
	size := "none"
	if v.SizeBytes > 0 {
		size = strconv.FormatInt(v.SizeBytes, 10)
	}
	return run(ctx, h, "qgroup", "limit", size, v.Path)
}

// emptySubvolume is what a subvolume without files refers to: one node of the default size.
const emptySubvolume = 16 << 10

// quotasOn switches quotas on where they are off.
func quotasOn(ctx context.Context, h host.Host, v spec.Volume, have *Status) error {
	on, err := have.quota(ctx, h, v)
	if on || err != nil {
		return err
	}
	top := filepath.Dir(v.Path)
	if run(ctx, h, "quota", "enable", "--simple", top) == nil {
		return nil
	}
	if err := run(ctx, h, "quota", "enable", top); err != nil {
		return provider.WithHint(err, "without quotas a size cannot be kept: size_gb 0 asks for none")
	}
	return nil
}
