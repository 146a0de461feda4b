package gateway

import (
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// backends listen where the routes lead to: one application, behind plain http, TLS and HTTP/2 without TLS.
func (s *site) backends() {
	s.t.Helper()
	pair, err := tls.X509KeyPair(s.ca.Issue(s.t, time.Now().Add(time.Hour), secureName))
	if err != nil {
		s.t.Fatal(err)
	}
	serve(s.t, ":8000", true, false, nil)
	serve(s.t, ":8001", false, true, nil)
	serve(s.t, ":8443", true, true, &tls.Config{Certificates: []tls.Certificate{pair}})
}

func serve(t *testing.T, port string, h1, h2 bool, secure *tls.Config) {
	t.Helper()
	ln, err := net.Listen("tcp", gatewayAt+port)
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetHTTP1(h1)
	if secure == nil {
		p.SetUnencryptedHTTP2(h2)
	} else {
		p.SetHTTP2(h2)
	}
	srv := &http.Server{Handler: application(), Protocols: p, TLSConfig: secure, MaxHeaderBytes: 1 << 20}
	t.Cleanup(func() { _ = srv.Close() })
	go func() {
		if secure != nil {
			_ = srv.ServeTLS(ln, "", "")
			return
		}
		_ = srv.Serve(ln)
	}()
}

const fileText = "0123456789abcdefghijklmnopqrstuvwxyz"

func application() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/proto", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	mux.HandleFunc("/origin", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Large", r.Header.Get("X-Large"))
		for _, c := range r.Cookies() {
			http.SetCookie(w, c)
		}
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.txt", time.Unix(1e9, 0), strings.NewReader(fileText))
	})
	mux.HandleFunc("/upload", upload)
	mux.HandleFunc("/download", download)
	mux.HandleFunc("/events", events)
	mux.HandleFunc("/echo", echo)
	mux.Handle("/socket", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	return mux
}

// upload tells how many bytes came, and how they came.
func upload(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("refuse") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%d %d %s", n, r.ContentLength, strings.Join(r.TransferEncoding, ","))
}

func download(w http.ResponseWriter, r *http.Request) {
	size, _ := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.CopyN(w, zeros{}, size)
}

// zeros are as many as one wants.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// events sends three, each with the time at which it was sent.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range 3 {
		fmt.Fprintf(w, "data: %d %d\n\n", i, time.Now().UnixNano())
		w.(http.Flusher).Flush()
		select {
		case <-time.After(300 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// echo is what a gRPC server does on the wire: messages while they come, and the status in the trailers.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	buf := make([]byte, 64)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			fmt.Fprintf(w, "%s.", hex.EncodeToString(buf[:n]))
			w.(http.Flusher).Flush()
		}
		if err != nil {
			break
		}
	}
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set("Grpc-Message", r.Proto+" te="+r.Header.Get("Te"))
}
