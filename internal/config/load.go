package config

import (
	"cmp"
	"slices"
	"strings"
)

// An Input is everything that may say what a setting is.
type Input struct {
	FileName string     // as messages should show it
	File     []byte     // the file's text; empty is no file
	Environ  []string   // "NAME=value", as os.Environ returns them; names outside MAYFLY_ are not looked at
	Flags    []Override // of the command line; of two for one setting the later counts
}

// An Override is one setting given by a flag.
type Override struct {
	Path  string // "node.listen"
	Value string // bare text; lists separated by commas
	Flag  string // what the user wrote, for messages: "--listen"
}

// ConfigFileVariable is the environment variable that names the file to read.
// It is the one variable beginning with MAYFLY_ that is not a setting.
const ConfigFileVariable = "MAYFLY_CONFIG"

// Effective is a Config with the origin of each of its values.
type Effective struct {
	Config
	origins map[string]string // by path; those missing are defaults
}

// Load joins defaults, file, environment and flags, each beating the one
// before, and checks the result. Unknown keys and variables are faults. On
// error the result is nil and the error is an *[Error] with every fault found;
// only a file that is not TOML, or holds a value of the wrong kind, hides what
// follows it.
func Load(in Input) (*Effective, error) {
	e := &Effective{DefaultConfig(), map[string]string{}}
	var all faults
	all = append(all, e.readFile(in.FileName, in.File)...)
	all = append(all, e.readEnviron(in.Environ)...)
	all = append(all, e.readFlags(in.Flags)...)
	e.settle()
	if len(all) == 0 { // half-read settings would be reported twice
		for _, f := range e.faults() {
			f.Where = e.origins[f.Key]
			all = append(all, f)
		}
	}
	if err := all.err(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Effective) readEnviron(environ []string) (all faults) {
	environ = slices.Clone(environ)
	slices.Sort(environ) // faults in a stable order
	sets := e.settings()
	known := make([]string, len(sets))
	for i, s := range sets {
		known[i] = envName(s.path)
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "MAYFLY_") || name == ConfigFileVariable {
			continue
		}
		i := slices.Index(known, name)
		if i < 0 {
			known := append([]string{ConfigFileVariable}, known...)
			all = append(all, &Fault{Where: "environment", Reason: unknownKey("variable of mayfly", name, known)})
			continue
		}
		all = append(all, e.apply(sets[i], value, name)...)
	}
	return all
}

func (e *Effective) readFlags(flags []Override) (all faults) {
	sets := e.settings()
	for _, o := range flags {
		s, ok := find(sets, o.Path)
		if !ok {
			all = append(all, &Fault{Where: o.Flag, Reason: unknownKey("setting", o.Path, paths(sets))})
			continue
		}
		all = append(all, e.apply(s, o.Value, o.Flag)...)
	}
	return all
}

// apply sets s from text that came from origin.
func (e *Effective) apply(s setting, text, origin string) faults {
	if err := s.set(text); err != nil {
		return faults{{Where: origin, Key: s.path, Reason: err.Error()}}
	}
	e.origins[s.path] = origin
	return nil
}

func paths(sets []setting) []string {
	p := make([]string, len(sets))
	for i, s := range sets {
		p[i] = s.path
	}
	return p
}

// Origin tells where the value of the setting at path came from: the file's
// name, the environment variable, the flag, or "default".
func (e *Effective) Origin(path string) string { return cmp.Or(e.origins[path], "default") }
