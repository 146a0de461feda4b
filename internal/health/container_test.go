package health

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var (
	running101 = spec.Running{ID: "101", Path: "/lxc"}
	idMap      = spec.IDMap{Base: 100000, Count: 65536}
)

const (
	stateCommand = "lxc-info -P /lxc -n 101 -s -H"
	pidCommand   = "lxc-info -P /lxc -n 101 -p -H"
	unitCommand  = "systemctl show web.service --property=LoadState,ActiveState,SubState,Result"
	agentCommand = "systemctl show phoenix-agent.service --property=LoadState,ActiveState,SubState,Result"
	systemState  = "systemctl is-system-running"
	systemFailed = "systemctl list-units --state=failed --plain --no-legend --no-pager"
)

// says makes a case that differs only in what one command says.
func says(command string, r fakeRun, params any) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.runs[command] = r
		return params
	}
}

func uidMap(text string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.runs[pidCommand] = fakeRun{out: "42\n"}
		h.put("/proc/42/uid_map", 0o444, 0, 0, "         0     100000      65536\n")
		h.put("/proc/42/gid_map", 0o444, 0, 0, text)
		return idMapParams{Running: running101, IDMap: idMap}
	}
}

func degraded(units ...string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.runs[systemState] = fakeRun{out: "degraded\n", code: 1}
		h.runs[systemFailed] = fakeRun{out: "cron.service loaded failed failed Cron\nweb.service loaded failed " +
			"failed Web\n"}
		return systemdParams{Units: units}
	}
}

func unitRun(active, sub, result, load string) fakeRun {
	return fakeRun{out: "Result=" + result + "\nLoadState=" + load + "\nActiveState=" + active + "\nSubState=" +
		sub + "\n"}
}

func unitCase(name string, p unitParams, r fakeRun, want Status, text string) runCase {
	p.Name = "web.service"
	return runCase{kindUnit, name, func(t *testing.T, h *fakeHost) any {
		h.runs["journalctl --no-pager --output=cat -n 20 -u web.service"] = fakeRun{out: "no port is taken\n"}
		return says(unitCommand, r, p)(t, h)
	}, want, text}
}

// agentRound is a daemon whose unit is in a state and whose last word is as old as said.
func agentRound(active string, age, next time.Duration, failures string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		h.clock = func() time.Time { return now }
		h.runs[agentCommand] = unitRun(active, "x", "success", "loaded")
		word := map[string]any{"time": now.Add(-age), "next": now.Add(-age).Add(next), "changes": 0,
			"failures": json.RawMessage(failures)}
		b, _ := json.Marshal(word)
		h.put(RoundPath, 0o644, 0, 0, string(b))
		return nothing{}
	}
}

