package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bare machine is a container here: Debian with systemd, and nothing that phoenix calls. It has no network; the
// packages come from an archive of empty ones in it.
const emptyArchive = `mkdir -p /root/archive && cd /root/archive
for name; do
	mkdir -p $name/DEBIAN
	printf 'Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: test <test@example.org>\nDescription: empty\n' $name >$name/DEBIAN/control
	dpkg-deb --build --root-owner-group $name $name.deb >/dev/null
	{ cat $name/DEBIAN/control; printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\n\n' $name.deb $(stat -c %s $name.deb) $(sha256sum <$name.deb | cut -d' ' -f1); } | sed 's/\.deb\.deb/.deb/'
done >Packages
chmod 755 /root
mv /etc/apt/sources.list /root/sources.list
echo "deb [trusted=yes] file:/root/archive ./" >/etc/apt/sources.list`

// setsUp runs phoenix setup in a container that is thrown away.
func (h *Hypervisor) setsUp(t *testing.T, id string) {
	h.Push(h.bin, id, "/root/phoenix")
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		f, err := os.Open(filepath.Join(h.Config, name))
		if err != nil {
			t.Fatal(err)
		}
		h.Attach(id, f, "sh", "-c", "mkdir -p /etc/phoenix && cat >/etc/phoenix/"+name).Want(0)
		f.Close()
	}
	said := h.Attach(id, nil, "/root/phoenix", "setup").Want(0)
	for _, want := range []string{"package/hypervisor", "subid/1879048192", "network/phxbr0",
		"file/hypervisor/usr/local/bin/phoenix", "unit/hypervisor/phoenix.service", "mmdebstrap"} {
		if !strings.Contains(said.Stdout, want) {
			t.Errorf("%s is not said:\n%s", want, said)
		}
	}
	h.Attach(id, nil, "sh", "-c", "! grep -q root: /etc/subuid && ! test -e /usr/local/bin/phoenix").Want(0)

	var doc struct {
		Changes []struct {
			Address string
			Fields  []struct{ Path string }
		}
		Mutations int
	}
	h.Attach(id, nil, "/root/phoenix", "setup", "-o", "json").Want(0).JSON(&doc)
	var packages []string
	for _, c := range doc.Changes {
		for _, f := range c.Fields {
			if c.Address == "package/hypervisor" {
				packages = append(packages, f.Path)
			}
		}
	}
	h.Attach(id, nil, append([]string{"sh", "-ec", emptyArchive, "sh"}, packages...)...).Want(0)

	h.Attach(id, nil, "/root/phoenix", "setup", "--yes").Want(0)
	h.Attach(id, nil, "sh", "-exc", `grep -q ^root:1879048192: /etc/subuid
grep -q ^root:1879048192: /etc/subgid
cmp /root/phoenix /usr/local/bin/phoenix
ip -o address show dev phxbr0 | grep -q ' 10\.86\.17\.1/24 '
[ "$(systemctl is-enabled phoenix.service)" = enabled ] && ! systemctl is-active phoenix.service
systemd-analyze verify phoenix.service`).Want(0)
	for _, phoenix := range []string{"/root/phoenix", "/usr/local/bin/phoenix"} {
		h.Attach(id, nil, phoenix, "setup", "--yes", "-o", "json").Want(0).JSON(&doc)
		if len(doc.Changes) > 0 || doc.Mutations > 0 {
			t.Errorf("a second setup changes %+v", doc)
		}
	}
	h.unsetsUp(t, id)
}

// unsetsUp takes back what setup did, and nothing else: lines of others, what was edited, packages and the
// configuration stay.
func (h *Hypervisor) unsetsUp(t *testing.T, id string) {
	const left = `grep -q ^root:1879048192: /etc/subuid && ip link show dev phxbr0 && test -e /etc/systemd/system/phoenix.service && test -e /usr/local/bin/phoenix`
	h.Attach(id, nil, "sh", "-c",
		"echo somebody:700000:65536 >>/etc/subuid; systemctl start --no-block phoenix.service").Want(0)
	said := h.Attach(id, nil, "/root/phoenix", "setup", "--remove").Want(0)
	for _, want := range []string{"removable unit/hypervisor/phoenix.service", "removable network/phxbr0",
		"removable file/hypervisor/etc/subuid",
		"removable file/hypervisor/usr/local/bin/phoenix", "nothing was removed", "packages stay", "mmdebstrap",
		"the configuration stays: /etc/phoenix"} {
		if !strings.Contains(said.Stdout, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	h.Attach(id, nil, "sh", "-exc", left).Want(0)
	h.Attach(id, nil, "/usr/local/bin/phoenix", "setup", "--remove", "--yes").Want(0)
	h.Attach(id, nil, "sh", "-exc",
		`! grep root: /etc/subuid /etc/subgid && grep -qx somebody:700000:65536 /etc/subuid &&
! ip link show dev phxbr0 && ! test -e /usr/local/bin/phoenix && ! test -e /etc/systemd/system/phoenix.service &&
! test -e /etc/sysctl.d/99-phoenix.conf && ! systemctl is-active phoenix.service && ! systemctl is-enabled phoenix.service &&
! test -e /var/lib/phoenix-setup.json && dpkg-query --show mmdebstrap && test -e /etc/phoenix/phoenix_lxc_configs.json`).Want(0)
	var doc struct {
		Objects   []string
		Mutations int
	}
	h.Attach(id, nil, "/root/phoenix", "setup", "--remove", "--yes", "-o", "json").Want(0).JSON(&doc)
	if len(doc.Objects) > 0 || doc.Mutations > 0 {
		t.Errorf("a second one removes %+v", doc)
	}
}
