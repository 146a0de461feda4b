package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

const secret = "c8H!mnQ2vL0pZ"

// lookCase changes a clean system: bad gives a finding of the rule that says something, good gives none of it.
type lookCase struct {
	rule, name string
	object     string
	says       string
	bad, good  func(h *fakeHost, l *look)
}

// look is what is looked at.
type look struct {
	scene Scene
	place Place
}

// clean is a hypervisor with two containers that share nothing, and the inside of one of them.
func sound(t *testing.T) (*fakeHost, *look) {
	h := newHost(t)
	l := &look{
		scene: Scene{Root: "/phx", Directories: []string{"/phx/lxc"}, Proxmox: "/etc/pve/lxc",
			Scripts: []string{"/opt/scripts"},
			Wanted: []Wanted{{ID: "101", Unprivileged: true, Binds: map[string]string{"/data": "/tank/101/data"}},
				{ID: "103", Unprivileged: true}}},
		place: Place{ID: "101", Client: true, Address: "10.0.0.13:9000", Names: []string{"ca.lab.internal"},
			Leaf: 24 * time.Hour, Salt: []byte("x")},
	}
	for _, id := range []string{"101", "103"} {
		h.put("/phx/lxc/"+id+"/config", 0o600, 0, definitionOf(id, ""))
		h.runs["lxc-info -P /phx/lxc -n "+id+" -p -H"] = id + "\n"
		h.put("/proc/"+id+"/mountinfo", 0o444, 0,
			"1 0 8:1 /phx/lxc/"+id+"/rootfs / rw - ext4 /dev/a rw\n2 1 8:1 /phx/volumes/"+id+
				"/ssl /ssl rw - ext4 /dev/a rw\n3 1 0:5 / /proc rw - proc proc rw\n")
		h.dir("/phx/volumes/"+id+"/ssl", 0o700, 100000)
	}
	h.put("/etc/pve/lxc/101.conf", 0o640, 0, "#phoenix%3A container/101\nunprivileged: 1\nnet0: "+
		"name=eth0,bridge=vmbr0,firewall=1,hwaddr=52:54:00:AA:BB:01,ip=10.0.0.101/24,type=veth\n")
	h.put("/etc/pve/firewall/101.fw", 0o640, 0, "[OPTIONS]\n"+guarded)
	h.runs["lxc-info -P /var/lib/lxc -n 101 -p -H"] = "\n"
	h.dir("/tank/101/data", 0o700, 100000)
	h.put("/tank/101/data/a.key", 0o600, 100000, "")
	h.put("/opt/scripts/a.sh", 0o755, 0, "#!/bin/sh\n# password=abc\nPASSWORD=$(cat /etc/p)\nstep ca init "+
		"--password-file /etc/p\ncurl -sf https://ca\n")
	h.put("/proc/7/cmdline", 0o444, 0, "/usr/bin/step-ca\x00ca.json\x00--password-file\x00/run/p\x00")
	h.put("/proc/7/cgroup", 0o444, 0, "0::/lxc.payload.103/system.slice\n")
	h.put("/proc/self/mountinfo", 0o444, 0, "")
	h.put("/etc/hosts", 0o644, 0, "127.0.0.1 localhost\n10.0.0.13 ca.lab.internal\n")
	h.put("/etc/nginx/nginx.conf", 0o644, 0, "http { server { listen 443 ssl; ssl_protocols TLSv1.2 TLSv1.3; } }\n")
	h.put("/etc/traefik/traefik.yml", 0o644, 0, `{"api":{"dashboard":false,"insecure":false}}`)
	h.put("/etc/systemd/system/a.service", 0o644, 0, "[Service]\nExecStart=/bin/a --password-file "+
		"/run/p\nEnvironment=TOKEN_FILE=/run/t\n")
	return h, l
}

// baseOf is where a container's ids begin: each has its own.
func baseOf(id string) int {
	return map[string]int{"103": 300000}[id] + 100000*map[string]int{"101": 1}[id]
}

func definitionOf(id, more string) string {
	base := fmt.Sprint(baseOf(id))
	return "# " + id + "\nlxc.idmap = u 0 " + base + " 65536\nlxc.idmap = g 0 " + base +
		" 65536\nlxc.apparmor.profile = generated\n" +
		"lxc.mount.entry = /phx/volumes/" + id + "/ssl ssl none bind,create=dir 0 0\n" + more
}

func (l *look) all(t *testing.T, h *fakeHost) []config.Finding {
	system := System(t.Context(), h, l.scene)
	raw, err := json.Marshal(Inside(t.Context(), h, l.place))
	var inside Seen
	if err == nil {
		err = json.Unmarshal(raw, &inside) // as it goes over the pipe
	}
	if err != nil || !inside.Audit || !system.Audit {
		t.Fatal(err)
	}
	return Findings(system, inside)
}

func list(found []config.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s %s: %s; fix: %s\n", f.Rule.ID, f.Object, f.Summary, f.Fix)
	}
	return b.String()
}

func asCA(l *look) {
	l.place.ID, l.place.CA, l.place.Client = "103", true, false
}

