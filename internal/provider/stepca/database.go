package stepca

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/bolt"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// A database that was cut off makes step-ca die at its start, or later, when it comes to a page that is not there. What
// it held, orders and accounts, is made anew by the clients; so it is set aside, for whoever may still want to look
// into it, and step-ca begins another.

// damage says why a bbolt file cannot be used; empty: it can, or it is being made.
func damage(head []byte, size int64) string {
	m := bolt.Newest(head)
	switch {
	case size == 0:
		return ""
	case !m.OK:
		return "has no readable beginning"
	case uint64(size) < m.Pages*m.PageSize:
		return "is cut off: " + strconv.FormatInt(size, 10) + " of " + strconv.FormatUint(m.Pages*m.PageSize, 10) +
			" bytes"
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
		res, err := h.Run(ctx,
			host.Command{Argv: []string{"head", "--bytes=" + strconv.Itoa(bolt.HeadBytes), "--", databaseFile(l)}})
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
