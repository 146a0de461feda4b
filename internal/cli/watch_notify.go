package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/diag"
	"github.com/phoenix-hypervisor/phoenix/internal/notify"
)

// notifySettings are those of the files.
func (h *house) notifySettings() notify.Settings {
	n := h.cfg.Hypervisor.Watch.Notify
	return notify.Settings{Command: n.Command, After: time.Duration(n.After), Interval: time.Duration(n.Interval),
		Timeout: time.Duration(n.Timeout)}
}

// newAlerts begins to gather what needs a person.
func (w *watcher) newAlerts() *notify.Queue {
	q := notify.New(w.host, hostname(), w.session.machine.Root, func(err error) {
		if err == nil {
			w.view.Step("the command of watch.notify works again; what was not sent went out with this call")
			return
		}
		w.view.Error(fmt.Errorf("the command of watch.notify failed, nobody was told: %w", err),
			"try it: phoenix notify test; it is called again, later and later, with all that was not sent")
	})
	q.Set(w.session.notifySettings())
	return q
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "this machine"
	}
	return name
}

// notifyFlaw warns where root would not run the command that is to tell a person.
func (a *app) notifyFlaw(h *house) (out diag.List) {
	n := h.cfg.Hypervisor.Watch.Notify
	if len(n.Command) == 0 {
		return nil
	}
	if err := notify.Check(a.host, n.Command[0]); err != nil {
		out = append(out, diag.Diagnostic{Severity: diag.Warning, File: n.Source.File, Line: n.Source.Line,
			Path: "watch.notify.command", Summary: "nobody will be told of failures: " + err.Error(),
			Hint: "put the program there, root's and writable by nobody else (chmod 0755), then: phoenix notify test"})
	}
	return out
}

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "notify",
		Short: "how a person learns of failures (watch.notify in the hypervisor's file)"}
	cmd.AddCommand(&cobra.Command{
		Use: "test", Short: "call the command of watch.notify with an event that is a test, and wait for it",
		Example: `  phoenix notify test`, Args: nothingMore,
		RunE: a.command(func(ctx context.Context, _ []string) error {
			h, err := a.load()
			if err != nil {
				return err
			}
			s := h.notifySettings()
			if len(s.Command) == 0 {
				return hint(`add "watch": {"notify": {"command": ["/usr/local/sbin/NAME"]}} to the hypervisor's file`,
					"there is no watch.notify.command: nobody is told of failures")
			}
			if os.Geteuid() != 0 {
				return hint("run it again with sudo", "only root runs the command as watch does")
			}
			now := time.Now()
			e := notify.NewEvent(notify.KindTest, "", "somebody called phoenix notify test; nothing is wrong", "", now)
			m := notify.Compose(hostname(), h.machine.Root, []notify.Event{e}, 0, now)
			if err := notify.Send(ctx, a.host, s, m); err != nil {
				return hint("run it by hand, with a file of JSON on its standard input", "nobody was told: %w", err)
			}
			a.view.Step(s.Command[0] + " ended well; see that the message came")
			return nil
		}),
	})
	return group(cmd)
}
