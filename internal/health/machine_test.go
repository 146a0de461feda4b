package health

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

const listRuleset = "nft --stateless --terse list ruleset"

// recorded are the rules that a program wrote, as nft lists them, after some changes (old, new).
func recorded(t *testing.T, name string, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "netfilter", "testdata", name+".nft"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(changes...).Replace(string(text))
}

const uplinkRoute = "Iface\tDestination\neth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"

func rulesCases() []runCase {
	site := rulesOfOthers{Bridge: "vmbr0", Address: "10.0.0.13/24", Resolver: true}
	with := func(p rulesOfOthers, filtered, name string, changes ...string) func(*testing.T, *fakeHost) any {
		return func(t *testing.T, h *fakeHost) any {
			h.runs[listRuleset] = fakeRun{}
			if name != "" {
				h.runs[listRuleset] = fakeRun{out: recorded(t, name, changes...)}
			}
			h.put("/proc/sys/net/bridge/bridge-nf-call-iptables", 0o644, 0, 0, filtered+"\n")
			h.put("/proc/net/route", 0o444, 0, 0, uplinkRoute)
			return p
		}
	}
	outside := site
	outside.Outside = true
	return []runCase{
		{kindOtherRules, "no firewall", with(outside, "1", ""), Pass, "4 kinds of packets of vmbr0"},
		{kindOtherRules, "Docker, and bridges left alone", with(site, "0", "docker"), Pass, "2 kinds of packets"},
		{kindOtherRules, "Docker, and br_netfilter", with(site, "1", "docker"), Fail,
			"Docker stops containers on vmbr0 from reaching each other | chain FORWARD of table ip filter has policy drop"},
		{kindOtherRules, "Docker, and access", with(outside, "0", "docker"), Fail,
			"Docker stops containers on vmbr0 from reaching the outside by eth0"},
		{kindOtherRules, "allowed in DOCKER-USER", with(outside, "1", "docker", "chain DOCKER-USER {\n",
			"chain DOCKER-USER {\n\t\tiifname \"vmbr0\" counter accept\n"), Pass, "4 kinds"},
		{kindOtherRules, "ufw", with(site, "0", "ufw"), Fail,
			"ufw stops containers from asking the resolver (udp port 53 of 10.0.0.13)"},
		{kindOtherRules, "ufw lets questions in", with(site, "0", "ufw", "chain ufw-user-input {\n",
			"chain ufw-user-input {\n\t\tiifname \"vmbr0\" udp dport 53 counter accept\n\t\t"+
				"iifname \"vmbr0\" tcp dport 53 counter accept\n"), Pass, "2 kinds"},
		{kindOtherRules, "ufw lets half of it in", with(site, "0", "ufw", "chain ufw-user-input {\n",
			"chain ufw-user-input {\n\t\tiifname \"vmbr0\" udp dport 53 counter accept\n"), Fail, "(tcp port 53"},
		{kindOtherRules, "firewalld", with(site, "0", "firewalld"), Fail,
			"firewalld stops containers from asking the resolver"},
		{kindOtherRules, "a person's rules", with(site, "0", "firewalld", "table inet firewalld",
			"table inet own"), Fail, "a firewall of this machine stops"},
		{kindOtherRules, "unreadable", func(_ *testing.T, h *fakeHost) any {
			h.runs[listRuleset] = fakeRun{err: "Operation not permitted", code: 1}
			return site
		}, Fail, "Operation not permitted"},
	}
}

