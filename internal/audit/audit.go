// Package audit looks at live systems for what is unsafe: at the hypervisor, and inside of containers, where the agent
// runs it. It observes only, through host.Host, and never tells a secret. What stands in the users' files, config
// audits.
package audit

import (
	"fmt"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// The rules that look at a live system. Ids are never used again for something else.
var (
	ruleSeenTwice = config.Rule{ID: "PHX-AUD-050", Grade: config.High, Title: "one directory is seen by two containers",
		Why: "whoever gets into one of the containers reads and replaces the keys of the other"}
	ruleMountedTwice = config.Rule{ID: "PHX-AUD-051", Grade: config.Low,
		Title: "one directory is mounted twice in a running container",
		Why:   "modes and owners that are set for one path hold for the other one too"}
	ruleOpenOutside = config.Rule{ID: "PHX-AUD-052", Grade: config.Critical,
		Title: "a secret can be read by others on the hypervisor",
		Why:   "every user and every process of the hypervisor can take it"}
	ruleOpenInside = config.Rule{ID: "PHX-AUD-053", Grade: config.High,
		Title: "a secret can be read by others inside a container",
		Why:   "every process of the container can take it"}
	ruleNobody = config.Rule{ID: "PHX-AUD-054", Grade: config.High, Title: "a file belongs to nobody, or to an id " +
		"that the container does not have",
		Why: "what belongs to nobody is opened to everybody sooner or later, for that is the only way to read it"}
	ruleSecretText = config.Rule{ID: "PHX-AUD-055", Grade: config.High,
		Title: "a secret stands in a script or a unit file",
		Why:   "whoever may read programs may read it, and it is in every backup"}
	ruleSecretArgument = config.Rule{ID: "PHX-AUD-056", Grade: config.High,
		Title: "a secret stands in the arguments of a process",
		Why:   "every process sees the arguments of all others"}
	rulePassword = config.Rule{ID: "PHX-AUD-057", Grade: config.High, Title: "a password file has a well-known " +
		"password, or that of another file",
		Why: "who learns it in one place has the other one too"}
	ruleOneVolume = config.Rule{ID: "PHX-AUD-058", Grade: config.Low,
		Title: "the root's key is on the volume of the issuing key",
		Why:   "the root's key is used once in years, and lost together with the one that is used every day"}
	ruleProvisioner = config.Rule{ID: "PHX-AUD-059", Grade: config.High,
		Title: "the CA has a provisioner other than ACME",
		Why:   "whoever has its password gets certificates for any name, without proving that the name is theirs"}
	ruleForeignSecret = config.Rule{ID: "PHX-AUD-060", Grade: config.Critical, Title: "a client has a secret of the CA",
		Why: "whoever breaks into the client signs what they like"}
	rulePolicy = config.Rule{ID: "PHX-AUD-061", Grade: config.High,
		Title: "the CA's name policy is missing or has a wildcard",
		Why:   "a client that is broken into can get a certificate for any other name"}
	ruleReachable = config.Rule{ID: "PHX-AUD-062", Grade: config.Medium,
		Title: "the CA can be reached from where nobody needs it",
		Why:   "every host that reaches the CA can ask it for certificates and try its flaws"}
	ruleOldKey = config.Rule{ID: "PHX-AUD-063", Grade: config.Medium,
		Title: "a certificate has the key of an earlier one",
		Why:   "a key that was taken once stays of use for as long as it is renewed"}
	ruleProtocol = config.Rule{ID: "PHX-AUD-064", Grade: config.Medium,
		Title: "a server speaks a protocol before TLS 1.2",
		Why:   "TLS before 1.2 is broken, and nothing needs it any more"}
	ruleNoVerify = config.Rule{ID: "PHX-AUD-065", Grade: config.High, Title: "a program does not verify its peer",
		Why: "a connection that is not verified can be read and changed by whoever stands between"}
	ruleDashboard = config.Rule{ID: "PHX-AUD-066", Grade: config.High,
		Title: "a dashboard can be seen without a password",
		Why:   "it tells every route and every backend to whoever gets there"}
	ruleWeak = config.Rule{ID: "PHX-AUD-067", Grade: config.Medium, Title: "a container's definition on the system " +
		"weakens its isolation",
		Why: "what the configuration does not say was changed by hand, and nobody looks at it"}
	ruleHosts = config.Rule{ID: "PHX-AUD-068", Grade: config.High,
		Title: "a container's own file sends the CA's name elsewhere",
		Why:   "the container asks another host for its certificates"}
	ruleWritable = config.Rule{ID: "PHX-AUD-070", Grade: config.High, Title: "everybody on the hypervisor can change " +
		"what a container sees",
		Why: "any user of the hypervisor can put a program or a key of their own in the place of the container's"}
	ruleUnwanted = config.Rule{ID: "PHX-AUD-075", Grade: config.High, Title: "a valid certificate is for a name that " +
		"the configuration has no use for",
		Why: "who has it answers for that name, and everybody believes them until it ends"}
	ruleForeignCertificate = config.Rule{ID: "PHX-AUD-076", Grade: config.Critical,
		Title: "somebody else has a certificate for a container's name",
		Why:   "who has it can stand between the container and everybody who talks to it, read and change everything"}
	ruleTimer = config.Rule{ID: "PHX-AUD-069", Grade: config.Medium,
		Title: "a timer renews too seldom for the certificates' lifetime",
		Why:   "one failed run ends in expired certificates"}
	ruleFrames = config.Rule{ID: "PHX-AUD-080", Grade: config.High, Title: "a guest on a bridge of Proxmox's can use " +
		"another one's address",
		Why: "it receives what is meant for the other one, such as the CA's challenge, and gets certificates for " +
			"its names"}
	ruleDouble = config.Rule{ID: "PHX-AUD-081", Grade: config.High,
		Title: "a copy of a container has its marks or its addresses",
		Why:   "two hosts answer for one address, and phoenix may take the copy for its own"}
	ruleLeftover = config.Rule{ID: "PHX-AUD-095", Grade: config.Medium,
		Title: "a copy of the CA's keys was left behind",
		Why:   "it is forgotten when keys are replaced or destroyed, and is as good as they are"}
)

// Rules are all rules that look at a live system.
func Rules() []config.Rule {
	return []config.Rule{ruleSeenTwice, ruleMountedTwice, ruleOpenOutside, ruleOpenInside, ruleNobody, ruleSecretText,
		ruleSecretArgument, rulePassword,
		ruleOneVolume, ruleProvisioner, ruleForeignSecret, rulePolicy, ruleReachable, ruleOldKey, ruleProtocol,
		ruleNoVerify, ruleDashboard, ruleWeak,
		ruleHosts, ruleTimer, ruleWritable, ruleFrames, ruleDouble, ruleForeignPort, ruleUnwanted,
		ruleForeignCertificate, ruleUsersIDs, ruleSharedIDs, ruleLeftover}
}

// Seen is what one look at a system gave. It goes over the agent's pipe as JSON.
type Seen struct {
	Sights   []Sight    `json:"sights,omitempty"`
	Unseen   []Unseen   `json:"unseen,omitempty"`
	Password []Password `json:"password,omitempty"`
	Audit    bool       `json:"audit"` // set always: an agent that knows no audit answers without it
}

// Sight is a finding on a live system.
type Sight struct {
	Rule    string `json:"rule"`
	Object  string `json:"object"`
	Summary string `json:"summary"`
	Fix     string `json:"fix"`
	File    string `json:"file,omitempty"` // of the hypervisor
	Line    int    `json:"line,omitempty"`
}

// Unseen is something that could not be looked at.
type Unseen struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
}

