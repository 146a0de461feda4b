package config

import (
	"net/netip"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Hypervisor is phoenix_hypervisor_config.json.
type Hypervisor struct {
	At
	Version       Kept            `json:"version" kept:"for the users"`
	Author        Kept            `json:"author" kept:"for the users"`
	DomainName    string          `json:"domain_name" kept:"names come from the zones"`
	Users         Kept            `json:"users" kept:"phoenix makes no users on the hypervisor"`
	CorePaths     CorePaths       `json:"core_paths"`
	Timezone      Kept            `json:"timezone" kept:"the hypervisor's own setup is left as it is"`
	Network       HostNetwork     `json:"network" need:"true"`
	Docker        Kept            `json:"docker" kept:"Docker is not set up by phoenix"`
	NFS           NFS             `json:"nfs" kept:"the hypervisor's own setup is left as it is"`
	Samba         Samba           `json:"samba" kept:"the hypervisor's own setup is left as it is"`
	ZFS           ZFS             `json:"zfs" kept:"pools and datasets are looked at, not made"`
	StorageIDs    Kept            `json:"proxmox_storage_ids" kept:"pools are looked at, not made"`
	MountBase     string          `json:"mount_point_base"`
	Defaults      Defaults        `json:"proxmox_defaults"`
	Tests         Kept            `json:"tests" kept:"health checks are derived"`
	NvidiaDriver  Kept            `json:"nvidia_driver" kept:"GPUs are left to their feature scripts"`
	Behavior      Kept            `json:"behavior" kept:"phoenix goes on where it was stopped"`
	SharedVolumes []*SharedVolume `json:"shared_volumes" keyed:"Name"` // for the audit only: phoenix shares nothing
	Firewall      Kept            `json:"firewall" kept:"each container has rules of its own; those of the hypervisor are left as they are"`
	Portainer     Kept            `json:"portainer_api" kept:"Portainer is not set up by phoenix"`
	VMDefaults    Kept            `json:"vm_defaults" kept:"virtual machines are not phoenix's"`
	DNS           DNSServer       `json:"dns_server"`
	StepCA        StepCA          `json:"step_ca"`
	Artifacts     Artifacts       `json:"artifacts"`
	Watch         Watch           `json:"watch"`
	// Access is how clients of the LAN reach the gateway: by ports of the hypervisor, by a route, or as the users see
	// to it.
	Access string `json:"access" enum:"forward,route,none" default:"none"`
	// ForwardPorts: the LAN reaches the ports of containers too, with access forward.
	ForwardPorts bool          `json:"forward_ports"`
	AuditAccept  []*Acceptance `json:"audit_accept"` // findings of the audit that are known and borne
}

// Watch is what phoenix watch may do by itself.
type Watch struct {
	At
	// Apply is how much of a change of the files is applied as soon as they are saved: all of it, what interrupts
	// nothing, closes nothing and removes nothing, or nothing. The rest waits for phoenix apply.
	Apply string `json:"apply" enum:"all,safe,none" default:"safe"`
	// Notify is how a person learns of what needs one.
	Notify Notify `json:"notify"`
}

// Notify is a command that reads, as JSON on its standard input, which failures last, which of them are over, and that
// a change of the configuration waits.
type Notify struct {
	At
	// Command is an absolute path and arguments, run as root and without a shell; none: nobody is told.
	Command  []string      `json:"command"`
	After    spec.Duration `json:"after"`    // a failure that is over earlier is not reported; 0: 30 s
	Interval spec.Duration `json:"interval"` // at least, between two calls; 0: a minute
	Timeout  spec.Duration `json:"timeout"`  // of one call; 0: 30 s
}

// What a change of the files is applied of, unattended.
const (
	ApplyAll  = "all"
	ApplySafe = "safe"
	ApplyNone = "none"
)

// Acceptance is a finding of the audit that somebody bears for a while.
type Acceptance struct {
	At
	Rule   string `json:"rule" need:"true"`   // PHX-AUD-012
	Object string `json:"object" need:"true"` // as the finding shows it, or the path of its key
	Reason string `json:"reason" need:"true"`
	Until  Date   `json:"until" need:"true"` // the last day
}

// CorePaths says where the users keep their files.
type CorePaths struct {
	At
	// set: ids of 1000 and above that are no containers are virtual machines
	VMConfig         string `json:"vm_config_file"`
	LXCConfig        Kept   `json:"lxc_config_file" kept:"--config says where the files are"`
	LXCSchema        Kept   `json:"lxc_config_schema_file" kept:"the schema comes with phoenix"`
	HFToken          Kept   `json:"hf_token_file" kept:"read by the applications' own scripts"`
	DockerToken      Kept   `json:"docker_token_file" kept:"Docker is not set up by phoenix"`
	DockerImages     Kept   `json:"docker_images_path" kept:"Docker is not set up by phoenix"`
	MarkerDir        Kept   `json:"hypervisor_marker_dir" kept:"phoenix looks at what is, not at markers"`
	HostMarker       Kept   `json:"hypervisor_marker" kept:"phoenix looks at what is, not at markers"`
	ScriptsDirectory string `json:"scripts_dir"` // where application scripts are; empty: beside the configuration
}

// HostNetwork is the hypervisor's network.
type HostNetwork struct {
	At
	Interface     HostInterface `json:"interfaces" need:"true"`
	DefaultSubnet netip.Prefix  `json:"default_subnet"`
	FallbackDNS   netip.Addr    `json:"fallback_dns" kept:"containers ask the resolver of the hypervisor, or their own nameservers"`
	Registry      Kept          `json:"external_registry_url" kept:"Docker is not set up by phoenix"`
	PortainerIP   Kept          `json:"portainer_server_ip" kept:"Portainer is not set up by phoenix"`
	PortainerPort Kept          `json:"portainer_server_port" kept:"Portainer is not set up by phoenix"`
	AgentPort     Kept          `json:"portainer_agent_port" kept:"Portainer is not set up by phoenix"`
	NFSServer     Kept          `json:"nfs_server" kept:"the hypervisor's own setup is left as it is"`
}

// HostInterface is the bridge that the containers are on.
type HostInterface struct {
	At
	Name        string       `json:"name" need:"true"`
	Address     netip.Prefix `json:"address" need:"true"` // the hypervisor's own, with the prefix length
	Gateway     netip.Addr   `json:"gateway"`
	Nameservers Words        `json:"dns_nameservers"`
	// tcp/3128: what containers reach of the hypervisor, besides names; all: everything
	Allow Words `json:"allow_from_containers"`
}

// Defaults stand in for what a container does not say.
type Defaults struct {
	At
	LXCPool string            `json:"zfs_lxc_pool" kept:"root file systems are kept with all else that phoenix owns"`
	LXC     ContainerDefaults `json:"lxc"`
}

// ContainerDefaults are those of proxmox_defaults.lxc.
type ContainerDefaults struct {
	At
	Cores    int  `json:"cores" min:"1" max:"8192"`
	MemoryMB int  `json:"memory_mb" min:"16" max:"16777216"`
	Network  Kept `json:"network_config" kept:"each container says its own"`
	Features Kept `json:"features" kept:"containers with systemd get what they need"`
	Security Kept `json:"security" kept:"containers are unprivileged"`
	Nesting  Kept `json:"nesting" kept:"containers with systemd get what they need"`
}

// NFS is what the hypervisor exports; the audit looks at it.
type NFS struct {
	At
	Exports []*Export `json:"exports"`
}

// Export is one exported directory.
type Export struct {
	At
	Path    string `json:"path"`
	Clients Kept   `json:"clients"`
	Options Kept   `json:"options"`
}

// Samba is what the hypervisor shares; the audit looks at it.
type Samba struct {
	At
	User   Kept     `json:"user"`
	Shares []*Share `json:"shares"`
}

// Share is one shared directory.
type Share struct {
	At
	Name       Kept   `json:"name"`
	Path       string `json:"path"` // relative ones are below mount_point_base
	Options    Kept   `json:"options"`
	ValidUsers Kept   `json:"valid_users"`
}

// ZFS is what the users say about their pools. What a pool really is, is observed.
type ZFS struct {
	At
	ArcMaxGB Kept       `json:"arc_max_gb"`
	Pools    []*Pool    `json:"pools"`
	Datasets []*Dataset `json:"datasets"`
}

// Pool is a ZFS pool.
type Pool struct {
	At
	Name      string `json:"name"`
	RaidLevel Kept   `json:"raid_level"`
	Disks     Kept   `json:"disks"`
}

// Dataset is a ZFS dataset; as a Proxmox storage it is called POOL-NAME.
type Dataset struct {
	At
	Name         string `json:"name"`
	Pool         string `json:"pool"`
	Properties   Kept   `json:"properties"`
	StorageType  string `json:"proxmox_storage_type"`
	ContentType  Kept   `json:"proxmox_content_type"`
	StorageClass Kept   `json:"storage_class"`
}

// SharedVolume is a directory that the users' old scripts mounted in many containers.
type SharedVolume struct {
	At
	Name     string             `json:"-"`
	HostPath string             `json:"host_path"`
	Mounts   []*SharedMountedAt `json:"mounts" keyed:"Container"`

	// A firewall stands among the shared volumes of some files. It is known there, so that it is not taken for a
	// volume.
	Enabled  Kept `json:"enabled" kept:"each container has rules of its own; those of the hypervisor are left as they are"`
	Input    Kept `json:"default_input_policy" kept:"each container has rules of its own; those of the hypervisor are left as they are"`
	Output   Kept `json:"default_output_policy" kept:"each container has rules of its own; those of the hypervisor are left as they are"`
	AllRules Kept `json:"global_firewall_rules" kept:"each container has rules of its own; those of the hypervisor are left as they are"`
}

// SharedMountedAt is one container that a shared volume was mounted in.
type SharedMountedAt struct {
	At
	Container string `json:"-"`
	Path      string `json:"-" value:"true"`
}

// DNSServer is the resolver on the hypervisor.
type DNSServer struct {
	At
	Enabled   bool         `json:"enabled"`
	Upstreams []netip.Addr `json:"upstream_servers"`
	Zones     []*Zone      `json:"authoritative_zones"`
}

// Zone is a zone that is answered from here only.
type Zone struct {
	At
	Name    string    `json:"zone_name" need:"true"`
	Records []*Record `json:"records"`
}

// Record is one name of a zone. At least one of the addresses is set.
type Record struct {
	At
	Hostname string     `json:"hostname" need:"true"` // relative to the zone; @ is the zone itself
	External netip.Addr `json:"ip_external"`
	Internal netip.Addr `json:"ip_internal"`
}

// FullName is the record's name with its zone's, in lower case and without a trailing dot.
func (r *Record) FullName(z *Zone) string { return fullName(r.Hostname, z.Name) }

// Addresses are the addresses that are set, the internal one first.
func (r *Record) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, a := range []netip.Addr{r.Internal, r.External} {
		if a.IsValid() && (len(out) == 0 || out[0] != a) {
			out = append(out, a)
		}
	}
	return out
}