// Each firewall has its own command for what it stops.
func TestAllowFix(t *testing.T) {
	for _, x := range []struct{ listing, old, new, filtered, want string }{
		{"docker", "", "", "1", "iptables -I DOCKER-USER -i vmbr0 -o vmbr0 -j ACCEPT"},
		{"docker", "DOCKER-USER", "OTHER", "1", "iptables -I FORWARD -i vmbr0 -o vmbr0 -j ACCEPT"},
		{"ufw", "", "", "0", "ufw allow in on vmbr0 to any port 53"},
		{"firewalld", "", "", "0", "firewall-cmd --permanent --zone=trusted --add-interface=vmbr0 && firewall-cmd --reload"},
		{"firewalld", "table inet firewalld", "table inet own", "0",
			"nft insert rule inet own filter_INPUT iifname vmbr0 meta l4proto '{ tcp, udp }' th dport 53 accept"},
		{"ufw", "ufw-", "own-", "0", "iptables -I INPUT -i vmbr0 -p udp --dport 53 -j ACCEPT"},
	} {
		h := newHost(t)
		h.put("/proc/sys/net/bridge/bridge-nf-call-iptables", 0o644, 0, 0, x.filtered)
		h.runs[listRuleset] = fakeRun{out: recorded(t, x.listing, x.old, x.new)}
		c := Check{}
		r := runOtherRules(t.Context(), h, c, rulesOfOthers{Bridge: "vmbr0", Address: "10.0.0.13/24", Resolver: true})
		if !strings.HasPrefix(r.Fix, x.want) || strings.Contains(r.Fix, "phoenix apply") {
			t.Errorf("%s: %q, want %q", x.listing, r.Fix, x.want)
		}
	}
}

const mountRoot = "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"

func storageCases() []runCase {
	with := func(creates bool, mounts, statfs string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.put("/proc/self/mountinfo", 0o444, 0, 0, mountRoot+mounts)
			h.put("/data", 0o755, 0, 0, "")
			h.runs["stat -f -c %a %S %d %c -- /data"] = fakeRun{out: statfs + "\n"}
			return storageParams{Directories: []string{"/data/phoenix/lxc"}, Creates: creates}
		}
	}
	on := func(options, super string) string {
		return "2 1 8:2 / /data rw," + options + " shared:1 - xfs /dev/sdb1 rw," + super + "\n"
	}
	const much = "1000000 4096 900000 1000000"
	return []runCase{
		{kindStorage, "room", with(true, on("relatime", "x"), much), Pass, "/data/phoenix/lxc: xfs on /data, 3906 MiB free"},
		{kindStorage, "noexec", with(false, on("noexec", "x"), much), Fail,
			"/data is mounted noexec: no program of a container runs | /data/phoenix/lxc is on /data (/dev/sdb1, xfs)"},
		{kindStorage, "nosuid", with(false, on("nosuid", "x"), much), Fail, "/data is mounted nosuid"},
		{kindStorage, "read-only mount", with(false, strings.Replace(on("x", "x"), " rw,x ", " ro,x ", 1), much), Fail,
			"/data is mounted ro"},
		{kindStorage, "read-only after an error", with(false, strings.Replace(on("x", "x"), "sdb1 rw", "sdb1 ro", 1), much),
			Fail, "/data is mounted ro: nothing can be written"},
		{kindStorage, "another mount", with(true, strings.Replace(on("noexec", "x"), "/data", "/database", 1), much), Pass,
			"ext4 on /"},
		{kindStorage, "hidden by a later mount", with(true, on("noexec", "x")+on("relatime", "x"), much), Pass, "xfs"},
		{kindStorage, "full", with(false, "", "100 4096 900000 1000000"), Fail, "/ is full: 0 MiB are free, 32 are needed"},
		{kindStorage, "too full for a container", with(true, "", "20000 4096 900000 1000000"), Fail,
			"/ is full: 78 MiB are free, 512 are needed"},
		{kindStorage, "full enough for what runs", with(false, "", "20000 4096 900000 1000000"), Pass, "78 MiB free"},
		{kindStorage, "no inodes", with(false, "", "1000000 4096 3 1000000"), Fail, "/ has no inodes left: 3 are free"},
		{kindStorage, "without inodes of its own", with(true, "", "1000000 4096 0 0"), Pass, "free"},
		{kindStorage, "no statfs", with(true, "", "none"), Fail, "stat says"},
	}
}

// socketRow is a line of /proc/net/udp or tcp, whose columns from the third on are the state and, as the tenth, inode.
func socketRow(address, state, inode string) string {
	return fmt.Sprintf(" 1: %s 00000000:0000 %s 0:0 0:0 0 0 0 %s 2 0\n", address, state, inode)
}

