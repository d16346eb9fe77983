package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mayflydb/mayfly/internal/config"
)

// settings ties a command's flags to settings: "listen" to "node.listen".
type settings struct {
	app   *app
	cmd   *cobra.Command
	bound []binding
}

type binding struct{ flag, path string }

// settingsOf returns the settings of cmd, none of them with a flag of its own.
func (a *app) settingsOf(cmd *cobra.Command) *settings { return &settings{app: a, cmd: cmd} }

// flag declares a flag that stands for the setting at path; its help and default
// are the setting's.
func (s *settings) flag(name, path string) *settings {
	d := config.Describe(path)
	help := strings.TrimSuffix(strings.ReplaceAll(d.Doc, "\n", " "), ".")
	if d.List {
		help += "; several are separated by commas"
	}
	return s.flagAs(name, path, help)
}

// flagAs is flag with another help text.
func (s *settings) flagAs(name, path, help string) *settings {
	s.bound = append(s.bound, binding{name, path})
	s.cmd.Flags().Var(&settingFlag{text: config.Describe(path).Default}, name, fmt.Sprintf("%s (setting %s)", help, path))
	return s
}

// A settingFlag holds the bare text of a setting; config decides what it means.
type settingFlag struct{ text string }

func (f *settingFlag) String() string     { return f.text }
func (f *settingFlag) Set(s string) error { f.text = s; return nil }
func (f *settingFlag) Type() string       { return "value" }

// load returns the settings in force.
func (s *settings) load() (*config.Effective, error) {
	in := config.Input{Environ: s.app.environ}
	if err := s.readFile(&in); err != nil {
		return nil, err
	}
	given, err := s.cmd.Flags().GetStringArray("set")
	if err != nil {
		panic("mayfly: BUG: " + err.Error())
	}
	for _, pair := range given {
		path, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usagef("--set %q: write KEY=VALUE, as in --set node.listen=127.0.0.1:7070; \"mayfly config\" lists the keys", pair)
		}
		in.Flags = append(in.Flags, config.Override{Path: path, Value: value, Flag: "--set"})
	}
	for _, b := range s.bound { // after --set: the flag made for it counts
		if f := s.cmd.Flags().Lookup(b.flag); f.Changed {
			in.Flags = append(in.Flags, config.Override{Path: b.path, Value: f.Value.String(), Flag: "--" + b.flag})
		}
	}
	return config.Load(in)
}

// readFile reads the file that --config or the environment names.
func (s *settings) readFile(in *config.Input) error {
	name, err := s.cmd.Flags().GetString("config")
	if err != nil {
		panic("mayfly: BUG: " + err.Error())
	}
	where := "--config"
	if name == "" {
		where = config.ConfigFileVariable
		for _, pair := range s.app.environ {
			if value, ok := strings.CutPrefix(pair, config.ConfigFileVariable+"="); ok {
				name = value
			}
		}
	}
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return usagef("%s: there is no file %s; \"mayfly config --example > %s\" makes one", where, name, name)
	case err != nil:
		return usagef("%s: %w", where, err)
	}
	in.FileName, in.File = name, text
	return nil
}

// logFlags declares the flags of long-running programs for what they log.
func (s *settings) logFlags() {
	s.flag("log-level", "log.level").flag("log-format", "log.format")
	complete(s.cmd, "log-level", "debug", "info", "warn", "error")
	complete(s.cmd, "log-format", "text", "json")
}
