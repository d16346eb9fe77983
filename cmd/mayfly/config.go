package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		GroupID: groupLook,
		Short:   "show the settings in force and where each comes from",
		Long: `config prints every setting with its value and its origin: the default, a line
of the file, a variable of the environment, or a flag. What it prints can be
read back as a file.

A setting has one name everywhere. In the file it is a key of a section; in the
environment it is MAYFLY_SECTION__KEY; on the command line of every subcommand
--set section.key=value, and often a flag of its own. A flag beats the
environment, the environment beats the file.

A key or variable that mayfly does not know is an error, so that a mistyped one
is not silently the default.`,
		Example: `  mayfly config --example > mayfly.toml           # every setting, explained
  mayfly config --config mayfly.toml              # what would hold with it
  MAYFLY_NODE__SLOT=10s mayfly config | grep slot
  mayfly config --set bucket.events.ttl=2d --json`,
		Args: noArguments(),
	}
	s := a.settingsOf(cmd)
	example := cmd.Flags().Bool("example", false, "print a file with every setting at its default, explained")
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a setting")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := exclusive(cmd, "example", "json"); err != nil {
			return err
		}
		if *example {
			_, err := io.WriteString(a.stdout, config.Example())
			return err
		}
		e, err := s.load()
		if err != nil {
			return err
		}
		if !*asJSON {
			_, err = io.WriteString(a.stdout, e.TOML())
			return err
		}
		for _, setting := range e.Settings() {
			if err := printJSON(a.stdout, setting); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
