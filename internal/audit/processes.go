package audit

import (
	"path"
	"regexp"
	"strings"
)

// payload is the cgroup of a container's processes, as lxc and Proxmox name it.
var payload = regexp.MustCompile(`(?:lxc\.payload\.|/lxc/)([0-9]+)`)

// processes looks at the arguments of every process; those of containers are seen from here too. Values go nowhere.
func (s *system) processes() {
	names, err := s.h.ReadDir("/proc")
	if err != nil {
		s.Unseen = append(s.Unseen, Unseen{Hypervisor, "the processes cannot be listed: " + err.Error()})
		return
	}
	told := map[string]bool{}
	for _, pid := range names {
		if strings.Trim(pid, "0123456789") != "" {
			continue
		}
		b, err := s.h.ReadFile("/proc/" + pid + "/cmdline")
		argv := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if err != nil || argv[0] == "" {
			continue // it has ended, or is the kernel's
		}
		s.process(pid, argv, told)
	}
}

func (s *system) process(pid string, argv []string, told map[string]bool) {
	object, program := Hypervisor, path.Base(argv[0])
	if b, err := s.h.ReadFile("/proc/" + pid + "/cgroup"); err == nil {
		if m := payload.FindStringSubmatch(string(b)); m != nil {
			object = "container/" + m[1]
		}
	}
	once := func(what string) bool {
		key := object + " " + program + " " + what
		defer func() { told[key] = true }()
		return !told[key]
	}
	if what := secretArgument(argv); what != "" && once(what) {
		s.add(ruleSecretArgument, object, "change it, and let the program read it from a file that only it can read",
			"%s (process %s) has %s in its arguments", program, pid, what)
	}
	for _, arg := range argv[1:] {
		switch low := strings.ToLower(strings.TrimLeft(arg, "-")); low {
		case "api.insecure", "api.insecure=true":
			if once(low) {
				s.add(ruleDashboard, object, "remove the argument", "%s (process %s) runs with --api.insecure", program,
					pid)
			}
		case "serverstransport.insecureskipverify", "serverstransport.insecureskipverify=true":
			if once(low) {
				s.add(ruleNoVerify, object, "remove the argument, and give it the root with --serversTransport.rootCAs",
					"%s (process %s) does not verify its backends", program, pid)
			}
		}
	}
}
