package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mayflydb/mayfly/internal/aggregate"
)

func TestAdmin(t *testing.T) {
	var notReady atomic.Pointer[error]
	registry := newRegistry()
	var counters aggregate.Counters
	registerAggregate(registry, &counters)
	counters.Events.Add(42)
	a, err := listenAdmin("127.0.0.1:0", "metrics.aggregate")
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	a.serve(registry, func() error {
		if e := notReady.Load(); e != nil {
			return *e
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	base := strings.TrimSuffix(a.url(), "/metrics")
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/metrics", 200, "\nmayfly_aggregate_events_total 42\n"},
		{"/metrics", 200, "\nmayfly_aggregate_dropped_events_total{reason=\"overload\"} 0\n"},
		{"/metrics", 200, "\nmayfly_build_info{"},
		{"/metrics", 200, "\ngo_goroutines "},
		{"/livez", 200, "alive\n"},
		{"/readyz", 200, "ready\n"},
		{"/", 200, "/metrics"},
		{"/debug/pprof/", 200, "goroutine"},
		{"/nothing", 404, ""},
	} {
		if status, text := httpGet(t, base+c.path); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: status %d, and no %q in %.200q", c.path, status, c.want, text)
		}
	}
	notReady.Store(new(errors.New("the disk is nearly full")))
	if status, text := httpGet(t, base+"/readyz"); status != 503 || text != "the disk is nearly full\n" {
		t.Errorf("not ready: status %d, %q", status, text)
	}
}

func httpGet(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestAdminOff(t *testing.T) {
	a, err := listenAdmin("", "metrics.tail")
	if err != nil || a.url() != "off" {
		t.Errorf("%v, %s", err, a.url())
	}
	a.serve(newRegistry(), func() error { return nil }, slog.New(slog.DiscardHandler))
	a.close()
}

func TestListenSentences(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, c := range []struct{ addr, want string }{
		{addr, "the address " + addr + " is in use by another program: stop that one, or choose another with --set metrics.node=HOST:PORT"},
		{"192.0.2.1:80", "the address 192.0.2.1:80 is not one of this machine's: choose another with --set metrics.node=HOST:PORT; 0.0.0.0 is all of them"},
	} {
		_, err := listenAdmin(c.addr, "metrics.node")
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.addr, err, c.want)
		}
	}
}