const caJSON = `{"authority": {"policy": {"x509": {"allow": {"dns": [%s]}}}, "provisioners": [%s]}}`

func ca(names, provisioners string) func(*fakeHost, *look) {
	return func(h *fakeHost, l *look) {
		asCA(l)
		h.put("/etc/step-ca/ssl/config/ca.json", 0o600, 0, fmt.Sprintf(caJSON, names, provisioners))
	}
}

func put(name string, mode fs.FileMode, data string) func(*fakeHost, *look) {
	return func(h *fakeHost, _ *look) { h.put(name, mode, 0, data) }
}

func defined(id, more string) func(*fakeHost, *look) {
	return func(h *fakeHost, _ *look) { h.put("/phx/lxc/"+id+"/config", 0o600, 0, definitionOf(id, more)) }
}

func process(argv ...string) func(*fakeHost, *look) {
	return put("/proc/7/cmdline", 0o444, strings.Join(argv, "\x00")+"\x00")
}

const acme, jwk, name = `{"type": "ACME", "name": "acme"}`, `{"type": "JWK", "name": "admin"}`, `"a.lab.internal"`

func binding(source string) string { return "lxc.mount.entry = " + source + " x none bind 0 0\n" }

func lookCases() []lookCase {
	link := func(to string) func(*fakeHost, *look) {
		return func(h *fakeHost, l *look) {
			h.dir("/tank/103/ssl", 0o700, 300000)
			h.put("/tank/link", 0o777|fs.ModeSymlink, 0, to)
			l.scene.Wanted[0].Binds["/ca"], l.scene.Wanted[1].Binds = "/tank/link",
				map[string]string{"/ssl": "/tank/103/ssl"}
		}
	}
	inode := func(same bool) func(*fakeHost, *look) {
		return func(h *fakeHost, l *look) {
			h.dir("/tank/103/ssl", 0o700, 300000)
			h.dir("/srv/bound", 0o700, 100000)
			if same {
				h.change("/srv/bound", func(m *host.Meta) { *m = h.files["/tank/103/ssl"].meta })
			}
			defined("103", binding("/tank/103/ssl"))(h, l)
			defined("101", binding("/srv/bound"))(h, l)
		}
	}
	mountinfo := func(id, line string) func(*fakeHost, *look) {
		return func(h *fakeHost, l *look) {
			f := h.files["/proc/"+id+"/mountinfo"]
			h.put("/proc/"+id+"/mountinfo", 0o444, 0, f.data+line+"\n")
		}
	}
	owned := func(name string, uid int) func(*fakeHost, *look) {
		return func(h *fakeHost, _ *look) { h.put(name, 0o600, uid, "x") }
	}
	key := func(age time.Duration, mode fs.FileMode) func(*fakeHost, *look) {
		return func(h *fakeHost, _ *look) { issue(h, "/etc/nginx/ssl/a", age, mode) }
	}
	dial := func(client, answers bool) func(*fakeHost, *look) {
		return func(h *fakeHost, l *look) {
			l.place.Client = client
			if answers {
				h.dials = []string{"tcp 10.0.0.13:9000"}
			}
		}
	}
	rootKey := func(device uint64) func(*fakeHost, *look) {
		return func(h *fakeHost, l *look) {
			asCA(l)
			h.put("/etc/step-ca/ssl/secrets/root/key", 0o600, 0, "x")
			h.put("/etc/step-ca/ssl/secrets/intermediate/key", 0o600, 0, "x")
			h.change("/etc/step-ca/ssl/secrets/root/key", func(m *host.Meta) { m.Device = device })
		}
	}
	const sealedKey = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
	leftover := func(name string) func(*fakeHost, *look) {
		return func(h *fakeHost, l *look) {
			asCA(l)
			h.put("/etc/step-ca/ssl/secrets/"+name+"/key", 0o600, 0, sealedKey)
		}
	}
	return []lookCase{
		{"PHX-AUD-050", "link", "container/103", "by a link", link("/tank/103/ssl"), link("/tank/101/data")},
		{"PHX-AUD-050", "defined twice", "container/103", "the same directory",
			defined("103", binding("/phx/volumes/101/ssl")), defined("103", binding("/phx/volumes/103/ssl"))},
		{"PHX-AUD-050", "parent", "container/103", "around", defined("103", binding("/phx/volumes")),
			defined("103", binding("/phx/none"))},
		{"PHX-AUD-050", "inode", "container/103", "on disk", inode(true), inode(false)},
		{"PHX-AUD-050", "mounted by hand", "container/103", "/sneaky in container 103",
			mountinfo("103", "9 1 8:1 /phx/volumes/101/ssl/deep /sneaky rw - ext4 /dev/a rw"),
			mountinfo("103", "9 1 8:2 /phx/volumes/101/ssl/deep /sneaky rw - ext4 /dev/b rw")},
		{"PHX-AUD-051", "mounted twice", "container/101", "/ssl and /again",
			mountinfo("101", "9 1 8:1 /phx/volumes/101/ssl /again rw - ext4 /dev/a rw"),
			mountinfo("101", "9 1 8:1 /phx/volumes/101/x /again rw - ext4 /dev/a rw")},
		{"PHX-AUD-052", "key", "container/101", "a private key, /tank/101/data/b.key", func(h *fakeHost, _ *look) {
			h.dir("/tank/101/data", 0o755, 100000)
			h.put("/tank/101/data/b.key", 0o644, 100000, "")
		},
			func(h *fakeHost, _ *look) { h.put("/tank/101/data/b.key", 0o644, 100000, "") }}, // closed by the directory
		{"PHX-AUD-070", "777", "container/101", "/tank/101/data is 0777",
			func(h *fakeHost, _ *look) {
				h.dir("/tank/101/data", 0o777, 100000)
			}, func(h *fakeHost, _ *look) { h.dir("/tank/101/data", 0o755, 100000) }},
		{"PHX-AUD-052", "acme.json", "container/101", "the keys of Traefik", func(h *fakeHost, _ *look) {
			h.dir("/tank/101/data", 0o755, 100000)
			h.put("/tank/101/data/acme.json", 0o604, 100000, "")
		},
			func(h *fakeHost, _ *look) {
				h.dir("/tank/101/data", 0o755, 100000)
				h.put("/tank/101/data/acme.json", 0o600, 100000, "")
			}},
		{"PHX-AUD-052", "database", "container/101", "the CA's database", func(h *fakeHost, _ *look) {
			h.dir("/tank/101/data", 0o755, 100000)
			h.put("/tank/101/data/db/000001.vlog", 0o644, 100000, "")
		},
			func(h *fakeHost, _ *look) {
				h.dir("/tank/101/data", 0o755, 100000)
				h.put("/tank/101/data/db/000001.vlog", 0o640, 100000, "")
			}},
		{"PHX-AUD-053", "key", "container/101", "a private key, /etc/nginx/ssl/odd",
			put("/etc/nginx/ssl/odd", 0o644, keyPEM(t0())), put("/etc/nginx/ssl/odd", 0o640, keyPEM(t0()))},
		{"PHX-AUD-053", "acme.json", "container/101", "/etc/traefik/certs/acme.json",
			put("/etc/traefik/certs/acme.json", 0o644, "{}"), put("/etc/traefik/certs/acme.json", 0o600, "{}")},
		{"PHX-AUD-053", "password", "container/101", "a password",
			put("/etc/nginx/password.txt", 0o644, secret), put("/etc/nginx/password.txt", 0o600, secret)},
		{"PHX-AUD-054", "nobody outside", "container/101", "/tank/101/data/n", owned("/tank/101/data/n", 65534),
			owned("/tank/101/data/n", 100033)},
		{"PHX-AUD-054", "unmapped", "container/101", "/tank/101/data/n", owned("/tank/101/data/n", 0),
			owned("/tank/101/data/n", 165535)},
		{"PHX-AUD-054", "nobody inside", "container/101", "/etc/nginx/n", owned("/etc/nginx/n", 65534),
			owned("/etc/nginx/n", 33)},
		{"PHX-AUD-055", "script", "hypervisor", "/opt/scripts/a.sh line 2 has CA_PASSWORD",
			put("/opt/scripts/a.sh", 0o755, "#!/bin/sh\nCA_PASSWORD='"+secret+"'\n"),
			put("/opt/scripts/a.sh", 0o755, "#!/bin/sh\nCA_PASSWORD=\"$1\"\n")},
		{"PHX-AUD-055", "echo", "hypervisor", "written to a file",
			put("/opt/scripts/a.sh", 0o755, "echo \""+secret+"\" > /etc/step-ca/password.txt\n"),
			put("/opt/scripts/a.sh", 0o755, "openssl rand -base64 24 > /etc/step-ca/password.txt\necho \"$P\" > "+
				"/etc/password\n")},
		{"PHX-AUD-055", "unit", "container/101", "a.service line 2 has DB_PASSWORD",
			put("/etc/systemd/system/a.service", 0o644, "[Service]\nEnvironment=DB_PASSWORD="+secret+"\n"),
			put("/etc/systemd/system/a.service", 0o644, "[Service]\nLoadCredential=password:/etc/p\n")},
		{"PHX-AUD-055", "drop-in", "container/101", "x.conf line 2",
			put("/etc/systemd/system/a.service.d/x.conf", 0o644, "[Service]\nExecStart=/bin/a --token "+secret+"\n"),
			put("/etc/systemd/system/a.service.d/x.conf", 0o644, "[Service]\nExecStart=/bin/a --token ${TOKEN}\n")},
		{"PHX-AUD-056", "flag", "container/103", "step-ca (process 7) has provisioner-password",
			process("/usr/bin/step-ca", "--provisioner-password", secret),
			process("/usr/bin/step-ca", "--provisioner-password-file", "/run/p")},
		{"PHX-AUD-056", "joined", "container/103", "has token", process("a", "--token="+secret),
			process("a", "--token=/run/token")},
		{"PHX-AUD-056", "address", "container/103", "an address with a password",
			process("a", "https://u:"+secret+"@h/"), process("a", "https://h/")},
		{"PHX-AUD-057", "known", "container/101", "tried first",
			put("/etc/nginx/password.txt", 0o600, "Password123\n"), put("/etc/nginx/password.txt", 0o600, secret)},
		{"PHX-AUD-057", "twice", "container/101", "has the password of /etc/nginx/a_password",
			func(h *fakeHost, l *look) {
				put("/etc/nginx/a_password", 0o600, secret)(h, l)
				put("/etc/nginx/b_password", 0o600, secret+"\n")(h, l)
			},
			func(h *fakeHost, l *look) {
				put("/etc/nginx/a_password", 0o600, secret)(h, l)
				put("/etc/nginx/b_password", 0o600, secret+"x")(h, l)
			}},
		{"PHX-AUD-058", "one volume", "container/103", "on one volume", rootKey(1), rootKey(2)},
		{"PHX-AUD-095", "of a restore", "container/103", "/etc/step-ca/ssl/secrets/lost-root-17",
			leftover("lost-root-17"), leftover("x")},
		{"PHX-AUD-059", "JWK", "container/103", `provisioner "admin" of type JWK`, ca(name, acme+","+jwk),
			ca(name, acme)},
		{"PHX-AUD-060", "CA's directory", "container/101", "/etc/step-ca/ssl/root_ca_key",
			put("/etc/step-ca/ssl/root_ca_key", 0o600, "x"), put("/etc/step-ca/ssl/root_ca.crt", 0o644, "x")},
		{"PHX-AUD-060", "provisioner's password", "container/101", "/root/.step/provisioner_password",
			put("/root/.step/provisioner_password", 0o600, secret),
			put("/root/.step/config/defaults.json", 0o600, "{}")},
		{"PHX-AUD-060", "ca.json", "container/101", "ca.json",
			put("/root/.step/config/ca.json", 0o600, `{"authority":{"provisioners":[{"encryptedKey":"x"}]}}`),
			put("/root/.step/config/ca.json", 0o600, `{"authority":{"provisioners":[]}}`)},
		{"PHX-AUD-061", "missing", "container/103", "any name", ca("", acme), ca(name, acme)},
		{"PHX-AUD-061", "wildcard", "container/103", "wildcard", ca(`"*.lab.internal"`, acme), ca(name, acme)},
		{"PHX-AUD-062", "no client", "container/101", "reaches the CA", dial(false, true), dial(false, false)},
		{"PHX-AUD-062", "a client", "container/101", "reaches the CA", dial(false, true), dial(true, true)},
		{"PHX-AUD-063", "renewed", "container/101", "the key of /etc/nginx/ssl/a.crt", key(72*time.Hour, 0o600),
			key(0, 0o600)},
		{"PHX-AUD-063", "two certificates", "container/101", "has the key of", func(h *fakeHost, _ *look) {
			k := issue(h, "/etc/nginx/ssl/a", 0, 0o600)
			certify(h, "/etc/nginx/ssl/b", k, 2)
		},
			func(h *fakeHost, _ *look) {
				k := issue(h, "/etc/nginx/ssl/a", 0, 0o600)
				certify(h, "/etc/nginx/ssl/b", k, 1)
			}},
		{"PHX-AUD-064", "nginx", "container/101", "the server a speaks TLSv1.1 TLSv1.2",
			put("/etc/nginx/conf.d/a.conf", 0o644, "server { listen 443 ssl; server_name a; ssl_protocols TLSv1.1 "+
				"TLSv1.2; }"), put("/etc/nginx/conf.d/a.conf", 0o644, "server { listen 80; ssl_protocols TLSv1.1; }")},
		{"PHX-AUD-064", "inherited", "container/101", "speaks TLSv1 TLSv1.2", func(h *fakeHost, l *look) {
			put("/etc/nginx/nginx.conf", 0o644, "http { ssl_protocols TLSv1 TLSv1.2; # all\n include x; }")(h, l)
			put("/etc/nginx/conf.d/a.conf", 0o644, "server { listen 443 ssl; }")(h, l)
		},
			func(h *fakeHost, l *look) {
				put("/etc/nginx/nginx.conf", 0o644, "http { ssl_protocols TLSv1 TLSv1.2; include x; }")(h, l)
				put("/etc/nginx/conf.d/a.conf", 0o644, "server { listen 443 ssl; ssl_protocols TLSv1.3; }")(h, l)
			}},
		{"PHX-AUD-064", "traefik", "container/101", "TLS before 1.2",
			put("/etc/traefik/d/tls.yml", 0o644, "tls:\n  options:\n    default:\n      minVersion: VersionTLS10\n"),
			put("/etc/traefik/d/tls.yml", 0o644, "tls:\n  options:\n    default:\n      minVersion: VersionTLS12\n")},
		{"PHX-AUD-065", "nginx", "container/101", "not verified",
			put("/etc/nginx/conf.d/a.conf", 0o644, "server { location / { proxy_pass https://b; } }"),
			put("/etc/nginx/conf.d/a.conf", 0o644, "server { proxy_ssl_verify on; location / { proxy_pass "+
				"https://b; } }")},
		{"PHX-AUD-065", "nginx says off", "container/101", "not verified",
			put("/etc/nginx/conf.d/a.conf", 0o644, "server { proxy_ssl_verify on; location / { proxy_ssl_verify off; "+
				"proxy_pass https://b; } }"),
			put("/etc/nginx/conf.d/a.conf", 0o644, "server { location / { proxy_pass http://b; } }")},
		{"PHX-AUD-065", "traefik", "container/101", "does not verify its backends",
			put("/etc/traefik/d/t.toml", 0o644, "[serversTransport]\n  insecureSkipVerify = true\n"),
			put("/etc/traefik/d/t.toml", 0o644, "# insecureSkipVerify = true\n")},
		{"PHX-AUD-065", "curl", "hypervisor", "line 1 does not verify",
			put("/opt/scripts/a.sh", 0o755, "curl -sk https://a\n"),
			put("/opt/scripts/a.sh", 0o755, "curl -s --cacert k https://a\n# curl -k\n")},
		{"PHX-AUD-065", "argument", "container/103", "does not verify its backends",
			process("traefik", "--serversTransport.insecureSkipVerify=true"),
			process("traefik", "--serversTransport.insecureSkipVerify=false")},
		{"PHX-AUD-066", "insecure", "container/101", "open on :8080",
			put("/etc/traefik/traefik.yml", 0o644, "api:\n  insecure: true\n"),
			put("/etc/traefik/traefik.yml", 0o644, "api:\n  insecure: false\n")},
		{"PHX-AUD-066", "dashboard", "container/101", "no password",
			put("/etc/traefik/traefik.yml", 0o644, "api:\n  dashboard: true\n"), func(h *fakeHost, l *look) {
				put("/etc/traefik/traefik.yml", 0o644, "api:\n  dashboard: true\n")(h, l)
				put("/etc/traefik/d/auth.yml", 0o644, "middlewares:\n  a:\n    basicAuth:\n      users: []\n")(h, l)
			}},
		{"PHX-AUD-066", "argument", "container/103", "--api.insecure",
			process("traefik", "--api.insecure=true"), process("traefik", "--api.insecure=false")},
		{"PHX-AUD-067", "unconfined", "container/101", "without AppArmor",
			defined("101", "lxc.apparmor.profile = unconfined\n"), func(h *fakeHost, l *look) {
				defined("101", "lxc.apparmor.profile = unconfined\n")(h, l)
				l.scene.Wanted[0].Options = []string{"lxc.apparmor.profile=unconfined"}
			}},
		{"PHX-AUD-067", "privileged", "container/104", "privileged",
			put("/phx/lxc/104/config", 0o600, "lxc.uts.name = x\n"),
			put("/phx/lxc/104/config", 0o600, "lxc.idmap = u 0 200000 65536\n")},
		{"PHX-AUD-085", "Debian's first user", "container/101", "100000:65536 is ann's (/etc/subuid:1)",
			put("/etc/subuid", 0o644, "ann:100000:65536\n"),
			put("/etc/subuid", 0o644, "root:100000:65536\nann:600000:65536\n")},
		{"PHX-AUD-085", "a user of the range", "container/103", "300001:1 is eve's (/etc/passwd:1)",
			put("/etc/passwd", 0o644, "eve:x:300001:100:::\n"), put("/etc/passwd", 0o644, "eve:x:1000:100:::\n")},
		{"PHX-AUD-085", "on Proxmox", "container/105", "900000:65536 is ann's (/etc/subgid:1)",
			func(h *fakeHost, l *look) {
				put("/etc/subgid", 0o644, "ann:900000:65536\n")(h, l)
				put("/etc/pve/lxc/105.conf", 0o600, "unprivileged: 1\nlxc.idmap: u 0 900000 65536\n")(h, l)
			}, put("/etc/pve/lxc/105.conf", 0o600, "unprivileged: 1\nlxc.idmap: u 0 900000 65536\n")},
		{"PHX-AUD-086", "one range", "container/104", "container 101 has 100000:65536",
			put("/phx/lxc/104/config", 0o600, "lxc.idmap = u 0 165535 65536\n"),
			put("/phx/lxc/104/config", 0o600, "lxc.idmap = u 0 165536 65536\n")},
		{"PHX-AUD-086", "Proxmox's range", "container/106", "container 101 has 100000:65536 (/etc/pve/lxc/101.conf)",
			put("/etc/pve/lxc/106.conf", 0o600, "unprivileged: 1\n"), func(h *fakeHost, l *look) {
				own := "lxc.idmap: u 0 200000 65536\n"
				put("/etc/pve/lxc/101.conf", 0o640, h.files["/etc/pve/lxc/101.conf"].data+own)(h, l)
				put("/phx/lxc/101/config", 0o600, strings.ReplaceAll(definitionOf("101", ""), "100000", "200000"))(h, l)
				put("/etc/pve/lxc/106.conf", 0o600, "unprivileged: 1\n")(h, l) // others', and a template
				put("/etc/pve/lxc/107.conf", 0o600, "unprivileged: 1\n")(h, l)
				put("/etc/pve/lxc/900.conf", 0o600, "unprivileged: 1\n")(h, l)
				l.scene.Wanted = append(l.scene.Wanted, Wanted{ID: "900", Unprivileged: true, Template: true})
			}},
		{"PHX-AUD-086", "a clone with its lines", "container/106", "container 105 has 900000:65536",
			func(h *fakeHost, l *look) {
				for _, id := range []string{"105", "106"} {
					put("/etc/pve/lxc/"+id+".conf", 0o600, "unprivileged: 1\nlxc.idmap: u 0 900000 65536\n")(h, l)
				}
			}, put("/etc/pve/lxc/106.conf", 0o600, "unprivileged: 1\nlxc.idmap: u 0 965536 65536\n")},
		{"PHX-AUD-067", "sys:rw", "container/101", "sys:rw",
			defined("101", "lxc.mount.auto = proc:mixed sys:rw\n"),
			defined("101", "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed\n")},
		{"PHX-AUD-067", "proxmox", "container/105", "privileged",
			put("/etc/pve/lxc/105.conf", 0o600, "arch: amd64\nmp0: /tank/105,mp=/a\n"),
			put("/etc/pve/lxc/105.conf", 0o600, "unprivileged: 1\nlxc.idmap: u 0 900000 "+
				"65536\n[snap]\nlxc.apparmor.profile: unconfined\n")},
		{"PHX-AUD-068", "hosts", "container/101", "to 10.0.0.66, and not to 10.0.0.13",
			put("/etc/hosts", 0o644, "10.0.0.66 CA.lab.internal\n"),
			put("/etc/hosts", 0o644, "# 10.0.0.66 ca.lab.internal\n10.0.0.66 other\n")},
		{"PHX-AUD-069", "timer", "container/101", "runs every 168h",
			put("/etc/systemd/system/cert-renew.timer", 0o644, "[Timer]\nOnCalendar=weekly\n"),
			put("/etc/systemd/system/cert-renew.timer", 0o644, "[Timer]\nOnCalendar=hourly\n")},
		{"PHX-AUD-069", "active", "container/101", "runs every 12h",
			put("/etc/systemd/system/cert-renew.timer", 0o644, "[Timer]\nOnUnitActiveSec=12h\n"),
			put("/etc/systemd/system/backup.timer", 0o644, "[Timer]\nOnUnitActiveSec=12h\n")},
		{"PHX-AUD-069", "cron", "container/101", "runs every 24h",
			put("/etc/cron.d/certs", 0o644, "17 3 * * * root step ca renew a b\n"),
			put("/etc/cron.d/certs", 0o644, "*/15 * * * * root step ca renew a b\n")},
		{"PHX-AUD-080", "no firewall", "container/301", "on bridge vmbr0, without firewall=1",
			bridged("bridge=vmbr0", ""), bridged("bridge=vmbr1", "")},
		{"PHX-AUD-080", "tags", "container/301", "VLAN tag",
			bridged("bridge=vmbr0,firewall=1", "enable: 1\nipfilter: 1\ndhcp: 0\nlayer2_protocols: ARP,IPv4,IPv6\n"),
			bridged("bridge=vmbr0,firewall=1", guarded)},
		{"PHX-AUD-080", "ebtables", Hypervisor, "ebtables: 0",
			put("/etc/pve/firewall/cluster.fw", 0o640, "[OPTIONS]\nebtables: 0\n"),
			put("/etc/pve/firewall/cluster.fw", 0o640, "[OPTIONS]\nebtables: 0 # no\n")},
		{"PHX-AUD-080", "nftables", Hypervisor, "nftables: 1",
			put("/etc/pve/local/host.fw", 0o640, "[OPTIONS]\nnftables: 1\n"),
			put("/etc/pve/local/host.fw", 0o640, "[OPTIONS]\nnftables: 0\n")},
		{"PHX-AUD-081", "a restored copy", "container/301", "say that it is container 101",
			noted("301", "#phoenix%3A container/101"), noted("301", "#phoenix%3A container/301")},
		{"PHX-AUD-081", "one hardware address", "container/301", "52:54:00:AA:BB:01",
			bridged("bridge=vmbr1,hwaddr=52:54:00:aa:bb:01", ""), bridged("bridge=vmbr1,hwaddr=52:54:00:aa:bb:02", "")},
		{"PHX-AUD-081", "one address", "container/301", "10.0.0.101",
			bridged("bridge=vmbr0,firewall=1,ip=10.0.0.101/24", guarded),
			bridged("bridge=vmbr1,firewall=1,ip=10.0.0.101/24", guarded)},
		{"PHX-AUD-082", "docker's", "network/phxbr0/vethab12", "its own MAC is 02:00:00:00:00:07, and the bridge has " +
			"heard 0a:00:00:00:00:01 there",
			plugged("vethab12"), plugged("v101pabcd")},
		{"PHX-AUD-082", "nothing heard", "network/phxbr0/vnet0", "nothing was heard there lately",
			func(h *fakeHost, l *look) {
				plugged("vnet0")(h, l)
				h.put("/sys/class/net/phxbr0/brforward", 0o444, 0, "")
			}, plugged("vnet0", "device/vendor", "")},
		{"PHX-AUD-082", "a tap", "network/phxbr0/tap0", "no container's of this site",
			plugged("tap0", "tun_flags", "device/x"), plugged("tap0", "lower_eth0/x")},
		{"PHX-AUD-082", "another phoenix's", "network/phxbr0/v101pffff", "nothing pins it", func(h *fakeHost, l *look) {
			plugged("v101pffff")(h, l)
			h.runs[tableOf+"phoenix_v101pffff"] = "table bridge phoenix_v101pffff {\n}\n"
		}, func(h *fakeHost, l *look) {
			plugged("v101pffff")(h, l)
			h.runs[tableOf+"phoenix_v101pffff"] = "\t\ttype filter hook prerouting priority -300; policy " +
				"accept;\n\t\tiifname \"v101pffff\" jump own\n"
		}},
		{"PHX-AUD-082", "a guest's that Proxmox does not have", "network/phxbr0/veth301i0",
			"no container's of this site",
			plugged("veth301i0"), func(h *fakeHost, l *look) {
				plugged("veth301i0")(h, l)
				bridged("bridge=vmbr1", "")(h, l)
			}},
	}
}

