package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// wants says what the types that read a string want it to be.
var wants = map[reflect.Type]string{
	reflect.TypeFor[netip.Addr]():    "an address such as 10.0.0.5",
	reflect.TypeFor[netip.Prefix]():  "an address with its prefix length such as 10.0.0.5/24",
	reflect.TypeFor[MAC]():           "a unicast Ethernet address such as 52:54:00:12:34:56",
	reflect.TypeFor[spec.Mode]():     `an octal mode in quotes such as "0700"`,
	reflect.TypeFor[spec.Duration](): `a duration such as "24h" or "365d"`,
	reflect.TypeFor[Date]():          "a day such as 2027-01-31",
	reflect.TypeFor[Words]():         "a list of words, or one string",
	reflect.TypeFor[Argv]():          "a list of words, or one string",
	reflect.TypeFor[Switch]():        "true or false",
	reflect.TypeFor[Number]():        "a string",
}

// UnmarshalText implements encoding.TextUnmarshaler: six octets with : or -, and no group address.
func (m *MAC) UnmarshalText(b []byte) error {
	s := strings.ToLower(strings.ReplaceAll(string(b), "-", ":"))
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		return fmt.Errorf("wants six octets, got %d", len(parts))
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) != 2 || i == 0 && n&1 != 0 {
			return fmt.Errorf("octet %d is not one of a unicast address", i+1)
		}
	}
	if s == "00:00:00:00:00:00" {
		return fmt.Errorf("all octets are zero")
	}
	*m = MAC(s)
	return nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Date) UnmarshalText(b []byte) error {
	_, err := time.Parse(time.DateOnly, string(b))
	*d = Date(b)
	return err
}

// duration reads what Go writes, and days and years of 365 days.
type duration struct{ to *spec.Duration }

func (d duration) fromNode(n *node) string {
	const wanted = `a duration such as "24h" or "365d"`
	if n.kind != aString {
		return fmt.Sprintf("wants %s, got %s", wanted, n.kind)
	}
	v, err := time.ParseDuration(n.text)
	for unit, hours := range map[string]int64{"d": 24, "y": 24 * 365} {
		if count, ok := strings.CutSuffix(n.text, unit); ok {
			var i int64
			if i, err = strconv.ParseInt(count, 10, 64); err == nil && (i < 0 || i > 100*24*365/hours) {
				err = strconv.ErrRange
			}
			v = time.Duration(i*hours) * time.Hour
		}
	}
	if err != nil || v <= 0 {
		return fmt.Sprintf("%q is not %s, up to 100 years", n.text, wanted)
	}
	*d.to = spec.Duration(v)
	return ""
}

// words reads a list of strings, or one string that separator cuts.
func words(n *node, split func(string) []string) ([]string, string) {
	if n.kind == aString {
		return split(n.text), ""
	}
	if n.kind != aList {
		return nil, fmt.Sprintf("wants a list of words, or one string, got %s", n.kind)
	}
	var out []string
	for i, item := range n.items {
		if item.kind != aString || item.text == "" || strings.ContainsFunc(item.text, unicode.IsControl) {
			return nil, fmt.Sprintf("element %d is not a string with something in it, of printable characters", i)
		}
		out = append(out, item.text)
	}
	return out, ""
}

func (w *Words) fromNode(n *node) string {
	list, problem := words(n, func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	})
	*w = list
	return problem
}

func (a *Argv) fromNode(n *node) string {
	list, problem := words(n, func(s string) []string {
		if strings.ContainsAny(s, "|&;<>()$`\\\"'*?[]#~=%{}!\n") {
			return []string{"/bin/sh", "-c", s}
		}
		return strings.Fields(s)
	})
	*a = list
	return problem
}
