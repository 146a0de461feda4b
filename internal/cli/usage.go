package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phoenix-hypervisor/phoenix/internal/config"
)

// What is wrong with a call, in words of the house.

// nothingMore is for commands that take flags only.
func nothingMore(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := cmd.CommandPath() + " --help says what it takes"
	if plainNumber.MatchString(args[0]) &&
		slices.Contains([]string{"up", "setup", "validate", "watch", "audit"}, cmd.Name()) {
		hint = "it is about all containers; about some: phoenix create, plan, apply, status or health " +
			strings.Join(args, " ")
	}
	return &usageError{err: fmt.Errorf("%s takes flags only, and got %q", cmd.CommandPath(), args[0]), hint: hint}
}

var plainNumber = regexp.MustCompile(`^[0-9]+$`)

// oneOf is for commands that take one of these words; optional: or none.
func oneOf(optional bool, words ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		list := strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
		switch {
		case len(args) == 0 && !optional, len(args) > 1:
			return &usageError{err: fmt.Errorf("%s takes one word, and got %d", cmd.CommandPath(), len(args)),
				hint: list}
		case len(args) == 1 && !slices.Contains(words, args[0]):
			return &usageError{err: fmt.Errorf("%s does not know %q", cmd.CommandPath(), args[0]), hint: list}
		}
		return nil
	}
}

// wrongFlag says what is wrong with a flag, and which one was probably meant.
func wrongFlag(cmd *cobra.Command, err error) error {
	hint := cmd.CommandPath() + " --help lists its flags"
	var value interface{ GetValue() string }
	if name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --"); unknown {
		if name == "version" {
			hint = "phoenix version"
		} else if near := config.Nearest(name, flagNames(cmd)); near != "" {
			hint = "did you mean --" + near + "?"
		}
	} else if errors.As(err, &value) && strings.Contains(err.Error(), "time: ") {
		before, _, _ := strings.Cut(err.Error(), ": time: ")
		err, hint = errors.New(before), "a number with its unit, such as 90s, 10m or 1h30m"
	}
	return &usageError{err: err, hint: hint}
}

var flagName = regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z-]+)`)

// flagNames are those that the help shows.
func flagNames(cmd *cobra.Command) (names []string) {
	for _, m := range flagName.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages()+cmd.InheritedFlags().FlagUsages(),
		-1) {
		names = append(names, m[1])
	}
	return names
}

// notEmpty refuses an empty path: it stands for a variable of a shell that is not set, and something else would be
// worked on than was meant.
func notEmpty(cmd *cobra.Command) error {
	for _, name := range []string{"config", "root"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		if text := strings.Trim(f.Value.String(), "[]"); text == "" || strings.Contains(","+text+",", ",,") {
			return &usageError{err: fmt.Errorf("--%s is empty", name), hint: "name a path, or leave the flag out"}
		}
	}
	return nil
}

// unknownCommand says which command was probably meant.
func unknownCommand(cmd *cobra.Command, typed string) error {
	err := fmt.Errorf("unknown command %q for %q", typed, cmd.CommandPath())
	if names := meant(cmd, typed); len(names) > 0 {
		return &usageError{err: err, hint: "did you mean " + strings.Join(names, " or ") + "?"}
	}
	return &usageError{err: err, hint: cmd.CommandPath() + " --help lists the commands, " + cmd.CommandPath() +
		" COMMAND --help their flags"}
}

// otherWords are what the commands are called elsewhere.
var otherWords = map[string]string{
	"list": "status", "ls": "status", "ps": "status", "show": "status", "info": "status", "rm": "delete",
	"remove": "delete", "destroy": "delete",
	"init": "setup", "install": "setup", "check": "health", "doctor": "health", "log": "events", "logs": "events",
	"journal": "events",
	"preview": "plan", "reboot": "restart", "shutdown": "stop", "halt": "stop", "boot": "up", "lint": "validate",
	"scan":   "audit",
	"daemon": "watch", "describe": "explain", "man": "explain", "docs": "explain", "down": "stop",
	"rollback": "migrate --live --rollback",
}

func meant(cmd *cobra.Command, typed string) (names []string) {
	if word := otherWords[strings.ToLower(typed)]; word != "" && !cmd.HasParent() {
		return []string{word}
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() &&
			(len(typed) > 1 && strings.HasPrefix(c.Name(), typed) || config.Nearest(typed, []string{c.Name()}) != "") {
			names = append(names, c.Name())
		}
	}
	return names
}

// helpCommand is --help for those who ask in another way.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "the same as --help", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return err
			case len(rest) > 0:
				return unknownCommand(about, rest[0])
			}
			return about.Help()
		},
	}
}
