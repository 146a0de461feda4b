package cli

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

// What was in the shared directory. The kinds are what was to be kept secret.
const (
	kindKey         = "private key"
	kindSealed      = "encrypted private key, its password beside it"
	kindPassword    = "password"
	kindProvisioner = "provisioner's key"
	kindDatabase    = "database of the CA"
)

// secret is one thing in the shared directory that was to be kept secret.
type secret struct {
	kind, path string // path in the directory
	about      string
	root       bool
}

type plainKey struct {
	path   string
	public crypto.PublicKey
	text   []byte // PEM
}

// inventory is what lies in the shared directory, or lay: of the closed copy.
type inventory struct {
	directory string
	secrets   []secret
	certs     map[string]*x509.Certificate // by path
	keys      []plainKey
	rootRef   string // base name of the root, as ca.json has it
}

const (
	inventoryFile    = 64 << 10
	inventoryDepth   = 8
	inventoryEntries = 1 << 16
)

func (m *mover) inventory() (*inventory, error) {
	directory := m.journal.copy()
	if !m.journal.there(directory) {
		directory = m.old.shared
	}
	v := &inventory{directory: directory, certs: map[string]*x509.Certificate{}}
	return v, v.read()
}

// read looks at all that is in the directory, which containers may change meanwhile: no link leads out of it.
func (v *inventory) read() error {
	limits := host.TreeLimits{Depth: inventoryDepth, Size: inventoryFile, Entries: inventoryEntries}
	if err := host.ReadTree(v.directory, limits, v.visit); err != nil {
		return err
	}
	for i, s := range v.secrets {
		v.secrets[i].root = s.root ||
			slices.ContainsFunc(v.keys, func(k plainKey) bool { return k.path == s.path && v.ofRoot(k) })
	}
	slices.SortFunc(v.secrets, func(a, b secret) int { return cmp.Compare(a.path, b.path) })
	return nil
}

// visit takes in what stands at a path. Of the CA's database it is enough that it is there.
func (v *inventory) visit(e host.Entry) (enter bool) {
	switch {
	case e.IsDir && filepath.Base(e.Path) == "db":
		v.secrets = append(v.secrets, secret{kind: kindDatabase, path: e.Path, about: "orders and accounts"})
		return false
	case !e.IsDir && e.Size <= inventoryFile:
		v.file(e.Path, e.Data)
	}
	return true
}

func (v *inventory) file(path string, raw []byte) {
	name := strings.ToLower(filepath.Base(path))
	if name == "ca.json" {
		v.authority(path, raw)
		return
	}
	found := false
	for b, rest := pem.Decode(raw); b != nil; b, rest = pem.Decode(rest) {
		found = true
		v.block(path, b)
	}
	if word := bytes.TrimSpace(raw); !found && len(word) > 0 && len(word) <= 1024 && !bytes.ContainsRune(word, '\n') &&
		strings.Contains(name, "pass") {
		v.secrets = append(v.secrets, secret{kind: kindPassword, path: path})
	}
}

func (v *inventory) block(path string, b *pem.Block) {
	switch {
	case b.Type == "CERTIFICATE":
		if c, err := x509.ParseCertificate(b.Bytes); err == nil && v.certs[path] == nil {
			v.certs[path] = c
		}
	case strings.HasSuffix(b.Type, "PRIVATE KEY") &&
		(strings.HasPrefix(b.Type, "ENCRYPTED") || b.Headers["DEK-Info"] != ""):
		v.secrets = append(v.secrets,
			secret{kind: kindSealed, path: path, root: strings.Contains(strings.ToLower(filepath.Base(path)), "root")})
	case strings.HasSuffix(b.Type, "PRIVATE KEY"):
		if public := publicOf(b.Bytes); public != nil {
			v.keys = append(v.keys, plainKey{path, public, pem.EncodeToMemory(b)})
		}
		v.secrets = append(v.secrets, secret{kind: kindKey, path: path})
	}
}

