package config

import (
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// notify checks what can be known without the machine; whether the program is there, and is root's, is looked at there.
func (c *checker) notify() {
	n := &c.cfg.Hypervisor.Watch.Notify
	switch {
	case len(n.Command) > 0:
		if n.Command[0] == "" {
			c.errorf(n.At, element("command", 0), "write the absolute path of the program", "is empty")
			break
		}
		c.absolute(n.At, element("command", 0), n.Command[0])
	case n.At.has("command"):
		c.errorf(n.At, "command", "leave the key out where nobody is to be told", "is empty")
	case n.At.has("after") || n.At.has("interval") || n.At.has("timeout"):
		c.errorf(n.At, "", `add "command": ["/usr/local/sbin/NAME"]`, "there is no command to call")
	}
	for _, b := range []struct {
		key       string
		value     spec.Duration
		low, high time.Duration
		usual     string
	}{
		{"after", n.After, time.Second, 24 * time.Hour, "30s"},
		{"interval", n.Interval, time.Second, 24 * time.Hour, "1m"},
		{"timeout", n.Timeout, time.Second, 10 * time.Minute, "30s"},
	} {
		if t := time.Duration(b.value); t != 0 && (t < b.low || t > b.high) {
			c.errorf(n.At, b.key, b.usual+" is the default", "%s is not between %s and %s", t, b.low, b.high)
		}
	}
}
