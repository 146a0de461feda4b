package spec

import (
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Kinds of objects that live inside a container.
const (
	KindFile        = "file"        // file/101/etc/resolv.conf         provider file
	KindUser        = "user"        // user/103/step                    provider user
	KindPackage     = "package"     // package/101/nginx                provider pkg
	KindUnit        = "unit"        // unit/103/step-ca.service         provider unit
	KindTrust       = "trust"       // trust/101                        provider trust
	KindStepCA      = "stepca"      // stepca/103                       provider stepca
	KindCertificate = "certificate" // certificate/101/NAME             provider certificate
	KindNginx       = "nginx"       // nginx/101                        provider nginx
	KindTraefik     = "traefik"     // traefik/102                      provider traefik
	KindScript      = "script"      // script/201/hello.sh              provider script
	// agent/101                        provider agent: the daemon and the objects it keeps
	KindAgent = "agent"
)

// File is one file or directory.
type File struct {
	Path      string `json:"path"`
	Directory bool   `json:"folder,omitempty"`
	Content   string `json:"content,omitempty"` // text of a small file
	SHA256    string `json:"sha256,omitempty"`  // of a large one, fetched as a blob; then Content is empty
	Mode      Mode   `json:"mode"`
	Owner     string `json:"owner,omitempty"` // user name or id; empty: root
	Group     string `json:"group,omitempty"` // empty: the owner's own
}

// User is a system user with a group of the same name, without a login.
type User struct {
	Name string `json:"name"`
	// UID and GID it must have, the same number, so that its files on a volume stay its own when the container is made
	// anew; 0: any.
	UID  int    `json:"uid,omitempty"`
	Home string `json:"home,omitempty"`
}

// Package is Debian packages that are installed.
type Package struct {
	Names []string `json:"names"`
}

// Unit is a systemd unit.
type Unit struct {
	Name    string `json:"name"`              // step-ca.service
	Content string `json:"content,omitempty"` // of /etc/systemd/system/NAME; empty: the package brings it
	DropIn  string `json:"drop_in,omitempty"` // of /etc/systemd/system/NAME.d/50-phoenix.conf
	// digest of all that the process reads at its start; a running instance with another one is restarted
	Inputs  string `json:"inputs,omitempty"`
	Also    string `json:"also,omitempty"`     // a second digest, for what only another object's status knows
	Ready   string `json:"ready,omitempty"`    // address (host:port) that accepts connections once it is up
	Stopped bool   `json:"stopped,omitempty"`  // disabled and not running
	Oneshot bool   `json:"one_shot,omitempty"` // no process stays behind
	AtBoot  bool   `json:"at_boot,omitempty"`  // the next boot starts it; one that runs already is kept up to date
	// Lasting, the process that runs is left alone when the drop-in changes: its next start takes the new one. It is
	// for what clients are connected to, and a drop-in that is worth no interruption of theirs.
	Lasting bool `json:"lasting,omitempty"`
}

// Trust is a root certificate in the system's store, taken from the CA over the network and checked against
// Fingerprint.
type Trust struct {
	Name        string `json:"name"`        // file name in the store, without .crt
	Server      string `json:"server"`      // base address of the CA: https://ca.example:9000
	Fingerprint string `json:"fingerprint"` // lower-case hex SHA-256 of the DER
	// Both, where there are any, are all roots that are trusted while one takes another's place; Gone is one that must
	// not be.
	Both []string `json:"both,omitempty"`
	Gone string   `json:"gone,omitempty"`
}

// StepCA is a certificate authority run by step-ca.
type StepCA struct {
	Dir              string   `json:"dir"` // its volume: /etc/step-ca/ssl
	User             string   `json:"user"`
	RootName         string   `json:"root_name"`
	IntermediateName string   `json:"intermediate_name"`
	DNSNames         []string `json:"dns_names"`           // every name and address that clients dial
	Address          string   `json:"address"`             // listens on: ":9000"
	Provisioner      string   `json:"provisioner"`         // name of the ACME provisioner
	AllowedNames     []string `json:"allowed_names"`       // x509 policy: exactly these
	Domains          []string `json:"domains"`             // name constraints of the intermediate: these and below
	Addresses        []string `json:"addresses,omitempty"` // name constraints: the CA's own addresses
	// RootPermits are domains and subnets that a root which is made may sign for, besides those of the intermediate;
	// RootOpen: it has no name constraints. A root that is there stays as it is.
	RootPermits      []string `json:"root_permits,omitempty"`
	RootOpen         bool     `json:"root_open,omitempty"`
	LeafLifetime     Duration `json:"leaf_lifetime"`
	MaxLeafLifetime  Duration `json:"max_leaf_lifetime"`
	RootLifetime     Duration `json:"root_lifetime"`
	IntermediateLife Duration `json:"intermediate_lifetime"`
	Database         string   `json:"database"` // bbolt or badgerv2
	// Credentials is the directory in which the running step-ca finds what its unit loads with LoadCredential: ca.json,
	// password, root_ca.crt, intermediate_ca.crt, intermediate_ca_key. Usually /run/credentials/step-ca.service.
	Credentials string `json:"credentials"`
	// Data is where the running step-ca sees Dir/db, bound there by its unit: /var/lib/step-ca.
	Data string `json:"data"`
	// Pinned is the root fingerprint that the hypervisor has pinned, empty where there is none. With it no other root
	// is made.
	Pinned string `json:"pinned,omitempty"`
	// FirstRoot: a person asked for the first root of a site that never had one. Without it none is made: what runs
	// unattended cannot tell a new site from one whose root was deleted or lost.
	FirstRoot bool `json:"first_root,omitempty"`
	// NewRoot is a person's consent to a new root where the old one is lost.
	NewRoot bool `json:"new_root,omitempty"`
	// Next, Old and Gone are the other root while one takes another's place (Pins): made and not used yet, still
	// offered to those who trust it, or to be destroyed.
	Next string `json:"next,omitempty"`
	Old  string `json:"old,omitempty"`
	Gone string `json:"gone,omitempty"`
	// MakeNext: a person wants another root made beside the one in use.
	MakeNext bool `json:"make_next,omitempty"`
	// Exposed: the intermediate and the passwords that were made before count as known to others.
	Exposed time.Time `json:"exposed,omitzero"`
	// Import is a directory with the files of a CA that was made otherwise: where there is no root, the pinned one and
	// its key are taken from there. Nothing else is.
	Import string `json:"import,omitempty"`
}

// ACME is what a client of the CA needs.
type ACME struct {
	Directory string `json:"directory"` // https://ca.example:9000/acme/acme/directory
	RootFile  string `json:"root_file"` // PEM; the trust object writes it
}

// Challenge types (RFC 8555, section 8.3; RFC 8737).
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
)

