package cli

import (
	"context"
	"errors"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Exit codes, the same for every command.
const (
	exitAnswered     = 0
	exitInternal     = 1
	exitUsage        = 2
	exitInconclusive = 3
	exitApproval     = 4
	exitModel        = 5
	exitBudget       = 6
	exitUnreachable  = 7
	exitInterrupted  = 130
)

// exitError carries an exit code to main. An empty text means that everything
// there is to say was already printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the caller's.
func usage(err error) error { return &exitError{code: exitUsage, err: err} }

// code gives the exit code of an error.
func code(err error) int {
	if err == nil {
		return exitAnswered
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if t, ok := errors.AsType[*tool.Error](err); ok {
		switch t.Kind {
		case tool.Unreachable, tool.TimedOut, tool.Forbidden:
			return exitUnreachable
		case tool.Invalid:
			return exitUsage
		case tool.NotFound:
			return exitInconclusive
		}
	}
	return exitInternal
}

// reportCode gives the exit code of a finished investigation.
func reportCode(r incident.Report) int {
	switch r.Stop {
	case incident.StopInterrupted:
		return exitInterrupted
	case incident.StopUnreachable:
		return exitUnreachable
	case incident.StopModel:
		return exitModel
	case incident.StopBudget:
		return exitBudget
	}
	if r.Diagnosis.Outcome == incident.Inconclusive {
		return exitInconclusive
	}
	return exitAnswered
}
