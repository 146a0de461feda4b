// Command stepca-db measures how step-ca's two embedded databases behave when
// the disk is full, when the power goes, and under load. It needs root (loop
// devices), mkfs.ext4, mkfs.btrfs and a step-ca binary:
//
//	go run ./test/capability/stepca-db -step-ca /path/to/step-ca
//
// Everything it makes lies below one temporary directory, which it removes.
// docs/measurements/step-ca-database.md says what came out and what follows.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// rig is what every experiment needs: the binary, a directory and the clock.
type rig struct {
	stepCA  string
	work    string
	workers int
	load    time.Duration
	rounds  int
}

func main() {
	r := rig{}
	flag.StringVar(&r.stepCA, "step-ca", "step-ca", "path of the step-ca binary")
	flag.IntVar(&r.workers, "workers", 8, "ACME clients at once")
	flag.DurationVar(&r.load, "load", 15*time.Second, "how long the throughput run lasts")
	flag.IntVar(&r.rounds, "rounds", 12, "power cuts per database and kind")
	types := flag.String("db", "badgerv2,bbolt", "database types, comma separated")
	only := flag.String("only", "", "one experiment: throughput, full or power")
	flag.Parse()
	if err := ownMounts(); err != nil {
		log.Fatal(err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	work, err := os.MkdirTemp("", "stepca-db-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(work)
	r.work = work
	for _, db := range strings.Split(*types, ",") {
		if err := r.all(ctx, db, *only); err != nil {
			log.Printf("%s: %v", db, err)
		}
	}
}

// ownMounts starts the program again in a mount namespace of its own: no other
// namespace copies the mounts and keeps them busy, and none stays behind.
func ownMounts() error {
	const mark = "STEPCA_DB_OWN_MOUNTS"
	if os.Getenv(mark) != "" {
		return nil
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{unshare, "--mount", "--propagation", "private", self}, os.Args[1:]...)
	return syscall.Exec(unshare, argv, append(os.Environ(), mark+"=1"))
}

// all runs the experiments on one database and prints one JSON line for each.
func (r rig) all(ctx context.Context, db, only string) error {
	experiments := []struct {
		name string
		run  func(context.Context, string) (any, error)
	}{
		{"throughput", r.throughput}, {"full", r.fullDisk}, {"power", r.powerCuts},
	}
	for _, e := range experiments {
		if only != "" && only != e.name {
			continue
		}
		result, err := e.run(ctx, db)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		line, err := json.Marshal(map[string]any{"db": db, "experiment": e.name, "result": result})
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return nil
}
