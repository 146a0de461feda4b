package e2e

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Serial is the serial of the certificate that is served for a name; empty: none.
func (h *Hypervisor) Serial(address, name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return ""
	}
	defer conn.Close()
	c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if c.HandshakeContext(ctx) != nil {
		return ""
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

const storedRoot = "usr/local/share/ca-certificates/phoenix-root.crt"

var nameFaults = []fault{
	{group: "trust", name: "root removed from the store",
		do: func(f *faults) {
			f.remember(f.rootfs("201", storedRoot))
			f.still(func() {
				f.sh("201", "rm /"+storedRoot+"; update-ca-certificates --fresh >/dev/null 2>&1")
			}, "201")
		},
		mended: func(f *faults) bool { return f.same(f.rootfs("201", storedRoot)) }},
	{group: "trust", name: "a foreign root under our name",
		do: func(f *faults) {
			path := f.rootfs("201", storedRoot)
			f.remember(path)
			f.still(func() {
				f.rewrite(path, func(string) string { return string(f.foreign().pem()) })
				f.in("201", "update-ca-certificates", "--fresh")
			}, "201")
		},
		mended: func(f *faults) bool { return f.same(f.rootfs("201", storedRoot)) }},
	{group: "names", name: "/etc/hosts poisoned",
		do: func(f *faults) {
			f.remember(f.rootfs("101", "etc/hosts"))
			f.sh("101", "echo 10.86.17.66 ca.homelab.internal >>/etc/hosts")
		},
		mended: func(f *faults) bool { return f.same(f.rootfs("101", "etc/hosts")) }},
	{group: "names", name: "resolv.conf emptied",
		do: func(f *faults) {
			f.remember(f.rootfs("102", "etc/resolv.conf"))
			f.sh("102", ": >/etc/resolv.conf")
		},
		mended: func(f *faults) bool { return f.same(f.rootfs("102", "etc/resolv.conf")) }},
	{group: "names", name: "dnsmasq killed",
		do:     func(f *faults) { f.must(syscall.Kill(f.dnsmasq(), syscall.SIGKILL)) },
		mended: func(f *faults) bool { return f.dnsmasq() != 0 }},
	{group: "names", name: "a record changed",
		do: func(f *faults) {
			conf, err := filepath.Glob(filepath.Join(f.Root, "dns", "*.conf"))
			f.must(err)
			f.remember(conf[0])
			f.rewrite(conf[0], func(s string) string { return strings.ReplaceAll(s, "10.86.17.103", "10.86.17.66") })
			f.still(func() { // with the process that reads it
				pid := f.dnsmasq()
				f.must(syscall.Kill(pid, syscall.SIGKILL))
				await(5*time.Second, func() bool { return f.dnsmasq() != pid })
				f.Exec("dnsmasq", "--conf-file="+conf[0]).Want(0)
			})
		},
		mended: func(f *faults) bool {
			conf, err := filepath.Glob(filepath.Join(f.Root, "dns", "*.conf"))
			return err == nil && len(conf) == 1 && f.same(conf[0])
		}},
}

// dnsmasq is the process id of the resolver; 0: none runs.
func (f *faults) dnsmasq() int {
	raw, err := filepath.Glob("/proc/[0-9]*/cmdline")
	f.must(err)
	for _, path := range raw {
		line, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(line), "dnsmasq\x00") || !strings.Contains(string(line), f.Root) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		f.must(err)
		return pid
	}
	return 0
}

const dynamicFile = "etc/traefik/dynamic/phoenix-routes.yml"

var proxyFaults = []fault{
	{group: "proxies", name: "nginx.conf garbage",
		do: func(f *faults) {
			conf := f.rootfs("101", "etc/nginx/nginx.conf")
			f.remember(conf)
			f.rewrite(conf, func(string) string { return "garbage\n" })
			f.in("101", "systemctl", "kill", "--signal", "KILL", "nginx.service")
		},
		mended: func(f *faults) bool { return f.same(f.rootfs("101", "etc/nginx/nginx.conf")) && f.verifies() }},
	{group: "proxies", name: "nginx masked",
		do:     func(f *faults) { f.in("101", "systemctl", "mask", "--now", "nginx.service") },
		mended: (*faults).verifies},
	{group: "proxies", name: "Traefik's dynamic file garbage",
		do: func(f *faults) {
			f.remember(f.rootfs("102", dynamicFile))
			f.rewrite(f.rootfs("102", dynamicFile), func(string) string { return "garbage\n" })
		},
		mended: func(f *faults) bool { return f.same(f.rootfs("102", dynamicFile)) && f.verifies() }},
	{group: "proxies", name: "Traefik killed", systemd: true,
		do:     func(f *faults) { f.in("102", "systemctl", "kill", "--signal", "KILL", "traefik.service") },
		mended: (*faults).verifies},
	{group: "proxies", name: "port 443 taken by another process",
		do: func(f *faults) {
			f.still(func() {
				f.in("101", "systemctl", "stop", "nginx.service")
				argv := f.inside(f.attach("101", "perl", "-MIO::Socket::INET", "-e",
					`my $s = IO::Socket::INET->new(LocalAddr=>"0.0.0.0:443",Listen=>5,ReuseAddr=>1) or die $!; sleep 600`))
				thief := exec.Command(argv[0], argv[1:]...)
				f.must(thief.Start())
				f.thief = thief
				if !await(10*time.Second, func() bool { return f.accepts(gateway) }) {
					f.t.Fatal("the port could not be taken")
				}
			}, "101")
		},
		told: "perl",
		person: func(f *faults) {
			f.sh("101", "kill -KILL $(pidof perl)")
			_ = f.thief.Wait() // killed
		},
		mended: (*faults).verifies},
}

var hostFaults = []fault{
	{group: "host", name: "bridge deleted",
		do:     func(f *faults) { f.Exec("ip", "link", "delete", bridge).Want(0) },
		mended: (*faults).verifies},
	{group: "host", name: "firewall flushed",
		do: func(f *faults) {
			f.still(func() {
				f.Exec("nft", "flush", "ruleset").Want(0)
				if got := f.connect("101", "10.86.17.201", "8443"); got != open {
					f.t.Errorf("without a firewall 201 is %s", got)
				}
			})
		},
		mended: func(f *faults) bool { return f.connect("101", "10.86.17.201", "8443") == closed && f.verifies() }},
}
