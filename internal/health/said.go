package health

import (
	"net/http"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// Said is what the hypervisor makes of a result that the inside of the check's container gave. Which check it was the
// hypervisor knows, words are marked as the container's, and what a person should do is taken from the table below.
func Said(c Check, r Result) Result {
	if r.Status != Pass && r.Status != Fail && r.Status != Skip {
		return Failed(c, errNoStatus)
	}
	out := c.result(r.Status, r.Summary, r.Evidence, "")
	by := "container " + c.Host + " says: "
	if out.Vain = r.Vain; out.Evidence != "" {
		out.Evidence = short(by + out.Evidence)
	}
	if c.Object.Scope() != c.Host {
		out.Summary = summary(by + out.Summary)
	}
	if r.Status == Fail {
		out.Fix = c.apply()
		if fixes := c.fixes(); slices.Contains(fixes, r.Fix) {
			out.Fix = r.Fix
		}
	}
	return out
}

// fixes are all that phoenix may advise after a check, besides to apply its container.
func (c Check) fixes() []string {
	log := "; its log: "
	daemonLog := c.inside("journalctl -n 50 -u " + DaemonUnit)
	switch c.Kind {
	case kindDaemon:
		return []string{c.apply() + log + daemonLog, firstRoundFix + log + daemonLog,
			c.inside("systemctl restart " + DaemonUnit)}
	case kindSystemd:
		return []string{"phoenix restart " + c.Host, c.inside("systemctl list-jobs"), c.inside("systemctl --failed"),
			c.failedFix()}
	case kindUnit:
		p, _ := decode[unitParams](c.Params)
		own := c.inside("journalctl -n 50 -u " + p.Name)
		return []string{c.apply() + log + own, c.inside("systemctl restart "+p.Name) + log + own}
	case kindVolumeMount:
		return []string{"phoenix apply " + c.container() + " && phoenix restart " + c.container()}
	case kindKeyDirectory:
		return []string{c.apply() + restoreFix}
	case kindWatch:
		p, _ := decode[WatchSeen](c.Params)
		return []string{startWatch(p.Unit), installFix}
	case kindRootPermits:
		return []string{newRootFix}
	case kindRoot, kindRootFiles:
		return []string{c.rootFix()}
	case kindAuthorityLife:
		return []string{"phoenix ca rotate --new-root --yes", "phoenix ca rotate --yes"}
	case kindClock:
		return []string{clockFix}
	case kindCertFiles, kindCertChain, kindCertLifetime:
		p, _ := decode[certParams](c.Params)
		return []string{c.renew(p), c.renew(p) + "; why it was not renewed: " + daemonLog, dateFix}
	case kindCertReload:
		return []string{c.reloadFix()}
	case kindCertRoute:
		return []string{dateFix}
	case kindCommand:
		p, _ := decode[commandParams](c.Params)
		return []string{c.inside("systemctl --failed"), packageFix,
			c.inside(host.Quote([]string{"sh", "-c", p.Command}))}
	case kindBackend:
		p, _ := decode[backendParams](c.Params)
		_, target, _ := dialTarget(p.URL)
		return []string{validateFix, backendFix(target), signerFix}
	case kindRoute:
		return []string{gatewayFix(c, http.StatusBadGateway), gatewayFix(c, http.StatusInternalServerError)}
	case kindListening:
		return []string{c.listeningFix()}
	case kindUnreadable:
		return []string{validateFix}
	}
	return nil
}

func startWatch(unit string) string {
	return "systemctl start " + unit + ", and journalctl -u " + unit + " where it does not stay"
}

const installFix = "phoenix setup --yes with the one that is meant; a watch that no unit runs is ended by hand (kill " +
	"PID) and begun again"

// What is advised where a check fails and an apply is not all.
const (
	firstRoundFix = "wait for its first round"
	restoreFix    = ", or restore it from a backup"
	clockFix      = "set the hypervisor's clock, which all containers share: timedatectl set-ntp true"
	dateFix       = "check the clock: date -u"
	packageFix    = "add its package to packages, or change health_check"
	validateFix   = "phoenix validate"
)

const signerFix = `give it a certificate of this site's CA (certificates), or put the one that signed its own ` +
	`into a file in the proxy's container and name that in traefik_service: "ca_file"; "server_name" is the name in it`

func backendFix(target string) string {
	return "start the application that listens on " + target + ", or mend its port in the configuration"
}

func (c Check) rootFix() string {
	return "phoenix ca restore FILE --password-file FILE brings the same root back from a backup: nobody has to " +
		"trust anything new; only if it is lost " +
		"for good: phoenix create " + c.container() + " --new-root makes another one, which every client outside " +
		"must then be given (phoenix ca show)"
}

func (c Check) reloadFix() string {
	return "correct reload in the configuration, or have application_script make the unit; then " + c.apply()
}

func (c Check) failedFix() string {
	return c.inside("systemctl --failed") + "; mend the cause, then " + c.inside("systemctl reset-failed")
}
