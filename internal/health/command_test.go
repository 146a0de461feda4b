package health

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

func commandCases() []runCase {
	return []runCase{
		{kindCommand, "well", says("sh -c curl -fsS http://localhost/", fakeRun{out: "ok\n"},
			commandParams{"curl -fsS http://localhost/"}), Pass, "ok"},
		{kindCommand, "not well", says("sh -c false", fakeRun{err: "no", code: 1}, commandParams{"false"}), Fail,
			"not well"},
		{kindCommand, "no program", says("sh -c frob", fakeRun{err: "frob: not found", code: 127},
			commandParams{"frob"}), Fail, "a program is missing"},
	}
}

func TestCommandOfTheUsers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, open, _ := net.SplitHostPort(l.Addr().String())
	for command, want := range map[string]string{
		"true":                    "pass: the application's own check says that it is well",
		"echo fine; exit 3":       "fail: the application's own check says that it is not well",
		"no-such-program-phx":     "fail: the application's own check cannot be run: a program is missing",
		"nc -z 127.0.0.1 " + open: "pass: the application takes connections",
		"nc -z localhost 1":       "fail: the application takes no connections on localhost:1",
		"nc -zv -w 5 x 9000":      "fail: the application takes no connections on x:9000",
	} {
		raw, err := json.Marshal(commandParams{Command: command})
		if err != nil {
			t.Fatal(err)
		}
		e, _, _ := lookup(kindCommand)
		r := Run(context.Background(), &host.Local{},
			Check{ID: e.id, Kind: kindCommand, Object: object.Address("running/103"), Params: raw,
				Enter: "lxc-attach -n 103 --"})
		if missing := command == "no-such-program-phx"; r.Vain != missing {
			t.Errorf("%s: to be tried again: %t", command, !r.Vain)
		}
		if got := string(r.Status) + ": " + r.Summary; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s (%s)", command, got, r.Evidence)
		}
	}
}
