package main

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayflydb/mayfly/client"
)

// registerClient makes metrics of a client's counts.
func registerClient(r prometheus.Registerer, c *client.Client) {
	counter := func(name, help string, v func(client.Stats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "mayfly", Subsystem: "client", Name: name, Help: help},
			func() float64 { return float64(v(c.Stats())) }))
	}
	counter("calls_total", "Operations asked for; a tail counts as one.", func(s client.Stats) uint64 { return s.Calls })
	counter("failures_total", "Operations that returned an error which is not an answer.", func(s client.Stats) uint64 { return s.Failures })
	counter("retries_total", "Repetitions made.", func(s client.Stats) uint64 { return s.Retries })
	counter("retries_denied_total", "Repetitions not made for want of budget.", func(s client.Stats) uint64 { return s.RetriesDenied })
	counter("dials_total", "Connections made.", func(s client.Stats) uint64 { return s.Dials })
	counter("dial_failures_total", "Connections that could not be made.", func(s client.Stats) uint64 { return s.DialFailures })
	counter("corrupt_total", "Values whose checksum did not match.", func(s client.Stats) uint64 { return s.Corrupt })
	counter("tail_resumes_total", "Tails that went on after an interruption.", func(s client.Stats) uint64 { return s.TailResumes })
	counter("routed_total", "Questions put to an owner of what they are about.", func(s client.Stats) uint64 { return s.Routed })
	counter("rerouted_total", "Repetitions because a node said that another one owns it now.", func(s client.Stats) uint64 { return s.Rerouted })
	counter("hedges_total", "Second questions, put because the first was not answered soon.", func(s client.Stats) uint64 { return s.Hedges })
	counter("hedges_won_total", "Second questions that were answered first.", func(s client.Stats) uint64 { return s.HedgesWon })
	counter("hedges_denied_total", "Second questions not put for want of budget.", func(s client.Stats) uint64 { return s.HedgesDenied })
	counter("histories_total", "Times that nodes were asked who owns what.", func(s client.Stats) uint64 { return s.Histories })
	counter("history_failures_total", "Times that nodes were asked who owns what and did not tell the newest.", func(s client.Stats) uint64 { return s.HistoryFailures })
	gauge := func(name, help string, v func(client.Stats) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "mayfly", Subsystem: "client", Name: name, Help: help},
			func() float64 { return v(c.Stats()) }))
	}
	gauge("in_flight_bytes", "Bytes of objects under way.", func(s client.Stats) float64 { return float64(s.InFlightBytes) })
	gauge("endpoints", "Addresses that calls may go to: those given and those learnt.", func(s client.Stats) float64 { return float64(s.Endpoints) })
}

// registerTail makes metrics of what a tail printed.
func registerTail(r prometheus.Registerer, c *tailCounters) {
	counter := func(name, help string, v *atomic.Int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "mayfly", Subsystem: "tail_printed", Name: name, Help: help},
			func() float64 { return float64(v.Load()) }))
	}
	counter("blobs_total", "Blobs delivered.", &c.blobs)
	counter("events_total", "Events printed.", &c.events)
	counter("bytes_total", "Bytes of the blobs delivered.", &c.bytes)
	counter("watermarks_total", "Watermarks delivered.", &c.watermarks)
	counter("gaps_total", "Parts that could not be delivered.", &c.gaps)
}
