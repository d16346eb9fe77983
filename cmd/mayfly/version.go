package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A versionInfo says what this program is.
type versionInfo struct {
	Version  string `json:"version"`            // of the module: a tag, or "devel"
	Revision string `json:"revision,omitempty"` // of the source, if it was built from a repository
	Modified bool   `json:"modified,omitempty"` // the source had changes that are not in Revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func version() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v versionInfo) String() string {
	s := "mayfly " + v.Version
	if v.Revision != "" {
		s += " " + v.Revision[:min(12, len(v.Revision))]
	}
	if v.Modified {
		s += " (modified)"
	}
	return fmt.Sprintf("%s, %s, %s", s, v.Go, v.Platform)
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		GroupID: groupLook,
		Short:   "print the version of this program",
		Example: `  mayfly version
  mayfly version --json | jq -r .revision`,
		Args: noArguments(),
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *asJSON {
			return printJSON(a.stdout, version())
		}
		_, err := fmt.Fprintln(a.stdout, version())
		return err
	}
	return cmd
}
