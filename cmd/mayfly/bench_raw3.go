package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/bench/raw3"
	"github.com/mayflydb/mayfly/internal/config"
)

// benchRaw3Command is a node of the floor of "bench cluster", which starts
// three. It is of no other use and not listed.
func (a *app) benchRaw3Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "raw3-node",
		GroupID: groupLook,
		Short:   "run a node of the floor of bench cluster",
		Hidden:  true,
		Example: "  mayfly bench raw3-node --listen 127.0.0.1:1 --peers 127.0.0.1:2,127.0.0.1:3 --data ./raw3",
		Args:    noArguments(),
	}
	f := cmd.Flags()
	listen := f.String("listen", "", "TCP address")
	peers := f.String("peers", "", "TCP addresses of the other two, separated by a comma")
	data := f.String("data", "", "`DIRECTORY` for its file")
	metrics := f.String("metrics", "", "address of the HTTP listener for profiles; \"\" is off")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		others := strings.Split(*peers, ",")
		if *listen == "" || *data == "" || len(others) != 2 {
			return usagef("raw3-node takes --listen, --data and two --peers; \"mayfly bench cluster\" starts it")
		}
		log := newLogger(a.stderr, config.Log{Level: "info", Format: "json"})
		admin, err := listenAdmin(*metrics, "--metrics")
		if err != nil {
			return fmt.Errorf("raw3-node: %w", err)
		}
		defer admin.close()
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return fmt.Errorf("raw3-node: %w", err)
		}
		n, err := raw3.Open(*data, others)
		if err != nil {
			l.Close() //nolint:errcheck // nobody has used it
			return err
		}
		admin.serve(newRegistry(), func() error { return nil }, log)
		log.Info("serving", "addr", l.Addr().String(), "metrics", admin.url())
		err = n.Serve(cmd.Context(), l)
		if cerr := n.Close(); err == nil {
			err = cerr
		}
		return err
	}
	return cmd
}