// Password is a password file. Mark is the same for the same password, and means nothing outside of one run.
type Password struct {
	Object string `json:"object"`
	Path   string `json:"path"`
	Mark   string `json:"mark"`
}

func (s *Seen) add(r config.Rule, object, fix, format string, args ...any) {
	s.Sights = append(s.Sights, Sight{Rule: r.ID, Object: object, Summary: fmt.Sprintf(format, args...), Fix: fix})
}

// Of is what the inside of one container says, as far as it may be believed: it speaks for that container only, and
// what it says cannot be taken for anything but text.
func (s Seen) Of(object string) Seen {
	s.Sights, s.Unseen, s.Password = s.Sights[:min(len(s.Sights), most)], s.Unseen[:min(len(s.Unseen), most)],
		s.Password[:min(len(s.Password), most)]
	s.Sights = slices.DeleteFunc(s.Sights, func(x Sight) bool { return insideFixes[x.Rule] == "" })
	for i, x := range s.Sights {
		s.Sights[i] = Sight{Rule: x.Rule, Object: object, Summary: object + " says: " + x.Summary,
			Fix: insideFixes[x.Rule]}
	}
	for i := range s.Unseen {
		s.Unseen[i].Object, s.Unseen[i].Reason = object, printable(object+" says: "+s.Unseen[i].Reason)
	}
	for i := range s.Password {
		s.Password[i].Object, s.Password[i].Path = object, printable(s.Password[i].Path)
	}
	return s
}

