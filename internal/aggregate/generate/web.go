package generate

var (
	webSubtypes  = []string{"app", "api", "mobile", "partner"}
	webHosts     = []string{"web-101", "web-102", "web-103", "web-104", "web-105", "web-106", "web-201", "web-202", "web-203", "web-204", "web-205", "web-206"}
	webMethods   = []string{"GET", "GET", "GET", "POST", "HEAD"}
	webPaths     = []string{"/", "/search", "/item", "/item/photos", "/cart", "/checkout", "/account", "/account/orders", "/help", "/api/v2/prices", "/api/v2/stock", "/robots.txt"}
	webStatuses  = []int64{200, 200, 200, 200, 304, 302, 404, 500, 503}
	webAgents    = []string{"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/145.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) Mobile/15E148", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0.0.0", "curl/8.17.0", "ExampleBot/2.1 (+https://example.com/bot)"}
	languages    = []string{"en", "de", "nl", "fr", "es", "pt-br", "ja", "zh-cn"}
	countries    = []string{"us", "de", "nl", "gb", "fr", "es", "br", "jp", "in"}
	experiments  = []string{"blue_button", "short_form", "sort_by_price", "lazy_photos", "one_page_checkout", "new_header"}
	databases    = []string{"catalog", "stock", "users", "orders", "reviews"}
	errorClasses = []string{"Timeout", "Database::Deadlock", "Template::Missing", "Undefined::Value", "Permission::Denied"}
	errorFrames  = []string{"lib/app/router.pl:88", "lib/app/controller/item.pl:412", "lib/db/pool.pl:57", "lib/db/query.pl:230", "lib/view/render.pl:19", "lib/app/session.pl:144"}
)

// web is the event of one page or API call.
func (g *Generator) web() Event {
	p := &g.pack
	status := skewed(g, webStatuses)
	member, failed := g.chance(40), status >= 500
	members := 10
	if member {
		members++
	}
	if failed {
		members++
	}
	p.mapOf(members)
	p.hexMember("id", g.random.Uint64())
	p.member("host", skewed(g, webHosts))
	p.intMember("pid", 1000+g.random.Int64N(30000))
	p.string("request")
	g.request(status)
	p.string("client")
	g.client()
	p.floatMember("wall_ms", g.millis(80_000))
	p.floatMember("cpu_ms", g.millis(30_000))
	p.string("db")
	g.queries()
	p.string("cache")
	p.mapOf(2)
	p.intMember("hits", g.random.Int64N(40))
	p.intMember("misses", g.random.Int64N(5))
	p.string("experiments")
	g.experiments()
	if member {
		p.intMember("user", 1+g.random.Int64N(50_000_000))
	}
	if failed {
		p.string("error")
		g.failure()
	}
	return Event{Type: "WEB", Subtype: skewed(g, webSubtypes)}
}

func (g *Generator) request(status int64) {
	p := &g.pack
	p.mapOf(5)
	p.member("method", one(g, webMethods))
	p.member("path", skewed(g, webPaths))
	p.intMember("status", status)
	p.intMember("bytes", g.random.Int64N(200_000))
	p.boolMember("tls", g.chance(97))
}

func (g *Generator) client() {
	p := &g.pack
	p.mapOf(4)
	p.member("agent", skewed(g, webAgents))
	p.member("language", skewed(g, languages))
	p.member("country", skewed(g, countries))
	p.string("screen")
	if g.chance(10) {
		p.null() // robots do not tell
		return
	}
	p.arrayOf(2)
	p.int(320 * (1 + g.random.Int64N(8)))
	p.int(240 * (2 + g.random.Int64N(8)))
}

// queries is a map of what was asked of each database.
func (g *Generator) queries() {
	p := &g.pack
	n := g.random.IntN(len(databases) + 1)
	p.mapOf(n)
	for _, name := range databases[:n] {
		p.string(name)
		p.mapOf(2)
		p.intMember("queries", 1+g.random.Int64N(12))
		p.floatMember("ms", g.millis(2_000))
	}
}

// experiments is a map of the variants shown.
func (g *Generator) experiments() {
	p := &g.pack
	from := g.random.IntN(len(experiments))
	p.mapOf(len(experiments) - from)
	for _, name := range experiments[from:] {
		p.intMember(name, g.random.Int64N(3))
	}
}

func (g *Generator) failure() {
	p := &g.pack
	p.mapOf(3)
	p.member("class", skewed(g, errorClasses))
	p.boolMember("retried", g.chance(30))
	p.string("stack")
	depth := 2 + g.random.IntN(10)
	p.arrayOf(depth)
	for range depth {
		p.string(one(g, errorFrames))
	}
}
