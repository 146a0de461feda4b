// Command artifacts builds the programs that phoenix puts into containers,
// step-ca and Traefik, from their pinned Go modules, once per toolchain.
//
// What is built, and what it must look like, is in tools/artifacts.json. Each
// artifact has a Go module of its own beside that file (tools/NAME) whose
// go.sum pins every dependency. The result is kept as
//
//	CACHE/artifacts/NAME-VERSION-TOOLCHAIN/NAME
//
// with build.json beside it, and CACHE/artifacts/index.json names them all.
// The paths are printed as JSON on standard output, progress on standard error;
// with -o env as lines for a shell, PHOENIX_STEP_CA='...'.
//
// Usage: artifacts [-pins FILE] [-cache DIR] [-o json|env] [NAME...]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("artifacts", flag.ContinueOnError)
	flags.SetOutput(stderr)
	pins := flags.String("pins", "tools/artifacts.json", "the file with the pins; modules are looked for beside it")
	cache := flags.String("cache", "", "where built artifacts are kept (default $PHOENIX_CACHE, "+
		"$XDG_CACHE_HOME/phoenix, ~/.cache/phoenix)")
	format := flags.String("o", "json", "json, or env: lines for a shell")
	if err := flags.Parse(args); err != nil {
		return 64
	}
	show, ok := map[string]func(io.Writer, map[string]Built) error{"json": showJSON, "env": showEnv}[*format]
	if !ok {
		fmt.Fprintf(stderr, "artifacts: -o %s: want json or env\n", *format)
		return 64
	}
	index, err := build(ctx, *pins, *cache, flags.Args(), stderr)
	if err == nil {
		err = show(stdout, index)
	}
	if err != nil {
		fmt.Fprintln(stderr, "artifacts:", err)
		return 1
	}
	return 0
}

// build makes the named artifacts (all, if none is named).
func build(ctx context.Context, pins, cache string, names []string, stderr io.Writer) (map[string]Built, error) {
	list, err := readPins(pins)
	if err != nil {
		return nil, err
	}
	if list, err = only(list, names); err != nil {
		return nil, err
	}
	if cache, err = cacheDir(cache); err != nil {
		return nil, err
	}
	tc, err := toolchain(ctx)
	if err != nil {
		return nil, err
	}
	b := builder{modules: filepath.Dir(pins), store: filepath.Join(cache, "artifacts"), toolchain: tc, log: stderr}
	index := map[string]Built{}
	for _, a := range list {
		built, err := b.ensure(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
		index[a.Name] = built
	}
	return index, b.publish(ctx, index)
}

// publish writes the index for phoenix, which looks there for an artifact that
// its configuration does not replace.
func (b builder) publish(ctx context.Context, index map[string]Built) error {
	file := filepath.Join(b.store, "index.json")
	unlock, err := b.lock(ctx, file+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	return writeIndex(file, index)
}

func showJSON(w io.Writer, index map[string]Built) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(index)
}

// showEnv names each path PHOENIX_NAME, quoted for a POSIX shell.
func showEnv(w io.Writer, index map[string]Built) error {
	for _, name := range slices.Sorted(maps.Keys(index)) {
		variable := "PHOENIX_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		path := strings.ReplaceAll(index[name].Path, "'", `'\''`)
		if _, err := fmt.Fprintf(w, "export %s='%s'\n", variable, path); err != nil {
			return err
		}
	}
	return nil
}

// cacheDir is the directory that outlives a checkout.
func cacheDir(flag string) (string, error) {
	if flag == "" {
		flag = os.Getenv("PHOENIX_CACHE")
	}
	if flag == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", errors.New("no cache directory: set PHOENIX_CACHE, XDG_CACHE_HOME or HOME")
		}
		flag = filepath.Join(base, "phoenix")
	}
	return filepath.Abs(flag)
}