// OrderTimeout is how long an order of a certificate may take. step-ca takes a fraction of a second, if it reaches the
// container.
const OrderTimeout = 20 * time.Second

// Certificate is a certificate that the agent keeps issued, with a key that is made in place.
type Certificate struct {
	CommonName  string   `json:"common_name"`
	DNSNames    []string `json:"dns_names"` // CommonName is one of them
	KeyType     string   `json:"key_type"`  // ec-p256, ec-p384, rsa-2048, rsa-4096
	ACME        ACME     `json:"acme"`
	AccountDir  string   `json:"account_dir"` // the ACME account's key and address; 0700
	Fingerprint string   `json:"fingerprint"` // of the root that the chain must end in
	// Good, where there are any, are the roots of which the chain may end in either, while one takes another's place.
	Good []string `json:"good,omitempty"`
	// Exposed: a certificate or an intermediate that was issued before counts as known to others, and is replaced.
	Exposed time.Time `json:"exposed,omitzero"`
	// Leaked are keys that others could read, by SHA-256 of their SubjectPublicKeyInfo in lower-case hex: never used
	// again.
	Leaked []string `json:"leaked,omitempty"`
	// Renew: a person wants another one than was issued before.
	Renew       time.Time `json:"renew,omitzero"`
	CertPath    string    `json:"cert_path"` // leaf and intermediates
	KeyPath     string    `json:"key_path"`
	Owner       string    `json:"owner,omitempty"`
	Group       string    `json:"group,omitempty"`
	Mode        Mode      `json:"mode"`                   // of the key; the certificate is 0644
	RenewBefore Duration  `json:"renew_before,omitempty"` // 0: a third of the real lifetime
	Lifetime    Duration  `json:"lifetime,omitempty"`     // asked for; 0: the CA's default
	// OrderTimeout is how long one order may take; 0: OrderTimeout.
	OrderTimeout Duration `json:"order_timeout,omitempty"`
	Challenge    string   `json:"challenge"`
	// http-01 answers are written here; empty: the agent itself listens on :80 during the order
	Webroot string `json:"webroot,omitempty"`
	// command after a change, argv; must succeed where nothing runs (systemctl try-reload-or-restart)
	Reload []string `json:"reload,omitempty"`
	// host:port that must serve it after the reload; empty: nobody does
	Served string `json:"served,omitempty"`
}

// The parts of a proxy's configuration that are objects of their own.
const (
	NginxBase           = "base"         // challenges, redirects, and no TLS yet
	NginxTLS            = "tls"          // the names, once there is a certificate; After it
	NginxOwn            = "own"          // the users' snippets; After NginxTLS, and nothing after it
	TraefikConfig       = "config"       // its files
	TraefikCertificates = "certificates" // what it serves; After its unit
)

