package config

import (
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// Grade is how bad an audit finding is.
type Grade string

// The grades, as the audit prints them.
const (
	Critical Grade = "critical"
	High     Grade = "high"
	Medium   Grade = "medium"
	Low      Grade = "low"
)

// Grades are all grades, the least first.
var Grades = []Grade{Low, Medium, High, Critical}

// AtLeast reports whether g is as bad as other, or worse.
func (g Grade) AtLeast(other Grade) bool {
	return slices.Index(Grades, g) >= slices.Index(Grades, other)
}

// Rule is one rule of the audit. Its ID is stable and stands in diagnostics.
type Rule struct {
	ID     string
	Grade  Grade
	Title  string
	Why    string // it matters; one sentence
	refuse bool   // a finding is an error, not a warning
}

// IsSharing is whether a rule is about directories that two containers would see.
func IsSharing(rule string) bool {
	return slices.Contains([]string{ruleSamePath.ID, ruleNestedPath.ID, ruleSharedMany.ID}, rule)
}

// The rules that look at files only. Ids are never used again for something else.
var (
	ruleSamePath = Rule{"PHX-AUD-001", High, "one directory of the hypervisor is mounted in two containers",
		"whoever gets into one of the containers reads and replaces the keys of the other", true}
	ruleNestedPath = Rule{"PHX-AUD-002", High, "a directory of one container lies inside that of another one",
		"the container with the outer directory reads and replaces everything of the other one", true}
	ruleSharedMany = Rule{"PHX-AUD-003", High, "a shared volume names two containers",
		"what one container writes there the others trust", true}
	ruleSharedOne = Rule{"PHX-AUD-004", Medium, "a shared volume names a container",
		"a shared directory belongs to nobody, so that nobody closes it", false}
	ruleForeignPath = Rule{"PHX-AUD-005", Medium, "a container mounts a directory that is named for another one",
		"what is made for one container ends up readable in another", false}
	ruleSystemPath = Rule{"PHX-AUD-006", High, "a container mounts a directory of the hypervisor's own system",
		"root in the container can change the hypervisor", true}
	ruleExported = Rule{"PHX-AUD-007", High, "a container's directory is exported over the network",
		"the container's boundary ends where its files can be had from another machine", false}
	ruleTwiceInside = Rule{"PHX-AUD-008", Medium, "one directory is mounted twice in one container",
		"modes and owners that are set for one path hold for the other one too", false}
	ruleShare = Rule{"PHX-AUD-009", Low, "a directory is shared between containers on purpose",
		"what one of the containers writes there, where it may, the others read", false}
	ruleOption = Rule{"PHX-AUD-010", High, "a raw lxc option undoes the isolation or what phoenix sets",
		"root in the container can get out of it", true}
	ruleWeakOption = Rule{"PHX-AUD-011", Medium, "a raw lxc option weakens the isolation",
		"a flaw in the container's programs reaches further into the kernel than it has to", false}
	ruleUnconfined = Rule{"PHX-AUD-012", Medium, "a container runs without AppArmor",
		"a second barrier between the container and the kernel is missing", false}
	rulePrivileged = Rule{"PHX-AUD-013", High, "a container is privileged",
		"root in the container is root on the hypervisor", false}
	ruleWritable = Rule{"PHX-AUD-014", High, "everybody may write to a volume, or read a key",
		"any process in the container can replace or take the keys", true}
	ruleReadable = Rule{"PHX-AUD-015", Low, "everybody may read a volume",
		"a process that has no use for the volume can read it", false}
	ruleNesting = Rule{"PHX-AUD-016", Low, "a container may nest others without need",
		"nesting lets the container mount proc and sys anew, past what is masked there", false}
	ruleNobodys = Rule{"PHX-AUD-017", High, "a volume or a key is given to nobody",
		"what belongs to nobody is opened to everybody sooner or later, for that is the only way to read it", false}
	ruleDevices = Rule{"PHX-AUD-018", Low, "a container is given devices of the hypervisor",
		"a flaw in a device's driver is a way out of the container", false}
	ruleSecret = Rule{"PHX-AUD-020", High, "a secret stands in the file in plain text",
		"it is in every copy and every backup of the file", false}
	ruleCARole = Rule{"PHX-AUD-021", High, "the certificate authority shares its container",
		"who breaks the server that everybody talks to has the keys that everybody trusts", true}
	ruleKnownPassword = Rule{"PHX-AUD-022", High, "a password is one that everybody tries first",
		"it is on every list that is tried in the first minutes", false}
	ruleRepeated = Rule{"PHX-AUD-023", Medium, "one secret is used in two places",
		"who learns it in one place has the other one too", false}
	ruleJWK = Rule{"PHX-AUD-024", Low, "the configuration names a JWK provisioner",
		"whoever has such a provisioner's password gets certificates for any name, without proving that the name " +
			"is theirs", false}
	ruleAnyName = Rule{"PHX-AUD-025", High, "the CA may sign names that nobody has listed",
		"a client that is broken into can get a certificate for any other name", false}
	ruleNoBackup = Rule{"PHX-AUD-026", Medium, "the CA's volume is in no backup",
		"when the disk is lost the root is lost, and every client has to trust a new one", false}
	ruleLifetime = Rule{"PHX-AUD-028", Medium, "certificates live too short to be renewed in time",
		"one outage of the CA during the short time that is left ends in expired certificates", false}
	ruleTwiceAllowed = Rule{"PHX-AUD-030", Low, "a firewall rule stands twice",
		"who takes one of them out believes that the door is shut", false}
	ruleContradiction = Rule{"PHX-AUD-031", Medium, "two firewall rules contradict each other",
		"which one holds depends on their order, not on what was meant", false}
	ruleAnySource = Rule{"PHX-AUD-032", Medium, "a firewall rule lets in any source",
		"every host that can send a packet here may connect", false}
	ruleCAOpen = Rule{"PHX-AUD-033", High, "the CA can be reached from where nobody needs it",
		"every host that reaches the CA can ask it for certificates and try its flaws", false}
	ruleOpen = Rule{"PHX-AUD-034", Medium, "a container has no firewall",
		"every port that any of its programs opens can be reached from all other containers", false}
	ruleRouted = Rule{"PHX-AUD-035", Medium, "the LAN reaches every port of a container",
		"a program that was meant for its neighbours only can be tried by every host of the LAN", false}
	ruleForwarded = Rule{"PHX-AUD-036", Low, "the LAN reaches the gateway by ports of the hypervisor",
		"every host of the LAN, and of the Internet where the router forwards too, can try its flaws", false}
	rulePublished = Rule{"PHX-AUD-037", Medium, "the LAN reaches a container by a port of the hypervisor",
		"every host of the LAN, and of the Internet where the router forwards too, can try the program behind it, " +
			"without the gateway's certificate, allow list or password", false}
	ruleCAName = Rule{"PHX-AUD-040", High, "a DNS record sends the CA's name elsewhere",
		"clients ask another host for their certificates", false}
	ruleTwoSources = Rule{"PHX-AUD-041", Medium, "one name has two sources",
		"which of the two answers depends on who asks and when", false}
	ruleTLS = Rule{"PHX-AUD-045", High, "the configuration turns the verification of TLS off",
		"a connection that is not verified can be read and changed by whoever stands between", false}
	ruleExpired = Rule{"PHX-AUD-090", Medium, "the time of an accepted finding is over",
		"what was accepted for a time only became a habit", false}
	ruleVoid = Rule{"PHX-AUD-091", Low, "an acceptance accepts nothing",
		"it hides the next finding that happens to match it", false}
)

// loadRules are those that Load tells about too.
func loadRules() []Rule {
	return []Rule{ruleSamePath, ruleNestedPath, ruleSharedMany, ruleSharedOne, ruleForeignPath, ruleSystemPath,
		ruleExported, ruleOption,
		ruleWeakOption, ruleUnconfined, rulePrivileged, ruleWritable, ruleReadable, ruleSecret, ruleCARole, ruleOpen}
}

// Rules are all rules of the audit that look at files only.
func Rules() []Rule {
	return append(loadRules(), ruleTwiceInside, ruleShare, ruleDevices, ruleNesting, ruleNobodys, ruleKnownPassword, ruleRepeated, ruleJWK,
		ruleAnyName, ruleNoBackup, ruleLifetime,
		ruleTwiceAllowed, ruleContradiction, ruleAnySource, ruleCAOpen, ruleForwarded, ruleRouted,
		rulePublished, ruleCAName, ruleTwoSources, ruleTLS, ruleExpired, ruleVoid)
}

// severity is that of a finding of the rule.
func (r Rule) severity() diag.Severity {
	if r.refuse {
		return diag.Error
	}
	return diag.Warning
}