func portCases() []runCase {
	const all, ours, libvirt, loop = "00000000:0035", "0D00000A:0035", "017AA8C0:0035", "3500007F:0035"
	with := func(table, address, comm, cmdline, unit string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			for _, name := range []string{"tcp", "udp"} {
				h.put("/proc/net/"+name, 0o444, 0, 0, "head\n")
			}
			state := map[string]string{"tcp": "0A", "udp": "07"}[table]
			h.put("/proc/net/"+table, 0o444, 0, 0, "head\n"+socketRow(address, state, "77"))
			for name, text := range map[string]string{"": "", "/fd": "", "/fd/3": "", "/comm": comm + "\n",
				"/cmdline": strings.ReplaceAll(cmdline, " ", "\x00") + "\x00", "/cgroup": "0::/system.slice/" + unit + "\n"} {
				h.put("/proc/12"+name, 0o444, 0, 0, text)
			}
			h.put("/proc", 0o555, 0, 0, "")
			h.links["/proc/12/fd/3"] = "socket:[77]"
			return portParams{Listen: []string{"10.0.0.13"}, Dir: "/var/lib/phoenix/dns", Bridge: "vmbr0"}
		}
	}
	return []runCase{
		{kindPort53, "its own", with("udp", ours, "dnsmasq",
			"dnsmasq --conf-file=/var/lib/phoenix/dns/vmbr0-1.conf", ""), Pass, "10.0.0.13"},
		{kindPort53, "systemd-resolved at its place", with("udp", loop, "systemd-resolve",
			"/lib/systemd/systemd-resolved", "systemd-resolved.service"), Pass, "free"},
		{kindPort53, "libvirt at its place", with("udp", libvirt, "dnsmasq", "dnsmasq", "libvirtd.service"), Pass, "free"},
		{kindPort53, "dnsmasq everywhere", with("udp", all, "dnsmasq", "/usr/sbin/dnsmasq -x /run/dnsmasq/dnsmasq.pid",
			"dnsmasq.service"), Fail,
			"is taken by dnsmasq (process 12, dnsmasq.service) | udp port 53 at all addresses: /usr/sbin/dnsmasq -x"},
		{kindPort53, "bind at the address", with("tcp", ours, "named", "/usr/sbin/named -f", "named.service"), Fail,
			"taken by named (process 12, named.service) | tcp port 53 at 10.0.0.13"},
		{kindPort53, "another site's", with("tcp", ours, "dnsmasq", "dnsmasq --conf-file=/srv/phx/dns/vmbr0-1.conf", ""),
			Fail, "dnsmasq (process 12)"},
		{kindPort53, "nobody known", func(t *testing.T, h *fakeHost) any {
			p := with("tcp", all, "", "", "")(t, h)
			delete(h.links, "/proc/12/fd/3")
			return p
		}, Fail, "a process that cannot be found"},
		{kindPort53, "no table", func(*testing.T, *fakeHost) any { return portParams{} }, Fail, "not known"},
	}
}

// Each resolver has its own command by which it leaves the address alone.
func TestFreeFix(t *testing.T) {
	p := portParams{Listen: []string{"10.0.0.13"}, Dir: "/var/lib/phoenix/dns", Bridge: "vmbr0"}
	for want, set := range map[string]func(*testing.T, *fakeHost) any{
		"restart dnsmasq.service; or, if nobody needs it: systemctl disable --now dnsmasq.service": held("dnsmasq",
			"/usr/sbin/dnsmasq", "dnsmasq.service"),
		"virsh net-destroy lab && virsh net-autostart --disable lab": held("dnsmasq",
			"/usr/sbin/dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/lab.conf --leasefile-ro", "libvirtd.service"),
		"take DNSStubListenerExtra= out of": held("systemd-resolve", "/lib/systemd/systemd-resolved",
			"systemd-resolved.service"),
		"systemctl disable --now lxc-net.service":               held("dnsmasq", "dnsmasq -i lxcbr0", "lxc-net.service"),
		"write listen-on { !10.0.0.13; any; }":                  held("named", "/usr/sbin/named", "named.service"),
		"interface: 127.0.0.1":                                  held("unbound", "/usr/sbin/unbound -d", "unbound.service"),
		"docker ps --filter publish=53":                         held("docker-proxy", "docker-proxy", "docker.service"),
		"systemctl disable --now AdGuardHome.service":           held("AdGuardHome", "AdGuardHome", "AdGuardHome.service"),
		"it belongs to a site of another --root":                held("dnsmasq", "dnsmasq --conf-file=/x/dns/b.conf", ""),
		"kill 12, or have it listen at another address than 10": held("perl", "perl x", ""),
	} {
		h := newHost(t)
		set(t, h)
		r := runPort53(t.Context(), h, Check{}, p)
		if !strings.Contains(r.Fix, want) || strings.Contains(r.Fix, "phoenix apply") {
			t.Errorf("%q, want %q", r.Fix, want)
		}
	}
}

