package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Place is the inside of one container and what it is to the others.
type Place struct {
	ID          string        `json:"id"`
	CA          bool          `json:"ca,omitempty"`
	Client      bool          `json:"client,omitempty"`  // it needs the CA
	Address     string        `json:"address,omitempty"` // of the CA, host:port; empty: there is none
	Names       []string      `json:"names,omitempty"`   // of the CA
	Directories []string      `json:"folders,omitempty"` // where its volumes are mounted
	Leaf        time.Duration `json:"leaf,omitempty"`    // how long certificates live
	Salt        []byte        `json:"salt,omitempty"`    // of this run, for Password.Mark
}

// usual are the directories in which keys are found, phoenix's and the old scripts'.
var usual = []string{"/etc/letsencrypt", "/etc/nginx", "/etc/ssl/private", "/etc/step-ca", "/etc/traefik", "/home/step",
	"/root/.step", "/var/lib/phoenix"}

// units are where scripts and unit files are that did not come with a package.
var units = []string{"/etc/systemd/system", "/etc/cron.d", "/etc/environment", "/usr/local/bin", "/usr/local/sbin"}

// Inside looks at the inside of the container that it runs in.
func Inside(ctx context.Context, h host.Host, p Place) Seen {
	s := inside{Seen: Seen{Audit: true}, h: h, Place: p, object: "container/" + p.ID}
	for _, dir := range s.directories() {
		s.look(dir)
	}
	s.told()
	s.keys()
	s.authority()
	s.reaches(ctx)
	s.hosts()
	s.nginx()
	s.traefik()
	s.timers()
	s.join(Scripts(h, s.object, units...))
	return s.Seen
}

type inside struct {
	Seen
	Place
	h             host.Host
	object        string
	open, strange tally
	foreign       tally
	leftover      tally // copies of the CA's keys that were moved out of the way
	certificates  []certificate
	private       []private
	root, issuing []file // keys of the CA
}

// directories are all that is looked through, each once: the usual ones and what is mounted.
func (s *inside) directories() []string {
	all := slices.Concat(usual, s.Directories)
	if b, err := s.h.ReadFile("/proc/self/mountinfo"); err == nil {
		for _, m := range mounts(string(b)) {
			all = append(all, m.target)
		}
	}
	slices.Sort(all)
	var out []string
	for _, dir := range slices.Compact(all) {
		_, err := s.h.Lstat(dir)
		if err == nil && !slices.ContainsFunc(out, func(o string) bool { return within(dir, o) }) {
			out = append(out, dir)
		}
	}
	return out
}

func (s *inside) look(dir string) {
	whole, err := walk(s.h, dir, s.file)
	if err != nil || !whole {
		s.Unseen = append(s.Unseen, Unseen{s.object, "not all of " + dir + " could be looked at"})
	}
}

// ofTheCA are names of files that only the CA's container has a use for.
var ofTheCA = regexp.MustCompile(
	`(?i)(^|/)(root[_-]?ca[_-]?key|intermediate[_-]?ca[_-]?key|[^/]*provisioner[^/]*pass[^/]*|[^/]*ca[_-]password[^/]*)$`)

func (s *inside) file(f file) {
	if f.meta.UID == overflow || f.meta.GID == overflow {
		s.strange.add(f.path + " is " + shown(f.meta))
	}
	if !f.meta.Mode.IsRegular() {
		return
	}
	what := secretName(f.path)
	switch {
	case what == "a password":
		s.password(f)
	case what == "" && strings.HasSuffix(f.path, ".json") && !s.CA && s.hasProvisioner(f):
		s.foreign.add(f.path)
	case s.pem(f) && what == "":
		what = "a private key"
	}
	if why := readable(f); what != "" && why != "" {
		s.open.add(what + ", " + f.path + ", is " + shown(f.meta))
	}
	if !s.CA && (ofTheCA.MatchString(f.path) || what != "" && within(f.path, "/etc/step-ca")) {
		s.foreign.add(f.path)
	}
	switch base := path.Base(f.path); {
	case !s.CA || what != "a private key":
	case strings.HasPrefix(path.Base(path.Dir(f.path)), "lost-"):
		s.leftover.add(path.Dir(f.path))
	case strings.Contains(base, "root") || path.Base(path.Dir(f.path)) == "root":
		s.root = append(s.root, f)
	case strings.Contains(base, "intermediate") || path.Base(path.Dir(f.path)) == "intermediate":
		s.issuing = append(s.issuing, f)
	}
}

// hasProvisioner reports whether a file is a ca.json with the key of a provisioner.
func (s *inside) hasProvisioner(f file) bool {
	content, ok := text(s.h, f.path)
	return ok && strings.Contains(content, `"provisioners"`) && strings.Contains(content, `"encryptedKey"`)
}

// password looks at the content of a password file, which goes nowhere but into a mark.
func (s *inside) password(f file) {
	if f.meta.Size > 1024 || f.meta.Size == 0 {
		return
	}
	b, err := s.h.ReadFile(f.path)
	if err != nil {
		return
	}
	word := strings.TrimSpace(string(b))
	if config.KnownPassword(word) {
		s.add(rulePassword, s.object, "make a random one: openssl rand -base64 24",
			"the password in %s is one that is tried first", f.path)
	}
	mac := hmac.New(sha256.New, s.Salt)
	mac.Write([]byte(word))
	s.Password = append(s.Password, Password{s.object, f.path, hex.EncodeToString(mac.Sum(nil))})
}

