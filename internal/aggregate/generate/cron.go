package generate

var (
	cronSubtypes = []string{"mailer", "reports", "cleanup", "feeds"}
	cronHosts    = []string{"cron-01", "cron-02", "cron-03"}
	cronJobs     = []string{"send_reminders", "daily_totals", "expire_sessions", "export_feed", "rebuild_search", "check_prices", "rotate_keys"}
	cronLines    = []string{"started", "read the list of what is to do", "skipped a record that is already done", "wrote a batch", "retrying after a timeout", "done"}
)

// cron is the event of one run of a job.
func (g *Generator) cron() Event {
	p := &g.pack
	p.mapOf(9)
	p.hexMember("id", g.random.Uint64())
	p.member("host", one(g, cronHosts))
	p.member("job", skewed(g, cronJobs))
	p.intMember("pid", 1000+g.random.Int64N(30000))
	var exit int64
	if g.chance(5) {
		exit = one(g, []int64{1, 2, 124, -9})
	}
	p.intMember("exit", exit)
	p.floatMember("seconds", g.millis(4_000_000)/1000)
	p.intMember("records", g.random.Int64N(100_000))
	p.string("usage")
	p.mapOf(3)
	p.floatMember("user_ms", g.millis(900_000))
	p.floatMember("system_ms", g.millis(100_000))
	p.intMember("peak_kb", 20_000+g.random.Int64N(500_000))
	p.string("output")
	lines := g.random.IntN(12)
	p.arrayOf(lines)
	for range lines {
		p.string(skewed(g, cronLines))
	}
	return Event{Type: "CRON", Subtype: one(g, cronSubtypes)}
}
