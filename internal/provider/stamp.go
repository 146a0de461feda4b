package provider

import (
	"encoding/binary"
	"encoding/hex"
	"time"
)

// Stamp is the modification time of a large file with that digest (lower-case hex SHA-256), a moment between 2001 and
// 2010. It is set on checked content before that is put in place, so that a look need not read two hundred megabytes to
// know which file it is; whatever writes to the file afterwards moves the time to now, and then the content is read.
// Only who sets the time on purpose could hide a change, and that is root in there, who could change phoenix as well.
// Where the file system keeps no nanoseconds the time never matches and the content is read each time: slow, not wrong.
func Stamp(sum string) time.Time {
	b, err := hex.DecodeString(sum)
	if err != nil || len(b) < 8 {
		return time.Time{}
	}
	const from, span = 1_000_000_000, 1 << 28 // seconds
	return time.Unix(from+int64(binary.BigEndian.Uint32(b)%span),
		int64(binary.BigEndian.Uint32(b[4:])%1_000_000_000)).UTC()
}

// StampText is Stamp for touch(1)'s --date.
func StampText(sum string) string { return Stamp(sum).Format("2006-01-02T15:04:05.000000000Z") }