func containerCases() []runCase {
	oneshot, stopped := unitParams{Oneshot: true}, unitParams{Stopped: true}
	return []runCase{
		{kindRunning, "runs", says(stateCommand, fakeRun{out: "RUNNING\n"}, running101), Pass, "RUNNING"},
		{kindRunning, "stopped", says(stateCommand, fakeRun{out: "STOPPED\n"}, running101), Fail, "state STOPPED"},
		{kindRunning, "absent", says(stateCommand, fakeRun{err: "101 doesn't exist\n", code: 1}, running101), Fail,
			"101 doesn't exist"},
		{kindInside, "answers", func(*testing.T, *fakeHost) any { return nothing{} }, Pass, "container 101"},
		{kindUnreadable, "spec", func(*testing.T, *fakeHost) any { return unreadable{"bad mode"} }, Fail, "bad mode"},
		{kindIDMap, "right", uidMap("0 100000 65536\n"), Pass, "0 100000 65536"},
		{kindIDMap, "privileged", uidMap("0 0 4294967295\n"), Fail, "gid_map: 0 0 4294967295"},
		{kindIDMap, "stopped", says(pidCommand, fakeRun{}, idMapParams{running101, idMap}), Fail, "no first process"},
		{kindSystemd, "running", says(systemState, fakeRun{out: "running\n"}, systemdParams{}), Pass, "running"},
		{kindSystemd, "starting", says(systemState, fakeRun{out: "starting\n", code: 1}, systemdParams{}), Fail,
			"still starting"},
		{kindSystemd, "silent", says(systemState, fakeRun{err: "Host is down", code: 1}, systemdParams{}), Fail,
			"Host is down"},
		{kindSystemd, "maintenance", says(systemState, fakeRun{out: "maintenance\n", code: 1}, systemdParams{}), Fail,
			"maintenance"},
		{kindSystemd, "failed units", degraded("web.service"), Fail, "failed units: cron.service |"},
		{kindSystemd, "failed units checked elsewhere", degraded("cron.service", "web.service"), Pass, "degraded"},
		unitCase("runs", unitParams{}, unitRun("active", "running", "success", "loaded"), Pass, "active (running)"),
		unitCase("failed", unitParams{}, unitRun("failed", "failed", "exit-code", "loaded"), Fail, "result exit-code"),
		unitCase("absent", unitParams{}, unitRun("inactive", "dead", "success", "not-found"), Fail, "not-found"),
		unitCase("unknown", unitParams{}, fakeRun{err: "no bus", code: 1}, Fail, "no bus"),
		unitCase("oneshot done", oneshot, unitRun("inactive", "dead", "success", "loaded"), Pass, "has run"),
		unitCase("oneshot failed", oneshot, unitRun("failed", "failed", "exit-code", "loaded"), Fail, "not running"),
		unitCase("oneshot absent", oneshot, unitRun("inactive", "dead", "success", "not-found"), Fail, "not-found"),
		unitCase("stopped", stopped, unitRun("inactive", "dead", "success", "loaded"), Pass, "stopped"),
		unitCase("should be stopped", stopped, unitRun("active", "running", "success", "loaded"), Fail,
			"should not run"),
		unitCase("deaf", unitParams{Ready: ":9000"}, unitRun("active", "running", "success", "loaded"), Fail,
			"127.0.0.1:9000"),
		{kindWatch, "the same", watchSeen(WatchSeen{PID: 7, Program: "v1 (aa)", Own: "v1 (aa)"}), Pass,
			"pid 7, v1 (aa)"},
		{kindWatch, "another", watchSeen(WatchSeen{PID: 7, Program: "v1 (aa)", Own: "v2 (bb)"}), Fail,
			"pid 7 is v1 (aa), this is v2 (bb)"},
		{kindWatch, "none", watchSeen(WatchSeen{Unit: "phoenix.service", Own: "v2 (bb)"}), Fail,
			"phoenix.service is installed"},
		{kindRootFiles, "there", rootFilesAt("ca.crt", "key", "password"), Pass, "/ca"},
		{kindRootFiles, "lost", rootFilesAt(), Fail, "ca.crt is absent"},
		{kindRootFiles, "without its key", rootFilesAt("ca.crt", "password"), Fail, "key is absent"},
		{kindUnit, "port taken", takenPort, Fail, "port 443 is taken by process 12 (perl)"},
		{kindCertReload, "there", says(unitCommand, unitRun("inactive", "dead", "success", "loaded"),
			reloadParams{Units: []string{"web.service"}}), Pass, "web.service"},
		{kindCertReload, "no such unit", says(unitCommand, unitRun("inactive", "dead", "success", "not-found"),
			reloadParams{Units: []string{"web.service"}}), Fail, "reload names web.service"},
		{kindCertReload, "unknown",
			says(unitCommand, fakeRun{err: "no bus", code: 1}, reloadParams{Units: []string{"web.service"}}), Fail,
			"no bus"},
		{kindUnit, "ready", readyUnit, Pass, "takes connections"},
		{kindDaemon, "alive", agentRound("active", 12*time.Second, 30*time.Second, "[]"), Pass, "last round 12s ago"},
		{kindDaemon, "dead", agentRound("failed", 0, 0, "[]"), Fail, "not running"},
		{kindDaemon, "stuck", agentRound("active", time.Hour, time.Minute, "[]"), Fail, "next was due 59m0s ago"},
		{kindDaemon, "new", says(agentCommand, unitRun("active", "running", "success", "loaded"), nothing{}), Fail,
			"not finished a round"},
		{kindRound, "true", agentRound("active", time.Second, 0, "[]"), Pass, "everything true"},
		{kindRound, "failures",
			agentRound("active", 0, 0,
				`[{"address":"file/101/a","message":"disk full"},{"address":"unit/101/b","message":"x","blocked_by":"file/101/a"}]`), Fail, "cannot keep true: file/101/a | disk full"},
		{kindRound, "no word", func(*testing.T, *fakeHost) any { return nothing{} }, Fail, "not known"},
	}
}

