package config

import (
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/idrange"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Machine is what the configuration has to know of the machine it is for. It was observed before, so that this package
// stays pure.
type Machine struct {
	Runtime   string              // lxc or pve
	Root      string              // where phoenix keeps what it owns
	Cache     string              // kept between roots; may be empty
	Suite     string              // of the Debian that the hypervisor is, as HostSuite has it
	Backend   string              // provider of volumes whose pool does not exist here: dir or btrfs
	Pools     map[string]string   // pools that exist here, with their provider
	Datasets  map[string]string   // of those pools that are ZFS, the dataset that each is
	Present   map[string]bool     // paths of Wanted that exist here
	Binary    Artifact            // phoenix itself, as it goes into containers
	Artifacts map[string]Artifact // by name: step-ca, traefik
	Scripts   map[string]Artifact // by file name: the users' own application scripts that were found
	Pins      spec.Pins           // the root that was pinned here, and the one that takes its place; empty: none yet
	// keys and certificates that were made before count as known to others; zero: none do
	Exposed   time.Time
	TrustHost bool // the root goes into the hypervisor's own store too
	// where a Proxmox host keeps its containers; nil: this is none, or another runtime is used
	Proxmox  *spec.Proxmox
	Storages []Storage // of Proxmox, in the order of its file
	NewRoot  bool      // a root other than the pinned one is accepted
	// lxcpath of containers that were taken over where they are, by id; all others are below Root
	Homes  map[string]string
	Leaked []string // digests of keys that others could read (spec.Certificate.Leaked)
	Gone   []string // directories that were shared, and are mounted in no container any more
	// directory inside the CA's container that holds the files of a CA that was there before; empty: none
	Import   string
	Filters  bool                   // Proxmox's firewall is on for the cluster
	FilterOn bool                   // it is put on where that is needed
	Prune    bool                   // firewall rules that somebody else wrote go
	MakeNext bool                   // another root is wanted beside the pinned one, to take its place
	Kernel   map[string]KernelValue // limits of SharedLimits that this machine has; nil: they were not looked at

	// what stands at those of Present: file, directory, symbolic link (never of a template), fifo, …
	Kinds       map[string]string
	Links       map[string]string // where those of Kinds that are symbolic links point to
	Locations   Locations         // of Places
	Below       map[string][]Below
	KeysBelow   map[string]string        // directories that are shared, with a file in them that holds a private key
	Devices     map[string][]spec.Device // by what the file names: a device, or a directory with all in it
	Directories []string                 // that the configuration was read from
	FirstRoot   bool                     // a person asked for the first root, where there never was one
	// UnknownRoot: the CA came from another node of a cluster, and nobody here knows its root.
	UnknownRoot bool

	IDs IDs // who has which ids

	Access bool // there is an AccessState
}

// Below is a file system that is mounted below a directory which a container is to see.
type Below struct {
	Point    string // where
	Location string // device and path on it, as Locations has them
	Type     string // of the file system
}

// IDs is what a machine says of the ids of its containers and users.
type IDs struct {
	Block  spec.IDMap      // root's alone, from which each container gets its own range; zero: the usual one
	None   bool            // there is no such block, and none can be had
	Others []idrange.Claim // ranges of other users, and users and groups with ids of their own
	// containers of this root that are there, by id, with the range that they have; zero: privileged
	Have        map[string]spec.IDMap
	Kept        map[string]spec.IDMap // ranges that were given to containers of this root, by id
	Taken       []spec.IDMap          // ranges of containers that are not this root's
	First       int                   // the range of the block, counted from 0, from which on one is looked for
	Claims      string                // where ranges are claimed
	Directories []string              // lxcpaths of this machine's containers, whoever made them
	Move        bool                  // containers that have no range of their own get one now, which restarts them
	Plan        bool                  // it is only asked what would be done
	Held        string                // why none can be moved now; empty: they can
}

// Artifact is a file on the hypervisor that goes into a container.
type Artifact struct {
	Path   string
	SHA256 string // lower-case hex
	Flaw   string // why a script can never run; empty: nothing was seen
}
