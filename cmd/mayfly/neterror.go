package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listenError says why a program cannot listen at addr and what to do about it.
// setting is the one that names the address. Other errors come back as they are.
func listenError(err error, addr, setting string) error {
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the address %s is in use by another program: stop that one, or choose another with --set %s=HOST:PORT", addr, setting)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("the address %s is not one of this machine's: choose another with --set %s=HOST:PORT; 0.0.0.0 is all of them", addr, setting)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this user may not listen at %s: choose a port above 1023 with --set %s=HOST:PORT", addr, setting)
	case isDNS:
		return fmt.Errorf("the host of the address %s is not known: choose another with --set %s=HOST:PORT", addr, setting)
	}
	return err
}
