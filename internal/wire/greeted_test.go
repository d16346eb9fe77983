package wire

import (
	"net"
	"slices"
	"testing"
	"testing/synctest"
)

// TestGreeted: the owner of a server is told of each caller that is served, and of
// none that is refused.
func TestGreeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		cfg := testServerConfig(newTestHandler())
		cfg.Hello.Cluster = ID{1}
		cfg.Greeted = func(h Hello) { told = append(told, h.Name) }
		srv := NewServer(cfg)
		defer srv.Close()
		for _, h := range []Hello{{Name: "user"}, {Name: "stranger", Cluster: ID{2}, Node: ID{3}}, {Name: "node", Cluster: ID{1}, Node: ID{4}}} {
			mine, theirs := net.Pipe()
			go srv.ServeConn(theirs)
			if c, err := NewConn(t.Context(), mine, Config{Hello: h}); err == nil {
				c.Close()
			}
			synctest.Wait()
		}
		if want := []string{"user", "node"}; !slices.Equal(told, want) {
			t.Errorf("told of %q, want %q", told, want)
		}
	})
}
