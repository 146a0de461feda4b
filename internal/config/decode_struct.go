package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// decodeStruct reads an object by the tags of the struct. Unknown keys, missing ones and null are told.
func (d *decoder) decodeStruct(n *node, v reflect.Value, p place) {
	known := keys(v.Type())
	defaults(v)
	lines := make(map[string]int, len(n.members))
	for _, m := range n.members {
		at := p.key(m.key, m.line)
		f, ok := known[m.key]
		if !ok && isComment(m.key) {
			d.keep(at, p, aComment)
			continue
		}
		if !ok {
			d.unknown(m.key, v.Type(), at)
			continue
		}
		lines[m.key] = m.line
		for i, item := range m.value.items {
			lines[element(m.key, i)] = item.line
		}
		if reason := f.Tag.Get("kept"); reason != "" {
			d.keep(at, p, reason)
		}
		d.decode(m.value, v.FieldByIndex(f.Index), at, f.Tag)
	}
	d.setAt(v, p, lines)
	d.missing(v, p, lines)
}

// defaults sets what holds where a key is not in the file.
func defaults(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch def := f.Tag.Get("default"); {
		case def == "":
		case f.Type.Kind() == reflect.Bool:
			v.Field(i).SetBool(def == "true")
		case f.Type.Kind() == reflect.String:
			v.Field(i).SetString(def)
		}
	}
}

// missing tells what is needed and not there.
func (d *decoder) missing(v reflect.Value, p place, lines map[string]int) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("json")
		if _, given := lines[key]; !given && f.Tag.Get("need") != "" {
			d.errorf(p, "add it, it is "+want(f.Type), "%s is missing", key)
		}
	}
}

func element(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// keys are the fields of a struct by the key they have in the file.
func keys(t reflect.Type) map[string]reflect.StructField {
	out := make(map[string]reflect.StructField, t.NumField())
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("json"); key != "" && key != "-" {
			out[key] = f
		}
	}
	return out
}

// names are the keys of a struct in the order of its fields.
func names(t reflect.Type) []string {
	var out []string
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("json"); key != "" && key != "-" {
			out = append(out, key)
		}
	}
	return out
}

// aComment is why a key is kept that begins as no key of ours does, and so is no mistyped one. JSON has no other
// comments.
const aComment = "a comment"

// commentKey is how such keys begin, for the schema too.
const commentKey = `^(_|//|#)`

func isComment(key string) bool {
	return strings.HasPrefix(key, "_") || strings.HasPrefix(key, "//") || strings.HasPrefix(key, "#")
}

func (d *decoder) unknown(key string, t reflect.Type, p place) {
	known := names(t)
	hint := "phoenix would not act on it; remove it"
	if slices.Contains([]string{"comment", "comments", "note", "notes", "description"}, key) {
		hint = "for a comment, begin the key with _"
	} else if near := Nearest(key, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	} else if len(known) > 0 && len(known) <= 12 {
		hint = "known here: " + strings.Join(known, ", ")
	}
	d.errorf(p, hint, "unknown key")
}

// keep notes a key that is known and not acted on.
func (d *decoder) keep(p, parent place, reason string) {
	for _, k := range d.kept {
		if k.first.pattern == p.pattern {
			k.ids = append(k.ids, lastKey(parent))
			return
		}
	}
	d.kept = append(d.kept, &keptKey{first: p, reason: reason, ids: []string{lastKey(parent)}})
}

func lastKey(p place) string { return p.path[strings.LastIndexByte(p.path, '.')+1:] }

// notes tells each kept key once, at its first place.
func (d *decoder) notes() {
	for _, k := range d.kept {
		n := diag.Diagnostic{Severity: diag.Note, File: d.file, Line: k.first.line, Path: k.first.pattern,
			Summary: keptSummary + k.reason}
		if len(k.ids) > 1 {
			n.Detail = "in " + strings.Join(k.ids, ", ")
		}
		*d.list = append(*d.list, n)
	}
}
