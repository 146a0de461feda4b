package unit

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

// inContainer skips a test that starts units. To run it: CGO_ENABLED=0 go test -c, put the binary into a systemd
// container that may be thrown away (nginx installed), and start it there as root with PHOENIX_TEST_IN_CONTAINER=1.
func inContainer(t *testing.T) {
	t.Helper()
	if os.Getenv("PHOENIX_TEST_IN_CONTAINER") != "1" {
		t.Skip("starts and stops units: runs in a throw-away container with PHOENIX_TEST_IN_CONTAINER=1")
	}
	if comm, err := os.ReadFile("/proc/1/comm"); err != nil || string(comm) != "systemd\n" {
		t.Skipf("process 1 is %q, not systemd (%v)", comm, err)
	}
}

const (
	testUnit  = "phx-test.service"
	testTimer = "phx-test.timer"
	address   = "127.0.0.1:18343"
)

// TestMain is also the program of the test's own unit: it listens after a while.
func TestMain(m *testing.M) {
	if os.Getenv("PHX_TEST_LISTEN") == "" {
		os.Exit(m.Run())
	}
	time.Sleep(100 * time.Millisecond)
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	deaf := make(chan os.Signal, 1)
	signal.Notify(deaf, syscall.SIGUSR1)
	go func() { <-deaf; l.Close() }()
	for {
		c, err := l.Accept()
		if err != nil {
			select {} // alive, and takes no connections any more
		}
		c.Close()
	}
}

func listener(t *testing.T) spec.Unit {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content := "[Unit]\nDescription=test\n[Service]\nType=exec\nEnvironment=PHX_TEST_LISTEN=1\nExecStart=" + self +
		"\n[Install]\nWantedBy=multi-user.target\n"
	return spec.Unit{Name: testUnit, Content: content, DropIn: "[Service]\nNice=1", Inputs: "one", Also: "two",
		Ready: address}
}

func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// clean removes every trace of the test's units.
func clean(t *testing.T) {
	t.Helper()
	for _, n := range []string{testTimer, testUnit} {
		sh(t, "systemctl disable --now "+n+" 2>/dev/null || true; rm -rf /etc/systemd/system/"+n+
			" /etc/systemd/system/"+n+".d /run/systemd/system/"+n)
	}
	sh(t, "systemctl daemon-reload; systemctl reset-failed")
}

func cleanNginx(t *testing.T) {
	t.Helper()
	sh(t, "systemctl unmask nginx; systemctl disable --now nginx; rm -rf /etc/systemd/system/nginx.service.d; "+
		"systemctl daemon-reload; systemctl reset-failed")
}

func objectOf(t *testing.T, s spec.Unit) object.Object {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return object.Object{Address: object.NewAddress(spec.KindUnit, "101", s.Name), Spec: raw}
}

type damages = map[string]func(*testing.T, host.Host, object.Object)

func by(script string) func(*testing.T, host.Host, object.Object) {
	return func(t *testing.T, _ host.Host, _ object.Object) { sh(t, script) }
}

func check(t *testing.T, s spec.Unit, setUp func(*testing.T), d damages) {
	t.Helper()
	inContainer(t)
	t.Cleanup(func() { setUp(t) })
	conformance.Run(t, conformance.Case{Driver: provider.New(Driver{UpLimit: 3 * time.Second}), Break: d,
		Fresh: func(t *testing.T) (host.Host, object.Object) {
			setUp(t)
			return &host.Local{}, objectOf(t, s)
		}})
}

// deafen makes the test's unit take no connections any more, and go on.
func deafen(t *testing.T, _ host.Host, _ object.Object) {
	t.Helper()
	sh(t, "systemctl kill -s USR1 "+testUnit)
	for end := time.Now().Add(5 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("it still takes connections")
		}
	}
}