const tableOf = "nft --stateless list table bridge "

// plugged is a port on the bridge of 101, with those files in sysfs, and one MAC behind it.
func plugged(name string, files ...string) func(*fakeHost, *look) {
	return func(h *fakeHost, l *look) {
		l.scene.Wanted[0].Bridge, l.scene.Wanted[0].Port = "phxbr0", "v101pabcd"
		h.put("/sys/class/net/phxbr0/brif/"+name+"/port_no", 0o444, 0, "0x2\n")
		h.put("/sys/class/net/"+name+"/address", 0o444, 0, "02:00:00:00:00:07\n")
		for _, f := range files {
			if f != "" {
				h.put("/sys/class/net/"+name+"/"+f, 0o444, 0, "0x1002\n")
			}
		}
		entry := func(last, port byte, local byte) string {
			return string([]byte{0x0a, 0, 0, 0, 0, last, port, local, 0, 0, 0, 0, 0, 0, 0, 0})
		}
		h.put("/sys/class/net/phxbr0/brforward", 0o444, 0, entry(1, 2, 0)+entry(2, 3, 0)+entry(7, 2, 1))
	}
}

const guarded = "enable: 1\nipfilter: 1\ndhcp: 0\nlayer2_protocols: ARP\n"

// bridged is container 301, which is not phoenix's, with that interface and those options of its firewall.
func bridged(net, options string) func(*fakeHost, *look) {
	return func(h *fakeHost, _ *look) {
		h.put("/etc/pve/lxc/301.conf", 0o640, 0, "unprivileged: 1\nnet0: name=eth0,"+net+",type=veth\n")
		h.put("/etc/pve/firewall/301.fw", 0o640, 0, "[OPTIONS]\n"+options)
		h.runs["lxc-info -P /var/lib/lxc -n 301 -p -H"] = "\n"
	}
}

