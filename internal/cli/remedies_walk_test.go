package cli

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var updateRemedies = flag.Bool("remedies", false, "write remedies.txt; read the difference before you commit it")

// programs are those that a text may tell people to use, and whose package they are in. Those of pve are a part of
// Proxmox, and offered there only.
var programs = map[string]string{
	"chmod": "coreutils", "chown": "coreutils", "mv": "coreutils", "rmdir": "coreutils", "ls": "coreutils",
	"df": "coreutils", "tail": "coreutils", "date": "coreutils",
	"shred": "coreutils", "dmesg": "util-linux", "findmnt": "mount", "umount": "mount", "systemctl": "systemd",
	"journalctl": "systemd", "systemd-analyze": "systemd",
	"timedatectl": "systemd", "apt-get": "apt", "usermod": "passwd", "modprobe": "kmod", "ip": "iproute2",
	"zfs": "zfsutils-linux", "zpool": "zfsutils-linux",
	"pct": "pve", "pvesm": "pve", "pvecm": "pve", "pveam": "pve", "pve-firewall": "pve", "fuser": "psmisc",
	"age-keygen": "age", "openssl": "openssl", "make": "make",
}

// present are packages that a Debian has which boots with systemd, that others of setup depend on (ca-certificates:
// openssl), or that phoenix is built with.
var present = []string{"coreutils", "util-linux", "mount", "systemd", "apt", "passwd", "kmod", "openssl", "make", "pve"}

var (
	callOf = regexp.MustCompile(`(?:^|[\s(:;])phoenix ([a-z][a-z-]*)((?: [^\s;,:()]+)*)`)
	progOf = regexp.MustCompile(
		`(?:^|[:;(,] |: |\(|then |or |and |with |&& |one, |see what )([a-z][a-z-]+)(?: |$|\))`)
	identity = regexp.MustCompile(`^[a-z_0-9]*(\[X\]|\.\.\.|…|X…)?$`)
	filler   = regexp.MustCompile(`^(X+|[A-Z][A-Z0-9]*|\$id|[0-9]+|ca\.age)$`)
)

// shown are commands that change nothing without --yes: to name them without it leads nowhere.
var shown = []string{"phoenix ca rotate", "phoenix setup", "phoenix revert"}

