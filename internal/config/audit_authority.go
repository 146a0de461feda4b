package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// auditAuthority looks at what the CA may sign and what becomes of it when a disk is lost.
func (a *auditor) auditAuthority() {
	s := &a.cfg.Hypervisor.StepCA
	for i, n := range s.AllowedNames {
		if strings.Contains(n, "*") {
			a.finding(ruleAnyName, s.At, element("allowed_names", i), "list each name by itself",
				"the CA may sign every name that %s stands for", printable(n))
		}
	}
	if p := a.hypervisorFile.get("step_ca", "provisioner_name"); p.text() != "" &&
		!strings.HasPrefix(strings.ToLower(p.text()), "acme") {
		a.report(ruleJWK, p, "remove the key: ACME is the only provisioner; on a system that is running already, "+
			"phoenix apply removes the others",
			"a provisioner other than ACME is named")
	}
	if a.ca == nil {
		return
	}
	for _, v := range a.ca.Volumes {
		if cleanPath(v.MountPoint) == caDir {
			if !v.Backup {
				a.finding(ruleNoBackup, v.At, "", `"backup": true`,
					"the volume with the CA's keys is not marked for backup")
			}
			return
		}
	}
	for _, m := range a.ca.MountPoints {
		if cleanPath(m.ContainerPath) == caDir {
			if !m.Backup {
				a.finding(ruleNoBackup, m.At, "", `"backup": true`,
					"the directory with the CA's keys is not marked for backup")
			}
			return
		}
	}
	a.finding(ruleNoBackup, a.ca.At, "", `zfs_volumes with "mount_point": "`+caDir+`" and "backup": true`,
		"container %s has no volume for the CA's keys that is marked for backup", a.ca.ID)
}

// RenewsBefore is how long before the end of its certificates Traefik renews them, by what it was told of their
// lifetime in whole hours (pkg/provider/acme/provider.go, getCertificateRenewDurations, Traefik 3.x).
func RenewsBefore(lifetime time.Duration) time.Duration {
	const day = 24 * time.Hour
	for _, step := range []struct{ from, before time.Duration }{
		{365 * day, 120 * day}, {90 * day, 30 * day}, {30 * day, 10 * day}, {7 * day, day}, {day, 6 * time.Hour},
	} {
		if lifetime.Truncate(time.Hour) >= step.from {
			return step.before
		}
	}
	return 20 * time.Minute
}

// auditLifetimes looks for certificates whose renewal leaves too little time for an outage of the CA, or never rests.
func (a *auditor) auditLifetimes() {
	s := &a.cfg.Hypervisor.StepCA
	life := a.cfg.LeafLifetime()
	proxy := slices.ContainsFunc(a.cfg.Containers, (*Container).IsProxy)
	if before := RenewsBefore(life); proxy && s.has("leaf_lifetime") && (before*10 < life || before*2 > life) {
		a.finding(ruleLifetime, s.At, "leaf_lifetime", "24h, or one of 7d, 30d, 90d",
			"Traefik renews certificates of %s only when %s are left", brief(life), brief(before))
	}
	for _, x := range a.cfg.Containers {
		for _, c := range x.Certificates {
			if before := time.Duration(c.RenewBefore); before > 0 && (before*10 < life || before < 5*time.Minute) {
				a.finding(ruleLifetime, c.At, "renew_before", "leave it out: a third of the real lifetime",
					"%s of a lifetime of %s is too short a time to get over an outage", brief(before), brief(life))
			}
		}
	}
}

// brief is a duration without its zeros: 24h, 20m.
func brief(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// auditNames looks at who answers to a name.
func (a *auditor) auditNames() {
	a.caNames()
	a.twoAddresses()
	h := survey(a.cfg)
	entries := a.entrances()
	for _, r := range h.routes {
		for _, host := range r.hosts {
			if at, known := h.names[host]; known && len(entries) > 0 && !slices.Contains(entries, at) {
				a.finding(ruleTwoSources, r.container.TraefikService.At, "name",
					"remove traefik_service, or let the record of "+host+" lead to "+entries[0].String(),
					"%s is routed by Traefik to container %s, but its record leads to %s", host, r.container.ID, at)
			}
		}
	}
}

// entrances are where clients go for what Traefik routes.
func (a *auditor) entrances() []netip.Addr {
	var out []netip.Addr
	for _, front := range []func(*Container) bool{(*Container).IsGateway, (*Container).IsProxy} {
		for _, x := range a.cfg.Containers {
			if front(x) && x.Network.Address.IsValid() {
				out = append(out, x.Network.Address.Addr())
			}
		}
	}
	return out
}

func (a *auditor) caNames() {
	if a.ca == nil || !a.ca.Network.Address.IsValid() {
		return
	}
	s, own := &a.cfg.Hypervisor.StepCA, a.ca.Network.Address.Addr()
	names := withFirst(s.DNSName, s.DNSNames)
	for _, z := range a.cfg.Hypervisor.DNS.Zones {
		for _, r := range z.Records {
			for _, to := range r.Addresses() {
				if slices.Contains(names, r.FullName(z)) && to != own {
					a.finding(ruleCAName, r.At, "", "give it the address "+own.String(),
						"%s is a name of the CA, but the record leads to %s", r.FullName(z), to)
				}
			}
		}
	}
}

// twoAddresses looks for a name whose records lead to two places, in one zone or in two.
func (a *auditor) twoAddresses() {
	first := map[string]*Record{}
	for _, z := range a.cfg.Hypervisor.DNS.Zones {
		for _, r := range z.Records {
			name := r.FullName(z)
			before, twice := first[name]
			if !twice {
				first[name] = r
				continue
			}
			one, two := before.Addresses(), r.Addresses()
			if len(one) > 0 && len(two) > 0 && one[0] != two[0] {
				a.finding(ruleTwoSources, r.At, "", "keep one of the records", "%s leads to %s here and to %s at %s",
					name, two[0], one[0], before.Source)
			}
		}
	}
}

// Authority is where clients reach the CA, host:port, and its names; empty where there is no CA.
func (c *Config) Authority() (address string, names []string) {
	for _, x := range c.Containers {
		if x.IsCA() && !x.IsGateway() && !x.IsProxy() && x.Network.Address.IsValid() {
			return hostPort(x.Network.Address.Addr(), caPort),
				withFirst(c.Hypervisor.StepCA.DNSName, c.Hypervisor.StepCA.DNSNames)
		}
	}
	return "", nil
}

// LeafLifetime is how long certificates live.
func (c *Config) LeafLifetime() time.Duration {
	return time.Duration(cmp.Or(c.Hypervisor.StepCA.LeafLifetime, defaultLeaf))
}