// noted is a container with that line in its notes, and no interface.
func noted(id, note string) func(*fakeHost, *look) {
	return func(h *fakeHost, _ *look) {
		h.put("/etc/pve/lxc/"+id+".conf", 0o640, 0, note+"\nunprivileged: 1\n")
		h.runs["lxc-info -P /var/lib/lxc -n "+id+" -p -H"] = "\n"
	}
}

func TestCleanSystem(t *testing.T) {
	h, l := sound(t)
	if found := l.all(t, h); len(found) > 0 {
		t.Errorf("a clean system has findings:\n%s", list(found))
	}
	if s := System(t.Context(), h, l.scene); len(s.Unseen) > 0 {
		t.Errorf("not seen: %v", s.Unseen)
	}
}

// TestRules has every rule with a finding and without one.
func TestRules(t *testing.T) {
	tested := map[string]bool{ruleUnwanted.ID: true, ruleForeignCertificate.ID: true} // TestIssued
	for _, c := range lookCases() {
		tested[c.rule] = true
		t.Run(c.rule+"/"+c.name, func(t *testing.T) { testRule(t, c) })
	}
	seen := map[string]bool{}
	for _, r := range append(Rules(), config.Rules()...) {
		if seen[r.ID] || r.Title == "" || r.Why == "" || r.Grade == "" {
			t.Errorf("rule %+v is not whole, or its id stands twice", r)
		}
		seen[r.ID] = true
	}
	for _, r := range Rules() {
		if !tested[r.ID] {
			t.Errorf("rule %s has no case with a finding and one without", r.ID)
		}
	}
}

