package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// decoder puts one file's tree into the structs of model.go, by their tags, and tells everything that does not fit.
type decoder struct {
	file string
	list *diag.List
	kept []*keptKey // in the order of the file
}

// keptKey is a key that is known and not acted on, with all places where it stands.
type keptKey struct {
	first  place
	reason string
	ids    []string
}

func (d *decoder) errorf(p place, hint, format string, args ...any) {
	p.report(d.list, diag.Diagnostic{File: d.file, Summary: fmt.Sprintf(format, args...), Hint: hint})
}

// fromNode is implemented by types that read more than one kind of JSON value.
type fromNode interface {
	fromNode(n *node) (problem string)
}

// want says what a type reads, for people.
func want(t reflect.Type) string {
	if w, ok := wants[t]; ok {
		return w
	}
	switch t.Kind() {
	case reflect.Pointer:
		return want(t.Elem())
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return string(aBool)
	case reflect.Slice:
		return string(aList)
	case reflect.Struct:
		if valueField(reflect.New(t).Elem()).IsValid() {
			return string(aString)
		}
		return string(anObject)
	}
	return string(aString)
}

func (d *decoder) mismatch(n *node, t reflect.Type, p place) {
	hint := ""
	switch w := want(t); {
	case n.kind == aNull:
		hint = "leave the key out where there is no value"
	case n.kind == aString && (w == "a whole number" || w == string(aBool)):
		hint = "write it without quotes"
		if _, err := strconv.ParseFloat(n.text, 64); err != nil && w == "a whole number" {
			hint = "write a plain number, without a unit or quotes"
		}
	case t == reflect.TypeFor[Network]() && n.kind == aList:
		hint = "a container has one interface: write that as an object"
	case n.kind != anObject && n.kind != aList && strings.HasPrefix(w, string(aString)):
		hint = "write it in double quotes"
	case w == string(aList):
		hint = "write it in [ ]"
	}
	d.errorf(p, hint, "wants %s, got %s", want(t), n.kind)
}

func (d *decoder) decode(n *node, v reflect.Value, p place, tag reflect.StructTag) {
	if v.Type() == reflect.TypeFor[Kept]() {
		v.Set(reflect.ValueOf(Kept{Set: true}))
		return
	}
	if v.Kind() == reflect.Pointer && n.kind != aNull {
		d.decodePointer(n, v, p, tag)
		return
	}
	address := v.Addr().Interface()
	if life, ok := address.(*spec.Duration); ok {
		address = duration{life}
	}
	switch special := address.(type) {
	case fromNode:
		if problem := special.fromNode(n); problem != "" {
			d.errorf(p, "", "%s", problem)
		}
		return
	case encoding.TextUnmarshaler:
		d.decodeText(n, special, v, p)
		return
	}
	d.decodePlain(n, v, p, tag)
}

// decodePointer leaves nil where there is nothing to check further: a value that is none, or not even an object.
func (d *decoder) decodePointer(n *node, v reflect.Value, p place, tag reflect.StructTag) {
	before := len(*d.list)
	to := reflect.New(v.Type().Elem())
	d.decode(n, to.Elem(), p, tag)
	if len(*d.list) > before && (to.Elem().Kind() != reflect.Struct || !placed(to.Elem())) {
		return
	}
	v.Set(to)
}

// placed reports whether a struct was read from an object.
func placed(v reflect.Value) bool {
	at, ok := v.FieldByName("At").Interface().(At)
	return ok && at.Source.Line > 0
}

