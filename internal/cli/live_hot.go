package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// copyLimit is for what may be large.
const copyLimit = 15 * time.Minute

// others are the guests that are not restarted.
func (m *mover) others() []guest {
	return slices.DeleteFunc(slices.Clone(m.old.guests), func(g guest) bool { return g.id == m.old.ca })
}

// joined is whether every running container was brought to its new definition.
func (m *mover) joined(ctx context.Context) (bool, error) {
	for _, g := range m.others() {
		pid, err := m.inside(g.id).InitPID(ctx, m.host)
		if err != nil {
			return false, err
		}
		if pid == 0 || m.current(g, pid) && m.sees(g, pid) {
			continue
		}
		return false, nil
	}
	return true, nil
}

// current is whether a running init counts as started with the present definition.
func (m *mover) current(g guest, pid int) bool {
	raw, err := m.host.ReadFile(filepath.Join(g.home, "config"))
	digest := provider.Definition(string(raw))
	if err != nil || digest == "" {
		return false
	}
	// gone: it was started with nothing
	environ, _ := m.host.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	return provider.TakenOver(m.host, g.home, pid) == digest ||
		strings.Contains(string(environ), provider.DefinitionVar+"="+digest)
}

// wants are the mounts of a container's new definition.
func (m *mover) wants(g guest) []spec.Mount {
	want, _ := specOf[spec.Container](m.objects, object.NewAddress(spec.KindContainer, g.id))
	if want.Guest == nil {
		return want.Mounts
	}
	out := slices.Clone(want.Guest.Binds)
	for _, v := range want.Guest.Volumes {
		out = append(out, spec.Mount{Target: v.MountPoint})
	}
	return out
}

func (m *mover) sees(g guest, pid int) bool {
	return !slices.ContainsFunc(m.wants(g), func(v spec.Mount) bool { return !m.shows(pid, v) })
}

// shows is whether a container sees a volume where it should.
func (m *mover) shows(pid int, v spec.Mount) bool {
	want, err := m.host.Lstat(v.Source)
	if err != nil {
		return false
	}
	have, err := m.host.Lstat(filepath.Join("/proc", strconv.Itoa(pid), "root", v.Target))
	return err == nil && have.Inode == want.Inode && have.Device == want.Device
}

// join mounts the new volumes into running containers, names their interfaces as the definitions do, and says that they
// were brought to them. What they had mounted stays for now.
func (m *mover) join(ctx context.Context) error {
	for _, g := range m.others() {
		pid, err := m.inside(g.id).InitPID(ctx, m.host)
		if err != nil {
			return err
		}
		if pid == 0 || m.current(g, pid) && m.sees(g, pid) {
			continue
		}
		for _, v := range m.wants(g) {
			if err := m.mountInto(ctx, g, pid, v); err != nil {
				return err
			}
		}
		if err := m.namePort(ctx, g, pid); err != nil {
			return err
		}
		raw, err := m.host.ReadFile(filepath.Join(g.home, "config"))
		if err != nil {
			return err
		}
		if err := provider.TakeOver(m.host, g.home, pid, provider.Definition(string(raw))); err != nil {
			return err
		}
		m.notes = append(m.notes, fmt.Sprintf("container %s runs on with the limits and the isolation it was started "+
			"with; %s gives it the new ones", g.id, m.again("restart "+g.id)))
	}
	return nil
}

func (m *mover) mountInto(ctx context.Context, g guest, pid int, v spec.Mount) error {
	if m.shows(pid, v) {
		return nil
	}
	if _, err := m.inside(g.id).Attach(ctx, m.host, host.Command{Mutates: true}, "mkdir", "-p", v.Target); err != nil {
		return err
	}
	argv := []string{m.machine.Binary.Path, "agent", "mount", strconv.Itoa(pid), v.Source, v.Target}
	_, err := m.host.Run(ctx, host.Command{Argv: argv, Mutates: true})
	return err
}

