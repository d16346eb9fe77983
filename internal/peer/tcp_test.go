package peer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mayflydb/mayfly/internal/object"
	"github.com/mayflydb/mayfly/internal/wire"
)

// A tcpNode is a server on a loopback port.
type tcpNode struct {
	srv     *wire.Server
	address string
	wg      sync.WaitGroup
}

func serveTCP(t testing.TB, local *fakeLocal, address string) *tcpNode {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n := &tcpNode{srv: serverFor(NewHandler(HandlerConfig{Local: local, Cluster: cluster}), local), address: ln.Addr().String()}
	n.wg.Go(func() {
		if err := n.srv.Serve(ln); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *tcpNode) close() {
	n.srv.Close()
	n.wg.Wait()
}

func dialTCP(t testing.TB, address string) *Peer {
	t.Helper()
	p, err := New(Config{Node: there, Address: func() string { return address }, Hello: wire.Hello{Cluster: cluster, Node: wire.ID(here)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLoopbackRestart puts over real connections while the peer is killed and
// comes back: what was acknowledged is there, what was "not done" is not, and
// afterwards everything works again.
func TestLoopbackRestart(t *testing.T) {
	noBuffersLeft(t, func() {
		local := newFakeLocal()
		node := serveTCP(t, local, "127.0.0.1:0")
		p := dialTCP(t, node.address)
		const putters, each = 4, 150
		type fate struct {
			key string
			err *object.Error
		}
		fates := make(chan fate, putters*each)
		var half, wg sync.WaitGroup
		half.Add(putters)
		for i := range putters {
			wg.Go(func() {
				for j := range each {
					if j == each/2 {
						half.Done()
					}
					key := fmt.Sprintf("%s%d%03d", blobKey, i, j)
					rec := record(t, key, 20_000)
					fates <- fate{key, put(p, ask(hashOf(key)), rec).err}
					rec.Release()
				}
			})
		}
		half.Wait()
		node.close() // in the middle of puts
		wg.Wait()
		close(fates)
		count := map[object.Outcome]int{}
		for f := range fates {
			_, stored := local.recs[f.key]
			switch {
			case f.err == nil && !stored:
				t.Errorf("%s was acknowledged and is not there", f.key)
			case f.err != nil && f.err.Outcome == object.NotDone && stored:
				t.Errorf("%s is not done, and there: %v", f.key, f.err)
			}
			if f.err != nil {
				count[f.err.Outcome]++
			}
		}
		t.Logf("not done %d, maybe done %d", count[object.NotDone], count[object.MaybeDone])

		node = serveTCP(t, local, node.address)
		if err := p.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		rec := record(t, blobKey, 2<<20)
		if a := put(p, ask(hashOf(blobKey)), rec); a.err != nil {
			t.Errorf("a put after the restart: %v", a.err)
		}
		a := get(p, ask(hashOf(blobKey)), blobKey, true)
		if a.err != nil || !bytes.Equal(a.rec.Raw(), rec.Raw()) {
			t.Errorf("a get after the restart: %v", a.err)
		}
		a.rec.Release()
		rec.Release()
		p.Close()
		node.close()
		local.release()
	})
}

// nullLocal takes everything and keeps nothing.
type nullLocal struct{ *fakeLocal }

func (nullLocal) Put(context.Context, uint64, object.Record) error { return nil }

func processCPU(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// BenchmarkPut is a replica's put over loopback, 16 at a time, both sides in this
// process, with nothing behind the handler.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{100_000, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			local := newFakeLocal()
			srv := wire.NewServer(wire.ServerConfig{
				Handler: NewHandler(HandlerConfig{Local: nullLocal{local}, Cluster: cluster}),
				Hello:   wire.Hello{Cluster: cluster, Node: wire.ID(there)},
			})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() { _ = srv.Serve(ln) })
			p := dialTCP(b, ln.Addr().String())
			rec := record(b, blobKey, size)
			a := ask(hashOf(blobKey))
			b.ReportAllocs()
			b.SetBytes(int64(size))
			before := processCPU(b)
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var putters sync.WaitGroup
			for range 16 {
				putters.Go(func() {
					done := make(chan *object.Error, 1)
					answered := func(_ uint64, err *object.Error) { done <- err }
					for left.Add(-1) >= 0 {
						p.Put(a, rec, answered)
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			putters.Wait()
			b.StopTimer()
			b.ReportMetric((processCPU(b)-before)/(float64(b.N)*float64(size)/(1<<30)), "cpu-s/GiB")
			rec.Release()
			p.Close()
			srv.Close()
			serving.Wait()
		})
	}
}
