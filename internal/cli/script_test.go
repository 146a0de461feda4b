package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"phoenix": func() {
			ctx := WithVersion(context.Background(), "v0.0.0-test")
			os.Exit(Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs testdata/*.txt as people would: the real program, its exit code and what it prints.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PHOENIX_CACHE", env.WorkDir+"/cache")
			return os.CopyFS(env.WorkDir+"/good", os.DirFS("testdata/good"))
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "jsonhas": jsonHas, "swap": swap, "hostpath": hostPath,
		},
		RequireExplicitExec: true, RequireUniqueNames: true,
	})
}

// exits CODE COMMAND... runs the command and wants this very exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if coded, ok := err.(interface{ ExitCode() int }); ok {
		code = coded.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit %d, want %s", code, args[0])
	}
}

// jsonhas FILE KEY... wants one JSON document with these keys at its top, and nothing after it.
func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	var doc map[string]json.RawMessage
	ts.Check(dec.Decode(&doc))
	if dec.More() {
		ts.Fatalf("more than one document in %s", args[0])
	}
	for _, key := range args[1:] {
		if _, ok := doc[key]; ok == neg {
			ts.Fatalf("key %q: present is %v in %s", key, ok, args[0])
		}
	}
}

// swap FILE OLD NEW replaces a text that must be there.
func swap(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if neg || !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(b, []byte(args[1]), []byte(args[2])), 0o644))
}

// hostpath DIR PATH [POOL] makes DIR a configuration like good whose container 101 has the directory PATH, and a volume
// in POOL.
func hostPath(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: hostpath DIR PATH [POOL]")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	for _, name := range fileNames {
		text := ts.ReadFile("good/" + name)
		more := fmt.Sprintf(`"mount_points": [{"host_path": %q, "container_path": "/media"}],`, args[1])
		if len(args) > 2 {
			more += fmt.Sprintf(`"zfs_volumes": [{"name": "w", "pool": %q, "mount_point": "/w"}],`, args[2])
		}
		text = strings.Replace(text, `"features": ["nginx_gateway"],`, more+`"features": ["nginx_gateway"],`, 1)
		ts.Check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}