// namePort gives a container's interface the MAC, and the hypervisor's end of it the name, that its definition has:
// from the name on nothing else passes there.
func (m *mover) namePort(ctx context.Context, g guest, pid int) error {
	want, ok := specOf[spec.Container](m.objects, object.NewAddress(spec.KindContainer, g.id))
	if !ok || want.Interface.Port == "" {
		return nil
	}
	argv := []string{"nsenter", "--net=" + filepath.Join("/proc", strconv.Itoa(pid), "ns", "net"), "ip", "-j", "link",
		"show", "dev", want.Interface.Name}
	res, err := m.host.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return err
	}
	var in []struct {
		Peer int    `json:"link_index"`
		MAC  string `json:"address"`
	}
	if err := json.Unmarshal(res.Stdout, &in); err != nil || len(in) != 1 || in[0].Peer == 0 {
		return host.Misread(argv, res, errors.Join(err, errors.New("no pair of interfaces")))
	}
	if mac := want.Interface.MAC; mac != "" && mac != in[0].MAC {
		set := append(argv[:2:2], "ip", "link", "set", "dev", want.Interface.Name, "address", mac)
		if _, err := m.host.Run(ctx, host.Command{Argv: set, Mutates: true}); err != nil {
			return err
		}
		if err := m.meetAgain(ctx, g.id); err != nil {
			return err
		}
	}
	res, err = m.host.Run(ctx, host.Command{Argv: []string{"ip", "-j", "link"}})
	if err != nil {
		return err
	}
	var all []struct {
		Index int    `json:"ifindex"`
		Name  string `json:"ifname"`
	}
	if err := json.Unmarshal(res.Stdout, &all); err != nil {
		return err
	}
	for _, l := range all {
		if l.Index == in[0].Peer && l.Name != want.Interface.Port {
			if err := m.rename(ctx, l.Name, want.Interface.Port); err != nil {
				return err
			}
		}
	}
	if want.Interface.MAC == in[0].MAC {
		return nil
	}
	// The bridge remembers the former MAC for five minutes, and it is nobody's now.
	forget := []string{"ip", "link", "set", "dev", want.Interface.Port, "type", "bridge_slave", "fdb_flush"}
	_, err = m.host.Run(ctx, host.Command{Argv: forget, Mutates: true})
	return err
}

// rename does it while the interface is up where the kernel can (6.2), else takes it down for a moment.
func (m *mover) rename(ctx context.Context, from, to string) error {
	_, err := m.host.Run(ctx, host.Command{Argv: []string{"ip", "link", "set", "dev", from, "name", to}, Mutates: true})
	if err == nil {
		return nil
	}
	lines := fmt.Sprintf("link set dev %s down\nlink set dev %s name %s\nlink set dev %s up\n", from, from, to, to)
	_, err = m.host.Run(ctx, host.Command{Argv: []string{"ip", "-batch", "-"}, Stdin: []byte(lines), Mutates: true})
	return err
}

// stale are the old mounts that the new definition has nothing in the place of.
func (m *mover) stale(g guest) []string {
	var out []string
	for _, o := range g.mounts {
		if !slices.ContainsFunc(m.wants(g), func(v spec.Mount) bool { return v.Target == o.Target }) &&
			!slices.Contains(out, o.Target) {
			out = append(out, o.Target)
		}
	}
	return out
}

// mountedAt are the places of a running container where something is mounted.
func (m *mover) mountedAt(pid int) []string {
	all, _ := provider.MountsIn(m.host, pid) // gone: nothing is mounted
	var out []string
	for _, one := range all {
		out = append(out, one.Point)
	}
	return out
}

func (m *mover) unmounted(ctx context.Context) (bool, error) {
	for _, g := range m.old.guests {
		pid, err := m.inside(g.id).InitPID(ctx, m.host)
		if err != nil {
			return false, err
		}
		at := m.mountedAt(pid)
		if slices.ContainsFunc(m.stale(g), func(target string) bool { return slices.Contains(at, target) }) {
			return false, nil
		}
	}
	return true, nil
}

