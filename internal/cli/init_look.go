package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// surroundings are what a first configuration has to fit in with.
type surroundings struct {
	bridges   []string                // with those that Proxmox calls vmbr first
	addresses map[string]netip.Prefix // the first IPv4 address of each link
	taken     []netip.Prefix          // subnets that something leads to
	ids       map[int]bool            // that others have
	storages  []string                // of Proxmox, that take containers
	archives  []string                // of Debian
	usual     string                  // the archive that there is to be where none is
	resolvers []netip.Addr
	proxmox   bool
	unit      bool // phoenix.service is there
}

// siteWish is what the flags say.
type siteWish struct {
	dir, zone, bridge, subnet, storage, template, app string
	given                                             func(flag string) bool
}

// asker asks a question, to which there is a usual answer.
type asker func(question, usual string) (string, error)

// Defaults of a new site.
const (
	usualZone   = "home.internal" // .internal is reserved for this (ICANN, 2024)
	usualBridge = "phxbr0"
	usualCache  = "/var/lib/vz/template/cache"
	smallestNet = 24 // bits: the containers have the addresses 101 to 201 of it
)

var (
	zoneShape    = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	bridgeShape  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,14}$`)
	storageShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,99}$`)
	appShape     = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)
	archiveShape = regexp.MustCompile(`^(/|[A-Za-z][A-Za-z0-9_.-]*:vztmpl/)[A-Za-z0-9_./+~-]+$`)
	debianName   = regexp.MustCompile(`^debian-1[2-9]-standard_.*\.tar\.(zst|xz|gz)$`)
)

// lookAround looks at this machine. What cannot be seen, as its program is not there yet, counts as not there.
func (a *app) lookAround(ctx context.Context) (*surroundings, error) {
	s := &surroundings{addresses: map[string]netip.Prefix{}, ids: map[int]bool{}}
	runtime, err := a.runtime()
	if err != nil {
		return nil, err
	}
	s.proxmox, s.unit = runtime == "pve", a.there("/etc/systemd/system/"+config.WatchUnit)
	a.lookAtLinks(ctx, s)
	a.lookAtResolvers(s)
	release, _ := a.host.ReadFile("/etc/os-release") // without one it is no Debian
	s.usual = path.Join(usualCache, config.UsualArchive(config.HostSuite(string(release))))
	places := []string{usualCache}
	if s.proxmox {
		var m config.Machine
		if err := a.observeProxmox(&m); err != nil {
			return nil, err
		}
		for _, x := range m.Storages {
			if slices.Contains(x.Content, "rootdir") {
				s.storages = append(s.storages, x.ID)
			}
			if slices.Contains(x.Content, "vztmpl") && x.Path != "" {
				places = append(places, filepath.Join(x.Path, "template", "cache"))
			}
		}
		a.lookAtGuests(s)
	}
	for _, place := range places {
		for _, name := range a.namesIn(place) {
			if debianName.MatchString(name) {
				s.archives = append(s.archives, filepath.Join(place, name))
			}
		}
	}
	return s, nil
}

// lookAtLinks reads what ip shows of links and routes.
func (a *app) lookAtLinks(ctx context.Context, s *surroundings) {
	var links []struct {
		IfName    string `json:"ifname"`
		Addresses []struct {
			Local  netip.Addr `json:"local"`
			Prefix int        `json:"prefixlen"`
		} `json:"addr_info"`
	}
	var routes []struct {
		Destination string `json:"dst"`
	}
	if res, err := a.host.Run(ctx, host.Command{Argv: []string{"ip", "-4", "-j", "addr", "show"}}); err == nil {
		_ = json.Unmarshal(res.Stdout, &links) // what is no JSON shows no link
	}
	if res, err := a.host.Run(ctx, host.Command{Argv: []string{"ip", "-4", "-j", "route", "show"}}); err == nil {
		_ = json.Unmarshal(res.Stdout, &routes)
	}
	for _, l := range links {
		for _, x := range l.Addresses {
			p := netip.PrefixFrom(x.Local, x.Prefix)
			if _, known := s.addresses[l.IfName]; !known && p.IsValid() {
				s.addresses[l.IfName] = p
			}
			s.taken = append(s.taken, p.Masked())
		}
	}
	for _, r := range routes {
		if p, err := netip.ParsePrefix(r.Destination); err == nil && p.Bits() > 0 {
			s.taken = append(s.taken, p.Masked())
		} else if at, err := netip.ParseAddr(r.Destination); err == nil {
			s.taken = append(s.taken, netip.PrefixFrom(at, at.BitLen()))
		}
	}
	for _, name := range a.namesIn("/sys/class/net") {
		if a.there(filepath.Join("/sys/class/net", name, "bridge")) {
			s.bridges = append(s.bridges, name)
		}
	}
}

