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
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go stopOn(signals, cancel)
	os.Exit(report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}

// stopOn stops the program cleanly at the first signal, and at once at the
// second, with the exit status that shells give to a program a signal has ended.
func stopOn(signals <-chan os.Signal, stop func()) {
	<-signals
	stop()
	s := <-signals
	os.Exit(128 + int(s.(syscall.Signal)))
}