func (m *mover) unmount(ctx context.Context) error {
	for _, g := range m.old.guests {
		pid, err := m.inside(g.id).InitPID(ctx, m.host)
		if err != nil {
			return err
		}
		at := m.mountedAt(pid)
		for _, target := range slices.Backward(m.stale(g)) {
			if !slices.Contains(at, target) {
				continue
			}
			argv := []string{m.machine.Binary.Path, "agent", "unmount", strconv.Itoa(pid), target}
			if _, err := m.host.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeReady brings in what the switch will need, so that it takes no longer than it must.
func (m *mover) makeReady(ctx context.Context) error {
	if err := m.meetAgain(ctx, m.old.ca); err != nil {
		return err
	}
	return m.applyAll(ctx, m.early(m.running()))
}

// meetAgain lets the hypervisor and the other containers forget the hardware address of a container that was restarted:
// lxc makes another one at each start where the definition has none, and they would send to the old one for up to a
// minute.
func (m *mover) meetAgain(ctx context.Context, id string) error {
	address, ok := addressOf(m.objects, id)
	if !ok {
		return nil
	}
	flush := []string{"ip", "neighbour", "flush", "to", address.String()}
	if _, err := m.host.Run(ctx, host.Command{Argv: flush, Mutates: true}); err != nil {
		return err
	}
	for _, g := range m.old.guests {
		pid, err := m.at(g).InitPID(ctx, m.host)
		if err != nil {
			return err
		}
		if pid == 0 || g.id == id {
			continue
		}
		argv := append([]string{"nsenter", "--net=" + filepath.Join("/proc", strconv.Itoa(pid), "ns", "net")}, flush...)
		if _, err := m.host.Run(ctx, host.Command{Argv: argv, Mutates: true}); err != nil {
			return err
		}
	}
	return nil
}

// standIn puts the certificate that the gateway serves now where the new one will be, so that there is no moment
// without one. Its key leaked, and is replaced at once.
func (m *mover) standIn(ctx context.Context) error {
	n, ok := specOf[spec.Nginx](m.objects, object.NewAddress(spec.KindNginx, m.old.gateway, spec.NginxBase))
	address, okAddress := addressOf(m.objects, m.old.gateway)
	if !ok || !okAddress || len(n.Sites) == 0 {
		return nil
	}
	in := m.inside(m.old.gateway)
	if m.has(ctx, m.old.gateway, n.Certificate) {
		return nil
	}
	chain, err := m.served(ctx, net.JoinHostPort(address.String(), "443"), n.Sites[0].Name)
	if err != nil {
		m.notes = append(m.notes, fmt.Sprintf("the gateway served no certificate before: %v", err))
		return nil
	}
	key, err := m.keyOf(chain[0])
	if err != nil || key == nil {
		return err
	}
	var text bytes.Buffer
	for _, c := range chain {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{n.Key, key}, {n.Certificate, text.Bytes()}} {
		const put = `umask 077; mkdir -p "${1%/*}"; cat >"$1.new" && mv "$1.new" "$1"`
		if _, err := in.Attach(ctx, m.host, host.Command{Stdin: f.data, Mutates: true}, "sh", "-c", put, "sh",
			f.path); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) served(ctx context.Context, address, name string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := m.host.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// Whatever it is, it is what clients take now.
	t := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return t.ConnectionState().PeerCertificates, nil
}

// keyOf is the key of a certificate, as it lay in the shared directory; nil: it was not there.
func (m *mover) keyOf(c *x509.Certificate) ([]byte, error) {
	found, err := m.inventory()
	if err != nil {
		return nil, err
	}
	public, ok := c.PublicKey.(*ecdsa.PublicKey)
	for _, k := range found.keys {
		if ok && public.Equal(k.public) || !ok && publicDigest(k.public) == publicDigest(c.PublicKey) {
			return k.text, nil
		}
	}
	return nil, nil
}
