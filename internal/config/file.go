package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A file is a TOML file on its way into settings.
type file struct {
	name string
	text []byte
}

// readFile lays a TOML file over e. Every unknown key and every value of the
// wrong kind is a fault with its place; what is no TOML at all is one fault.
func (e *Effective) readFile(name string, text []byte) faults {
	f := file{name, text}
	if err := toml.Unmarshal(text, new(map[string]any)); err != nil {
		if d, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, column := d.Position()
			return faults{f.fault(row, column, "", strings.TrimPrefix(d.Error(), "toml: "))}
		}
		return faults{{Where: name, Reason: err.Error()}}
	}
	entries := f.entries()
	var all faults
	for _, en := range entries {
		if en.bucket == 0 {
			all = append(all, e.take(f, e.settings(), en)...)
		}
	}
	for n := 1; ; n++ {
		mine := ofBucket(entries, n)
		if len(mine) == 0 {
			return all
		}
		all = append(all, e.declare(f, n, mine)...)
	}
}

// take sets what one entry of the file says.
func (e *Effective) take(f file, sets []setting, en entry) faults {
	s, ok := find(sets, en.path)
	if !ok || en.value == nil {
		return faults{f.fault(en.row, en.column, "", e.unknown(en))}
	}
	if reason := s.setNode(en.value); reason != "" {
		return faults{f.fault(en.valueRow, en.valueColumn, en.path, reason)}
	}
	e.origins[s.path] = fmt.Sprintf("%s:%d", f.name, en.row)
	return nil
}

// unknown words a key or table the file has and mayfly has not.
func (e *Effective) unknown(en entry) string {
	c := DefaultConfig()
	c.Buckets = nil
	var sections []string
	for _, s := range c.sections() {
		sections = append(sections, s.name)
	}
	known := paths(append(c.settings(), bucketFields()...))
	head, _, dotted := strings.Cut(en.path, ".")
	isSection := slices.Contains(sections, en.path)
	switch {
	case en.path == "bucket":
		return "buckets are a list; write [[bucket]] with two brackets"
	case isSection && en.value == nil:
		return en.path + " is one section, not a list; write [" + en.path + "] with single brackets"
	case isSection:
		return en.path + " is a section; write [" + en.path + "] and its settings below"
	case en.value == nil && slices.Contains(known, en.path):
		return en.path + " is a setting, not a section; write it in [" + head + "]"
	case en.value == nil:
		return unknownKey("section", en.path, append(sections, "bucket"))
	case dotted:
		return unknownKey("setting", en.path, known)
	}
	if i := slices.IndexFunc(known, func(k string) bool { return strings.HasSuffix(k, "."+head) }); i >= 0 {
		return head + " stands outside a section; did you mean " + known[i] + "?"
	}
	return unknownKey("setting", en.path, known)
}

// fault builds a fault that shows where in the file it is.
func (f file) fault(row, column int, key, reason string) *Fault {
	fault := &Fault{Where: fmt.Sprintf("%s:%d:%d", f.name, row, column), Key: key, Reason: reason}
	lines := bytes.Split(f.text, []byte("\n"))
	if row >= 1 && row <= len(lines) {
		line := strings.ReplaceAll(strings.TrimRight(string(lines[row-1]), "\r"), "\t", " ")
		fault.Excerpt = fmt.Sprintf("%4d | %s\n     | %s^", row, strings.ToValidUTF8(line, "?"), strings.Repeat(" ", max(column-1, 0)))
	}
	return fault
}

// An entry is one key of the file with its value, or an empty table's name.
type entry struct {
	path                  string // "node.listen", "bucket.ttl"
	bucket                int    // which [[bucket]], from 1; 0 is none
	value                 *value // nil for a table's name
	row, column           int    // of the key, from 1
	valueRow, valueColumn int
}

// A value is a TOML value as far as settings need it.
type value struct {
	kind  unstable.Kind
	text  string
	items []value
}

// ofBucket returns the entries of the n-th [[bucket]].
func ofBucket(entries []entry, n int) (mine []entry) {
	for _, en := range entries {
		if en.bucket == n {
			mine = append(mine, en)
		}
	}
	return mine
}

// A walker flattens a file's syntax tree into entries. The library's parser of
// that tree is the one thing that knows where each key stands.
type walker struct {
	parser  unstable.Parser
	entries []entry
	prefix  []string // of the table being read
	skip    bool     // that table is unknown: one fault is enough
	bucket  int      // the [[bucket]] being read, 0 outside of any
	buckets int
}

