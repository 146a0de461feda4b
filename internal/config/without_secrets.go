package config

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
)

// notKept stands in a kept configuration for a value that is a secret.
const notKept = "<not kept>"

const urlNotKept = "not-kept"

// urlPassword is the password in a URL.
var urlPassword = regexp.MustCompile(`(://[^/@:\s"]*:)[^/@\s"]+@`)

// WithoutSecrets is a file's text with a placeholder for each value whose key says that it is a secret, and for
// passwords in URLs; all else is byte for byte as it was. What is no JSON is left out whole: nobody knows where its
// secrets are.
func WithoutSecrets(f File) []byte {
	var diags diag.List
	root := parse(f, &diags)
	if root == nil {
		return nil
	}
	data := bytes.TrimPrefix(f.Data, []byte("\ufeff"))
	w := newRewrite(data, root)
	eachSecret("", root, func(_ string, n *node, text string) { w.replace(n.from, n.to, text) })
	return w.result()
}

// eachSecret calls do for each value that is not to be kept, with its path and what stands in for it.
func eachSecret(path string, n *node, do func(path string, n *node, text string)) {
	for _, m := range n.members {
		at := join(path, m.key)
		switch {
		case m.value.kind == aString && secretKey.MatchString(m.key) && !placeholder(m.value.text):
			do(at, m.value, `"`+notKept+`"`)
			continue
		case m.value.kind == aString && urlPassword.MatchString(m.value.text):
			do(at, m.value, quoted(urlPassword.ReplaceAllString(m.value.text, "${1}"+urlNotKept+"@")))
			continue
		}
		eachSecret(at, m.value, do)
	}
	for i, item := range n.items {
		if item.kind == aString && urlPassword.MatchString(item.text) {
			do(element(path, i), item, quoted(urlPassword.ReplaceAllString(item.text, "${1}"+urlNotKept+"@")))
			continue
		}
		eachSecret(element(path, i), item, do)
	}
}

// WithSecretsOf is a kept text with its placeholders filled from another version of the same file; missing are the
// paths of those that have no secret there.
func WithSecretsOf(kept, current []byte) (out []byte, missing []string) {
	var diags diag.List
	have, from := parse(File{Data: kept}, &diags), parse(File{Data: current}, &diags)
	if have == nil {
		return kept, nil
	}
	secrets := map[string]string{}
	data := bytes.TrimPrefix(current, []byte("\ufeff"))
	if from != nil {
		eachSecret("", from, func(path string, n *node, _ string) { secrets[path] = string(data[n.from:n.to]) })
	}
	w := newRewrite(kept, have)
	eachPlaceholder("", have, func(path string, n *node) {
		secret, ok := secrets[path]
		if !ok {
			missing = append(missing, path)
			return
		}
		w.replace(n.from, n.to, secret)
	})
	return w.result(), missing
}

func eachPlaceholder(path string, n *node, do func(path string, n *node)) {
	if n.kind == aString && (n.text == notKept || strings.Contains(n.text, ":"+urlNotKept+"@")) {
		do(path, n)
	}
	for _, m := range n.members {
		eachPlaceholder(join(path, m.key), m.value, do)
	}
	for i, item := range n.items {
		eachPlaceholder(element(path, i), item, do)
	}
}
