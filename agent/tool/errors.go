package tool

import (
	"errors"
	"fmt"
)

// Kind classifies a failed call.
type Kind string

// Kinds of failure a caller may branch on.
const (
	NotFound    Kind = "not_found"
	Forbidden   Kind = "forbidden"
	Unreachable Kind = "unreachable"
	Invalid     Kind = "invalid_input"
	TimedOut    Kind = "timeout"
	NotServed   Kind = "not_served"
	Internal    Kind = "internal"
)

// Error is a failed call. User is the sentence people and models read; Err is
// for operators and stays in the log.
type Error struct {
	Kind Kind
	User string
	// Fix is the way out, one sentence, may be empty.
	Fix string
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err != nil && e.Err.Error() != e.User {
		return fmt.Sprintf("%s: %v", e.User, e.Err)
	}
	return e.User
}

// Unwrap gives the operator's error.
func (e *Error) Unwrap() error { return e.Err }

// KindOf gives the kind of an error, Internal if it is not an *Error or says none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok && e.Kind != "" {
		return e.Kind
	}
	return Internal
}

// UserText gives the sentence for people, with the way out where there is one.
func UserText(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err.Error()
	}
	if e.Fix != "" {
		return e.User + "; " + e.Fix
	}
	return e.User
}

// Errorf makes an *Error of a kind; %w verbs keep the causes.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, User: err.Error(), Err: err}
}
