package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// run is phoenix, called on a machine in memory.
func (h *benchHouse) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can change a site")
	}
	for dir := filepath.Dir(h.app.opts.root); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { // containers' users pass
			t.Fatal(err)
		}
	}
	ctx := withStandIn(WithDrivers(t.Context(), h.app.drivers), standIn{host: h.app.host, connect: h.engine.Connect})
	ctx = WithLimits(ctx, Limits{Patience: time.Second}) // for what a machine in memory cannot do
	args = append([]string{"--config", h.app.opts.config[0], "--root", h.app.opts.root, "--runtime", "lxc"}, args...)
	var out, err bytes.Buffer
	code = Main(ctx, args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func (h *benchHouse) health(t *testing.T) []health.Result {
	t.Helper()
	_, out, said := h.run(t, "health", "-o", "json")
	var r health.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s%s", err, out, said)
	}
	return r.Checks
}

// check is how a check of an object ends, with what it advises.
func (h *benchHouse) check(t *testing.T, id string, a object.Address) health.Result {
	t.Helper()
	for _, c := range h.health(t) {
		if c.ID == id && c.Object == a {
			return c
		}
	}
	t.Fatalf("there is no %s of %s", id, a)
	return health.Result{}
}

// obeys calls what is advised, as a person does who pastes it: each command of phoenix's, up to where prose begins.
func (h *benchHouse) obeys(t *testing.T, fix string, want ...string) {
	t.Helper()
	command, _, _ := strings.Cut(fix, ";")
	command, _, _ = strings.Cut(command, ", and where")
	_, then, two := strings.Cut(command, ", then: ")
	if two {
		command = then // what comes before it a person has done
	}
	commands := strings.Split(command, " && ")
	if len(commands) != len(want) {
		t.Fatalf("the fix is %q, want %q", fix, want)
	}
	for i, command := range commands {
		prefix, rest, known := strings.Cut(command, " --runtime lxc ")
		if rest != want[i] || !known || !strings.Contains(prefix, " --config "+h.app.opts.config[0]+" ") {
			t.Fatalf("the fix is %q, want %q of the same site", fix, want[i])
		}
		code, out, said := h.run(t, strings.Fields(rest)...)
		t.Logf("%s: exit %d\n%s%s", rest, code, out, said)
		// setup sees to all else that the machine lacks which this runs on, and start to the health of a container that
		// only has a definition; neither can be had in memory
		if code != exitDone && !strings.HasPrefix(rest, "setup") && !strings.HasPrefix(rest, "restart") &&
			!strings.HasPrefix(rest, "start") {
			t.Fatalf("%s: exit %d\n%s%s", rest, code, out, said)
		}
	}
}

var idmaps = regexp.MustCompile(`(?m)^(lxc\.idmap = [ug] 0 ).*$`)

// TestRemediesAreDone breaks one thing after the other on a machine in memory, does what health says, and wants the
// check green. What only a real container shows is in test/e2e (fixes_test.go).
func TestRemediesAreDone(t *testing.T) {
	h := newBenchHouse(t, 1)
	h.run(t, "up") // ends unhealthy: nobody answers in there
	memory := h.app.host.(*memoryHost)
	definition := func(id string) string { return filepath.Join(h.app.opts.root, "lxc", id, "config") }
	shared := "lxc.mount.entry = " + filepath.Join(h.app.opts.root, "volumes", "1000", "data") +
		" srv/theirs none bind,create=dir 0 0\n"
	root, instances := h.app.opts.root, "/proc/sys/fs/inotify/max_user_instances"
	for _, c := range []struct {
		name, check string
		object      object.Address
		fault       func() error
		person      func() // does what stands in words before the command; nil: nothing does
		fix         []string
	}{
		{"a container that was destroyed", "PHX-CT-001", "running/1000",
			func() error { return memory.RemoveAll(filepath.Join(root, "lxc", "1000")) }, nil, []string{"create 1000"}},
		{"a volume that is gone", "PHX-VOL-001", "volume/1000/data",
			func() error { return memory.RemoveAll(filepath.Join(root, "volumes", "1000", "data")) }, nil,
			[]string{"create 1000"}},
		{"a bridge that was deleted", "PHX-NET-001", "network/benchbr0",
			func() error { delete(memory.links, "benchbr0"); return nil }, nil, []string{"apply"}},
		{"the hypervisor's rules, flushed", "PHX-FW-006", "hostfirewall/benchbr0",
			func() error { return memory.RemoveAll("/nft/inet") }, nil, []string{"apply"}},
		{"limits of the kernel that are used up", "PHX-HOST-001", "sysctl/hypervisor",
			func() error { memory.put(instances, []byte("1\n"), 0o644, host.Root); return nil }, nil, []string{"setup --yes"}},
		{"ids that another container has too", "PHX-IDS-001", "ids/1000", func() error {
			raw, err := memory.ReadFile(definition("1000"))
			memory.put(definition("1000"), idmaps.ReplaceAll(raw, []byte("${1}100000 65536")), 0o644, host.Root)
			return err
		}, nil, []string{"apply 1000 --yes"}},
		{"root inside is root outside", "PHX-CT-004", "container/1000", func() error {
			pid := memory.pids[filepath.Join(root, "lxc", "1000")]
			memory.put(filepath.Join("/proc", strconv.Itoa(pid), "uid_map"), []byte("0 0 4294967295"), 0o444, host.Root)
			return nil
		}, nil, []string{"apply 1000", "restart 1000"}},
		{"a container that was stopped", "PHX-CT-001", "running/1000", func() error {
			delete(memory.pids, filepath.Join(root, "lxc", "1000"))
			return nil
		}, nil, []string{"start 1000"}},
		{"an open way to a volume", "PHX-VOL-002", "volume/1000/data", func() error {
			return memory.Chmod(filepath.Join(root, "volumes", "1000"), 0o777)
		}, nil, []string{"apply 1000"}},
		{"an open volume", "PHX-VOL-001", "volume/1000/data", func() error {
			return memory.Chmod(filepath.Join(root, "volumes", "1000", "data"), 0o777)
		}, nil, []string{"apply 1000"}},
		{"a volume in another's definition", "PHX-VOL-004", "volume/1000/data", func() error {
			raw, err := memory.ReadFile(definition("102"))
			memory.put(definition("102"), append(raw, shared...), 0o644, host.Root)
			return err
		}, func() {
			raw, _ := memory.ReadFile(definition("102"))
			memory.put(definition("102"), bytes.TrimSuffix(raw, []byte(shared)), 0o644, host.Root)
		}, []string{"restart 102"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if before := h.check(t, c.check, c.object); before.Status != health.Pass {
				t.Fatalf("before the fault: %+v", before)
			}
			if err := c.fault(); err != nil {
				t.Fatal(err)
			}
			broken := h.check(t, c.check, c.object)
			if broken.Status != health.Fail {
				t.Fatalf("the fault is not seen: %+v", broken)
			}
			if c.person != nil {
				c.person()
			}
			h.obeys(t, broken.Fix, c.fix...)
			if after := h.check(t, c.check, c.object); after.Status != health.Pass {
				t.Errorf("after %s: %+v", c.fix, after)
			}
		})
	}
	t.Run("a certificate that is damaged", h.renews)
	t.Run("keys that are known to others", h.rotates)
	t.Run("what is shown", h.shows)
}

