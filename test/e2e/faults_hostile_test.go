package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hostileAgent is what root in 201 does to the phoenix in there: begin, and how it is taken back.
type hostileAgent struct {
	name, begin, end string
}

// freezer stops every agent that is started, as soon as it sees it. It knows its own processes only: those of the
// container.
const freezer = `cat >/root/freezer <<'END'
while :; do
    for p in /proc/[0-9]*; do
        if tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q 'agent serve'; then kill -STOP ${p#/proc/} 2>/dev/null || :; fi
    done
done
END
setsid sh /root/freezer >/dev/null 2>&1 </dev/null & echo $! >/root/freezer.pid`

// greeter says hello, as the answer to the first request, and nothing more.
const greeter = `printf '#!/bin/sh\nprintf %%b "R\\\\0000\\\\0000\\\\0000\\\\0036\\\\0000\\\\0000\\\\0000\\\\0001"\nprintf %%s %s\nexec sleep 120\n' \
    "'{\"hello\":{\"version\":\"v1\"}}'" >/root/greeter
chmod 755 /root/greeter
mount --bind /root/greeter /` + agentPath

var hostileAgents = []hostileAgent{
	{"frozen", freezer, `kill -9 $(cat /root/freezer.pid)`},
	{"says hello and nothing", greeter, `umount /` + agentPath},
}

const (
	besideLimit  = 60 * time.Second // for a command beside one that is waited for 10 s, on a busy machine
	besideHealed = 30 * time.Second // until a killed 101 is up again: a boot
)

// Commands beside a 201 that says nothing end, and name it; watch heals the others meanwhile.
func (f *faults) besideHostileAgents(t *testing.T) {
	commands := map[string][]int{"plan": {1}, "status": {1}, "health": {3}, "audit": {0, 3}}
	for _, x := range hostileAgents {
		if name := "hostile: " + x.name; !strings.Contains(name, os.Getenv("PHOENIX_FAULT")) {
			continue
		}
		began := time.Now()
		f.sh("201", x.begin)
		was := f.init("101")
		f.must(syscall.Kill(was, syscall.SIGKILL))
		var all sync.WaitGroup
		for command, exits := range commands {
			all.Go(func() {
				start := time.Now()
				r := f.Phoenix(command)
				took := time.Since(start).Round(100 * time.Millisecond)
				// The audit may look all the same: by a phoenix that it lends to the container.
				if said := r.Stdout + r.Stderr; !slices.Contains(exits, r.Exit) || !strings.Contains(said, "201") &&
					command != "audit" {
					t.Errorf("%s: %s: want exit %v and the name of 201\n%s", x.name, command, exits, r)
				}
				if took > besideLimit {
					t.Errorf("%s: %s took %s", x.name, command, took)
				}
				t.Logf("%s: %-6s exit %d after %s", x.name, command, r.Exit, took)
			})
		}
		all.Go(func() {
			start := time.Now()
			up := func() bool { now := f.init("101"); return now != 0 && now != was }
			if !await(besideHealed, up) {
				t.Errorf("%s: 101 is not up again within %s", x.name, besideHealed)
			}
			t.Logf("%s: 101 is up again after %s", x.name, time.Since(start).Round(10*time.Millisecond))
		})
		all.Wait()
		f.sh("201", x.end)
		took := time.Since(began).Round(100 * time.Millisecond)
		f.begun = time.Now()
		if _, problem := f.awaitHealed(fault{name: x.name}, bootLimit); problem != "" {
			t.Error(fmt.Errorf("%s: afterwards: %s", x.name, problem))
		}
		t.Logf("%s: %s in all", x.name, took)
	}
}
