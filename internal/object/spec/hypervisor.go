package spec

import "fmt"

// Kinds of objects that live on the hypervisor.
const (
	KindNetwork = "network" // network/vmbr0            provider network
	KindDNS     = "dns"     // dns/vmbr0                provider dns
	KindSubID   = "subid"   // subid/1879048192         provider subid: ids that root may give to containers
	// ids/101                  provider lxc, pve: the range of ids that is this container's alone
	KindIDs       = "ids"
	KindStorage   = "storage"   // storage/local-zfs        provider pve
	KindTemplate  = "template"  // template/900             provider template
	KindVolume    = "volume"    // volume/101/ssl           provider dir, btrfs, zfs, pve
	KindContainer = "container" // container/101            provider lxc, pve: root file system and configuration
	KindRunning   = "running"   // running/101              provider lxc, pve: it runs, with its present configuration
	KindPort      = "port"      // port/101/eth0            provider network: its interface is plugged into its bridge
	KindBinary    = "binary"    // binary/101               provider lxc, pve: the phoenix binary inside
	KindSnapshot  = "snapshot"  // snapshot/101/final-form  provider pve: a state of the container that is kept
	// pin/103                  provider trust: the root's fingerprint, kept on the hypervisor
	KindPin      = "pin"
	KindFirewall = "firewall" // firewall/101             provider firewall, pve: what may reach the container
	// node/firewall            provider pve: what the firewall of the Proxmox host itself lets in
	KindNode = "node"
	// hosttrust/103            provider trust: the root in the hypervisor's own store (--trust-host)
	KindHostTrust = "hosttrust"
)

// Network is a bridge on the hypervisor with an address of its own.
type Network struct {
	Bridge  string `json:"bridge"`
	Address string `json:"address"` // the hypervisor's, CIDR: 10.0.0.13/24
}

// DNS is a resolver for the containers of one bridge. Zones are answered from here only, all else goes to Upstreams.
type DNS struct {
	Name      string   `json:"name"`   // of the bridge
	Dir       string   `json:"dir"`    // where its files are kept
	Listen    []string `json:"listen"` // addresses, without port; port 53
	Upstreams []string `json:"upstreams,omitempty"`
	Zones     []Zone   `json:"zones,omitempty"`
}

// Zone is one authoritative zone.
type Zone struct {
	Name    string   `json:"name"` // without a trailing dot
	Records []Record `json:"records"`
}

// Record gives one full name its addresses.
type Record struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
}

// IDRange is the range of ids that a container's files and volumes belong to.
type IDRange struct {
	ID    string `json:"id"`
	Path  string `json:"path"`   // lxcpath
	IDMap IDMap  `json:"id_map"` // its own: no other container's, and nobody else's
	// Claims is a directory with a link for each range of this hypervisor that a container has; all phoenix roots share
	// it.
	Claims string `json:"claims"`
	// Stays: a container that is there keeps the range that it has, which is not its own. Nothing is to do.
	Stays bool `json:"stays,omitempty"`
	// Now is the range of a container that is there and has another than its own.
	Now *IDMap `json:"now,omitempty"`
	// Why it cannot be moved yet; empty: it can.
	Held    string   `json:"held,omitempty"`
	Volumes []string `json:"volumes,omitempty"` // directories that were made for it
	// directories of others in which it has files; they move along, what is not its own stays
	Binds []string `json:"binds,omitempty"`
	// Directories (lxcpaths) hold all containers of this machine that are known, where it has Binds: another may mount
	// the same directory.
	Directories []string `json:"folders,omitempty"`
	// Proxmox, where there is one, has the container's file below Path. Records is where phoenix writes down which
	// volumes wait for it.
	Proxmox *Proxmox `json:"proxmox,omitempty"`
	Records string   `json:"records,omitempty"`
}

// Template is a root file system that containers are cloned from.
type Template struct {
	ID  string `json:"id"`
	Dir string `json:"dir"` // templates directory; the tree stands at Dir/ID/rootfs, owner-shifted by IDMap
	// directory shared by all roots where built trees are kept as archives, by content; may be empty
	Cache    string   `json:"cache"`
	Archive  string   `json:"archive"`  // an existing archive to unpack instead of building; empty: build
	Suite    string   `json:"suite"`    // Debian suite, such as bookworm
	Mirror   string   `json:"mirror"`   // empty: what apt on the hypervisor uses
	Packages []string `json:"packages"` // besides those every template has
	IDMap    IDMap    `json:"id_map"`
	Snapshot string   `json:"snapshot,omitempty"` // the name users gave the state to clone from
	// Definition is the container that is the template, on a Proxmox host.
	Definition *Container `json:"definition,omitempty"`
}

