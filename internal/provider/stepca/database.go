package stepca

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// A database that was cut off makes step-ca die at its start, or later, when it comes to a page that is not there. What it held, orders
// and accounts, is made anew by the clients; so it is set aside, for whoever may still want to look into it, and step-ca begins another.

// The header of a bbolt file (go.etcd.io/bbolt, internal/common: page.go, meta.go): two meta pages, numbers in the machine's order.
const (
	pageHeader  = 16
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSummed  = 56 // bytes before the checksum, FNV-1a
	pageMin     = 512
	pageMax     = 1 << 16
	headBytes   = 2 * pageMax
)

// meta is what a meta page says; ok: its checksum is right.
type meta struct {
	pageSize, pages, transaction uint64
	ok                           bool
}

func readMeta(page []byte) meta {
	if len(page) < pageHeader+metaSummed+8 {
		return meta{}
	}
	b, order := page[pageHeader:], binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:metaSummed])
	return meta{
		pageSize: uint64(order.Uint32(b[8:])), pages: order.Uint64(b[40:]), transaction: order.Uint64(b[48:]),
		ok: order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion && order.Uint64(b[metaSummed:]) == sum.Sum64(),
	}
}

// newest is the meta page that bbolt uses. The second lies one page behind the first, whose size only a meta page tells.
func newest(head []byte) meta {
	best := readMeta(head)
	for size := pageMin; size <= pageMax && size < len(head); size *= 2 {
		m := readMeta(head[size:])
		if m.ok && m.pageSize == uint64(size) && (!best.ok || m.transaction > best.transaction) {
			best = m
		}
	}
	return best
}

// damage says why a bbolt file cannot be used; empty: it can, or it is being made.
func damage(head []byte, size int64) string {
	m := newest(head)
	switch {
	case size == 0:
		return ""
	case !m.ok:
		return "has no readable beginning"
	case uint64(size) < m.pages*m.pageSize:
		return "is cut off: " + strconv.FormatInt(size, 10) + " of " + strconv.FormatUint(m.pages*m.pageSize, 10) + " bytes"
	}
	return ""
}

func databaseFile(l layout) string { return filepath.Join(l.db(), "step-ca.db") }

// databaseDamage looks twice, for step-ca may be writing.
func databaseDamage(ctx context.Context, h host.Host, l layout, s spec.StepCA) (string, error) {
	if s.Database != bbolt {
		return "", nil
	}
	why := ""
	for range 2 {
		m, err := h.Lstat(databaseFile(l))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !m.Mode.IsRegular() {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		res, err := h.Run(ctx, host.Command{Argv: []string{"head", "--bytes=" + strconv.Itoa(headBytes), "--", databaseFile(l)}})
		if err != nil {
			return "", err
		}
		if why = damage(res.Stdout, m.Size); why == "" {
			return "", nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return why, nil
}

// renewDatabase sets a damaged database aside.
func renewDatabase(ctx context.Context, h host.Host, l layout, s spec.StepCA) error {
	why, err := databaseDamage(ctx, h, l, s)
	if err != nil || why == "" {
		return err
	}
	return h.Rename(databaseFile(l), filepath.Join(l.db(), "lost-"+strconv.FormatInt(h.Now().UnixNano(), 10)+".db"))
}

// wholeDatabase adds what is wrong with the database.
func (st *Status) wholeDatabase(ctx context.Context, h host.Host, l layout, s spec.StepCA) error {
	why, err := databaseDamage(ctx, h, l, s)
	if why != "" {
		st.wrong(databaseFile(l), strings.TrimSpace("it "+why), "set aside, and begun anew")
	}
	return err
}
