package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/keybox"
)

func init() { workFactor, iterations = 8, 1000 } // two hundred passwords are tried here

var key = Key{Password: []byte("correct horse battery")}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority is a CA's certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string, by *authority) *authority {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return issue(t, name, k, by)
}

func issue(t testing.TB, name string, k *ecdsa.PrivateKey, by *authority) *authority {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	parent, signer := tmpl, k
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, k.Public(), signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{cert, k}
}

func (a *authority) files(t testing.TB, directory string) []file {
	t.Helper()
	word := keybox.NewPassword()
	sealed, err := keybox.Seal(a.key, word)
	must(t, err)
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	return []file{{directory, rootFile, pemCert, 0o600}, {directory, keyFile, sealed, 0o600},
		{directory, passwordFile, word, 0o400}}
}

// set is all that a CA has.
func set(t testing.TB) (all []file, root *authority) {
	t.Helper()
	root = newAuthority(t, "root", nil)
	return slices.Concat(newAuthority(t, "intermediate", root).files(t, "intermediate"), root.files(t, rootDirectory)),
		root
}

// volume is a CA's, with these files.
func volume(t testing.TB, all []file) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of root's need root")
	}
	dir := t.TempDir()
	for _, f := range all {
		path := filepath.Join(dir, "secrets", f.directory, f.name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, f.data, f.mode))
	}
	return dir
}

// listed is what is below a directory, with its content.
func listed(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(raw)
		return err
	}))
	return out
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func seal(t testing.TB, all []file) []byte {
	t.Helper()
	packed, err := pack(all)
	must(t, err)
	sealed, err := key.encrypt(packed)
	must(t, err)
	return sealed
}

// sealOld is how backups were encrypted before: openssl enc -aes-256-cbc -pbkdf2 -iter 600000.
func sealOld(t testing.TB, plain []byte) []byte {
	t.Helper()
	salt := []byte("saltsalt")
	block, iv, err := cipherOf(key.Password, salt)
	must(t, err)
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return append(append([]byte(magic), salt...), data...)
}

// What was encrypted comes back into an empty volume, closed to others; the second time nothing is changed.
func TestBackAgain(t *testing.T) {
	all, root := set(t)
	from, to, h := volume(t, all), t.TempDir(), &host.Local{}
	sealed, print, err := Make(h, from, key)
	must(t, err)
	if print != fingerprint(root.cert) || bytes.Contains(sealed, []byte("CERTIFICATE")) {
		t.Errorf("the root is %s, or the backup can be read", print)
	}
	got, err := Restore(h, to, print, sealed, key)
	if err != nil || got.Root != print || got.Changes != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if !equal(listed(t, from), listed(t, to)) {
		t.Errorf("other files came back: %v", slices.Sorted(maps.Keys(listed(t, to))))
	}
	must(t, filepath.WalkDir(filepath.Join(to, "secrets"), func(path string, d os.DirEntry, err error) error {
		if fi, err := d.Info(); path != filepath.Join(to, "secrets") && (err != nil || fi.Mode().Perm()&0o077 != 0) {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
		return err
	}))
	counted := host.NewCounted(h, nil)
	if got, err := Restore(counted, to, print, sealed, key); err != nil || got.Changes != 0 ||
		counted.Mutations() != 0 {
		t.Errorf("the same again: %+v, %d changes, %v", got, counted.Mutations(), err)
	}
}

// Files of before are still read.
func TestFilesOfBefore(t *testing.T) {
	all, root := set(t)
	packed, err := pack(all)
	must(t, err)
	to := volume(t, nil)
	if got, err := Restore(&host.Local{}, to, fingerprint(root.cert), sealOld(t, packed), key); err != nil ||
		got.Changes != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, tool := range []string{"openssl", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("no " + tool)
		}
	}
	defer func(tests int) { iterations = tests }(iterations)
	iterations = opensslIterations
	cmd := exec.Command("openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-pass", "stdin-not-used")
	secret := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(secret, key.Password, 0o600))
	cmd.Args[len(cmd.Args)-1] = "file:" + secret
	cmd.Stdin = bytes.NewReader(packed)
	sealed, err := cmd.Output()
	must(t, err)
	if got, err := Inspect(sealed, key); err != nil || got != fingerprint(root.cert) {
		t.Errorf("of openssl's own: %s, %v", got, err)
	}
}

