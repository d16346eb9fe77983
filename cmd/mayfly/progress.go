package main

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// isTerminal reports whether what is written to w is seen by a person at once.
func isTerminal(w any) bool {
	_, ok := windowSize(w)
	return ok
}

// terminalWidth returns the letters in a line of w, 0 if that is not known.
func terminalWidth(w any) int {
	size, _ := windowSize(w)
	return int(size.Col)
}

func windowSize(w any) (unix.Winsize, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return unix.Winsize{}, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return unix.Winsize{}, false
	}
	return *size, true
}

// A progress shows how far a command is, on a terminal; elsewhere it is silent.
// Its methods may be called by any goroutine. done must be called.
type progress struct {
	container *mpb.Progress // nil if silent
	bar       *mpb.Bar
	once      sync.Once
}

// newProgress begins a bar of that many bytes; a total of 0 is not known yet.
func newProgress(w io.Writer, name string, totalBytes int64) *progress {
	return newBar(w, name, totalBytes, decor.CountersKibiByte("% .1f of % .1f"))
}

// newSteps begins a bar of that many steps.
func newSteps(w io.Writer, name string, total int64) *progress {
	return newBar(w, name, total, decor.CountersNoUnit("%d of %d"))
}

func newBar(w io.Writer, name string, total int64, counters decor.Decorator) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	c := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	return &progress{container: c, bar: c.AddBar(total,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" "), counters),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8})),
	)}
}

// newCountProgress begins a bar of that many things.
func newCountProgress(w io.Writer, name string, total int64) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	c := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	return &progress{container: c, bar: c.AddBar(total,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" "), decor.CountersNoUnit("%d of %d")),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8})),
	)}
}

// set says how many bytes, or things, are done.
func (p *progress) set(done int64) {
	if p.bar != nil {
		p.bar.SetCurrent(done)
	}
}

// setTotal says how many bytes there are.
func (p *progress) setTotal(totalBytes int64) {
	if p.bar != nil {
		p.bar.SetTotal(totalBytes, false)
	}
}

// done removes the bar; the line is free for what follows. A bar that is short
// of its total is given up first: waiting for it would never end.
func (p *progress) done() {
	if p.container == nil {
		return
	}
	p.once.Do(func() {
		p.bar.Abort(true)
		p.container.Wait()
	})
}

// A stepBar shows how many steps of a command are done, on a terminal; elsewhere
// it is silent. done must be called.
type stepBar struct {
	container *mpb.Progress // nil if silent
	bar       *mpb.Bar
	name      atomic.Pointer[string]
}

func newStepBar(w io.Writer) *stepBar {
	b := &stepBar{}
	if !isTerminal(w) {
		return b
	}
	b.container = mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	b.bar = b.container.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			if name := b.name.Load(); name != nil {
				return *name + " "
			}
			return ""
		}), decor.CountersNoUnit("%d of %d")),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 8})),
	)
	return b
}

// set says what is being done and how many steps are.
func (b *stepBar) set(name string, done, total int) {
	if b.bar == nil {
		return
	}
	b.name.Store(&name)
	b.bar.SetTotal(int64(total), false)
	b.bar.SetCurrent(int64(done))
}

// done removes the bar.
func (b *stepBar) done() {
	if b.container != nil {
		b.bar.Abort(true)
		b.container.Wait()
	}
}
