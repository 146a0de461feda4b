package spec

import (
	"crypto/sha256"
	"fmt"
)

// StableMAC is the locally administered MAC of a container, by its lxcpath and id, that it keeps over restarts where
// the file names none.
func StableMAC(path, id string) string {
	sum := sha256.Sum256([]byte(path + "\x00" + id))
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}
