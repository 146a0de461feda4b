package firewall

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider/conformance"
)

// What is made for a kernel that follows connections on bridges is understood by nft. A kernel that does not refuses
// the lines about connections, and no others.
func TestNative(t *testing.T) {
	conformance.Isolated(t, "nft")
	text := render(spec.Firewall{ID: "103", Port: "phxt103", Bridge: "phxt0", Address: "10.99.2.103",
		MAC: "02:00:00:00:01:03", Rules: []spec.Rule{
			{Direction: "in", Action: "ACCEPT", Proto: "tcp", Ports: "9000"},
			{Direction: "out", Action: "DROP", Log: "info"}}}, true)
	if strings.Contains(text, mark) || strings.Count(text, "\n\t\tct state established,related accept\n") != 2 {
		t.Errorf("not what is made for such a kernel:\n%s", text)
	}
	cmd := exec.Command("nft", "--check", "--file", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines)%3 != 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	for i := 0; i < len(lines); i += 3 { // the error, the line, where in it
		if !strings.Contains(lines[i], "Could not process rule") ||
			strings.TrimSpace(lines[i+1]) != "ct state established,related accept" {
			t.Errorf("%s\n%s", lines[i], lines[i+1])
		}
	}
}
