//go:build !unix

package file_test

import (
	"errors"

	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// fill has no way to make a disk look full here.
func fill(*file.Store) error { return errors.ErrUnsupported }
