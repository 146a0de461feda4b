package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
)

// docs/access.md has every system that the command has, with the same commands.
func TestRootSystemsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := strings.ReplaceAll(string(raw), "phoenix-SHA256", "phoenix-SHORT")
	systems := rootSystems("NAME", strings.Repeat("ab", 32))
	if len(systems) < 9 {
		t.Fatalf("only %d systems", len(systems))
	}
	for _, s := range systems {
		if !strings.Contains(doc, "| "+s.System+" | ") {
			t.Errorf("docs/access.md lacks %s", s.System)
		}
		for _, line := range slices.Concat(s.In, s.Out) {
			if !strings.Contains(line, "phoenix-root.crt") && !strings.Contains(line, "NAME") {
				continue // prose, which the page may put otherwise
			}
			line = strings.ReplaceAll(strings.ReplaceAll(line, strings.Repeat("AB", 32), "SHA256"),
				"phoenix-abababab", "phoenix-SHORT")
			line, _, _ = strings.Cut(strings.TrimPrefix(line, "or for all profiles: "), " in /etc/firefox")
			if !strings.Contains(doc, line) {
				t.Errorf("docs/access.md lacks %s: %s", s.System, line)
			}
		}
	}
}

func TestWays(t *testing.T) {
	gateway := &view.Gateway{Container: "101", Address: "10.86.17.101", Names: []string{"a.lab.internal",
		"shop.example"}}
	base := view.Access{Mode: "none", Bridge: "phxbr0", Subnet: "10.86.16.0/23", Resolver: "10.86.17.1",
		Uplink: "eth0", Addresses: []string{"192.168.1.20"}, Gateway: gateway}
	text := func(change func(*view.Access)) string {
		x := base
		change(&x)
		a := &app{opts: options{root: defaultRoot}}
		a.ways(&x)
		var b strings.Builder
		for _, w := range x.Ways {
			b.WriteString("[" + w.Way + " " + w.Address + map[bool]string{true: " used"}[w.Used] + "]")
			for _, s := range w.Steps {
				b.WriteString(s.Where + "\n" + strings.Join(s.Do, "\n") + "\n")
			}
		}
		return b.String() + strings.Join(x.Notes, "\n")
	}
	for name, c := range map[string]struct {
		change   func(*view.Access)
		has, not []string
	}{
		"none": {func(*view.Access) {}, []string{"[forward 192.168.1.20]", "[route 10.86.17.101]",
			`"access": "forward" in`, "10.86.16.0/23 (mask 255.255.254.0) by way of 192.168.1.20",
			"route -p add 10.86.16.0 mask 255.255.254.0 192.168.1.20", "server=/lab.internal/10.86.17.1",
			"server=/shop.example/10.86.17.1", "address=/a.lab.internal/192.168.1.20",
			"10.86.17.101 a.lab.internal shop.example", "--resolve a.lab.internal:443:192.168.1.20"}, nil},
		"forward": {func(x *view.Access) { x.Mode = "forward" }, []string{"[forward 192.168.1.20 used]",
			"PHX-ACC-001"}, []string{"no part in it"}},
		"no uplink": {func(x *view.Access) { x.Uplink, x.Addresses = "", nil }, []string{"[forward ]",
			"by way of ADDRESS"}, nil},
		"leads out": {func(x *view.Access) { x.LeadsOut, x.Mode = true, "route" },
			[]string{"[direct 10.86.17.101 used]", `set it to "none"`}, []string{"[forward", "static route"}},
		"no records": {func(x *view.Access) { x.Gateway = &view.Gateway{Address: "10.86.17.101"} },
			[]string{"add records"}, []string{"curl"}},
		"no gateway": {func(x *view.Access) { x.Gateway = nil }, nil, []string{"[forward", "[route"}},
	} {
		got := text(c.change)
		for _, want := range c.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", name, want, got)
			}
		}
		for _, not := range c.not {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q in\n%s", name, not, got)
			}
		}
	}
}
