package main

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayflydb/mayfly/internal/aggregate"
)

// registerAggregate makes metrics of an aggregator's counters.
func registerAggregate(r prometheus.Registerer, c *aggregate.Counters) {
	counter := func(name, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "mayfly", Subsystem: "aggregate", Name: name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	gauge := func(name, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "mayfly", Subsystem: "aggregate", Name: name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	counter("datagrams_total", "Datagrams received.", &c.Datagrams)
	counter("datagram_bytes_total", "Bytes of payload received.", &c.DatagramBytes)
	counter("kernel_drops_total", "Datagrams the kernel dropped because the socket's buffer was full.", &c.KernelDrops)
	counter("receive_errors_total", "Receives that failed.", &c.ReceiveErrors)
	gauge("receive_buffer_bytes", "All sockets' buffers as the kernel counts them; 0 is not known.", &c.ReceiveBuffer)
	counter("events_total", "Events taken in.", &c.Events)
	counter("event_bytes_total", "Bytes of msgpack of the events taken in.", &c.EventBytes)
	counter("late_events_total", "Events taken in for a second that was closed already.", &c.LateEvents)
	counter("unknown_members_total", "Members of envelopes that mean nothing and were ignored.", &c.UnknownMembers)
	gauge("buffered_bytes", "Events and blobs held; bounded by aggregate.max_memory.", &c.BufferedBytes)
	gauge("open_blobs", "Blobs being collected.", &c.OpenGroups)
	gauge("waiting_blobs", "Blobs made and not yet acknowledged.", &c.WaitingBlobs)
	counter("early_seals_total", "Blobs sealed before their time because they, or all together, were large.", &c.EarlySeals)
	counter("blobs_total", "Blobs made.", &c.Blobs)
	counter("raw_bytes_total", "Bytes of the blobs' documents before compression.", &c.RawBytes)
	counter("stored_bytes_total", "Bytes of the blobs made.", &c.StoredBytes)
	counter("blobs_acknowledged_total", "Blobs the nodes keep.", &c.BlobsAcknowledged)
	counter("events_acknowledged_total", "Events in these.", &c.EventsAcknowledged)
	counter("bytes_acknowledged_total", "Bytes of these.", &c.BytesAcknowledged)
	counter("batches_total", "Batches of blobs sent, those sent again included.", &c.Batches)
	counter("blob_retries_total", "Blobs to be sent again.", &c.BlobRetries)
	counter("hellos_total", "Hellos acknowledged.", &c.Hellos)
	counter("finals_total", "Finals acknowledged.", &c.Finals)
	counter("unexpected_seconds_total", "Seconds of a data centre without a final: too little was acknowledged before for readers to expect this writer.", &c.Unexpected)
	counter("finals_missed_total", "Finals not acknowledged while their second was open: it is incomplete.", &c.FinalsMissed)
	counter("goodbyes_total", "Goodbyes acknowledged.", &c.Goodbyes)
	counter("index_retries_total", "Hellos, finals and goodbyes to be sent again.", &c.IndexRetries)
	for _, reason := range aggregate.Reasons() {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "mayfly", Subsystem: "aggregate", Name: "dropped_events_total",
			Help:        "Events dropped, by reason.",
			ConstLabels: prometheus.Labels{"reason": reason.String()},
		}, func() float64 { return float64(c.Dropped(reason)) }))
	}
}
