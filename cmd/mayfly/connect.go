package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mayflydb/mayfly/client"
	"github.com/mayflydb/mayfly/internal/config"
	"github.com/mayflydb/mayfly/internal/object"
)

// clientFlags declares the flags of commands that talk to nodes.
func (s *settings) clientFlags() *settings {
	return s.flagAs("node", "client.nodes", "TCP address of a node to ask; several are separated by commas").
		flagAs("timeout", "client.timeout", "how long one request may take, retries included")
}

func clientConfig(c *config.Config, log *slog.Logger) client.Config {
	return client.Config{
		Addrs: c.Client.Nodes, Pinned: c.Client.Pinned, User: c.Client.User, Timeout: time.Duration(c.Client.Timeout),
		MaxInFlightBytes: int64(c.Client.MaxInFlight), Log: log,
	}
}

// connect returns a client that has talked to a node. The caller closes it.
func connect(ctx context.Context, e *config.Effective) (*client.Client, error) {
	return connectLogging(ctx, e, nil)
}

// connectLogging is connect for long-running programs.
func connectLogging(ctx context.Context, e *config.Effective, log *slog.Logger) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(e.Client.Timeout))
	defer cancel()
	c, err := client.Dial(ctx, clientConfig(&e.Config, log))
	if err != nil {
		return nil, unreachable(err, e)
	}
	return c, nil
}

// unreachable says what to do when no node can be talked to.
func unreachable(err error, e *config.Effective) error {
	if !errors.Is(err, object.CodeUnavailable) && !errors.Is(err, object.CodeDeadline) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no node answers at %s in time: one that starts, or waits for its cluster, does not yet, and its log says why; or give another address with --node (%w)", strings.Join(e.Client.Nodes, ", "), err)
	}
	return fmt.Errorf("no node answers at %s: start one with \"mayfly serve\", or give its address with --node (%w)", strings.Join(e.Client.Nodes, ", "), err)
}
