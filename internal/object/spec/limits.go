package spec

// KindSysctl is a kind of the hypervisor's: sysctl/hypervisor, provider sysctl: limits of the kernel that all
// containers share.
const KindSysctl = "sysctl"

// Sysctl are values of the kernel that are raised, and never lowered, now and at each boot.
type Sysctl struct {
	Path  string        `json:"path"` // phoenix's own file, in a directory of sysctl.d(5)
	Least []KernelLimit `json:"least"`
}

// KernelLimit is one value of sysctl(8).
type KernelLimit struct {
	Key   string `json:"key"`   // fs.inotify.max_user_instances
	Value int64  `json:"value"` // the least that it should be
	// Computed: without a file the kernel sets it at boot from the machine's size, so that a value that is high enough
	// needs no file.
	Computed bool `json:"computed,omitempty"`
}

// SharedLimit is a limit of the kernel that all containers of a machine share, whoever their root is outside. What one
// container needs was measured: docs/limits.md.
type SharedLimit struct {
	Key      string
	Least    int64 // what setup raises it to
	Host     int64 // what the hypervisor itself needs
	Each     int64 // what one container needs at its start
	Computed bool  // the kernel sets it from the machine's size
}

// SharedLimits are in the order of setup's file.
func SharedLimits() []SharedLimit {
	return []SharedLimit{
		{Key: InotifyInstances, Least: 8192, Host: 16, Each: 10},
		{Key: InotifyWatches, Least: 524288, Host: 2048, Each: 512, Computed: true},
		{Key: MaxKeys, Least: 20000, Host: 10, Each: 12},
		{Key: MaxKeyBytes, Least: 2000000, Host: 1000, Each: 800},
		{Key: MaxPTY, Least: 4096, Host: 1024, Each: 64},
		{Key: "net.ipv4.neigh.default.gc_thresh1", Least: 1024},
		{Key: "net.ipv4.neigh.default.gc_thresh2", Least: 4096},
		{Key: Neighbours4, Least: 8192, Host: 64, Each: 16},
		{Key: "net.ipv6.neigh.default.gc_thresh1", Least: 1024},
		{Key: "net.ipv6.neigh.default.gc_thresh2", Least: 4096},
		{Key: Neighbours6, Least: 8192, Host: 64, Each: 16},
		{Key: MaxAIO, Least: 1048576, Host: 65536},
		{Key: "vm.max_map_count", Least: 262144},
		{Key: "user.max_user_namespaces", Least: 8192, Host: 64, Each: 16, Computed: true},
		{Key: "user.max_mnt_namespaces", Least: 8192, Host: 64, Each: 48, Computed: true},
		{Key: "user.max_net_namespaces", Least: 8192, Host: 64, Each: 16, Computed: true},
	}
}

// Keys of limits whose use health can tell.
const (
	InotifyInstances = "fs.inotify.max_user_instances"
	InotifyWatches   = "fs.inotify.max_user_watches"
	MaxKeys          = "kernel.keys.maxkeys"
	MaxKeyBytes      = "kernel.keys.maxbytes"
	MaxPTY           = "kernel.pty.max"
	Neighbours4      = "net.ipv4.neigh.default.gc_thresh3"
	Neighbours6      = "net.ipv6.neigh.default.gc_thresh3"
	MaxAIO           = "fs.aio-max-nr"
)

// Need is what that many containers need of it.
func (l SharedLimit) Need(containers int) int64 { return l.Host + l.Each*int64(containers) }

// Target is what setup raises it to: room for twice as many.
func (l SharedLimit) Target(containers int) int64 { return max(l.Least, 2*l.Need(containers)) }
