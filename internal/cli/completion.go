package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
	"github.com/phoenix-hypervisor/phoenix/internal/host"
)

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "print a shell's completion script",
		Example: `  source <(phoenix completion bash)
  phoenix completion zsh > "${fpath[1]}/_phoenix"`,
		Args: oneOf(false, "bash", "zsh", "fish"), ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.begin(); err != nil {
				return err
			}
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			default:
				return root.GenFishCompletion(a.stdout, true)
			}
		},
	}
}

// completableConfig is the configuration; nil where it cannot be used. A shell's completion reads nothing else, and
// says nothing about what is wrong with it.
func (a *app) completableConfig() *config.Config {
	a.host = &host.Local{}
	f, err := a.readFiles()
	if err != nil {
		return nil
	}
	cfg, diags := config.Load(f.list)
	if diags.HasErrors() {
		return nil
	}
	return cfg
}

// completable are the containers of the configuration.
func (a *app) completable() []*config.Container {
	if cfg := a.completableConfig(); cfg != nil {
		return cfg.Containers
	}
	return nil
}

// completeCertificates offers the names that the configuration has certificates for.
func (a *app) completeCertificates(_ *cobra.Command, given []string, prefix string) ([]string,
	cobra.ShellCompDirective) {
	var out []string
	if cfg := a.completableConfig(); cfg != nil {
		for _, name := range cfg.CertificateNames() {
			if strings.HasPrefix(name, prefix) && !slices.Contains(given, name) {
				out = append(out, name)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeIDs offers the ids of the configuration.
func (a *app) completeIDs(_ *cobra.Command, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, c := range a.completable() {
		if strings.HasPrefix(c.ID, prefix) && !slices.Contains(given, c.ID) {
			out = append(out, c.ID+"\t"+c.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
