//go:build unix

package storetest

import (
	"os/signal"
	"syscall"
)

// Cramped lets this process write no file larger than so many bytes, as on a disk that
// is full, until it is told that there is room again.
func Cramped(bytes uint64) (roomy func() error, err error) {
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return nil, err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
		return nil, err
	}
	return func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old) }, nil
}
