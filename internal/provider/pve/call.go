package pve

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	callLimit  = 5 * time.Minute
	cloneLimit = 60 * time.Minute // it copies a whole root file system, and waits for others that copy the same
)

// pct makes one changing call about a container. What it says is explained.
func pct(ctx context.Context, h host.Host, id string, limit time.Duration, argv ...string) (host.Result, error) {
	// A create that is told to end takes back what it made.
	res, err := h.Run(ctx, host.Command{Argv: append([]string{"pct"}, argv...), Mutates: true,
		Aside: argv[0] == "create", Limit: limit})
	return res, judged(id, res, err)
}

// judged is explain for a task of Proxmox's: one that fails in words that nobody knows is not begun again and again.
// Each try would be one more failed task in Proxmox's log, and those that end by themselves are known.
func judged(id string, res host.Result, err error) error {
	known, explained := meaning(id, res, err)
	var run *host.RunError
	if known || provider.IsPermanent(explained) || !errors.As(err, &run) || run.Code < 0 {
		return explained
	}
	return provider.PermanentHint(explained, "it is not tried again by itself: mend what Proxmox's task log tells "+
		"(or run the command by hand), then run phoenix again")
}

// saying is what Proxmox says and what it means. Words and hint may speak of the pattern's groups; $id is the
// container.
type saying struct {
	pattern *regexp.Regexp
	words   string
	hint    string
	passing bool // worth another try
}

// sayings are the texts of pve-container 6 and pve-storage 9; the first that fits counts.
var sayings = []saying{
	said(`no quorum|lxc/\d+\.conf\.tmp\.\d+'? - Permission denied`, "the cluster has no quorum",
		"pvecm status tells which nodes are away", false),
	said(`ipcc_send_rec|Unable to load access control list`, "proxmox's own configuration does not answer",
		"systemctl status pve-cluster", false),
	said(`CT is locked \((\S+)\)`, "container $id is locked ($1)", "", true), // lockedError knows more
	said(`can't lock file .* - got timeout`, "another process is changing container $id",
		"see what it is: fuser -v $locks (package psmisc)", true),
	said(`detected modified configuration`,
		"the configuration of container $id was changed by another at the same time", "", true),
	said(`unable to create CT (\d+) - (?:CT|VM) \d+ already exists`,
		"container $1 was made by another at the same time", "", true),
	// Worth another look: it may be phoenix's own, by a clone that outlived the phoenix that began it. The look says if
	// it is not.
	said(`(CT|VM) (\d+) already exists on node '([^']+)'`, "id $2 is taken on node $3",
		"choose another id, or run phoenix on $3", true),
	said(`(CT|VM) (\d+) already exists`, "id $2 is taken", "choose another id", true),
	said(`Configuration file '[^']*/(\d+)\.conf' does not exist`, "container $1 is not on this node any more", "",
		true),
	said(`(?:CT|VM) (\d+) not running|container '(\d+)' not running|can only (?:push|pull) files (?:to|from) a running`,
		"container $id does not run", "phoenix start $id", true),
	said(`CT (\d+) already running`, "container $1 runs already", "", true),
	said(`storage '([^']+)' does not exist`, "proxmox has no storage $1", "pvesm status lists those that there are; "+
		"the keys are storage_pool and pool", false),
	said(`storage '([^']+)' (?:is disabled|is not online|not available)`, "storage $1 is away", "pvesm status", false),
	said(`storage '([^']+)' does not support (?:content-type|container)|unable to allocate .* does not support`,
		"the storage does not take containers", "give it the content rootdir: pvesm set STORAGE --content rootdir",
		false),
	said(`volume '([^']+:vztmpl/[^']+)' does not exist|can't find file '([^']+)'`,
		"the template archive $1$2 is not there",
		"pveam available lists those that can be had, pveam download gets one", false),
	said(`volume '([^']+)' does not exist`, "volume $1 is not there", "pvesm list STORAGE lists those that there are",
		false),
	said(`used in HA resources`, "container $id is a resource of Proxmox's high availability",
		"ha-manager remove ct:$id", false),
	said(`protection mode enabled`, "container $id is protected", "pct set $id --protection 0, if you are sure", false),
	said(`unable to modify read-only option: '([^']+)'`, "$1 can only be chosen when a container is made", "", false),
	said(`Parameter verification failed`, "proxmox refuses a value", "", false),
	said(`invalid format - format error|property is not defined in schema`, "proxmox refuses a value", "", false),
	said(`Unknown option: (\S+)`, "this proxmox has no option $1", "phoenix is made for Proxmox VE 8 and newer", false),
	said(`unable to parse option|not enough arguments|no options specified`, "proxmox does not understand the call",
		"", false),
	said(`bridge '([^']+)' does not exist`, "there is no bridge $1", "ip link; the key is network_config.bridge",
		false),
	said(`newuidmap: uid range|newgidmap: gid range`, "root may not use the container's id map",
		"phoenix setup --yes writes what root may use into /etc/subuid and /etc/subgid", false),
	said(`unable to get PID for CT \d+ \(not running\?\)`, "container $id ended as it was started",
		"the reason is in /run/pve/ct-$id.stderr", true),
	said(`snapshot feature is not available`, "the storage of container $id, or a directory mounted in it, takes no "+
		"snapshots", "set enable_lifecycle_snapshots to false, or use a storage that takes them (ZFS, LVM-thin, Btrfs)",
		false),
	said(`snapshot '([^']+)' does not exist`, "container $id has no snapshot $1", "", true),
	said(`Full clone of a running container is only possible from a snapshot`,
		"a container that runs can be cloned from a snapshot only", "give the source a template_snapshot_name", false),
	said(`unable to clone mountpoint '([^']+)' \(type bind\)`, "a directory of the hypervisor is mounted as $1 of the "+
		"source, which then cannot be cloned", "unmount it, or mount it with a raw lxc.mount.entry line", false),
	said(`Linked clone feature for '([^']+)' is not available`, "the storage of $1 has no linked clones", "", false),
	said(`parameter 'storage' not allowed for linked clones`, "a linked clone stays on the storage of its template",
		"", false),
	said(`base volume '([^']+)' is still in use by linked clones`, "containers that were cloned from $1 still need it",
		"delete those first", false),
	said(`container is running`, "container $id still runs", "", true),
	said(`container did not stop`, "container $id did not stop in time", "", true),
	said(`unable to shrink disk size`, "a volume cannot become smaller", "", false),
	said(`Script exited with status \d+`, "something that container $id needs is not there when it starts",
		"see the lines above: a directory that is mounted, a device or the bridge", false),
	said(`(?:dataset|target|[Dd]evice or resource) is busy|[Dd]evice or resource busy|got timeout|[Tt]imed out|[Tt]ry again`,
		"something that container $id needs is in use", "the task log tells what is at work on it", true),
	said(`No space left on device|out of space|not enough free space`, "the storage is full", "pvesm status", false),
}