// most is how many findings one container may have.
const most = 200

// insideFixes are the remedies of what the inside of a container can see, by rule. They are phoenix's own words: what
// stands behind fix: is done by a person. Rules that are not here are not for a container to say.
var insideFixes = map[string]string{
	rulePassword.ID: "make a random one: openssl rand -base64 24",
	ruleOpenInside.ID: "chmod go-rwx on each inside the container, or phoenix apply; what could be read counts " +
		"as leaked: phoenix ca rotate --yes makes it anew",
	ruleNobody.ID: "give the files an owner that the container has, from the hypervisor",
	ruleForeignSecret.ID: "remove the files, change the password or key in the CA's container, and get certificates " +
		"by ACME: phoenix migrate",
	ruleOneVolume.ID: "keep a copy of the root's key offline; or accept it with a reason, where that copy exists",
	ruleReachable.ID: "let the CA's firewall accept its clients only",
	ruleHosts.ID:     "remove the line from /etc/hosts",
	ruleTimer.ID: "remove it: phoenix renews; or let it run more often than a twelfth of the certificates' " +
		"lifetime",
	ruleProvisioner.ID: "phoenix apply removes it; where phoenix does not keep the CA, take it out of ca.json",
	rulePolicy.ID:      "authority.policy.x509.allow.dns with each name by itself, or phoenix apply",
	ruleProtocol.ID:    "nginx: ssl_protocols TLSv1.2 TLSv1.3; Traefik: minVersion: VersionTLS12",
	ruleNoVerify.ID: "nginx: proxy_ssl_verify on, with proxy_ssl_trusted_certificate and proxy_ssl_name; " +
		"Traefik: rootCAs, and no insecureSkipVerify",
	ruleDashboard.ID:      "api.insecure: false, and dashboard: false or a router for it with basicAuth",
	ruleOldKey.ID:         "make a new key with the next certificate, as phoenix does: phoenix cert renew --all",
	ruleSecretText.ID:     "change it, and let the program read it from a file that only it can read",
	ruleSecretArgument.ID: "change it, and let the program read it from a file that only it can read",
	ruleMountedTwice.ID:   "remove one of the two mounts from the configuration",
}

// printable is one line that does nothing to a terminal.
func printable(s string) string { return clean.Line(s, textEnd) }

// textEnd is how long a finding may be, in bytes.
const textEnd = 2000

// join takes over what another look gave.
func (s *Seen) join(o Seen) {
	s.Sights = append(s.Sights, o.Sights...)
	s.Unseen = append(s.Unseen, o.Unseen...)
	s.Password = append(s.Password, o.Password...)
}

// Findings are all sights as findings, with the passwords of all systems compared. Sights of rules that this phoenix
// does not know are left out.
func Findings(all ...Seen) []config.Finding {
	var whole Seen
	for _, s := range all {
		whole.join(s)
	}
	whole.repeated()
	var out []config.Finding
	for _, s := range whole.Sights {
		i := slices.IndexFunc(Rules(), func(r config.Rule) bool { return r.ID == s.Rule })
		if i >= 0 {
			out = append(out, config.Finding{Rule: Rules()[i], Source: object.Source{File: s.File, Line: s.Line},
				Object:  s.Object,
				Summary: printable(s.Summary), Fix: printable(s.Fix)})
		}
	}
	return out
}

// repeated looks for one password in two files.
func (s *Seen) repeated() {
	first := map[string]Password{}
	for _, p := range s.Password {
		before, twice := first[p.Mark]
		if !twice {
			first[p.Mark] = p
			continue
		}
		s.add(rulePassword, p.Object, "make a random one for each place", "%s has the password of %s of %s", p.Path,
			before.Path, before.Object)
	}
}
