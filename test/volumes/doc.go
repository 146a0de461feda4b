// Package volumes tests the real phoenix binary with a real container whose volume is a Btrfs subvolume or a ZFS
// dataset. make e2e runs the first, make test-zfs the second.
package volumes
