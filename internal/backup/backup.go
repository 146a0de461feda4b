// Package backup seals what a CA cannot do without, its roots and intermediates with their keys and passwords, into one file, and
// brings it back. Both happen in the CA's own container: outside there is only the sealed file. All else that a CA has is
// derived, or made anew by those who need it.
//
// The file is what `openssl enc -aes-256-cbc -pbkdf2 -iter 600000` writes, so that it can be opened without phoenix; in it is a
// tar.gz. The cipher does not tell whether somebody changed the file: what comes out has to be the pinned root, with its own key.
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
	"strconv"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// folders of the CA's secrets, the one that makes it a CA last.
var folders = []string{"old-root", "next-intermediate", "next-root", "intermediate", rootFolder}

const (
	rootFolder = "root"
	rootFile   = "ca.crt"
	sizeLimit  = 1 << 20 // bytes of one file
)

// Make seals the secrets below dir, a CA's volume, and tells the root's fingerprint.
func Make(h host.Host, dir string, password []byte) (sealed []byte, fingerprint string, err error) {
	secrets := filepath.Join(dir, "secrets")
	if fingerprint, err = RootIn(h, filepath.Join(secrets, rootFolder)); err != nil {
		return nil, "", fmt.Errorf("there is no root to back up: %w", err)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	w := tar.NewWriter(zip)
	for _, folder := range folders {
		names, err := h.ReadDir(filepath.Join(secrets, folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		for _, n := range names {
			if err := pack(w, h, secrets, filepath.Join(folder, n)); err != nil {
				return nil, "", err
			}
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		return nil, "", err
	}
	sealed, err = seal(packed.Bytes(), password)
	return sealed, fingerprint, err
}

func pack(w *tar.Writer, h host.Host, secrets, name string) error {
	m, err := h.Lstat(filepath.Join(secrets, name))
	if err != nil || !m.Mode.IsRegular() {
		return err
	}
	raw, err := h.ReadFile(filepath.Join(secrets, name))
	if err != nil {
		return err
	}
	head := &tar.Header{Name: "secrets/" + name, Mode: int64(m.Mode.Perm()), Size: int64(len(raw)), ModTime: m.ModTime, Typeflag: tar.TypeReg}
	if err := w.WriteHeader(head); err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// file is one of the archive, by folder and name.
type file struct {
	folder, name string
	data         []byte
	mode         fs.FileMode
}

// unpack opens a sealed file and takes nothing but files of the known folders.
func unpack(sealed, password []byte) ([]file, error) {
	packed, err := open(sealed, password)
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errPassword
	}
	var out []file
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errPassword
		}
		parts := strings.Split(head.Name, "/")
		if head.Typeflag != tar.TypeReg || len(parts) != 3 || parts[0] != "secrets" || !slices.Contains(folders, parts[1]) || strings.HasPrefix(parts[2], ".") {
			return nil, fmt.Errorf("%.80q is nothing that a CA's backup holds", head.Name)
		}
		data, err := io.ReadAll(io.LimitReader(r, sizeLimit))
		if err != nil {
			return nil, errPassword
		}
		out = append(out, file{parts[1], parts[2], data, fs.FileMode(head.Mode).Perm() &^ 0o077})
	}
}

// Restore puts the secrets back below dir and tells the root's fingerprint. With a pinned fingerprint no other root is put there, and
// another root that stands there is never replaced. What stands in the way of the same root is kept beside.
func Restore(h host.Host, dir, pinned string, sealed, password []byte) (string, error) {
	all, err := unpack(sealed, password)
	if err != nil {
		return "", err
	}
	fingerprint, err := rootOf(all)
	if err != nil {
		return "", err
	}
	secrets := filepath.Join(dir, "secrets")
	there, err := RootIn(h, filepath.Join(secrets, rootFolder))
	switch {
	case pinned != "" && fingerprint != pinned:
		return "", fmt.Errorf("the backup holds the root sha256 %s, pinned is %s", fingerprint, pinned)
	case err == nil && there != fingerprint:
		return "", fmt.Errorf("the volume holds another root, sha256 %s, than the backup, %s", there, fingerprint)
	}
	for _, folder := range folders {
		if err := putFolder(h, secrets, folder, all); err != nil {
			return "", err
		}
	}
	return fingerprint, nil
}

// putFolder writes a folder beside and renames it. It is left alone where the archive does not have it.
func putFolder(h host.Host, secrets, folder string, all []file) error {
	if !slices.ContainsFunc(all, func(f file) bool { return f.folder == folder }) {
		return nil
	}
	staging, final := filepath.Join(secrets, "."+folder), filepath.Join(secrets, folder)
	if err := h.RemoveAll(staging); err != nil {
		return err
	}
	if err := h.MkdirAll(staging, 0o700, host.Root); err != nil {
		return err
	}
	for _, f := range all {
		if f.folder != folder {
			continue
		}
		if err := h.WriteFile(filepath.Join(staging, f.name), f.data, f.mode, host.Root); err != nil {
			return err
		}
	}
	if _, err := h.Lstat(final); err == nil {
		if err := h.Rename(final, filepath.Join(secrets, "lost-"+folder+"-"+strconv.FormatInt(h.Now().UnixNano(), 10))); err != nil {
			return err
		}
	}
	return h.Rename(staging, final)
}

// RootIn is the fingerprint of the root in a folder of the secrets.
func RootIn(h host.Host, dir string) (string, error) {
	raw, err := h.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return "", err
	}
	return fingerprintOf(raw)
}

func rootOf(all []file) (string, error) {
	for _, f := range all {
		if f.folder == rootFolder && f.name == rootFile {
			return fingerprintOf(f.data)
		}
	}
	return "", errors.New("the backup holds no root")
}

func fingerprintOf(raw []byte) (string, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return "", errors.New("the root's certificate is no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil || root.CheckSignatureFrom(root) != nil {
		return "", errors.New("the root's certificate is no self-signed certificate")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}