// listening is a container with those lines in its tables of sockets, and nginx at process 12 with the socket 77.
func listening(wanted []string, lines ...string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
			text := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
			for _, line := range lines {
				if name, entry, _ := strings.Cut(line, " "); name == table {
					at, entry, _ := strings.Cut(entry, " ")
					state, inode, _ := strings.Cut(entry, " ")
					text += "   0: " + at + " 00000000:0000 " + state +
						" 00000000:00000000 00:00000000 00000000     0        0 " + inode + " 1\n"
				}
			}
			h.put("/proc/net/"+table, 0o444, 0, 0, text)
		}
		h.put("/proc/sys/net/ipv4/ip_local_port_range", 0o644, 0, 0, "32768\t60999\n")
		h.put("/proc/12/comm", 0o444, 0, 0, "nginx\n")
		h.links["/proc/12/fd/3"] = "socket:[77]"
		h.put("/proc/12/fd/3", 0o777|fs.ModeSymlink, 0, 0, "")
		for _, dir := range []string{"/proc", "/proc/12", "/proc/12/fd"} {
			h.put(dir, 0o555|fs.ModeDir, 0, 0, "")
		}
		return listeningParams{Wanted: wanted}
	}
}

func listeningCases() []runCase {
	const http = "tcp 00000000:0050 0A 77"
	many := []string{"tcp 00000000:0001 0A 1", "tcp 00000000:0002 0A 2", "tcp 00000000:0003 0A 3",
		"tcp 00000000:0004 0A 4", "tcp 00000000:0005 0A 5",
		"tcp6 00000000000000000000000000000000:0006 0A 6"}
	return []runCase{
		{kindListening, "nothing", listening(nil), Pass, "nothing listens"},
		{kindListening, "wanted", listening([]string{"tcp/80"}, http), Pass, "tcp/80"},
		{kindListening, "in a range", listening([]string{"tcp/1-100"}, http), Pass, "tcp/80"},
		{kindListening, "of another protocol", listening([]string{"udp/80"}, http), Fail,
			"nginx (process 12) on tcp/80"},
		{kindListening, "unwanted", listening([]string{"tcp/443", "x"}, http), Fail, "nginx (process 12) on tcp/80"},
		{kindListening, "over IPv6", listening(nil, "tcp6 00000000000000000000000000000000:0050 0A 77"), Fail,
			"nginx (process 12) on tcp/80"},
		{kindListening, "both", listening(nil, http, "tcp6 00000000000000000000000000000000:0050 0A 78"), Fail,
			"nginx (process 12) on tcp/80"},
		{kindListening, "names", listening(nil, "udp 00000000:0035 07 78"), Fail,
			"a process that cannot be found on udp/53"},
		{kindListening, "a question", listening(nil, "udp 00000000:8001 07 78"), Pass, ""},
		{kindListening, "loopback",
			listening(nil, "tcp 0100007F:0050 0A 77", "tcp6 00000000000000000000000001000000:0050 0A 77",
				"tcp6 0000000000000000FFFF00000100007F:0050 0A 77"), Pass, ""},
		{kindListening, "a connection", listening(nil, "tcp 00000000:0050 01 77"), Pass, ""},
		{kindListening, "many", listening(nil, many...), Fail, "on tcp/5, and 1 more"},
		{kindListening, "no table", func(*testing.T, *fakeHost) any { return listeningParams{} }, Fail, "not known"},
	}
}

func watchSeen(p WatchSeen) func(*testing.T, *fakeHost) any {
	return func(*testing.T, *fakeHost) any { return p }
}