// lookAtResolvers reads whom this machine asks for names; systemd-resolved's own address is of this machine only.
func (a *app) lookAtResolvers(s *surroundings) {
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		text, err := a.host.ReadFile(followed(file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || fields[0] != "nameserver" {
				continue
			}
			at, err := netip.ParseAddr(fields[1])
			if err == nil && !at.IsLoopback() && !at.IsLinkLocalUnicast() && !slices.Contains(s.resolvers, at) {
				s.resolvers = append(s.resolvers, at)
			}
		}
	}
	if len(s.resolvers) == 0 {
		s.resolvers = []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("1.1.1.1")}
	}
}

// lookAtGuests reads which ids the cluster has given away.
func (a *app) lookAtGuests(s *surroundings) {
	var list struct {
		IDs map[string]json.RawMessage `json:"ids"`
	}
	if text, err := a.host.ReadFile(filepath.Join(a.proxmox.Dir, ".vmlist")); err == nil {
		_ = json.Unmarshal(text, &list) // without it those of this node are known all the same
	}
	names := a.namesIn(filepath.Join(a.proxmox.Dir, "lxc"))
	for id := range list.IDs {
		names = append(names, id)
	}
	for _, name := range append(names, a.namesIn(filepath.Join(a.proxmox.Dir, "qemu-server"))...) {
		if n, err := strconv.Atoi(strings.TrimSuffix(name, ".conf")); err == nil {
			s.ids[n] = true
		}
	}
}

// site puts together what was found, what the flags say, and what a person answers: at most five questions.
func (s *surroundings) site(want siteWish, ask asker) (site config.NewSite, err error) {
	q := questions{wish: want, ask: ask}
	site.Zone = q.answer("zone", want.zone, "domain of the site", usualZone, zoneShape)
	site.Bridge = q.answer("bridge", want.bridge, s.bridgeQuestion(), usualBridge, bridgeShape)
	site.Address = q.subnet(s, site.Bridge)
	if s.proxmox {
		usual := "local-zfs"
		if len(s.storages) > 0 {
			usual = s.storages[0]
		}
		site.Storage = q.answer("storage", want.storage,
			"storage for the containers ("+strings.Join(s.storages, ", ")+")", usual, storageShape)
	} else if want.storage != "" {
		q.err = errors.Join(q.err, errors.New("--storage is for a Proxmox host, and this is none"))
	}
	site.App = q.app()
	site.Template = s.archive(want, &q)
	for _, at := range s.resolvers {
		if at != site.Address.Addr() {
			site.Upstreams = append(site.Upstreams, at)
		}
	}
	site.First = s.freeIDs(site)
	if q.err != nil {
		return site, &usageError{err: q.err, hint: "phoenix init --help has the flags; nothing was written"}
	}
	return site, nil
}

func (s *surroundings) bridgeQuestion() string {
	if len(s.bridges) == 0 {
		return "bridge for the containers, which is made"
	}
	return "bridge for the containers (" + strings.Join(s.bridges, ", ") + ", or a new one)"
}

