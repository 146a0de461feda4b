package config

import (
	"net/netip"
	"slices"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Config is what the users' files say, decoded and checked, before any object is derived from it. The struct tags of
// this file are the one table of known keys: json is the key; need, min, max, enum and default are its rules, words
// those of a list that phoenix knows by itself; kept is the reason why a known key is not acted on; acted names the
// runtime that acts on it all the same; secret marks a value that is never shown.
type Config struct {
	Hypervisor Hypervisor
	Containers []*Container // by id, smallest first
	Global     ContainerFile
}

// Container returns the container with the id.
func (c *Config) Container(id string) (*Container, bool) {
	i := slices.IndexFunc(c.Containers, func(x *Container) bool { return x.ID == id })
	if i < 0 {
		return nil, false
	}
	return c.Containers[i], true
}

// At is the place a value comes from. Source.Line is that of the key, or of the element in a list.
type At struct {
	Source object.Source
	path   string
	lines  map[string]int // of each key, and of key[i] for elements of plain lists
}

// Kept is a value that phoenix knows and does not act on.
type Kept struct {
	Set bool // the key is in the file
}

// Words is a list of words. In the file it is a list of strings, or one string with blanks or commas between the words.
type Words []string

// Argv is a command. In the file it is a list of words, or one string: split at blanks, or given to /bin/sh -c if it
// has anything that only a shell understands.
type Argv []string

// MAC is an Ethernet address in lower case with colons.
type MAC string

// Date is a day as 2006-01-02; empty where there is none. Days compare as strings do.
type Date string

// ContainerFile is phoenix_lxc_configs.json.
type ContainerFile struct {
	At
	Schema           Kept         `json:"$schema" kept:"the schema comes with phoenix"`
	NvidiaVersion    Kept         `json:"nvidia_driver_version" kept:"GPUs are left to their feature scripts"`
	NvidiaRepository Kept         `json:"nvidia_repo_url" kept:"GPUs are left to their feature scripts"`
	NvidiaRunfile    Kept         `json:"nvidia_runfile_url" kept:"GPUs are left to their feature scripts"`
	InFileOrder      []*Container `json:"lxc_configs" keyed:"ID" need:"true"` // as they stand in the file
}

// Container is one container of lxc_configs. Numbers that are not in the file are 0, unless a default is given here.
type Container struct {
	At
	ID          string `json:"-"`
	Name        string `json:"name" need:"true"`
	StartAtBoot bool   `json:"start_at_boot"`
	BootOrder   int    `json:"boot_order" min:"0" max:"100000"`
	BootDelay   int    `json:"boot_delay" min:"0" max:"86400" acted:"pve" kept:"phoenix waits for conditions, not for seconds"`
	MemoryMB    int    `json:"memory_mb" min:"16" max:"16777216"`
	SwapMB      int    `json:"swap_mb" min:"0" max:"16777216"`
	Cores       int    `json:"cores" min:"1" max:"8192"`
	PidsMax     int    `json:"pids_max" min:"64" max:"4194304"` // processes and threads
	// archive, absolute; a container is made from this or CloneFrom
	Template          string          `json:"template"`
	CloneFrom         string          `json:"clone_from_ctid"` // id of a container
	SnapshotName      string          `json:"template_snapshot_name"`
	StoragePool       string          `json:"storage_pool" acted:"pve" kept:"root file systems are kept with all else that phoenix owns"`
	StorageSizeGB     int             `json:"storage_size_gb" min:"1" max:"1048576" acted:"pve" kept:"root file systems have no limit yet"`
	Network           Network         `json:"network_config" need:"true"`
	MAC               MAC             `json:"mac_address"`
	Unprivileged      bool            `json:"unprivileged" default:"true"`
	Features          []string        `json:"features" words:"base_setup,nginx_gateway,step_ca,step_cli,traefik,trusted_ca"`
	ApplicationScript string          `json:"application_script"` // relative to where the users keep their scripts
	Packages          []string        `json:"packages"`
	Dependencies      []string        `json:"dependencies"` // as in the file: virtual machines too
	DependsOn         []string        `json:"-"`            // Dependencies that are containers, each once
	Volumes           []*Volume       `json:"zfs_volumes"`  // storage that phoenix makes
	MountPoints       []*MountPoint   `json:"mount_points"` // directories that the file names by their path
	Certificates      []*Certificate  `json:"certificates"` // none: derived
	Devices           []string        `json:"devices"`      // of the hypervisor: /dev/net/tun, /dev/dri
	TraefikService    *TraefikService `json:"traefik_service"`
	LXCOptions        []string        `json:"lxc_options"` // key=value or key:value
	Options           []spec.Option   `json:"-"`           // LXCOptions, split; allowed ones only
	AppArmorProfile   string          `json:"apparmor_profile"`
	AppArmorNesting   Kept            `json:"apparmor_manages_nesting" kept:"containers with systemd get what they need"`
	PctOptions        []string        `json:"pct_options" acted:"pve" kept:"for pct only; containers with systemd get what they need"`
	Snapshots         bool            `json:"enable_lifecycle_snapshots" acted:"pve" kept:"phoenix needs no snapshots to go on after a failure"`
	GPU               Words           `json:"gpu_assignment" acted:"pve" kept:"GPUs are left to their feature scripts"`
	PortainerRole     Kept            `json:"portainer_role" kept:"Portainer is not set up by phoenix"`
	Ports             Words           `json:"ports"` // 8000:8000: of the hypervisor, and of it; forward_ports says whether
	Engine            Kept            `json:"vllm_engine_config" kept:"read by the application's own script"`
	TriggerSync       Kept            `json:"trigger_sync_on_completion" kept:"routes are derived, there is nothing to sync"`
	Firewall          Firewall        `json:"firewall"`
	// tcp/5432: what listens in it, besides what phoenix knows of
	Listens     Words `json:"listens"`
	HealthCheck Probe `json:"health_check"` // besides the checks that are derived
	Tests       Kept  `json:"tests" kept:"health checks are derived"`
	BootstrapCA Kept  `json:"bootstrap_ca_url" kept:"the address of the CA is derived"`
}

// Probe is a command that ends well while an application is. Where it does not at the end of a run it is tried again.
type Probe struct {
	At
	Command  string `json:"command"` // none: there is no check
	Retries  int    `json:"retries" min:"0" max:"1000"`
	Interval int    `json:"interval" min:"1" max:"3600"` // seconds between two tries
	Timeout  Kept   `json:"timeout" kept:"each try has the few seconds of a health check"`
}

// Scripts that built-in knowledge takes the place of.
const (
	ScriptGateway = "phoenix_hypervisor_lxc_101.sh"
	ScriptProxy   = "phoenix_hypervisor_lxc_102.sh"
	ScriptCA      = "phoenix_hypervisor_lxc_103.sh"
)

// Features that phoenix knows by itself. Others are the users' own feature scripts.
const (
	FeatureBase      = "base_setup"
	FeatureStepCA    = "step_ca"
	FeatureGateway   = "nginx_gateway"
	FeatureTraefik   = "traefik"
	FeatureTrustedCA = "trusted_ca"
	FeatureStepCLI   = "step_cli"
)

// Features are those that phoenix knows by itself.
var Features = []string{FeatureBase, FeatureGateway, FeatureStepCA, FeatureStepCLI, FeatureTraefik, FeatureTrustedCA}

// featureScript is how the names of feature scripts begin.
const featureScript = "phoenix_hypervisor_feature_install_"

// Has reports whether the container has the feature.
func (c *Container) Has(feature string) bool { return slices.Contains(c.Features, feature) }

// FeatureScripts are the users' own scripts of the features that phoenix does not know, in the order of the features.
func (c *Container) FeatureScripts() []string {
	var out []string
	for _, f := range c.Features {
		if !slices.Contains(Features, f) {
			out = append(out, featureScript+f+".sh")
		}
	}
	return out
}

// IsCA reports whether the container runs step-ca.
func (c *Container) IsCA() bool { return c.Has(FeatureStepCA) || c.ApplicationScript == ScriptCA }

// IsGateway reports whether the container runs the Nginx gateway.
func (c *Container) IsGateway() bool {
	return c.Has(FeatureGateway) || c.ApplicationScript == ScriptGateway
}

// IsProxy reports whether the container runs Traefik.
func (c *Container) IsProxy() bool {
	return c.Has(FeatureTraefik) || c.ApplicationScript == ScriptProxy
}

// OwnScript is the application script that has to be run, or empty where there is none or built-in knowledge takes its
// place.
func (c *Container) OwnScript() string {
	switch c.ApplicationScript {
	case ScriptGateway, ScriptProxy, ScriptCA:
		return ""
	}
	return c.ApplicationScript
}

// Network is a container's interface.
type Network struct {
	At
	Name        string       `json:"name" default:"eth0"`
	Bridge      string       `json:"bridge" need:"true"`
	Address     netip.Prefix `json:"ip" need:"true"`          // with the prefix length; the host bits are kept
	Gateway     netip.Addr   `json:"gw"`                      // zero: none; of a /32 it may be any
	Address6    netip.Prefix `json:"ip6"`                     // zero: none but the link's own
	Gateway6    netip.Addr   `json:"gw6"`                     // may be the router's address on the link, fe80::1
	Nameservers Words        `json:"nameservers"`             // addresses
	MTU         *int         `json:"mtu" min:"0" max:"65535"` // 0: the bridge's, as where there is none
	Tag         *int         `json:"tag" min:"0" max:"4094"`  // the VLAN, on Proxmox; 0: none
}

// Volume is storage that phoenix makes for one container. UID and GID are ids inside.
type Volume struct {
	At
	Name       string     `json:"name" need:"true"`
	Pool       string     `json:"pool"`
	SizeGB     int        `json:"size_gb" min:"0" max:"1048576"` // 0: no limit
	MountPoint string     `json:"mount_point" need:"true"`       // absolute and clean
	UID        *int       `json:"owner_uid" min:"0" max:"65535"` // nil: whoever needs it
	GID        *int       `json:"owner_gid" min:"0" max:"65535"`
	Mode       *spec.Mode `json:"mode"`
	Backup     bool       `json:"backup" acted:"pve" kept:"phoenix makes no backups of volumes yet"`
}

// MountPoint is a directory of the hypervisor that one container sees. UID and GID are ids inside.
type MountPoint struct {
	At
	HostPath      string     `json:"host_path" need:"true"`      // absolute and clean
	ContainerPath string     `json:"container_path" need:"true"` // absolute and clean
	Share         bool       `json:"share"`                      // other containers may see it too; it holds no keys
	ReadOnly      bool       `json:"read_only"`                  // with Share unless the file says false
	UID           *int       `json:"owner_uid" min:"0" max:"65535"`
	GID           *int       `json:"owner_gid" min:"0" max:"65535"`
	Mode          *spec.Mode `json:"mode"`
	Backup        bool       `json:"backup" kept:"phoenix makes no backups of volumes yet"`
}

// Certificate is one that a container keeps issued for itself.
type Certificate struct {
	At
	CommonName  string        `json:"common_name" need:"true"`
	DNSNames    []string      `json:"dns_names"` // CommonName need not be among them
	KeyType     string        `json:"key_type" enum:"ec-p256,ec-p384,rsa-2048,rsa-4096" default:"ec-p256"`
	RenewBefore spec.Duration `json:"renew_before"`
	CertPath    string        `json:"cert_path" need:"true"`
	KeyPath     string        `json:"key_path" need:"true"`
	Owner       string        `json:"owner"` // user or user:group
	Mode        *spec.Mode    `json:"mode"`  // of the key
	Reload      Argv          `json:"reload"`
}

// TraefikService is a container's web server behind Traefik.
type TraefikService struct {
	At
	Name       string   `json:"name" need:"true"` // one DNS label
	Port       int      `json:"port" need:"true" min:"1" max:"65535"`
	Scheme     string   `json:"scheme" enum:"http,https,h2c" default:"http"` // h2c: HTTP/2 without TLS
	Hosts      []string `json:"hosts"`                                       // full names, besides those derived from Name
	ServerName string   `json:"server_name"`                                 // verified for https
	CAFile     string   `json:"ca_file"`                                     // path in the container of Traefik; PEM of who signed an https backend's certificate
	Paths      []string `json:"paths"`                                       // /api: it, and all below it; none: every path
	AllowFrom  []string `json:"allow_from"`                                  // networks or addresses that clients are in; none: any
	UsersFile  string   `json:"users_file"`                                  // path in the container of Traefik; made by htpasswd
	Headers    []string `json:"headers"`                                     // of responses, NAME: VALUE
	// of requests, as the application gets them
	RequestHeaders []string `json:"request_headers"`
	// FROM TO: a path, or one of hosts; answered 301 with a path of the same host, or with another name
	Redirects []string `json:"redirects"`
}
