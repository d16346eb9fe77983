package raw3

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Client talks to the nodes over a connection to each, made when it is first
// needed. One goroutine uses it, and has one request under way.
type Client struct {
	addrs []string
	conns []net.Conn
	first int // the node that is asked first
	head  []byte
	value []byte // what Get returned last
}

// requestTimeout bounds one request.
const requestTimeout = 5 * time.Second

// NewClient returns the n-th of several Clients, which divide the nodes among
// them.
func NewClient(addrs []string, n int) *Client {
	return &Client{addrs: addrs, conns: make([]net.Conn, len(addrs)), first: n % len(addrs)}
}

// Close ends the connections.
func (c *Client) Close() {
	for i := range c.conns {
		c.drop(i)
	}
}

func (c *Client) drop(i int) {
	if c.conns[i] != nil {
		c.conns[i].Close()
		c.conns[i] = nil
	}
}

// Put stores a value. When it returns nil two nodes have written it.
func (c *Client) Put(ctx context.Context, key string, value []byte) error {
	status, err := c.send(ctx, c.first, opPut, key, value)
	if err == nil && status != statusOK {
		err = errors.New("fewer than two nodes have written it")
	}
	if err != nil {
		return fmt.Errorf("raw3: put %s: %w", key, err)
	}
	return nil
}

// Get returns a value, which is valid until the next call. A node that has no
// copy yet sends the Client to the next.
func (c *Client) Get(ctx context.Context, key string) ([]byte, error) {
	var last error
	for i := range c.addrs {
		n := (c.first + i) % len(c.addrs)
		status, err := c.send(ctx, n, opGet, key, nil)
		if err == nil && status == statusOK {
			if err = c.receive(n); err == nil {
				return c.value, nil
			}
		}
		if last = err; err == nil {
			last = errors.New("no node has it")
		}
	}
	return nil, fmt.Errorf("raw3: get %s: %w", key, last)
}

// send makes a request to the n-th node and returns the status of the answer.
func (c *Client) send(ctx context.Context, n int, op byte, key string, value []byte) (status byte, err error) {
	if len(key) == 0 || len(key) > maxKey || len(value) > MaxValue {
		return 0, fmt.Errorf("a key of %d bytes and a value of %d", len(key), len(value))
	}
	if c.conns[n] == nil {
		d := net.Dialer{Timeout: requestTimeout}
		if c.conns[n], err = d.DialContext(ctx, "tcp", c.addrs[n]); err != nil {
			c.conns[n] = nil
			return 0, err
		}
	}
	nc := c.conns[n]
	defer func() {
		if err != nil {
			c.drop(n)
		}
	}()
	if err := nc.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return 0, err
	}
	c.head = append(appendHead(c.head[:0], head{op, len(key), len(value)}), key...)
	frame := net.Buffers{c.head, value}
	if _, err := frame.WriteTo(nc); err != nil {
		return 0, err
	}
	var b [1]byte
	_, err = io.ReadFull(nc, b[:])
	return b[0], err
}

// receive reads the value that follows the status of a get into c.value.
func (c *Client) receive(n int) (err error) {
	defer func() {
		if err != nil {
			c.drop(n)
		}
	}()
	var length [answerBytes - 1]byte
	if _, err := io.ReadFull(c.conns[n], length[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(length[:])
	if size > MaxValue {
		return fmt.Errorf("an answer of %d bytes", size)
	}
	if cap(c.value) < int(size) {
		c.value = make([]byte, size)
	}
	c.value = c.value[:size]
	_, err = io.ReadFull(c.conns[n], c.value)
	return err
}
