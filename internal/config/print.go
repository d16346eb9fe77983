package config

import (
	"fmt"
	"strings"
)

// A Setting is one setting as it is shown to people and scripts.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // as TOML
	Origin string `json:"origin"`
}

// Settings lists every setting with its value and origin, in the file's order.
func (e *Effective) Settings() []Setting {
	var list []Setting
	for _, s := range e.settings() {
		list = append(list, Setting{s.path, s.toml(), e.Origin(s.path)})
	}
	return list
}

// A Description is what a flag that stands for a setting shows.
type Description struct {
	Doc     string
	Default string // bare text, as a flag takes it
	List    bool
}

// Describe returns the description of the setting at path, which must exist.
func Describe(path string) Description {
	c := DefaultConfig()
	s, ok := find(c.settings(), path)
	if !ok {
		panic("config: BUG: no setting " + path)
	}
	if list, ok := s.value.Interface().([]string); ok {
		return Description{s.doc, strings.Join(list, ","), true}
	}
	return Description{s.doc, fmt.Sprint(s.value.Interface()), false}
}

// Paths lists the name of every setting there is without a file.
func Paths() []string {
	c := DefaultConfig()
	return paths(c.settings())
}

// TOML returns the settings as a file that gives the same ones, with the origin
// of each value in a comment.
func (e *Effective) TOML() string {
	var b strings.Builder
	line := func(s setting) {
		fmt.Fprintf(&b, "%-40s # %s\n", key(s)+" = "+s.toml(), e.Origin(s.path))
	}
	for i, sec := range e.sections() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[%s]\n", sec.name)
		for _, s := range sec.sets {
			line(s)
		}
	}
	for i := range e.Buckets {
		bucket := &e.Buckets[i]
		fmt.Fprintf(&b, "\n[[bucket]]\ntype = %s\nname = %s\n", quote(bucket.Type), quote(bucket.Name))
		for _, s := range bucket.settings() {
			line(s)
		}
	}
	return b.String()
}

// Example returns a file that holds every setting at its default, with what it
// means.
func Example() string {
	var b strings.Builder
	b.WriteString(exampleHead)
	c := DefaultConfig()
	for _, sec := range c.sections() {
		b.WriteByte('\n')
		comment(&b, sec.doc)
		fmt.Fprintf(&b, "[%s]\n", sec.name)
		for _, s := range sec.sets {
			b.WriteByte('\n')
			comment(&b, s.doc)
			fmt.Fprintf(&b, "%s = %s\n", key(s), s.toml())
		}
	}
	b.WriteString(exampleBuckets)
	for _, f := range bucketFields() {
		fmt.Fprintf(&b, "#   %-11s %s\n", key(f), f.doc)
	}
	for i := range c.Buckets {
		bucket := &c.Buckets[i]
		fmt.Fprintf(&b, "\n[[bucket]]\nname = %s\n", quote(bucket.Name))
		for _, s := range bucket.settings() {
			fmt.Fprintf(&b, "%s = %s\n", key(s), s.toml())
		}
	}
	return b.String()
}

const exampleHead = `# Settings of mayfly. Every one is here with its default: keep those you change.
# The environment (MAYFLY_NODE__LISTEN for node.listen) beats this file, a flag
# beats both. Read with: mayfly serve --config FILE
`

const exampleBuckets = `
# Buckets that are more than plain. The two below are built in; a [[bucket]] for
# one of them changes only what it says. A bucket nobody declared is plain:
# objects live by their timestamp and for ever.
#
`

func comment(b *strings.Builder, doc string) {
	for l := range strings.SplitSeq(doc, "\n") {
		b.WriteString("# " + l + "\n")
	}
}

// key returns the last part of a setting's path.
func key(s setting) string { return s.path[strings.LastIndexByte(s.path, '.')+1:] }
