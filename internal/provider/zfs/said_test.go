package zfs_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/zfs"
)

// These need no ZFS: a host says what OpenZFS 2.1.11 said.

// sayer is a host with one dataset, mounted or not.
type sayer struct {
	host.Host
	out, errs, mounts string
}

func (s *sayer) Run(_ context.Context, c host.Command) (host.Result, error) {
	res := host.Result{Stdout: []byte(s.out), Stderr: []byte(s.errs)}
	if s.errs != "" {
		return res, &host.RunError{Argv: c.Argv, Output: s.errs, Code: 1, Cause: errors.New("exit status 1")}
	}
	return res, nil
}

func (s *sayer) ReadFile(string) ([]byte, error) { return []byte(s.mounts), nil }

func (s *sayer) ReadDir(path string) ([]string, error) {
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (s *sayer) Lstat(path string) (host.Meta, error) {
	if strings.HasSuffix(path, "/103") {
		return host.Meta{Mode: fs.ModeDir | 0o710, GID: 100000}, nil
	}
	return host.Meta{Mode: fs.ModeDir | 0o700, UID: 100000, GID: 100000, Inode: 34}, nil
}

const (
	path103 = "/var/lib/phoenix/volumes/103/ssl"
	name103 = "tank/phoenix-103-ssl"
	mounted = "36 24 0:34 / " + path103 + ` rw,relatime shared:1 - zfs ` + name103 + " rw,xattr,noacl\n"
)

// got is what zfs get prints of a pool with one volume of 1 GiB, with some lines replaced.
func got(replace ...string) string {
	text := `tank	type	filesystem	-
tank	refquota	0	default
tank	referenced	98304	-
tank	mountpoint	none	local
tank	canmount	on	default
tank	phoenix:volume	-	-
tank	phoenix:path	-	-
NAME	type	filesystem	-
NAME	refquota	1073741824	local
NAME	referenced	314572800	-
NAME	mountpoint	PATH	local
NAME	canmount	noauto	local
NAME	phoenix:volume	103/ssl	local
NAME	phoenix:path	PATH	local
`
	text = strings.NewReplacer("NAME", name103, "PATH", path103).Replace(text)
	return strings.NewReplacer(replace...).Replace(text)
}

func sslOf(gib int64) object.Object {
	raw, err := json.Marshal(spec.Volume{Container: "103", Name: "ssl", Pool: "tank", Path: path103,
		MountPoint: "/etc/step-ca/ssl", SizeBytes: gib << 30,
		Mode: 0o700, IDMap: spec.IDMap{Base: 100000, Count: 65536}})
	if err != nil {
		panic(err)
	}
	return object.Object{Address: "volume/103/ssl", Provider: "zfs", Spec: raw}
}

func TestWhatIsSeen(t *testing.T) {
	for what, c := range map[string]struct {
		host   sayer
		gib    int64
		action plan.Action
		fields string
		reason string
	}{
		"true":      {sayer{out: got(), mounts: mounted}, 1, plan.None, "", ""},
		"absent":    {sayer{out: "tank\ttype\tfilesystem\t-\n"}, 1, plan.Create, "", "does not exist"},
		"unmounted": {sayer{out: got()}, 1, plan.Update, "mounted", ""},
		"to grow":   {sayer{out: got(), mounts: mounted}, 2, plan.Update, "refquota", ""},
		"no limit":  {sayer{out: got(), mounts: mounted}, 0, plan.Update, "refquota", ""},
		"used up": {sayer{out: got("314572800", "3221225472", "1073741824", "4294967296"), mounts: mounted}, 1,
			plan.Update, "refquota", "will be refused: 3072.0 MiB are used"},
		"mountable": {sayer{out: got("noauto", "on"), mounts: mounted}, 1, plan.Update, "canmount", ""},
		"moved away": {sayer{out: got(path103+"\tlocal\n"+name103+"\tcanmount", "/mnt\tlocal\n"+name103+"\tcanmount")},
			1, plan.Update, "mountpoint mounted", ""},
	} {
		obs, err := zfs.New().Observe(context.Background(), &c.host, sslOf(c.gib))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var fields []string
		for _, f := range obs.Delta.Fields {
			fields = append(fields, f.Path)
		}
		if obs.Delta.Action != c.action || strings.Join(fields, " ") != c.fields ||
			!strings.Contains(obs.Delta.Reason, c.reason) {
			t.Errorf("%s: %+v", what, obs.Delta)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		host sayer
		err  string
		hint string
	}{
		"no mark": {sayer{out: got("103/ssl\tlocal", "-\t-")}, "is not phoenix's",
			"zfs set phoenix:volume=103/ssl phoenix:path=" + path103 + " " + name103},
		"inherited": {sayer{out: got("103/ssl\tlocal", "103/ssl\tinherited from tank")}, "is not phoenix's",
			"zfs set"},
		"another's": {sayer{out: got("103/ssl", "101/ssl")}, "is marked as 101/ssl", "zfs set"},
		"another root": {sayer{out: got("phoenix:path\t"+path103, "phoenix:path\t/other")},
			"at /other of another phoenix root", "another dataset"},
		"no pool": {sayer{errs: "cannot open 'tank': dataset does not exist\n"}, "pool tank is not here now",
			"zpool import"},
		"no module": {sayer{errs: "The ZFS modules cannot be auto-loaded.\n"}, "auto-loaded", "modprobe zfs"},
		"covered": {sayer{out: got(), mounts: "36 24 8:1 / " + path103 + " rw - ext4 /dev/sda1 rw\n"},
			"/dev/sda1 is mounted at", "unmount it"},
	} {
		_, err := zfs.New().Observe(context.Background(), &c.host, sslOf(1))
		if !provider.IsPermanent(err) || !strings.Contains(err.Error(), c.err) ||
			!strings.Contains(provider.Hint(err), c.hint) {
			t.Errorf("%s: %v (%s)", what, err, provider.Hint(err))
		}
	}
	for what, out := range map[string]string{"three columns": "tank\ttype\tfilesystem\n",
		"no number": got("1073741824", "1G")} {
		if _, err := zfs.New().Observe(context.Background(), &sayer{out: out, mounts: mounted}, sslOf(1)); err == nil ||
			!strings.Contains(err.Error(), "not understood") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDecode(t *testing.T) {
	good := string(sslOf(1).Spec)
	for change, bad := range map[string]bool{
		"tank→tank": false, "tank→tank/a/b": false, "tank→": true, "tank→-o": true, "tank→tank/": true,
		"tank→tank a": true,
		`"ssl"→"s@l"`: true, `"ssl"→"s/l"`: true, "volumes→a\\tb": true,
	} {
		old, new, _ := strings.Cut(change, "→")
		if got := zfs.New().Decode(json.RawMessage(strings.Replace(good, old, new, 1))).HasErrors(); got != bad {
			t.Errorf("%s: errors %t, want %t", change, got, bad)
		}
	}
}
