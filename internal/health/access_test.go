package health

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var volume = spec.Volume{
	Container: "101", Name: "ssl", Path: "/v/volumes/101/ssl", MountPoint: "/etc/nginx/ssl", Mode: 0o700, IDMap: idMap,
}

// outside is a volume as it should be on the hypervisor, after change.
func outside(name string, mode fs.FileMode, uid, gid int) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.put("/", fs.ModeDir|0o755, 0, 0, "")
		h.put("/v", fs.ModeDir|fs.ModeSticky|0o777, 0, 0, "")
		h.put("/v/volumes", fs.ModeDir|0o711, 0, 0, "")
		h.put("/v/volumes/101", fs.ModeDir|0o710, 0, 100000, "")
		h.put(volume.Path, fs.ModeDir|0o700, 100000, 100000, "")
		if name != "" {
			h.put(name, mode, uid, gid, "")
		}
		return volume
	}
}

const mounts101 = `268 93 254:0 /v/lxc/101/rootfs / rw,relatime shared:116 - ext4 /dev/vda rw
295 268 254:0 /v/volumes/101/ssl /etc/nginx/ssl rw,relatime shared:128 - ext4 /dev/vda rw
`

func insideVolume(mounts string, mode fs.FileMode, uid int) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.put("/proc/self/mountinfo", 0o444, 0, 0, mounts)
		h.put(volume.MountPoint, fs.ModeDir|mode, uid, 0, "")
		return volume
	}
}

// usersOwn is a directory of the hypervisor that was there before the file named it.
func usersOwn(said spec.HostDirectory, mode fs.FileMode, uid, gid int) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		v := volume
		v.HostDirectory = &said
		h.put(v.Path, mode, uid, gid, "")
		return v
	}
}

func oneKey(mode fs.FileMode, uid, gid int) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.put("/k", mode, uid, gid, "")
		return keyFile{Path: "/k", Mode: 0o600, Owner: "step"}
	}
}

// directory is a CA's directory as step-ca has it, after one change.
func directory(name string, mode fs.FileMode, uid int, data string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		ca := newAuthority(t)
		h.put("/ca", fs.ModeDir|0o755, 0, 0, "")
		h.put("/ca/certs", fs.ModeDir|0o755, 0, 0, "")
		h.put("/ca/certs/root.crt", 0o644, 0, 0, pemOf(ca.root))
		h.put("/ca/secrets", fs.ModeDir|0o700, 999, 999, "")
		h.put("/ca/secrets/key", 0o600, 999, 999, keyPEM(t, ca.key))
		h.put("/ca/db", fs.ModeDir|0o700, 999, 999, "")
		h.put("/ca/db/data", 0o644, 999, 999, "bolt") // closed by its directory
		if name != "" {
			if data == "key" {
				data = keyPEM(t, ca.key)
			}
			h.put(name, mode, uid, uid, data)
		}
		return keyDirectory{Path: "/ca", User: "step"}
	}
}

