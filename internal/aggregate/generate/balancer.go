package generate

var (
	balancerSubtypes = []string{"edge", "internal"}
	balancerHosts    = []string{"lb-01", "lb-02", "lb-03", "lb-04"}
	balancerPools    = []string{"web", "api", "static", "search", "login"}
	balancerVersions = []string{"h2", "h2", "http/1.1", "h3"}
	balancerEnds     = []string{"--", "--", "--", "--", "cD", "sH", "SC"}
)

// balancer is the event of one connection through a load balancer.
func (g *Generator) balancer() Event {
	p := &g.pack
	p.mapOf(11)
	p.hexMember("id", g.random.Uint64())
	p.member("host", one(g, balancerHosts))
	p.member("pool", skewed(g, balancerPools))
	p.member("backend", skewed(g, webHosts))
	p.string("client")
	p.arrayOf(2)
	g.address()
	p.int(1024 + g.random.Int64N(64_000))
	p.member("protocol", one(g, balancerVersions))
	p.intMember("status", skewed(g, webStatuses))
	p.intMember("bytes_in", 100+g.random.Int64N(4_000))
	p.intMember("bytes_out", g.random.Int64N(300_000))
	p.string("ms")
	p.mapOf(4)
	p.floatMember("queue", g.millis(50))
	p.floatMember("connect", g.millis(400))
	p.floatMember("first_byte", g.millis(70_000))
	p.floatMember("total", g.millis(90_000))
	p.member("ended", skewed(g, balancerEnds))
	return Event{Type: "LB", Subtype: skewed(g, balancerSubtypes)}
}

// address is a client's address, of the blocks kept for documentation.
func (g *Generator) address() {
	block := one(g, []string{"192.0.2.", "198.51.100.", "203.0.113."})
	n := g.random.IntN(256)
	digits := 1
	switch {
	case n >= 100:
		digits = 3
	case n >= 10:
		digits = 2
	}
	p := &g.pack
	p.stringHeader(len(block) + digits)
	p.b = append(p.b, block...)
	for unit := [...]int{1, 10, 100}[digits-1]; unit > 0; unit /= 10 {
		p.b = append(p.b, '0'+byte(n/unit%10))
	}
}
