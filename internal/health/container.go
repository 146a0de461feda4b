package health

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// lxc asks lxc-info about a container, which works under Proxmox too. flags are -s or -p; -H prints the bare value.
func lxc(ctx context.Context, h host.Host, r spec.Running, flag string) (string, error) {
	argv := []string{"lxc-info"}
	if r.Path != "" {
		argv = append(argv, "-P", r.Path)
	}
	res, err := h.Run(ctx, host.Command{Argv: append(argv, "-n", r.ID, flag, "-H")})
	return strings.TrimSpace(string(res.Stdout)), err
}

// lxcRunning is lxc-info's word for a container that runs.
const lxcRunning = "RUNNING"

func runRunning(ctx context.Context, h host.Host, c Check, r spec.Running) Result {
	state, err := lxc(ctx, h, r, "-s")
	switch {
	case err != nil:
		return c.fail("container "+r.ID+" does not exist", why(err), "phoenix create "+r.ID)
	case state != lxcRunning:
		return c.fail("container "+r.ID+" is not running", "state "+state, "phoenix start "+r.ID)
	}
	return c.pass("container "+r.ID+" runs", "state "+state)
}

// why is what a failed command said, or how it failed.
func why(err error) string {
	var run *host.RunError
	if errors.As(err, &run) && run.Output != "" {
		return run.Output
	}
	return err.Error()
}

// initPID is the container's first process as the hypervisor sees it; 0: it does not run.
func initPID(ctx context.Context, h host.Host, r spec.Running) (int, error) {
	out, err := lxc(ctx, h, r, "-p")
	if err != nil || out == "" {
		return 0, err
	}
	pid, err := strconv.Atoi(out)
	if err != nil {
		return 0, fmt.Errorf("lxc-info gave %q as a process id", out)
	}
	return pid, nil
}

// idMapParams is the id map that a running container should have.
type idMapParams struct {
	Running spec.Running `json:"running"`
	IDMap   spec.IDMap   `json:"id_map"`
}

func runIDMap(ctx context.Context, h host.Host, c Check, p idMapParams) Result {
	pid, err := initPID(ctx, h, p.Running)
	if err == nil && pid == 0 {
		err = errors.New("it has no first process")
	}
	if err != nil {
		return c.fail("the id map cannot be read", why(err), "phoenix restart "+p.Running.ID)
	}
	want := fmt.Sprintf("0 %d %d", p.IDMap.Base, p.IDMap.Count)
	for _, name := range []string{"uid_map", "gid_map"} {
		b, err := h.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		have := strings.Join(strings.Fields(string(b)), " ")
		if err != nil {
			have = err.Error()
		}
		if have != want {
			fix := fmt.Sprintf("phoenix apply %s && phoenix restart %[1]s", p.Running.ID)
			return c.fail("root inside is not the unprivileged user it should be", name+": "+have+"; wanted "+want, fix)
		}
	}
	return c.pass("runs unprivileged with its id map", want)
}

// nothing is the parameters of a check that needs none.
type nothing struct{}

// runInside needs no question: that it runs at all is the answer.
func runInside(_ context.Context, h host.Host, c Check, _ nothing) Result {
	return c.pass("phoenix answers inside container "+c.Host,
		"its clock says "+h.Now().UTC().Format("2006-01-02 15:04:05Z"))
}

// systemdParams names the units that have checks of their own.
type systemdParams struct {
	Units []string `json:"units,omitempty"`
}

func runSystemd(ctx context.Context, h host.Host, c Check, p systemdParams) Result {
	// It ends with another code than 0 unless all is well, and prints the state on standard output.
	res, err := h.Run(ctx, host.Command{Argv: []string{"systemctl", "is-system-running"}})
	state := strings.TrimSpace(string(res.Stdout))
	switch state {
	case "running":
		return c.pass("systemd is up, no unit failed", state)
	case "degraded":
		return failedUnits(ctx, h, c, p)
	case "":
		return c.fail("systemd does not answer", why(err), "phoenix restart "+c.Host)
	case "starting", "initializing":
		return c.fail("systemd is still starting", state, c.inside("systemctl list-jobs"))
	}
	return c.fail("systemd is not running normally", state, "phoenix restart "+c.Host)
}

func failedUnits(ctx context.Context, h host.Host, c Check, p systemdParams) Result {
	argv := []string{"systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"}
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return c.fail("the failed units cannot be listed", why(err), c.inside("systemctl --failed"))
	}
	own := " " + strings.Join(p.Units, " ") + " "
	var others []string
	for _, line := range strings.Split(string(res.Stdout), "\n") {
		if f := strings.Fields(line); len(f) > 0 && !strings.Contains(own, " "+f[0]+" ") {
			others = append(others, f[0])
		}
	}
	if len(others) == 0 {
		return c.pass("no unit failed besides those checked on their own", "degraded")
	}
	names := strings.Join(others, " ")
	return c.fail("failed units: "+names, "systemd is degraded", c.failedFix())
}

// unitState asks systemd for a unit's properties.
func unitState(ctx context.Context, h host.Host, name string) (map[string]string, error) {
	argv := []string{"systemctl", "show", name, "--property=LoadState,ActiveState,SubState,Result"}
	res, err := h.Run(ctx, host.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	props := map[string]string{}
	for _, line := range strings.Split(string(res.Stdout), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			props[key] = value
		}
	}
	return props, nil
}

// unitParams is what health needs of a unit.
type unitParams struct {
	Name    string `json:"name"`
	Ready   string `json:"ready,omitempty"`
	Stopped bool   `json:"stopped,omitempty"`
	Oneshot bool   `json:"one_shot,omitempty"`
}

func runUnit(ctx context.Context, h host.Host, c Check, p unitParams) Result {
	props, err := unitState(ctx, h, p.Name)
	if err != nil {
		return c.fail("the state of "+p.Name+" is not known", why(err), c.apply())
	}
	active := props["ActiveState"]
	seen := fmt.Sprintf("%s (%s), result %s, %s", active, props["SubState"], props["Result"], props["LoadState"])
	switch {
	case p.Stopped && active == "inactive":
		return c.pass(p.Name+" is stopped, as it should be", seen)
	case p.Stopped:
		return c.fail(p.Name+" should not run", seen, c.apply())
	case p.Oneshot && active == "inactive" && props["Result"] == "success" && props["LoadState"] == "loaded":
		return c.pass(p.Name+" has run", seen)
	case active != "active":
		return c.fail(p.Name+" is not running", seen+taken(ctx, h, p.Name),
			c.apply()+"; its log: "+c.inside("journalctl -n 50 -u "+p.Name))
	}
	return runReady(ctx, h, c, p, seen)
}

// taken is who holds the ports that a unit did not get, as its journal says.
func taken(ctx context.Context, h host.Host, unit string) string {
	res, err := h.Run(ctx,
		host.Command{Argv: []string{"journalctl", "--no-pager", "--output=cat", "-n", "20", "-u", unit}})
	if err != nil {
		return ""
	}
	if who := host.Takers(h, string(res.Stdout)); who != "" {
		return "; " + who
	}
	return ""
}

func runReady(ctx context.Context, h host.Host, c Check, p unitParams, seen string) Result {
	if p.Ready == "" {
		return c.pass(p.Name+" runs", seen)
	}
	address := local(p.Ready)
	conn, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return c.fail(p.Name+" runs but takes no connections on "+address, err.Error(),
			c.inside("systemctl restart "+p.Name)+"; its log: "+c.inside("journalctl -n 50 -u "+p.Name))
	}
	conn.Close()
	return c.pass(p.Name+" runs and takes connections on "+address, seen)
}
