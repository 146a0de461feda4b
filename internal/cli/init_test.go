package cli

import (
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// neighbourhood is a Proxmox host on which others live already.
func neighbourhood() *surroundings {
	lan := netip.MustParsePrefix("192.168.1.10/24")
	return &surroundings{bridges: []string{"vmbr0"}, addresses: map[string]netip.Prefix{"vmbr0": lan},
		taken: []netip.Prefix{lan.Masked(), netip.MustParsePrefix("10.86.17.0/24"),
			netip.MustParsePrefix("10.86.18.0/23")},
		ids:      map[int]bool{101: true, 104: true},
		storages: []string{"tank", "local-lvm"},
		archives: []string{"/var/lib/vz/template/cache/debian-12-standard_12.7-1_amd64.tar.zst"},
		// the bridge's own is not asked: it is the hypervisor
		resolvers: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("10.86.20.1")}, proxmox: true}
}

func flags(names ...string) func(string) bool {
	return func(flag string) bool { return strings.Contains(" "+strings.Join(names, " ")+" ", " "+flag+" ") }
}

// A new site takes what is free: another subnet, other ids; and at most five questions are asked, none that a flag
// answers.
func TestNewSiteFitsIn(t *testing.T) {
	var asked []string
	site, err := neighbourhood().site(siteWish{given: flags()}, func(q, usual string) (string, error) {
		asked = append(asked, q)
		return usual, nil
	})
	if err != nil || len(asked) != 5 {
		t.Fatalf("%v, asked %q", err, asked)
	}
	if site.Zone != "home.internal" || site.Bridge != "phxbr0" || site.Address.String() != "10.86.20.1/24" ||
		site.Storage != "tank" || site.First != 1100 || site.App != "" ||
		!strings.HasSuffix(site.Template, "12.7-1_amd64.tar.zst") || len(site.Upstreams) != 1 {
		t.Errorf("%+v", site)
	}
	asked = nil
	site, err = neighbourhood().site(siteWish{zone: "lab.internal", bridge: "vmbr0", app: "hello", storage: "local-lvm",
		given: flags("zone", "bridge", "app", "storage")}, func(q, usual string) (string, error) {
		asked = append(asked, q)
		return usual, nil
	})
	if err != nil || len(asked) != 0 || site.Address.String() != "192.168.1.10/24" || site.App != "hello" {
		t.Errorf("%+v, %v, asked %q", site, err, asked)
	}
	_, err = neighbourhood().site(siteWish{bridge: "vmbr0", subnet: "10.0.0.0/24", given: flags("bridge", "subnet")},
		func(string, string) (string, error) { return "", errors.New("nobody answers") })
	if err == nil || !strings.Contains(err.Error(), "vmbr0 has the address") ||
		!strings.Contains(err.Error(), "nobody") {
		t.Errorf("%v", err)
	}
	_, err = neighbourhood().site(siteWish{subnet: "10.86.18.0/24", given: flags("subnet")},
		func(_, usual string) (string, error) { return usual, nil })
	if err == nil || !strings.Contains(err.Error(), "by another link already") {
		t.Errorf("%v", err)
	}
}

// What is written is valid on both runtimes, with an application and without, and no container but the template is
// open.
func TestNewSiteIsValid(t *testing.T) {
	for _, app := range []string{"", "hello"} {
		for _, storage := range []string{"", "tank"} {
			site, err := neighbourhood().site(siteWish{app: app, storage: storage, given: flags("app")},
				func(_, usual string) (string, error) { return usual, nil })
			if err != nil {
				t.Fatal(err)
			}
			site.Storage = storage
			containers, hypervisor := site.Text()
			cfg, diags := config.Load([]config.File{{Name: fileNames[0], Data: containers},
				{Name: fileNames[1], Data: hypervisor}})
			runtime := map[string]string{"": "lxc", "tank": "pve"}[storage]
			for _, d := range config.ActedOn(diags, runtime) {
				if !strings.Contains(d.Summary, "a comment") {
					t.Errorf("app %q, storage %q: %s:%d: %s", app, storage, d.File, d.Line, d.Summary)
				}
			}
			if diags.HasErrors() {
				t.Fatalf("%s", containers)
			}
			for _, c := range cfg.Containers {
				if c.StartAtBoot && !c.Firewall.Enabled || !c.Unprivileged {
					t.Errorf("container %s is open", c.ID)
				}
			}
			objects, diags := config.Derive(cfg,
				config.Machine{Runtime: runtime, Root: "/var/lib/phoenix", FirstRoot: true})
			if diags.HasErrors() || len(objects) < 40 {
				t.Errorf("%d objects, %v", len(objects), diags)
			}
		}
	}
}

// From nothing to a site: init, validate, plan, up, on a machine in memory. What init says that up would do is what it
// does, and after that there is nothing to do.
func TestInitThenUp(t *testing.T) {
	h := newBenchHouse(t, 1) // for its machine, and the programs that go into containers
	dir := filepath.Join(t.TempDir(), "etc")
	h.app.opts.config = []string{dir}
	code, out, said := h.run(t, "init", "--dir", dir, "--bridge", "phxinit2", "--subnet", "10.87.97.0/24",
		"--app", "hello", "--yes", "-o", "json")
	var begun struct {
		Files     []string
		Unplanned string
		Plan      struct{ Changes []struct{ Address string } }
	}
	if err := json.Unmarshal([]byte(out), &begun); err != nil || code != exitDone {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, said)
	}
	if len(begun.Files) != 2 || begun.Unplanned != "" || len(begun.Plan.Changes) < 60 {
		t.Errorf("%d files, %d changes, %q", len(begun.Files), len(begun.Plan.Changes), begun.Unplanned)
	}
	if code, out, said := h.run(t, "validate"); code != exitDone || !strings.Contains(out, " 0 warnings") {
		t.Errorf("exit %d\n%s%s", code, out, said)
	}
	if code, out, said := h.run(t, "plan", "--detailed-exitcode"); code != exitPending {
		t.Errorf("exit %d\n%s%s", code, out, said)
	}
	// unhealthy: nobody answers in there
	if code, out, said := h.run(t, "up"); code != exitUnhealthy {
		t.Fatalf("exit %d\n%s%s", code, out, said)
	}
	if code, out, said := h.run(t, "plan", "--detailed-exitcode"); code != exitDone {
		t.Errorf("a plan after up: exit %d\n%s%s", code, out, said)
	}
	for _, id := range []string{"101", "102", "103", "201"} {
		if f := h.check(t, "PHX-CT-001", object.NewAddress(spec.KindRunning, id)); f.Status != health.Pass {
			t.Errorf("%+v", f)
		}
	}
}
