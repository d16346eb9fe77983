package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// generatedEvents of each kind are made: ten blobs of 500.
const generatedEvents = 5000

// generatedGroup makes web, cron and load balancer events, the same every time.
func generatedGroup() (group, error) {
	g := group{name: "generated"}
	for _, kind := range []struct {
		name string
		make func(*rand.Rand, int) any
	}{{"web", webEvent}, {"cron", cronEvent}, {"lb", balancerEvent}} {
		c := corpus{name: kind.name}
		r := rand.New(rand.NewPCG(1, 2))
		for i := range generatedEvents {
			text, err := json.Marshal(kind.make(r, i))
			if err == nil {
				err = c.add(text)
			}
			if err != nil {
				return g, fmt.Errorf("generated %s event: %w", kind.name, err)
			}
		}
		g.corpora = append(g.corpora, c)
	}
	return g, nil
}

type object = map[string]any

func pick[T any](r *rand.Rand, from []T) T {
	return from[int(float64(len(from))*r.Float64()*r.Float64())]
}

var (
	pages     = []string{"/", "/search", "/item", "/cart", "/checkout", "/login", "/account", "/help", "/api/v2/offers", "/api/v2/reviews"}
	agents    = []string{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1", "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "okhttp/4.12.0", "Googlebot/2.1 (+http://www.google.com/bot.html)"}
	languages = []string{"en-gb", "en-us", "de", "fr", "nl", "es", "it", "ja", "pl", "pt-br"}
	messages  = []string{"cache miss", "slow query", "rate limited by upstream", "deprecated call", "retry after timeout"}
)

func webEvent(r *rand.Rand, i int) any {
	experiments := object{}
	for range 3 + r.IntN(8) {
		experiments[fmt.Sprintf("exp_%03d", r.IntN(120))] = r.IntN(3)
	}
	e := object{
		"host": fmt.Sprintf("web-%03d.ams4.example.net", r.IntN(80)), "pid": 1000 + r.IntN(400), "id": fmt.Sprintf("%016x", r.Uint64()),
		"http": object{
			"method": pick(r, []string{"GET", "GET", "POST", "HEAD"}), "status": pick(r, []int{200, 200, 200, 302, 404, 500}),
			"path": pick(r, pages), "query": fmt.Sprintf("page=%d&sort=%s&sid=%08x", r.IntN(40), pick(r, []string{"price", "rank", "date"}), r.Uint32()),
			"agent": pick(r, agents), "bytes": 500 + r.IntN(90000),
		},
		"user":  object{"id": r.IntN(40_000_000), "language": pick(r, languages), "ip": fmt.Sprintf("%d.%d.%d.%d", 1+r.IntN(220), r.IntN(256), r.IntN(256), r.IntN(256)), "bot": r.IntN(9) == 0},
		"times": object{"wall": r.ExpFloat64() * 0.2, "cpu": r.ExpFloat64() * 0.05, "db": []any{r.Float64(), r.Float64(), r.Float64()}},
		"exp":   experiments, "seq": i,
	}
	if r.IntN(12) == 0 {
		e["warnings"] = []any{object{"text": pick(r, messages), "line": r.IntN(900), "file": "lib/Web/" + pick(r, []string{"Cart", "Search", "Offer"}) + ".pm"}}
	}
	return e
}

func cronEvent(r *rand.Rand, i int) any {
	job := pick(r, []string{"reindex", "mail-digest", "rates-import", "cleanup", "report-daily", "sync-partners"})
	e := object{
		"host": fmt.Sprintf("cron-%02d.lhr1.example.net", r.IntN(12)), "job": job, "run": fmt.Sprintf("%s-%d", job, 100000+i),
		"ok": r.IntN(20) != 0, "seconds": r.ExpFloat64() * 30, "rows": r.IntN(500000), "memory": 1 << 20 * (20 + r.IntN(900)),
		"args": []any{"--shard", r.IntN(32), "--since", 1_790_000_000 + i},
	}
	if e["ok"] == false {
		var trace strings.Builder
		for range 4 + r.IntN(6) {
			fmt.Fprintf(&trace, "\tat Batch::%s::step(%s.pm line %d)\n", pick(r, []string{"Runner", "Source", "Sink"}), job, r.IntN(800))
		}
		e["error"] = object{"text": pick(r, messages), "trace": trace.String()}
	}
	return e
}

func balancerEvent(r *rand.Rand, i int) any {
	return object{
		"lb": fmt.Sprintf("lb%d", r.IntN(6)), "frontend": pick(r, []string{"www", "api", "static"}), "backend": fmt.Sprintf("web-%03d", r.IntN(80)),
		"client": fmt.Sprintf("%d.%d.%d.%d:%d", 1+r.IntN(220), r.IntN(256), r.IntN(256), r.IntN(256), 1024+r.IntN(60000)),
		"status": pick(r, []int{200, 200, 304, 503}), "in": 200 + r.IntN(3000), "out": r.IntN(200000),
		"ms": []any{r.IntN(3), r.IntN(5), r.IntN(20), r.IntN(400)}, "queue": r.IntN(4), "tls": pick(r, []string{"TLSv1.3", "TLSv1.2", ""}),
		"conn": 4000 + r.IntN(900), "seq": i,
	}
}
