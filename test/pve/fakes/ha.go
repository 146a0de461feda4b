package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// highlyAvailable tells whether a container is a resource of Proxmox's high availability.
func (b base) highlyAvailable(id string) bool {
	raw, err := os.ReadFile(b.path("pve", "ha", "resources.cfg"))
	return err == nil && strings.Contains("\n"+string(raw), "\nct: "+id+"\n")
}

// requested tells whether the call only asks the high availability for it, which does it later.
func (b base) requested(verb, id string) (bool, error) {
	if !b.highlyAvailable(id) || os.Getenv("PHX_HA") != "" {
		return false, nil
	}
	fmt.Printf("Requesting HA %s for CT %s\n", verb, id)
	later := exec.Command("sh", "-c", `sleep 0.4; exec "$1" "$2" "$3" >/dev/null 2>&1`, "sh", b.path("bin", "pct"),
		verb, id)
	later.Env = append(os.Environ(), "PHX_HA=1")
	later.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return true, later.Start()
}
