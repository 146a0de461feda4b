package nginx

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

const fileMode = fs.FileMode(0o644)

// Diff implements provider.Driver.
func (Driver) Diff(want spec.Nginx, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "missing",
			Fields: []plan.Field{{Path: partFile(want), Want: "present"}}}
	}
	if want.Part == spec.NginxOwn {
		return diffOwn(want, have)
	}
	var d plan.Delta
	r := render(want, have.Trust)
	sum := sha256.Sum256([]byte(r.text))
	d.Compare(partFile(want), short(have.SHA256), short(hex.EncodeToString(sum[:])))
	d.Compare(partFile(want)+" mode", have.Mode, fileMode.String())
	if have.Running {
		d.Compare("loaded", have.Loaded, r.digest)
	}
	if have.Unchecked {
		d.Compare(nextDir(want), "left behind", "removed")
	}
	if want.Part == spec.NginxTLS {
		d.Compare("certificate", have.Unusable, "")
		return d
	}
	d.Compare("webroot", have.Webroot, "")
	// A running nginx has the certificate in memory and goes on serving it. One that is yet to start would not.
	if have.Orphan && !have.Running {
		d.Compare(tlsFile(want), "cannot be loaded: "+have.Unusable, "absent")
	}
	return d
}

func short(sum string) string { return sum[:min(12, len(sum))] }
