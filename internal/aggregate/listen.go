package aggregate

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

// listen opens a socket for datagrams to addr, host:port.
func listen(addr string) (*net.UDPConn, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot receive events at %q: write the address as host:port, such as 127.0.0.1:7071, or :7071 for all of this machine's: %w", addr, err)
	}
	conn, err := net.ListenUDP("udp", udp)
	if err != nil {
		return nil, fmt.Errorf("cannot receive events at %s: %s: %w", udp, advice(err), err)
	}
	return conn, nil
}

// advice says what to do about an address that cannot be listened at.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: stop it, or choose another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine does not have that address: choose one of its own, or :port for all of them"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not open the port: choose one above 1023"
	}
	return "choose another address"
}
