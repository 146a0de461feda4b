package stepca

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// minLeafLifetime is step-ca's own lower limit.
const minLeafLifetime = 5 * time.Minute

// Names of the files that the unit hands to step-ca (LoadCredential) and that ca.json refers to.
const (
	credRoot         = "root_ca.crt"
	credIntermediate = "intermediate_ca.crt"
	credKey          = "intermediate_ca_key"
)

// caConfig is the part of step-ca's ca.json that is used (github.com/smallstep/certificates v0.30.2,
// authority/config/config.go). What is left out is off: no insecure listener, no admin API, no SSH, no CRL, no
// templates.
type caConfig struct {
	Root             string            `json:"root"`
	IntermediateCert string            `json:"crt"`
	IntermediateKey  string            `json:"key"`
	Address          string            `json:"address"`
	DNSNames         []string          `json:"dnsNames"`
	CommonName       string            `json:"commonName"`
	Logger           map[string]string `json:"logger"`
	DB               dbConfig          `json:"db"`
	Authority        authConfig        `json:"authority"`
}

type dbConfig struct {
	Type       string `json:"type"`
	DataSource string `json:"dataSource"`
}

type authConfig struct {
	Policy       map[string]policy `json:"policy"`
	Claims       claims            `json:"claims"`
	Provisioners []provisioner     `json:"provisioners"`
}

type policy struct {
	Allow nameLists `json:"allow"`
}

type nameLists struct {
	DNS []string `json:"dns,omitempty"`
	IP  []string `json:"ip,omitempty"`
}

type claims struct {
	Min     string `json:"minTLSCertDuration"`
	Max     string `json:"maxTLSCertDuration"`
	Default string `json:"defaultTLSCertDuration"`
	// Renewal over mutual TLS would get around the challenges; ACME clients order anew.
	DisableRenewal bool `json:"disableRenewal"`
	EnableSSH      bool `json:"enableSSHCA"`
}

type provisioner struct {
	Type       string   `json:"type"`
	Name       string   `json:"name"`
	Challenges []string `json:"challenges"`
}

// render gives the ca.json of a spec: the same spec, the same bytes.
func render(s spec.StepCA) ([]byte, error) {
	dns, ips := split(s.AllowedNames...)
	allow := nameLists{DNS: dns}
	for _, ip := range ips {
		allow.IP = append(allow.IP, single(ip).String())
	}
	cred := func(name string) string { return filepath.Join(s.Credentials, name) }
	c := caConfig{
		Root: cred(credRoot), IntermediateCert: cred(credIntermediate), IntermediateKey: cred(credKey),
		Address: s.Address, DNSNames: s.DNSNames, CommonName: s.DNSNames[0],
		Logger: map[string]string{"format": "text"},
		DB:     dbConfig{Type: s.Database, DataSource: dataSource(s)},
		Authority: authConfig{
			Policy: map[string]policy{"x509": {Allow: allow}},
			Claims: claims{
				Min: min(minLeafLifetime, time.Duration(s.LeafLifetime)).String(),
				Max: time.Duration(s.MaxLeafLifetime).String(), Default: time.Duration(s.LeafLifetime).String(),
				DisableRenewal: true,
			},
			Provisioners: []provisioner{{Type: "ACME", Name: s.Provisioner,
				Challenges: []string{spec.HTTP01, spec.TLSALPN01}}},
		},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	err := enc.Encode(c)
	return b.Bytes(), err
}

// dataSource is a file for bbolt and a directory for badger.
func dataSource(s spec.StepCA) string {
	if s.Database == bbolt {
		return filepath.Join(s.Data, "step-ca.db")
	}
	return s.Data
}
