package file

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
)

// Diff implements provider.Driver.
func (Driver) Diff(want spec.File, have *Status) plan.Delta {
	if have == nil {
		return plan.Delta{Action: plan.Create, Reason: "the " + wantKind(want) + " does not exist"}
	}
	var d plan.Delta
	d.Compare("kind", have.Kind, wantKind(want))
	if d.Has("kind") {
		return d
	}
	if !want.Directory && have.SHA256 != wantSum(want) {
		d.Compare("content", haveContent(have), wantContent(want))
	}
	d.Compare("mode", fmt.Sprintf("%04o", have.Mode), fmt.Sprintf("%04o", want.Mode))
	if have.Wanted == "" {
		d.Compare("owner", have.Owner, want.Owner+":"+want.Group+" (not known here yet)")
	} else {
		d.Compare("owner", have.Owner, have.Wanted)
	}
	return d
}

func wantKind(s spec.File) string {
	if s.Directory {
		return isDirectory
	}
	return isFile
}

func wantSum(s spec.File) string {
	if s.SHA256 != "" {
		return s.SHA256
	}
	sum := sha256.Sum256([]byte(s.Content))
	return hex.EncodeToString(sum[:])
}

func wantContent(s spec.File) string {
	text := "sha256 " + wantSum(s)[:12]
	if s.SHA256 != "" {
		return text
	}
	return fmt.Sprintf("%d bytes, %s", len(s.Content), text)
}

func haveContent(st *Status) string {
	if st.SHA256 == "" {
		return fmt.Sprintf("%d bytes", st.Size)
	}
	return fmt.Sprintf("%d bytes, sha256 %s", st.Size, st.SHA256[:12])
}
