package spec

import (
	"path"
	"slices"
	"strings"
)

// unitTypes are the endings of systemd's units; a name without one is a service's.
var unitTypes = []string{".service", ".socket", ".target", ".timer", ".path", ".mount", ".slice", ".scope",
	".automount", ".swap", ".device"}

// reloadVerbs are those of systemctl that have a unit read its files again.
var reloadVerbs = []string{"reload", "restart", "try-restart", "reload-or-restart", "try-reload-or-restart",
	"condrestart", "force-reload"}

// ReloadUnits are the units of systemd that the certificate's reload is about, each once. A line for a shell is looked
// through, too.
func (c Certificate) ReloadUnits() []string {
	words := c.Reload
	if len(words) == 3 && path.Base(words[0]) == "sh" && words[1] == "-c" {
		line := strings.NewReplacer(";", " ; ", "&&", " ; ", "||", " ; ", "\n", " ; ").Replace(words[2])
		words = strings.Fields(line)
	}
	var out []string
	for i, word := range words {
		if path.Base(word) != "systemctl" {
			continue
		}
		rest := words[i+1:]
		if end := slices.IndexFunc(rest,
			func(w string) bool { return w == ";" || path.Base(w) == "systemctl" }); end >= 0 {
			rest = rest[:end]
		}
		rest = slices.DeleteFunc(slices.Clone(rest), func(w string) bool { return strings.HasPrefix(w, "-") })
		if len(rest) > 0 && slices.Contains(reloadVerbs, rest[0]) {
			out = append(out, unitNames(rest[1:])...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unitNames gives the words that are names of units. What only a shell or a glob makes a name of is none.
func unitNames(words []string) (out []string) {
	for _, w := range words {
		if strings.ContainsAny(w, `$*?[]<>|&"'`+"`") {
			continue
		}
		if !slices.ContainsFunc(unitTypes, func(end string) bool { return strings.HasSuffix(w, end) }) {
			w += ".service"
		}
		out = append(out, w)
	}
	return out
}
