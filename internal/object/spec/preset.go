package spec

import (
	"path"
	"strings"
)

// PresetPath is where systemd reads first what to enable where nobody has said so (systemd.preset(5)): at the first
// boot of a clone, which has no machine id, and when Debian's packages are installed. It comes before Proxmox' own
// 00-pve.preset.
const PresetPath = "/etc/systemd/system-preset/00-phoenix.preset"

// The units that the packages of a template enable, and that nothing needs until an object asks for it.
const (
	UnitNginx   = "nginx.service"
	UnitFetch   = "apt-daily.timer" // fetches lists of packages, and
	UnitUpgrade = "apt-daily-upgrade.timer"
)

// TemplateUnits are all of them.
func TemplateUnits() []string {
	return []string{UnitNginx, UnitFetch, UnitUpgrade, "dpkg-db-backup.timer", "e2scrub_all.timer",
		"e2scrub_reap.service", "fstrim.timer", "systemd-pstore.service"}
}

// WritePreset is a shell's command that writes the file for a template, with nothing but mkdir.
func WritePreset() string {
	return "mkdir -p " + path.Dir(PresetPath) + "\nprintf %s '" + Preset(TemplateUnits()) + "' >" + PresetPath + "\n"
}

// Preset is the text of a file at PresetPath that leaves units disabled.
func Preset(units []string) string {
	var b strings.Builder
	b.WriteString("# phoenix: what the packages of the template bring stays disabled until an object asks for it.\n")
	for _, u := range units {
		b.WriteString("disable " + u + "\n")
	}
	return b.String()
}