func rootFilesAt(names ...string) func(*testing.T, *fakeHost) any {
	return func(_ *testing.T, h *fakeHost) any {
		for _, name := range names {
			h.put("/ca/secrets/root/"+name, 0o600, 0, 0, "x")
		}
		return rootFiles{Dir: "/ca"}
	}
}

// takenPort is a unit that does not get its port, which process 12 has.
func takenPort(_ *testing.T, h *fakeHost) any {
	h.runs[unitCommand] = unitRun("failed", "failed", "exit-code", "loaded")
	h.runs["journalctl --no-pager --output=cat -n 20 -u web.service"] = fakeRun{out: "bind() to 0.0.0.0:443 failed " +
		"(98: Address already in use)\n"}
	h.put("/proc/net/tcp", 0o444, 0, 0, "  sl  local_address\n 0: 00000000:01BB 00000000:0000 0A 00000000:00000000 "+
		"00:00000000 00000000 0 0 77 1\n")
	for _, name := range []string{"/proc", "/proc/12", "/proc/12/fd", "/proc/12/fd/3"} {
		h.put(name, 0o555, 0, 0, "")
	}
	h.put("/proc/12/comm", 0o444, 0, 0, "perl\n")
	h.links["/proc/12/fd/3"] = "socket:[77]"
	return unitParams{Name: "web.service"}
}

func readyUnit(t *testing.T, h *fakeHost) any {
	h.runs[unitCommand] = unitRun("active", "running", "success", "loaded")
	h.dials["tcp 127.0.0.1:9000"] = listen(t)
	return unitParams{Name: "web.service", Ready: ":9000"}
}

// TestEnter pins the command that a fix tells people to type.
func TestEnter(t *testing.T) {
	c := Check{Object: "unit/101/web.service", Host: "101",
		Enter: enter(spec.Running{ID: "101", Path: "/var/lib/phoenix/lxc"})}
	const want = "lxc-attach -P /var/lib/phoenix/lxc -n 101 -- journalctl -n 50"
	if got := c.inside("journalctl -n 50"); got != want {
		t.Errorf("got %s", got)
	}
	if r := Failed(c, &testError{}); r.Status != Fail || !strings.Contains(r.Summary, "inside container 101") ||
		r.Fix != "phoenix apply 101" {
		t.Errorf("got %+v", r)
	}
}

type testError struct{}

func (*testError) Error() string { return "lost" }

func TestHuman(t *testing.T) {
	for d, want := range map[time.Duration]string{
		3*time.Hour + 12*time.Minute + 9*time.Second: "3h12m", 292 * time.Hour: "12d4h", -45 * time.Second: "45s",
		90 * time.Second: "1m30s", 850 * time.Millisecond: "850ms",
	} {
		if got := human(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestUnknownKindAndParams(t *testing.T) {
	h := newHost(t)
	if r := Run(t.Context(), h, Check{Kind: "future", Host: "101"}); r.Status != Fail ||
		!strings.Contains(r.Evidence, "another version") {
		t.Errorf("got %+v", r)
	}
	if r := Run(t.Context(), h, Check{Kind: kindUnit, Params: json.RawMessage(`{"nmae":"x"}`)}); r.Status != Fail ||
		!strings.Contains(r.Evidence, "nmae") {
		t.Errorf("got %+v", r)
	}
}

// TestRunJSON: the report's field names are a contract.
func TestRunJSON(t *testing.T) {
	b, err := RunJSON(t.Context(), newHost(t),
		json.RawMessage(`{"id":"PHX-SPEC-001","object":"unit/101/x","kind":"unreadable","params":{"problem":"bad"}}`))
	const want = `{"id":"PHX-SPEC-001","object":"unit/101/x","status":"fail","summary":"the object's spec cannot be read","evidence":"bad","fix":"phoenix validate"}`
	if err != nil || string(b) != want {
		t.Errorf("got %s %v", b, err)
	}
	if _, err := RunJSON(t.Context(), newHost(t), json.RawMessage(`[]`)); err == nil {
		t.Error("a list is no check")
	}
	whole, err := json.Marshal(Report{Checks: []Result{}})
	if err != nil || string(whole) != `{"healthy":false,"checks":[]}` {
		t.Errorf("got %s %v", whole, err)
	}
}
