// Package notify reports what needs a person to a command of theirs: a failure that lasts, its end, and a change of the
// configuration that waits for consent. Whoever reports never waits for the command.
package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/clean"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
)

// Kinds of events. The words are read by people's scripts: there may be more, and these stay.
const (
	KindFailure  = "failure"  // something failed for as long as Settings.After
	KindRecovery = "recovery" // what was reported as a failure is over
	KindWaiting  = "waiting"  // a change of the configuration waits for phoenix apply
	KindSettled  = "settled"  // nothing of the configuration waits any more
	KindTest     = "test"     // somebody asked whether the command works
)

// Defaults of Settings.
const (
	DefaultAfter    = 30 * time.Second
	DefaultInterval = time.Minute
	DefaultTimeout  = 30 * time.Second
)

// Settings are a configuration's. Without a command nobody is told.
type Settings struct {
	Command  []string      // an absolute path and arguments
	After    time.Duration // a failure that is over earlier is not reported; 0: DefaultAfter
	Interval time.Duration // at least, between the beginnings of two calls; 0: DefaultInterval
	Timeout  time.Duration // of one call; 0: DefaultTimeout
}

func (s Settings) after() time.Duration    { return cmp.Or(s.After, DefaultAfter) }
func (s Settings) interval() time.Duration { return cmp.Or(s.Interval, DefaultInterval) }
func (s Settings) timeout() time.Duration  { return cmp.Or(s.Timeout, DefaultTimeout) }

// Event is one thing that a person should know.
type Event struct {
	Kind      string         `json:"kind"`
	Time      time.Time      `json:"time"`
	Object    object.Address `json:"object,omitempty"`    // none: it is about the configuration
	Container string         `json:"container,omitempty"` // its id
	Since     time.Time      `json:"since,omitzero"`      // of a failure and its end: when it began
	Message   string         `json:"message"`
	Fix       string         `json:"fix,omitempty"` // what to do
}

// Message is what the command reads on its standard input.
type Message struct {
	Host    string    `json:"host"`
	Root    string    `json:"root"` // of the site: a host may have several
	Time    time.Time `json:"time"`
	Summary string    `json:"summary"` // one line, such as a subject
	Text    string    `json:"text"`    // all of it, as a person reads it
	Events  []Event   `json:"events"`  // oldest first
	Dropped int       `json:"dropped,omitempty"`
}

// Limits of what is said in one call.
const (
	mostEvents  = 100
	mostText    = 2 << 10 // bytes of one message or fix
	mostSummary = 200     // bytes
	mostNamed   = 3       // objects that a summary names
)

// NewEvent bounds and cleans what others said: it ends up in mails and in terminals.
func NewEvent(kind string, a object.Address, message, fix string, now time.Time) Event {
	e := Event{Kind: kind, Time: now.UTC(), Object: a, Message: clean.Text(message, mostText),
		Fix: clean.Text(fix, mostText)}
	if a != "" {
		e.Container = a.Scope()
	}
	return e
}

// Compose makes one message of events.
func Compose(hostname, root string, events []Event, dropped int, now time.Time) Message {
	m := Message{Host: hostname, Root: root, Time: now.UTC(), Events: events, Dropped: dropped}
	m.Summary = clean.Line("phoenix on "+hostname+": "+summary(events), mostSummary)
	var b strings.Builder
	b.WriteString(m.Summary + "\n")
	for _, e := range events {
		fmt.Fprintf(&b, "\n%s  %s\n", e.Time.Local().Format(time.DateTime), e.name()+" "+verbs[e.Kind])
		if !e.Since.IsZero() {
			fmt.Fprintf(&b, "  since: %s\n", e.Since.Local().Format(time.DateTime))
		}
		for _, part := range []struct{ head, text string }{{"", e.Message}, {"to do: ", e.Fix}} {
			if part.text != "" {
				b.WriteString("  " + part.head + strings.ReplaceAll(part.text, "\n", "\n    ") + "\n")
			}
		}
	}
	if dropped > 0 {
		fmt.Fprintf(&b, "\n%d earlier events are not listed; phoenix events has them\n", dropped)
	}
	m.Text = b.String()
	return m
}

// verbs are what is said of the object of an event.
var verbs = map[string]string{
	KindFailure: "fails", KindRecovery: "works again", KindWaiting: "waits for phoenix apply",
	KindSettled: "has nothing that waits any more", KindTest: "tests its notifications",
}

func (e Event) name() string {
	if e.Kind == KindWaiting {
		return "a change of the configuration"
	}
	return cmp.Or(string(e.Object), "the configuration")
}

// summary has the kinds one after the other, the worst first, and the first objects of each.
func summary(events []Event) string {
	var parts []string
	for _, kind := range []string{KindFailure, KindWaiting, KindRecovery, KindSettled, KindTest} {
		var names []string
		for _, e := range events {
			if e.Kind == kind && !slices.Contains(names, e.name()) {
				names = append(names, e.name())
			}
		}
		if len(names) == 0 {
			continue
		}
		if more := len(names) - mostNamed; more > 0 {
			names = append(names[:mostNamed], fmt.Sprintf("%d more", more))
		}
		parts = append(parts, strings.Join(names, ", ")+": "+verbs[kind])
	}
	return strings.Join(parts, "; ")
}

// Send has the command read a message, and waits for it. What a command may be is checked each time, as root runs it.
func Send(ctx context.Context, h host.Host, s Settings, m Message) error {
	if len(s.Command) == 0 {
		return nil
	}
	if err := Check(h, s.Command[0]); err != nil {
		return err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ") // a mail of it can be read without a tool
	if err := enc.Encode(m); err != nil {
		return err
	}
	kinds := map[string]bool{}
	for _, e := range m.Events {
		kinds[e.Kind] = true
	}
	event := ""
	for _, kind := range []string{KindFailure, KindWaiting, KindRecovery, KindSettled, KindTest} {
		if kinds[kind] {
			event = kind
			break
		}
	}
	// The environment has names only: what failed may quote what a script of the users' printed.
	_, err := h.Run(ctx, host.Command{Argv: s.Command, Stdin: b.Bytes(), Limit: s.timeout(), Output: 16 << 10,
		Aside: true, Env: []string{"PHOENIX_EVENT=" + event, "PHOENIX_SUMMARY=" + m.Summary, "PHOENIX_HOST=" + m.Host,
			fmt.Sprintf("PHOENIX_EVENTS=%d", len(m.Events)), "PHOENIX_ROOT=" + m.Root}})
	return err
}
