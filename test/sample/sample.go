// Package sample thins out tests that do the same at every point of a run: containers are made alike, and what happens
// at a point of one's happens at those of the others.
package sample

import (
	"hash/fnv"
	"os"
	"regexp"
)

// Everything in the environment makes every case run: make faults.
const Everything = "PHOENIX_EVERY_CASE"

// What differs between two cases of a kind: the container and its addresses and ids, the digest of what is written, how
// often it was done before.
var (
	digest   = regexp.MustCompile(`\b[0-9a-f]{16,64}\b`)
	address  = regexp.MustCompile(`\b(10|127|192)(\.[0-9]+){3}\b|\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	numbered = regexp.MustCompile(`\([0-9]+\)`)
	number   = regexp.MustCompile(`[0-9]+`)
)

// Kind is what a case says without what differs between containers.
func Kind(text string) string {
	text = digest.ReplaceAllString(text, "DIGEST")
	text = address.ReplaceAllString(text, "ADDRESS")
	text = numbered.ReplaceAllString(text, "(n)")
	return number.ReplaceAllStringFunc(text, func(digits string) string {
		switch {
		case len(digits) == 3 && digits[0] != '0':
			return "ID"
		case len(digits) > 8: // user and group ids of a container
			return "RANGE"
		}
		return digits
	})
}

// OfEachKind is one case of each kind, by the whole text of each, in their order: of which container is another one
// from kind to kind, and the same each time. All of them where the environment says so.
func OfEachKind[C any](all []C, text func(C) string) (out []C) {
	if os.Getenv(Everything) != "" {
		return all
	}
	of := map[string][]int{}
	for i, c := range all {
		kind := Kind(text(c))
		of[kind] = append(of[kind], i)
	}
	for i, c := range all {
		kind := Kind(text(c))
		h := fnv.New32a()
		h.Write([]byte(kind))
		if at := of[kind]; at[int(h.Sum32())%len(at)] == i {
			out = append(out, c)
		}
	}
	return out
}
