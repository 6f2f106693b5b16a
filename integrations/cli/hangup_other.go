//go:build !unix

package cli

import "os"

// hangup is empty where there is no such signal; signal.Notify with none would relay
// all, so one that never comes stands for it.
func hangup() []os.Signal { return []os.Signal{nosignal{}} }

type nosignal struct{}

func (nosignal) String() string { return "none" }
func (nosignal) Signal()        {}
