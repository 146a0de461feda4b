package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// oldLayout is a house as the scripts of before left it: one directory of the CA, of nobody's and open to all, mounted
// in the containers of the CA, the gateway and the proxy, with the keys of all three in it. Nothing of phoenix is in
// the containers.
type oldLayout struct {
	*Hypervisor
	lxc    string // lxcpath
	shared string // the directory
	root   *x509.Certificate
	old    []*x509.Certificate // all that were made before phoenix
}

// oldPassword is the one of the CA's keys and of its provisioner.
const oldPassword = "changeme-4711"

// With rules the configuration asks for firewalls too, which the old scripts never made.
func newOldLayout(t *testing.T, rules map[string]string) *oldLayout {
	t.Helper()
	h := New(t, homelab())
	base := filepath.Dir(h.Root)
	o := &oldLayout{Hypervisor: h, lxc: filepath.Join(base, "old", "lxc"),
		shared: filepath.Join(base, "old", "persistent", "103", "ssl")}
	h.Phoenix("create", "900").Want(0) // for its root file system; phoenix makes nothing else here
	o.configure(rules)
	o.fill()
	// With an address of its own, which a bridge of a real hypervisor has of its network card.
	h.Exec("ip", "link", "add", bridge, "address", "02:00:0a:56:11:01", "type", "bridge").Want(0)
	h.Exec("ip", "address", "add", "10.86.17.1/24", "dev", bridge).Want(0)
	h.Exec("ip", "link", "set", bridge, "up").Want(0)
	for _, id := range []string{"103", "201", "102", "101"} {
		o.container(id)
	}
	o.caOf("103")
	o.backend("201")
	o.proxy("102")
	o.gateway("101")
	return o
}

// configure puts the old configuration in the place of the new one.
func (o *oldLayout) configure(rules map[string]string) {
	o.t.Helper()
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		raw, err := os.ReadFile(filepath.Join(repo(), "test", "e2e", "testdata", "oldlayout", name))
		if err != nil {
			o.t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "/mnt/persistent/103/ssl", o.shared)
		for name, rule := range rules {
			text = strings.Replace(text, `"name": "`+name+`",`,
				`"name": "`+name+`", "firewall": {"enabled": true, "rules": [`+rule+`]},`, 1)
		}
		if err := os.WriteFile(filepath.Join(o.Config, name), []byte(text), 0o644); err != nil {
			o.t.Fatal(err)
		}
	}
}

