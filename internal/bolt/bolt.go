// Package bolt reads a bbolt file (go.etcd.io/bbolt) that another process has open and writes to. bbolt locks its file
// for as long as it is open, so that the library cannot; the file itself can be read all the same. A transaction never
// writes over a page that the one before it can reach: it uses pages that were free, and then one of two meta pages.
// What was read while the meta page stayed what it was is therefore one state of the database, whole; what was not is
// read again.
//
// Nothing in the file is believed: it may be cut off, half written or made by somebody who means harm.
package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a file (go.etcd.io/bbolt, internal/common: page.go, meta.go, bucket.go): two meta pages, numbers in the
// machine's order.
const (
	pageHeader    = 16
	elementBytes  = 16 // of branch and leaf alike
	bucketHeader  = 16
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagBucket    = 0x01 // of a leaf's element
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	metaSummed    = 56 // bytes before the checksum, FNV-1a
	pageMin       = 512
	pageMax       = 1 << 16
	depthMost     = 32
	pageBytesMost = 16 << 20 // with its overflow
	// HeadBytes is how much of a file holds both meta pages, whatever its page size.
	HeadBytes = 2 * pageMax
)

// ErrChanged is a database that was written to while it was read: to be read again.
var ErrChanged = errors.New("the database changed while it was read")

var order = binary.NativeEndian

// Meta is what a meta page says.
type Meta struct {
	PageSize, Pages, Transaction uint64
	OK                           bool // its checksum is right
	root                         uint64
}

func readMeta(page []byte) Meta {
	if len(page) < pageHeader+metaSummed+8 {
		return Meta{}
	}
	b := page[pageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:metaSummed])
	return Meta{
		PageSize: uint64(order.Uint32(b[8:])), Pages: order.Uint64(b[40:]), Transaction: order.Uint64(b[48:]),
		root: order.Uint64(b[16:]),
		OK: order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion &&
			order.Uint64(b[metaSummed:]) == sum.Sum64(),
	}
}

// Newest is the meta page that bbolt uses. The second lies one page behind the first, whose size only a meta page
// tells.
func Newest(head []byte) Meta {
	best := readMeta(head)
	for size := pageMin; size <= pageMax && size < len(head); size *= 2 {
		m := readMeta(head[size:])
		if m.OK && m.PageSize == uint64(size) && (!best.OK || m.Transaction > best.Transaction) {
			best = m
		}
	}
	return best
}

// Snapshot is the state after one transaction.
type Snapshot struct {
	file io.ReaderAt
	meta Meta
}

// Open takes the newest state of a file.
func Open(file io.ReaderAt) (*Snapshot, error) {
	head := make([]byte, HeadBytes)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m := Newest(head[:n])
	if !m.OK || m.PageSize < pageMin || m.PageSize > pageMax {
		return nil, errors.New("no bbolt database, or one without a readable beginning")
	}
	return &Snapshot{file: file, meta: m}, nil
}

// Transaction is the number of the state.
func (s *Snapshot) Transaction() uint64 { return s.meta.Transaction }

// Current fails with ErrChanged unless what was read up to now is of this state.
func (s *Snapshot) Current() error {
	now, err := Open(s.file)
	if err != nil {
		return err
	}
	if now.meta.Transaction != s.meta.Transaction {
		return ErrChanged
	}
	return nil
}

// Each calls do with every key and value of a bucket, in the order of the keys; both are good during the call only. A
// bucket that does not exist is empty.
func (s *Snapshot) Each(bucket string, do func(key, value []byte) error) error {
	w, root, err := s.bucket(bucket)
	if err != nil || root == nil {
		return err
	}
	return w.page(root, 0, nil, func(key, value []byte, flags uint32) error {
		if flags&flagBucket != 0 {
			return nil
		}
		return do(key, value)
	})
}

// Get gives the value of a key; nil: it has none.
func (s *Snapshot) Get(bucket string, key []byte) ([]byte, error) {
	w, root, err := s.bucket(bucket)
	if err != nil || root == nil {
		return nil, err
	}
	return w.find(root, key)
}