// Nginx is the gateway's configuration.
type Nginx struct {
	Part        string      `json:"part"`        // NginxBase, NginxTLS or NginxOwn
	Dir         string      `json:"dir"`         // /etc/nginx
	Webroot     string      `json:"webroot"`     // answers of the agent's own challenges
	Certificate string      `json:"certificate"` // path; TLS names are served once it exists
	Key         string      `json:"key"`
	RootFile    string      `json:"root_file"` // upstreams are verified against it
	Sites       []NginxSite `json:"sites"`
}

// NginxSite is one name that the gateway answers.
type NginxSite struct {
	Name string `json:"name"` // DNS name
	// host:port of the TLS upstream (Traefik); empty: no route, answered 404
	Upstream string `json:"upstream,omitempty"`
	Cover    string `json:"cover,omitempty"` // host:port of who answers while the upstream is started anew
	// Challenge is host:port that http-01 challenges for Name go to when the gateway itself has no answer; empty:
	// nowhere.
	Challenge string `json:"challenge,omitempty"`
}

// CoverPort is where the proxy's stand-in is reached.
const CoverPort = 8443

// Traefik is the internal proxy's configuration.
type Traefik struct {
	Part        string    `json:"part"`    // TraefikConfig or TraefikCertificates
	Dir         string    `json:"dir"`     // /etc/traefik
	Storage     string    `json:"storage"` // acme.json on its volume
	User        string    `json:"user"`
	ACME        ACME      `json:"acme"`
	Fingerprint string    `json:"fingerprint"`      // of the root
	Good        []string  `json:"good,omitempty"`   // as of Certificate
	Exposed     time.Time `json:"exposed,omitzero"` // as of Certificate
	Renew       time.Time `json:"renew,omitzero"`   // as of Certificate
	Lifetime    Duration  `json:"lifetime"`         // of the leaves, so that Traefik renews in time
	// OrderTimeout is how long Traefik may take for all that it lacks; 0: OrderTimeout.
	OrderTimeout Duration       `json:"order_timeout,omitempty"`
	Challenge    string         `json:"challenge"`
	Routes       []TraefikRoute `json:"routes"`
	// Gateways are the addresses whose word on where a request came from is taken (X-Forwarded-For and its like); that
	// of all others is replaced.
	Gateways []string `json:"gateways,omitempty"`
	// name under which Traefik itself answers, with its ping and nothing more; empty: none
	OwnName string `json:"own_name,omitempty"`
	// looks at the static file before it is put in place; empty: /usr/local/bin/traefik, where there is one
	Binary string `json:"binary,omitempty"`
	// Cover is a unit that answers at CoverPort with the certificates of before while Traefik is started anew; empty:
	// there is none.
	Cover string `json:"cover,omitempty"`
	// command that restarts it, argv; empty: systemctl restart traefik.service
	Restart []string `json:"restart,omitempty"`
}

// TraefikRoute sends names to one backend.
type TraefikRoute struct {
	Name       string   `json:"name"`
	Hosts      []string `json:"hosts"`
	URL        string   `json:"url"`                   // http://10.0.0.141:8000
	ServerName string   `json:"server_name,omitempty"` // verified for https backends
	// RootFile has the certificates, PEM, of which one must have signed an https backend's; empty: the CA's root.
	RootFile  string   `json:"root_file,omitempty"`
	Paths     []string `json:"paths,omitempty"`      // and all below them; empty: every path
	AllowFrom []string `json:"allow_from,omitempty"` // networks that clients are in; empty: any
	UsersFile string   `json:"users_file,omitempty"` // htpasswd; empty: nobody is asked for a password
	Headers   []string `json:"headers,omitempty"`    // of responses, NAME: VALUE; an empty value takes one out
	// of requests, the same way
	RequestHeaders []string   `json:"request_headers,omitempty"`
	Redirects      []Redirect `json:"redirects,omitempty"`
}

// Redirect sends clients from a path and what is below it to another path, or from a host to another one.
type Redirect struct {
	From string `json:"from"` // /old, or www.example.org
	To   string `json:"to"`   // /new, or example.org
}

// Script is a user's own script, run once per content.
type Script struct {
	Name   string   `json:"name"`
	SHA256 string   `json:"sha256"` // of the content, fetched as a blob
	Args   []string `json:"args,omitempty"`
}

// Agent is phoenix's daemon inside the container and the objects it keeps true by itself.
type Agent struct {
	Binary  string          `json:"binary"` // path inside
	SHA256  string          `json:"sha256"` // of the binary, so that an old daemon is restarted
	Objects []object.Object `json:"objects"`
}