// held is port 53 of all addresses in a program's hands.
func held(comm, cmdline, unit string) func(*testing.T, *fakeHost) any {
	return func(t *testing.T, h *fakeHost) any {
		for _, rc := range portCases() {
			if rc.name == "dnsmasq everywhere" {
				rc.set(t, h)
			}
		}
		h.put("/proc/12/comm", 0o444, 0, 0, comm+"\n")
		h.put("/proc/12/cmdline", 0o444, 0, 0, strings.ReplaceAll(cmdline, " ", "\x00")+"\x00")
		h.put("/proc/12/cgroup", 0o444, 0, 0, "0::/system.slice/"+unit+"\n")
		if unit == "" {
			h.put("/proc/12/cgroup", 0o444, 0, 0, "0::/user.slice/user-0.slice/session-1.scope\n")
		}
		return nil
	}
}

func addressCases() []runCase {
	with := func(address, links, routes string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.runs["ip -4 -j addr show"] = fakeRun{out: "[" + links + "]"}
			h.runs["ip -4 -j route show"] = fakeRun{out: "[" + routes + "]"}
			return spec.Network{Bridge: "vmbr0", Address: address}
		}
	}
	at := func(name, local string, prefix int) string {
		return fmt.Sprintf(`{"ifname":%q,"addr_info":[{"local":%q,"prefixlen":%d}]}`, name, local, prefix)
	}
	own := at("vmbr0", "10.0.0.13", 24)
	return []runCase{
		{kindAddress, "free", with("10.0.0.13/24", own+","+at("eth0", "192.168.1.2", 24),
			`{"dst":"default","dev":"eth0"},{"dst":"10.0.0.0/24","dev":"vmbr0"},{"dst":"10.0.0.0/8","dev":"wg0"}`), Pass,
			"10.0.0.0/24"},
		{kindAddress, "Docker's network", with("10.0.0.13/24", at("br-1a2b", "10.0.0.1", 16), ""), Fail,
			"the subnet of vmbr0 is in use by br-1a2b (Docker) | br-1a2b has 10.0.0.1/16; vmbr0 is to have 10.0.0.13/24"},
		{kindAddress, "libvirt's", with("192.168.122.1/24", at("virbr0", "192.168.122.1", 24), ""), Fail, "(libvirt)"},
		{kindAddress, "the address itself", with("10.0.0.13/24", at("lo", "10.0.0.13", 32), ""), Fail, "lo has 10.0.0.13/32"},
		{kindAddress, "a VPN's route", with("10.0.0.13/16", "", `{"dst":"10.0.7.0/24","dev":"wg0"}`), Fail,
			"wg0 (WireGuard) | 10.0.7.0/24 is routed to wg0"},
		{kindAddress, "one address over two links", with("198.51.100.7/32", at("eth0", "198.51.100.7", 32), ""), Pass, "/32"},
		{kindAddress, "unreadable", with("10.0.0.13/24", "{", ""), Fail, "cannot be read"},
	}
}

