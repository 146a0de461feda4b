// Package issued knows which certificates a CA has issued that are still valid, and to whom. step-ca writes each one
// down, durably, before anybody gets it (authority/tls.go: signX509 stores it and fails where it cannot; acme/order.go,
// Finalize: only then the order names it), so its database misses none, whatever is killed and whenever. Its log does:
// it is written after the answer was sent, and journald drops lines under load and removes old ones.
//
// The database is read while step-ca has it open (package bolt). A record beside it, which the daemon in the CA's
// container keeps, outlives a database that was cut off and set aside; what such a file still holds is taken from there
// too.
package issued

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/bolt"
)

// Certificate is one that the CA issued.
type Certificate struct {
	Serial    string    `json:"serial"` // lower-case hex
	Names     []string  `json:"names"`  // DNS names and addresses, sorted
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Account   string    `json:"account,omitempty"`    // thumbprint of the ACME account's key (RFC 7638)
	AccountID string    `json:"account_id,omitempty"` // as the CA names the account
	Order     string    `json:"order,omitempty"`      // as the CA names the order
	Key       string    `json:"key"`                  // SHA-256 of its SubjectPublicKeyInfo, lower-case hex
	// Root is the key id of the root that it is under, lower-case hex; empty: not known.
	Root string `json:"root,omitempty"`
	// Pending: signed, and nobody can have it yet. It stays so where step-ca was killed in between.
	Pending bool `json:"pending,omitempty"`
}

// List is what a CA issued and what is still valid of it, the latest first.
type List struct {
	Read         bool          `json:"read"` // set always: a phoenix that does not know the question answers without it
	Certificates []Certificate `json:"certificates"`
	// More counts, by names, what was left out as there is so much of it.
	More map[string]int `json:"more,omitempty"`
	// Lost is when databases were set aside whose last certificates may be unknown and still valid.
	Lost []time.Time `json:"lost,omitempty"`
}

// Source is the volume of a CA.
type Source struct {
	Dir      string `json:"dir"`
	Database string `json:"database"` // as ca.json names its type
}

// Files in the volume.
func (s Source) file() string   { return filepath.Join(s.Dir, "db", "step-ca.db") }
func (s Source) record() string { return filepath.Join(s.Dir, "issued.json") }

const (
	sameNames  = 200   // certificates for the same names that are told one by one
	most       = 8_000 // certificates in all
	tries      = 60
	triesPause = 5 * time.Millisecond
)

// Readable is the type of database that can be read while the CA runs.
const Readable = "bbolt"

// ErrUnreadable is a CA whose database is of a kind that cannot be read while it runs.
var ErrUnreadable = errors.New("its database cannot be read while it runs")

// Read gives the certificates that are valid at a time.
func (s Source) Read(ctx context.Context, now time.Time) (List, error) {
	list, _, err := s.read(ctx, now)
	return list, err
}

func (s Source) read(ctx context.Context, now time.Time) (List, record, error) {
	if s.Database != Readable {
		return List{}, record{}, fmt.Errorf("%w: %s", ErrUnreadable, s.Database)
	}
	before, err := readRecord(s.record())
	if err != nil {
		return List{}, record{}, err
	}
	c := newCollection(now)
	c.roots = s.roots()
	for _, x := range before.Certificates {
		c.add(x)
	}
	if err := s.readDatabase(ctx, c); err != nil {
		return List{}, record{}, err
	}
	if err := s.readLost(c, &before); err != nil {
		return List{}, record{}, err
	}
	if c.full {
		return List{}, record{}, fmt.Errorf("there are more than %d valid certificates, for many names", most)
	}
	list := c.list()
	for _, l := range before.Lost {
		if now.Before(l.Until) {
			list.Lost = append(list.Lost, l.Time)
		}
	}
	return list, before, nil
}

// readDatabase adds what step-ca's database holds.
func (s Source) readDatabase(ctx context.Context, c *collection) error {
	f, err := openRegular(s.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was issued yet
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() == 0 {
		return nil // it is being made
	}
	for _, step := range []func(*bolt.Snapshot, *collection) error{readCertificates, readOrders} {
		if err := steadily(ctx, f, func(b *bolt.Snapshot) error { return step(b, c) }); err != nil {
			return fmt.Errorf("%s: %w", s.file(), err)
		}
	}
	return nil
}

// steadily reads until nobody wrote meanwhile.
func steadily(ctx context.Context, f *os.File, read func(*bolt.Snapshot) error) error {
	for n := 0; ; n++ {
		b, err := bolt.Open(f)
		if err == nil {
			err = read(b)
			if changed := b.Current(); changed != nil { // then what went wrong says nothing
				err = changed
			}
		}
		if err == nil || n == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(triesPause):
		}
	}
}

// openRegular follows no link: the directory is the process's own.
func openRegular(path string) (*os.File, error) { return open(path, syscall.O_NOFOLLOW) }

// open waits for no fifo.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|flags|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}, err,
			f.Close())
	}
	return f, nil
}

// collection gathers certificates, each once, and no more than can be told.
type collection struct {
	now   time.Time
	all   map[string]*Certificate // by serial
	names map[string]int          // how many, by names
	more  map[string]map[string]bool
	roots []string // key ids of those that are trusted; empty: all
	full  bool
}

func newCollection(now time.Time) *collection {
	return &collection{now: now, all: map[string]*Certificate{}, names: map[string]int{},
		more: map[string]map[string]bool{}}
}

func (c *collection) add(x Certificate) {
	if !c.now.Before(x.NotAfter) || c.worthless(x) {
		return
	}
	if have := c.all[x.Serial]; have != nil {
		if have.Account == "" {
			*have = x
		}
		return
	}
	names := strings.Join(x.Names, " ")
	if c.names[names] >= sameNames {
		if c.more[names] == nil {
			c.more[names] = map[string]bool{}
		}
		if len(c.more[names]) < 100*sameNames {
			c.more[names][x.Serial] = true
		}
		return
	}
	if len(c.all) >= most {
		c.full = true
		return
	}
	c.names[names]++
	c.all[x.Serial] = &x
}

// worthless is a certificate under a root that nobody trusts any more.
func (c *collection) worthless(x Certificate) bool {
	return x.Root != "" && len(c.roots) > 0 && !slices.Contains(c.roots, x.Root)
}

// list is what was gathered.
func (c *collection) list() List {
	out := List{Read: true, Certificates: make([]Certificate, 0, len(c.all))}
	for _, x := range c.all {
		if !c.worthless(*x) {
			out.Certificates = append(out.Certificates, *x)
		}
	}
	slices.SortFunc(out.Certificates, func(a, b Certificate) int {
		return cmp.Or(b.NotBefore.Compare(a.NotBefore), cmp.Compare(a.Serial, b.Serial))
	})
	for names, serials := range c.more {
		if out.More == nil {
			out.More = map[string]int{}
		}
		out.More[names] = len(serials)
	}
	return out
}
