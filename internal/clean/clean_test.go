package clean

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var wide = Shape{Depth: 8, Values: 1000, String: 64}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"as it is":                   "as it is",
		"grüße, 世界":                  "grüße, 世界",
		"two\nlines\r\n\tand":        "two lines   and",
		"\x1b[2J\x1b]0;x\x07":        "?[2J?]0;x?",
		"c1 \u009b31m":               "c1 ?31m",
		"bidi \u202egnp.exe":         "bidi ?gnp.exe",
		"iso \u2066x\u2069":          "iso ?x?",
		"zero\u200bwidth\ufeff":      "zero?width?",
		"not utf \xff\xfe8":          "not utf ??8",
		"e\u0301\u0301\u0301\u0301!": "e\u0301\u0301!",
		"nbsp\u00a0sep\u2028p":       "nbsp sep p",
		"tag \U000e0041":             "tag ?",
		"filler \u3164|":             "filler ?|",
		"nul \x00":                   "nul ?",
	} {
		if got := Line(in, 1000); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Text("a\nb\r\nc", 100); got != "a\nb \nc" {
		t.Errorf("several lines: %q", got)
	}
	for limit := range 20 {
		got := Line("ääääääääää", limit)
		if len(got) > max(limit, len(more)) || !utf8.ValidString(got) {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
}

func TestJSON(t *testing.T) {
	in := `{"a":"x\ny","message":"x\ny","n":12345678901234567890,"list":["\u001b[2J",{"\u202e":1e400}]}`
	got, err := JSON([]byte(in), wide, map[string]bool{"message": true})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"a":"x y"`, `"message":"x\ny"`, `12345678901234567890`, `"?[2J"`, `"?":1e400`} {
		if !strings.Contains(string(got), part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	for _, bad := range []string{strings.Repeat("[", 9) + strings.Repeat("]", 9),
		"[" + strings.Repeat("1,", 1000) + "1]", "[" + strings.Repeat("{},", 600) + "{}]"} {
		if _, err := JSON([]byte(bad), wide, nil); !errors.Is(err, ErrShape) {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "{", "\"", "1 2", "[[[[[[[[", `"\`, "nul"} {
		if out, err := JSON([]byte(bad), wide, nil); err == nil {
			t.Errorf("%q: %s", bad, out)
		}
	}
	if out, err := JSON([]byte(`"[[[[[[[[[[[[[{{{{,,,"`), wide, nil); err != nil {
		t.Errorf("brackets in a string: %s, %v", out, err)
	}
}

// harmless is whether a terminal shows s as it stands.
func harmless(s string, lines bool) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) && !(lines && r == '\n') || unicode.Is(unicode.Bidi_Control, r)
	})
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "a\x1b[2J\u202e\n\xff", `{"message":["\n\u009b",{"a":{}}]}`, "[[[[[[[[[[[["} {
		f.Add([]byte(s), 40)
	}
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		limit = max(4, min(limit, 1<<12))
		if got := Line(string(in), limit); !harmless(got, false) || len(got) > limit {
			t.Errorf("%q: %q", in, got)
		}
		if got := Text(string(in), limit); !harmless(got, true) || len(got) > limit {
			t.Errorf("%q: %q", in, got)
		}
		out, err := JSON(in, wide, map[string]bool{"message": true})
		if err != nil {
			return
		}
		if !json.Valid(out) ||
			bytes.ContainsFunc(out, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' }) {
			t.Errorf("%q: %q", in, out)
		}
		if again, err := JSON(out, wide, map[string]bool{"message": true}); err != nil || !bytes.Equal(again, out) &&
			!json.Valid(again) {
			t.Errorf("%q: %q, then %q (%v)", in, out, again, err)
		}
	})
}
