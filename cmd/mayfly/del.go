package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

const delLong = `del deletes an object. In the bucket events that is an erasure: the key never
takes a value again, and its entry stays in the index, marked, so that nobody
takes the blob for lost. Elsewhere the key may be put again.

Exit status 1: there was nothing to delete, or it could not be done; the message
says what is known. Deleting again is safe.`

func (a *app) delCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "del KEY",
		GroupID: groupData,
		Short:   "delete an object",
		Long:    delLong,
		Example: `  mayfly del 1763712000:ams:WEB:checkout:0
  mayfly del --bucket notes greeting`,
		Args: takes(1, 1, "a key"),
	}
	s := a.settingsOf(cmd).clientFlags()
	where := placeFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := s.load()
		if err != nil {
			return err
		}
		key := expandNow(args[0], time.Now())
		if err := where.check(key); err != nil {
			return err
		}
		c, err := connect(cmd.Context(), e)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // nothing is under way
		if err := c.Delete(cmd.Context(), where.typ, where.bucket, key); err != nil {
			return withOutcome("del", key, err)
		}
		if *asJSON {
			return printJSON(a.stdout, map[string]string{"type": where.typ, "bucket": where.bucket, "key": key, "deleted": "yes"})
		}
		_, err = fmt.Fprintf(a.stdout, "%s: deleted\n", key)
		return err
	}
	return cmd
}
