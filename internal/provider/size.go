package provider

import (
	"fmt"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// SizeText is a volume's size as people read it; 0: none.
func SizeText(bytes int64) string {
	switch {
	case bytes == 0:
		return "none"
	case bytes%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", bytes>>30)
	case bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

func usedText(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// Shrinks tells whether a volume's limit is to be lowered, or to be set where there is none (0).
func Shrinks(v spec.Volume, limit int64) bool {
	return v.SizeBytes > 0 && (limit == 0 || limit > v.SizeBytes)
}

// ShrinkReason is why a plan lowers a limit, and what becomes of that.
func ShrinkReason(v spec.Volume, used int64) string {
	if used > v.SizeBytes {
		return "will be refused: " + usedText(used) + " are used"
	}
	return "the file's size is smaller"
}

// TooSmall refuses to shrink a volume below what is used.
func TooSmall(v spec.Volume, limit, used int64) error {
	if !Shrinks(v, limit) || used <= v.SizeBytes {
		return nil
	}
	return PermanentHint(fmt.Errorf("volume %s of container %s cannot be limited to %s: %s are used", v.Name,
		v.Container, SizeText(v.SizeBytes), usedText(used)),
		fmt.Sprintf("free some of it, or let size_gb stay above what is used (its limit is %s now)", SizeText(limit)))
}
