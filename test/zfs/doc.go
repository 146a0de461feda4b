// Package zfs tests the real phoenix binary with a real container whose volume is a ZFS dataset. make test-zfs runs it where
// there is ZFS.
package zfs
