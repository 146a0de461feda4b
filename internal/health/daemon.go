package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// The agent's daemon inside a container: its systemd unit, and where it leaves word of its last round.
const (
	DaemonUnit = "phoenix-agent.service"
	RoundPath  = "/run/phoenix/status.json"
)

// round is the part of the daemon's word that health reads. The daemon may write more.
type round struct {
	Time     time.Time `json:"time"`
	Next     time.Time `json:"next"` // when it means to do the next round
	Failures []failure `json:"failures"`
}

type failure struct {
	Address   object.Address `json:"address"`
	Message   string         `json:"message"`
	BlockedBy object.Address `json:"blocked_by"`
}

// roundMargin is how long a round may take beyond the announced time: an object that cannot be made true is tried for a
// while.
const roundMargin = 2 * time.Minute

func readRound(h host.Host) (round, error) {
	var r round
	b, err := h.ReadFile(RoundPath)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s cannot be read: %w", RoundPath, err)
	}
	return r, nil
}

// firstLimit is how long a daemon that was just started is waited for in its first round.
var firstLimit = 6 * time.Second

// young is how long a daemon counts as just started: its first round may be to make a whole container true, and long.
const young = time.Minute

// startedAt is a link that systemd makes anew at each start of the daemon's unit.
const startedAt = "/run/systemd/units/invocation:" + DaemonUnit

// started is when the daemon was; zero: that is not known.
func started(h host.Host) time.Time {
	m, err := h.Lstat(startedAt)
	if err != nil {
		return time.Time{}
	}
	return m.ModTime
}

// roundMost is how long a daemon may plan ahead: its next round is never later.
const roundMost = 5 * time.Minute

// errBefore is a word of a daemon that was there before the present one.
var errBefore = errors.New("its last round was before it was started")

// firstRound reads the daemon's word since it was started, and waits for it where the daemon has only just begun: a
// word of before says nothing of the process that runs now.
func firstRound(ctx context.Context, h host.Host) (round, error) {
	since := started(h)
	// file systems tell time in coarse steps
	before := func(r round) bool { return r.Time.Before(since.Add(-time.Second)) }
	limit := time.Duration(0)
	if since.IsZero() || h.Now().Sub(since) < young {
		limit = firstLimit
	}
	r, err := roundOnce(ctx, h, limit, func(r round, err error) bool {
		return err == nil && !before(r) || err != nil && !errors.Is(err, fs.ErrNotExist)
	})
	if err == nil && before(r) {
		err = errBefore
	}
	return r, err
}

// roundOnce reads the daemon's word again and again until it will do, and gives the last one at the limit.
func roundOnce(ctx context.Context, h host.Host, limit time.Duration, willDo func(round, error) bool) (round, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		r, err := readRound(h)
		if willDo(r, err) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-look.C:
		}
	}
}

func runDaemon(ctx context.Context, h host.Host, c Check, _ nothing) Result {
	restart := c.inside("systemctl restart " + DaemonUnit)
	props, err := unitState(ctx, h, DaemonUnit)
	if err != nil {
		return c.fail("the agent's state is not known", why(err), c.apply())
	}
	seen := fmt.Sprintf("%s (%s), result %s", props["ActiveState"], props["SubState"], props["Result"])
	if props["ActiveState"] != "active" {
		return c.fail("the agent is not running: nothing is renewed or mended in here", seen,
			c.apply()+"; its log: "+c.inside("journalctl -n 50 -u "+DaemonUnit))
	}
	r, err := firstRound(ctx, h)
	if err != nil {
		return c.fail("the agent runs but has not finished a round", err.Error(),
			firstRoundFix+"; its log: "+c.inside("journalctl -n 50 -u "+DaemonUnit))
	}
	now := h.Now()
	ago := "last round " + human(now.Sub(r.Time)) + " ago"
	next := r.Next
	if most := r.Time.Add(roundMost); next.After(most) {
		next = most
	}
	if late := now.Sub(next); late > roundMargin {
		return c.fail("the agent has stopped working", ago+", the next was due "+human(late)+" ago", restart)
	}
	return c.pass("the agent is running, and its reconcile loop is current", ago)
}

// A failure that the daemon is about to look at again, because something has changed, is not told before it did. All in
// all it is waited for so long.
const (
	soon      = 2 * time.Second
	soonLimit = 3 * time.Second
)

// latestRound reads the daemon's word, and waits for the next one where the last told of failures and the next is near.
func latestRound(ctx context.Context, h host.Host) (round, error) {
	return roundOnce(ctx, h, soonLimit, func(r round, err error) bool {
		to := r.Next.Sub(h.Now())
		return err != nil || len(r.failed()) == 0 || to > soon || to < -soon
	})
}

// failed are the failures but for what is merely blocked.
func (r round) failed() []failure {
	return slices.DeleteFunc(slices.Clone(r.Failures), func(f failure) bool { return f.BlockedBy != "" })
}

// runRound tells what the daemon could not make true.
func runRound(ctx context.Context, h host.Host, c Check, _ nothing) Result {
	r, err := latestRound(ctx, h)
	if err != nil {
		return c.fail("what the agent does is not known", err.Error(), c.apply())
	}
	var addresses, messages []string
	for _, f := range r.failed() {
		addresses = append(addresses, string(f.Address))
		messages = append(messages, f.Message)
	}
	if len(addresses) == 0 {
		return c.pass("the agent keeps everything true", "round of "+human(h.Now().Sub(r.Time))+" ago")
	}
	return c.fail("the agent cannot keep true: "+strings.Join(addresses, " "), strings.Join(messages, "; "), c.apply())
}
