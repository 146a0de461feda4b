package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// checker tells what is wrong with a decoded configuration. Values that did not decode are zero and were told already,
// so that checks pass over zero values.
type checker struct {
	cfg  *Config
	list *diag.List

	byID     map[string]*Container
	gateways []*Container
	ca       *Container
}

func check(cfg *Config, host bool, list *diag.List) *checker {
	c := &checker{cfg: cfg, list: list, byID: make(map[string]*Container, len(cfg.Containers))}
	for _, x := range cfg.Containers {
		c.byID[x.ID] = x
		if x.IsGateway() {
			c.gateways = append(c.gateways, x)
		}
	}
	c.containers()
	c.networks()
	c.dependencies()
	c.roles()
	c.volumes()
	c.certificates()
	c.traefikServices()
	c.firewalls()
	c.ports()
	if host {
		c.bridge()
		c.zones()
		c.stepCA()
		c.artifacts()
		c.notify()
	}
	c.audit()
	return c
}

// at is a diagnostic at the key of a struct; key may be empty, or key[i].
func at(a At, key string, d diag.Diagnostic) diag.Diagnostic {
	d.File, d.Line, d.Path = a.Source.File, a.Source.Line, a.path
	if key == "" {
		return d
	}
	d.Path = join(a.path, key)
	if line, ok := a.lines[key]; ok {
		d.Line = line
	}
	return d
}

// source is the place of a key.
func (a At) source(key string) object.Source {
	d := at(a, key, diag.Diagnostic{})
	return object.Source{File: d.File, Line: d.Line}
}

// has reports whether the key is in the file.
func (a At) has(key string) bool {
	_, ok := a.lines[key]
	return ok
}

func (c *checker) errorf(a At, key, hint, format string, args ...any) {
	c.tell(diag.Error, a, key, hint, format, args...)
}

func (c *checker) warnf(a At, key, hint, format string, args ...any) {
	c.tell(diag.Warning, a, key, hint, format, args...)
}

func (c *checker) note(a At, key, hint, format string, args ...any) {
	c.tell(diag.Note, a, key, hint, format, args...)
}

func (c *checker) tell(s diag.Severity, a At, key, hint, format string, args ...any) {
	*c.list = append(*c.list,
		at(a, key, diag.Diagnostic{Severity: s, Summary: fmt.Sprintf(format, args...), Hint: hint}))
}

// reported tells whether an error of that value was found before: one cause is one message.
func (c *checker) reported(a At, key string) bool {
	path := at(a, key, diag.Diagnostic{}).Path
	return slices.ContainsFunc(*c.list, func(d diag.Diagnostic) bool {
		return d.Severity == diag.Error && d.Path == path
	})
}

// unique remembers where a value was seen first.
type unique map[string]object.Source

// once tells a value that stands at a second place.
func (c *checker) once(seen unique, value string, a At, key, what, hint string) {
	if value == "" {
		return
	}
	if first, twice := seen[strings.ToLower(value)]; twice {
		c.errorf(a, key, hint, "%s %s is taken already, at %s", what, value, first)
		return
	}
	seen[strings.ToLower(value)] = a.source(key)
}
