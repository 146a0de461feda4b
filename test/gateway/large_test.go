package gateway

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Of what a transfer may leave behind while it runs: pages that a tmpfs has anyhow, and the memory of a hop.
const (
	spillLimit  = 1 << 20
	memoryLimit = 256 << 20
)

// largeSize is how much goes each way: PHOENIX_GATEWAY_SIZE in bytes (10 GB: 10000000000), or half a GB.
func largeSize(t *testing.T) int64 {
	t.Helper()
	if testing.Short() {
		return 128 << 20
	}
	n, err := strconv.ParseInt(cmpOr(os.Getenv("PHOENIX_GATEWAY_SIZE"), "500000000"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// large sends a body through both hops, either way: nothing of it is put down in a file, or kept in memory.
func large(t *testing.T, s *site) {
	size := largeSize(t)
	spilled := s.watchSpill(t)
	began := time.Now()
	resp, err := s.client(false).Get(fmt.Sprintf("https://%s/download?size=%d", plainName, size))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || n != size {
		t.Errorf("%d of %d bytes came down: %v", n, size, err)
	}
	down := time.Since(began)
	resp, err = s.client(false).Post("https://"+plainName+"/upload", "application/octet-stream",
		io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%d -1 chunked", size); err != nil || string(body) != want ||
		resp.StatusCode != http.StatusOK {
		t.Errorf("%s %q, want %q: %v", resp.Status, body, want, err)
	}
	most := spilled()
	t.Logf("%d bytes: down in %s, up in %s; at most %d bytes in temporary files", size, down.Round(time.Millisecond),
		(time.Since(began) - down).Round(time.Millisecond), most)
	if most > spillLimit {
		t.Errorf("%d bytes were in temporary files", most)
	}
	for _, pid := range append(children(s.edge.Process.Pid), s.inner.Process.Pid) {
		if peak := peakMemory(t, pid); peak > memoryLimit {
			t.Errorf("process %d took %d MB of memory", pid, peak>>20)
		}
	}
}

// watchSpill looks at how full the directories for temporary files are, until it is called.
func (s *site) watchSpill(t *testing.T) func() int64 {
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		for {
			var now int64
			for _, dir := range []string{"/var/lib/nginx", s.innerTmp} {
				var st syscall.Statfs_t
				if err := syscall.Statfs(dir, &st); err != nil {
					t.Error(err)
				}
				now += int64(st.Blocks-st.Bfree) * st.Bsize
			}
			most = max(most, now)
			select {
			case <-done:
				result <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(done); return <-result }
}

func children(pid int) []int {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", strconv.Itoa(pid), "children"))
	var out []int
	for _, f := range strings.Fields(string(text)) {
		n, _ := strconv.Atoi(f)
		out = append(out, n)
	}
	return out
}

// peakMemory is the most that was resident (proc(5), VmHWM).
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscanf(after, "%d kB", &kb); err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