// Volume is storage of one container.
type Volume struct {
	Container  string `json:"container"`
	Name       string `json:"name"`
	Pool       string `json:"pool,omitempty"` // as the file names it; zfs and pve need it
	Path       string `json:"path"`           // on the hypervisor
	MountPoint string `json:"mount_point"`
	SizeBytes  int64  `json:"size_bytes,omitempty"` // 0: no limit. A plain directory cannot keep it, and says so
	UID        int    `json:"uid"`                  // inside
	GID        int    `json:"gid"`                  // inside
	Mode       Mode   `json:"mode"`
	IDMap      IDMap  `json:"id_map"`
	Backup     bool   `json:"backup,omitempty"` // Proxmox's backups of the container hold it
	// Keys are in it: whoever owns it, or may write to it, has them.
	Keys bool `json:"keys,omitempty"`
	// HostDirectory, where it is set: the directory is the users' own. It is never made, marked or removed.
	HostDirectory *HostDirectory `json:"host_directory,omitempty"`
	// Proxmox, where there is one: the volume is one of its storage Pool, and Path is where phoenix writes down which
	// one while its container does not exist.
	Proxmox *Proxmox `json:"proxmox,omitempty"`
}

// HostDirectory says what of a directory that was there before the file asks to be set. All else stays as it is.
type HostDirectory struct {
	// Shared: other containers see it too, on purpose.
	Shared bool `json:"shared,omitempty"`
	UID    bool `json:"uid,omitempty"`
	GID    bool `json:"gid,omitempty"`
	Mode   bool `json:"mode,omitempty"`
}

// Demands is which of owner, group and mode are kept as the spec has them: all of a volume that phoenix makes.
func (v Volume) Demands() HostDirectory {
	if v.HostDirectory == nil {
		return HostDirectory{UID: true, GID: true, Mode: true}
	}
	return *v.HostDirectory
}

// Container is a system container's definition: its root file system and its configuration, not its running.
type Container struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Path        string   `json:"path"`     // lxcpath: holds ID/config and ID/rootfs
	Template    string   `json:"template"` // a template's tree (Template.Dir/ID/rootfs)
	IsTemplate  bool     `json:"is_template,omitempty"`
	MemoryBytes int64    `json:"memory_bytes,omitempty"`
	SwapBytes   int64    `json:"swap_bytes,omitempty"`
	Cores       int      `json:"cores,omitempty"`
	PidsMax     int64    `json:"pids_max,omitempty"` // processes and threads; 0: nothing is said about them
	Interface   NIC      `json:"interface"`
	IDMap       IDMap    `json:"id_map"` // zero: privileged
	Mounts      []Mount  `json:"mounts,omitempty"`
	Devices     []Device `json:"devices,omitempty"`
	Options     []Option `json:"options,omitempty"` // raw lines of the user's, allowed ones only
	StartAtBoot bool     `json:"start_at_boot,omitempty"`
	BootOrder   int      `json:"boot_order,omitempty"`
	// put into a fresh clone before its first start; later they are objects of their own
	Programs      []Program `json:"programs,omitempty"`
	SearchDomains []string  `json:"search_domains,omitempty"`
	Nameservers   []string  `json:"nameservers,omitempty"`
	// Guest, where there is one: the container is Proxmox's, and Path, Template and Mounts are empty.
	Guest *Guest `json:"guest,omitempty"`
}

// Proxmox is where a Proxmox host keeps what it knows of its containers.
type Proxmox struct {
	Dir   string `json:"dir"`   // /etc/pve
	State string `json:"state"` // /var/lib/lxc: what lxc was given when a container was started
	Locks string `json:"locks"` // /run/lock
}

// Storage is one of Proxmox's storages, for containers. One that is there is left as it is, whatever it is.
type Storage struct {
	ID        string   `json:"id"`
	Dataset   string   `json:"dataset,omitempty"` // of ZFS; made where it is not there; or
	Directory string   `json:"folder,omitempty"`  // a directory
	Content   []string `json:"content"`           // rootdir, images, vztmpl
	Proxmox   Proxmox  `json:"proxmox"`
}

// Guest is what only Proxmox's containers have.
type Guest struct {
	Proxmox   Proxmox  `json:"proxmox"`
	Archive   string   `json:"archive,omitempty"`    // it is made from: a volume id or an absolute path; or
	CloneFrom string   `json:"clone_from,omitempty"` // the id of the container that it is cloned from, in the state
	Snapshot  string   `json:"snapshot,omitempty"`   // with this name; empty: as it is
	Storage   string   `json:"storage"`              // of the root file system
	SizeGB    int      `json:"size_gb"`              // of the root file system; a larger one stays
	BootDelay int      `json:"boot_delay,omitempty"` // seconds until the next container is started
	Features  []string `json:"features,omitempty"`   // nesting=1
	Devices   []string `json:"devices,omitempty"`    // of the hypervisor, that the container may use: /dev/nvidia0
	// Listed: Devices are all that phoenix knows of; others of its families that the container has are taken out.
	Listed bool `json:"listed,omitempty"`
	// Missing are devices that it is to have and that are not on this machine now.
	Missing  []string `json:"missing,omitempty"`
	Firewall bool     `json:"firewall,omitempty"` // Proxmox's firewall stands before its interface
	Volumes  []Volume `json:"volumes,omitempty"`  // of Proxmox's storage
	Records  string   `json:"records,omitempty"`  // directory for the records of its volumes while it does not exist
	Binds    []Mount  `json:"binds,omitempty"`    // directories of the hypervisor
	// directories of the hypervisor that it saw once, and is not to see after its next start
	Gone []string `json:"gone,omitempty"`
}

