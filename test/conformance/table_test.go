package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// binariesVar names a directory with test binaries (PACKAGE.test) that were built elsewhere: only these are run.
const binariesVar = "PHOENIX_TEST_BINARIES"

// TestTable runs the suite of each provider and prints one table of it.
func TestTable(t *testing.T) {
	directory, given := os.LookupEnv(binariesVar)
	if !given {
		directory = t.TempDir()
	}
	results := map[string]map[string]result{}
	var shown []row
	for _, row := range rows {
		if _, done := results[row.pkg]; !done {
			binary := filepath.Join(directory, row.pkg+".test")
			if !given {
				build(t, row.pkg, binary)
			}
			results[row.pkg] = run(t, row.pkg, binary)
		}
		if results[row.pkg] != nil {
			shown = append(shown, row)
		}
	}
	table, wrong := report(shown, results)
	fmt.Print("\n", table, "\n")
	for _, w := range wrong {
		t.Error(w)
	}
	if len(shown) == 0 {
		t.Errorf("no test binaries in %s", directory)
	}
}

func source(pkg string) string { return filepath.Join("..", "..", "internal", "provider", pkg) }

func build(t *testing.T, pkg, binary string) {
	t.Helper()
	cmd := exec.Command("go", "test", "-c", "-o", binary, ".")
	cmd.Dir = source(pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", pkg, err, out)
	}
}

// run gives what a package's suite said; nil: there is no such binary. It runs where the package is, as go test does.
func run(t *testing.T, pkg, binary string) map[string]result {
	t.Helper()
	if _, err := os.Stat(binary); err != nil {
		return nil
	}
	cmd := exec.Command(binary, "-test.v", "-test.run", "Conformance$", "-test.timeout", "30m")
	if _, err := os.Stat(source(pkg)); err == nil {
		cmd.Dir = source(pkg)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", pkg, err, out)
	}
	return parse(string(out))
}

const example = `=== RUN   TestConformance
=== RUN   TestConformance/decode
=== RUN   TestConformance/observe
    conformance.go:90: the first thing
    conformance.go:91: another
=== RUN   TestConformance/missing_tool
=== RUN   TestConformance/missing_tool/cp
=== NAME  TestConformance/missing_tool
    tools.go:55: it runs no tool
--- FAIL: TestConformance (0.05s)
    --- PASS: TestConformance/decode (0.00s)
    --- FAIL: TestConformance/observe (0.01s)
    --- SKIP: TestConformance/missing_tool (0.01s)
=== RUN   TestOther
    x_test.go:9: no ZFS here
--- SKIP: TestOther (0.00s)
`

func TestReport(t *testing.T) {
	results := parse(example)
	for name, want := range map[string]result{
		"TestConformance/decode": {how: "PASS"}, "TestConformance/observe": {"FAIL", "the first thing"},
		"TestConformance/missing_tool": {"SKIP", "it runs no tool"}, "TestOther": {"SKIP", "no ZFS here"},
	} {
		if results[name] != want {
			t.Errorf("%s: %+v", name, results[name])
		}
	}
	table, wrong := report([]row{{"a", "volume", "TestConformance"}, {"b", "volume", "TestOther"}},
		map[string]map[string]result{"a": results, "b": results})
	for _, want := range []string{"a volume: observe failed", "a volume: idempotent was not run"} {
		if !slices.Contains(wrong, want) {
			t.Errorf("not told: %s, of %q", want, wrong)
		}
	}
	if slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, "b ") }) ||
		!strings.Contains(table, "no ZFS here\n") {
		t.Errorf("a suite that was skipped as a whole: %q\n%s", wrong, table)
	}
}
