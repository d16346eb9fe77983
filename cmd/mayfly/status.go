package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// A statusLine rewrites one line of a terminal every half second with what line
// returns; where nobody watches it does nothing. stop clears the line and waits.
type statusLine struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func startStatus(w io.Writer, line func() string) *statusLine {
	ctx, cancel := context.WithCancel(context.Background())
	s := &statusLine{cancel: cancel}
	if !isTerminal(w) {
		return s
	}
	s.wg.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(w, "\r\x1b[K%s", clip(line(), terminalWidth(w)-1))
			}
		}
	})
	return s
}

// clip shortens a line that would run over into the next one, which nobody
// would clear. A width that is not known clips nothing.
func clip(line string, width int) string {
	if letters := []rune(line); width > 0 && len(letters) > width {
		return string(letters[:width])
	}
	return line
}

func (s *statusLine) stop() {
	s.cancel()
	s.wg.Wait()
}
