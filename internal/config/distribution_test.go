package config

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func TestDistributionOf(t *testing.T) {
	for name, want := range map[string]struct{ suite, problem string }{
		"/var/lib/vz/template/cache/debian-12-standard_12.12-1_amd64.tar.zst": {"bookworm", ""},
		"local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst":                {"trixie", ""},
		"/t/debian-13-turnkey-nextcloud_19.0-1_amd64.tar.gz":                  {"trixie", ""},
		"/t/debian-12.7-generic.tar.xz":                                       {"bookworm", ""},
		"/t/debian-trixie.tar.xz":                                             {"trixie", ""},
		"/t/base-trixie.tar":                                                  {"trixie", ""},
		"/t/ubuntu-24.04-standard_24.04-2_amd64.tar.zst":                      {"noble", ""},
		"/t/ubuntu-noble-server-cloudimg-amd64-root.tar.xz":                   {"noble", ""},
		"store:vztmpl/ubuntu-22.04-standard_22.04-1_amd64.tar.zst":            {"jammy", ""},
		"/t/debian.tar.zst":                                                   {"", ""},
		"/t/mine-v2.tar":                                                      {"", ""},
		"/t/proxmox-mail-gateway-8.1.tar.zst":                                 {"", ""},
		"/t/debian-11-standard_11.7-1_amd64.tar.zst":                          {"", "Debian 11"},
		"/t/ubuntu-24.10-standard_24.10-1_amd64.tar.zst":                      {"", "Ubuntu 24.10"},
		"local:vztmpl/alpine-3.20-default_20240908_amd64.tar.xz":              {"", "Alpine"},
		"/t/rockylinux-9-default_20240912_amd64.tar.xz":                       {"", "Rocky Linux"},
		"/t/archlinux-base_20240911-1_amd64.tar.zst":                          {"", "Arch Linux"},
		"/t/my-Fedora-40.tar":                                                 {"", "Fedora"},
		"/alpine/debian-12.tar":                                               {"bookworm", ""},
	} {
		d, problem := distributionOf(name)
		if problem == "" != (want.problem == "") || !strings.Contains(problem, want.problem) ||
			problem == "" && d.Suite != want.suite {
			t.Errorf("%s: %+v %q, want %+v", name, d, problem, want)
		}
	}
}

// withTemplate is the example with another archive.
func withTemplate(t *testing.T, template string) (*Config, diag.List) {
	t.Helper()
	var files []File
	for _, name := range []string{"phoenix_lxc_configs.json", "phoenix_hypervisor_config.json"} {
		raw, err := os.ReadFile("../../examples/homelab/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(raw), "/var/lib/vz/template/cache/debian-12-standard_12.12-1_amd64.tar.zst",
			template, 1)
		files = append(files, File{Name: name, Data: []byte(text)})
	}
	return Load(files)
}

func TestForeignDistributionsAreRefused(t *testing.T) {
	for template, want := range map[string]string{
		"/t/alpine-3.20.tar.xz":    "phoenix_lxc_configs.json:9: error: lxc_configs.900.template: Alpine cannot be",
		"local:vztmpl/rocky-9.tar": "Rocky Linux cannot be", "/t/debian-10.tar": "Debian 10 is not supported",
	} {
		if _, diags := withTemplate(t, template); !diags.HasErrors() || !strings.Contains(diags.Err().Error(), want) {
			t.Errorf("%s: %s", template, diags.Err().Error())
		}
	}
}

// What is built where the archive is not here is what its name says, else what the hypervisor is.
func TestBuiltSuite(t *testing.T) {
	for _, tc := range []struct {
		template, host string
		keyring        bool
		suite, said    string
	}{
		{"/t/debian-12-standard.tar", "trixie", false, "bookworm", "a Debian bookworm template is built"},
		{"/t/debian-13-standard.tar", "bookworm", false, "trixie", "a Debian trixie template is built"},
		{"local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst", "bookworm", false, "trixie", "Debian trixie"},
		{"/t/base.tar", "trixie", false, "trixie", "a Debian trixie template is built"},
		{"/t/base.tar", "", false, "bookworm", "a Debian bookworm template is built"},
		{"/t/ubuntu-24.04-standard.tar", "trixie", true, "noble", "an Ubuntu noble template is built"},
		{"/t/ubuntu-24.04-standard.tar", "trixie", false, "trixie", "warning: template archive " +
			"/t/ubuntu-24.04-standard.tar, of Ubuntu 24.04, is not on this machine; a Debian trixie template is built"},
	} {
		cfg, diags := withTemplate(t, tc.template)
		if diags.HasErrors() {
			t.Fatal(diags.Err())
		}
		for _, m := range []Machine{machine, {Runtime: "pve", Proxmox: &spec.Proxmox{Dir: "/etc/pve"}, Root: "/r",
			Storages: []Storage{{ID: "local", Type: "btrfs", Path: "/var/lib/vz", Content: []string{"rootdir"}}}}} {
			m.Suite, m.Present = tc.host, map[string]bool{spec.UbuntuKeyring: tc.keyring, spec.UbuntuSuites: true}
			objects, said := Derive(cfg, m)
			if got := get[spec.Template](t, objects, "template/900"); got.Suite != tc.suite || got.Archive != "" ||
				!slices.ContainsFunc(said, func(d diag.Diagnostic) bool {
					return strings.Contains(d.String(), tc.said)
				}) {
				t.Errorf("%s %+v: %q, %v", m.Runtime, tc, got.Suite, said)
			}
		}
	}
}

// local:vztmpl/… is Proxmox's name for a file, which is where Proxmox would have it, with Proxmox or without.
func TestStoredArchiveWithoutProxmox(t *testing.T) {
	cfg, diags := withTemplate(t, "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst")
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	const file = "/var/lib/vz/template/cache/debian-13-standard_13.1-2_amd64.tar.zst"
	if !slices.Contains(Wanted(cfg, nil), file) {
		t.Errorf("%v", Wanted(cfg, nil))
	}
	m := machine
	m.Present = map[string]bool{file: true}
	objects, _ := Derive(cfg, m)
	if got := get[spec.Template](t, objects, "template/900"); got.Archive != file {
		t.Errorf("%+v", got)
	}
	m.Kinds = map[string]string{file: "fifo"}
	if _, diags := Derive(cfg, m); !diags.HasErrors() || !strings.Contains(diags.Err().Error(), "is a fifo") {
		t.Errorf("%v", diags)
	}
}

func TestHostSuite(t *testing.T) {
	for text, want := range map[string]string{
		"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n": "trixie",
		"ID=debian\nVERSION_CODENAME=forky\n":                                                "",
		"ID=ubuntu\nVERSION_CODENAME=noble\n":                                                "",
		"ID=\"debian\"\nVERSION_CODENAME=bookworm":                                           "bookworm",
		"": "",
	} {
		if got := HostSuite(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
