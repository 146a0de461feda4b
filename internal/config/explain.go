package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ExplainKey is what there is to know of a key of the users' files, such as lxc_configs.*.firewall; * stands for any
// key or place in a list, which may be written as well. Empty: there is no such key; near are those that it may be
// meant for.
func ExplainKey(path string) (text string, near []string, err error) {
	words := strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(path), ".")
	for _, hypervisor := range []bool{false, true} {
		raw, err := SchemaOf(hypervisor)
		if err != nil {
			return "", nil, err
		}
		var root map[string]any
		if err := json.Unmarshal(raw, &root); err != nil {
			return "", nil, err
		}
		at, of, known := root, root, 0
		for _, key := range words {
			next, ok := below(at, key)
			if !ok {
				break
			}
			at, of, known = next, at, known+1
		}
		if known == len(words) {
			return describe(root, strings.Join(words, "."), at, needs(of, words[known-1])), nil, nil
		}
		for _, key := range keysOf(at) {
			near = append(near, strings.Join(append(slices.Clone(words[:known]), key), "."))
		}
	}
	return "", near, nil
}

// below is the schema of a key, or of any element where the schema says nothing of single ones.
func below(s map[string]any, key string) (map[string]any, bool) {
	for _, form := range forms(s) {
		if properties, ok := form["properties"].(map[string]any); ok {
			if next, ok := properties[key].(map[string]any); ok {
				return next, true
			}
		}
		for _, each := range []string{"additionalProperties", "items"} {
			if next, ok := form[each].(map[string]any); ok && len(keysOf(form)) == 0 {
				return next, true
			}
		}
	}
	return nil, false
}

// forms are those that a value may have.
func forms(s map[string]any) []map[string]any {
	list, ok := s["anyOf"].([]any)
	if !ok {
		return []map[string]any{s}
	}
	var out []map[string]any
	for _, x := range list {
		if form, ok := x.(map[string]any); ok {
			out = append(out, forms(form)...)
		}
	}
	return out
}

func keysOf(s map[string]any) []string {
	var out []string
	for _, form := range forms(s) {
		if properties, ok := form["properties"].(map[string]any); ok {
			out = slices.AppendSeq(out, maps.Keys(properties))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// needs is whether a key has to be there.
func needs(s map[string]any, key string) bool {
	return slices.ContainsFunc(forms(s), func(form map[string]any) bool {
		list, _ := form["required"].([]any)
		return slices.Contains(list, any(key))
	})
}

func describe(root map[string]any, path string, s map[string]any, needed bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%v)\n\n  %s\n", path, root["title"], inWords(s))
	if needed {
		b.WriteString("  it has to be there\n")
	}
	if def, ok := s["default"]; ok {
		fmt.Fprintf(&b, "  without it: %v\n", def)
	}
	if said, ok := s["description"].(string); ok && s["pattern"] == nil {
		fmt.Fprintf(&b, "  %s\n", said)
	}
	list := keysOf(s)
	if next, any := below(s, "*"); any && len(list) == 0 && s["type"] == "object" {
		fmt.Fprintf(&b, "\nbelow it:\n  *  %s (explain %s.*)\n", inWords(next), path)
	}
	if len(list) > 0 {
		b.WriteString("\nbelow it:\n")
		width := len(slices.MaxFunc(list, func(x, y string) int { return len(x) - len(y) }))
		for _, key := range list {
			next, _ := below(s, key)
			fmt.Fprintf(&b, "  %-*s  %s\n", width, key, inWords(next))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// inWords is what a value may be.
func inWords(s map[string]any) string {
	var out []string
	for _, form := range forms(s) {
		if said := formInWords(form); !slices.Contains(out, said) {
			out = append(out, said)
		}
	}
	return strings.Join(out, ", or ")
}

func formInWords(s map[string]any) string {
	if list, ok := s["enum"].([]any); ok {
		words := make([]string, len(list))
		for i, x := range list {
			words[i] = fmt.Sprintf("%#v", x)
		}
		return "one of " + strings.Join(words, ", ")
	}
	said, _ := s["description"].(string)
	switch kind := s["type"]; {
	case kind == nil:
		return "anything"
	case kind == "array":
		items, _ := s["items"].(map[string]any)
		return "a list; each: " + inWords(items)
	case kind == "object":
		return "an object"
	case kind == "boolean":
		return "true or false"
	case s["maximum"] != nil:
		return fmt.Sprintf("a whole number from %.0f to %.0f", s["minimum"], s["maximum"])
	case kind == "string" && s["pattern"] != nil && said != "":
		return "a string: " + said
	case kind == "string":
		return "a string"
	}
	return "a string or a number"
}