// StepCA is the certificate authority. Lifetimes that are not set are 0.
type StepCA struct {
	At
	RootName         string   `json:"root_ca_name"`
	IntermediateName string   `json:"intermediate_ca_name"`
	DNSName          string   `json:"dns_name"`
	DNSNames         []string `json:"dns_names"` // more names and addresses that clients dial
	Provisioner      string   `json:"provisioner_name" kept:"ACME is the only provisioner"`
	AllowedNames     []string `json:"allowed_names"` // besides those derived
	// domains and subnets that a new root may sign for, besides the zones and the bridge's subnet; all: anything
	RootPermits          Words         `json:"root_permits"`
	LeafLifetime         spec.Duration `json:"leaf_lifetime"`
	RootLifetime         spec.Duration `json:"root_lifetime"`
	IntermediateLifetime spec.Duration `json:"intermediate_lifetime"`
	OrderTimeout         spec.Duration `json:"order_timeout"` // of one order of a certificate; 0: 20 s
	Database             string        `json:"database" enum:"bbolt,badgerv2"`
}

// Artifacts take the place of the programs that come with phoenix.
type Artifacts struct {
	At
	StepCA  *Program `json:"step-ca"`
	Traefik *Program `json:"traefik"`
}

// Program is given by Path on the hypervisor or by URL, one of them, and its checksum.
type Program struct {
	At
	Path   string `json:"path"`
	URL    string `json:"url"`
	SHA256 string `json:"sha256" need:"true"` // lower-case hex
}
