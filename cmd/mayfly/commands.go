package main

import "github.com/spf13/cobra"

// commands lists the subcommands.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.serveCommand(), a.aggregateCommand(), a.tailCommand(),
		a.putCommand(), a.getCommand(), a.delCommand(), a.keysCommand(),
		a.demoCommand(), a.benchCommand(), a.sendCommand(), a.checkCommand(), a.dumpCommand(), a.simCommand(),
		a.clusterCommand(), a.configCommand(), a.versionCommand(),
	}
}
