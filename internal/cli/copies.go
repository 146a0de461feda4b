package cli

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

var (
	markOfContainer = regexp.MustCompile(`(?m)^#phoenix(?::|%3A) container/(\d+)\s*$`)
	hardwareAddress = regexp.MustCompile(`(?m)^net\d+: .*\bhwaddr=([0-9A-Fa-f:]{17})`)
	fixedAddress    = regexp.MustCompile(`(?m)^net\d+: .*\bip6?=([0-9a-fA-F.:]+/\d+)`)
)

// copyWords end the warning.
const copyWords = ": it is a copy, and would answer in its place"

// copies tells of containers of this node that are copies of the configuration's: pct restore and pct clone take along
// the notes, the address and, without --unique, the hardware address.
func (a *app) copies(h *house) (out diag.List) {
	p := h.machine.Proxmox
	if p == nil {
		return nil
	}
	confs := map[string]string{}
	var ids []string
	for _, name := range a.namesIn(filepath.Join(p.Dir, "lxc")) {
		id, isConf := strings.CutSuffix(name, ".conf")
		raw, err := a.host.ReadFile(filepath.Join(p.Dir, "lxc", name))
		if !isConf || err != nil {
			continue
		}
		confs[id], _ = parted(string(raw))
		ids = append(ids, id)
	}
	told := map[string]bool{}
	for _, c := range h.cfg.Containers {
		own, there := confs[c.ID]
		told[c.ID] = true // of two that are in the file one word is enough
		for _, id := range ids {
			if told[id] || !there {
				continue
			}
			if what := shared(own, confs[id], c.ID); len(what) > 0 {
				out = append(out, diag.Diagnostic{Severity: diag.Warning, File: c.Source.File, Line: c.Source.Line,
					Summary: fmt.Sprintf("container %s has %s of container %s%s", id, strings.Join(what, ", "), c.ID,
						copyWords),
					Hint: fmt.Sprintf("stop %s; take the lines that begin with phoenix: out of its notes, and "+
						"give it another address and hwaddr: pct set %[1]s --net0 …", id)})
			}
		}
	}
	return out
}

// shared is what a container has of another one.
func shared(own, other, id string) (what []string) {
	if m := markOfContainer.FindStringSubmatch(other); m != nil && m[1] == id {
		what = append(what, "the marks")
	}
	for name, pattern := range map[string]*regexp.Regexp{"the hardware address": hardwareAddress,
		"the address": fixedAddress} {
		for _, m := range pattern.FindAllStringSubmatch(other, -1) {
			if slices.ContainsFunc(pattern.FindAllStringSubmatch(own, -1),
				func(o []string) bool { return strings.EqualFold(o[1], m[1]) }) {
				what = append(what, name)
				break
			}
		}
	}
	slices.Sort(what)
	return what
}
