package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/docs"
	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// topics are what explain knows by a word: a section of a page of the documentation.
var topics = []struct{ name, page, section, short string }{
	{"templates", "containers.md", "Templates", "which distributions containers are made of, and what is built where " +
		"the archive is not here"},
	{"networks", "containers.md", "Networks", "addresses of containers, MTU, VLANs"},
	{"packages", "containers.md", "Packages", "when packages are installed in a container, and how"},
	{"features", "containers.md", "Features", "the words of features, and scripts for words of your own"},
	{"scripts", "containers.md", "Scripts", "when an application's script runs, how often, with what, and what is " +
		"kept of it"},
	{"reload", "containers.md", "Reload", "when a certificate's reload runs, and what it may name"},
}

func topicNames() (out []string) {
	for _, t := range topics {
		out = append(out, t.name)
	}
	return out
}

func (a *app) explainCommand() *cobra.Command {
	var list strings.Builder
	for _, t := range topics {
		fmt.Fprintf(&list, "  %-24s %s\n", t.name, t.short)
	}
	return &cobra.Command{
		Use: "explain WORD", Short: "the reference from the program: a topic, a check, a rule of the audit, or a key " +
			"of the configuration",
		Long: "explain prints what the documentation of this very phoenix says of one thing:\n\n" + list.String() +
			"  PHX-CERT-005             a check of health\n  PHX-AUD-012              a rule of the audit\n" +
			"  lxc_configs.*.firewall   a key of a file, with what is below it",
		Example: `  phoenix explain scripts
  phoenix explain PHX-CERT-005
  phoenix explain 'lxc_configs.*.firewall'`,
		ValidArgs: topicNames(), Args: oneThing,
		RunE: a.command(func(_ context.Context, args []string) error { return a.explain(args[0]) }),
	}
}

func oneThing(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return &usageError{err: fmt.Errorf("%s takes one word, and got %d", cmd.CommandPath(), len(args)),
		hint: strings.Join(topicNames(), ", ") +
			", an id such as PHX-CERT-005, or a key such as lxc_configs.*.firewall"}
}

// explanation is one for programs.
type explanation struct {
	Topic string `json:"topic"`
	Text  string `json:"text"`
}

func (a *app) explain(word string) error {
	text, err := explain(word)
	if err != nil {
		return err
	}
	if a.opts.output != "json" {
		_, err = fmt.Fprintln(a.stdout, text)
		return err
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(explanation{word, text})
}

var idOfRule = regexp.MustCompile(`^PHX-[A-Z0-9]+-[0-9]+$`)

// explain finds what a word is about.
func explain(word string) (string, error) {
	for _, t := range topics {
		if word == t.name {
			return t.section + "\n\n" + docs.Section(t.page, t.section), nil
		}
	}
	if id := strings.ToUpper(word); idOfRule.MatchString(id) {
		return explainID(id)
	}
	text, near, err := config.ExplainKey(word)
	switch {
	case err != nil:
		return "", err
	case text != "":
		return text, nil
	}
	if found := config.Nearest(word, slices.Concat(topicNames(), near)); found != "" {
		return "", &usageError{err: fmt.Errorf("nothing is called %q", word), hint: "did you mean " + found + "?"}
	}
	return "", &usageError{err: fmt.Errorf("nothing is called %q", word),
		hint: "phoenix explain --help lists what there is"}
}

// explainID is the row of a check or of a rule.
func explainID(id string) (string, error) {
	for _, page := range []string{"health.md", "audit.md"} {
		head, cells := docs.Row(page, id)
		if cells == nil {
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s (docs/%s)\n", id, page)
		for i := 1; i < len(cells) && i < len(head); i++ {
			fmt.Fprintf(&b, "\n%s:\n  %s\n", head[i], cells[i])
		}
		return strings.TrimRight(b.String(), "\n"), nil
	}
	return "", &usageError{err: fmt.Errorf("no check and no rule is called %s", id),
		hint: "the ids are those that phoenix health and phoenix audit print"}
}
