//go:build !unix

package jetstream_test

import (
	"errors"

	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

// fill has no way to make a disk look full here.
func fill(*jetstream.Store) error { return errors.ErrUnsupported }
