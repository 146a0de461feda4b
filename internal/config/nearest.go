package config

import "strings"

// Nearest is the known word that a mistyped one was probably meant to be, or empty.
func Nearest(word string, known []string) string {
	best, least := "", max(2, len(word)/3)+1
	if len(word) > 100 {
		return ""
	}
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if len(word) > 2 && (strings.HasPrefix(k, word+"_") || strings.HasPrefix(word, k+"_")) {
			d = min(d, 1)
		}
		if d < least && d < max(len(word), len(k)) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap with their neighbour (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
