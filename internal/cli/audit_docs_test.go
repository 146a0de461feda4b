package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/audit"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
)

// TestAuditIsDocumented: docs/audit.md has every rule as it is, and no other.
func TestAuditIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := append(config.Rules(), audit.Rules()...)
	for _, r := range rules {
		if row := fmt.Sprintf("| %s | %s | %s | %s |\n", r.ID, r.Grade, r.Title, r.Why); !strings.Contains(string(doc),
			row) {
			t.Errorf("docs/audit.md lacks the row\n%s", row)
		}
	}
	if n := strings.Count(string(doc), "\n| PHX-AUD-"); n != len(rules) {
		t.Errorf("docs/audit.md has %d rules, the audit %d", n, len(rules))
	}
}

// Every topic of explain has its text, and every check of health and rule of the audit its row.
func TestExplained(t *testing.T) {
	words := topicNames()
	for _, r := range append(config.Rules(), audit.Rules()...) {
		words = append(words, r.ID)
	}
	words = append(words, health.IDs()...)
	for _, word := range words {
		if text, err := explain(word); err != nil || len(text) < 100 {
			t.Errorf("explain %s: %q, %v", word, text, err)
		}
	}
}
