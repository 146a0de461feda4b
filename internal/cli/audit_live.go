package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/agent"
	"github.com/phoenix-hypervisor/phoenix/internal/audit"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
)

// Where containers are that phoenix did not make.
const (
	otherContainers    = "/var/lib/lxc"
	proxmoxDefinitions = "/etc/pve/lxc"
)

// look is what the audit sees besides the files: the scripts that they name, and as root the hypervisor and the inside
// of every container that phoenix can enter. The configuration may be one that cannot be used.
func (a *app) look(ctx context.Context, cfg *config.Config, directories []string, offline bool) ([]audit.Seen, error) {
	scripts, err := a.namedScripts(cfg, directories)
	if err != nil {
		return nil, err
	}
	if offline {
		return []audit.Seen{audit.Scripts(a.host, audit.Hypervisor, scripts...)}, nil
	}
	if os.Geteuid() != 0 {
		return []audit.Seen{audit.Scripts(a.host, audit.Hypervisor, scripts...),
			{Unseen: []audit.Unseen{{Object: audit.Hypervisor, Reason: "only root can look at the system: sudo"}}}}, nil
	}
	root, err := a.rootDirectory()
	if err != nil {
		return nil, err
	}
	own := filepath.Join(root, "lxc")
	scene := audit.Scene{Root: root, Directories: []string{own, otherContainers}, Proxmox: proxmoxDefinitions}
	homes := a.takenHomes(root)
	for _, home := range homes {
		if !slices.Contains(scene.Directories, home) {
			scene.Directories = append(scene.Directories, home)
		}
	}
	for _, dir := range []string{oldScripts, filepath.Join(oldScripts, "lxc_setup"), "/etc/systemd/system",
		"/etc/cron.d"} {
		if _, err := a.host.Lstat(dir); err == nil {
			scene.Scripts = append(scene.Scripts, dir)
		}
	}
	scene.Scripts = append(scene.Scripts,
		slices.DeleteFunc(scripts, func(p string) bool { return slices.Contains(scene.Scripts, filepath.Dir(p)) })...)
	for _, c := range cfg.Containers {
		w := wanted(c)
		w.Bridge, w.Port = c.Network.Bridge, config.PortName(root, c.ID)
		w.Template = cfg.IsTemplate(c.ID)
		scene.Wanted = append(scene.Wanted, w)
	}
	places := places(cfg)
	return lookEverywhere(ctx, len(places)+1, auditWhole, func(ctx context.Context, i int) audit.Seen {
		if i == 0 {
			return audit.System(ctx, a.host, scene)
		}
		directories := scene.Directories
		if home := homes[places[i-1].ID]; home != "" {
			directories = []string{home}
		}
		return a.lookInside(ctx, directories, places[i-1])
	}), nil
}

// auditWhole is for all of them together, and auditsAtOnce how many are looked at: those that only wait cost
// nothing, and however many containers make others wait, their times are not added up.
const (
	auditWhole   = 2 * time.Minute
	auditsAtOnce = 64
)

// lookEverywhere looks at n places at once, the hypervisor first. A look that has begun ends by itself once its
// context has.
func lookEverywhere(ctx context.Context, n int, whole time.Duration,
	look func(context.Context, int) audit.Seen) []audit.Seen {
	late := fmt.Errorf("all containers together are not looked through within %s", whole)
	inside, cancel := context.WithTimeoutCause(ctx, whole, late)
	defer cancel()
	seen := make([]audit.Seen, n)
	engine.Each(n, auditsAtOnce, func(i int) {
		if i == 0 {
			seen[i] = look(ctx, i)
			return
		}
		seen[i] = look(inside, i)
	})
	return seen
}

