package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Artifact is one pinned program of tools/artifacts.json.
type Artifact struct {
	Name    string `json:"name"`    // the program's file name, and its module's directory beside the pins
	Module  string `json:"module"`  // Go module path
	Version string `json:"version"` // with the leading v
	Sum     string `json:"sum"`     // h1: hash of the module's zip, as in go.sum
	Package string `json:"package"` // the main package
	Ldflags string `json:"ldflags"` // for go build -ldflags; part of what SHA256 pins
	// SHA256 of the binary in lower-case hex, by "GOVERSION GOOS/GOARCH". A
	// toolchain that is not listed builds an unpinned binary: its sources are
	// still pinned by go.sum.
	SHA256 map[string]string `json:"sha256"`
}

// readPins loads and checks the pins. Unknown keys are refused: a misspelt
// "sha256" must not switch a check off.
func readPins(file string) ([]Artifact, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Artifacts []Artifact `json:"artifacts"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, a := range doc.Artifacts {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return doc.Artifacts, nil
}

func (a Artifact) check() error {
	switch {
	case a.Name == "" || a.Name != filepath.Base(a.Name) || strings.HasPrefix(a.Name, "."):
		return fmt.Errorf("artifact name %q is not a plain file name", a.Name)
	case a.Module == "" || a.Package == "":
		return fmt.Errorf("artifact %s: module and package must be given", a.Name)
	case !strings.HasPrefix(a.Version, "v"):
		return fmt.Errorf("artifact %s: version %q must start with v", a.Name, a.Version)
	case !strings.HasPrefix(a.Sum, "h1:"):
		return fmt.Errorf("artifact %s: sum %q must be the h1: hash from go.sum", a.Name, a.Sum)
	}
	return nil
}

// only keeps the named artifacts, or all if no name is given.
func only(list []Artifact, names []string) ([]Artifact, error) {
	for _, name := range names {
		if !slices.ContainsFunc(list, func(a Artifact) bool { return a.Name == name }) {
			return nil, fmt.Errorf("no artifact %q is pinned", name)
		}
	}
	if len(names) == 0 {
		return list, nil
	}
	return slices.DeleteFunc(list, func(a Artifact) bool { return !slices.Contains(names, a.Name) }), nil
}

// checkSum verifies that the module's go.sum carries the pinned hash; go build
// then verifies the downloaded module against go.sum.
func (a Artifact) checkSum(moduleDir string) error {
	file := filepath.Join(moduleDir, "go.sum")
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	scan := bufio.NewScanner(bytes.NewReader(raw))
	for scan.Scan() {
		f := strings.Fields(scan.Text())
		if len(f) != 3 || f[0] != a.Module || f[1] != a.Version {
			continue
		}
		if f[2] == a.Sum {
			return nil
		}
		return fmt.Errorf("%s has %s for %s %s, the pin says %s", file, f[2], a.Module, a.Version, a.Sum)
	}
	return fmt.Errorf("%s does not list %s %s", file, a.Module, a.Version)
}
