package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/audit"
	"github.com/phoenix-hypervisor/phoenix/internal/cli/view"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

func (a *app) auditCommand() *cobra.Command {
	var failOn string
	var offline bool
	cmd := &cobra.Command{
		Use: "audit", Short: "security findings in the configuration and on the system; exit 0 none, 3 findings",
		Long: `audit reads the configuration, also one that validate refuses, and, as root, looks at
the running system. It changes nothing. Each finding has a rule (docs/audit.md), a place,
a reason and a fix; audit_accept in the hypervisor's file accepts one for a while.`,
		Example: `  phoenix audit
  phoenix audit --offline --config /etc/phoenix --fail-on high
  phoenix audit -o sarif > phoenix.sarif`,
		Args: nothingMore,
	}
	cmd.Flags().StringVar(&failOn, "fail-on", string(config.Low), "exit 3 from this severity on: low, medium, high "+
		"or critical")
	cmd.Flags().BoolVar(&offline, "offline", false, "look at the configuration and its scripts only, not at the system")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.formats = []string{"sarif", "junit"}
		return a.command(func(ctx context.Context, _ []string) error {
			return a.audit(ctx, config.Grade(failOn), offline)
		})(cmd, args)
	}
	return cmd
}

func (a *app) audit(ctx context.Context, failOn config.Grade, offline bool) error {
	if !slices.Contains(config.Grades, failOn) {
		return &usageError{err: fmt.Errorf("--fail-on %s is not known", failOn), hint: "low, medium, high or critical"}
	}
	files, err := a.readFiles()
	if err != nil {
		return err
	}
	audited := config.Audit(files.list)
	if err := audited.Unreadable.Err(); err != nil {
		return err
	}
	seen, err := a.look(ctx, audited.Config, files.directories, offline)
	if err != nil {
		return err
	}
	if !offline {
		seen = append(seen, a.lookIssued(ctx, audited.Config))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	report := view.Audit{Rules: len(config.Rules()) + len(audit.Rules()), Version: versionOf(ctx)}
	for _, s := range seen {
		for _, u := range s.Unseen {
			report.NotSeen = append(report.NotSeen, view.NotSeen(u))
		}
	}
	findings := append(audited.Findings, audit.Findings(seen...)...)
	failed := false
	for _, s := range config.Settle(findings, audited.Acceptances, a.start.Format(time.DateOnly), offline ||
		len(report.NotSeen) > 0) {
		report.Findings = append(report.Findings, finding(s))
		failed = failed || s.Accepted == nil && s.Rule.Grade.AtLeast(failOn)
	}
	a.view.Audit(report)
	if failed {
		return codeError(exitUnhealthy)
	}
	return nil
}

// finding is a finding as it is shown.
func finding(s config.Settled) view.Finding {
	f := view.Finding{
		Rule: s.Rule.ID, Severity: string(s.Rule.Grade), File: s.Source.File, Line: s.Source.Line, Path: s.Path,
		Object:  s.Object,
		Summary: s.Summary, Why: s.Rule.Why, Fix: s.Fix, Title: s.Rule.Title,
	}
	if s.Accepted != nil {
		f.Accepted = &view.Acceptance{Reason: s.Accepted.Reason, Until: string(s.Accepted.Until)}
	}
	return f
}
