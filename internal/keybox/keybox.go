// Package keybox encrypts the keys of a certificate authority, each with a password of its own, and opens them.
package keybox

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Keys are PKCS#8 (RFC 5958), encrypted with PBES2 (RFC 8018, section 6.2): PBKDF2 with HMAC-SHA-256 and AES-256-CBC,
// which step-ca reads. The password is 256 random bits, so that stretching it adds nothing: few iterations keep every
// look at a key at well under a millisecond, where go.step.sm/crypto's 600,000 take a quarter of a second.
const (
	iterations    = 2048
	passwordBytes = 32
	maxIterations = 10_000_000 // of a key that somebody else encrypted, about 4 s
)

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}

	// ErrPassword is a password that does not fit.
	ErrPassword = errors.New("the password does not decrypt the key")
)

type encryptedKey struct {
	Algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters struct {
			KDF struct {
				ID         asn1.ObjectIdentifier
				Parameters struct {
					Salt       []byte
					Iterations int
					PRF        pkix.AlgorithmIdentifier
				}
			}
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

// NewPassword makes a password for one key: 64 hex digits, no line end.
func NewPassword() []byte {
	raw := make([]byte, passwordBytes)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return []byte(hex.EncodeToString(raw))
}

// Seal encrypts a key into PEM.
func Seal(key *ecdsa.PrivateKey, password []byte) ([]byte, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	_, _ = rand.Read(salt)
	_, _ = rand.Read(iv)
	var k encryptedKey
	k.Algorithm.ID = oidPBES2
	k.Algorithm.Parameters.KDF.ID = oidPBKDF2
	kdf := &k.Algorithm.Parameters.KDF.Parameters
	kdf.Salt, kdf.Iterations = salt, iterations
	kdf.PRF = pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue}
	k.Algorithm.Parameters.Cipher.ID, k.Algorithm.Parameters.Cipher.IV = oidAES256CBC, iv
	block, err := blockCipher(password, salt, iterations)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	k.Data = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(k.Data, k.Data)
	der, err := asn1.Marshal(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), nil
}

// Open reads what Seal wrote. No error says anything about the content.
func Open(raw, password []byte) (*ecdsa.PrivateKey, error) {
	p, _ := pem.Decode(raw)
	if p == nil || p.Type != "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("the key is no encrypted PKCS#8 PEM")
	}
	var k encryptedKey
	if rest, err := asn1.Unmarshal(p.Bytes, &k); err != nil || len(rest) > 0 {
		return nil, errors.New("the key is damaged")
	}
	kdf, enc := k.Algorithm.Parameters.KDF, k.Algorithm.Parameters.Cipher
	if !k.Algorithm.ID.Equal(oidPBES2) || !kdf.ID.Equal(oidPBKDF2) ||
		!kdf.Parameters.PRF.Algorithm.Equal(oidHMACSHA256) ||
		!enc.ID.Equal(oidAES256CBC) {
		return nil, errors.New("the key is not encrypted with PBKDF2-HMAC-SHA-256 and AES-256-CBC")
	}
	if n := kdf.Parameters.Iterations; len(enc.IV) != aes.BlockSize || n < 1 || n > maxIterations {
		return nil, errors.New("the key is damaged")
	}
	block, err := blockCipher(password, kdf.Parameters.Salt, kdf.Parameters.Iterations)
	if err != nil {
		return nil, err
	}
	return unpad(block, enc.IV, k.Data)
}

func unpad(block cipher.Block, iv, data []byte) (*ecdsa.PrivateKey, error) {
	if len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errors.New("the key is damaged")
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(data, data)
	pad := int(data[len(data)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, ErrPassword
	}
	key, err := x509.ParsePKCS8PrivateKey(data[:len(data)-pad])
	if err != nil {
		return nil, ErrPassword
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key is a %T, not ECDSA", key)
	}
	return ec, nil
}

func blockCipher(password, salt []byte, n int) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, string(password), salt, n, 32)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}