func (d *decoder) decodePlain(n *node, v reflect.Value, p place, tag reflect.StructTag) {
	switch k := v.Kind(); {
	case k == reflect.String && n.kind == aString:
		d.decodeString(n, v, p, tag)
	case k == reflect.Bool && n.kind == aBool:
		v.SetBool(n.text == "true")
	case k == reflect.Int && n.kind == aNumber:
		d.decodeInt(n, v, p, tag)
	case k == reflect.Slice && n.kind == aList && tag.Get("keyed") == "":
		for i, item := range n.items {
			e := reflect.New(v.Type().Elem()).Elem()
			d.decode(item, e, p.index(i, item.line), "")
			if e.Kind() != reflect.Pointer || !e.IsNil() {
				v.Set(reflect.Append(v, e))
			}
		}
	case k == reflect.Slice && n.kind == anObject && tag.Get("keyed") != "":
		d.decodeKeyed(n, v, p, tag.Get("keyed"))
	case k == reflect.Struct && n.kind == anObject:
		d.decodeStruct(n, v, p)
	case k == reflect.Struct && n.kind == aString && valueField(v).IsValid():
		valueField(v).SetString(n.text)
		d.setAt(v, p, nil)
	case k == reflect.Slice && tag.Get("keyed") != "":
		d.errorf(p, "", "wants an object, got %s", n.kind)
	default:
		d.mismatch(n, v.Type(), p)
	}
}

// valueField is the field of a struct that stands for a plain value in the file.
func valueField(v reflect.Value) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("value") != "" {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// automatic are words of Proxmox for an address that somebody else chooses.
var automatic = map[string]bool{"dhcp": true, "auto": true, "manual": true}

func (d *decoder) decodeText(n *node, u encoding.TextUnmarshaler, v reflect.Value, p place) {
	if n.kind != aString {
		d.mismatch(n, v.Type(), p)
		return
	}
	if n.text == "" {
		d.errorf(p, "leave the key out where there is no value", "is empty, wants %s", want(v.Type()))
		return
	}
	if u.UnmarshalText([]byte(n.text)) != nil {
		v.SetZero()
		hint := ""
		if v.Type() == reflect.TypeFor[netip.Prefix]() && automatic[n.text] {
			hint = "a fixed one is needed: names, firewall rules and certificates are derived from it"
		}
		d.errorf(p, hint, "%q is not %s", n.text, want(v.Type()))
	}
}

// decodeString refuses control characters everywhere: a line break in a value would become a line of its own in some
// file that phoenix writes.
func (d *decoder) decodeString(n *node, v reflect.Value, p place, tag reflect.StructTag) {
	if strings.ContainsFunc(n.text, unicode.IsControl) {
		d.errorf(p, "remove it", "has a control character in it")
		return
	}
	if enum := tag.Get("enum"); enum != "" {
		known := strings.Split(enum, ",")
		if !slices.Contains(known, n.text) {
			d.errorf(p, "one of "+strings.Join(known, ", "), "%q is not known here", n.text)
			return
		}
	}
	v.SetString(n.text)
}

func (d *decoder) decodeInt(n *node, v reflect.Value, p place, tag reflect.StructTag) {
	i, err := strconv.Atoi(n.text)
	low, _ := strconv.Atoi(tag.Get("min"))
	high, unlimited := strconv.Atoi(tag.Get("max"))
	switch {
	case unlimited == nil && (errors.Is(err, strconv.ErrRange) || err == nil && (i < low || i > high)):
		d.errorf(p, "", "%s is not from %d to %d", shortened(n.text), low, high)
		return
	case err != nil:
		d.errorf(p, "", "wants a whole number, got %s", shortened(n.text))
		return
	}
	v.SetInt(int64(i))
}

// shortened is a number as it is shown.
func shortened(text string) string {
	if len(text) > 20 {
		return text[:20] + "…"
	}
	return text
}

// decodeKeyed reads an object whose keys are the users' own into a list; the key goes into the field.
func (d *decoder) decodeKeyed(n *node, v reflect.Value, p place, field string) {
	for _, m := range n.members {
		if isComment(m.key) {
			d.keep(p.key(m.key, m.line), p, aComment)
			continue
		}
		e := reflect.New(v.Type().Elem().Elem())
		e.Elem().FieldByName(field).SetString(m.key)
		d.decodePlain(m.value, e.Elem(), p.id(m.key, m.line), "")
		if placed(e.Elem()) {
			v.Set(reflect.Append(v, e))
		}
	}
}

func (d *decoder) setAt(v reflect.Value, p place, lines map[string]int) {
	v.FieldByName("At").Set(reflect.ValueOf(At{Source: object.Source{File: d.file, Line: p.line}, path: p.path,
		lines: lines}))
}
