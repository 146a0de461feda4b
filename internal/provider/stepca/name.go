package stepca

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// maxName is how long a common name may be, in bytes (RFC 5280, appendix A.1: ub-common-name).
const maxName = 64

// numbered is the end of a root's name: the year it was made in, and which root of the site it is.
var numbered = regexp.MustCompile(` [0-9]{4} R([0-9]{1,6})$`)

// nextName is what the next root is called. Its year and number tell it from those before: phones and browsers show
// nothing but the name where a person has to find the one to remove.
func nextName(h host.Host, l layout, s spec.StepCA, now time.Time) (string, error) {
	last, err := lastNumber(h, l, s)
	if err != nil {
		return "", err
	}
	suffix := fmt.Sprintf(" %d R%d", now.UTC().Year(), last+1)
	name := s.RootName
	for len(name) > maxName-len(suffix) {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return strings.TrimRight(name, " ") + suffix, nil
}

// lastNumber is that of the last root the volume knows of. One without a number in its name, or one that is only
// pinned, counts as the first.
func lastNumber(h host.Host, l layout, s spec.StepCA) (int, error) {
	last := 0
	if s.Pinned != "" {
		last = 1
	}
	names, err := h.ReadDir(l.secrets())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for _, name := range names {
		staged := strings.HasPrefix(name, ".") // a killed run's, which nobody was given
		if staged || name != "root" && !strings.HasSuffix(name, "-root") && !strings.HasPrefix(name, asidePrefix) {
			continue
		}
		raw, err := h.ReadFile(filepath.Join(l.secrets(), name, fileCert))
		if err != nil {
			continue // what is left of a root without its certificate has no number
		}
		c, err := parseCert(raw)
		if err != nil {
			continue
		}
		last = max(last, numberOf(c.Subject.CommonName))
	}
	return last, nil
}

func numberOf(name string) int {
	m := numbered.FindStringSubmatch(name)
	if m == nil {
		return 1
	}
	n, _ := strconv.Atoi(m[1]) // digits, six at most
	return n
}
