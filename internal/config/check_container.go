package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

var (
	featureName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`) // Debian policy, section 5.6.1
	plainName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	poolName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,255}$`)
)

// containers checks what each container says about itself alone, and that no two have one name.
func (c *checker) containers() {
	seen := unique{}
	for _, x := range c.cfg.Containers {
		if x.Name != "" || x.has("name") && !c.toldAt(x.At, "name") {
			if problem := hostNameProblem(x.Name); problem != "" {
				c.errorf(x.At, "name", "letters, digits and -; it becomes the container's host name",
					"%q cannot be a host name: %s", x.Name, problem)
			}
			c.once(seen, x.Name, x.At, "name", "the name", "give each container a name of its own")
		}
		c.origin(x)
		c.lists(x)
		c.script(x)
		c.probe(x.HealthCheck)
		c.portList(x.At, "listens", x.Listens, `such as "tcp/5432" or "udp/8000-8010"`)
		c.matches(x.At, "template_snapshot_name", x.SnapshotName, plainName, "the name of a snapshot")
		c.matches(x.At, "apparmor_profile", x.AppArmorProfile, poolName, "the name of a profile")
	}
}

func (c *checker) matches(a At, key, value string, pattern *regexp.Regexp, what string) {
	if value != "" && !pattern.MatchString(value) {
		c.errorf(a, key, "letters, digits and _ . -", "%q is not %s", value, what)
	}
}

// storedArchive is an archive by the name that Proxmox has for it, as pveam list prints it.
var storedArchive = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*:vztmpl/[A-Za-z0-9][A-Za-z0-9_.+~-]*$`)

func (c *checker) origin(x *Container) {
	switch {
	case x.Template != "" && x.CloneFrom != "":
		c.errorf(x.At, "clone_from_ctid", "keep one of them", "the container has a template and is a clone too")
	case x.Template == "" && x.CloneFrom == "" && !x.has("template") && !x.has("clone_from_ctid"):
		c.errorf(x.At, "", "add clone_from_ctid, or template for one that others are cloned from",
			"nothing says what the container is made from")
	case x.Template != "":
		c.archive(x)
	case x.CloneFrom == "":
		key := "template"
		if x.has("clone_from_ctid") {
			key = "clone_from_ctid"
		}
		if !c.toldAt(x.At, key) {
			c.errorf(x.At, key, "", "is empty")
		}
	}
}

// archive checks where the template is, and that its name is not that of a distribution that phoenix cannot run.
func (c *checker) archive(x *Container) {
	if !storedArchive.MatchString(x.Template) && !c.absolute(x.At, "template", x.Template) {
		return
	}
	if _, problem := distributionOf(x.Template); problem != "" {
		c.errorf(x.At, "template", "name an archive of Debian 12 or 13, or of an Ubuntu LTS", "%s", problem)
	}
}

// toldAt reports whether there is something wrong with the key already.
func (c *checker) toldAt(a At, key string) bool {
	path := join(a.path, key)
	for _, d := range *c.list {
		if d.Severity == diag.Error && d.Path == path && d.File == a.Source.File {
			return true
		}
	}
	return false
}

func (c *checker) lists(x *Container) {
	c.devices(x)
	for i, f := range x.Features {
		if !featureName.MatchString(f) {
			c.errorf(x.At, element("features", i), "letters, digits, _ and -", "%q is not the name of a feature", f)
		} else if slices.Index(x.Features, f) < i {
			c.warnf(x.At, element("features", i), "remove it", "the feature %s stands twice", f)
		}
	}
	for i, p := range x.Packages {
		if !packageName.MatchString(p) {
			c.errorf(x.At, element("packages", i), "the name of a Debian package, without a version",
				"%q is not the name of a package", p)
		}
	}
}

// script refuses paths that leave the directory of the users' scripts.
func (c *checker) script(x *Container) {
	s := x.ApplicationScript
	if s != "" && (strings.HasPrefix(s, "/") || strings.HasPrefix(s, "-") || cleanPath("/"+s) != "/"+s) {
		c.errorf(x.At, "application_script", "name a file in the directory of the scripts",
			"%q is not a path inside the directory of the scripts", s)
	}
}

// longestProbe is how long a run may wait for an application.
const longestProbe = time.Hour

// probe refuses a check that a run would wait for until somebody loses patience.
func (c *checker) probe(p Probe) {
	if all := time.Duration(p.Retries) * p.pause(); all > longestProbe {
		c.errorf(p.At, "retries", fmt.Sprintf("up to %s in all", longestProbe), "%d retries, %s apart, would take %s",
			p.Retries, p.pause(), all)
	}
	if p.Retries > 0 && p.Command == "" {
		c.warnf(p.At, "retries", "add a command", "there is no command to try again")
	}
}

// pause is what is between two tries.
func (p Probe) pause() time.Duration {
	if p.Interval == 0 {
		return 10 * time.Second
	}
	return time.Duration(p.Interval) * time.Second
}

// check is the probe as the container's running has it.
func (p Probe) check() (command string, again *spec.Again) {
	if command = strings.TrimSpace(p.Command); command != "" && p.Retries > 0 {
		again = &spec.Again{Times: p.Retries, Every: spec.Duration(p.pause())}
	}
	return command, again
}

// roles checks that there is one container for each of the three roles.
func (c *checker) roles() {
	c.ca = c.role("certificate authority", "a client of the CA needs trusted_ca or step_cli, not step_ca",
		(*Container).IsCA)
	gateway := c.role("gateway", "keep nginx_gateway in one container", (*Container).IsGateway)
	proxy := c.role("internal proxy", "keep traefik in one container", (*Container).IsProxy)
	if c.ca != nil {
		return
	}
	for _, x := range []*Container{gateway, proxy} {
		if x != nil {
			c.errorf(x.At, "", "give one container the feature step_ca", "the container needs certificates, but no "+
				"container is the certificate authority")
		}
	}
	for _, x := range c.cfg.Containers {
		if len(x.Certificates) > 0 && x != gateway && x != proxy {
			c.errorf(x.At, "certificates", "give one container the feature step_ca",
				"no container is the certificate authority")
		}
	}
}

// role finds the container of a role. Of several it is the one that has no other role: who asks for two was probably
// mistyped.
func (c *checker) role(what, hint string, is func(*Container) bool) *Container {
	var all []*Container
	for _, x := range c.cfg.Containers {
		if is(x) {
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		return nil
	}
	first := all[0]
	if i := slices.IndexFunc(all, func(x *Container) bool { return x.roleCount() == 1 }); i >= 0 {
		first = all[i]
	}
	for _, x := range all {
		if x != first {
			c.errorf(x.At, "features", hint, "container %s is the %s too, besides %s at %s", x.ID, what, first.ID,
				first.Source)
		}
	}
	return first
}

func (x *Container) roleCount() int {
	n := 0
	for _, is := range []bool{x.IsCA(), x.IsGateway(), x.IsProxy()} {
		if is {
			n++
		}
	}
	return n
}
