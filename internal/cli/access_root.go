package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"

	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// rootFileName is what the root's file is called in what is shown. Windows, Android and iOS open it by this ending.
const rootFileName = "phoenix-root.crt"

// accessRoot shows the root, asked of the CA and checked against the pin, and how it gets into systems.
func (a *app) accessRoot(ctx context.Context, file string) error {
	h, err := a.load()
	if err != nil {
		return err
	}
	for _, o := range h.objects {
		var ca spec.StepCA
		if o.Address.Kind() != spec.KindStepCA || json.Unmarshal(o.Spec, &ca) != nil {
			continue
		}
		fingerprint, ok := pinned(a, h.objects, o.Container)
		if !ok {
			return hint(a.again("create "+o.Container), "the CA of container %s is not made yet: no root is pinned",
				o.Container)
		}
		roots := h.machine.Pins.Both()
		if len(roots) == 0 {
			roots = []string{fingerprint}
		}
		out := view.RootAccess{}
		for _, f := range roots {
			der, err := a.fetchRoot(ctx, h.objects, o.Container, ca, f)
			if err != nil {
				return hint(a.again("health "+o.Container), "the root cannot be had from container %s: %w",
					o.Container, err)
			}
			shown, err := rootOf(der, f)
			if err != nil {
				return err
			}
			out.Roots = append(out.Roots, shown)
		}
		if err := a.writeRoots(out.Roots, file); err != nil {
			return err
		}
		out.Written = file
		out.Systems = rootSystems(out.Roots[len(out.Roots)-1].Name, out.Roots[len(out.Roots)-1].Fingerprint)
		a.view.RootAccess(out)
		return nil
	}
	return hint(`give one container the feature "step_ca"`, "no container of this configuration is a CA")
}

func rootOf(der []byte, fingerprint string) (view.RootFile, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return view.RootFile{}, fmt.Errorf("the root: %w", err)
	}
	out := view.RootFile{Name: c.Subject.CommonName, Fingerprint: fingerprint, NotAfter: c.NotAfter,
		Permits: []string{},
		PEM:     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	out.Permits = append(out.Permits, c.PermittedDNSDomains...)
	for _, n := range c.PermittedIPRanges {
		out.Permits = append(out.Permits, n.String())
	}
	return out, nil
}

func (a *app) writeRoots(roots []view.RootFile, file string) error {
	if file == "" {
		return nil
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	var all bytes.Buffer
	for _, r := range roots {
		all.WriteString(r.PEM)
	}
	return a.host.WriteFile(path, all.Bytes(), 0o644, host.Root)
}

// rootSystems is the one list of how a root called name, with this SHA-256, gets into systems and out again;
// docs/access.md has the same.
func rootSystems(name, sha256 string) []view.RootSystem {
	return []view.RootSystem{
		{System: "Debian, Ubuntu", In: []string{"cp " + rootFileName +
			" /usr/local/share/ca-certificates/ && update-ca-certificates"},
			Out: []string{"rm /usr/local/share/ca-certificates/" + rootFileName +
				" && update-ca-certificates --fresh"}},
		{System: "Fedora, RHEL", In: []string{"cp " + rootFileName +
			" /etc/pki/ca-trust/source/anchors/ && update-ca-trust"},
			Out: []string{"rm /etc/pki/ca-trust/source/anchors/" + rootFileName + " && update-ca-trust"}},
		{System: "Windows (as administrator; Edge and Chrome use it)", In: []string{"certutil -addstore -f Root " +
			rootFileName},
			Out: []string{`certutil -delstore Root "` + name + `"`}},
		{System: "macOS (Safari and Chrome use it)", In: []string{"sudo security add-trusted-cert -d -r trustRoot -p " +
			"ssl -k /Library/Keychains/System.keychain " + rootFileName},
			Out: []string{`sudo security delete-certificate -t -Z ` + upperHex(sha256) +
				` /Library/Keychains/System.keychain`}},
		{System: "iOS, iPadOS", In: []string{"send the file by AirDrop or mail, open it; Settings > General > VPN & " +
			"Device Management: install the profile",
			"Settings > General > About > Certificate Trust Settings: switch it on, else nothing trusts it"},
			Out: []string{"Settings > General > VPN & Device Management: remove the profile"}},
		{System: "Android (browsers; apps only where they say so)",
			In: []string{"Settings > Security > Encryption & credentials > Install a certificate > CA certificate: " +
				"choose the file"},
			Out: []string{"Settings > Security > Encryption & credentials > Trusted credentials > User: remove it"}},
		{System: "Firefox (Linux, and where it does not use the system's store)",
			In: []string{"Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import: " +
				"only \"identify websites\"",
				"or for all profiles: {\"policies\": {\"Certificates\": {\"Install\": " +
					"[\"/usr/local/share/ca-certificates/" + rootFileName +
					"\"]}}} in /etc/firefox/policies/policies.json"},
			Out: []string{"the same place: Delete or Distrust; or take it out of policies.json"}},
		{System: "Chrome on Linux", In: []string{`certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n "` + name + `" -i ` +
			rootFileName},
			Out: []string{`certutil -d sql:$HOME/.pki/nssdb -D -n "` + name + `"`}},
		{System: "Java", In: []string{"keytool -importcert -cacerts -alias phoenix-" + sha256[:8] + " -file " +
			rootFileName},
			Out: []string{"keytool -delete -cacerts -alias phoenix-" + sha256[:8]}},
	}
}

func upperHex(s string) string { return string(bytes.ToUpper([]byte(s))) }
