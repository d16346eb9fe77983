package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mayflydb/mayfly/event"
)

// A group is what one row of the table is about: several corpora together.
type group struct {
	name    string
	corpora []corpus
}

// A corpus is events of one type and subtype, as producers would send them in
// each of the formats. The members of their maps stand in the same order in all.
type corpus struct {
	name    string
	json    [][]byte
	msgpack [][]byte
	sereal  [][]byte
}

// add takes one event, a JSON object.
func (c *corpus) add(text []byte) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return err
	}
	doc, err := event.AppendMsgpack(nil, compact.Bytes())
	if err != nil {
		return err
	}
	c.json = append(c.json, compact.Bytes())
	c.msgpack = append(c.msgpack, doc)
	c.sereal = append(c.sereal, serealDocument(doc))
	return nil
}

// loadGroups is the generated events, after the real ones if dir is not empty.
func loadGroups(dir string) ([]group, error) {
	generated, err := generatedGroup()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return []group{generated}, nil
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("--events %s: no *.ndjson files there", dir)
	}
	genuine := group{name: "real"}
	for _, name := range names {
		c, err := loadFile(name)
		if err != nil {
			return nil, err
		}
		genuine.corpora = append(genuine.corpora, c)
	}
	return []group{genuine, generated}, nil
}

func loadFile(name string) (corpus, error) {
	c := corpus{name: filepath.Base(name)}
	f, err := os.Open(name)
	if err != nil {
		return c, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var line struct {
			Event json.RawMessage `json:"event"`
		}
		err := json.Unmarshal(lines.Bytes(), &line)
		if err == nil {
			err = c.add(line.Event)
		}
		if err != nil {
			return c, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return c, lines.Err()
}

// A blob is the events of one blob in each of the formats.
type blob struct {
	json, msgpack, sereal [][]byte
}

// blobs cuts the events of all corpora into blobs of n; what is left over of a
// corpus is not used.
func (g group) blobs(n int) (all []blob) {
	for _, c := range g.corpora {
		for at := 0; at+n <= len(c.json); at += n {
			all = append(all, blob{c.json[at : at+n], c.msgpack[at : at+n], c.sereal[at : at+n]})
		}
	}
	return all
}
