package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// A setting is one value of a Config: its name, its meaning, and where it lies.
type setting struct {
	path  string // "node.listen", "bucket.events.ttl"
	doc   string
	value reflect.Value // addressable: inside the Config
}

// A section is one table of the file.
type section struct {
	name string
	doc  string
	sets []setting
}

// sections lists c's settings, without the buckets', in the order of the
// struct. The values are those of c: setting one changes c.
func (c *Config) sections() []section {
	var all []section
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("toml")
		if name == "-" {
			continue
		}
		all = append(all, section{name, f.Tag.Get("doc"), fieldsOf(v.Field(i), name)})
	}
	return all
}

// settings lists all of c's settings, those of its buckets last.
func (c *Config) settings() []setting {
	var all []setting
	for _, s := range c.sections() {
		all = append(all, s.sets...)
	}
	for i := range c.Buckets {
		all = append(all, c.Buckets[i].settings()...)
	}
	return all
}

func fieldsOf(v reflect.Value, prefix string) []setting {
	var sets []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		sets = append(sets, setting{prefix + "." + f.Tag.Get("toml"), f.Tag.Get("doc"), v.Field(i)})
	}
	return sets
}

// find returns the setting of that path.
func find(sets []setting, path string) (setting, bool) {
	for _, s := range sets {
		if s.path == path {
			return s, true
		}
	}
	return setting{}, false
}

// set reads a value as the environment and flags write it: bare text, lists
// separated by commas.
func (s setting) set(text string) error {
	if u, ok := s.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch s.value.Kind() {
	case reflect.String:
		s.value.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		s.value.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, strconv.IntSize)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		s.value.SetInt(n)
	case reflect.Slice:
		s.value.Set(reflect.ValueOf(splitList(text)))
	default:
		panic("config: BUG: a setting of kind " + s.value.Kind().String())
	}
	return nil
}

// splitList cuts a comma-separated list; blank elements are left out.
func splitList(text string) []string {
	list := []string{}
	for e := range strings.SplitSeq(text, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// toml writes the value as TOML.
func (s setting) toml() string {
	switch v := s.value.Interface().(type) {
	case fmt.Stringer: // durations and sizes
		return quote(v.String())
	case string:
		return quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i := range v {
			quoted[i] = quote(v[i])
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// quote writes a TOML basic string. JSON's escapes are a subset of TOML's.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("config: BUG: a string that is not JSON: " + err.Error())
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}

// envName returns the environment variable that sets path.
func envName(path string) string {
	clean := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}
	head, rest, _ := strings.Cut(path, ".")
	if head == "bucket" { // bucket.<type>/<name>.<property>: the name may hold anything
		at := strings.LastIndexByte(rest, '.')
		return strings.ToUpper("MAYFLY_BUCKET__" + strings.Map(clean, rest[:at]) + "__" + rest[at+1:])
	}
	return strings.ToUpper("MAYFLY_" + head + "__" + rest)
}
