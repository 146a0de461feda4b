package issued

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// record is the file beside the database, for the time after it.
type record struct {
	Certificates []Certificate `json:"certificates"`
	Lost         []loss        `json:"lost,omitempty"`
}

// loss is a database that was set aside and has been looked through.
type loss struct {
	File  string    `json:"file"`
	Time  time.Time `json:"time"`
	Until time.Time `json:"until"` // what it held is no longer valid then
}

const (
	recordMost = 64 << 20 // bytes
	lostMost   = 8        // databases that were set aside and are looked through, the latest ones
	lifeMost   = 398 * 24 * time.Hour
)

// readRecord gives nothing where there is none. One that cannot be read is told: it is never written but in one step.
func readRecord(path string) (record, error) {
	var r record
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, recordMost))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return record{}, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return r, nil
}

// readLost takes what is left from databases that were set aside and not looked through before.
func (s Source) readLost(c *collection, r *record) error {
	files, err := filepath.Glob(filepath.Join(s.Dir, "db", "lost-*.db"))
	if err != nil {
		return err
	}
	slices.Sort(files) // by time, which is in the name
	for _, path := range files[max(0, len(files)-lostMost):] {
		name := filepath.Base(path)
		if slices.ContainsFunc(r.Lost, func(l loss) bool { return l.File == name }) {
			continue
		}
		f, err := openRegular(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		fi, err := f.Stat()
		if err == nil && c.now.Sub(fi.ModTime()) < lifeMost {
			err = carve(f, s.issuers(), c)
			r.Lost = append(r.Lost,
				loss{File: name, Time: fi.ModTime().UTC(), Until: fi.ModTime().Add(longest(c)).UTC()})
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// longest is how long the CA's certificates live, as far as those say that are valid.
func longest(c *collection) time.Duration {
	life := 24 * time.Hour
	for _, x := range c.all {
		life = max(life, x.NotAfter.Sub(x.NotBefore))
	}
	return life
}

// issuers are the CA's own certificates that are in the volume.
func (s Source) issuers() (out []*x509.Certificate) {
	files, _ := filepath.Glob(filepath.Join(s.Dir, "secrets", "*", "ca.crt")) // the pattern is a good one
	for _, path := range append(files, filepath.Join(s.Dir, "certs", "intermediate_ca.crt")) {
		out = append(out, authorities(path)...)
	}
	return out
}

// roots are the key ids of the roots that the CA offers.
func (s Source) roots() (out []string) {
	for _, root := range authorities(filepath.Join(s.Dir, "certs", "root_ca.crt")) {
		out = append(out, hex.EncodeToString(root.SubjectKeyId))
	}
	return out
}

// authorities are the CA certificates in a file; one that cannot be read has none.
func authorities(path string) (out []*x509.Certificate) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && cert.IsCA {
			out = append(out, cert)
		}
	}
	return out
}

// carve finds certificates of these issuers anywhere in a file: bbolt keeps a value in one piece. No page is needed for
// it.
func carve(r io.Reader, issuers []*x509.Certificate, c *collection) error {
	const window = 1 << 20
	buffer := make([]byte, 0, window+longestOne)
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):len(buffer)+window])
		buffer = buffer[:len(buffer)+n]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return err
		}
		end := len(buffer) - longestOne
		if last {
			end = len(buffer)
		}
		for at := 0; at < end; at++ { // one that begins behind end is whole in the next window
			i := bytes.Index(buffer[at:min(end+1, len(buffer))], []byte{0x30, 0x82})
			if i < 0 {
				break
			}
			at += i
			carveOne(buffer[at:], issuers, c)
		}
		if last {
			return nil
		}
		buffer = append(buffer[:0], buffer[max(0, end):]...)
	}
}

const longestOne = 16 << 10 // bytes of a certificate

func carveOne(b []byte, issuers []*x509.Certificate, c *collection) {
	if len(b) < 8 {
		return
	}
	size := 4 + int(b[2])<<8 + int(b[3])
	if size > min(len(b), longestOne) || b[4] != 0x30 {
		return
	}
	if _, end, ok := glance(b[:size]); !ok || !c.now.Before(end) {
		return
	}
	leaf, err := x509.ParseCertificate(bytes.Clone(b[:size]))
	if err != nil || leaf.IsCA {
		return
	}
	if i := slices.IndexFunc(issuers,
		func(i *x509.Certificate) bool { return leaf.CheckSignatureFrom(i) == nil }); i >= 0 {
		x := describe(leaf)
		x.Root = hex.EncodeToString(issuers[i].AuthorityKeyId)
		c.add(x)
	}
}

// Keep writes down what is in the database and not in the record. It writes nothing where that is nothing.
func (s Source) Keep(ctx context.Context, h host.Host) error {
	now := h.Now()
	list, r, err := s.read(ctx, now)
	if err != nil {
		return err
	}
	before, err := readRecord(s.record())
	if err != nil {
		return err
	}
	after := record{Lost: r.Lost}
	known := map[string]bool{}
	for _, x := range before.Certificates {
		known[x.Serial] = true
	}
	grown := len(r.Lost) != len(before.Lost)
	for _, x := range list.Certificates {
		if !x.Pending {
			after.Certificates = append(after.Certificates, x)
			grown = grown || !known[x.Serial]
		}
	}
	if !grown {
		return nil
	}
	after.Lost = slices.DeleteFunc(after.Lost, func(l loss) bool { return !now.Before(l.Until) && s.removed(l) })
	text, err := json.Marshal(after)
	if err != nil {
		return err
	}
	return h.WriteFile(s.record(), append(text, '\n'), 0o600, host.Root)
}

// removed is whether a database that was set aside does not exist any more.
func (s Source) removed(l loss) bool {
	_, err := os.Lstat(filepath.Join(s.Dir, "db", filepath.Base(l.File)))
	return errors.Is(err, fs.ErrNotExist)
}

// Stamp changes when the database does.
func (s Source) Stamp() string {
	var out []string
	files, _ := filepath.Glob(filepath.Join(s.Dir, "db", "*.db")) // the pattern is a good one
	for _, path := range append(files, s.record()) {
		if fi, err := os.Lstat(path); err == nil {
			out = append(out, path, fi.ModTime().String())
		}
	}
	return strings.Join(out, " ")
}