// Snapshot is a state of a container that is kept. Once it is there it is not made anew.
type Snapshot struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	About   string  `json:"about,omitempty"` // for people
	Proxmox Proxmox `json:"proxmox"`
}

// Program is a file of the hypervisor's that goes into a container.
type Program struct {
	Source string `json:"source"` // on the hypervisor
	SHA256 string `json:"sha256"` // lower-case hex, of Source
	Target string `json:"target"` // inside; 0755, root's
}

// NIC is a container's network interface.
type NIC struct {
	Name    string `json:"name"` // eth0
	Bridge  string `json:"bridge"`
	Address string `json:"address"` // CIDR
	Gateway string `json:"gateway,omitempty"`
	// Address6 is a second one, of IPv6, and Gateway6 the router for it.
	Address6 string `json:"address6,omitempty"` // CIDR
	Gateway6 string `json:"gateway6,omitempty"`
	MTU      *int   `json:"mtu,omitempty"` // 0: the bridge's; nil: nothing is said about it
	Tag      *int   `json:"tag,omitempty"` // VLAN, likewise; for Proxmox only
	MAC      string `json:"mac,omitempty"` // lower case
	// Port is the name of the other end, on the hypervisor; at most 15 bytes (IFNAMSIZ). Empty: the kernel chooses one.
	Port string `json:"port,omitempty"`
}

// Port is the end of a running container's interface that is plugged into a bridge.
type Port struct {
	Name   string `json:"name"`
	Bridge string `json:"bridge"`
}

// Mount shows a volume's Source (a path on the hypervisor) at Target inside, with what is mounted below Source.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"` // nothing may be mounted below Source then: it would be writable
}

// Device is a device of the hypervisor that a container may use, by the same path.
type Device struct {
	Path  string `json:"path"`
	Block bool   `json:"block,omitempty"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	// Missing: there is no such device on this machine now.
	Missing bool `json:"missing,omitempty"`
}

// Numbers are those of a device as lxc has them: c 10:200.
func (d Device) Numbers() string {
	kind := "c"
	if d.Block {
		kind = "b"
	}
	return fmt.Sprintf("%s %d:%d", kind, d.Major, d.Minor)
}

// Option is one raw lxc configuration line.
type Option struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Running is a container that runs with its present definition.
type Running struct {
	ID      string   `json:"id"`
	Path    string   `json:"path"` // lxcpath; empty: lxc's own, as on a Proxmox host
	Proxmox *Proxmox `json:"proxmox,omitempty"`
	Check   string   `json:"check,omitempty"` // a command of the users' that ends well inside while its application is
	Again   *Again   `json:"again,omitempty"` // where Check fails at the end of a run; nil: it is not tried again
	// Listens are the ports that something in the container is to listen on: tcp/443, udp/8000-8010.
	Listens []string `json:"listens,omitempty"`
	// AnyPort, nobody knows where the users' own application listens.
	AnyPort bool `json:"any_port,omitempty"`
}

// Again is how often something is tried again, and with what between two tries.
type Again struct {
	Times int      `json:"times"`
	Every Duration `json:"every"`
}

// Binary is the phoenix binary inside a container.
type Binary struct {
	ID     string `json:"id"`
	Path   string `json:"path"`   // lxcpath; empty: lxc's own, as on a Proxmox host
	Source string `json:"source"` // on the hypervisor
	SHA256 string `json:"sha256"` // of Source
	Target string `json:"target"` // inside
}

// FirstRootMark ends the name of the file beside Pin.Copy that stands from before the first root of a CA is made
// until it is pinned. With it a create that was killed in between goes on.
const FirstRootMark = ".first"

// Pin is a root certificate's fingerprint, kept on the hypervisor.
type Pin struct {
	Path        string `json:"path"`
	Fingerprint string `json:"fingerprint"` // lower-case hex SHA-256 of the DER; filled in from stepca
	NewRoot     bool   `json:"new_root,omitempty"`
	// Unknown: the container came from another node of a cluster, and no pin of its root is to be found. None is pinned
	// without NewRoot.
	Unknown bool `json:"unknown,omitempty"`
	// Copy is a second file for it, on a Proxmox host: the whole cluster has it, so that a container that comes to
	// another node is known there.
	Copy    string   `json:"copy,omitempty"`
	Proxmox *Proxmox `json:"proxmox,omitempty"` // with Copy
}