func accessCases() []runCase {
	dir := fs.ModeDir
	return []runCase{
		{kindVolumeOwner, "right", outside("", 0, 0, 0), Pass, "0700 100000:100000"},
		{kindVolumeOwner, "owner", outside(volume.Path, dir|0o700, 0, 0), Fail, "0700 0:0, wanted 0700 100000:100000"},
		{kindVolumeOwner, "mode", outside(volume.Path, dir|0o777, 100000, 100000), Fail, "0777"},
		{kindVolumeOwner, "link", outside(volume.Path, fs.ModeSymlink|0o700, 100000, 100000), Fail,
			"wrong on the hypervisor"},
		{kindVolumeOwner, "absent", func(*testing.T, *fakeHost) any { return volume }, Fail, "does not exist"},
		{kindVolumeOwner, "the users' own", usersOwn(spec.HostDirectory{}, dir|0o777, 1000, 1001), Pass,
			"0777 1000:1001"},
		{kindVolumeOwner, "the users' own, its owner named",
			usersOwn(spec.HostDirectory{UID: true}, dir|0o777, 1000, 1001), Fail,
			"wanted 0777 100000:1001"},
		{kindVolumeOwner, "the users' own, its mode named",
			usersOwn(spec.HostDirectory{Mode: true}, dir|0o777, 1000, 1001), Fail,
			"wanted 0700 1000:1001"},
		{kindVolumeOwner, "the users' own, a file", usersOwn(spec.HostDirectory{}, 0o777, 1000, 1001), Fail,
			"wrong on the hypervisor"},
		{kindVolumeParents, "closed", outside("", 0, 0, 0), Pass, "0710 0:100000"},
		{kindVolumeParents, "listable", outside("/v/volumes/101", dir|0o755, 0, 0), Fail, "others can look into it"},
		{kindVolumeParents, "wrong group", outside("/v/volumes/101", dir|0o710, 0, 1000), Fail, "group 1000 can enter"},
		{kindVolumeParents, "foreign owner", outside("/v/volumes", dir|0o711, 1000, 0), Fail, "belongs to 1000"},
		{kindVolumeParents, "writable above", outside("/v", dir|0o777, 0, 0), Fail, "others can change it"},
		{kindVolumeParents, "absent", func(*testing.T, *fakeHost) any { return volume }, Skip, "there is no volume"},
		{kindVolumeMount, "right", insideVolume(mounts101, 0o700, 0), Pass, "mounted at"},
		{kindVolumeMount, "not mounted", insideVolume("268 93 254:0 / / rw - ext4 x rw\n", 0o700, 0), Fail,
			"not mounted"},
		{kindVolumeMount, "unmapped owner", insideVolume(mounts101, 0o700, 65534), Fail,
			"0700 65534:0, wanted 0700 0:0"},
		{kindKeyFile, "closed", oneKey(0o600, 999, 999), Pass, "0600 999:999"},
		{kindKeyFile, "readable", oneKey(0o644, 999, 999), Fail, "0644"},
		{kindKeyFile, "owner", oneKey(0o600, 0, 0), Fail, "0:0, wanted 0600 999:999"},
		{kindKeyFile, "absent", func(*testing.T, *fakeHost) any { return keyFile{Path: "/k"} }, Fail, "does not exist"},
		{kindKeyFile, "no such user", func(*testing.T, *fakeHost) any { return keyFile{Path: "/k", Owner: "gone"} },
			Fail, "unknown user"},
		{kindKeyDirectory, "closed", directory("", 0, 0, ""), Pass, "3 files"},
		{kindKeyDirectory, "readable key in a closed directory", directory("/ca/secrets/key", 0o640, 0, "key"), Pass,
			"3 files"},
		{kindKeyDirectory, "open key in a closed directory", directory("/ca/secrets/key", 0o644, 999, "key"), Fail,
			"/ca/secrets/key is 0644"},
		{kindKeyDirectory, "key of another user", directory("/ca/secrets/key", 0o600, 1000, "key"), Fail, "1000:1000"},
		{kindKeyDirectory, "open password", directory("/ca/password", 0o644, 0, "x"), Fail, "/ca/password is 0644"},
		{kindKeyDirectory, "writable directory", directory("/ca/certs", dir|0o777, 0, ""), Fail, "/ca/certs is 0777"},
		{kindKeyDirectory, "empty", func(_ *testing.T, h *fakeHost) any {
			h.put("/ca", dir|0o700, 0, 0, "")
			return keyDirectory{Path: "/ca", User: "root"}
		}, Fail, "nothing in /ca"},
		{kindKeyDirectory, "absent", func(*testing.T, *fakeHost) any { return keyDirectory{Path: "/ca"} }, Fail,
			"does not exist"},
	}
}

// TestPoolDirectory: a pool's own directory may be looked into, as long as the volume is closed itself.
func TestPoolDirectory(t *testing.T) {
	v := volume
	v.Path = "/pool/subvol"
	h := newHost(t)
	h.put("/", fs.ModeDir|0o755, 0, 0, "")
	h.put("/pool", fs.ModeDir|0o755, 0, 0, "")
	if r := runVolumeParents(t.Context(), h, Check{}, v); r.Status != Pass {
		t.Errorf("got %+v", r)
	}
	v.Mode = 0o755
	if r := runVolumeParents(t.Context(), h, Check{}, v); r.Status != Fail {
		t.Errorf("got %+v", r)
	}
}

// A key may be a link to the version in use: what counts is the file at its end.
func TestFollow(t *testing.T) {
	h, dir := &host.Local{}, t.TempDir()
	for link, target := range map[string]string{"key": "d/now/key", "d/now": "v1", "abs": dir + "/d/v1/key",
		"loop": "loop"} {
		if err := os.MkdirAll(filepath.Join(dir, "d", "v1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	want := filepath.Join(dir, "d", "v1", "key")
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key", "abs", "d/v1/key", "d/../key"} {
		if got, err := host.Follow(h, filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %s", name, got, err, want)
		}
	}
	if got, err := host.Follow(h, filepath.Join(dir, "loop")); err == nil {
		t.Errorf("a loop leads to %q", got)
	}
}
