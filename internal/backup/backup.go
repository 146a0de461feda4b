// Package backup encrypts what a CA cannot do without, its roots and intermediates with their keys and passwords,
// into one file, and brings it back. Both happen in the CA's own container: outside there is only the encrypted file.
// All else that a CA has is derived, or made again by those who need it.
//
// The file is of age (age-encryption.org), for a passphrase or for recipients, so that it can be opened without
// phoenix and nobody can change it unseen; in it is a tar.gz. Files of before, which `openssl enc -aes-256-cbc
// -pbkdf2` opens, are still read. Whatever comes out is checked as a whole before anything is written: names, sizes,
// every key against its certificate, the chain, the pin.
package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// directories of the CA's secrets, the one that makes it a CA last.
var directories = []string{"old-root", "next-intermediate", "next-root", "intermediate", rootDirectory}

// names of the files in each of them.
var names = []string{rootFile, keyFile, passwordFile}

const (
	rootDirectory = "root"
	rootFile      = "ca.crt"
	keyFile       = "key"
	passwordFile  = "password"
	sizeLimit     = 64 << 10 // bytes of one file
	totalLimit    = 2 << 20  // of all, with what tar adds

	// Limit is how large an encrypted backup may be, in bytes.
	Limit = 1 << 20
)

// Make encrypts the secrets below dir, a CA's volume, and tells the root's fingerprint. What could not be restored is
// not backed up.
func Make(h host.Host, dir string, to Key) (sealed []byte, fingerprint string, err error) {
	secrets := filepath.Join(dir, "secrets")
	if _, err = RootIn(h, filepath.Join(secrets, rootDirectory)); err != nil {
		return nil, "", fmt.Errorf("there is no root to back up: %w", err)
	}
	var all []file
	for _, directory := range directories {
		more, err := readDirectory(h, secrets, directory)
		if err != nil {
			return nil, "", err
		}
		all = append(all, more...)
	}
	set, err := verify(all)
	if err != nil {
		return nil, "", fmt.Errorf("the CA's own keys are damaged: %w", err)
	}
	packed, err := pack(all)
	if err != nil {
		return nil, "", err
	}
	sealed, err = to.encrypt(packed)
	return sealed, set.fingerprint(), err
}

// readDirectory reads what is backed up of a directory; nothing where there is none.
func readDirectory(h host.Host, secrets, directory string) ([]file, error) {
	if _, err := h.Lstat(filepath.Join(secrets, directory)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []file
	for _, name := range names {
		path := filepath.Join(secrets, directory, name)
		m, err := h.Lstat(path)
		if err != nil {
			return nil, err
		}
		if !m.Mode.IsRegular() || m.Size > sizeLimit {
			return nil, fmt.Errorf("%s is no file of a CA", path)
		}
		data, err := h.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out = append(out, file{directory, name, data, m.Mode.Perm()})
	}
	return out, nil
}

func pack(all []file) ([]byte, error) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	w := tar.NewWriter(zip)
	for _, f := range all {
		head := &tar.Header{Name: "secrets/" + f.directory + "/" + f.name, Mode: int64(f.mode),
			Size:     int64(len(f.data)),
			Typeflag: tar.TypeReg}
		if err := w.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := errors.Join(w.Close(), zip.Close())
	return packed.Bytes(), err
}

// file is one of the archive, by directory and name.
type file struct {
	directory, name string
	data            []byte
	mode            fs.FileMode
}

// errDamaged is what the old format says of all that is wrong: it is not authenticated.
var errDamaged = errors.New("the archive in it is damaged, or cut off")

// unpack takes nothing but the files that a CA's backup has, each once, and none that is larger than they ever are.
func unpack(packed []byte) ([]file, error) {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errDamaged
	}
	bounded := &io.LimitedReader{R: zip, N: totalLimit}
	var out []file
	for r := tar.NewReader(bounded); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errDamaged
		}
		f, err := expected(head)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o file) bool { return o.directory == f.directory && o.name == f.name }) {
			return nil, fmt.Errorf("%.80q stands in it twice", head.Name)
		}
		if f.data, err = io.ReadAll(r); err != nil || int64(len(f.data)) != head.Size {
			return nil, errDamaged
		}
		out = append(out, f)
	}
	if _, err := io.Copy(io.Discard, bounded); err != nil || bounded.N == 0 { // to the checksum at its end
		return nil, errDamaged
	}
	return out, nil
}

func expected(head *tar.Header) (file, error) {
	parts := strings.Split(head.Name, "/")
	if head.Typeflag != tar.TypeReg || len(parts) != 3 || parts[0] != "secrets" ||
		!slices.Contains(directories, parts[1]) ||
		!slices.Contains(names, parts[2]) {
		return file{}, fmt.Errorf("%.80q is nothing that a CA's backup holds", head.Name)
	}
	if head.Size < 1 || head.Size > sizeLimit {
		return file{}, fmt.Errorf("%.80q has %d bytes", head.Name, head.Size)
	}
	mode := fs.FileMode(0o600)
	if parts[2] == passwordFile {
		mode = 0o400
	}
	return file{directory: parts[1], name: parts[2], mode: mode}, nil
}

// RootIn is the fingerprint of the root in a directory of the secrets.
func RootIn(h host.Host, dir string) (string, error) {
	raw, err := h.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return "", err
	}
	root, err := parse(raw)
	if err != nil || root.CheckSignatureFrom(root) != nil {
		return "", errors.New("the root's certificate is no self-signed certificate")
	}
	return fingerprint(root), nil
}

func parse(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the certificate is no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
