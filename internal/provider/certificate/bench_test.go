package certificate

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/plan"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/sandbox"
)

// BenchmarkOrder is a renewal: key, order, both files in place and durable, for two names.
func BenchmarkOrder(b *testing.B) {
	ca := sandbox.StartCA(b, day, "a.test.internal", "b.test.internal")
	s, h := specIn(b.TempDir(), ca), &host.Local{}
	renew := plan.Delta{Action: plan.Update, Fields: []plan.Field{{Path: fieldCertificate}}}
	for b.Loop() {
		if err := apply(h, s, renew); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLego is the same with Debian's lego: what BenchmarkOrder is measured against.
func BenchmarkLego(b *testing.B) {
	ca := sandbox.StartCA(b, day, "a.test.internal", "b.test.internal")
	lego, err := exec.LookPath("lego")
	if err != nil {
		b.Skip("needs lego")
	}
	dir := b.TempDir()
	for b.Loop() {
		cmd := exec.Command(lego, "--accept-tos", "--email", "a@test.internal", "--server", ca.Directory, "--http",
			"--path",
			filepath.Join(dir, "lego"), "-d", "a.test.internal", "-d", "b.test.internal", "run")
		cmd.Env = []string{"LEGO_CA_CERTIFICATES=" + ca.RootFile, "HOME=" + dir}
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
}
