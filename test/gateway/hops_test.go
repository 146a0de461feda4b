package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// quiet is how long nothing comes where nothing may have to come for an hour. The limits of before were a minute:
// PHOENIX_GATEWAY_QUIET=65s shows the difference.
func quiet(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(cmpOr(os.Getenv("PHOENIX_GATEWAY_QUIET"), "1500ms"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestBothHops(t *testing.T) {
	s := newSite(t, nil)
	s.backends()
	t.Run("at once", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *site){
			"http2": http2EndToEnd, "range": ranges, "continue": expectContinue, "chunked": chunked, "headers": headers,
			"events": serverSent, "grpc": grpc, "websocket": webSocket, "slow": slowUpload, "origin": origin,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t, s) })
		}
	})
	t.Run("large", func(t *testing.T) { large(t, s) })
	if text := s.log("nginx"); strings.Contains(text, "emerg") {
		t.Errorf("nginx: %s", text)
	}
}

func (s *site) get(t *testing.T, h2 bool, name, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "https://"+name+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := s.client(h2).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// HTTP/2 is spoken with the client, and from Traefik to a backend that can.
func http2EndToEnd(t *testing.T, s *site) {
	for name, want := range map[string]string{plainName: "HTTP/1.1", secureName: "HTTP/2.0", h2cName: "HTTP/2.0"} {
		resp, body := s.get(t, true, name, "/proto", nil)
		if resp.ProtoMajor != 2 || body != want {
			t.Errorf("%s: the client got %s, the backend %q, want HTTP/2.0 and %s", name, resp.Proto, body, want)
		}
	}
}

func origin(t *testing.T, s *site) {
	for _, name := range []string{plainName, secureName, h2cName} {
		_, body := s.get(t, true, name, "/origin", http.Header{"X-Forwarded-For": {"203.0.113.9"}})
		if want := gatewayAt + ", " + gatewayAt + "|https"; body != want {
			t.Errorf("%s: the backend takes %q for the client, want %q", name, body, want)
		}
	}
}

func ranges(t *testing.T, s *site) {
	for _, h2 := range []bool{false, true} {
		resp, body := s.get(t, h2, plainName, "/file", http.Header{"Range": {"bytes=10-15"}})
		if resp.StatusCode != http.StatusPartialContent || body != fileText[10:16] ||
			resp.Header.Get("Content-Range") != fmt.Sprintf("bytes 10-15/%d", len(fileText)) {
			t.Errorf("%s %q %v", resp.Status, body, resp.Header)
		}
	}
}

// A client that asks before it sends is told to go on.
func expectContinue(t *testing.T, s *site) {
	told := make(chan struct{}, 1)
	trace := &httptrace.ClientTrace{Got100Continue: func() { told <- struct{}{} },
		Got1xxResponse: func(int, textproto.MIMEHeader) error { return nil }}
	req, err := http.NewRequest(http.MethodPost, "https://"+plainName+"/upload", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Expect", "100-continue")
	resp, err := s.client(false).Do(req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	select {
	case <-told:
	default:
		t.Error("the client was not told to continue")
	}
	if !strings.HasPrefix(string(body), "4 ") {
		t.Errorf("%s %q", resp.Status, body)
	}
}

// A body whose size nobody knows before goes through as it comes, and a response too.
func chunked(t *testing.T, s *site) {
	for _, h2 := range []bool{false, true} {
		r, w := io.Pipe()
		go func() {
			for range 5 {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
			}
			w.Close()
		}()
		resp, err := s.client(h2).Post("https://"+plainName+"/upload", "text/plain", r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.HasPrefix(string(body), "5000 ") { // nginx counts one that is there already
			t.Errorf("HTTP/2 %v: %s %q", h2, resp.Status, body)
		}
	}
}

// 32 kB each way: one header, and cookies of 4 kB each, as logins set them.
func headers(t *testing.T, s *site) {
	one := http.Header{"X-Large": {strings.Repeat("h", 32<<10)}}
	many := http.Header{}
	for i := range 8 {
		many.Add("Cookie", fmt.Sprintf("c%d=%s", i, strings.Repeat("v", 4<<10)))
	}
	for _, h2 := range []bool{false, true} {
		resp, _ := s.get(t, h2, plainName, "/headers", one)
		if got := len(resp.Header.Get("X-Large")); resp.StatusCode != http.StatusOK || got != 32<<10 {
			t.Errorf("HTTP/2 %v: %s, %d bytes came back", h2, resp.Status, got)
		}
		resp, _ = s.get(t, h2, plainName, "/headers", many)
		if got := len(resp.Cookies()); resp.StatusCode != http.StatusOK || got != 8 {
			t.Errorf("HTTP/2 %v: %s, %d cookies came back", h2, resp.Status, got)
		}
	}
}

// Each event is there long before the next one is sent.
func serverSent(t *testing.T, s *site) {
	for _, h2 := range []bool{false, true} {
		resp, err := s.client(h2).Get("https://" + plainName + "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines, seen := bufio.NewScanner(resp.Body), 0
		for lines.Scan() {
			var i int
			var sent int64
			if _, err := fmt.Sscanf(lines.Text(), "data: %d %d", &i, &sent); err != nil {
				continue
			}
			if late := time.Since(time.Unix(0, sent)); late > 250*time.Millisecond {
				t.Errorf("HTTP/2 %v: event %d came %s after it was sent", h2, i, late)
			}
			seen++
		}
		if seen != 3 || lines.Err() != nil {
			t.Errorf("HTTP/2 %v: %d events came: %v", h2, seen, lines.Err())
		}
	}
}

// gRPC is HTTP/2 on all of the way: messages pass while the stream is open, both ways, and the status comes as a
// trailer.
func grpc(t *testing.T, s *site) {
	for _, name := range []string{secureName, h2cName} {
		r, w := io.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+3*quiet(t))
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+name+"/echo", r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc+proto")
		req.Header.Set("Te", "trailers")
		go fmt.Fprint(w, "one") // nginx 1.22 asks nobody before the first message comes
		resp, err := s.client(true).Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer resp.Body.Close()
		answers := bufio.NewReader(resp.Body)
		for i, message := range []string{"one", "two", "three"} {
			if i > 0 {
				fmt.Fprint(w, message)
			}
			if got, err := answers.ReadString('.'); err != nil || got != fmt.Sprintf("%x.", message) {
				t.Fatalf("%s: %s, %q came back for %s: %v", name, resp.Status, got, message, err)
			}
			time.Sleep(quiet(t) / 3)
		}
		w.Close()
		if _, err := io.Copy(io.Discard, answers); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := resp.Trailer.Get("Grpc-Status") + " " + resp.Trailer.Get("Grpc-Message"); got !=
			"0 HTTP/2.0 te=trailers" {
			t.Errorf("%s: trailers %v", name, resp.Trailer)
		}
	}
}

func webSocket(t *testing.T, s *site) {
	for _, name := range []string{plainName, secureName} {
		config, err := websocket.NewConfig("wss://"+name+"/socket", "https://"+name)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := tls.Dial("tcp", entryAt, &tls.Config{RootCAs: s.ca.Pool(), ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		c, err := websocket.NewClient(config, raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, message := range []string{"before", "after"} {
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if err := websocket.Message.Send(c, message); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var got string
			if err := websocket.Message.Receive(c, &got); err != nil || got != message {
				t.Fatalf("%s: %q came back for %q: %v", name, got, message, err)
			}
			time.Sleep(quiet(t))
		}
	}
}

// An upload that pauses goes on.
func slowUpload(t *testing.T, s *site) {
	r, w := io.Pipe()
	go func() {
		for range 2 {
			_, _ = w.Write([]byte("half"))
			time.Sleep(quiet(t))
		}
		w.Close()
	}()
	req, err := http.NewRequest(http.MethodPost, "https://"+plainName+"/upload", r)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 8
	resp, err := s.client(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "8 8 " {
		t.Errorf("%s %q", resp.Status, body)
	}
}
