package main

import "github.com/spf13/cobra"

const benchLong = `bench measures mayfly on this machine against the least that could do the same
job, in one run and in alternating pairs: absolute figures belong to a machine
and an hour, the ratio to a floor that ran a moment before or after is worth
more. Each benchmark's own help says what its floor is and how far to trust it.`

// benchCommand is the parent of the benchmarks; each lives in a file of its name.
func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		GroupID: groupLook,
		Short:   "measure mayfly on this machine against a floor",
		Long:    benchLong,
		Example: "  mayfly bench cluster --help\n  mayfly bench engine --help",
		Args:    a.noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddGroup(&cobra.Group{ID: groupLook, Title: "Benchmarks:"})
	cmd.AddCommand(a.benchCommands()...)
	return cmd
}

// benchCommands lists the benchmarks.
func (a *app) benchCommands() []*cobra.Command {
	return []*cobra.Command{a.benchClusterCommand(), a.benchEngineCommand(), a.benchCollectionsCommand(), a.benchRingCommand(), a.benchRaw3Command()}
}
