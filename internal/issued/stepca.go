package issued

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/bolt"
)

// The buckets of step-ca's database (github.com/smallstep/certificates v0.30.2: db/db.go, acme/db/nosql/nosql.go).
const (
	bucketCertificates = "x509_certs"              // serial (decimal): DER
	bucketSerials      = "acme_serial_certs_index" // serial (decimal): JSON with the id in
	bucketACME         = "acme_certs"              // id: JSON with the account's and the order's id
	bucketAccounts     = "acme_accounts"           // id: JSON with the key
)

// readCertificates gathers the valid ones. What is known already is not read again.
func readCertificates(b *bolt.Snapshot, c *collection) error {
	return b.Each(bucketCertificates, func(_, der []byte) error {
		serial, end, ok := glance(der)
		if !ok || !c.now.Before(end) || c.all[serial] != nil {
			return nil
		}
		leaf, err := x509.ParseCertificate(slices.Clone(der))
		if err != nil {
			return nil // not one that anybody could use
		}
		x := describe(leaf)
		x.Pending = true // until its order is found
		c.add(x)
		return nil
	})
}

// glance reads a certificate's serial and end, and nothing else.
func glance(der []byte) (serial string, end time.Time, ok bool) {
	var c struct {
		TBS struct {
			Version   int `asn1:"optional,explicit,default:0,tag:0"`
			Serial    *big.Int
			Algorithm asn1.RawValue
			Issuer    asn1.RawValue
			Validity  struct{ NotBefore, NotAfter time.Time }
		}
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil || c.TBS.Serial == nil {
		return "", time.Time{}, false
	}
	return c.TBS.Serial.Text(16), c.TBS.Validity.NotAfter, true
}

func describe(leaf *x509.Certificate) Certificate {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	x := Certificate{
		Serial: leaf.SerialNumber.Text(16), Names: slices.Clone(leaf.DNSNames), Key: hex.EncodeToString(sum[:]),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
	}
	for _, ip := range leaf.IPAddresses {
		x.Names = append(x.Names, ip.String())
	}
	if len(x.Names) == 0 {
		x.Names = []string{leaf.Subject.CommonName}
	}
	slices.Sort(x.Names)
	x.Names = slices.Compact(x.Names)
	return x
}

// readOrders finds the account of each certificate of which it is not known yet.
func readOrders(b *bolt.Snapshot, c *collection) error {
	accounts := map[string]string{}
	for serial, x := range c.all {
		if x.Account != "" {
			continue
		}
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			continue
		}
		var index struct{ CertificateID string }
		var issued struct {
			AccountID, OrderID string
			Intermediates      []byte
		}
		var account struct{ Key json.RawMessage }
		if found, err := lookup(b, bucketSerials, n.String(), &index); err != nil || !found {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := lookup(b, bucketACME, index.CertificateID, &issued); err != nil {
			return err
		}
		thumb, known := accounts[issued.AccountID]
		if !known {
			if _, err := lookup(b, bucketAccounts, issued.AccountID, &account); err != nil {
				return err
			}
			thumb = thumbprint(account.Key)
			accounts[issued.AccountID] = thumb
		}
		x.Pending, x.Account, x.AccountID, x.Order = false, thumb, issued.AccountID, issued.OrderID
		if block, _ := pem.Decode(issued.Intermediates); block != nil {
			if issuer, err := x509.ParseCertificate(block.Bytes); err == nil {
				x.Root = hex.EncodeToString(issuer.AuthorityKeyId)
			}
		}
	}
	return nil
}

func lookup(b *bolt.Snapshot, bucket, key string, into any) (bool, error) {
	raw, err := b.Get(bucket, []byte(key))
	if err != nil || raw == nil {
		return false, err
	}
	return json.Unmarshal(raw, into) == nil, nil
}

// thumbprint is that of a JSON Web Key (RFC 7638); empty: it is none of the kinds that ACME accounts have.
func thumbprint(jwk json.RawMessage) string {
	var k struct{ Kty, Crv, X, Y, N, E string }
	if json.Unmarshal(jwk, &k) != nil {
		return ""
	}
	var members any // in the order of their names
	switch k.Kty {
	case "EC":
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{k.Crv, k.Kty, k.X, k.Y}
	case "RSA":
		members = struct {
			E   string `json:"e"`
			Kty string `json:"kty"`
			N   string `json:"n"`
		}{k.E, k.Kty, k.N}
	case "OKP":
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
		}{k.Crv, k.Kty, k.X}
	default:
		return ""
	}
	text, err := json.Marshal(members)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
