package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// File is one of the users' files, as it was read.
type File struct {
	Name string // as diagnostics should show it
	Data []byte
}

// Load reads phoenix_lxc_configs.json and phoenix_hypervisor_config.json, in any order and under any name: the one with
// lxc_configs is the containers'. All problems come back at once, sorted by place. The Config is nil if any of them is
// an error. It never panics, and the same files give the same result.
func Load(files []File) (*Config, diag.List) {
	l, _ := load(files)
	if l.diags.HasErrors() {
		return nil, l.diags
	}
	return l.cfg, l.diags
}

func load(files []File) (*loader, *checker) {
	l := &loader{cfg: &Config{}}
	for _, f := range files {
		l.read(f)
	}
	if !l.broken {
		l.missing()
	}
	// in the order of the file: the second of two that collide is the one to change
	c := check(l.cfg, l.hypervisor != "", &l.diags)
	slices.SortFunc(l.cfg.Containers, func(a, b *Container) int { return cmp.Compare(number(a.ID), number(b.ID)) })
	l.diags.Sort()
	return l, c
}

type loader struct {
	cfg                    *Config
	diags                  diag.List
	containers, hypervisor string // names of the files
	broken                 bool   // a file could not be read, so that nobody knows which one it was
	trees                  []tree
}

// tree is a whole file as it was read.
type tree struct {
	file       string
	root       *node
	containers bool // the containers' file, not the hypervisor's
}

func (l *loader) read(f File) {
	root := parse(f, &l.diags)
	if root == nil {
		l.broken = true
		return
	}
	if root.kind != anObject {
		l.broken = true
		l.diags = append(l.diags, diag.Diagnostic{File: f.Name, Line: root.line,
			Summary: fmt.Sprintf("a configuration is an object, this is %s", root.kind),
			Hint:    "give phoenix_lxc_configs.json and phoenix_hypervisor_config.json"})
		return
	}
	secrets(f.Name, root, place{}, &l.diags)
	d := &decoder{file: f.Name, list: &l.diags}
	l.trees = append(l.trees, tree{file: f.Name, root: root, containers: isContainerFile(root)})
	if isContainerFile(root) {
		if l.once(&l.containers, f.Name, "containers") {
			d.decodeStruct(root, reflect.ValueOf(&l.cfg.Global).Elem(), place{line: root.line})
			l.number()
		}
	} else if l.once(&l.hypervisor, f.Name, "the hypervisor") {
		d.decodeStruct(root, reflect.ValueOf(&l.cfg.Hypervisor).Elem(), place{line: root.line})
	}
	d.notes()
}

func (l *loader) once(name *string, file, about string) bool {
	if *name != "" {
		l.diags = append(l.diags, diag.Diagnostic{File: file, Line: 1, Summary: "a second file about " + about,
			Detail: "the first is " + *name, Hint: "give one file with lxc_configs and one about the hypervisor"})
		return false
	}
	*name = file
	return true
}

// isContainerFile looks at the keys: lxc_configs decides; without it, the file whose keys they are more often.
func isContainerFile(root *node) bool {
	if root.member("lxc_configs") != nil {
		return true
	}
	containers, hypervisor := 0, 0
	inContainers, inHypervisor := names(reflect.TypeFor[ContainerFile]()), names(reflect.TypeFor[Hypervisor]())
	for _, m := range root.members {
		if slices.Contains(inContainers, m.key) || Nearest(m.key, inContainers) == "lxc_configs" {
			containers++
		}
		if slices.Contains(inHypervisor, m.key) {
			hypervisor++
		}
	}
	return containers > hypervisor
}

func (l *loader) missing() {
	if l.containers == "" {
		l.diags = append(l.diags, diag.Diagnostic{Summary: "no file with lxc_configs was given",
			Hint: "put phoenix_lxc_configs.json beside the other file, or name both with --config"})
	}
	if l.hypervisor == "" {
		l.diags = append(l.diags, diag.Diagnostic{Summary: "no file about the hypervisor was given",
			Hint: "put phoenix_hypervisor_config.json beside the other file, or name both with --config"})
	}
}

// number takes the containers whose ids are good.
func (l *loader) number() {
	for _, c := range l.cfg.Global.InFileOrder {
		if validID(c.ID) {
			l.cfg.Containers = append(l.cfg.Containers, c)
			continue
		}
		l.diags = append(l.diags, diag.Diagnostic{File: c.Source.File, Line: c.Source.Line, Path: c.path,
			Summary: "not the id of a container",
			Hint:    "ids are numbers from 100 to 999999999, without a leading zero"})
	}
}

func validID(id string) bool {
	n, err := strconv.Atoi(id)
	return err == nil && n >= 100 && n <= 999999999 && id[0] != '0' && !strings.HasPrefix(id, "+")
}

// number is the number of a valid id.
func number(id string) int {
	n, _ := strconv.Atoi(id)
	return n
}
