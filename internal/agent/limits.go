package agent

import (
	"cmp"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// Limits are how long a Client waits for its agent. Zero values are the usual ones; tests have shorter ones.
type Limits struct {
	Hello   time.Duration // from the start to the introduction
	Silence time.Duration // without an answer or a sign that the request is at work
	Observe time.Duration // for one look, whatever signs there are
	Apply   time.Duration // for one change; 0: what the object's kind may need
	Check   time.Duration // for one check, whatever signs there are; 0: what it may need
	Write   time.Duration // until the agent reads what is written
	Close   time.Duration // from the end of its input to its own
}

func (l Limits) hello() time.Duration   { return cmp.Or(l.Hello, 10*time.Second) }
func (l Limits) silence() time.Duration { return cmp.Or(l.Silence, 10*time.Second) }
func (l Limits) observe() time.Duration { return cmp.Or(l.Observe, 12*time.Second) }
func (l Limits) write() time.Duration   { return cmp.Or(l.Write, 10*time.Second) }
func (l Limits) close() time.Duration   { return cmp.Or(l.Close, 3*time.Second) }

// beat is how often an agent says which requests are at work.
const beat = 500 * time.Millisecond

// applyLimits are how long a change of one object may take by its kind, a lock of the container's daemon included. What
// takes long is what waits for others: Debian's mirrors, users' scripts, the CA.
var applyLimits = map[string]time.Duration{
	spec.KindPackage:     16 * time.Minute,
	spec.KindScript:      31 * time.Minute,
	spec.KindCertificate: 8 * time.Minute,
	spec.KindTraefik:     8 * time.Minute,
	spec.KindNginx:       8 * time.Minute,
	spec.KindUnit:        8 * time.Minute,
	spec.KindStepCA:      8 * time.Minute,
}

// applyDefault is the limit of the other kinds.
const applyDefault = 5 * time.Minute

func (l Limits) apply(kind string) time.Duration {
	return cmp.Or(l.Apply, applyLimits[kind], applyDefault)
}

// Answer bounds the answer to a Check: how large it may be, and how long it may take.
type Answer struct {
	Bytes  int
	String int // bytes of one string in it
	Within time.Duration
}

// What the agent may say, in bytes.
const (
	helloBytes   = 4 << 10
	observeBytes = 256 << 10
	changeBytes  = 64 << 10
	beatBytes    = 1 << 10
	storedBytes  = 4 << 20 // of all observations of one session: they are kept to the end of a run
	stringBytes  = 16 << 10
	lineBytes    = 400     // of what is shown as one line
	errorBytes   = 4 << 10 // of a whole error
	errorLines   = 40
	most         = 200 // fields of a delta
)

// How often it may do what nobody asked for.
const (
	blobsEach    = 2  // wishes for the blob of an object that is applied
	changesEach  = 2  // changes of an object that is applied
	refusedMost  = 32 // other wishes for blobs
	beatsAtOnce  = 20
	beatsEach    = 100 * time.Millisecond
	inFlightMost = 256
)

// shape is what a document of the agent may be.
func shape(text int) clean.Shape { return clean.Shape{Depth: 32, Values: 20_000, String: text} }

// severalLines are the members of an answer that may have more than one line.
var severalLines = map[string]bool{"message": true, "have": true, "want": true}
