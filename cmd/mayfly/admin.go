package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// An admin is a program's HTTP listener for those who look after it: metrics,
// health, profiles. It shares no port with data.
type admin struct {
	listener net.Listener // nil if it is off
	server   *http.Server // nil before serve
	wg       sync.WaitGroup
}

// newRegistry returns a metrics registry with what every program reports.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	v := version()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mayfly_build_info", Help: "Always 1; the labels say which program this is.",
	}, []string{"version", "revision", "go"})
	build.WithLabelValues(v.Version, v.Revision, v.Go).Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// listenAdmin opens the listener at addr; "" is off. It comes before anything
// that leaves traces: a port in use is the likeliest mistake. setting is the name
// to use in the sentence about it. The caller serves or closes it.
func listenAdmin(addr, setting string) (*admin, error) {
	if addr == "" {
		return &admin{}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(err, addr, setting)
	}
	return &admin{listener: l}, nil
}

// serve begins to answer. ready says why the program cannot do its work now, or
// nil; it is called by many goroutines.
func (a *admin) serve(gather prometheus.Gatherer, ready func() error, log *slog.Logger) {
	if a.listener == nil {
		return
	}
	a.server = &http.Server{
		Handler:           adminMux(gather, ready),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	a.wg.Go(func() {
		if err := a.server.Serve(a.listener); err != http.ErrServerClosed {
			log.Error("the admin listener stopped", "err", err)
		}
	})
}

// adminMux routes the admin listener.
func adminMux(gather prometheus.Gatherer, ready func() error) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "mayfly: /metrics /livez /readyz /debug/pprof/")
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n") //nolint:errcheck // whoever asked has gone
}

// close stops the listener and waits for it. A profile under way is cut off
// after a second.
func (a *admin) close() {
	switch {
	case a.listener == nil:
	case a.server == nil:
		a.listener.Close() //nolint:errcheck // nobody has used it
	default:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if a.server.Shutdown(ctx) != nil {
			a.server.Close() //nolint:errcheck // it has nothing to save
		}
		a.wg.Wait()
	}
}

// url returns where the listener answers, or "off".
func (a *admin) url() string {
	if a.listener == nil {
		return "off"
	}
	return fmt.Sprintf("http://%s/metrics", a.listener.Addr())
}