func publicOf(der []byte) crypto.PublicKey {
	var key any
	for _, parse := range []func([]byte) (any, error){
		func(b []byte) (any, error) { return x509.ParsePKCS8PrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
	} {
		if k, err := parse(der); err == nil {
			key = k
			break
		}
	}
	if s, ok := key.(crypto.Signer); ok {
		return s.Public()
	}
	return nil
}

// publicDigest is how spec.Certificate.Leaked names a key.
func publicDigest(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// authority reads ca.json: which root it names, and the provisioners whose keys it holds.
func (v *inventory) authority(path string, raw []byte) {
	var ca struct {
		Root      string `json:"root"`
		Authority struct {
			Provisioners []struct {
				Type string `json:"type"`
				Name string `json:"name"`
				Key  string `json:"encryptedKey"`
			} `json:"provisioners"`
		} `json:"authority"`
	}
	if json.Unmarshal(raw, &ca) != nil {
		return
	}
	v.rootRef = filepath.Base(ca.Root)
	for _, p := range ca.Authority.Provisioners {
		if p.Key != "" {
			v.secrets = append(v.secrets, secret{kind: kindProvisioner, path: path, about: p.Type + " " + p.Name})
		}
	}
}

// leaked names every key that certificates in the directory have: whoever saw it may have the private half.
func (v *inventory) leaked() []string {
	var out []string
	for _, c := range v.certs {
		out = append(out, publicDigest(c.PublicKey))
	}
	for _, k := range v.keys {
		out = append(out, publicDigest(k.public))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (v *inventory) roots() []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range v.certs {
		if c.IsCA && c.CheckSignatureFrom(c) == nil && !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

func (v *inventory) ofRoot(k plainKey) bool {
	return slices.ContainsFunc(v.roots(),
		func(c *x509.Certificate) bool { return publicDigest(c.PublicKey) == publicDigest(k.public) })
}

// root is the fingerprint of the CA's root: the one that its configuration names, else the only one.
func (v *inventory) root() (string, error) {
	list := v.roots()
	for path, c := range v.certs {
		if len(list) > 1 && v.rootRef != "" && filepath.Base(path) == v.rootRef && slices.ContainsFunc(list, c.Equal) {
			list = []*x509.Certificate{c}
			break
		}
	}
	if len(list) != 1 {
		return "", hint("there must be one, or a ca.json that names it", "%s holds %d root certificates", v.directory,
			len(list))
	}
	sum := sha256.Sum256(list[0].Raw)
	return hex.EncodeToString(sum[:]), nil
}

// leaks tells what others could read, and what became of it.
func (m *mover) leaks(done bool) ([]view.Leak, error) {
	found, err := m.inventory()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []view.Leak
	for _, s := range found.secrets {
		l := view.Leak{Item: s.kind, Path: filepath.Join(m.old.shared, s.path), Why: m.exposed(s.path), Mended: done}
		if s.about != "" {
			l.Item += " (" + s.about + ")"
		}
		if l.Remedy, l.Mended = remedy(s, done); s.root && done {
			if l.Mended, err = m.rootReplaced(); err != nil {
				return nil, err
			}
		}
		if s.root && l.Mended {
			l.Remedy = "a new root: no container trusts the old one any more; remove it from phones, browsers and " +
				"other machines, and destroy older backups of the CA"
		}
		out = append(out, l)
	}
	return out, nil
}

func remedy(s secret, done bool) (string, bool) {
	switch {
	case s.root:
		return "only a new root helps; until then whoever read it can sign any name: " + newRootCommand, false
	case s.kind == kindProvisioner:
		return "the provisioner is gone: ACME is the only one, and 101 and 102 have no password any more", done
	case s.kind == kindDatabase:
		return "begun anew: clients register and order again by themselves", done
	case s.kind == kindPassword:
		return "a new one for each key, made in the CA's container", done
	case s.kind == kindSealed:
		return "the CA has a new intermediate with a new key", done
	}
	return "a new key, made where it is used; this one is refused from now on", done
}

// newRootCommand makes a new root while clients learn it.
const newRootCommand = "phoenix ca rotate --new-root --yes"

// exposed says who could read a file of the shared directory.
func (m *mover) exposed(path string) string {
	why := []string{"mounted in " + strings.Join(m.old.sharedWith, ", ")}
	if mode, uid, err := host.LstatIn(m.old.shared, path); err == nil {
		if mode.Perm()&0o007 != 0 {
			why = append(why, fmt.Sprintf("mode %04o", mode.Perm()))
		}
		if uid == 65534 {
			why = append(why, "owner nobody")
		}
	}
	return strings.Join(why, ", ")
}
