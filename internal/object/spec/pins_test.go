package spec

import (
	"strings"
	"testing"
)

func TestPins(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, p := range []Pins{{Root: a}, {Root: a, Next: b}, {Root: b, Old: a}, {Root: b, Gone: a}} {
		got, err := ParsePins(p.String())
		if err != nil || got != p {
			t.Errorf("%+v is written as %q and read as %+v, %v", p, p.String(), got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                     "no root",
		"next " + b:                            "no root",
		a + "\n" + b:                           "another of its kind",
		a + "\nnext " + b + "\nold " + b:       "more than one",
		a + "\nnext " + a:                      "root itself",
		a + "\nformer " + b:                    "neither",
		strings.ToUpper(a):                     "neither",
		a + "\nnext " + b + " " + b:            "neither",
		a + "\nnext " + strings.Repeat("b", 8): "neither",
	} {
		if got, err := ParsePins(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %+v, %v; want %q", text, got, err, want)
		}
	}
}

// Who may be trusted and what certificates may lead to, at each of the steps.
func TestPinsAlongTheWay(t *testing.T) {
	for _, c := range []struct {
		pins Pins
		both string
		good string
	}{
		{Pins{Root: "r"}, "", ""},
		{Pins{Root: "r", Next: "n"}, "r n", "r n"},
		{Pins{Root: "n", Old: "r"}, "n r", ""},
		{Pins{Root: "n", Gone: "r"}, "", ""},
	} {
		if both, good := strings.Join(c.pins.Both(), " "), strings.Join(c.pins.Good(), " "); both != c.both ||
			good != c.good {
			t.Errorf("%+v: trusted %q, want %q; good for certificates %q, want %q", c.pins, both, c.both, good, c.good)
		}
	}
}
