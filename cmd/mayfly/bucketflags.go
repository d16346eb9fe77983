package main

import (
	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/event"
	"github.com/mayflydb/mayfly/internal/bucket"
)

// A place is the bucket that a command works in.
type place struct {
	bucket, typ string
}

// placeFlags declares the flags that name a bucket.
func placeFlags(cmd *cobra.Command) *place {
	p := &place{}
	cmd.Flags().StringVarP(&p.bucket, "bucket", "b", bucket.Events, "the bucket")
	cmd.Flags().StringVar(&p.typ, "type", bucket.DefaultType, "the bucket's type")
	complete(cmd, "bucket", bucket.Events, bucket.Epochs)
	return p
}

// isEvents tells whether the place is the bucket of blobs.
func (p *place) isEvents() bool { return p.typ == bucket.DefaultType && p.bucket == bucket.Events }

// check refuses names and keys that no node would take, before one is asked.
func (p *place) check(key string) error {
	if err := bucket.CheckNames(p.typ, p.bucket); err != nil {
		return usageError{err}
	}
	if p.isEvents() {
		if _, err := event.ParseKey(key); err != nil {
			return usagef("%w", err)
		}
		return nil
	}
	if err := bucket.CheckKey(key); err != nil {
		return usageError{err}
	}
	return nil
}

// complete offers words for a flag's value.
func complete(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("mayfly: BUG: " + err.Error())
	}
}
