package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/health"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

func (a *app) caCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "ca", Short: "the certificate authority"})
	cmd.AddCommand(&cobra.Command{
		Use: "show", Short: "print the root certificate (PEM), asked of the CA and checked against the pinned " +
			"fingerprint; two while one root takes another's place",
		Example: `  phoenix ca show > root.pem
  curl --cacert <(phoenix ca show) https://…`,
		Args: nothingMore, RunE: a.command(func(ctx context.Context, _ []string) error { return a.caShow(ctx) }),
	})
	cmd.AddCommand(&cobra.Command{
		Use: "issued", Short: "every valid certificate that the CA issued, to whom, and whether it is in order; " +
			"changes nothing",
		Example: `  phoenix ca issued
  phoenix ca issued -o json`,
		Args: nothingMore, RunE: a.command(func(ctx context.Context, _ []string) error { return a.caIssued(ctx) }),
	})
	cmd.AddCommand(a.rotateCommand(), a.backupCommand(), a.restoreCommand())
	return cmd
}

func (a *app) caShow(ctx context.Context) error {
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
		return a.printRoots(ctx, h, o.Container, ca, roots)
	}
	return hint(`give one container the feature "step_ca"`, "no container of this configuration is a CA")
}

// printRoots writes the certificates with these fingerprints: the root, and while another takes its place both.
func (a *app) printRoots(ctx context.Context, h *house, id string, ca spec.StepCA, fingerprints []string) error {
	for _, f := range fingerprints {
		root, err := a.fetchRoot(ctx, h.objects, id, ca, f)
		if err != nil {
			return hint(a.again("health "+id), "the root cannot be had from container %s: %w", id, err)
		}
		if err := pem.Encode(a.stdout, &pem.Block{Type: "CERTIFICATE", Bytes: root}); err != nil {
			return err
		}
	}
	return nil
}

func pinned(a *app, objects []object.Object, id string) (string, bool) {
	fields := health.ReadPins(a.host, objects)[object.NewAddress(spec.KindPin, id)]
	return fields["fingerprint"], fields["fingerprint"] != ""
}

// fetchRoot asks the CA for the certificate with this fingerprint (step-ca's API, GET /root/{sha}). TLS is not
// verified: the fingerprint is, and it alone decides.
func (a *app) fetchRoot(ctx context.Context, objects []object.Object, id string, ca spec.StepCA,
	fingerprint string) ([]byte, error) {
	ip, ok := addressOf(objects, id)
	_, port, err := net.SplitHostPort(ca.Address)
	if !ok || err != nil {
		return nil, fmt.Errorf("its address is not known")
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: a.host.Dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // see above
		MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"https://"+net.JoinHostPort(ip.String(), port)+"/root/"+fingerprint, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var body struct {
		CA string `json:"ca"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&body); err != nil {
		return nil, fmt.Errorf("it answers %s: %w", response.Status, err)
	}
	block, _ := pem.Decode([]byte(body.CA))
	if block == nil {
		return nil, fmt.Errorf("it answers %s without a certificate", response.Status)
	}
	if sum := sha256.Sum256(block.Bytes); hex.EncodeToString(sum[:]) != fingerprint {
		return nil, fmt.Errorf("it answers with another root: sha256 %s, pinned is %s", hex.EncodeToString(sum[:]),
			fingerprint)
	}
	return block.Bytes, nil
}
