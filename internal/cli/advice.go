package cli

import (
	"regexp"
	"strings"
	"sync"
)

// advice has commands of phoenix's in a text be called as this one was: with the same files, the same root and the same
// runtime. Whoever pastes them means this site.
func (a *app) advice(text string) string {
	if text == "" {
		return ""
	}
	prefix := strings.TrimRight(a.again(""), " ")
	return commandWords().ReplaceAllString(text, "${1}"+strings.ReplaceAll(prefix, "$", "$$")+" ${2}")
}

var words struct {
	once sync.Once
	re   *regexp.Regexp
}

// commandWords finds commands of phoenix's in a text. What is written with flags before the command, or with a path, is
// as it should be.
func commandWords() *regexp.Regexp {
	words.once.Do(func() {
		var names []string
		// another app: flags are set to their defaults where they are defined
		for _, c := range (&app{}).root().Commands() {
			names = append(names, c.Name())
		}
		words.re = regexp.MustCompile("(^|[\\s(\"'`;])phoenix (" + strings.Join(names, "|") + `)\b`)
	})
	return words.re
}