// For recipients, each of which opens it, and nobody else.
func TestRecipients(t *testing.T) {
	all, root := set(t)
	from, h := volume(t, all), &host.Local{}
	one, err := age.GenerateX25519Identity()
	must(t, err)
	two, err := age.GenerateX25519Identity()
	must(t, err)
	other, err := age.GenerateX25519Identity()
	must(t, err)
	list, err := CheckRecipients([]string{"# a comment", "", one.Recipient().String(), " " + two.Recipient().String()})
	must(t, err)
	sealed, _, err := Make(h, from, Key{Recipients: list})
	must(t, err)
	for _, i := range []*age.X25519Identity{one, two} {
		if got, err := Inspect(sealed, Key{Identity: []byte("# created\n" + i.String() + "\n")}); err != nil ||
			got != fingerprint(root.cert) {
			t.Errorf("%s, %v", got, err)
		}
	}
	if _, err := Inspect(sealed, Key{Identity: []byte(other.String())}); err == nil ||
		strings.Contains(err.Error(), other.String()) {
		t.Errorf("another identity: %v", err)
	}
	if _, err := Inspect(sealed, key); err == nil {
		t.Error("a password opens it")
	}
	for _, bad := range [][]string{nil, {""}, {"age1nonsense"}, {other.String()}} {
		if _, err := CheckRecipients(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if CheckIdentity([]byte("nonsense")) == nil {
		t.Error("nonsense is an identity")
	}
}

// Whatever is wrong with a backup, nothing is written, and a root that works stays.
func TestRefused(t *testing.T) {
	all, root := set(t)
	sealed, other := seal(t, all), newAuthority(t, "another", nil)
	change := func(directory, name string, data []byte) []byte {
		bad := slices.Clone(all)
		for i, f := range bad {
			if f.directory == directory && f.name == name {
				bad[i].data = data
			}
		}
		return seal(t, bad)
	}
	flip := bytes.Clone(sealed)
	flip[len(flip)-20] ^= 1
	strange, _ := set(t)
	h := &host.Local{}
	for name, c := range map[string]struct {
		pinned string
		sealed []byte
		key    Key
		want   string
	}{
		"empty":             {"", nil, key, "is empty"},
		"something else":    {"", []byte("something else"), key, "no backup"},
		"large":             {"", make([]byte, Limit+1), key, "larger than"},
		"wrong password":    {"", sealed, Key{Password: []byte("another password")}, "does not open"},
		"short password":    {"", sealed, Key{Password: []byte("short")}, "12 characters"},
		"cut off":           {"", sealed[:len(sealed)-7], key, "cut off"},
		"one bit":           {"", flip, key, "changed"},
		"half a header":     {"", sealed[:30], key, "does not open"},
		"another pin":       {strings.Repeat("ab", 32), sealed, key, "pinned is abab"},
		"another root":      {"", seal(t, strange), key, "another root"},
		"garbage for a key": {"", change(rootDirectory, keyFile, []byte("garbage")), key, "root: "},
		"another's key":     {"", change(rootDirectory, keyFile, other.files(t, "x")[1].data), key, "root: "},
		"another's pair": {"", seal(t, slices.Concat(all[:3], all[3:4], other.files(t, rootDirectory)[1:])), key,
			"does not belong"},
		"another's password": {"", change("intermediate", passwordFile, []byte("wrong")), key, "intermediate: "},
		"a foreign one": {"",
			seal(t, slices.Concat(newAuthority(t, "i", other).files(t, "intermediate"), all[3:])), key,
			"signed by no root"},
		"a root of another": {"", seal(t, newAuthority(t, "r", other).files(t, rootDirectory)), key,
			"not signed by itself"},
		"no root":               {"", seal(t, all[:3]), key, "no root"},
		"no key":                {"", seal(t, slices.Concat(all[:1], all[2:])), key, "key is missing"},
		"an empty key":          {"", change(rootDirectory, keyFile, nil), key, "0 bytes"},
		"a large key":           {"", change(rootDirectory, keyFile, make([]byte, sizeLimit+1)), key, "65537 bytes"},
		"old, empty":            {"", []byte(magic), key, "half of one"},
		"old, nothing in it":    {"", sealOld(t, nil), key, "does not open"},
		"old, cut off":          {"", sealOld(t, mustPack(t, all)[:200]), key, "damaged"},
		"old, with an identity": {"", sealOld(t, mustPack(t, all)), Key{Identity: []byte("x")}, "--password-file"},
	} {
		empty, working := volume(t, nil), volume(t, all)
		before := listed(t, working)
		for _, dir := range []string{empty, working} {
			if name == "another root" && dir == empty {
				continue
			}
			_, err := Restore(h, dir, c.pinned, c.sealed, c.key)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", name, err, c.want)
			}
		}
		if len(listed(t, empty)) > 0 || !equal(before, listed(t, working)) {
			t.Errorf("%s: something was written", name)
		}
	}
	if _, _, err := Make(h, volume(t, nil), key); err == nil {
		t.Error("an empty volume was backed up")
	}
	broken := slices.Clone(all)
	broken[4].data = []byte("garbage")
	if _, _, err := Make(h, volume(t, broken), key); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("keys that do not work were backed up: %v", err)
	}
	_ = root
}

func mustPack(t testing.TB, all []file) []byte {
	t.Helper()
	packed, err := pack(all)
	must(t, err)
	return packed
}

// tarOf is an archive with these entries, as a stranger might make it.
func tarOf(t testing.TB, heads ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, head := range heads {
		must(t, w.WriteHeader(&head))
		_, err := w.Write(make([]byte, head.Size))
		must(t, err)
	}
	must(t, w.Close())
	must(t, zip.Close())
	return out.Bytes()
}

