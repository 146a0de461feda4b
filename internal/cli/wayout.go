package cli

import (
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// refused is bad configuration as it is shown. Where directories are shared there is a way out, and it is told at the
// end: everybody who comes from the old layout meets this first.
func (a *app) refused(list diag.List) view.Validation {
	out := view.Validation{Diagnostics: list}
	shares := func(d diag.Diagnostic) bool { return d.Severity == diag.Error && config.IsSharing(d.Rule) }
	if a.migrating || !slices.ContainsFunc(list, shares) {
		return out
	}
	if a.halfMoved() {
		out.Hint = "a migration was begun here and stopped before the configuration was rewritten: it has to go on, " +
			"or back"
		out.Next = []string{a.again("migrate --live --yes") + "    # goes on from there",
			a.again("migrate --live --rollback --yes") + "    # goes back"}
		return out
	}
	out.Hint = "each container needs directories of its own, and phoenix migrate gives them to it"
	out.Next = []string{a.again("migrate") + "    # shows the same files with own volumes, as a difference; writes " +
		"nothing",
		a.again("migrate --live") + "    # shows how the running system is moved, with --yes moves it"}
	return out
}

// halfMoved is whether a migration of the running system was begun and is not over.
func (a *app) halfMoved() bool {
	root, err := a.rootDirectory()
	if err != nil {
		return false
	}
	j := journalIn(a.host, root)
	return j.there(j.dir) && !j.there(j.shredded())
}
