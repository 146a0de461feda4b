package view

import (
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/issued"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// FullCertificate is a certificate with all that was seen of it.
type FullCertificate struct {
	Certificate
	Object    object.Address `json:"object"`
	Container string         `json:"container"`
	KeyType   string         `json:"key_type,omitempty"`
	RenewAt   time.Time      `json:"renew_at,omitzero"`
	Problem   string         `json:"problem,omitempty"` // why a new one is to be issued
	Served    string         `json:"served,omitempty"`  // serial of what is served in its place

	ReloadPending string `json:"reload_pending,omitempty"` // why its reload is not done yet
}

func (p *people) Certificates(list []FullCertificate) {
	if len(list) == 0 {
		p.say("no certificates\n")
		return
	}
	w := tabwriter.NewWriter(p.Out, 0, 0, 2, ' ', 0)
	for _, c := range list {
		said := "valid until " + c.NotAfter.Local().Format("2006-01-02 15:04")
		if c.Problem != "" {
			said = c.Problem
		}
		if c.ReloadPending != "" {
			said += "; reload pending: " + c.ReloadPending
		}
		writeRow(w, c.Container, c.CommonName, said, c.Path)
	}
	_ = w.Flush() // to where everything goes
}

func (p *people) CertificateDetails(list []FullCertificate) {
	for i, c := range list {
		if i > 0 {
			p.say("\n")
		}
		w := tabwriter.NewWriter(p.Out, 0, 0, 2, ' ', 0)
		for _, f := range [][2]string{
			{"object", string(c.Object)}, {"names", strings.Join(c.DNSNames, ", ")},
			{"serial", issued.Serial(c.Serial)}, {"issuer", c.Issuer},
			{"key", c.KeyType}, {"valid from", stamp(c.NotBefore)}, {"valid until", stamp(c.NotAfter)},
			{"renewed at", stamp(c.RenewAt)},
			{"file", c.Path}, {"served", issued.Serial(c.Served)}, {"reload pending", c.ReloadPending},
			{"problem", c.Problem},
		} {
			if f[1] != "" {
				writeRow(w, f[0], f[1])
			}
		}
		_ = w.Flush() // to where everything goes
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

func (v *programs) Certificates(list []FullCertificate) {
	list = slices.Clone(list)
	for i := range list {
		if list[i].DNSNames == nil {
			list[i].DNSNames = []string{}
		}
	}
	v.write(struct {
		Certificates []FullCertificate `json:"certificates"`
	}{list})
}

func (v *programs) CertificateDetails(list []FullCertificate) { v.Certificates(list) }
