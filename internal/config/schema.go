package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// SchemaOf is the JSON Schema (draft 2020-12) of one of the users' files, for editors: hypervisor, or the containers.
// It is made of the same tags that the files are read by. What it cannot say, such as what one key means for another,
// only Load finds.
func SchemaOf(hypervisor bool) ([]byte, error) {
	t, title := reflect.TypeFor[ContainerFile](), "phoenix_lxc_configs.json"
	if hypervisor {
		t, title = reflect.TypeFor[Hypervisor](), "phoenix_hypervisor_config.json"
	}
	s := schemaOf(t, "")
	s["$schema"], s["title"] = "https://json-schema.org/draft/2020-12/schema", title
	return json.MarshalIndent(s, "", "  ")
}

type schema map[string]any

// patterns are of types that read a string.
var patterns = map[reflect.Type]string{
	reflect.TypeFor[netip.Prefix]():  `^[0-9A-Fa-f.:]+/[0-9]{1,3}$`,
	reflect.TypeFor[netip.Addr]():    `^[0-9A-Fa-f.:]+$`,
	reflect.TypeFor[MAC]():           `^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$`,
	reflect.TypeFor[spec.Mode]():     `^[0-7]{3,4}$`,
	reflect.TypeFor[spec.Duration](): `^[0-9]+(\.[0-9]+)?[a-zµ]+([0-9.]+[a-zµ]+)*$`,
	reflect.TypeFor[Date]():          `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`,
}

// comments are keys that may hold anything.
var comments = schema{commentKey: schema{"description": keptSummary + aComment}}

func schemaOf(t reflect.Type, tag reflect.StructTag) schema {
	text := schema{"type": "string"}
	words := schema{"anyOf": []schema{text, {"type": "array", "items": schema{"type": "string", "minLength": 1}}}}
	switch {
	case t == reflect.TypeFor[Kept]():
		return schema{}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), tag)
	case t == reflect.TypeFor[Words](), t == reflect.TypeFor[Argv]():
		return words
	case t == reflect.TypeFor[Switch]():
		return schema{"enum": []any{true, false, 1, 0, "1", "0"}}
	case t == reflect.TypeFor[Number]():
		return schema{"type": []string{"string", "number"}}
	case patterns[t] != "":
		return schema{"type": "string", "pattern": patterns[t], "description": wants[t]}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return schema{"type": "string", "minLength": 1}
	}
	return schemaOfKind(t, tag)
}

func schemaOfKind(t reflect.Type, tag reflect.StructTag) schema {
	switch t.Kind() {
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		s := schema{"type": "integer"}
		if high, err := strconv.Atoi(tag.Get("max")); err == nil {
			low, _ := strconv.Atoi(tag.Get("min"))
			s["minimum"], s["maximum"] = low, high
		}
		return s
	case reflect.Slice:
		if tag.Get("keyed") != "" {
			return schema{"type": "object", "patternProperties": comments,
				"additionalProperties": schemaOf(t.Elem(), "")}
		}
		return schema{"type": "array", "items": itemsOf(t.Elem(), tag.Get("words"))}
	case reflect.Struct:
		return schemaOfStruct(t)
	}
	if enum := tag.Get("enum"); enum != "" {
		return schema{"enum": strings.Split(enum, ",")}
	}
	return schema{"type": "string"}
}

// itemsOf is what a list holds: of words that phoenix knows editors offer those, and others are the users' own.
func itemsOf(t reflect.Type, words string) schema {
	if words == "" {
		return schemaOf(t, "")
	}
	return schema{"anyOf": []schema{
		{"enum": strings.Split(words, ",")},
		{"type": "string", "pattern": featureName.String(), "description": "a feature of your own; its script " +
			featureScript + "NAME.sh lies beside the configuration"},
	}}
}

func schemaOfStruct(t reflect.Type) schema {
	properties, need := schema{}, []string{}
	for key, f := range keys(t) {
		s := schemaOf(f.Type, f.Tag)
		if said := about(f.Tag); said != "" {
			s["description"] = said
		}
		if def := f.Tag.Get("default"); def != "" {
			s["default"] = defaultOf(f.Type, def)
		}
		properties[key] = s
	}
	for _, key := range names(t) {
		if keys(t)[key].Tag.Get("need") != "" {
			need = append(need, key)
		}
	}
	s := schema{"type": "object", "properties": properties, "patternProperties": comments,
		"additionalProperties": false}
	if len(need) > 0 {
		s["required"] = need
	}
	if valueField(reflect.New(t).Elem()).IsValid() {
		return schema{"anyOf": []schema{s, {"type": "string"}}}
	}
	return s
}

func defaultOf(t reflect.Type, def string) any {
	if t.Kind() == reflect.Bool {
		return def == "true"
	}
	return def
}

// about tells what is known and not acted on.
func about(tag reflect.StructTag) string {
	switch kept, acted := tag.Get("kept"), tag.Get("acted"); {
	case kept == "":
		return ""
	case acted != "":
		return fmt.Sprintf("acted on by runtime %s; elsewhere kept, not acted on: %s", acted, kept)
	default:
		return keptSummary + kept
	}
}
