package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

type specDuration = spec.Duration

func durationString(d spec.Duration) string { return time.Duration(d).String() }

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func wantedDiagnostics(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, want, _ := strings.Cut(string(data), "\n-- want --\n")
		b.WriteString(want)
	}
	return b.String()
}

// modelTypes are all structs of the model that stand in the files.
func modelTypes() []reflect.Type {
	seen := map[reflect.Type]bool{}
	var out []reflect.Type
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		if _, ok := t.FieldByName("At"); !ok {
			return
		}
		seen[t] = true
		out = append(out, t)
		for _, f := range keys(t) {
			visit(f.Type)
		}
	}
	visit(typeOf[ContainerFile]())
	visit(typeOf[Hypervisor]())
	return out
}

// parentKept are the structs that stand below a key that is kept as a whole.
func parentKept(t reflect.Type) bool {
	switch t {
	case typeOf[Export](), typeOf[Share](), typeOf[Samba](), typeOf[ZFS](), typeOf[Pool](), typeOf[Dataset]():
		return true
	}
	return false
}
