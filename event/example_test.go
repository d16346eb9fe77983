package event_test

import (
	"fmt"

	"github.com/mayflydb/mayfly/event"
)

// A second's events become blobs, and a reader takes them apart again.
func ExampleBuilder() {
	datagram := []byte(`{"type":"WEB","subtype":"search","event":{"status":200,"ms":12.5}}
{"type":"WEB","subtype":"search","event":{"status":503,"ms":900.0}}`)

	var builder event.Builder
	var scratch event.Scratch
	err := event.ParseDatagram(datagram, &scratch, func(e event.Envelope) error {
		return builder.Append(e.Event)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	n := uint64(0)
	for blob, info := range builder.Chunks(nil) {
		key := event.Key{Epoch: 1790000000, DC: "ams4", Type: "WEB", Subtype: "search", Chunk: event.Chunk(0xbeef, n)}
		fmt.Println(key, info.Count, "events")
		printEvents(blob)
		n++
	}
	// Output:
	// 1790000000:ams4:WEB:search:000000000000beef-0 2 events
	// 0 {"status":200,"ms":12.5}
	// 1 {"status":503,"ms":900.0}
}

func printEvents(data []byte) {
	blob, err := event.ParseBlob(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	events, err := blob.Events(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, e := range events.All() {
		text, _ := event.AppendJSON(nil, e) // a blob's events are valid
		fmt.Println(i, string(text))
	}
}
