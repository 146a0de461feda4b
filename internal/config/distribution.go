package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// FallbackSuite is built where neither the file nor the hypervisor names a Debian: the oldest one, whose keys every
// hypervisor has.
const FallbackSuite = "bookworm"

// foreign are other distributions, by a word of their archives' names.
var foreign = map[string]string{
	"almalinux": "AlmaLinux", "alpine": "Alpine", "amazonlinux": "Amazon Linux", "archlinux": "Arch Linux",
	"centos": "CentOS", "devuan": "Devuan", "fedora": "Fedora", "gentoo": "Gentoo", "linuxmint": "Linux Mint",
	"nixos": "NixOS", "openeuler": "openEuler", "opensuse": "openSUSE", "openwrt": "OpenWrt",
	"oraclelinux": "Oracle Linux", "rhel": "Red Hat", "rocky": "Rocky Linux", "rockylinux": "Rocky Linux",
	"slackware": "Slackware", "sles": "SUSE", "suse": "SUSE", "voidlinux": "Void Linux",
}

// foreignFirst are those whose words mean something else further behind.
var foreignFirst = map[string]string{
	"alma": "AlmaLinux", "alt": "ALT Linux", "arch": "Arch Linux", "busybox": "BusyBox", "kali": "Kali",
	"mint": "Linux Mint", "oracle": "Oracle Linux", "void": "Void Linux",
}

var (
	nameWord  = regexp.MustCompile(`[a-z]+|[0-9]+(\.[0-9]+)?`)
	firstWord = regexp.MustCompile(`^[a-z]+`)
)

// distributionOf reads the name of an archive as Proxmox, Debian and Ubuntu write them (debian-13-standard_13.1-1,
// ubuntu-noble-server). problem is why containers cannot be made of it; a name that says nothing has none.
func distributionOf(template string) (d spec.Release, problem string) {
	base := strings.ToLower(path.Base(template))
	words := nameWord.FindAllString(base, -1)
	first := firstWord.FindString(base)
	switch first {
	case "debian", "ubuntu":
		return release(map[string]string{"debian": spec.Debian, "ubuntu": spec.Ubuntu}[first], words[1:])
	}
	for _, r := range spec.Releases {
		if slices.Contains(words, r.Suite) {
			return r, ""
		}
	}
	for _, w := range words {
		other := foreign[w]
		if other == "" && w == first {
			other = foreignFirst[w]
		}
		if other != "" {
			return spec.Release{}, other + " cannot be a container of phoenix, which needs apt and systemd as " +
				"Debian and Ubuntu have them"
		}
	}
	return spec.Release{}, ""
}

// release finds the version in the words behind the distribution's name: the first number, or the name of a suite.
func release(name string, words []string) (spec.Release, string) {
	unknown := spec.Release{Name: name}
	if len(words) == 0 {
		return unknown, ""
	}
	var known []string
	for _, r := range spec.Releases {
		if r.Name != name {
			continue
		}
		if known = append(known, r.Version); r.Suite == words[0] || r.Version == words[0] ||
			name == spec.Debian && strings.HasPrefix(words[0], r.Version+".") {
			return r, ""
		}
	}
	if words[0][0] < '0' || words[0][0] > '9' {
		return unknown, "" // debian-base
	}
	return unknown, fmt.Sprintf("%s %s is not supported: phoenix makes containers of %s %s", name, words[0], name,
		strings.Join(known, ", "))
}

// HostSuite is the suite of the Debian that a hypervisor runs, by its os-release(5); empty: it is none that containers
// are made of.
func HostSuite(osRelease string) string {
	var id, suite string
	for line := range strings.Lines(osRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			id = value
		case "VERSION_CODENAME":
			suite = value
		}
	}
	if id == "debian" && spec.DistributionOf(suite) == spec.Debian {
		return suite
	}
	return ""
}

// UsualArchive is the name that Proxmox has for its archive of a hypervisor's own Debian.
func UsualArchive(hostSuite string) string {
	if hostSuite == "trixie" {
		return "debian-13-standard_13.1-2_amd64.tar.zst"
	}
	return "debian-12-standard_12.12-1_amd64.tar.zst"
}

// usualStorage is the one that every Proxmox host has, where it is.
var usualStorage = Storage{ID: "local", Path: "/var/lib/vz", Content: []string{"vztmpl"}}

// TemplateFile is the file that a template names, by its path or as pveam list prints it (local:vztmpl/…). Empty: no
// storage of this machine has that name, or its archives are no files.
func TemplateFile(template string, storages []Storage) string {
	if !storedArchive.MatchString(template) {
		return template
	}
	name, archive, _ := strings.Cut(template, ":vztmpl/")
	if len(storages) == 0 {
		storages = []Storage{usualStorage}
	}
	for _, s := range storages {
		if s.ID == name && s.Path != "" {
			return path.Join(s.Path, "template", "cache", archive)
		}
	}
	return ""
}

// templateHere is the archive of a container where it is on this machine, else empty.
func (d *derivation) templateHere(c *Container) string {
	if at := TemplateFile(c.Template, d.machine.Storages); d.machine.Present[at] {
		return at
	}
	return ""
}

// built is the suite of the template that is built in the place of an archive that is not here: the one that the
// archive's name says, else the hypervisor's own Debian.
func (d *derivation) built(c *Container) (suite string) {
	suite = FallbackSuite
	if d.machine.Suite != "" {
		suite = d.machine.Suite
	}
	if c.Template == "" {
		return suite
	}
	severity, of, article, hint := diag.Note, "", "a Debian", ""
	switch named, _ := distributionOf(c.Template); {
	case named.Name == spec.Ubuntu && d.machine.Present[spec.UbuntuKeyring] && d.machine.Present[spec.UbuntuSuites] &&
		named.Suite != "":
		suite, article = named.Suite, "an Ubuntu"
	case named.Name == spec.Ubuntu:
		severity, of = diag.Warning, ", of "+strings.TrimSpace(named.Name+" "+named.Version)+","
		hint = "put the archive there; or install ubuntu-keyring (Debian 13 and bookworm-backports have it) and " +
			"distro-info-data, and phoenix builds Ubuntu"
	case named.Suite != "":
		suite = named.Suite
	}
	d.note(severity, c.source("template"), fmt.Sprintf("template archive %s%s is not on this machine; %s %s template "+
		"is built in its place", c.Template, of, article, suite), hint)
	return suite
}
