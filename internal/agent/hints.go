package agent

import (
	"encoding/json"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// hint is one advice of the drivers that work inside of containers. Which one fits is all that a container can say: an
// administrator does what stands behind hint:, so every word there is phoenix's own. starts is how the driver's text
// begins, and text is what is shown; empty: the same.
type hint struct {
	kind   string // of the object; empty: any
	starts string
	text   string
}

// hints are the advices that need nothing of their object.
var hints = []hint{
	{"", "run it again with --yes if that is what you want", ""},
	{"", "if it stays so, mend the cause, then run phoenix again: it goes on from where it stands", ""},
	{"", "run the command by hand to see where it hangs, then run phoenix again: it goes on from where it stands", ""},
	{"", "run the command by hand to see why it fails, then run phoenix again: it goes on from where it stands", ""},
	{"", "make room (df ", "make room in the container (df), then run phoenix again: it goes on from where it stands"},
	{"", "look for errors of the disk (dmesg; ", "look for errors of the disk (dmesg), then run phoenix again: it " +
		"goes on from where it stands"},
	{"", "look at it (ls -ld ", "look at the file that is named, then run phoenix again: it goes on from where " +
		"it stands"},
	{"", "install ", "install the program that is named, then run phoenix again: it goes on from where it stands"},
	{spec.KindFile, "look at what is in it, move it away, and run phoenix again", ""},
	{spec.KindUser, "a system user must not be root: remove it or give it another uid", ""},
	{spec.KindUser, "give ", "give who has the id another one, or use a template in which it is free"},
	{spec.KindCertificate, "add the name or address that clients dial to step_ca.dns_names", ""},
	{spec.KindCertificate,
		"a root that is not the pinned one is never used; look at the trust object of this container", ""},
	{spec.KindUnit, "install the package that brings it, or correct its name", ""},
	{spec.KindNginx, "let everyone pass through that directory (chmod o+x), or use another webroot", ""},
	{spec.KindNginx, "take out what is no snippet of nginx's configuration", ""},
	{spec.KindNginx, "correct it or take it out; all else of the gateway goes on", ""},
	{spec.KindTraefik, "journalctl -u traefik.service in the container; for a CA that is slow, " +
		"step_ca.order_timeout", ""},
	{spec.KindTrust, "if the CA was lost and made anew: phoenix create ID --new-root, with the id of its container; " +
		"if not, somebody else answers at that address", ""},
	{spec.KindScript, "look at its first line: #! and an interpreter that the container has, with no carriage return " +
		"at the end", ""},
	{spec.KindScript, "mend the script; it runs again with the next phoenix apply", ""},
	{spec.KindPackage, "check the names, and the suites and components in /etc/apt/sources.list", ""},
	{spec.KindStepCA, "only a new root helps: --new-root", ""},
	{spec.KindStepCA, "go back to the names and addresses of before, add the new ones to step_ca.root_permits, make " +
		"a root that " +
		"permits both with phoenix ca rotate --new-root --yes, and only then change them", ""},
	{spec.KindStepCA, "put the key and a file with its password there, or make a new root", ""},
	{spec.KindStepCA, "phoenix ca rotate --new-root --yes makes another and goes on", ""},
	{spec.KindStepCA, "move it away; phoenix does not follow it", ""},
}

// hintFor is what phoenix advises where the agent's driver of o said so. What it does not know is shown as the usual
// advice.
func hintFor(o object.Object, said string) string {
	if said == "" {
		return ""
	}
	for _, h := range append(hintsOf(o), hints...) {
		if h.kind != "" && h.kind != o.Address.Kind() {
			continue
		}
		if h.text != "" && strings.HasPrefix(said, h.starts) {
			return h.text
		}
		if said == h.starts {
			return said
		}
	}
	return "phoenix health " + o.Address.Scope() + " tells more; mend the cause, then run phoenix again: it goes on " +
		"from where it stands"
}

// hintsOf are the advices that name something of the object.
func hintsOf(o object.Object) []hint {
	out := []hint{
		{"", "run it again with --yes, or: phoenix restart " + o.Address.Scope(), ""},
		{spec.KindStepCA, "phoenix create " + o.Address.Scope() + " (or phoenix up) makes the first root of a new " +
			"site; where there was one, " +
			"phoenix ca restore FILE --password-file FILE brings it back from a backup", ""},
		{spec.KindStepCA, "phoenix ca restore FILE --password-file FILE brings the same root back from a backup: " +
			"every client goes on trusting it; " +
			"without a backup, phoenix create " + o.Address.Scope() + " --new-root makes another one, which every " +
			"client must then be given", ""},
	}
	var s struct {
		Name        string   `json:"name"`
		Fingerprint string   `json:"fingerprint"`
		DNSNames    []string `json:"dns_names"`
	}
	if json.Unmarshal(o.Spec, &s) != nil {
		return out
	}
	return append(out,
		hint{spec.KindUnit, "see: systemd-analyze verify " + s.Name, ""},
		hint{spec.KindCertificate, "what answers there is not the pinned CA (root " + s.Fingerprint +
			"); if the CA was made anew on purpose, pin its root first", ""},
		hint{spec.KindCertificate, "the CA has to reach this container as " + strings.Join(s.DNSNames, ", ") +
			", at port 80; for a CA that is slow, step_ca.order_timeout", ""},
		hint{spec.KindCertificate, "the CA has to reach this container as " + strings.Join(s.DNSNames, ", ") +
			", at port 443; for a CA that is slow, step_ca.order_timeout", ""},
		hint{spec.KindCertificate, "the CA's policy does not allow one of " + strings.Join(s.DNSNames, ", ") +
			": add it to step_ca.allowed_names, or take it out of certificates[].dns_names", ""},
	)
}
