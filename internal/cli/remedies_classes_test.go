package cli

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fixKind is how one kind of fix is known to do what it says: a command of phoenix with its flags, or a program.
type fixKind struct {
	// by is a test that makes the fault, does what is printed, and wants the check green or the error gone; of several
	// rows one is enough. Its function is there.
	by string
	// shows: it changes nothing, and is told for what it prints; TestRemediesAreDone calls those of phoenix.
	shows bool
	// decides: a person has to decide, and each text that names it says so: it contains one of weighing.
	decides bool
	// person is why a program of the system is for a person: phoenix would not run it by itself, whatever was decided.
	person string
}

// weighing are words with which a text leaves the decision to a person: a condition, a choice, or a price.
var weighing = regexp.MustCompile(`\b(if|where|or|only|once|unless|until|else|instead|counts as|without|` +
	`what is on it|first|leaked|worthless|then|by hand|there is|while|before|in its place)\b`)

const (
	inMemory   = "TestRemediesAreDone"
	containers = "fixes" // of test/e2e
)

// fixKinds are all kinds of fixes.
var fixKinds = map[string]fixKind{
	"phoenix apply":       {by: inMemory},
	"phoenix apply --yes": {by: inMemory},
	"phoenix create":      {by: inMemory},
	"phoenix restart":     {by: inMemory},
	"phoenix setup --yes": {by: inMemory},
	"phoenix up":          {by: "TestNight"},
	"phoenix start":       {by: inMemory},
	"phoenix stop":        {by: "TestVolumesAreRemovedByName"},

	"phoenix create --new-root":                    {by: "TestFaults", decides: true}, // another root
	"phoenix ca restore --password-file":           {by: containers},
	"phoenix ca restore --password-file --yes":     {by: "TestNight"},
	"phoenix ca restore":                           {decides: true},
	"phoenix ca backup":                            {decides: true},
	"phoenix ca backup --password-file":            {by: containers},
	"phoenix ca --password-file":                   {by: "TestBackup"},
	"phoenix ca rotate --yes":                      {by: inMemory},
	"phoenix ca rotate --new-root --yes":           {by: "TestRotateRoot"},
	"phoenix ca rotate --new-root --prepare --yes": {by: "TestRotateWaitsForAll"},
	"phoenix cert renew":                           {by: inMemory},
	"phoenix cert renew --all":                     {by: inMemory},

	"phoenix delete":           {decides: true},
	"phoenix delete --volumes": {decides: true},
	"phoenix delete --all":     {by: "TestDeleteAllLeavesNothing", decides: true},
	"phoenix volumes remove":   {by: "TestVolumesAreRemovedByName", decides: true},

	"phoenix migrate --live --yes":                   {by: "TestMigrateLive"},
	"phoenix migrate --from --live --yes":            {by: "TestMigrateLive"},
	"phoenix migrate --live --rollback --yes":        {by: "TestMigrateLive"},
	"phoenix migrate --from --live --rollback --yes": {by: "TestMigrateLive"},
	"phoenix migrate --live --shred --yes":           {by: "TestMigrateLive"},
	"phoenix notify test":                            {by: "TestNight"},
	"phoenix access --trust --write":                 {by: "TestAccess"},

	"phoenix access": {shows: true}, "phoenix add app --help": {shows: true}, "phoenix ca show": {shows: true}, "phoenix cert list": {shows: true},
	"phoenix explain --help": {shows: true}, "phoenix health": {shows: true}, "phoenix init --help": {shows: true},
	"phoenix migrate": {shows: true}, "phoenix migrate --live": {shows: true}, "phoenix schema": {shows: true},
	"phoenix validate": {shows: true}, "phoenix validate --config": {shows: true}, "phoenix version": {shows: true},
	"phoenix volumes": {shows: true},

	// Programs of the system.
	"chmod": {by: containers}, "chown": {by: containers},
	"date": {shows: true}, "df": {shows: true}, "dmesg": {shows: true}, "findmnt": {shows: true}, "fuser": {shows: true},
	"journalctl": {shows: true}, "ls": {shows: true}, "pvecm": {shows: true}, "systemd-analyze": {shows: true},
	"tail": {shows: true}, "pve-firewall": {shows: true},
	"age-keygen": {person: "a secret of his own"}, "openssl": {person: "a secret of his own"},
	"apt-get install": {person: "software of the machine"}, "make artifacts": {person: "software of the machine"},
	"modprobe": {person: "the machine's kernel"},
	"ip":       {shows: true}, // its addresses, with a flag before them
	"ip link":  {person: "a link that is not phoenix's"}, "ip route": {person: "where the machine's packets go"},
	"mv": {person: "files that are not phoenix's"}, "rmdir": {person: "files that are not phoenix's"},
	"shred":               {person: "keys, for good"},
	"umount":              {person: "a mount that is not phoenix's"},
	"usermod":             {person: "ids of a user of the machine"},
	"timedatectl set-ntp": {person: "the machine's clock"}, "timedatectl set-time": {person: "the machine's clock"},
	"systemctl": {shows: true}, "systemctl status": {shows: true}, "systemctl list-jobs": {shows: true},
	"systemctl restart": {person: "a service that phoenix's own repairs did not bring back"},
	"systemctl start":   {person: "a service of the machine"}, "systemctl enable": {person: "a service of the machine"},
	"systemctl disable": {person: "a service of the container that phoenix does not know"},
	"pct config":        {shows: true}, "pct listsnapshot": {shows: true},
	"pct unlock":      {by: "TestWatchFaults"},
	"pct delsnapshot": {person: "a state that somebody kept"}, "pct snapshot": {person: "a state of his own"},
	"pct migrate": {person: "where a container runs"}, "pct unmount": {person: "a mount that somebody made"},
	"pct set":         {person: "a container that is not phoenix's, or data that goes with it"},
	"pveam available": {shows: true}, "pveam download": {person: "what fills a storage"},
	"pvesm status": {shows: true}, "pvesm list": {shows: true}, "pvesm set": {person: "a storage of the machine"},
	"zfs list": {shows: true}, "zfs send": {person: "where data is kept"}, "zfs set": {person: "whose a data set is"},
	"zfs load-key": {person: "a secret of his own"}, "zfs receive": {person: "where data is kept"},
	"zpool import": {person: "a pool of the machine"}, "zpool status": {shows: true},
}

