package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// answerer makes the answer to a challenge visible to the CA; what it returns takes the answer away again.
type answerer interface {
	present(ctx context.Context, h host.Host, c acme.Challenge) (func() error, error)
}

func (d Driver) answerer(s spec.Certificate) answerer {
	listen := d.Listen
	if listen == nil {
		listen = (&net.ListenConfig{}).Listen
	}
	switch {
	case s.Challenge == spec.TLSALPN01:
		return alpnListener{listen: listen}
	case s.Webroot != "":
		return webroot{dir: filepath.Join(s.Webroot, ".well-known", "acme-challenge")}
	}
	return httpListener{listen: listen}
}

// token is all that a token may hold (RFC 8555, section 8.1): it becomes a file name.
var token = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// webroot writes answers where the web server's workers find them by name; they cannot list the directory.
type webroot struct{ dir string }

const forgotten = time.Hour // age at which an answer is one that a killed order left

func (w webroot) present(_ context.Context, h host.Host, c acme.Challenge) (func() error, error) {
	if !token.MatchString(c.Token) {
		return nil, fmt.Errorf("the CA's token %q is not one", c.Token)
	}
	if err := h.MkdirAll(w.dir, 0o711, host.Root); err != nil {
		return nil, err
	}
	if err := w.sweep(h); err != nil {
		return nil, err
	}
	path := filepath.Join(w.dir, c.Token)
	if err := h.WriteFile(path, []byte(c.KeyAuthorization), 0o644, host.Root); err != nil {
		return nil, err
	}
	return func() error { return h.Remove(path) }, nil
}

func (w webroot) sweep(h host.Host) error {
	names, err := h.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(w.dir, n)
		if m, err := h.Lstat(path); err != nil || h.Now().Sub(m.ModTime) < forgotten {
			continue
		}
		if err := h.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

type listenFunc func(ctx context.Context, network, address string) (net.Listener, error)

func (l listenFunc) open(ctx context.Context, address string) (net.Listener, error) {
	ln, err := l(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %s is taken by what runs here; it has to answer the challenge from a webroot: %w",
			address, err)
	}
	return ln, err
}

// httpListener answers on port 80 for the time of one challenge.
type httpListener struct{ listen listenFunc }

func (l httpListener) present(ctx context.Context, _ host.Host, c acme.Challenge) (func() error, error) {
	ln, err := l.listen.open(ctx, ":80")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+c.HTTP01ResourcePath(), func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(c.KeyAuthorization)) // the CA went away: it tells so itself
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return serve(ln, srv.Serve, srv.Close), nil
}

// alpnListener answers on port 443 for the time of one challenge (RFC 8737).
type alpnListener struct{ listen listenFunc }

func (l alpnListener) present(ctx context.Context, _ host.Host, c acme.Challenge) (func() error, error) {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return nil, err
	}
	ln, err := l.listen.open(ctx, ":443")
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{acmez.ACMETLS1Protocol},
		MinVersion: tls.VersionTLS12}
	srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 10 * time.Second,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	return serve(tls.NewListener(ln, conf), srv.Serve, srv.Close), nil
}

// serve runs until the returned function, which waits for its end. The one goroutine here: the CA dials back while it
// is asked.
func serve(ln net.Listener, run func(net.Listener) error, stop func() error) func() error {
	ended := make(chan error, 1)
	go func() { ended <- run(ln) }()
	return func() error {
		err := errors.Join(stop(), <-ended)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}
