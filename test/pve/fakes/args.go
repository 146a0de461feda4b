package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// call is a command line: words, and options of which the last of each counts.
type call struct {
	words  []string
	opts   map[string]string
	behind []string // --
}

func (c call) get(name string) string { return c.opts[name] }

func (c call) is(name string) bool {
	return slices.Contains([]string{"1", "yes", "on", "true"}, strings.ToLower(c.opts[name]))
}

// parseArgs knows --x v, -x v, --x=v and the bare boolean.
func parseArgs(args []string) (call, error) {
	c := call{opts: map[string]string{}}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			c.behind = args[i+1:]
			return c, nil
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			c.words = append(c.words, a)
			continue
		}
		name := strings.TrimLeft(a, "-")
		if k, v, ok := strings.Cut(name, "="); ok {
			c.opts[k] = v
		} else if i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			c.opts[name] = args[i]
		} else {
			c.opts[name] = "1"
		}
	}
	return c, nil
}

var (
	mountKey  = regexp.MustCompile(`^mp\d+$`)
	unusedKey = regexp.MustCompile(`^unused\d+$`)
	indexed   = regexp.MustCompile(`^(mp|net|dev|unused)\d+$`)
)

// settable are the keys of a container.
var settable = []string{
	"arch", "cmode", "console", "cores", "cpulimit", "cpuunits", "description", "features", "hookscript", "hostname",
	"lock", "memory",
	"nameserver", "onboot", "ostype", "protection", "rootfs", "searchdomain", "startup", "swap", "tags", "template",
	"timezone", "tty", "unprivileged",
}

// check refuses options that are none and values that are of the wrong kind.
func (c call) check(besides ...string) error {
	for name, value := range c.opts {
		if !slices.Contains(settable, name) && !indexed.MatchString(name) && !slices.Contains(besides, name) {
			fmt.Fprintf(os.Stderr, "Unknown option: %s\n400 unable to parse option\npct set <vmid> [OPTIONS]\n", name)
			return exitCode(255)
		}
		if err := checkValue(name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(name, value string) error {
	bad := func(format string, args ...any) error {
		fmt.Fprintf(os.Stderr, "400 Parameter verification failed.\n"+format+"\npct <command> <vmid> [OPTIONS]\n",
			args...)
		return exitCode(255)
	}
	switch name {
	case "memory", "swap", "cores":
		n, err := strconv.Atoi(value)
		if err != nil {
			return bad("%s: type check ('integer') failed - got '%s'", name, value)
		}
		if name == "memory" && n < 16 {
			return bad("memory: value must have a minimum value of 16")
		}
	case "hostname":
		if !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`).
			MatchString(value) {
			return bad("hostname: invalid format - value does not look like a valid DNS name")
		}
	}
	if netKey.MatchString(name) {
		return checkNet(name, value, bad)
	}
	if !mountKey.MatchString(name) {
		return nil
	}
	known := []string{"mp", "backup", "ro", "quota", "replicate", "shared", "acl", "mountoptions", "keepattrs",
		"idmap", "size"}
	p := parse(value, "volume")
	for k := range p.of {
		if !slices.Contains(known, k) {
			return bad("%s.%s: property is not defined in schema and the schema does not allow additional properties",
				name, k)
		}
	}
	if p.of["mp"] == "" {
		return bad("%s: invalid format - format error\n%s.mp: property is missing and it is not optional", name, name)
	}
	return nil
}

var netKey = regexp.MustCompile(`^net\d+$`)

// checkNet refuses what the schema of netN does.
func checkNet(name, value string, bad func(format string, args ...any) error) error {
	known := []string{"bridge", "firewall", "gw", "gw6", "host-managed", "hwaddr", "ip", "ip6", "link_down", "mtu", "name",
		"rate", "tag", "trunks", "type"}
	p := parse(value, "")
	for k, v := range p.of {
		if !slices.Contains(known, k) {
			return bad("%s.%s: property is not defined in schema and the schema does not allow additional properties",
				name, k)
		}
		limits, numeric := map[string][2]int{"mtu": {64, 65535}, "tag": {1, 4094}}[k]
		if n, err := strconv.Atoi(v); numeric && err != nil {
			return bad("%s.%s: type check ('integer') failed - got '%s'", name, k, v)
		} else if numeric && n < limits[0] {
			return bad("%s.%s: value must have a minimum value of %d", name, k, limits[0])
		} else if numeric && n > limits[1] {
			return bad("%s.%s: value must have a maximum value of %d", name, k, limits[1])
		}
	}
	if p.of["name"] == "" {
		return bad("%s: invalid format - format error\n%s.name: property is missing and it is not optional", name, name)
	}
	return nil
}

// normal is a value as Proxmox writes it.
func normal(key, value string) string {
	switch {
	case strings.HasPrefix(key, "net"):
		p := parse(value, "")
		if p.of["hwaddr"] == "" {
			p.of["hwaddr"] = fmt.Sprintf("BC:24:11:%02X:%02X:%02X", os.Getpid()>>8&255, os.Getpid()&255, len(value)&255)
		}
		p.of["type"] = "veth"
		return p.text("name", "bridge")
	case mountKey.MatchString(key), key == "rootfs":
		return parse(value, "volume").text("mp")
	case slices.Contains([]string{"onboot", "protection", "unprivileged", "template"}, key):
		if slices.Contains([]string{"1", "yes", "on", "true"}, strings.ToLower(value)) {
			return "1"
		}
		return "0"
	}
	return value
}