// TestRemediesLeadSomewhere walks over every text that says what to do. Each names a command of phoenix that exists
// with the flags it is given, or a program that is there or that setup installs, or it stands in remedies.txt: a person
// has to decide, to write or to look at something.
func TestRemediesLeadSomewhere(t *testing.T) {
	texts, setUp := findRemedies(t), installed(t)
	if len(texts) < 300 {
		t.Fatalf("only %d texts were found", len(texts))
	}
	var others []string
	calls := 0
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		if identity.MatchString(text) {
			continue
		}
		n, problem := phoenixCalls(text)
		calls += n
		if problem != "" {
			t.Errorf("%s: %q: %s", texts[text][0], text, problem)
		}
		m, missing := hostPrograms(text, setUp)
		if missing != "" {
			t.Errorf("%s: %q: nothing installs %s", texts[text][0], text, missing)
		}
		if n+m == 0 {
			others = append(others, strings.TrimSpace(strings.ReplaceAll(text, "\n", " ")))
		}
	}
	if calls < 80 {
		t.Errorf("only %d commands of phoenix were found", calls)
	}
	if *updateRemedies {
		if err := os.WriteFile("remedies.txt", []byte(strings.Join(others, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	known := decisions(t)
	for _, text := range others {
		if !slices.Contains(known, text) {
			t.Errorf("%q names no command. If it says that a person has to decide, and what, put it into "+
				"remedies.txt (go test -run %s -remedies)", text, t.Name())
		}
	}
	for _, text := range known {
		if !slices.Contains(others, text) {
			t.Errorf("remedies.txt has %q, which is said nowhere any more", text)
		}
	}
}

// phoenixCalls counts the commands of phoenix in a text, and says what is wrong with one.
func phoenixCalls(text string) (n int, problem string) {
	if one, rest, several := strings.Cut(text, " && "); several {
		m, problem := phoenixCalls(one)
		if problem != "" {
			return m, problem
		}
		n, problem = phoenixCalls(rest)
		return m + n, problem
	}
	for _, at := range callOf.FindAllStringSubmatchIndex(text, -1) {
		m := []string{text[at[0]:at[1]], text[at[2]:at[3]], text[at[4]:at[5]]}
		// a list of commands, or put together elsewhere
		cut := strings.HasPrefix(text[at[1]:], ",") || strings.HasPrefix(text[at[1]:], " ")
		root := (&app{}).root()
		names := func(c *cobra.Command) (out []string) {
			for _, sub := range c.Commands() {
				out = append(out, sub.Name())
			}
			return out
		}
		if !slices.Contains(names(root), m[1]) {
			if near := config.Nearest(m[1], names(root)); near != "" && len(m[1]) > 3 {
				return n, "there is no phoenix " + m[1] + "; " + near + "?"
			}
			continue // prose: phoenix knows, keeps, does
		}
		n++
		cmd, rest, err := root.Find(append([]string{m[1]}, strings.Fields(m[2])...))
		if err != nil {
			return n, err.Error()
		}
		if cmd.HasSubCommands() && len(rest) > 0 {
			if rest[0] != "X" {
				return n, cmd.CommandPath() + " has no " + rest[0]
			}
			continue
		}
		if problem := calledWell(cmd, rest, cut); problem != "" {
			return n, problem
		}
	}
	return n, ""
}

// calledWell checks flags, and arguments where nothing but arguments follows.
func calledWell(cmd *cobra.Command, words []string, cut bool) string {
	cmd.InheritedFlags() // merges them
	cmd.InitDefaultHelpFlag()
	plain := true
	for i, word := range words {
		name, isFlag := strings.CutPrefix(word, "--")
		if !isFlag {
			plain = plain && filler.MatchString(word)
			continue
		}
		name, _, with := strings.Cut(name, "=")
		f := cmd.Flag(name)
		if f == nil {
			return cmd.CommandPath() + " has no flag " + word
		}
		if f.NoOptDefVal == "" && !with && i == len(words)-1 {
			return word + " of " + cmd.CommandPath() + " needs a value"
		}
	}
	if slices.Contains(shown, cmd.CommandPath()) && !slices.Contains(words, "--yes") {
		return cmd.CommandPath() + " only shows what it would do without --yes"
	}
	if !plain || cut || cmd.HasSubCommands() {
		return ""
	}
	if err := cmd.ParseFlags(words); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	return ""
}

// hostPrograms counts the programs in a text; missing is one that nothing brings.
func hostPrograms(text string, setUp []string) (n int, missing string) {
	for _, m := range progOf.FindAllStringSubmatch(text, -1) {
		name, known := programs[m[1]]
		if !known {
			continue
		}
		n++
		if !slices.Contains(present, name) && !slices.Contains(setUp, name) &&
			!strings.Contains(text, "package "+name) && !strings.Contains(text, "apt-get install "+name) {
			missing = m[1] + " (" + name + ")"
		}
	}
	return n, missing
}

// installed are the packages that setup installs, on one machine or another.
func installed(t *testing.T) (out []string) {
	t.Helper()
	h := loaded(t, func(string) {})
	for _, backend := range []string{"btrfs", "dir"} {
		m := h.machine
		m.Backend, m.Pools = backend, map[string]string{"tank": "zfs"}
		objects, _ := config.Setup(h.cfg, m, config.Installation{Program: "/usr/local/bin/phoenix", Debian: true})
		for _, o := range objects {
			var p spec.Package
			if o.Address.Kind() == spec.KindPackage && json.Unmarshal(o.Spec, &p) == nil {
				out = append(out, p.Names...)
			}
		}
	}
	if !slices.Contains(out, "iproute2") || !slices.Contains(out, "zfsutils-linux") {
		t.Fatalf("setup installs %v", out)
	}
	return out
}

// insideDrivers are the packages of drivers that work inside of containers, and speak through an agent.
var insideDrivers = []string{"agent", "certificate", "file", "nginx", "pkg", "script", "stepca", "traefik", "trust",
	"unit", "user"}

// TestAgentsPassOnWhatDriversAdvise: of what a container says only advice that phoenix knows is shown. What a driver in
// there advises and the agent's table does not have would be lost, and people be sent to look for themselves.
func TestAgentsPassOnWhatDriversAdvise(t *testing.T) {
	var known, advised []string
	for text, places := range findRemedies(t) {
		for _, place := range places {
			if strings.HasPrefix(place, "../agent/hints.go") {
				known = append(known, text)
			}
			for _, driver := range insideDrivers {
				if strings.HasPrefix(place, "../provider/"+driver+"/") &&
					!strings.HasPrefix(place, "../provider/trust/pin.go") && strings.Trim(text, "X") != "" {
					advised = append(advised, text)
				}
			}
		}
	}
	if len(known) < 20 || len(advised) < 20 {
		t.Fatalf("%d are known, %d are given", len(known), len(advised))
	}
	for _, text := range advised {
		if !slices.ContainsFunc(known,
			func(k string) bool { return text == k || strings.HasSuffix(k, " ") && strings.HasPrefix(text, k) }) {
			t.Errorf("%q is not in internal/agent/hints.go", text)
		}
	}
}

// The walk itself: what leads nowhere is found.
func TestTheWalkBites(t *testing.T) {
	for text, wrong := range map[string]bool{
		"phoenix apply 101": false, "phoenix aply 101": true, "phoenix apply --yse": true,
		"phoenix ca restor FILE": true, "phoenix ca restore FILE --password-file FILE": false,
		"phoenix ca restore FILE --password-file": true, "phoenix knows the features X": false,
		"phoenix ca rotate": true, "phoenix ca rotate --yes": false,
		"phoenix create": true, "phoenix up 101": true, "do it; phoenix start X && phoenix stopp X": true,
		"phoenix create X --new-root makes another": false,
		"look (phoenix ca show)":                    false, "phoenix delete X --volumes=X": false,
		"phoenix delete X --volume=X": true,
	} {
		if _, problem := phoenixCalls(text); (problem != "") != wrong {
			t.Errorf("%q: %q", text, problem)
		}
	}
	if n, missing := hostPrograms("see: fuser -v X", nil); n != 1 || missing == "" {
		t.Errorf("%d programs, missing %q", n, missing)
	}
	if n, missing := hostPrograms("apt-get install zfsutils-linux", nil); n != 1 || missing != "" {
		t.Errorf("%d programs, missing %q", n, missing)
	}
}
