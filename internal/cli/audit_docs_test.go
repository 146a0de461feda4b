package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/audit"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// TestAuditIsDocumented: docs/audit.md has every rule as it is, and no other.
func TestAuditIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := append(config.Rules(), audit.Rules()...)
	for _, r := range rules {
		if row := fmt.Sprintf("| %s | %s | %s | %s |\n", r.ID, r.Grade, r.Title, r.Why); !strings.Contains(string(doc), row) {
			t.Errorf("docs/audit.md lacks the row\n%s", row)
		}
	}
	if n := strings.Count(string(doc), "\n| PHX-AUD-"); n != len(rules) {
		t.Errorf("docs/audit.md has %d rules, the audit %d", n, len(rules))
	}
}