func testRule(t *testing.T, c lookCase) {
	h, l := sound(t)
	c.bad(h, l)
	found, ok := l.all(t, h), false
	for _, f := range found {
		if strings.Contains(f.Summary+f.Fix, secret) || strings.Contains(f.Summary, "PRIVATE") {
			t.Errorf("a secret is shown: %s", f.Summary)
		}
		ok = ok || f.Rule.ID == c.rule && f.Object == c.object && strings.Contains(f.Summary, c.says) && f.Fix != ""
	}
	if !ok {
		t.Errorf("no finding of %s that says %q:\n%s", c.object, c.says, list(found))
	}
	h, l = sound(t)
	c.good(h, l)
	for _, f := range l.all(t, h) {
		if f.Rule.ID == c.rule {
			t.Errorf("a finding without a reason: %s", list([]config.Finding{f}))
		}
	}
}

func t0() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // never on Linux
	}
	return k
}

func keyPEM(k *ecdsa.PrivateKey) string {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err) // of a key that was just made
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// issue puts a certificate of a day that was issued an hour ago, and its key, made age before it.
func issue(h *fakeHost, base string, age time.Duration, mode fs.FileMode) *ecdsa.PrivateKey {
	k := t0()
	h.put(base+".key", mode, 0, keyPEM(k))
	h.change(base+".key", func(m *host.Meta) { m.ModTime = now.Add(-time.Hour - age) })
	certify(h, base, k, 1)
	return k
}

