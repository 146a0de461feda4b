package nginx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Status is what was seen of one part.
type Status struct {
	Present   bool   `json:"present"`            // the part's file is there
	SHA256    string `json:"sha256,omitempty"`   // of the part's file
	Mode      string `json:"mode,omitempty"`     // of the part's file
	Running   bool   `json:"running"`            // an nginx runs
	Loaded    string `json:"loaded,omitempty"`   // the digest that the running nginx tells for the part
	Unusable  string `json:"unusable,omitempty"` // why nginx cannot load the TLS part: certificate, key or root
	Orphan    bool   `json:"orphan,omitempty"`   // a TLS part is in place that nginx cannot load
	Trust     string `json:"trust,omitempty"`    // SHA-256 of the root certificate's file
	Unchecked bool   `json:"unchecked,omitempty"`
	Webroot   string `json:"webroot,omitempty"` // why nginx's workers cannot read it
	// Of the part own: snippets that are not as their copies, and the digest that a running nginx is to report.
	Differ []string `json:"differ,omitempty"`
	Own    string   `json:"own,omitempty"`
}

// Observe implements provider.Driver.
func (Driver) Observe(ctx context.Context, h host.Host, _ object.Address, s spec.Nginx) (*Status, error) {
	if s.Part == spec.NginxOwn {
		return observeOwn(ctx, h, s)
	}
	st := &Status{Unusable: unusable(h, s)}
	if err := st.file(h, s); err != nil {
		return nil, err
	}
	if !st.Present {
		return nil, nil
	}
	_, err := h.Lstat(nextDir(s))
	st.Unchecked = err == nil
	if s.Part == spec.NginxBase {
		st.Webroot = unreachable(h, s.Webroot)
		_, err := h.Lstat(tlsFile(s))
		st.Orphan = err == nil && st.Unusable != ""
	} else if st.Trust, err = trust(h, s); err != nil {
		return nil, err
	}
	if st.Running = running(h); st.Running {
		st.Loaded = loaded(ctx, h, s.Part)
	}
	return st, nil
}

func (st *Status) file(h host.Host, s spec.Nginx) error {
	m, err := h.Lstat(partFile(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st.Present, st.Mode = true, m.Mode.String()
	st.SHA256, err = h.Digest(partFile(s))
	return err
}

// trust is empty where there is no root yet: then unusable says so.
func trust(h host.Host, s spec.Nginx) (string, error) {
	d, err := h.Digest(s.RootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return d, err
}

// unusable says why nginx could not load the files that the TLS part names.
func unusable(h host.Host, s spec.Nginx) string {
	cert, err := h.ReadFile(s.Certificate)
	if err != nil {
		return err.Error()
	}
	key, err := h.ReadFile(s.Key)
	if err != nil {
		return err.Error()
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return s.Certificate + " and " + s.Key + ": " + err.Error()
	}
	root, err := h.ReadFile(s.RootFile)
	if err != nil {
		return err.Error()
	}
	block, _ := pem.Decode(root)
	if block == nil {
		return s.RootFile + ": no PEM certificate in it"
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return s.RootFile + ": " + err.Error()
	}
	return ""
}

// unreachable says why a worker, which is nobody in particular, cannot get at a file in dir.
func unreachable(h host.Host, dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		m, err := h.Lstat(at)
		if err != nil {
			return err.Error()
		}
		if m.Mode&fs.ModeSymlink == 0 && m.Mode.Perm()&0o001 == 0 {
			return fmt.Sprintf("%s has mode %04o: nginx's workers cannot pass", at, m.Mode.Perm())
		}
		if at == "/" {
			return ""
		}
	}
}

func running(h host.Host) bool {
	comm, err := h.ReadFile(filepath.Join("/proc", master(h), "comm"))
	return err == nil && strings.TrimSpace(string(comm)) == "nginx"
}

// master is the process id of nginx's master; "0", which is none, where it wrote none.
func master(h host.Host) string {
	pid, err := h.ReadFile(pidFile)
	if text := strings.TrimSpace(string(pid)); err == nil && text != "" {
		return text
	}
	return "0"
}

// accepting are the process ids of the workers that still take connections.
func accepting(h host.Host) []string {
	pid := master(h)
	children, err := h.ReadFile(filepath.Join("/proc", pid, "task", pid, "children")) // proc(5)
	if err != nil {
		return nil
	}
	var out []string
	for _, child := range strings.Fields(string(children)) {
		title, err := h.ReadFile(filepath.Join("/proc", child, "cmdline"))
		if err == nil && len(title) > 0 && !strings.Contains(string(title), "shutting down") {
			out = append(out, child)
		}
	}
	return out
}

// loaded asks the running nginx for the part's digest; empty: it has no such part.
func loaded(ctx context.Context, h host.Host, part string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/", nil)
	if err != nil {
		return ""
	}
	req.Host = loadedName(part)
	resp, err := (&http.Transport{DialContext: h.Dial, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}
