package dns

import (
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// ending is a host on which process 7 has no command line any more, and the state that is given at each look.
type ending struct {
	host.Host
	stats []string
	looks atomic.Int32
}

func (e *ending) ReadFile(path string) ([]byte, error) {
	switch {
	case strings.HasSuffix(path, "/cmdline"):
		return nil, nil
	case path == "/proc/7/stat":
		if i := int(e.looks.Add(1)) - 1; i < len(e.stats) {
			return []byte(e.stats[i]), nil
		}
	}
	return nil, fs.ErrNotExist
}

// A resolver that ends gives its memory before its sockets: the next one cannot have its address until it is a zombie,
// or gone. Whoever else has the number meanwhile is not waited for.
func TestEndsWhenItsSocketsAreFree(t *testing.T) {
	const exits, zombie, other = "7 (a) b) R 1 7 7 0 -1 4228356 0", "7 (a) b) Z 1 7 7 0 -1 4228356 0",
		"7 (kworker) I 2 0 0 0 -1 69238880 0"
	for name, c := range map[string]struct {
		stats []string
		looks int32
	}{
		"a zombie": {[]string{exits, exits, zombie}, 3}, "gone": {[]string{exits}, 2},
		"another": {[]string{exits, other}, 2}, "nothing there": {nil, 1},
	} {
		h := &ending{stats: c.stats}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if gone, err := waitGone(ctx, h, spec.DNS{Name: "x", Dir: "/d"}, 7); err != nil || !gone || h.looks.Load() != c.looks {
			t.Errorf("%s: %v, %v after %d looks", name, gone, err, h.looks.Load())
		}
		cancel()
	}
}
