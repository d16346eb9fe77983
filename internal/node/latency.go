package node

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mayflydb/mayfly/internal/object"
)

// A latency counts operations of one kind by how they ended and how long they
// took.
type latency struct {
	seconds prometheus.Histogram
	failed  *prometheus.CounterVec // by code
}

func newLatency(op, help string) *latency {
	return &latency{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "mayfly", Subsystem: "node", Name: op + "_seconds", Help: help,
			Buckets:                     prometheus.ExponentialBuckets(0.0001, 2, 18),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "mayfly", Subsystem: "node", Name: op + "_errors_total", Help: help + " Those that failed, by code.",
		}, []string{"code"}),
	}
}

func (l *latency) observe(took time.Duration, err error) {
	l.seconds.Observe(took.Seconds())
	if err != nil {
		code := object.CodeInternal
		if e, ok := errors.AsType[*object.Error](err); ok {
			code = e.Code
		}
		l.failed.WithLabelValues(code.String()).Inc()
	}
}

func (l *latency) collectors() []prometheus.Collector {
	return []prometheus.Collector{l.seconds, l.failed}
}