func TestService(t *testing.T) {
	const file, side = "/etc/systemd/system/" + testUnit, "/etc/systemd/system/" + testUnit + ".d/50-phoenix.conf"
	check(t, listener(t), clean, damages{
		"stopped": by("systemctl stop " + testUnit),
		"killed": by("systemctl kill -s KILL " + testUnit + "; while systemctl is-active -q " +
			testUnit + "; do :; done"),
		"disabled":                 by("systemctl disable " + testUnit),
		"disabled behind its back": by("rm /etc/systemd/system/multi-user.target.wants/" + testUnit),
		"masked":                   by("systemctl stop " + testUnit + "; rm " + file + "; systemctl mask " + testUnit),
		"file edited":              by("echo '# x' >> " + file),
		"file gone":                by("rm " + file),
		"file gone and noticed":    by("rm " + file + "; systemctl daemon-reload"),
		"drop-in gone":             by("rm " + side),
		"drop-in gone and noticed": by("rm " + side + "; systemctl daemon-reload"),
		"runs with other inputs": by("cp -p " + side + " /root/side; echo Environment=PHOENIX_INPUTS=old >> " + side +
			"; systemctl daemon-reload; systemctl restart " + testUnit + "; cp -p /root/side " + side +
			"; systemctl daemon-reload"),
		"loaded with other inputs": by("cp -p " + side + " /root/side; echo Environment=PHOENIX_INPUTS=old >> " + side +
			"; systemctl daemon-reload; cp -p /root/side " + side),
		"start limit hit": by("for i in 1 2 3 4 5 6 7 8; do systemctl restart " + testUnit +
			" || break; done; systemctl is-failed " + testUnit),
		"alive and deaf": deafen,
	})
}

func TestOneshot(t *testing.T) {
	s := spec.Unit{Name: testUnit, Content: "[Service]\nType=oneshot\nExecStart=/bin/true\n", Inputs: "a",
		Oneshot: true}
	side := dropInPath(s)
	check(t, s, clean, damages{
		"not run": by("systemctl stop " + testUnit),
		"ran with other inputs": by("cp -p " + side + " /root/side; sed -i s/phoenix.inputs:./phoenix.inputs:x/ " +
			side +
			"; systemctl daemon-reload; systemctl restart " + testUnit + "; cp -p /root/side " + side +
			"; systemctl daemon-reload"),
	})
}

func TestTimer(t *testing.T) {
	s := spec.Unit{Name: testTimer,
		Content: "[Timer]\nOnCalendar=yearly\nUnit=nginx.service\n[Install]\nWantedBy=timers.target\n"}
	check(t, s, clean, damages{"stopped": by("systemctl stop " + testTimer),
		"edited": by("sed -i s/yearly/monthly/ " + filePath(s) + "; systemctl daemon-reload; systemctl restart " +
			testTimer)})
}

// nginx overwrites its environment.
func TestDropInOfPackagedUnit(t *testing.T) {
	s := spec.Unit{Name: "nginx.service", DropIn: "[Service]\nRestart=always\n"}
	check(t, s, cleanNginx, damages{"masked": by("systemctl stop nginx; systemctl mask nginx"),
		"masked until reboot": by("systemctl mask --runtime nginx")})
}

func TestPlainPackagedUnit(t *testing.T) {
	check(t, spec.Unit{Name: "nginx.service"}, cleanNginx, damages{"stopped": by("systemctl stop nginx")})
}

func TestStopped(t *testing.T) {
	up := func(t *testing.T) { cleanNginx(t); sh(t, "systemctl enable --now nginx") }
	check(t, spec.Unit{Name: "nginx.service", Stopped: true}, up,
		damages{"started": by("systemctl start nginx"), "enabled": by("systemctl enable nginx")})
	cleanNginx(t)
	obs, err := New().Observe(context.Background(), &host.Local{},
		objectOf(t, spec.Unit{Name: "phx-nothing.service", Stopped: true}))
	if err != nil || !obs.Delta.Empty() {
		t.Errorf("a unit that does not exist is stopped: %+v, %v", obs, err)
	}
}