// told turns what was collected into sights.
func (s *inside) told() {
	if s.open.n > 0 {
		s.add(ruleOpenInside, s.object, "chmod go-rwx on each inside the container, or phoenix apply "+s.ID+
			"; what could be read counts as leaked: phoenix ca rotate --yes makes it anew", "%s", s.open.String())
	}
	if s.strange.n > 0 {
		s.add(ruleNobody, s.object, "give the files an owner that the container has, from the hypervisor: 0 inside "+
			"is the first id of the container's lxc.idmap there", "%s", s.strange.String())
	}
	if s.foreign.n > 0 {
		s.add(ruleForeignSecret, s.object, "remove the files, change the password or key in the CA's container, and "+
			"get certificates by ACME: phoenix migrate", "container %s is not the CA and has %s", s.ID,
			s.foreign.String())
	}
	if s.leftover.n > 0 {
		s.add(ruleLeftover, s.object, "phoenix ca backup FILE --password-file FILE, then phoenix ca restore FILE "+
			"--password-file FILE: it writes over copies of the same root; another root's, "+
			"once nobody needs it: shred and remove it in the container", "%s", s.leftover.String())
	}
	for _, root := range s.root {
		if i := slices.IndexFunc(s.issuing, func(o file) bool { return o.meta.Device == root.meta.Device }); i >= 0 {
			s.add(ruleOneVolume, s.object, "keep a copy of "+path.Dir(root.path)+" offline; or accept it with a "+
				"reason, where that copy exists",
				"the root's key %s and the issuing key %s are on one volume", root.path, s.issuing[i].path)
			break
		}
	}
}

// reaches tries whether a container that needs nothing of the CA gets to it.
func (s *inside) reaches(ctx context.Context) {
	if s.Client || s.CA || s.Address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := s.h.Dial(ctx, "tcp", s.Address)
	if err != nil {
		return
	}
	conn.Close()
	s.add(ruleReachable, s.object, "let the CA's firewall accept its clients only",
		"container %s has no certificate, and reaches the CA at %s", s.ID, s.Address)
}

// hosts looks for the CA's names in the container's own file.
func (s *inside) hosts() {
	content, ok := text(s.h, "/etc/hosts")
	ip, _, err := net.SplitHostPort(s.Address)
	if !ok || s.CA || err != nil {
		return
	}
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 || f[0] == ip {
			continue
		}
		if _, err := netip.ParseAddr(f[0]); err != nil {
			continue
		}
		for _, name := range f[1:] {
			if slices.Contains(s.Names, strings.ToLower(name)) {
				s.add(ruleHosts, s.object, "remove the line from /etc/hosts",
					"/etc/hosts sends %s to %s, and not to %s", name, f[0], ip)
			}
		}
	}
}

// timers compares how often something renews with how long certificates live.
func (s *inside) timers() {
	paths, contents := texts(s.h, "/etc/systemd/system", "/etc/cron.d")
	for i, p := range paths {
		if !renews.MatchString(p) && !renews.MatchString(contents[i]) {
			continue
		}
		every := time.Duration(0)
		if strings.HasSuffix(p, ".timer") {
			every = timerPeriod(contents[i])
		} else if within(p, "/etc/cron.d") {
			every = cronPeriod(contents[i])
		}
		if every > 0 && s.Leaf > 0 && every > s.Leaf/3 {
			s.add(ruleTimer, s.object, "remove it: phoenix renews; or let it run every "+(s.Leaf/12).String(),
				"%s runs every %s, and certificates live %s", p, every, s.Leaf)
		}
	}
}

var (
	renews   = regexp.MustCompile(`(?i)renew|certbot|lego|step ca certificate`)
	calendar = regexp.MustCompile(`(?m)^\s*OnCalendar\s*=\s*(\S+)`)
	again    = regexp.MustCompile(`(?m)^\s*OnUnitActiveSec\s*=\s*([0-9]+)\s*([a-z]*)`)
	words    = map[string]time.Duration{"minutely": time.Minute, "hourly": time.Hour, "daily": 24 * time.Hour,
		"weekly":  7 * 24 * time.Hour,
		"monthly": 30 * 24 * time.Hour, "@hourly": time.Hour, "@daily": 24 * time.Hour, "@weekly": 7 * 24 * time.Hour,
		"@monthly": 30 * 24 * time.Hour}
	spans = map[string]time.Duration{"": time.Second, "s": time.Second, "sec": time.Second, "min": time.Minute,
		"m": time.Minute, "h": time.Hour, "hour": time.Hour,
		"hours": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour, "w": 7 * 24 * time.Hour,
		"week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour}
)

// timerPeriod is how often a timer runs (systemd.timer(5)), where it says so in a simple way; 0: it does not.
func timerPeriod(unit string) time.Duration {
	if m := calendar.FindStringSubmatch(unit); m != nil {
		return words[strings.ToLower(m[1])]
	}
	if m := again.FindStringSubmatch(unit); m != nil {
		n := time.Duration(0)
		if _, err := fmt.Sscan(m[1], &n); err == nil {
			return n * spans[m[2]]
		}
	}
	return 0
}

// cronPeriod is how often the first line that renews runs (crontab(5)); 0: it is not said in a simple way.
func cronPeriod(table string) time.Duration {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0][0] == '#' || !renews.MatchString(line) {
			continue
		}
		if d, ok := words[f[0]]; ok {
			return d
		}
		fixed := func(i int) bool { return strings.Trim(f[i], "0123456789") == "" }
		switch {
		case len(f) < 7:
		case fixed(0) && fixed(1) && fixed(2) && f[4] == "*":
			return words["monthly"]
		case fixed(0) && fixed(1) && f[2] == "*" && fixed(4):
			return words["weekly"]
		case fixed(0) && fixed(1) && f[2] == "*" && f[4] == "*":
			return words["daily"]
		}
	}
	return 0
}
