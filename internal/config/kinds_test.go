package config

import (
	"strings"
	"testing"
)

// A value of another kind than the key's gets one message with its line, and a hint that leads to what is valid.
func TestValueOfAnotherKind(t *testing.T) {
	for name, c := range map[string]struct{ text, want, hint string }{
		"id":    {`"dependencies": [103]`, "wants a string, got a number", "write it in double quotes"},
		"none":  {`"dependencies": [""]`, `there is no container "" to depend on`, ""},
		"size":  {`"memory_mb": "2G"`, "wants a whole number, got a string", "write a plain number, without a unit or quotes"},
		"quote": {`"memory_mb": "2048"`, "wants a whole number, got a string", "write it without quotes"},
	} {
		key, _, _ := strings.Cut(c.text, ":")
		_, diags := Load([]File{{Name: "a.json", Data: []byte("{\"lxc_configs\": {\"101\": {\n" + c.text + "}}}")}})
		var found []string
		for _, d := range diags {
			if strings.Contains(d.Path, strings.Trim(key, `"`)) && d.Line == 2 {
				found = append(found, d.Summary+"; "+d.Hint)
			}
		}
		if len(found) != 1 || !strings.Contains(found[0], c.want) || !strings.HasSuffix(found[0], c.hint) {
			t.Errorf("%s: %q", name, found)
		}
	}
}
