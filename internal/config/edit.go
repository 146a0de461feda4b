package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// editor changes the users' files in their text. It takes files only that can be used as they are.
type editor struct {
	texts
	cfg       *Config
	house     house
	read      []File
	addresses map[netip.Addr]object.Source // that are in use
	list      diag.List
}

// newEditor reads the files; nil where there is something wrong with them.
func newEditor(files []File) (*editor, diag.List) {
	l, _ := load(files)
	if l.diags.HasErrors() {
		return nil, l.diags
	}
	e := &editor{cfg: l.cfg, house: survey(l.cfg), texts: l.texts(files), read: files,
		addresses: map[netip.Addr]object.Source{}}
	e.takenAddresses()
	return e, nil
}

// takenAddresses gathers who has which address.
func (e *editor) takenAddresses() {
	bridge := e.cfg.Hypervisor.Network.Interface
	e.addresses[bridge.Address.Addr()] = bridge.source("address")
	e.addresses[bridge.Gateway] = bridge.source("gateway")
	e.eachRecord(func(_ *Zone, r *Record) {
		for _, a := range r.Addresses() {
			e.addresses[a] = r.Source
		}
	})
	for _, x := range e.cfg.Containers {
		e.addresses[x.Network.Gateway] = x.Network.source("gw")
		for i, s := range x.Network.Nameservers {
			if a, err := netip.ParseAddr(s); err == nil {
				e.addresses[a] = x.Network.source(element("nameservers", i))
			}
		}
	}
	for _, x := range e.cfg.Containers { // whose it is before who names it
		e.addresses[x.Network.Address.Addr()] = x.Network.source("ip")
	}
}

func (e *editor) eachRecord(visit func(*Zone, *Record)) {
	for _, z := range e.cfg.Hypervisor.DNS.Zones {
		for _, r := range z.Records {
			visit(z, r)
		}
	}
}

// named is the container with the name; nil: there is none.
func (e *editor) named(name string) *Container {
	for _, x := range e.cfg.Containers {
		if strings.EqualFold(x.Name, name) {
			return x
		}
	}
	return nil
}

func (e *editor) problem(at object.Source, hint, format string, args ...any) {
	e.list = append(e.list, diag.Diagnostic{Severity: diag.Error, File: at.File, Line: at.Line,
		Summary: fmt.Sprintf(format, args...), Hint: hint})
}

// finish makes the new files, and has them read. They stand in the order in which they are to be written: whoever is
// killed between the two and runs again finds by the container what is left to do.
func (e *editor) finish(out AppEdit, containersFirst bool) (AppEdit, diag.List) {
	var again []File
	for _, f := range e.read {
		m := MigratedFile{Name: f.Name, Old: f.Data, New: f.Data}
		if w := e.files[f.Name]; w != nil && len(w.edits) > 0 {
			start := len(f.Data) - len(w.data)
			m.New = append(f.Data[:start:start], w.result()...)
		}
		out.Files = append(out.Files, m)
		again = append(again, File{Name: f.Name, Data: m.New})
	}
	out.Containers = e.containers.file
	slices.SortStableFunc(out.Files, func(a, b MigratedFile) int {
		order := func(f MigratedFile) int { return rank((f.Name == e.containers.file) == containersFirst) }
		return order(a) - order(b)
	})
	if _, out.After = Load(again); out.After.HasErrors() {
		return AppEdit{}, out.After
	}
	return out, nil
}