func kernelCases() []runCase {
	with := func(strict bool, kind, namespaces, armor string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			mounts := mountRoot
			if kind != "" {
				mounts += "2 1 0:2 / /sys/fs/cgroup rw - " + kind + " none rw\n"
			}
			h.put("/proc/self/mountinfo", 0o444, 0, 0, mounts)
			h.put("/proc/sys/user/max_user_namespaces", 0o644, 0, 0, namespaces+"\n")
			if armor != "" {
				h.put("/sys/module/apparmor/parameters/enabled", 0o444, 0, 0, "Y\n")
				h.put(armor, 0o755, 0, 0, "")
			}
			return kernelParams{Strict: strict}
		}
	}
	return []runCase{
		{kindKernel, "as Debian has it", with(true, "cgroup2", "60000", "/sbin/apparmor_parser"), Pass, "| cgroup2"},
		{kindKernel, "no AppArmor", with(true, "cgroup2", "60000", ""), Pass, "no AppArmor"},
		{kindKernel, "version 1", with(true, "tmpfs", "60000", ""), Fail, "those of version 1"},
		{kindKernel, "version 1, as up takes it", with(false, "tmpfs", "60000", ""), Pass, "tmpfs"},
		{kindKernel, "no control groups", with(false, "", "60000", ""), Fail, "no control groups are mounted"},
		{kindKernel, "no user namespaces", with(false, "cgroup2", "0", ""), Fail, "user namespaces are switched off"},
		{kindKernel, "AppArmor without its program", with(false, "cgroup2", "60000", "/elsewhere"), Fail,
			"there is no apparmor_parser"},
	}
}

// mirror is a server that knows one suite.
func mirror(t *testing.T, h *fakeHost, suite string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/debian/dists/"+suite+"/InRelease") {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	at := strings.TrimPrefix(server.URL, "http://")
	h.dials["tcp "+at] = at
	return server.URL
}

func mirrorCases() []runCase {
	const ipv6Only = "00000000000000000000000000000000 00 0 00 fe80 00000400 0 0 00000003 eth0\n"
	asking := func(change func(t *testing.T, h *fakeHost, p *mirrorParams)) func(*testing.T, *fakeHost) any {
		return func(t *testing.T, h *fakeHost) any {
			h.put("/proc/net/route", 0o444, 0, 0, uplinkRoute)
			p := mirrorParams{Mirrors: []string{mirror(t, h, "bookworm") + "/debian"}, Suite: "bookworm"}
			change(t, h, &p)
			return p
		}
	}
	none := func(*testing.T, *fakeHost, *mirrorParams) {}
	gone := func(_ *testing.T, h *fakeHost, _ *mirrorParams) { clear(h.dials) }
	off := func(by time.Duration) func(*testing.T, *fakeHost, *mirrorParams) {
		return func(_ *testing.T, h *fakeHost, _ *mirrorParams) {
			h.clock = func() time.Time { return time.Now().Add(by) }
		}
	}
	proxied := func(status int) func(*testing.T, *fakeHost, *mirrorParams) {
		return func(t *testing.T, h *fakeHost, p *mirrorParams) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Host != "deb.example" {
					t.Errorf("the proxy is asked for %s", r.URL)
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(server.Close)
			at := strings.TrimPrefix(server.URL, "http://")
			h.dials = map[string]string{"tcp " + at: at}
			p.Mirrors, p.Proxy = []string{"http://deb.example/debian/"}, "http://user:secret@"+at
		}
	}
	upstreams := func(route, route6 string, list ...string) func(*testing.T, *fakeHost) any {
		return func(_ *testing.T, h *fakeHost) any {
			h.put("/proc/net/route", 0o444, 0, 0, route)
			h.put("/proc/net/ipv6_route", 0o444, 0, 0, route6)
			return list
		}
	}
	return []runCase{
		{kindMirror, "answers", asking(none), Pass, "Debian's mirror answers"},
		{kindMirror, "refuses", asking(gone), Fail, "is not reachable | dial tcp: connection refused"},
		{kindMirror, "another suite", asking(func(_ *testing.T, _ *fakeHost, p *mirrorParams) { p.Suite = "sid" }), Fail,
			"does not have sid"},
		{kindMirror, "by a proxy", asking(proxied(200)), Pass, "by way of http://127.0.0.1:"},
		{kindMirror, "a proxy that refuses", asking(proxied(403)), Fail, "refuses Debian's mirror"},
		{kindMirror, "no proxy there", asking(func(t *testing.T, h *fakeHost, p *mirrorParams) {
			proxied(200)(t, h, p)
			clear(h.dials)
		}), Fail, "is not reachable through apt's proxy http://127.0.0.1:"},
		{kindHostClock, "right", asking(none), Pass, "agrees with the mirror's"},
		{kindHostClock, "an hour ahead", asking(off(time.Hour)), Fail, "is ahead by 1h0m"},
		{kindHostClock, "an hour behind", asking(off(-time.Hour - time.Second)), Fail, "is behind by 1h0m"},
		{kindHostClock, "behind what was written", func(_ *testing.T, h *fakeHost) any {
			h.put("/var/lib/dpkg/status", 0o644, 0, 0, "")
			h.times = map[string]time.Time{"/var/lib/dpkg/status": time.Now().Add(2 * time.Hour)}
			return mirrorParams{}
		}, Fail, "is behind by 1h59m"},
		{kindHostClock, "nobody to ask", asking(gone), Pass, "compared with files alone"},
		{kindUpstreams, "IPv4", upstreams(uplinkRoute, "", "9.9.9.9", "192.168.1.1"), Pass, "has a route"},
		{kindUpstreams, "IPv6 only", upstreams("", ipv6Only, "9.9.9.9"), Fail,
			"has no IPv4 to reach 9.9.9.9, which the resolver asks"},
		{kindUpstreams, "no IPv6", upstreams(uplinkRoute, "", "9.9.9.9", "2620:fe::fe"), Fail, "no IPv6 to reach 2620"},
		{kindUpstreams, "a neighbour", upstreams("", ipv6Only, "192.168.1.1"), Pass, "has a route"},
		{kindUpstreams, "no way out at all", upstreams("", "", "9.9.9.9"), Pass, "no default route"},
	}
}

