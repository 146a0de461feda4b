package main

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// source is where a database of this type lives: bbolt is one file, badger a directory.
func source(dbType, root string) string {
	if dbType == "bbolt" {
		return filepath.Join(root, "step-ca.db")
	}
	return filepath.Join(root, "db")
}

// bench is one disk, one authority on it and one load against it.
type bench struct {
	disk   *disk
	ca     *authority
	load   *load
	dbType string
}

func (r rig) bench(name, dbType string, megabytes int64) (*bench, error) {
	d, err := newDisk(r.work, name+"-"+dbType, megabytes)
	if err != nil {
		return nil, err
	}
	ca, err := newAuthority(r.stepCA, filepath.Join(d.dir, "ca"), dbType, source(dbType, d.mount))
	if err != nil {
		return nil, err
	}
	l, err := newLoad(ca)
	return &bench{d, ca, l, dbType}, err
}

func (b *bench) close() {
	_ = b.load.server.Close()
	if b.ca.cmd != nil {
		b.ca.end(syscall.SIGKILL)
	}
	if err := b.disk.close(); err != nil {
		fmt.Println("left behind:", err)
	}
}

// throughput: orders a second, memory, and bytes of database for an order.
func (r rig) throughput(ctx context.Context, dbType string) (any, error) {
	b, err := r.bench("throughput", dbType, 0)
	if err != nil {
		return nil, err
	}
	defer b.close()
	begin := time.Now()
	if err := b.ca.start(ctx, 30*time.Second); err != nil {
		return nil, err
	}
	started, idle, empty := time.Since(begin), b.ca.memory(), used(source(dbType, b.disk.mount))
	limited, cancel := context.WithTimeout(ctx, r.load)
	defer cancel()
	b.load.run(limited, r.workers)
	n := len(b.load.acknowledged())
	loaded, size := b.ca.memory(), used(source(dbType, b.disk.mount))
	return map[string]any{"orders_per_second": float64(n) / r.load.Seconds(), "orders": n,
		"failed": b.load.failed.Load(), "idle_mib": idle, "loaded_mib": loaded,
		"first_start_ms":  started.Milliseconds(),
		"bytes_per_order": (size - empty) / int64(max(n, 1)), "empty_bytes": empty}, nil
}

// fullResult says what a full disk did. Human is true if nobody but a person
// could have brought the CA back (restarts by systemd are allowed).
type fullResult struct {
	Orders           int    `json:"orders_before"`
	IssuedWhileFull  int    `json:"issued_while_full"`
	FailedWhileFull  int64  `json:"failed_while_full"`
	DiedWhileFull    bool   `json:"died_while_full"`
	AnswersAfterMS   int64  `json:"answers_after_ms"`
	RestartsNeeded   int    `json:"restarts_needed"`
	Human            bool   `json:"human_needed"`
	StartsWhileFull  string `json:"start_while_full"`
	StartsAfterwards string `json:"start_afterwards"`
	Lost             int    `json:"lost"`

	// Killed counts rounds in which step-ca was killed while the disk was full.
	Killed *powerResult `json:"killed_while_full"`
}