func certify(h *fakeHost, base string, k *ecdsa.PrivateKey, serial int64) {
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "a"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(23 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		panic(err) // a plain certificate
	}
	h.put(base+".crt", 0o644, 0, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// TestPasswordsOfTwoContainers are compared without being known.
func TestPasswordsOfTwoContainers(t *testing.T) {
	seen := func(id, word string) Seen {
		h, l := sound(t)
		l.place.ID = id
		h.put("/etc/nginx/password", 0o600, 0, word)
		s := Inside(t.Context(), h, l.place)
		if raw, err := json.Marshal(s); err != nil || bytes.Contains(raw, []byte(word)) {
			t.Errorf("%v, or the password goes over the pipe: %s", err, raw)
		}
		return s
	}
	if found := list(Findings(seen("101", secret), seen("102", secret))); !strings.Contains(found,
		"PHX-AUD-057 container/102: /etc/nginx/password has the password of /etc/nginx/password of container/101") {
		t.Errorf("got %s", found)
	}
	if found := Findings(seen("101", secret), seen("102", secret+"x")); len(found) > 0 {
		t.Errorf("got %s", list(found))
	}
}

// TestUnseen: what cannot be looked at is told, not passed over.
func TestUnseen(t *testing.T) {
	h, l := sound(t)
	asCA(l)
	h.put("/etc/step-ca/ssl/config/ca.json", 0o600, 0, "{")
	for i := range walkFiles + 10 {
		h.files[fmt.Sprintf("/etc/nginx/many/%d", i)] = h.files["/etc/hosts"]
	}
	h.dir("/etc/nginx/many", 0o755, 0)
	s := Inside(t.Context(), h, l.place)
	told := fmt.Sprint(s.Unseen)
	if !strings.Contains(told, "ca.json cannot be read") || !strings.Contains(told, "not all of /etc/nginx") {
		t.Errorf("told is %s", told)
	}
}

func TestSecretIn(t *testing.T) {
	for line, want := range map[string]string{
		`export STEP_CA_PASSWORD="` + secret + `"`: "STEP_CA_PASSWORD", `password: ` + secret: "password",
		`--admin-password ` + secret: "admin-password",
		`# password=` + secret:       "", `PASSWORD=$1`: "", `--password-file x`: "", `password_file=/x`: "",
		`read -s PASSWORD`: "", `PASSWORD=""`: "",
		`echo "root:$P" | chpasswd`: "", `-----BEGIN EC PRIVATE KEY-----`: "a private key",
		`log "no password given"`: "", `TOKEN=$(cat x)`: "",
		`if [ -z "$PASSWORD" ]; then`: "", `git clone https://u:` + secret + `@h/x`: "an address with a password",
	} {
		if got := secretIn(line); got != want {
			t.Errorf("%q has %q, want %q", line, got, want)
		}
	}
}

// TestInsideIsNotBelieved: a container that was broken into speaks for itself only, and in plain text.
func TestInsideIsNotBelieved(t *testing.T) {
	lie := Seen{Sights: []Sight{{Rule: "PHX-AUD-053", Object: "container/103",
		Summary: "\x1b[2J" + strings.Repeat("é", 5000), Fix: "a\nb", File: "/etc/passwd", Line: 3},
		{Rule: "PHX-AUD-999"}},
		Password: []Password{{Object: "container/103", Path: "/x", Mark: "m"}},
		Unseen:   []Unseen{{"container/103", "\x07"}}}
	got := lie.Of("container/101")
	found := Findings(got)
	if len(found) != 1 || found[0].Object != "container/101" || found[0].Source.File != "" ||
		found[0].Fix != insideFixes["PHX-AUD-053"] ||
		!strings.HasPrefix(found[0].Summary, "container/101 says: ?[2J") || len(found[0].Summary) > 2100 {
		t.Errorf("got %+v", found)
	}
	if got.Unseen[0] != (Unseen{"container/101", "container/101 says: ?"}) ||
		got.Password[0].Object != "container/101" {
		t.Errorf("got %+v", got)
	}
}