// container clones a root file system and starts it, defined as lxc's own tools would.
func (o *oldLayout) container(id string) {
	o.t.Helper()
	home := filepath.Join(o.lxc, id)
	if err := os.MkdirAll(home, 0o755); err != nil {
		o.t.Fatal(err)
	}
	command(o.t, "cp", "--archive", "--reflink=auto", "--no-target-directory",
		filepath.Join(o.Root, "templates", "900", "rootfs"), filepath.Join(home, "rootfs"))
	shiftTree(o.t, filepath.Join(home, "rootfs"), templateIDs(o.t, filepath.Join(home, "rootfs")), 100000)
	lines := []string{
		"lxc.include = /usr/share/lxc/config/common.conf", "lxc.include = /usr/share/lxc/config/userns.conf",
		"lxc.arch = linux64",
		"lxc.idmap = u 0 100000 65536", "lxc.idmap = g 0 100000 65536", "lxc.rootfs.path = dir:" + home + "/rootfs",
		"lxc.uts.name = old-" + id,
		"lxc.net.0.type = veth", "lxc.net.0.link = " + bridge, "lxc.net.0.flags = up", "lxc.net.0.name = eth0",
		"lxc.net.0.ipv4.address = 10.86.17." + id + "/24",
		"lxc.net.0.ipv4.gateway = 10.86.17.1", "lxc.apparmor.profile = unconfined", "lxc.signal.halt = SIGRTMIN+3",
	}
	if id != "201" {
		lines = append(lines, "lxc.mount.entry = "+o.shared+" etc/step-ca/ssl none bind,create=dir 0 0")
	}
	if err := os.WriteFile(filepath.Join(home, "config"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		o.t.Fatal(err)
	}
	o.Exec("lxc-start", "-P", o.lxc, "-n", id, "--daemon").Want(0)
	if !await(time.Minute, func() bool {
		r := o.Exec("lxc-attach", "-P", o.lxc, "-n", id, "--clear-env", "--", "systemctl", "is-system-running",
			"--wait")
		return strings.Contains(r.Stdout, "running") || strings.Contains(r.Stdout, "degraded")
	}) {
		o.t.Fatalf("old container %s does not come up", id)
	}
}

// in runs a script inside an old container.
func (o *oldLayout) in(id, script string) Result {
	o.t.Helper()
	return o.Exec("lxc-attach", "-P", o.lxc, "-n", id, "--clear-env", "--", "sh", "-ec", script)
}

// put writes a file inside an old container.
func (o *oldLayout) put(id, path, text string) {
	o.t.Helper()
	o.in(id, fmt.Sprintf("mkdir -p %q && printf %%s %q | base64 -d >%q", filepath.Dir(path),
		base64.StdEncoding.EncodeToString([]byte(text)), path)).Want(0)
}

// program puts one of the built programs into an old container.
func (o *oldLayout) program(id, name string) {
	o.t.Helper()
	parts := need(o.t)
	from, err := os.Open(parts.artifacts[name])
	if err != nil {
		o.t.Fatal(err)
	}
	defer from.Close()
	o.exec(from, []string{"lxc-attach", "-P", o.lxc, "-n", id, "--clear-env", "--", "sh", "-ec",
		"cat >/usr/local/bin/" + name + " && chmod 755 /usr/local/bin/" + name}).Want(0)
}

// fill makes what is in the shared directory: a CA with a password for all, and leaf certificates made by hand.
func (o *oldLayout) fill() {
	o.t.Helper()
	rootKey, root := o.sign("Old Root CA", nil, nil, nil)
	interKey, inter := o.sign("Old Intermediate CA", nil, root, rootKey)
	o.root = root
	o.save("certs/root_ca.crt", certPEM(root))
	o.save("certs/intermediate_ca.crt", certPEM(inter))
	o.save("secrets/root_ca_key", sealed(o.t, rootKey))
	o.save("secrets/intermediate_ca_key", sealed(o.t, interKey))
	o.save("password.txt", []byte(oldPassword+"\n"))
	o.save("provisioner_password.txt", []byte(oldPassword+"\n"))
	o.save("config/ca.json", o.authority())
	for name, names := range map[string][]string{
		"nginx": {"nginx.homelab.internal", "www.homelab.internal", "hello.homelab.internal",
			"traefik.homelab.internal"},
		"traefik": {"hello.homelab.internal", "traefik.homelab.internal"},
	} {
		key, leaf := o.sign(names[0], names, inter, interKey)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			o.t.Fatal(err)
		}
		o.save("certs/"+name+".crt", append(certPEM(leaf), certPEM(inter)...))
		o.save("certs/"+name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	command(o.t, "mkdir", "-p", filepath.Join(o.shared, "db"))
	command(o.t, "chown", "-R", "65534:65534", o.shared)
	command(o.t, "chmod", "-R", "777", o.shared)
}

func (o *oldLayout) save(path string, data []byte) {
	o.t.Helper()
	path = filepath.Join(o.shared, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		o.t.Fatal(err)
	}
}

// sign makes a key and a certificate for it: a leaf with names, else a CA; its own signature without a parent.
func (o *oldLayout) sign(cn string, names []string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey,
	*x509.Certificate) {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		o.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: names == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		MaxPathLen: -1,
	}
	if names != nil {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	o.old = append(o.old, cert)
	return key, cert
}

// chain is what a server shows for the backend's name.
func (o *oldLayout) chain(address string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := o.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	t := tls.Client(conn, &tls.Config{ServerName: "hello.homelab.internal", InsecureSkipVerify: true})
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return t.ConnectionState().PeerCertificates, nil
}

// start begins a phoenix command in a process group of its own.
func (o *oldLayout) start(args []string, out *os.File) *exec.Cmd {
	o.t.Helper()
	argv := o.inside(o.argv(args))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	return cmd
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// sealed is a key as step encrypts it.
func sealed(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the old tool writes it so
	b, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte(oldPassword), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(b)
}

// authority is ca.json with a JWK provisioner, whose password is the CA's.
func (o *oldLayout) authority() []byte {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		o.t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := map[string]any{"use": "sig", "kty": "EC", "kid": "old", "crv": "P-256", "alg": "ES256",
		"x": b64(public[1:33]), "y": b64(public[33:])}
	dir := "/etc/step-ca/ssl/"
	raw, err := json.MarshalIndent(map[string]any{
		"root": dir + "certs/root_ca.crt", "crt": dir + "certs/intermediate_ca.crt",
		"key":     dir + "secrets/intermediate_ca_key",
		"address": ":9000", "dnsNames": []string{"ca.homelab.internal", "10.86.17.103"},
		"logger": map[string]any{"format": "text"},
		"db":     map[string]any{"type": "badgerv2", "dataSource": dir + "db"},
		"authority": map[string]any{"provisioners": []any{
			map[string]any{"type": "JWK", "name": "admin@homelab.internal", "key": jwk,
				"encryptedKey": "eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1cifQ.x.x.x.x"},
			map[string]any{"type": "ACME", "name": "acme"},
		}},
	}, "", "\t")
	if err != nil {
		o.t.Fatal(err)
	}
	return raw
}

const oldUnit = "[Unit]\nDescription=%s\nAfter=network.target\n[Service]\nExecStart=%s\nRestart=always\nRestartSec=2\n[Install]\nWantedBy=multi-user.target\n"

func (o *oldLayout) unit(id, name, exec string) {
	o.t.Helper()
	o.put(id, "/etc/systemd/system/"+name+".service", fmt.Sprintf(oldUnit, name, exec))
	o.in(id, "systemctl daemon-reload && systemctl enable --now "+name).Want(0)
}

func (o *oldLayout) caOf(id string) {
	o.program(id, "step-ca")
	o.unit(id, "step-ca", "/usr/local/bin/step-ca /etc/step-ca/ssl/config/ca.json --password-file "+
		"/etc/step-ca/ssl/password.txt")
}

func (o *oldLayout) backend(id string) {
	o.put(id, "/etc/nginx/conf.d/hello.conf", "server { listen 8000; location / { default_type text/plain; return "+
		"200 \"hello from container "+id+"\\n\"; } }\n")
	o.in(id, "rm -f /etc/nginx/sites-enabled/default; systemctl enable nginx; systemctl restart nginx").Want(0)
}

func (o *oldLayout) proxy(id string) {
	o.program(id, "traefik")
	o.put(id, "/etc/traefik/traefik.yml", "entryPoints:\n  web:\n    address: \":80\"\n  websecure:\n    address: "+
		"\":443\"\nproviders:\n  file:\n    directory: /etc/traefik/dynamic\n    watch: true\n")
	o.put(id, "/etc/traefik/dynamic/services.yml", "http:\n  routers:\n    hello:\n      rule: "+
		"\"Host(`hello.homelab.internal`)\"\n      entryPoints: [websecure]\n      service: hello\n      tls: {}\n"+
		"  services:\n    hello:\n      loadBalancer:\n        servers:\n          - url: http://10.86.17.201:8000\n"+
		"tls:\n  certificates:\n    - certFile: /etc/step-ca/ssl/certs/traefik.crt\n      keyFile: "+
		"/etc/step-ca/ssl/certs/traefik.key\n")
	o.unit(id, "traefik", "/usr/local/bin/traefik --configFile=/etc/traefik/traefik.yml")
}

func (o *oldLayout) gateway(id string) {
	o.put(id, "/etc/nginx/sites-enabled/gateway", "server {\n  listen 443 ssl;\n  server_name _;\n  ssl_certificate "+
		"/etc/step-ca/ssl/certs/nginx.crt;\n  ssl_certificate_key /etc/step-ca/ssl/certs/nginx.key;\n"+
		"  location / {\n    proxy_pass https://10.86.17.102:443;\n    proxy_ssl_server_name on;\n    proxy_ssl_name "+
		"$host;\n    proxy_set_header Host $host;\n  }\n}\n"+
		"server {\n  listen 80;\n  server_name _;\n  return 301 https://$host$request_uri;\n}\n")
	o.in(id, "rm -f /etc/nginx/sites-enabled/default; systemctl enable nginx; systemctl restart nginx").Want(0)
}
