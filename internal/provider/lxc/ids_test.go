package lxc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/lxc"
)

const ownBase = 0x70010000

func idsOf(t *testing.T, o object.Object) (s spec.IDRange) {
	t.Helper()
	must(t, json.Unmarshal(o.Spec, &s))
	return s
}

// put makes a file, or with a name that ends in a slash a directory, of an owner.
func put(t *testing.T, path string, uid, gid int) {
	t.Helper()
	if strings.HasSuffix(path, "/") {
		must(t, os.MkdirAll(path, 0o750))
	} else {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte("x"), 0o640))
	}
	must(t, os.Lchown(path, uid, gid))
}

// before is a container that has the range that all had, with a volume and a directory of a user's.
func before(t *testing.T) (host.Host, object.Object) {
	top := directory(t)
	s := spec.IDRange{
		ID: "101", Path: filepath.Join(top, "lxc"), IDMap: spec.IDMap{Base: ownBase, Count: 65536},
		Claims:  filepath.Join(top, "claims"),
		Volumes: []string{filepath.Join(top, "volumes/101/ssl")}, Binds: []string{filepath.Join(top, "srv/data")},
	}
	s.Directories = []string{s.Path, filepath.Join(top, "others")}
	home := filepath.Join(s.Path, s.ID)
	put(t, filepath.Join(home, "rootfs/etc/passwd"), 100000, 100000)
	put(t, filepath.Join(home, "rootfs/etc")+"/", 100000, 100000)
	put(t, filepath.Join(home, "rootfs")+"/", 100000, 100000)
	put(t, s.Volumes[0]+"/", 100033, 100033)
	put(t, s.Volumes[0]+"/key", 100033, 100033)
	put(t, s.Binds[0]+"/", 1000, 1000)
	put(t, s.Binds[0]+"/container", 100033, 100033)
	put(t, s.Binds[0]+"/users", 1000, 1000)
	put(t, s.Binds[0]+"/stranger", ownBase+2*65536, ownBase+2*65536)
	must(t, os.WriteFile(filepath.Join(home, "config"), []byte(provider.ContainerMark("101")+"\nlxc.idmap = u 0 "+
		"100000 65536\nlxc.idmap = g 0 100000 65536\n"+
		"lxc.mount.entry = "+s.Binds[0]+" srv none bind,create=dir 0 0\n"), 0o644))
	return &host.Local{}, asObject(t, spec.KindIDs, s.ID, s)
}

// owners demands who the files below a directory are of.
func owners(t *testing.T, want map[string]int) {
	t.Helper()
	for path, uid := range want {
		var st syscall.Stat_t
		must(t, syscall.Lstat(path, &st))
		if int(st.Uid) != uid || int(st.Gid) != uid {
			t.Errorf("%s is %d:%d's, want %d", path, st.Uid, st.Gid, uid)
		}
	}
}

func TestIDsConformance(t *testing.T) {
	conformance.Isolated(t, "ln", "sync", "lxc-info")
	var top string
	configOf := func(o object.Object) string { return filepath.Join(idsOf(t, o).Path, "101/config") }
	claimOf := func(o object.Object) string { return filepath.Join(idsOf(t, o).Claims, fmt.Sprint(ownBase)) }
	conformance.Run(t, conformance.Case{
		Driver: lxc.NewIDs(), Fields: []string{"claimed", "id_map"},
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			h, o := before(t)
			top = filepath.Dir(idsOf(t, o).Claims)
			return h, o
		},
		State: conformance.Under(func() string { return top }),
		Break: map[string]conformance.Damage{
			"a lost claim": func(t *testing.T, _ host.Host, o object.Object) { must(t, os.Remove(claimOf(o))) },
			"the old range": func(t *testing.T, _ host.Host, o object.Object) {
				raw, err := os.ReadFile(configOf(o))
				must(t, err)
				must(t, os.WriteFile(configOf(o),
					[]byte(strings.ReplaceAll(string(raw), fmt.Sprint(ownBase), "100000")), 0o644))
			},
			"a volume of before": func(t *testing.T, _ host.Host, o object.Object) {
				must(t, os.Lchown(idsOf(t, o).Volumes[0], 100033, 100033))
			},
		},
		Foreign: func(t *testing.T, _ host.Host, o object.Object) {
			must(t, os.MkdirAll(idsOf(t, o).Claims, 0o755))
			must(t, os.Symlink("/elsewhere/lxc/101", claimOf(o)))
		},
		Tools: []string{"ln", "sync"},
	})
}

func TestIDsMoveInUsersDirectory(t *testing.T) {
	conformance.Isolated(t, "ln", "sync", "lxc-info")
	h, o := before(t)
	dir := idsOf(t, o).Binds[0]
	put(t, filepath.Join(dir, "mnt")+"/", 1000, 1000)
	put(t, filepath.Join(dir, "../mounted/file"), 100033, 100033)
	must(t, syscall.Mount(filepath.Join(dir, "../mounted"), filepath.Join(dir, "mnt"), "", syscall.MS_BIND, ""))
	t.Cleanup(func() { must(t, syscall.Unmount(filepath.Join(dir, "mnt"), 0)) })
	obs, err := lxc.NewIDs().Observe(t.Context(), h, o)
	must(t, err)
	if !hasField(obs.Delta, "files in "+dir, "100000:65536", "1879113728:65536") {
		t.Errorf("the plan does not name the directory: %+v", obs.Delta)
	}
	must(t, lxc.NewIDs().Apply(t.Context(), h, o, obs.Delta))
	s := idsOf(t, o)
	owners(t, map[string]int{
		dir: 1000, dir + "/users": 1000, dir + "/container": ownBase + 33, dir + "/stranger": ownBase + 2*65536,
		dir + "/mnt/file": 100033,
		s.Volumes[0]:      ownBase + 33, s.Volumes[0] + "/key": ownBase + 33,
		filepath.Join(s.Path, "101/rootfs/etc/passwd"): ownBase,
	})
	if m, err := h.Lstat(dir); err != nil || m.Mode.Perm() != 0o750 {
		t.Errorf("%+v %v", m, err)
	}
}