// Nothing but plain files of the known names comes out of an archive, and never more than a CA has.
func TestStrangeArchives(t *testing.T) {
	plain := tar.Header{Name: "secrets/root/key", Typeflag: tar.TypeReg, Size: 1, Mode: 0o600}
	for name, head := range map[string]tar.Header{
		"up":        {Name: "secrets/../../etc/passwd", Typeflag: tar.TypeReg, Size: 1},
		"absolute":  {Name: "/etc/passwd", Typeflag: tar.TypeReg, Size: 1},
		"dots":      {Name: "secrets/root/..", Typeflag: tar.TypeReg, Size: 1},
		"hidden":    {Name: "secrets/root/.key", Typeflag: tar.TypeReg, Size: 1},
		"unknown":   {Name: "secrets/root/x", Typeflag: tar.TypeReg, Size: 1},
		"folder":    {Name: "secrets/other/key", Typeflag: tar.TypeReg, Size: 1},
		"link":      {Name: "secrets/root/key", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"},
		"hard link": {Name: "secrets/root/key", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"},
		"device":    {Name: "secrets/root/key", Typeflag: tar.TypeBlock},
		"fifo":      {Name: "secrets/root/key", Typeflag: tar.TypeFifo},
		"directory": {Name: "secrets/root/key", Typeflag: tar.TypeDir},
		"large":     {Name: "secrets/root/key", Typeflag: tar.TypeReg, Size: sizeLimit + 1},
	} {
		if got, err := unpack(tarOf(t, head)); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, err := unpack(tarOf(t, plain, plain)); err == nil {
		t.Error("a file stands in it twice")
	}
	var member bytes.Buffer
	zip := gzip.NewWriter(&member)
	_, err := io.CopyN(zip, zeros{}, 1<<20)
	must(t, err)
	must(t, zip.Close())
	bomb := bytes.Repeat(member.Bytes(), 256) // members of one file follow each other (RFC 1952)
	start := time.Now()
	if _, err := unpack(bomb); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("a bomb: %v after %s", err, time.Since(start))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Older keys of the same root give way, and no copy of them is left; another root's are not touched.
func TestCopiesAreDestroyed(t *testing.T) {
	all, root := set(t)
	older := slices.Concat(newAuthority(t, "older", root).files(t, "intermediate"), root.files(t, rootDirectory))
	dir, h := volume(t, older), &host.Local{}
	other := newAuthority(t, "other", nil)
	for _, f := range slices.Concat(root.files(t, "lost-root-1"), older[:3], other.files(t, "lost-root-2")) {
		if f.directory == "intermediate" {
			f.directory = "lost-intermediate-7"
		}
		path := filepath.Join(dir, "secrets", f.directory, f.name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, f.data, 0o600))
	}
	open, err := os.Open(filepath.Join(dir, "secrets", "lost-root-1", keyFile))
	must(t, err)
	defer open.Close()
	got, err := Restore(h, dir, "", seal(t, all), key)
	if err != nil || got.Changes != 2+4 {
		t.Fatalf("%+v, %v", got, err)
	}
	var left []string
	entries, err := os.ReadDir(filepath.Join(dir, "secrets"))
	must(t, err)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if !slices.Equal(left, []string{"intermediate", "lost-root-2", "root"}) {
		t.Errorf("left %v", left)
	}
	if raw, err := io.ReadAll(open); err != nil || bytes.Contains(raw, []byte("PRIVATE KEY")) {
		t.Errorf("the copy was not written over: %q, %v", raw, err)
	}
}

// Killed after every single change and run again, it ends the same.
func TestKilledAnywhere(t *testing.T) {
	all, root := set(t)
	older := slices.Concat(newAuthority(t, "older", root).files(t, "intermediate"), root.files(t, rootDirectory))
	sealed := seal(t, all)
	for at := 1; ; at++ {
		dir := volume(t, older)
		faulty := &host.Faulty{Host: &host.Local{}, At: at}
		_, killed := Restore(faulty, dir, fingerprint(root.cert), sealed, key)
		if _, err := Restore(&host.Local{}, dir, fingerprint(root.cert), sealed, key); err != nil {
			t.Fatalf("killed at %d: %v", at, err)
		}
		want := volume(t, all)
		if !equal(listed(t, want), listed(t, dir)) {
			t.Errorf("killed at %d: %v", at, slices.Sorted(maps.Keys(listed(t, dir))))
		}
		if killed == nil {
			if at < 10 {
				t.Errorf("only %d changes", at)
			}
			return
		}
	}
}

// FuzzOpen feeds what a stranger may hand in.
func FuzzOpen(f *testing.F) {
	all, _ := set(f)
	packed := mustPack(f, all)
	f.Add(packed)
	f.Add(packed[:len(packed)/2])
	f.Add([]byte{})
	f.Add(tarOf(f, tar.Header{Name: "secrets/root/key", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := unpack(raw)
		if err != nil {
			return
		}
		for _, x := range got {
			if !slices.Contains(directories, x.directory) || !slices.Contains(names, x.name) ||
				len(x.data) > sizeLimit {
				t.Fatalf("%s/%s of %d bytes came out", x.directory, x.name, len(x.data))
			}
		}
		_, _ = verify(got) // never panics
	})
}
