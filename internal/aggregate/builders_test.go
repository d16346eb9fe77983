package aggregate

import (
	"fmt"
	"testing"
)

// TestBuildersAreKept: for their names, within the bound, and not for ever.
func TestBuildersAreKept(t *testing.T) {
	p := newBuilders(1000)
	a := p.get("a")
	p.put("a", a, 300)
	if b := p.get("b"); b.Builder == a.Builder {
		t.Error("b got the builder of a")
	}
	if again := p.get("a"); again.Builder != a.Builder || again.most != 300 || p.size != 0 {
		t.Errorf("a got another builder; %d bytes kept", p.size)
	}
	p.put("a", usedBuilder{a.Builder, 300}, 100)
	p.put("a", p.get("c"), 50) // a second one of the same names
	for i := range 10 {
		p.put(fmt.Sprint(i), p.get(fmt.Sprint(i)), 100)
	}
	if p.size != 1000 {
		t.Errorf("%d bytes kept, want 300 and seven times 100", p.size)
	}
	for range 2*forgetAfter - 1 {
		p.tick()
	}
	if p.get("a").Builder != a.Builder {
		t.Error("forgotten too early")
	}
	for range 2 * forgetAfter {
		p.tick()
	}
	if p.size != 0 || len(p.young)+len(p.old) != 0 {
		t.Errorf("%d bytes kept after they were not used for long", p.size)
	}
}
