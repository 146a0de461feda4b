package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// foreign demands that what is somebody else's is refused, with what a person can do, and is left as it is.
func foreign(t *testing.T, c Case) {
	if c.Foreign == nil {
		t.Skip("nothing else can be in its place")
	}
	h, o := c.Fresh(t)
	c.Foreign(t, h, o)
	var before string
	if c.State != nil {
		before = c.State(t, o)
	}
	counted := host.NewCounted(h, func(what string) { t.Error("it was changed:", what) })
	obs, err := c.Driver.Observe(context.Background(), counted, o)
	if err == nil {
		err = c.Driver.Apply(context.Background(), counted, o, obs.Delta)
	}
	if !provider.IsPermanent(err) || provider.Hint(err) == "" {
		t.Errorf("it was not refused for good, with a hint: %v", err)
	}
	if err := c.Driver.Delete(context.Background(), counted, o); err != nil && !provider.IsPermanent(err) &&
		!errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("deleting it was neither refused nor passed over: %v", err)
	}
	if c.State != nil && c.State(t, o) != before {
		t.Errorf("it was\n%s\nand is\n%s", before, c.State(t, o))
	}
}

// deleted demands that a deleted object is gone, that deleting it again is no error, that it can be made again and,
// where the driver puts aside what it deletes, that it comes back with what was in it.
func deleted(t *testing.T, c Case) {
	h, o := c.Fresh(t)
	counted := host.NewCounted(h, nil)
	apply(t, c, h, o, observe(t, c, h, o).Delta)
	if c.Fill != nil {
		c.Fill(t, h, o)
	}
	err := c.Driver.Delete(context.Background(), h, o)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("it cannot be deleted")
	}
	if err != nil {
		t.Fatal(err)
	}
	if obs := observe(t, c, h, o); obs.Delta.Empty() {
		t.Error("it is still there")
	}
	if err := c.Driver.Delete(context.Background(), counted, o); err != nil || counted.Mutations() > 0 {
		t.Errorf("deleting what is gone: %v, %d changes", err, counted.Mutations())
	}
	if kept, ok := provider.KeptBy(c.Driver, o); ok {
		if out, err := exec.Command("sh", "-c", kept.Restore).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", kept.Restore, err, out)
		}
	}
	if obs := observe(t, c, h, o); !obs.Delta.Empty() {
		apply(t, c, h, o, obs.Delta)
	}
	settled(t, c, counted, o)
	if c.Filled != nil {
		c.Filled(t, h, o)
	}
	if err := provider.Forget(context.Background(), c.Driver, h, o); err != nil {
		t.Error(err)
	}
}

// Tree tells all that a directory holds, with modes, owners, sizes and times of change.
func Tree(t *testing.T, top string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); err == nil && ok {
			fmt.Fprintf(&out, "%s %s %d:%d %d %d.%09d\n", path, info.Mode(), st.Uid, st.Gid, info.Size(), st.Ctim.Sec,
				st.Ctim.Nsec)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return out.String()
}

// Under is a State: the tree of the directory that a function gives.
func Under(directory func() string) func(*testing.T, object.Object) string {
	return func(t *testing.T, _ object.Object) string { return Tree(t, directory()) }
}