// bucket gives the page that a bucket begins with: one of its own, or one inside of its entry.
func (s *Snapshot) bucket(name string) (*walk, []byte, error) {
	w := &walk{Snapshot: s}
	top, err := w.read(s.meta.root)
	if err != nil {
		return nil, nil, err
	}
	entry, err := w.find(top, []byte(name))
	if err != nil || entry == nil {
		return nil, nil, err
	}
	if len(entry) < bucketHeader {
		return nil, nil, errDamaged
	}
	if id := order.Uint64(entry); id != 0 {
		root, err := w.read(id)
		return w, root, err
	}
	return w, bytes.Clone(entry[bucketHeader:]), nil
}

var errDamaged = errors.New("a page of the database makes no sense")

// walk goes through pages, and through no more than there are.
type walk struct {
	*Snapshot
	seen uint64
}

// read gives a page with its overflow.
func (w *walk) read(id uint64) ([]byte, error) {
	if w.seen++; id < 2 || id >= w.meta.Pages || w.seen > w.meta.Pages {
		return nil, errDamaged
	}
	at := int64(id * w.meta.PageSize)
	page := make([]byte, w.meta.PageSize)
	if _, err := w.file.ReadAt(page, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	more := uint64(order.Uint32(page[12:])) * w.meta.PageSize
	switch {
	case order.Uint64(page) != id || more > pageBytesMost || more > w.meta.Pages*w.meta.PageSize:
		return nil, errDamaged
	case more == 0:
		return page, nil
	}
	page = append(page, make([]byte, more)...)
	_, err := w.file.ReadAt(page[w.meta.PageSize:], at+int64(w.meta.PageSize))
	return page, err
}

// element is one entry of a page: a child of a branch, or a key with its value.
type element struct {
	key, value []byte
	flags      uint32
	child      uint64
}

// elements are those of a page.
func elements(page []byte) (list []element, branch bool, err error) {
	if len(page) < pageHeader {
		return nil, false, errDamaged
	}
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	branch = flags == flagBranch
	if !branch && flags != flagLeaf || pageHeader+count*elementBytes > len(page) {
		return nil, false, errDamaged
	}
	list = make([]element, count)
	for i := range list {
		at := pageHeader + i*elementBytes
		e := page[at:]
		var pos, key, value uint64
		if branch {
			pos, key, list[i].child = uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])), order.Uint64(e[8:])
		} else {
			list[i].flags = order.Uint32(e)
			pos, key, value = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		}
		from := uint64(at) + pos
		if from+key+value > uint64(len(page)) {
			return nil, false, errDamaged
		}
		list[i].key, list[i].value = page[from:from+key], page[from+key:from+key+value]
	}
	return list, branch, nil
}

// page calls do with what is in and below a page. Keys ascend, so that a page which was used again for something else
// is noticed.
func (w *walk) page(page []byte, depth int, after []byte, do func(key, value []byte, flags uint32) error) error {
	list, branch, err := elements(page)
	if depth > depthMost {
		err = errDamaged
	}
	if err != nil {
		return err
	}
	for i, e := range list {
		if i > 0 && bytes.Compare(list[i-1].key, e.key) >= 0 || i == 0 && after != nil &&
			bytes.Compare(after, e.key) > 0 {
			return errDamaged
		}
		if !branch {
			err = do(e.key, e.value, e.flags)
		} else if child, readErr := w.read(e.child); readErr != nil {
			err = readErr
		} else {
			err = w.page(child, depth+1, e.key, do)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find looks for a key below a page.
func (w *walk) find(page, key []byte) ([]byte, error) {
	for range depthMost {
		list, branch, err := elements(page)
		if err != nil {
			return nil, err
		}
		i := len(list) - 1
		for i >= 0 && bytes.Compare(list[i].key, key) > 0 {
			i--
		}
		switch {
		case i < 0:
			return nil, nil
		case !branch && !bytes.Equal(list[i].key, key):
			return nil, nil
		case !branch:
			return bytes.Clone(list[i].value), nil
		}
		if page, err = w.read(list[i].child); err != nil {
			return nil, err
		}
	}
	return nil, errDamaged
}
