package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayflydb/mayfly/internal/config"
)

// Exit statuses, the same for every subcommand.
const (
	exitOK      = 0 // done; also a long-running program stopped by a signal
	exitFailure = 1 // not done, or damage or a difference was found
	exitUsage   = 2 // the command line or the configuration is wrong; nothing was begun
)

// A usageError is a command line that cannot be carried out as written.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errSilent ends a command with exitFailure after it has said why itself.
var errSilent = errors.New("failed")

// report writes err as a sentence and returns the process's exit status.
func report(stderr io.Writer, err error) int {
	if err != nil && !errors.Is(err, errSilent) {
		fmt.Fprintf(stderr, "mayfly: %v\n", err)
	}
	return exitStatus(err)
}

func exitStatus(err error) int {
	if err == nil {
		return exitOK
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	if _, faulty := errors.AsType[*config.Error](err); faulty {
		return exitUsage
	}
	return exitFailure
}

// run carries out one command line. It returns when the command is done, or,
// for a long-running one, when ctx ends. Standard output carries what was asked
// for and nothing else.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, environ: os.Environ()}
	return a.run(ctx, args)
}

// run carries out one command line. Why it failed is told on standard output too
// where --json asks for an object there.
func (a *app) run(ctx context.Context, args []string) error {
	a.args = args
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && answersJSON(cmd, args) && !errors.Is(err, errSilent) {
		if told := printJSON(a.stdout, failed{describeFailure(err)}); told != nil {
			return errors.Join(err, told)
		}
	}
	return err
}

// An app is one run of the program: its streams and its environment.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string // "NAME=value"
	args           []string // the command line

	// dialAdmin connects to a cluster; nil: over the wire. Tests have their own.
	dialAdmin func(ctx context.Context, e *config.Effective) (clusterAdmin, error)
}

const rootLong = `mayfly keeps short-lived event blobs on several machines.

Producers send events by UDP; "mayfly aggregate" makes one blob a second of each
kind of event; "mayfly serve" keeps the blobs until they expire; "mayfly tail"
follows the newest seconds. To see all of it at work, in one process:

  mayfly demo

To run it by hand, each in a terminal of its own:

  mayfly serve              # a node; keeps its data in ./mayfly-data
  mayfly aggregate          # takes events on UDP 127.0.0.1:7071
  mayfly tail               # prints events as their seconds complete
  mayfly send --for 10s     # sends generated events

Settings come from flags, the environment and a TOML file, in this order;
"mayfly config" shows them all. Exit statuses: 0 done, 1 not done (or damage
found), 2 a command line or configuration that is wrong.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mayfly",
		Short: "keep, follow and read short-lived event blobs",
		Long:  rootLong,
		Args:  a.noSuchCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(a.flagError)
	root.PersistentFlags().String("config", "", "read settings from this TOML `FILE` (or set "+config.ConfigFileVariable+")")
	root.PersistentFlags().StringArray("set", nil, "set any setting, as `KEY=VALUE`: --set bucket.events.ttl=2d (may be repeated)")
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Programs that run until stopped:"},
		&cobra.Group{ID: groupData, Title: "Data:"},
		&cobra.Group{ID: groupCluster, Title: "The cluster:"},
		&cobra.Group{ID: groupLook, Title: "Tools:"},
	)
	root.AddCommand(a.commands()...)
	root.SetHelpCommandGroupID(groupLook)
	root.SetCompletionCommandGroupID(groupLook)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() { // cobra's own begin with a capital letter
		c.Short = strings.ToLower(c.Short[:1]) + c.Short[1:]
	}
	return root
}

const (
	groupRun  = "run"
	groupData = "data"
	groupLook = "look"
)

// noSuchCommand refuses the first word of a command line that is no subcommand.
func (a *app) noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usagef("there is no command %q; did you mean %q? \"%s --help\" lists them all", args[0], config.Nearest(args[0], names), cmd.CommandPath())
}

// flagError words what is wrong with a flag.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if cmd.HasSubCommands() {
		if word := a.firstWord(cmd); word != "" {
			return a.misplaced(cmd, word)
		}
	}
	help := fmt.Sprintf("; \"%s --help\" explains", cmd.CommandPath())
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if c := e.GetSpecifiedName(); len(c) == 1 && '0' <= c[0] && c[0] <= '9' {
			return usagef("there is no flag -%s, and nothing here can be negative%s", c, help)
		}
		if len(e.GetSpecifiedName()) == 1 {
			return usagef("there is no flag %s%s", dashed(e.GetSpecifiedName()), help)
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		return usagef("there is no flag %s; did you mean --%s?%s", dashed(e.GetSpecifiedName()), config.Nearest(e.GetSpecifiedName(), names), strings.Replace(help, "; ", " ", 1))
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return usagef("the flag %s needs a value%s", dashed(e.GetSpecifiedName()), help)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usagef("--%s: %s%s", e.GetFlag().Name, valueReason(e), help)
	}
	return usagef("%w%s", err, help)
}

// firstWord returns the first word of the command line behind a command that
// gathers others, "" if there are only flags.
func (a *app) firstWord(cmd *cobra.Command) string {
	words, value := []string(nil), false
	for _, arg := range a.args {
		switch {
		case value:
			value = false
		case arg == "--config" || arg == "--set":
			value = true
		case !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
		}
	}
	if depth := len(strings.Fields(cmd.CommandPath())) - 1; len(words) > depth {
		return words[depth]
	}
	return ""
}

// misplaced says what is wrong with flags that a command which gathers others does
// not have: the word behind it is no command, or comes too late.
func (a *app) misplaced(cmd *cobra.Command, word string) error {
	for _, c := range cmd.Commands() {
		if c.Name() == word {
			return usagef("flags come behind the command that has them: \"%s %s --help\" lists them", cmd.CommandPath(), word)
		}
	}
	return a.noSuchCommand(cmd, []string{word})
}

// valueReason says what is wrong with a flag's value: in our words for the
// kinds whose parsers speak of Go.
func valueReason(e *pflag.InvalidValueError) string {
	switch e.GetFlag().Value.Type() {
	case "int", "int64", "uint64", "uint32":
		return fmt.Sprintf("%q is not a whole number", e.GetValue())
	case "float64":
		return fmt.Sprintf("%q is not a number", e.GetValue())
	case "bool":
		return fmt.Sprintf("%q is neither true nor false", e.GetValue())
	}
	return e.Unwrap().Error()
}

// dashed writes a flag the way it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// takes returns a check of a command's arguments: between least and most of
// them, or a sentence that says what they are.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		help := fmt.Sprintf("; \"%s --help\" explains", cmd.CommandPath())
		switch {
		case len(args) < least:
			return usagef("%s takes %s%s", cmd.Name(), what, help)
		case len(args) > most && most == 0:
			return usagef("%s takes no arguments, and was given %q%s", cmd.Name(), args[0], help)
		case len(args) > most:
			return usagef("%s takes %s; %q is too much%s", cmd.Name(), what, args[most], help)
		}
		return nil
	}
}

func noArguments() cobra.PositionalArgs { return takes(0, 0, "") }