// A unit for the next boot is enabled and not started; one that runs with older inputs is restarted.
func TestAtBoot(t *testing.T) {
	inContainer(t)
	s := spec.Unit{Name: testUnit, Content: "[Service]\nExecStart=/bin/sleep " +
		"infinity\n[Install]\nWantedBy=multi-user.target\n", Inputs: "a", AtBoot: true}
	if err := applyNew(t, s); err != nil {
		t.Fatal(err)
	}
	pid := func(s spec.Unit) int {
		t.Helper()
		have, err := Driver{}.Observe(context.Background(), &host.Local{}, "unit/x", s)
		if err != nil || have == nil || have.Enabled != "enabled" {
			t.Fatalf("%+v, %v", have, err)
		}
		if d := (Driver{}).Diff(s, have); !d.Empty() {
			t.Fatalf("%+v", d)
		}
		return have.PID
	}
	if got := pid(s); got != 0 {
		t.Errorf("it was started: %d", got)
	}
	sh(t, "systemctl start "+testUnit)
	before := pid(s)
	s.Inputs = "b"
	obs, err := New().Observe(context.Background(), &host.Local{}, objectOf(t, s))
	if err == nil {
		err = New().Apply(context.Background(), &host.Local{}, objectOf(t, s), obs.Delta)
	}
	if err != nil {
		t.Fatal(err)
	}
	if after := pid(s); before == 0 || after == 0 || after == before {
		t.Errorf("older inputs still run: %d, then %d", before, after)
	}
}

func applyNew(t *testing.T, s spec.Unit) error {
	t.Helper()
	clean(t)
	t.Cleanup(func() { clean(t) })
	return New().Apply(context.Background(), &host.Local{}, objectOf(t, s), plan.Delta{Action: plan.Create})
}

func TestErrorsCarryTheJournal(t *testing.T) {
	inContainer(t)
	for _, kind := range []string{"exec", "notify", "oneshot"} {
		s := spec.Unit{Name: testUnit, Inputs: "x",
			Content: "[Service]\nType=" + kind + "\nExecStart=/bin/sh -c 'echo no moon in sight " + kind +
				"; exit 3'\n"}
		err := applyNew(t, s)
		if err == nil || provider.IsPermanent(err) || !strings.Contains(err.Error(), "no moon in sight "+kind) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := applyNew(t, spec.Unit{Name: "phx-nothing.service", Inputs: "x"}); !provider.IsPermanent(err) {
		t.Errorf("a unit that nobody brings: %v", err)
	}
	sh(t, "rm -r /etc/systemd/system/phx-nothing.service.d; systemctl daemon-reload")
	if err := applyNew(t, spec.Unit{Name: testUnit, Content: "[Service]\nType=exec\n"}); !provider.IsPermanent(err) {
		t.Errorf("a unit that cannot be loaded: %v", err)
	}
}

// A change of inputs restarts; a second apply of the same does not.
func TestRestartsOnlyOnChange(t *testing.T) {
	inContainer(t)
	s := listener(t)
	if err := applyNew(t, s); err != nil {
		t.Fatal(err)
	}
	pid := func() string {
		p, err := show(context.Background(), &host.Local{}, testUnit)
		if err != nil {
			t.Fatal(err)
		}
		return p["MainPID"]
	}
	first := pid()
	again := func(s spec.Unit, d plan.Delta) {
		if err := New().Apply(context.Background(), &host.Local{}, objectOf(t, s), d); err != nil {
			t.Fatal(err)
		}
	}
	again(s, plan.Delta{Action: plan.Update})
	if pid() != first {
		t.Error("restarted without a change")
	}
	s.Also = "three"
	obs, err := New().Observe(context.Background(), &host.Local{}, objectOf(t, s))
	if err != nil || !obs.Delta.Has(fieldInputs) {
		t.Fatalf("changed inputs not seen: %+v, %v", obs.Delta, err)
	}
	again(s, obs.Delta)
	if pid() == first {
		t.Error("not restarted with other inputs")
	}
}

// While it does not answer, as at boot, trying again is of use.
func TestSystemdDoesNotAnswer(t *testing.T) {
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("no systemctl here")
	}
	if _, err := os.Stat("/run/systemd/private"); err == nil {
		t.Skip("systemd answers here")
	}
	_, err := New().Observe(context.Background(), &host.Local{}, objectOf(t, spec.Unit{Name: "nginx.service"}))
	if err == nil || provider.IsPermanent(err) || !strings.Contains(err.Error(), "systemd does not answer") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkObserve(b *testing.B) {
	if _, err := os.Stat("/run/systemd/private"); err != nil {
		b.Skip("no systemd here")
	}
	for b.Loop() {
		if _, err := (Driver{}).Observe(context.Background(), &host.Local{}, "unit/101/x",
			spec.Unit{Name: "nginx.service", Inputs: "x"}); err != nil {
			b.Fatal(err)
		}
	}
}
