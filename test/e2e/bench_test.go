package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var ids = []string{"103", "101", "102", "201"}

// BenchmarkHomelab measures phoenix against the floor in one run, so that the
// ratios hold on any machine. The floor is what cannot be saved: a bare copy of
// the same finished containers, lxc-start, step-ca up, and one order made with
// Debian's lego. Template and artifacts are in place before.
func BenchmarkHomelab(b *testing.B) {
	for range b.N {
		h := New(b, homelab())
		h.Phoenix("create", "900").Want(0)
		up := h.Phoenix("up").Want(0).Took
		noop := h.noop(b)
		order := h.reissue(b)
		resident := h.agentBytes(b)
		h.Phoenix(append([]string{"stop"}, ids...)...).Want(0)
		floor, lego := h.floor(b)

		info, err := os.Stat(h.bin)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(up.Seconds(), "up-s")
		b.ReportMetric(floor.Seconds(), "floor-s")
		b.ReportMetric(up.Seconds()/floor.Seconds(), "up/floor")
		b.ReportMetric(noop.Seconds(), "noop-s")
		b.ReportMetric(noop.Seconds()/floor.Seconds(), "noop/floor")
		b.ReportMetric(order.Seconds()/lego.Seconds(), "order/lego")
		b.ReportMetric(resident/(1<<20), "agent-MiB")
		b.ReportMetric(float64(info.Size())/(1<<20), "binary-MiB")
		b.Logf("up %s, floor %s (%.2f x; aim 1.5); no-op %s (aim 0.2 s, 0 mutations); order %s, lego %s (%.2f x; aim "+
			"1); agent %.1f MiB (aim 20); binary %.1f MiB",
			up, floor, up.Seconds()/floor.Seconds(), noop, order, lego, order.Seconds()/lego.Seconds(),
			resident/(1<<20), float64(info.Size())/(1<<20))
	}
}

// noop is the median of five runs that have nothing to do.
func (h *Hypervisor) noop(b *testing.B) time.Duration {
	h.WantNoChange("103", "101", "102")
	var took []time.Duration
	for range 5 {
		took = append(took, h.Phoenix("create", "103", "101", "102").Want(0).Took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// reissue takes the backend's certificate away and times phoenix until a new
// one is in place and nginx has it. The agent's daemon may be the one who does
// it: what counts is when it is done.
func (h *Hypervisor) reissue(b *testing.B) time.Duration {
	cert := filepath.Join(h.Root, "volumes", "201", "tls", "hello.crt")
	if err := os.Remove(cert); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	h.Phoenix("create", "201").Want(0)
	if _, err := os.Stat(cert); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// agentBytes is the resident memory of the largest agent.
func (h *Hypervisor) agentBytes(b *testing.B) (most float64) {
	const script = `awk '/^VmRSS:/ { print $2 }' /proc/$(systemctl show -p MainPID --value phoenix-agent.service)/status`
	for _, id := range ids {
		var kib float64
		r := h.Exec("lxc-attach", "--clear-env", "-P", filepath.Join(h.Root, "lxc"), "-n", id, "--", "/bin/sh", "-c",
			script).Want(0)
		if _, err := fmt.Sscan(r.Stdout, &kib); err != nil {
			b.Fatalf("%v\n%s", err, r)
		}
		most = max(most, kib*1024)
	}
	return most
}

// floor copies the stopped containers, starts the copies on the same bridge
// and volumes, waits for the CA and orders one certificate with lego.
func (h *Hypervisor) floor(b *testing.B) (all, lego time.Duration) {
	path := filepath.Join(filepath.Dir(h.Root), "floor")
	if err := os.Mkdir(path, 0o711); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	var each sync.WaitGroup
	for _, id := range ids {
		each.Go(func() {
			if err := h.copyAndStart(id, path); err != nil {
				b.Error(err)
			}
		})
	}
	each.Wait()
	if !await(time.Minute, func() bool { return h.accepts(ca) }) || b.Failed() {
		b.Fatal("the bare copies did not come up")
	}
	order := time.Now()
	h.lego(b, path)
	return time.Since(start), time.Since(order)
}

// copyAndStart makes a bare copy of one container and starts it. It is called
// on several goroutines.
func (h *Hypervisor) copyAndStart(id, path string) error {
	from, to := filepath.Join(h.Root, "lxc", id), filepath.Join(path, id)
	if _, err := tool(os.Environ(), "cp", "-a", "--reflink=auto", from, to); err != nil {
		return err
	}
	config := filepath.Join(to, "config")
	raw, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(raw), from, to)), 0o644); err != nil {
		return err
	}
	_, err = tool(os.Environ(), h.inside([]string{"lxc-start", "-P", path, "-n", id, "-d"})...)
	return err
}

func (h *Hypervisor) accepts(address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// lego makes one order in the backend's copy, as an administrator would: a
// process that answers the challenge on :80.
func (h *Hypervisor) lego(b *testing.B, path string) {
	root := filepath.Join(path, "201", "rootfs")
	if _, err := tool(os.Environ(), "sh", "-c", `cp "$(command -v lego)" "$1/usr/local/bin/lego"`, "sh",
		root); err != nil {
		b.Fatal(err)
	}
	h.Exec("lxc-attach", "--clear-env", "-P", path, "-n", "201", "--", "env", "HOME=/root",
		"LEGO_CA_CERTIFICATES=/etc/ssl/certs/ca-certificates.crt",
		"lego", "--path", "/root/lego", "--server", "https://ca.homelab.internal:9000/acme/acme/directory",
		"--email", "bench@homelab.internal", "--accept-tos", "--domains", "hello-backend.homelab.internal", "--http",
		"run").Want(0)
}
