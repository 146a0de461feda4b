package host

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// Whoever holds a port is named, whatever words the program has for it.
func TestTakersAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	want := fmt.Sprintf("port %d is taken by process %d (", port, os.Getpid())
	for _, journal := range []string{
		fmt.Sprintf("2026-11-25T01:06:48+0000 nginx nginx[439]: nginx: [emerg] bind() to 0.0.0.0:%d failed (98: "+
			"Address already in use)", port),
		fmt.Sprintf("error: listen tcp :%d: bind: address already in use", port),
	} {
		if got := Takers(&Local{}, "first line\n"+journal+"\n"+journal); !strings.HasPrefix(got, want) ||
			strings.Contains(got, ";") {
			t.Errorf("%q: %q, want %s…", journal, got, want)
		}
	}
	for _, journal := range []string{"", "bind() to 0.0.0.0:1 failed (98: Address already in use)",
		fmt.Sprintf("listening on :%d", port)} {
		if got := Takers(&Local{}, journal); got != "" {
			t.Errorf("%q: %q", journal, got)
		}
	}
}