// archive is what the containers are made from: the newest that is here, else the usual one.
func (s *surroundings) archive(want siteWish, q *questions) string {
	if want.given("template") {
		if !archiveShape.MatchString(want.template) {
			q.err = errors.Join(q.err, fmt.Errorf("--template %s is neither the absolute path of an archive nor "+
				"STORAGE:vztmpl/NAME",
				strconv.Quote(clean.Line(want.template, 100))))
		}
		return want.template
	}
	here := slices.DeleteFunc(slices.Clone(s.archives), func(p string) bool { return !archiveShape.MatchString(p) })
	if len(here) == 0 {
		return s.usual
	}
	return slices.MaxFunc(here, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
}

// freeIDs is the hundred in which nobody has the site's ids.
func (s *surroundings) freeIDs(site config.NewSite) int {
	for first := 100; first <= 99_000; first += 1000 {
		site.First = first
		base, ca, gateway, proxy, app := site.IDs()
		if !slices.ContainsFunc([]int{base, ca, gateway, proxy, app}, func(id int) bool { return s.ids[id] }) {
			return first
		}
	}
	return 100 // they are told to be taken
}

// freeNet is a subnet that nothing leads to.
func (s *surroundings) freeNet() netip.Prefix {
	for third := 17; third < 256; third++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 86, byte(third), 0}), smallestNet)
		if !slices.ContainsFunc(s.taken, p.Overlaps) {
			return p
		}
	}
	return netip.MustParsePrefix("10.86.17.0/24")
}

// questions gathers answers, and what is wrong with them.
type questions struct {
	wish siteWish
	ask  asker
	err  error
}

// answer is what a flag says, else what a person does.
func (q *questions) answer(flag, said, question, usual string, shape *regexp.Regexp) string {
	if !q.wish.given(flag) {
		var err error
		if said, err = q.ask(question, usual); err != nil {
			q.err = errors.Join(q.err, err)
			return usual
		}
	}
	if !shape.MatchString(said) {
		q.err = errors.Join(q.err, fmt.Errorf("--%s: %s cannot be one; such as %s", flag,
			strconv.Quote(clean.Line(said, 100)), usual))
	}
	return said
}

// app is the name of an application, or empty: nobody has to have one.
func (q *questions) app() string {
	if !q.wish.given("app") {
		said, err := q.ask("name of an application to begin with (- for none)", "-")
		if q.err = errors.Join(q.err, err); said == "-" || err != nil {
			return ""
		}
		q.wish.app = said
	}
	if q.wish.app == "" {
		return ""
	}
	if slices.Contains([]string{"ca", "www", "traefik"}, q.wish.app) || !appShape.MatchString(q.wish.app) {
		q.err = errors.Join(q.err, fmt.Errorf("--app: %s cannot be the name of an application; such as hello",
			strconv.Quote(clean.Line(q.wish.app, 100))))
	}
	return q.wish.app
}

// subnet is the hypervisor's address on the bridge: the one it has, else the first of a subnet.
func (q *questions) subnet(s *surroundings, bridge string) netip.Prefix {
	has, known := s.addresses[bridge]
	usual := has.Masked()
	if !known {
		usual = s.freeNet()
	}
	text := q.wish.subnet
	if !q.wish.given("subnet") {
		text = usual.String()
		if !known {
			var err error
			if text, err = q.ask("subnet of "+bridge, text); err != nil {
				q.err = errors.Join(q.err, err)
				return usual
			}
		}
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4() || p.Bits() > smallestNet || p.Bits() < 8:
		q.err = errors.Join(q.err, fmt.Errorf("--subnet: %s is no IPv4 subnet with room for the containers; such as %s",
			strconv.Quote(clean.Line(text, 100)), s.freeNet()))
		return usual
	case known && p.Masked() != has.Masked():
		q.err = errors.Join(q.err, fmt.Errorf("--subnet: %s has the address %s, which is not in %s", bridge, has, p))
		return has
	case known:
		return has
	}
	if i := slices.IndexFunc(s.taken, p.Overlaps); i >= 0 {
		q.err = errors.Join(q.err, fmt.Errorf("--subnet: this machine reaches %s by another link already; such as %s",
			s.taken[i], s.freeNet()))
	}
	return netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits())
}

// interactive is whether somebody sits there who can be asked.
func interactive(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	_, yes := terminal(f)
	return yes
}

// asker asks on the terminal.
func (a *app) asker() asker {
	in := bufio.NewReader(a.stdin)
	return func(question, usual string) (string, error) {
		fmt.Fprintf(a.stderr, "%s [%s]: ", question, usual)
		line, err := in.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			return line, nil
		}
		if err != nil {
			return "", errors.New("nobody answers; flags or --yes answer before")
		}
		return usual, nil
	}
}