// callsIn gives the kinds of the commands that a text names.
func callsIn(text string) (out []string) {
	for _, part := range strings.Split(text, " && ") {
		for _, m := range callOf.FindAllStringSubmatch(part, -1) {
			root := (&app{}).root()
			cmd, rest, err := root.Find(append([]string{m[1]}, strings.Fields(m[2])...))
			if err != nil || cmd == root {
				continue // prose
			}
			var flags []string
			for _, word := range rest {
				if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(name, "--") {
					flags = append(flags, name)
				}
			}
			slices.Sort(flags)
			out = append(out, strings.Join(append([]string{cmd.CommandPath()}, flags...), " "))
		}
	}
	for _, at := range progOf.FindAllStringSubmatchIndex(text, -1) {
		name := text[at[2]:at[3]]
		if _, known := programs[name]; !known {
			continue
		}
		verb := ""
		if m := verbOf.FindStringSubmatch(text[at[3]:]); m != nil && slices.Contains(withVerbs, name) {
			verb = " " + m[1]
		}
		if name == "make" && verb != " artifacts" {
			continue // prose
		}
		out = append(out, name+verb)
	}
	return out
}

// withVerbs are programs whose first argument says what they do.
var withVerbs = []string{"apt-get", "make", "ip", "timedatectl", "systemctl", "pct", "pveam", "pvesm", "zfs", "zpool"}

var verbOf = regexp.MustCompile(`^ ([a-z][a-z-]+)`)

// TestEveryFixIsDoneOrDecided wants each kind of fix to be executed by a test as it is printed, or to be shown only, or
// to be left to a person in words.
func TestEveryFixIsDoneOrDecided(t *testing.T) {
	texts, used := findRemedies(t), map[string]bool{}
	for _, text := range slices.Sorted(maps.Keys(texts)) {
		if identity.MatchString(text) {
			continue
		}
		for _, class := range callsIn(text) {
			used[class] = true
			r, known := fixKinds[class]
			switch {
			case !known:
				t.Errorf("%s: %q tells people to run %q, a kind of fix that no test knows. Make the fault in %s or in %s "+
					"(test/e2e), do what is printed and want it green, and name the test here; or let the text say that a "+
					"person has to decide, and what", texts[text][0], text, class, inMemory, containers)
			case r == (fixKind{}):
				t.Errorf("%q: neither executed, nor shown, nor decided", class)
			case r.decides && !weighing.MatchString(text):
				t.Errorf("%s: %q: %q is for a person to decide, and the text does not say so", texts[text][0], text, class)
			}
		}
	}
	for class, r := range fixKinds {
		if !used[class] {
			t.Errorf("nothing says %q any more", class)
		}
		if r.by != "" && !isTest(t, r.by) {
			t.Errorf("%q: there is no test %s", class, r.by)
		}
	}
}

var testSources = []string{"*_test.go", "../../test/*/*_test.go", "../*/*_test.go", "../provider/*/*_test.go"}

// isTest is whether a function of that name is in the tests.
func isTest(t *testing.T, name string) bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func (\([a-z]+ [*A-Za-z]+\) )?` + regexp.QuoteMeta(name) + `\(`)
	for _, pattern := range testSources {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if raw, err := os.ReadFile(file); err == nil && declared.Match(raw) {
				return true
			}
		}
	}
	return false
}

// The kinds themselves: flags tell commands apart, what they are called with does not.
func TestKindsOfFixes(t *testing.T) {
	for text, want := range map[string][]string{
		"phoenix apply X && phoenix restart X": {"phoenix apply", "phoenix restart"},
		"phoenix apply --yes, without ids":     {"phoenix apply --yes"},
		"phoenix ca rotate --new-root --yes":   {"phoenix ca rotate --new-root --yes"},
		"phoenix delete X --volumes=X":         {"phoenix delete --volumes"},
		"phoenix knows the features X":         nil,
		"make a random one: openssl rand":      {"openssl"},
		"see it first: systemctl status X":     {"systemctl status"},
		"chmod 0644 X; then phoenix start X":   {"phoenix start", "chmod"},
	} {
		if got := callsIn(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