// entries lists the file's keys in its order. The file is known to be TOML.
func (f file) entries() []entry {
	var w walker
	w.parser.Reset(f.text)
	for w.parser.NextExpression() {
		switch n := w.parser.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			w.table(n)
		case unstable.KeyValue:
			if !w.skip {
				w.keyValue(n, w.prefix, w.bucket)
			}
		}
	}
	if err := w.parser.Error(); err != nil {
		panic("config: BUG: a valid file does not parse: " + err.Error())
	}
	return w.entries
}

// table begins the table n names. One that is neither a section nor a
// [[bucket]] is an entry without a value, and what stands in it is not looked at.
func (w *walker) table(n *unstable.Node) {
	var at unstable.Position
	w.prefix, at = w.key(n, nil)
	w.bucket, w.skip = 0, false
	en := entry{path: strings.Join(w.prefix, "."), row: at.Line, column: at.Column}
	c := DefaultConfig()
	isSection := slices.ContainsFunc(c.sections(), func(s section) bool { return s.name == en.path })
	isList := n.Kind == unstable.ArrayTable
	switch {
	case isList && en.path == "bucket":
		w.buckets++
		w.bucket, en.bucket = w.buckets, w.buckets
	case isSection && !isList:
		return
	default:
		w.skip = true
	}
	w.entries = append(w.entries, en)
}

// keyValue adds n's value, and those inside it if it is an inline table.
func (w *walker) keyValue(n *unstable.Node, prefix []string, bucket int) {
	path, at := w.key(n, prefix)
	v := n.Value()
	switch joined := strings.Join(path, "."); {
	case v.Kind == unstable.InlineTable:
		w.inline(v, path, bucket)
	case v.Kind == unstable.Array && joined == "bucket" && v.Child().Valid() && v.Child().Kind == unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			w.buckets++
			w.entries = append(w.entries, entry{path: "bucket", bucket: w.buckets, row: at.Line, column: at.Column})
			w.inline(it.Node(), path, w.buckets)
		}
	default:
		vat := at
		if v.Raw.Length > 0 {
			vat = w.parser.Shape(v.Raw).Start
		}
		val := valueOf(v)
		w.entries = append(w.entries, entry{joined, bucket, &val, at.Line, at.Column, vat.Line, vat.Column})
	}
}

func (w *walker) inline(n *unstable.Node, path []string, bucket int) {
	for it := n.Children(); it.Next(); {
		if it.Node().Kind == unstable.KeyValue {
			w.keyValue(it.Node(), path, bucket)
		}
	}
}

// key returns prefix and n's dotted key behind it, and where that begins.
func (w *walker) key(n *unstable.Node, prefix []string) (path []string, at unstable.Position) {
	path = slices.Clone(prefix)
	for it := n.Key(); it.Next(); {
		if len(path) == len(prefix) {
			at = w.parser.Shape(it.Node().Raw).Start
		}
		path = append(path, string(it.Node().Data))
	}
	return path, at
}

func valueOf(n *unstable.Node) value {
	v := value{kind: n.Kind, text: string(n.Data)}
	if n.Kind == unstable.Array {
		for it := n.Children(); it.Next(); {
			v.items = append(v.items, valueOf(it.Node()))
		}
	}
	return v
}

// setNode sets s from a value of the file, or says what s takes instead.
func (s setting) setNode(v *value) (reason string) {
	takes := "takes " + s.kind()
	switch p := s.value.Addr().Interface().(type) {
	case *[]string:
		list := []string{}
		for _, item := range v.items {
			if item.kind != unstable.String {
				return takes
			}
			list = append(list, item.text)
		}
		if v.kind != unstable.Array {
			return takes
		}
		*p = list
		return ""
	case *int:
		n, err := strconv.ParseInt(v.text, 0, strconv.IntSize)
		if v.kind != unstable.Integer || err != nil {
			return takes
		}
		*p = int(n)
		return ""
	}
	if want := s.tomlKind(); v.kind != want && !(v.kind == unstable.Integer && s.value.Type() == reflect.TypeFor[Size]()) {
		return takes
	}
	if err := s.set(v.text); err != nil {
		return err.Error()
	}
	return ""
}

// tomlKind returns the kind of TOML value a scalar setting is written as.
func (s setting) tomlKind() unstable.Kind {
	if s.value.Kind() == reflect.Bool {
		return unstable.Bool
	}
	return unstable.String
}

// kind says in words what values a setting takes.
func (s setting) kind() string {
	switch s.value.Interface().(type) {
	case Duration:
		return "a duration in quotes, like \"500ms\", \"1h30m\" or \"10d\""
	case Size:
		return "a size, like \"64MiB\", \"500KB\" or 4096 (bytes)"
	case string:
		return "a text in quotes"
	case bool:
		return "true or false"
	case []string:
		return "a list of texts, like [\"a\", \"b\"]"
	default:
		return "a whole number"
	}
}