func said(pattern, words, hint string, passing bool) saying {
	return saying{pattern: regexp.MustCompile(pattern), words: words, hint: hint, passing: passing}
}

// explain tells a failure in our words, with the tool's own below. One that nothing is known of stays as it is.
func explain(id string, res host.Result, err error) error {
	_, err = meaning(id, res, err)
	return err
}

// meaning is explain; false: nothing is known of it.
func meaning(id string, res host.Result, err error) (bool, error) {
	var run *host.RunError
	if err == nil || !errors.As(err, &run) || run.Code < 0 {
		return false, err
	}
	output := string(res.Stderr) + "\n" + string(res.Stdout)
	// Workers give their children's complaints to standard output; standard error has the last word only.
	if more := strings.TrimSpace(string(res.Stdout)); more != "" && strings.TrimSpace(string(res.Stderr)) != "" {
		err = fmt.Errorf("%w\n%s", err, tail(more))
	}
	for _, s := range sayings {
		m := s.pattern.FindStringSubmatchIndex(output)
		if m == nil {
			continue
		}
		if lock := lockOf(output); lock != "" {
			return true, lockedError(id, lock, err)
		}
		told := func(text string) string {
			text = strings.NewReplacer("$id", id, "$locks", "/run/lock/lxc/pve-config-"+id+".lock").Replace(text)
			return string(s.pattern.ExpandString(nil, text, output, m))
		}
		err = fmt.Errorf("%s: %w", told(s.words), err)
		if s.passing {
			return true, hinted(err, told(s.hint))
		}
		return true, provider.PermanentHint(err, told(s.hint))
	}
	return false, err
}

func tail(s string) string {
	const most = 4 << 10
	return s[max(0, len(s)-most):]
}

func hinted(err error, hint string) error {
	if hint == "" {
		return err
	}
	return provider.WithHint(err, hint)
}

var lockSaying = regexp.MustCompile(`CT is locked \((\S+)\)`)

func lockOf(output string) string {
	if m := lockSaying.FindStringSubmatch(output); m != nil {
		return m[1]
	}
	return ""
}

// lockedError is a passing failure: what holds the lock usually ends by itself.
func lockedError(id, lock string, cause error) error {
	hints := map[string]string{
		"backup":   "a backup of it is made: wait for its end",
		"mounted":  "its file systems are mounted on the hypervisor: pct unmount " + id,
		"disk":     "its disks are copied: wait for the end",
		"snapshot": "a snapshot of it is made; if nothing is at work on it: pct unlock " + id,
		"create": "it is being made or restored; see the task log, and wait for the end. If its restore was cut off, " +
			"restore it again: nothing else has all of it",
	}
	hint := hints[lock]
	if hint == "" {
		hint = "the task log tells what is at work on it; if nothing is: pct unlock " + id
	}
	if cause == nil {
		cause = errors.New("nothing was changed")
	}
	return provider.Busy(hinted(fmt.Errorf("container %s is locked (%s): %w", id, lock, cause), hint))
}

// says tells whether a failed call said this.
func says(res host.Result, pattern *regexp.Regexp) bool {
	return pattern.Match(res.Stderr) || pattern.Match(res.Stdout)
}
