package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

const (
	pollEvery = 250 * time.Millisecond
	pollShare = 50          // polling takes one of so many parts of the time,
	pollMost  = time.Second // unless the pauses got longer than this: slow reads are mostly waiting
	pollLimit = 4 << 20     // bytes of a file
)

// poller compares files several times a second. In a file system that other machines change too, inotify tells only
// of what this one changed, times have whole seconds and inodes are no identity: what a file holds is all that can
// be compared. A file system that hangs holds up the poller, and nobody else.
type poller struct {
	changed func() // called when take has something to give
	ended   chan struct{}
	once    sync.Once

	mu   sync.Mutex // guards what follows
	want map[provider.Poll]bool
	seen map[provider.Poll]string
	news map[provider.Poll]bool
}

func newPoller(changed func()) *poller {
	seen, news := map[provider.Poll]string{}, map[provider.Poll]bool{}
	return &poller{changed: changed, ended: make(chan struct{}), seen: seen, news: news}
}

// watch replaces what is compared. Something new counts as changed when it is seen first: nobody knows what
// happened to it since it was looked at.
func (p *poller) watch(want map[provider.Poll]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want = want
	maps.DeleteFunc(p.seen, func(poll provider.Poll, _ string) bool { return !want[poll] })
	if len(want) > 0 {
		p.once.Do(func() { go p.run() })
	}
}

// take gives what has changed since it was called last.
func (p *poller) take() []provider.Poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Collect(maps.Keys(p.news))
	clear(p.news)
	return out
}

// close ends it: changed is not called any more. A file system that hangs is not waited for.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ended)
}

func (p *poller) run() {
	for {
		begun := time.Now()
		p.compare()
		pause := min(max(pollEvery, pollShare*time.Since(begun)), pollMost)
		select {
		case <-p.ended:
			return
		case <-time.After(pause):
		}
	}
}

func (p *poller) compare() {
	p.mu.Lock()
	want := slices.Collect(maps.Keys(p.want))
	p.mu.Unlock()
	texts := map[string][]byte{}
	states := map[provider.Poll]string{}
	for _, poll := range want {
		states[poll] = stateOf(poll, texts)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for poll, now := range states {
		before, known := p.seen[poll]
		if p.want[poll] && (!known || before != now) {
			p.seen[poll], p.news[poll] = now, true
		}
	}
	select {
	case <-p.ended:
	default:
		if len(p.news) > 0 {
			p.changed()
		}
	}
}

// stateOf is what is compared of a file. texts are those that were read already.
func stateOf(poll provider.Poll, texts map[string][]byte) string {
	data, read := texts[poll.Path]
	if !read {
		var err error
		data, err = host.ReadRegular(poll.Path, pollLimit)
		if errors.Is(err, fs.ErrNotExist) {
			return "absent"
		}
		if err != nil { // no file
			if fi, err := os.Lstat(poll.Path); err == nil {
				return fi.Mode().String()
			}
			return fmt.Sprint("unreadable: ", err)
		}
		texts[poll.Path] = data
	}
	if poll.Part != "" {
		data = partOf(data, poll.Part)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// partOf is the value that these names, one below the other, lead to in a JSON document. What is no such document
// counts as a whole.
func partOf(data []byte, names string) []byte {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return data
	}
	for name := range strings.SplitSeq(names, "/") {
		fields, _ := v.(map[string]any) // nil: the value is not there
		v = fields[name]
	}
	out, _ := json.Marshal(v) // it was read from JSON
	return out
}
