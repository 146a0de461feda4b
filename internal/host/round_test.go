package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// standIns puts an ip and an nft on PATH that know n interfaces and n tables, write down each call, and fail as the
// real ones do.
func standIns(t *testing.T, n int) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	var tables, links, names strings.Builder
	for i := range n {
		fmt.Fprintf(&names, "table bridge phoenix_v%d\n", i)
		fmt.Fprintf(&tables, "table bridge phoenix_v%d {\n\tchain own {\n\t\tdrop\n\t}\n}\n", i)
		fmt.Fprintf(&links, `,{"ifname":"v%d","flags":["UP"]}`, i)
	}
	for name, text := range map[string]string{
		"names": names.String(), "tables": tables.String(), "links": "[{}" + links.String() + "]",
		"ip": "#!/bin/sh\necho ip \"$@\" >>" + log + "\n[ $# = 4 ] && exec cat " + dir + "/links\n" +
			"echo 'Device \"x\" does not exist.' >&2; exit 1\n",
		"nft": "#!/bin/sh\necho nft \"$@\" >>" + log + "\ncase \"$*\" in *tables) exec cat " + dir + "/names ;; " +
			"*ruleset*) exec cat " + dir + "/tables ;; *bridge*v0) printf 'table bridge phoenix_v0 {\\n}\\n'; exit ;; " +
			"esac\necho 'No such file or directory' >&2; exit 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		raw, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(raw)), "\n")
	}
}

func TestRoundAsksOnceForAll(t *testing.T) {
	for _, n := range []int{10, 100} {
		calls := standIns(t, n)
		ctx, h := WithRound(t.Context()), &Local{}
		for i := range n {
			want := fmt.Sprintf("table bridge phoenix_v%d {\n\tchain own {\n\t\tdrop\n\t}\n}\n", i)
			text, err := Table(ctx, h, "bridge", fmt.Sprintf("phoenix_v%d", i))
			if err != nil || text != want {
				t.Errorf("table %d: %q, %v", i, text, err)
			}
			res, _, err := Link(ctx, h, fmt.Sprintf("v%d", i))
			if want := fmt.Sprintf(`[{"ifname":"v%d","flags":["UP"]}]`, i); err != nil || string(res.Stdout) != want {
				t.Errorf("link %d: %q, %v", i, res.Stdout, err)
			}
		}
		if text, err := Table(ctx, h, "inet", "phoenix_v0"); err != nil || text != "" {
			t.Errorf("a table that is not there: %q, %v", text, err)
		}
		if res, _, err := Link(ctx, h, "other"); err != nil || len(res.Stdout) > 0 {
			t.Errorf("an interface that is not there: %q, %v", res.Stdout, err)
		}
		if got := calls(); len(got) != 3 {
			t.Errorf("%d objects took %d commands: %q", n, len(got), got)
		}
	}
}

func TestRoundEnds(t *testing.T) {
	for name, leave := range map[string]func(context.Context) context.Context{
		"ended": func(ctx context.Context) context.Context { EndRound(ctx); return ctx }, "left": WithoutRound,
		"none": func(context.Context) context.Context { return t.Context() },
	} {
		calls := standIns(t, 1)
		h, ctx := &Local{}, WithRound(t.Context())
		if _, err := Table(ctx, h, "bridge", "phoenix_v0"); err != nil {
			t.Fatal(err)
		}
		before := len(calls())
		text, err := Table(leave(ctx), h, "bridge", "phoenix_v0")
		if err != nil || text != "table bridge phoenix_v0 {\n}\n" || len(calls()) != before+1 {
			t.Errorf("%s: %q, %v, %q", name, text, err, calls())
		}
	}
}

// A listing that makes no sense says nothing: each object is asked for by itself.
func TestRoundWithoutListing(t *testing.T) {
	calls := standIns(t, 1)
	for _, file := range []string{"names", "links"} {
		path := filepath.Join(strings.Split(os.Getenv("PATH"), ":")[0], file)
		if err := os.WriteFile(path, []byte("what\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, h := WithRound(t.Context()), &Local{}
	if text, err := Table(ctx, h, "bridge", "phoenix_v0"); err != nil || text != "table bridge phoenix_v0 {\n}\n" {
		t.Errorf("%q, %v", text, err)
	}
	if res, argv, err := Link(ctx, h, "v0"); err != nil || len(res.Stdout) > 0 || argv[len(argv)-1] != "v0" {
		t.Errorf("%q, %q, %v", res.Stdout, argv, err)
	}
	if got := calls(); len(got) != 4 {
		t.Errorf("%q", got)
	}
}
