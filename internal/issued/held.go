package issued

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"regexp"
	"slices"
)

// Places are the files of one container that say which certificates are its own.
type Places struct {
	Accounts     []string `json:"accounts,omitempty"`     // of phoenix's own orders: account.json
	Storages     []string `json:"storages,omitempty"`     // of Traefik: acme.json
	Certificates []string `json:"certificates,omitempty"` // PEM
}

// Held is what a container says is its own. It may lie: what it says counts for its own names only (Judge).
type Held struct {
	// set always: a phoenix that does not know the question answers without it
	Asked    bool     `json:"asked"`
	Accounts []string `json:"accounts,omitempty"` // thumbprints
	Serials  []string `json:"serials,omitempty"`  // lower-case hex
}

// FormerAccounts is what the name of the file beside a storage ends in that has the thumbprints of its accounts of
// before, as JSON.
const FormerAccounts = ".accounts"

const (
	heldFileMost = 16 << 20 // bytes
	accountsMost = 32
	serialsMost  = 1024
)

// Bounded is as much of it as is believed.
func (h Held) Bounded() Held {
	h.Accounts = slices.DeleteFunc(h.Accounts, func(a string) bool { return !isThumbprint.MatchString(a) })
	h.Accounts, h.Serials = h.Accounts[:min(len(h.Accounts), accountsMost)],
		h.Serials[:min(len(h.Serials), serialsMost)]
	return h
}

var isThumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// Hold reads the files in the container that it runs in. What cannot be read is passed over: it proves nothing then.
func Hold(p Places) Held {
	var out Held
	for _, path := range p.Accounts {
		var a struct {
			Key    string
			Before []string
		}
		if text, err := readSome(path); err == nil && json.Unmarshal(text, &a) == nil {
			out.Accounts = append(out.Accounts, a.Before...)
			if block, _ := pem.Decode([]byte(a.Key)); block != nil {
				out.account(block.Bytes)
			}
		}
	}
	for _, path := range p.Storages {
		out.storage(path)
		var before []string
		if text, err := readSome(path + FormerAccounts); err == nil && json.Unmarshal(text, &before) == nil {
			out.Accounts = append(out.Accounts, before...)
		}
	}
	for _, path := range p.Certificates {
		if text, err := readSome(path); err == nil {
			out.certificate(text)
		}
	}
	slices.Sort(out.Accounts)
	slices.Sort(out.Serials)
	return Held{Asked: true, Accounts: slices.Compact(out.Accounts), Serials: slices.Compact(out.Serials)}
}

// storage is Traefik's (StoredData in its pkg/provider/acme).
func (h *Held) storage(path string) {
	var all map[string]struct {
		Account      struct{ PrivateKey []byte }
		Certificates []struct {
			Certificate []byte `json:"certificate"`
		}
	}
	text, err := readSome(path)
	if err != nil || json.Unmarshal(text, &all) != nil {
		return
	}
	for _, resolver := range all {
		h.account(resolver.Account.PrivateKey)
		for _, c := range resolver.Certificates {
			h.certificate(c.Certificate)
		}
	}
}

func (h *Held) certificate(text []byte) {
	block, _ := pem.Decode(text)
	if block == nil {
		return
	}
	if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
		h.Serials = append(h.Serials, leaf.SerialNumber.Text(16))
	}
}

// account adds the thumbprint of a private key (DER).
func (h *Held) account(der []byte) {
	if print := Thumbprint(der); print != "" {
		h.Accounts = append(h.Accounts, print)
	}
}

// Thumbprint is that of the public part of a private key (DER); empty: it is none that is known here.
func Thumbprint(der []byte) string {
	if len(der) == 0 {
		return ""
	}
	var key any
	var err error
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
	} {
		if key, err = parse(der); err == nil {
			break
		}
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return ""
	}
	return thumbprint(jwkOf(signer.Public()))
}

// jwkOf is a public key as JSON (RFC 7518, section 6).
func jwkOf(public crypto.PublicKey) json.RawMessage {
	text := base64.RawURLEncoding.EncodeToString
	members := map[string]string{}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			return nil
		}
		half := (len(point) - 1) / 2
		members = map[string]string{"kty": "EC", "crv": k.Params().Name, "x": text(point[1 : 1+half]),
			"y": text(point[1+half:])}
	case *rsa.PublicKey:
		members = map[string]string{"kty": "RSA", "n": text(k.N.Bytes()), "e": text(big.NewInt(int64(k.E)).Bytes())}
	}
	out, err := json.Marshal(members)
	if err != nil {
		return nil
	}
	return out
}

func readSome(path string) ([]byte, error) {
	f, err := open(path, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, heldFileMost+1))
	if err == nil && len(b) > heldFileMost {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("too large")}
	}
	return b, err
}
