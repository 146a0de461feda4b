package stepca

import (
	"encoding/binary"
	"hash/fnv"
	"strings"
	"testing"
)

// The header of a bbolt file (go.etcd.io/bbolt, internal/common: page.go, meta.go).
const (
	pageHeader  = 16
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSummed  = 56
)

// page is a meta page as bbolt writes it.
func page(size int, pages, transaction uint64) []byte {
	b := make([]byte, size)
	m, order := b[pageHeader:], binary.NativeEndian
	order.PutUint32(m, metaMagic)
	order.PutUint32(m[4:], metaVersion)
	order.PutUint32(m[8:], uint32(size))
	order.PutUint64(m[40:], pages)
	order.PutUint64(m[48:], transaction)
	sum := fnv.New64a()
	sum.Write(m[:metaSummed])
	order.PutUint64(m[metaSummed:], sum.Sum64())
	return b
}

func TestDamage(t *testing.T) {
	good := append(page(4096, 4, 1), page(4096, 8, 2)...)
	half := append(page(4096, 4, 1), page(4096, 8, 2)...)
	half[4096+20]++ // written when the power went: the other one is used
	for name, c := range map[string]struct {
		head []byte
		size int64
		want string
	}{
		"whole":                    {good, 8 * 4096, ""},
		"being made":               {nil, 0, ""},
		"cut off":                  {good, 7*4096 + 1, "is cut off"},
		"half a meta page":         {half, 4 * 4096, ""},
		"larger pages":             {append(page(16384, 4, 1), page(16384, 8, 2)...), 8 * 16384, ""},
		"garbage":                  {[]byte(strings.Repeat("garbage", 2000)), 14000, "no readable beginning"},
		"a few bytes":              {[]byte("x"), 1, "no readable beginning"},
		"the first meta page gone": {append(make([]byte, 4096), page(4096, 8, 2)...), 8 * 4096, ""},
	} {
		if got := damage(c.head, c.size); !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