// inContainer is a check that runs inside, asked of a machine in memory.
func (h *benchHouse) inContainer(t *testing.T, id string, a object.Address) health.Result {
	t.Helper()
	for _, c := range health.Derive(h.objects(t)) {
		if c.ID == id && c.Object == a {
			r := health.Run(t.Context(), h.app.host, c)
			r.Fix = h.app.advice(r.Fix)
			return r
		}
	}
	t.Fatalf("there is no %s of %s", id, a)
	return health.Result{}
}

const backendName = "app0-backend.bench.internal"

// renews has a container that issues a certificate where it is asked to.
func (h *benchHouse) renews(t *testing.T) {
	memory, address := h.app.host.(*memoryHost), object.NewAddress(spec.KindCertificate, "1000", backendName)
	issue := func() {
		cert, key := selfSigned(t, backendName)
		memory.put("/srv/data/x.crt", cert, 0o644, host.Root)
		memory.put("/srv/data/x.key", key, 0o600, host.Root)
	}
	issue()
	issued := 0
	h.inside["1000"].does = func(o object.Object) {
		if o.Address == address {
			issued++
			issue()
		}
	}
	defer func() { h.inside["1000"].does = nil }()
	memory.put("/srv/data/x.crt", []byte("garbage"), 0o644, host.Root)
	broken := h.inContainer(t, "PHX-CERT-001", address)
	if broken.Status != health.Fail {
		t.Fatalf("%+v", broken)
	}
	for i, fix := range []string{broken.Fix, h.app.advice("phoenix cert renew --all")} {
		h.obeys(t, fix, []string{"cert renew " + backendName, "cert renew --all"}[i])
		if after := h.inContainer(t, "PHX-CERT-001", address); after.Status != health.Pass || issued != i+1 {
			t.Errorf("%s: issued %d times, %+v", fix, issued, after)
		}
	}
}

// shows calls what is advised for what it prints. Each prints something, and is no wrong call.
func (h *benchHouse) shows(t *testing.T) {
	for class, kind := range fixKinds {
		command, ours := strings.CutPrefix(class, "phoenix ")
		if !kind.shows || !ours {
			continue
		}
		args := strings.Fields(command)
		if slices.Contains(args, "--config") {
			args = append(args, h.app.opts.config[0])
		}
		if code, out, said := h.run(t, args...); code == exitUsage || len(out)+len(said) == 0 {
			t.Errorf("%s: exit %d\n%s%s", class, code, out, said)
		}
	}
}

// rotates wants every key to be made again by what the audit and the CA's own checks advise.
func (h *benchHouse) rotates(t *testing.T) {
	var again []object.Address
	for _, m := range h.inside {
		m.does = func(o object.Object) {
			if k := o.Address.Kind(); k == spec.KindStepCA || isCertificate(o) {
				again = append(again, o.Address)
			}
		}
	}
	defer func() {
		for _, m := range h.inside {
			m.does = nil
		}
	}()
	h.obeys(t, h.app.advice("phoenix ca rotate --yes"), "ca rotate --yes")
	for _, a := range []object.Address{"stepca/103", "certificate/101/gateway", "traefik/102/certificates",
		object.NewAddress(spec.KindCertificate, "1000", backendName)} {
		if !slices.Contains(again, a) {
			t.Errorf("%s is as before; new are %v", a, again)
		}
	}
	if raw, err := h.app.host.ReadFile(filepath.Join(h.app.opts.root, "exposed", "103")); err != nil {
		t.Errorf("what is known to others is not written down: %q, %v", raw, err)
	}
}

// selfSigned is a pair that belongs together.
func selfSigned(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}