func (r rig) fullDisk(ctx context.Context, dbType string) (any, error) {
	b, err := r.bench("full", dbType, 256)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.ca.start(ctx, 30*time.Second); err != nil {
		return nil, err
	}
	ordering, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { b.load.run(ordering, r.workers); close(ended) }()
	pause(ctx, 3*time.Second)
	res := &fullResult{Orders: len(b.load.acknowledged())}
	if err := b.keepFull(ctx, 5*time.Second, res); err != nil {
		cancel()
		return nil, err
	}
	if err := b.disk.free(); err != nil {
		cancel()
		return nil, err
	}
	b.recover(ctx, res)
	cancel()
	<-ended
	b.restartFull(ctx, res)
	b.ca.end(syscall.SIGTERM)
	res.Killed = &powerResult{Why: map[string]int{}}
	for range r.rounds {
		if err := r.killFull(ctx, dbType, res.Killed); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// killFull is the worst moment for a power cut: writes fail half way because
// the disk is full, then the process is gone. The disk is freed afterwards.
func (r rig) killFull(ctx context.Context, dbType string, res *powerResult) error {
	b, err := r.bench(fmt.Sprintf("killfull%d", res.Rounds), dbType, 256)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.ca.start(ctx, 30*time.Second); err != nil {
		return err
	}
	ordering, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { b.load.run(ordering, r.workers); close(ended) }()
	pause(ctx, time.Second)
	err = b.keepFull(ctx, 2*time.Second, &fullResult{})
	list := b.load.acknowledged()
	b.ca.end(syscall.SIGKILL)
	cancel()
	<-ended
	if err == nil {
		err = b.disk.free()
	}
	if err == nil {
		b.judge(ctx, res, list)
	}
	return err
}

// keepFull takes every byte that becomes free for the given time.
func (b *bench) keepFull(ctx context.Context, d time.Duration, res *fullResult) error {
	before, failed := len(b.load.acknowledged()), b.load.failed.Load()
	for end := time.Now().Add(d); time.Now().Before(end); pause(ctx, 20*time.Millisecond) {
		if _, err := b.disk.fill(); err != nil {
			return err
		}
	}
	res.IssuedWhileFull = len(b.load.acknowledged()) - before
	res.FailedWhileFull = b.load.failed.Load() - failed
	res.DiedWhileFull = !b.ca.alive()
	return nil
}

// recover waits for the next certificate, starting a dead step-ca again as
// systemd would, for one minute.
func (b *bench) recover(ctx context.Context, res *fullResult) {
	begin, before := time.Now(), len(b.load.acknowledged())
	for time.Since(begin) < time.Minute && ctx.Err() == nil {
		if len(b.load.acknowledged()) > before {
			res.AnswersAfterMS = time.Since(begin).Milliseconds()
			return
		}
		if !b.ca.alive() {
			res.RestartsNeeded++
			_ = b.ca.start(ctx, 10*time.Second)
		}
		pause(ctx, 20*time.Millisecond)
	}
	res.Human = true
}

// restartFull stops step-ca, starts it on a full disk and on a freed one, and
// counts what is gone.
func (b *bench) restartFull(ctx context.Context, res *fullResult) {
	say := func(err error) string {
		if err != nil {
			return err.Error()
		}
		return "ok"
	}
	b.ca.end(syscall.SIGTERM)
	if _, err := b.disk.fill(); err != nil {
		res.StartsWhileFull = err.Error()
	} else {
		res.StartsWhileFull = say(b.ca.start(ctx, 15*time.Second))
		b.ca.end(syscall.SIGTERM)
	}
	_ = b.disk.free()
	err := b.ca.start(ctx, 15*time.Second)
	res.StartsAfterwards = say(err)
	list := b.load.acknowledged()
	if err != nil {
		res.Human, res.Lost = true, len(list)
		return
	}
	res.Lost = lost(ctx, b.load.acme(), list)
}

// powerResult counts failures over all rounds of one kind.
type powerResult struct {
	Rounds       int            `json:"rounds"`
	Acknowledged int            `json:"acknowledged"`
	StartFailed  int            `json:"start_failed"`
	Lost         int            `json:"lost"`
	NoNewOrder   int            `json:"no_new_order"`
	Why          map[string]int `json:"why,omitempty"`
}

// powerCuts: in each round the load runs, the image is copied mid-write, the
// process is killed; then step-ca starts on the killed disk and on the copy.
func (r rig) powerCuts(ctx context.Context, dbType string) (any, error) {
	killed, cut := &powerResult{Why: map[string]int{}}, &powerResult{Why: map[string]int{}}
	for i := range r.rounds {
		if err := r.powerCut(ctx, dbType, i, killed, cut); err != nil {
			return nil, err
		}
	}
	return map[string]any{"kill": killed, "power_cut": cut}, nil
}

func (r rig) powerCut(ctx context.Context, dbType string, i int, killed, cut *powerResult) error {
	b, err := r.bench(fmt.Sprintf("power%d", i), dbType, 512)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.ca.start(ctx, 30*time.Second); err != nil {
		return err
	}
	ordering, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { b.load.run(ordering, r.workers); close(ended) }()
	pause(ctx, time.Second+time.Duration(i)*137*time.Millisecond)
	atCut := b.load.acknowledged()
	snap, err := b.disk.cut(i)
	atKill := b.load.acknowledged()
	b.ca.end(syscall.SIGKILL)
	cancel()
	<-ended
	if err != nil {
		return err
	}
	b.judge(ctx, killed, atKill)
	b.ca.end(syscall.SIGKILL)
	return b.judgeCut(ctx, snap, cut, atCut)
}

func (b *bench) judgeCut(ctx context.Context, snap string, res *powerResult, list []issued) error {
	at, err := b.disk.mountCut(snap)
	if err != nil {
		return err
	}
	ca, err := b.ca.on(source(b.dbType, at))
	if err != nil {
		return err
	}
	(&bench{b.disk, ca, b.load, b.dbType}).judge(ctx, res, list)
	ca.end(syscall.SIGKILL)
	return b.disk.unmountCut(snap)
}

// judge starts step-ca and counts what does not work any more.
func (b *bench) judge(ctx context.Context, res *powerResult, list []issued) {
	res.Rounds++
	res.Acknowledged += len(list)
	if err := b.ca.start(ctx, 20*time.Second); err != nil {
		res.StartFailed++
		res.Lost += len(list)
		res.Why[err.Error()]++
		return
	}
	client := b.load.acme()
	res.Lost += lost(ctx, client, list)
	account, err := newAccount(ctx, client)
	if err == nil {
		err = b.load.order(ctx, client, account)
	}
	if err != nil {
		res.NoNewOrder++
		res.Why[err.Error()]++
	}
}
