package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/health"
)

// README shows how the example comes up: with as many checks as there are.
func TestReadmeCounts(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	h := loadedFrom(t, "../../examples/homelab", func(string) {})
	s := &session{app: &app{}, house: h}
	objects, _ := s.selected(s.atBoot())
	n := len(health.Derive(objects))
	if line := fmt.Sprintf("healthy: %d checks, %d passed, 0 failed, 0 skipped", n, n); strings.Count(string(readme),
		line) != 2 {
		t.Errorf("README does not say twice %q", line)
	}
}
