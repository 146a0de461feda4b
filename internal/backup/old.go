package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
)

// The format of before, that of openssl-enc(1) with -aes-256-cbc -pbkdf2 -iter 600000: a word, a salt, the
// ciphertext. Key and initialisation vector come out of PBKDF2 with HMAC-SHA-256.
const (
	magic    = "Salted__"
	saltSize = 8
	keySize  = 32

	// PasswordMin is the shortest password that is taken, in bytes.
	PasswordMin = 12
)

// iterations are those of the format; a variable, as are age's, because tests open dozens of files.
var iterations = opensslIterations

const opensslIterations = 600_000

var errPassword = errors.New("the password does not open it, or the file is damaged")

func cipherOf(password, salt []byte) (cipher.Block, []byte, error) {
	if err := longEnough(password); err != nil {
		return nil, nil, err
	}
	key, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, keySize+aes.BlockSize)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key[:keySize])
	return block, key[keySize:], err
}

// openOld opens a file of before. The cipher does not tell whether somebody changed it: only what comes out does.
func openOld(sealed, password []byte) ([]byte, error) {
	data := bytes.TrimPrefix(sealed, []byte(magic))
	if len(data) < saltSize+aes.BlockSize || (len(data)-saltSize)%aes.BlockSize != 0 {
		return nil, errors.New("this is no backup of phoenix, or half of one")
	}
	block, iv, err := cipherOf(password, data[:saltSize])
	if err != nil {
		return nil, err
	}
	plain := bytes.Clone(data[saltSize:])
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, plain)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.HasPrefix(plain, []byte{0x1f, 0x8b}) { // gzip (RFC 1952)
		return nil, errPassword
	}
	return plain[:len(plain)-pad], nil
}