// A password in the proxy's URL is in nothing that is shown.
func TestProxyPasswordIsNotShown(t *testing.T) {
	for _, rc := range mirrorCases() {
		h := newHost(t)
		p, ok := rc.set(t, h).(mirrorParams)
		if !ok || p.Proxy == "" {
			continue
		}
		r := runMirror(t.Context(), h, Check{}, p)
		if strings.Contains(r.Summary+r.Evidence+r.Fix, "secret") {
			t.Errorf("%s: %+v", rc.name, r)
		}
	}
}

// Without a site the machine is asked about what a site would have.
func TestMachineChecks(t *testing.T) {
	var have []string
	for _, c := range MachineChecks(Machine{Directories: []string{"/r"}, Bridge: "b", Address: "10.0.0.1/24",
		Listen: []string{"10.0.0.1"}, Upstreams: []string{"9.9.9.9"}, Mirrors: []string{"http://deb"}}) {
		have = append(have, c.ID)
	}
	want := []string{"PHX-HOST-001", "PHX-HOST-002", "PHX-HOST-003", "PHX-HOST-004", "PHX-HOST-005", "PHX-HOST-006",
		"PHX-HOST-007", "PHX-HOST-008", "PHX-HOST-009"}
	if !slices.Equal(have, want) {
		t.Errorf("%q", have)
	}
}

// With one, health asks what concerns it.
func TestMachineOf(t *testing.T) {
	m := MachineOf(homelab())
	if m.Bridge != "vmbr0" || !slices.Equal(m.Directories, []string{"/lxc"}) || !slices.Equal(m.Listen,
		[]string{"10.0.0.13"}) || !m.Outside || m.Proxmox {
		t.Errorf("%+v", m)
	}
	h := newHost(t)
	c := []object.Object{testObject("container/101", spec.Container{ID: "101", Path: "/lxc"})}
	if !Creates(h, c) {
		t.Error("a container that is not there needs no room")
	}
	if h.put("/lxc/101/rootfs", 0o755, 0, 0, ""); Creates(h, c) {
		t.Error("a container that is there needs room")
	}
}
