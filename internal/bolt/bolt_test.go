package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const size = 4096

// page makes a page as bbolt writes it; more is how many pages it goes on for. Keys and values stand in pairs; of a
// branch the values are the ids of its children.
func page(id int, flags uint16, more int, pairs ...any) []byte {
	b := make([]byte, size*(1+more))
	order.PutUint64(b, uint64(id))
	order.PutUint16(b[8:], flags)
	order.PutUint16(b[10:], uint16(len(pairs)/2))
	order.PutUint32(b[12:], uint32(more))
	at := pageHeader + len(pairs)/2*elementBytes
	for i := 0; i < len(pairs); i += 2 {
		e, key := b[pageHeader+i/2*elementBytes:], pairs[i].(string)
		pos := uint32(at - (pageHeader + i/2*elementBytes))
		at += copy(b[at:], key)
		if flags == flagBranch {
			order.PutUint32(e, pos)
			order.PutUint32(e[4:], uint32(len(key)))
			order.PutUint64(e[8:], uint64(pairs[i+1].(int)))
			continue
		}
		var value []byte
		switch v := pairs[i+1].(type) {
		case string:
			value = []byte(v)
		case []byte: // a bucket
			value = v
			order.PutUint32(e, flagBucket)
		}
		order.PutUint32(e[4:], pos)
		order.PutUint32(e[8:], uint32(len(key)))
		order.PutUint32(e[12:], uint32(len(value)))
		at += copy(b[at:], value)
	}
	return b
}

func metaPage(id, root, pages, transaction int) []byte {
	b := make([]byte, size)
	order.PutUint64(b, uint64(id))
	order.PutUint16(b[8:], 0x04)
	m := b[pageHeader:]
	order.PutUint32(m, metaMagic)
	order.PutUint32(m[4:], metaVersion)
	order.PutUint32(m[8:], size)
	order.PutUint64(m[16:], uint64(root))
	order.PutUint64(m[40:], uint64(pages))
	order.PutUint64(m[48:], uint64(transaction))
	sum := fnv.New64a()
	sum.Write(m[:metaSummed])
	order.PutUint64(m[metaSummed:], sum.Sum64())
	return b
}

// bucketAt is the value of a bucket's entry: with a root page of its own, or inside of the entry.
func bucketAt(root int, inline []byte) []byte {
	b := make([]byte, bucketHeader)
	order.PutUint64(b, uint64(root))
	return append(b, inline...)
}

var long = strings.Repeat("long", 2000)

// file is a database with a bucket inside of its entry, and one with pages of its own, of which one has an overflow.
func file() []byte {
	inline := page(0, flagLeaf, 0, "k", "v")[:64]
	return slices.Concat(
		metaPage(0, 2, 7, 8), metaPage(1, 3, 8, 9), make([]byte, size),
		page(3, flagLeaf, 0, "big", bucketAt(4, nil), "small", bucketAt(0, inline)),
		page(4, flagBranch, 0, "a", 5, "m", 6),
		page(5, flagLeaf, 0, "a", "1", "b", "2", "sub", bucketAt(0, inline)),
		page(6, flagLeaf, 1, "m", "3", "n", long),
	)
}

func all(s *Snapshot, bucket string) (out []string, err error) {
	err = s.Each(bucket, func(key, value []byte) error {
		out = append(out, fmt.Sprintf("%s=%d", key, len(value)))
		return nil
	})
	return out, err
}

func TestRead(t *testing.T) {
	f := file()
	s, err := Open(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	if s.Transaction() != 9 {
		t.Errorf("transaction %d", s.Transaction())
	}
	for bucket, want := range map[string][]string{
		"big": {"a=1", "b=1", "m=1", "n=8000"}, "small": {"k=1"}, "nothing": nil,
	} {
		if got, err := all(s, bucket); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", bucket, got, err)
		}
	}
	for key, want := range map[string]string{"a": "1", "b": "2", "m": "3", "n": long, "0": "", "c": "", "z": ""} {
		if got, err := s.Get("big", []byte(key)); err != nil || string(got) != want {
			t.Errorf("%s: %.20q, %v", key, got, err)
		}
	}
	if got, err := s.Get("small", []byte("k")); err != nil || string(got) != "v" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Current(); err != nil {
		t.Error(err)
	}
}

// Once another transaction is there, what was read does not count; half a meta page is none.
func TestCurrent(t *testing.T) {
	f := file()
	s, err := Open(bytes.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	next := metaPage(0, 3, 8, 10)
	copy(f, next[:pageHeader+20])
	if err := s.Current(); err != nil {
		t.Errorf("half a meta page: %v", err)
	}
	copy(f, next)
	if err := s.Current(); !errors.Is(err, ErrChanged) {
		t.Errorf("another transaction: %v", err)
	}
}

// Whatever is in the file: an error or an answer, in the end, and never a key twice.
func TestDamaged(t *testing.T) {
	good := file()
	loop := slices.Concat(good[:4*size], page(4, flagBranch, 0, "a", 4), good[5*size:])
	for name, f := range map[string][]byte{"empty": nil, "short": good[:size], "no pages": good[:2*size],
		"a loop": loop} {
		s, err := Open(bytes.NewReader(f))
		if err == nil && name != "short" {
			_, err = all(s, "big")
		}
		if err == nil && name != "short" {
			t.Errorf("%s is read as if it were whole", name)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		f := slices.Clone(good)
		for range 1 + random.IntN(4) {
			at := 3*size + random.IntN(len(f)-3*size)
			if random.IntN(3) > 0 {
				at = (3+random.IntN(4))*size + random.IntN(100) // headers and elements
			}
			f[at] = byte(random.Uint32())
		}
		s, err := Open(bytes.NewReader(f[:len(f)-random.IntN(2)*random.IntN(size)]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := all(s, "big"); err == nil && len(slices.Compact(slices.Clone(got))) > 1000 {
			t.Errorf("%d keys", len(got))
		}
		_, _ = s.Get("big", []byte("n"))
	}
}
