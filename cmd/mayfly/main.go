// Command mayfly is the whole of mayfly in one binary: the node, the
// aggregator, the tail, the tools to put, get and look, and a demo of all of
// it. "mayfly --help" lists the subcommands; each lives in a file of its name.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal stops cleanly; a second one, no longer caught, at once
	os.Exit(report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}
