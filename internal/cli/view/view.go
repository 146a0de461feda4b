// Package view shows results: as text for people or as JSON for programs, behind one interface. It decides nothing.
package view

import (
	"io"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// View shows what a command found or did. Event may be called at once by many; the others are for one goroutine, each
// at most once a command.
type View interface {
	// Event is progress while long work runs.
	Event(engine.Event)
	// Step is a part of a long command that begins.
	Step(what string)
	Certificates([]FullCertificate)
	CertificateDetails([]FullCertificate)
	Issued(issued.Report)
	Sealed(Sealed)
	Access(Access)
	RootAccess(RootAccess)
	Rotation(Rotation)
	Rotated(Rotated)
	Validation(Validation)
	// Notes is what is to be known besides; it comes before Plan or Applied.
	Notes(diag.List)
	Plan(engine.Result)
	Applied(Applied)
	Removed(Removed)
	Status(Status)
	Health(health.Report)
	Audit(Audit)
	Migration(Migration)
	Moved(Moved)
	Difference(Difference)
	Begun(Begun)
	Edited(Edited)
	Events([]engine.Entry)
	Volumes([]KnownVolume)
	// Following shows more events, a line each; it may be called again and again.
	Following([]engine.Entry)
	Version(Version)
	// Error is a command that could not do its work. hint may be empty.
	Error(err error, hint string)
}

// Options say how to show.
type Options struct {
	Out, Err io.Writer
	JSON     bool
	Format   string // of the audit besides text and JSON: sarif or junit
	Quiet    bool   // only what went wrong
	Color    bool
	Live     bool // Out is a terminal: lines may be drawn over
	Width    int  // of the terminal, columns

	// Advice has the commands in a text that says what to do be called as they have to be here; nil: they stay as they
	// are.
	Advice func(string) string
}

// New makes the View that was asked for.
func New(o Options) View {
	v := shaped(o)
	if o.Advice != nil {
		return &advised{View: v, say: o.Advice}
	}
	return v
}

func shaped(o Options) View {
	switch {
	case o.JSON:
		return &programs{out: o.Out, err: o.Err}
	case o.Format == "sarif":
		return &sarif{newPeople(o)}
	case o.Format == "junit":
		return &junit{newPeople(o)}
	}
	return newPeople(o)
}

// Validation is what the configuration's reading said.
type Validation struct {
	Valid       bool      `json:"valid"`
	Containers  int       `json:"containers"`
	Objects     int       `json:"objects"`
	Diagnostics diag.List `json:"diagnostics"`
	Hint        string    `json:"hint,omitempty"` // the way out of all that is wrong, where there is one
	Next        []string  `json:"next,omitempty"` // commands
}

// Applied is what create, apply, up and start did.
type Applied struct {
	Result     engine.Result
	Containers []string // the selected ones, with what they depend on
	Elapsed    time.Duration
	Stopped    error          // why it ended before all was done: an interrupt, --timeout; nil: it did not
	Health     *health.Report // up only
	Addresses  []Address      // up only
	Root       *Root          // up only
	Watch      string         // up only: which watch keeps it so; empty: none does
}

// Address is one to try.
type Address struct {
	URL     string `json:"url"`
	Through string `json:"through"` // host:port that it leads to
	Try     string `json:"try"`     // paste-ready command
}

// Root is the certificate that everything is verified against.
type Root struct {
	Fingerprint string `json:"fingerprint"` // lower-case hex SHA-256 of the DER
	Get         string `json:"get"`         // paste-ready command that prints it as PEM
}

// Removed is what stop and delete did.
type Removed struct {
	Verb      string           `json:"-"` // stopped or deleted
	Objects   []object.Address `json:"objects"`
	Kept      []object.Address `json:"kept,omitempty"`
	Aside     []Aside          `json:"put_aside,omitempty"`
	Notes     []string         `json:"notes,omitempty"`
	Mutations int              `json:"mutations"`
	Elapsed   time.Duration    `json:"-"`
}

// Aside is a deleted object that can be brought back, with the commands that do it and that remove it for good.
type Aside struct {
	Address object.Address `json:"address"`
	Place   string         `json:"place"`
	Restore string         `json:"restore"`
	Remove  string         `json:"remove"`
}

// Status is the state of containers.
type Status struct {
	Containers []Container `json:"containers"`
	Waiting    []Waiting   `json:"waiting,omitempty"` // changes of the files that watch does not make by itself
}

// Container is one container's state.
type Container struct {
	ID           int           `json:"id"`
	Name         string        `json:"name"`
	State        string        `json:"state"` // running, stopped, absent or, where it could not be observed, unknown
	IP           string        `json:"ip"`
	Volumes      []Volume      `json:"volumes"`
	Certificates []Certificate `json:"certificates"`
}

// Volume is a volume as it is on the hypervisor; owner is uid:gid there. Both are empty where the volume is absent.
type Volume struct {
	MountPoint string `json:"mount_point"`
	Source     string `json:"source"`
	Owner      string `json:"owner"`
	Mode       string `json:"mode"`
}

// Certificate is a certificate as it is in its container.
type Certificate struct {
	CommonName string    `json:"common_name"`
	DNSNames   []string  `json:"dns_names"`
	Serial     string    `json:"serial"`
	Issuer     string    `json:"issuer"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	Path       string    `json:"path"`
}

// Version is what this binary is.
type Version struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}
