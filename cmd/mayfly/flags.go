package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mayflydb/mayfly/internal/config"
)

// A durationFlag is a duration as settings write it: "500ms", "10d".
type durationFlag struct{ value *time.Duration }

func (f durationFlag) String() string {
	if f.value == nil {
		return ""
	}
	return config.Duration(*f.value).String()
}

func (f durationFlag) Set(s string) error {
	d, err := config.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", s)
	}
	if err == nil {
		*f.value = time.Duration(d)
	}
	return err
}

func (durationFlag) Type() string { return "duration" }

// durationVar declares a flag that holds a duration, zero or more.
func durationVar(flags *pflag.FlagSet, name string, value time.Duration, usage string) *time.Duration {
	p := &value
	flags.Var(durationFlag{p}, name, usage)
	return p
}

// exclusive refuses a command line that gives more than one of the flags.
func exclusive(cmd *cobra.Command, names ...string) error {
	var given []string
	for _, n := range names {
		if cmd.Flags().Changed(n) {
			given = append(given, "--"+n)
		}
	}
	if len(given) > 1 {
		return usagef("%s cannot be given together; choose one", strings.Join(given, " and "))
	}
	return nil
}
