//go:build !linux

package aggregate

import "net"

func newReceiver(conn *net.UDPConn) (receiver, error) { return newPlainReceiver(conn), nil }

// growReceiveBuffer asks for a socket buffer of n bytes. How many there are then
// is not known here.
func growReceiveBuffer(conn *net.UDPConn, n int) (effective int, err error) {
	return 0, conn.SetReadBuffer(n)
}