func hasField(d plan.Delta, path, have, want string) bool {
	for _, f := range d.Fields {
		if f.Path == path && f.Have == have && strings.HasPrefix(f.Want, want) {
			return true
		}
	}
	return false
}

// What was privileged had the ids of the hypervisor's own users: none of theirs becomes a container's.
func TestIDsOfPrivilegedLeaveUsersFiles(t *testing.T) {
	conformance.Isolated(t, "ln", "sync", "lxc-info")
	h, o := before(t)
	s := idsOf(t, o)
	must(t, os.WriteFile(filepath.Join(s.Path, "101/config"),
		[]byte(provider.ContainerMark("101")+"\nlxc.uts.name = x\n"), 0o644))
	put(t, filepath.Join(s.Path, "101/rootfs/etc/passwd"), 0, 0)
	obs, err := lxc.NewIDs().Observe(t.Context(), h, o)
	must(t, err)
	if !hasField(obs.Delta, "files in "+s.Binds[0], "privileged", "stays as it is") {
		t.Errorf("%+v", obs.Delta)
	}
	must(t, lxc.NewIDs().Apply(t.Context(), h, o, obs.Delta))
	owners(t, map[string]int{s.Binds[0]: 1000, s.Binds[0] + "/users": 1000,
		filepath.Join(s.Path, "101/rootfs/etc/passwd"): ownBase})
}

// A directory that another container mounts too is not moved, nor anything else of the container.
func TestIDsRefuseSharedDirectory(t *testing.T) {
	conformance.Isolated(t, "lxc-info")
	for name, entry := range map[string]string{
		"the same":        "lxc.mount.entry = DIR data none bind 0 0\n",
		"one in it":       "lxc.mount.entry=DIR/sub/x data none bind 0 0\n",
		"one above it":    "lxc.mount.entry = TOP/srv data none bind 0 0\n",
		"by another name": "lxc.mount.entry = TOP/again data none bind 0 0\n",
		"a table":         "lxc.mount.fstab = TOP/fstab\n", "another": "lxc.mount.entry = DIR2 data none bind 0 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			h, o := before(t)
			s := idsOf(t, o)
			top, dir := filepath.Dir(s.Claims), s.Binds[0]
			put(t, filepath.Join(top, "again")+"/", 1000, 1000)
			must(t, syscall.Mount(dir, filepath.Join(top, "again"), "", syscall.MS_BIND, ""))
			t.Cleanup(func() { must(t, syscall.Unmount(filepath.Join(top, "again"), 0)) })
			must(t, os.WriteFile(filepath.Join(top, "fstab"),
				[]byte("proc proc proc nodev 0 0\n"+dir+" data none bind 0 0\n"), 0o644))
			must(t, os.MkdirAll(filepath.Join(top, "others/web"), 0o755))
			text := strings.NewReplacer("DIR", dir, "TOP", top).Replace(entry)
			must(t, os.WriteFile(filepath.Join(top, "others/web/config"), []byte(text), 0o644))
			obs, err := lxc.NewIDs().Observe(t.Context(), h, o)
			must(t, err)
			if name == "another" {
				must(t, lxc.NewIDs().Apply(t.Context(), h, o, obs.Delta))
				return
			}
			counted := host.NewCounted(h, func(what string) { t.Error("it was changed:", what) })
			err = lxc.NewIDs().Apply(t.Context(), counted, o, obs.Delta)
			if !provider.IsPermanent(err) || !strings.Contains(err.Error(), dir+" by container web") ||
				!strings.Contains(err.Error(), "container 101") ||
				!strings.Contains(provider.Hint(err), "directory of its own") {
				t.Errorf("%v (%s)", err, provider.Hint(err))
			}
			if !hasField(obs.Delta, "mounted in another container too",
				fmt.Sprintf("%s by container web (%s/others/web/config)", dir, top), "") {
				t.Errorf("the plan does not say it: %+v", obs.Delta)
			}
		})
	}
}

// Of containers of two roots that are made at once one gets the range; the other is refused and keeps nothing of it.
func TestIDsTwoAtOnce(t *testing.T) {
	conformance.Isolated(t, "ln")
	top := directory(t)
	for range 10 {
		claims := filepath.Join(top, "claims")
		must(t, os.RemoveAll(claims))
		var got [4]error
		var all sync.WaitGroup
		for i := range got {
			s := spec.IDRange{ID: "101", Path: fmt.Sprintf("%s/r%d/lxc", top, i),
				IDMap: spec.IDMap{Base: ownBase, Count: 65536}, Claims: claims}
			o := asObject(t, spec.KindIDs, s.ID, s)
			all.Go(func() {
				got[i] = lxc.NewIDs().Apply(context.Background(), &host.Local{}, o, plan.Delta{Action: plan.Create})
			})
		}
		all.Wait()
		target, err := os.Readlink(filepath.Join(claims, fmt.Sprint(ownBase)))
		must(t, err)
		for i, err := range got {
			if mine := target == fmt.Sprintf("%s/r%d/lxc/101", top, i); mine != (err == nil) {
				t.Errorf("%d: %v, and the range is %s's", i, err, target)
			}
		}
		if errors.Join(got[:]...) == nil {
			t.Error("all have it")
		}
	}
}