// namedScripts are the application scripts of the configuration, those too that phoenix runs no more.
func (a *app) namedScripts(cfg *config.Config, directories []string) ([]string, error) {
	var places, out []string
	if dir := cfg.Hypervisor.CorePaths.ScriptsDirectory; dir != "" {
		places = append(places, dir)
	}
	for _, f := range directories {
		places = append(places, f, filepath.Join(f, "..", "bin"))
	}
	for _, c := range cfg.Containers {
		if c.ApplicationScript == "" {
			continue
		}
		path, err := a.firstFile(append(places, oldScripts), c.ApplicationScript)
		if err != nil {
			return nil, err
		}
		if path != "" && !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	return out, nil
}

func wanted(c *config.Container) audit.Wanted {
	w := audit.Wanted{ID: c.ID, Unprivileged: c.Unprivileged, Binds: map[string]string{}}
	for _, m := range c.MountPoints {
		if filepath.IsAbs(m.HostPath) {
			w.Binds[m.ContainerPath] = m.HostPath
		}
		if m.Share {
			w.Shares = append(w.Shares, m.HostPath)
		}
	}
	for _, o := range c.Options {
		w.Options = append(w.Options, o.Key+"="+o.Value)
	}
	return w
}

// places are the insides of all containers, in the order of the configuration.
func places(cfg *config.Config) []audit.Place {
	salt := make([]byte, 32)
	if _, err := rand.Read(salt); err != nil {
		panic(err) // crypto/rand does not fail on Linux
	}
	address, names := cfg.Authority()
	var out []audit.Place
	for _, c := range cfg.Containers {
		p := audit.Place{ID: c.ID, CA: c.IsCA() && !c.IsGateway() && !c.IsProxy(), Client: c.UsesCA(), Address: address,
			Names: names, Leaf: cfg.LeafLifetime(), Salt: salt}
		for _, v := range c.Volumes {
			p.Directories = append(p.Directories, filepath.Clean(v.MountPoint))
		}
		for _, m := range c.MountPoints {
			p.Directories = append(p.Directories, filepath.Clean(m.ContainerPath))
		}
		out = append(out, p)
	}
	return out
}

// lookInside enters one container, whoever made it, and ends in time for what else is to be told, whatever that does.
// One that is not there gives nothing to look at.
func (a *app) lookInside(ctx context.Context, directories []string, p audit.Place) audit.Seen {
	unseen := func(reason string) audit.Seen {
		return audit.Seen{Unseen: []audit.Unseen{{Object: "container/" + p.ID, Reason: reason}}}
	}
	i := slices.IndexFunc(directories, func(f string) bool { return a.exists(filepath.Join(f, p.ID, "config")) })
	if i < 0 {
		if a.exists(filepath.Join(proxmoxDefinitions, p.ID+".conf")) {
			return unseen("it does not run")
		}
		return audit.Seen{}
	}
	if ctx.Err() != nil {
		return unseen(context.Cause(ctx).Error())
	}
	name := []string{"-P", directories[i], "-n", p.ID}
	res, err := a.host.Run(ctx, host.Command{Argv: append([]string{"lxc-info"}, append(name, "-s", "-H")...)})
	if state := strings.TrimSpace(string(res.Stdout)); err != nil || state != "RUNNING" {
		return unseen("it does not run")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, auditLimit.Within,
		fmt.Errorf("it is not looked through within %s", auditLimit.Within))
	defer cancel()
	attach := append([]string{"lxc-attach"}, append(name, "--clear-env", "--")...)
	seen, err := a.ask(ctx, append(attach, config.AgentBinary, "agent", "serve"), p)
	// there is no phoenix in there, or an old one: this one goes in for as long as it takes
	if err != nil || !seen.Audit {
		a.log.Debug("the container's own phoenix cannot audit", "container", p.ID, "error", err)
		seen, err = a.ask(ctx, append(lent(), append(attach, lentBinary, "agent", "serve")...), p)
	}
	if err != nil {
		return unseen(strings.ReplaceAll(err.Error(), "\n", ": "))
	}
	return seen
}

// lentBinary is where a process finds the program that it was lent.
const lentBinary = "/proc/self/fd/9"

// lent runs a command with this program open for it, so that a container can run it without a file of it being put in
// there. It is a copy without a name, so that whoever is killed leaves none: what the container might do to it does
// nothing to the original.
func lent() []string {
	const script = `t=$(mktemp "${TMPDIR:-/var/tmp}/phoenix.XXXXXX") && exec 8>"$t" 9<"$t"; rm -f "$t"
cat /proc/"$0"/exe >&8 && chmod 555 /proc/self/fd/9; exec 8>&-; exec "$@"`
	return []string{"sh", "-c", script, strconv.Itoa(os.Getpid())}
}

// auditLimit is for a look through all of a container.
var auditLimit = agent.Answer{Bytes: 1 << 20, String: 4 << 10, Within: time.Minute}

// ask has one session with the phoenix that argv starts inside of a container.
func (a *app) ask(ctx context.Context, argv []string, p audit.Place) (audit.Seen, error) {
	raw, err := json.Marshal(question{Audit: &p})
	if err != nil {
		return audit.Seen{}, err
	}
	client, err := agent.Dial(ctx, argv, agent.Session{Container: p.ID, Limits: a.limits.Agent})
	if err != nil {
		return audit.Seen{}, err
	}
	answer, err := client.Check(ctx, raw, auditLimit)
	if closeErr := client.Close(); closeErr != nil {
		a.log.Debug("session ended", "container", p.ID, "error", closeErr)
	}
	var seen audit.Seen
	if err == nil {
		err = json.Unmarshal(answer, &seen)
	}
	return seen.Of("container/" + p.ID), err
}

func (a *app) exists(path string) bool {
	_, err := a.host.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// question is a check or a look of the audit, as it goes to an agent.
type question struct {
	Audit  *audit.Place    `json:"audit,omitempty"`
	Backup *backupQuestion `json:"backup,omitempty"`
	Issued *issuedQuestion `json:"issued,omitempty"`
	Held   *issued.Places  `json:"held,omitempty"`
}

// answerQuestion is lookInside's and checkOne's other side, inside a container.
func answerQuestion(ctx context.Context, h host.Host, raw json.RawMessage) (json.RawMessage, error) {
	var q question
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, err
	}
	if q.Audit != nil {
		return json.Marshal(audit.Inside(ctx, h, *q.Audit))
	}
	if q.Backup != nil {
		return answerBackup(h, *q.Backup)
	}
	if q.Issued != nil {
		return answerIssued(ctx, h, *q.Issued)
	}
	if q.Held != nil {
		return json.Marshal(issued.Hold(*q.Held))
	}
	return answerCheck(ctx, h, raw)
}
