package spec

import "slices"

// UbuntuKeyring is what Ubuntu's packages are verified with. Without it no Ubuntu can be built.
const UbuntuKeyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

// UbuntuSuites are Ubuntu's releases as mmdebstrap(1) reads them (package distro-info-data): from them it knows that a
// suite is Ubuntu's, and so its servers.
const UbuntuSuites = "/usr/share/distro-info/ubuntu.csv"

// Release is one of the releases that containers can be made of.
type Release struct {
	Name    string // Debian or Ubuntu
	Version string // 12, 24.04
	Suite   string // bookworm, noble
}

// The distributions of Releases.
const (
	Debian = "Debian"
	Ubuntu = "Ubuntu"
)

// Releases are all of them, the oldest first: they have a systemd and packages that phoenix is made for.
var Releases = []Release{
	{Debian, "12", "bookworm"}, {Debian, "13", "trixie"},
	{Ubuntu, "22.04", "jammy"}, {Ubuntu, "24.04", "noble"}, {Ubuntu, "26.04", "resolute"},
}

// DistributionOf is whose a suite is; empty: nobody's that is known.
func DistributionOf(suite string) string {
	i := slices.IndexFunc(Releases, func(r Release) bool { return r.Suite == suite })
	if i < 0 {
		return ""
	}
	return Releases[i].Name
}
