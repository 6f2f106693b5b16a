//go:build unix

package cli

import (
	"os"
	"syscall"
)

// hangup are the signals that ask for the configuration to be read again.
func hangup() []os.Signal { return []os.Signal{syscall.SIGHUP} }
