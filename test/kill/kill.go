// Package kill tests that phoenix may be killed anywhere, and that anything may fail: for every change that `create 103
// 101 102` makes from nothing, it is ended by SIGKILL right before that change and right after it, or the change fails,
// hangs or is not made at all, and phoenix is run again. Hypervisor-side the drivers, the bridge, dnsmasq and all files
// are real; containers are fakes (see the directory fakes), and inside them the real agent keeps objects that are
// files. The insides' own drivers are killed in real containers by test/e2e.
package kill
