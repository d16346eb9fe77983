package generate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mayflydb/mayfly/event"
)

// MaxLineBytes bounds a line of a file that is replayed. It is far above what a
// datagram can carry.
const MaxLineBytes = 1 << 20

// A LineError says which line of a file cannot be replayed, and why.
type LineError struct {
	File  string
	Line  int // from 1
	Cause error
}

// Error gives the place and the reason.
func (e *LineError) Error() string {
	return fmt.Sprintf("%s:%d: %v; mend or remove the line", e.File, e.Line, e.Cause)
}

// Unwrap returns Cause.
func (e *LineError) Unwrap() error { return e.Cause }

// A Replay gives the events of NDJSON files, a line from each file in turn. A
// line is an envelope in JSON, as event.ParseDatagram reads it; blank lines are
// skipped. The epoch and dc of a line are dropped: whoever sends the event says
// when and where. A Replay reads as it goes and holds one line of each file.
type Replay struct {
	files   []*replayFile
	turn    int // of files: whose turn it is
	loop    bool
	scratch event.Scratch
	names   map[string]string // a copy of each type and subtype seen
	body    []byte
}

// A replayFile is one file under way.
type replayFile struct {
	name  string
	file  *os.File
	lines *bufio.Reader
	line  int  // number of the line read last
	any   bool // it has given an event since it was opened
}

// OpenReplay opens the files named by paths; of a directory, its *.ndjson files
// in order of name. With loop, a file begins again at its end, for ever. The
// caller closes the Replay.
func OpenReplay(loop bool, paths ...string) (*Replay, error) {
	r := &Replay{loop: loop, names: make(map[string]string)}
	for _, path := range paths {
		if err := r.open(path); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	if len(r.files) == 0 {
		return nil, errors.New("no events to replay: name a file of NDJSON, or a directory with *.ndjson in it")
	}
	return r, nil
}

func (r *Replay) open(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no events to replay at %q: it does not exist: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("events to replay at %q: %w", path, err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = filesIn(path); err != nil {
			return err
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("events to replay at %q: %w", name, err)
		}
		r.files = append(r.files, &replayFile{name: name, file: f, lines: bufio.NewReaderSize(f, 64<<10)})
	}
	return nil
}

// filesIn lists the files of a directory that can be replayed, in order of name.
func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("events to replay in %q: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && filepath.Ext(e.Name()) == ".ndjson" {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no events to replay in %q: it has no file *.ndjson", dir)
	}
	return names, nil
}

// Close closes the files.
func (r *Replay) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.file.Close())
	}
	r.files = nil
	return errors.Join(errs...)
}

// Next implements [Source]. The error is a *LineError where a line is malformed,
// [io.EOF] after the last line, or what reading gave.
func (r *Replay) Next() (Event, error) {
	for len(r.files) > 0 {
		r.turn %= len(r.files)
		f := r.files[r.turn]
		line, err := f.next()
		if err == nil {
			r.turn++
			return r.parse(f, line)
		}
		if err != io.EOF {
			return Event{}, err
		}
		if err := r.ended(f); err != nil {
			return Event{}, err
		}
	}
	return Event{}, io.EOF
}

// ended begins a file again, or takes it out.
func (r *Replay) ended(f *replayFile) error {
	if !r.loop {
		r.files = slices.Delete(r.files, r.turn, r.turn+1)
		return f.file.Close()
	}
	if !f.any {
		return fmt.Errorf("%s has no events to replay: remove it or fill it", f.name)
	}
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%s cannot be replayed from its beginning: %w", f.name, err)
	}
	f.lines.Reset(f.file)
	f.line, f.any = 0, false
	return nil
}

// next is the next line that is not blank, valid until the following call.
func (f *replayFile) next() ([]byte, error) {
	for {
		line, err := f.lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			line, err = f.long(line)
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if len(line) == 0 {
			return nil, io.EOF
		}
		f.line++
		if !blank(line) {
			f.any = true
			return line, nil
		}
	}
}

// long reads the rest of a line that exceeds the buffer.
func (f *replayFile) long(start []byte) ([]byte, error) {
	line := slices.Clone(start)
	for len(line) <= MaxLineBytes {
		part, err := f.lines.ReadSlice('\n')
		line = append(line, part...)
		if len(line) <= MaxLineBytes && !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
	return nil, &LineError{f.name, f.line + 1, fmt.Errorf("longer than %d bytes", MaxLineBytes)}
}

func blank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

// parse reads a line as one envelope.
func (r *Replay) parse(f *replayFile, line []byte) (Event, error) {
	if line[0] != '{' && line[0] != ' ' && line[0] != '\t' && line[0] != '\r' {
		return Event{}, &LineError{f.name, f.line, errors.New("it is not a JSON object")} // msgpack would pass
	}
	var ev Event
	envelopes := 0
	err := event.ParseDatagram(line, &r.scratch, func(env event.Envelope) error {
		envelopes++
		r.body = append(r.body[:0], env.Event...)
		ev = Event{Type: r.name(env.Type), Subtype: r.name(env.Subtype), Body: r.body}
		return nil
	})
	if refused, ok := errors.AsType[*event.DatagramError](err); ok {
		return Event{}, &LineError{f.name, f.line, refused.First}
	}
	if err != nil {
		return Event{}, &LineError{f.name, f.line, err}
	}
	if envelopes != 1 {
		return Event{}, &LineError{f.name, f.line, fmt.Errorf("%d events where one should be", envelopes)}
	}
	return ev, nil
}

// name is the type or subtype b as a string, one copy for all events of it.
func (r *Replay) name(b []byte) string {
	const most = 4096 // names that are remembered
	s, ok := r.names[string(b)]
	if !ok {
		s = string(b)
		if len(r.names) < most {
			r.names[s] = s
		}
	}
	return s
}
