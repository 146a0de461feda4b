package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
)

// Events shows what was repaired, oldest first.
func (p *people) Events(list []engine.Entry) {
	if len(list) == 0 {
		p.say("nothing was repaired\n")
		return
	}
	w := table(p.Out)
	fmt.Fprintln(w, "TIME\tBY\tOBJECT\tWHAT")
	for _, e := range list {
		writeRow(w, e.Time.Local().Format(time.DateTime), e.By, string(e.Object), did(e))
	}
	w.Flush()
}

// Following has no columns: nobody knows what comes.
func (p *people) Following(list []engine.Entry) {
	for _, e := range list {
		fmt.Fprintf(p.Out, "%s %s %s %s\n", e.Time.Local().Format(time.DateTime), e.By, e.Object, did(e))
	}
}

func did(e engine.Entry) string {
	if e.Error != "" {
		first, _, _ := strings.Cut(e.Error, "\n")
		return "failed: " + first
	}
	if e.Elapsed == 0 && e.Reason != "" {
		return e.Reason
	}
	out := string(e.Action) + " in " + e.Elapsed.Round(time.Millisecond).String()
	switch {
	case e.Reason != "":
		out += ": " + e.Reason
	case len(e.Fields) > 0:
		out += ": " + strings.Join(e.Fields, ", ")
	}
	return out
}

// Events writes {"events":[…]}.
func (v *programs) Events(list []engine.Entry) {
	if list == nil {
		list = []engine.Entry{}
	}
	v.write(map[string]any{"events": list})
}

// Following writes a document for each event.
func (v *programs) Following(list []engine.Entry) {
	for _, e := range list {
		line, err := json.Marshal(e)
		if err == nil {
			fmt.Fprintf(v.out, "%s\n", line)
		}
	}
}
