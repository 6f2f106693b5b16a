package app

import (
	"io"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/custom"
)

// newCustom makes the tools that the configuration describes; nil when there are
// none, or when the source is a recording: they speak of another time.
func newCustom(src *source) (tool.Toolset, error) {
	if len(src.cfg.Tools) == 0 || src.recorded {
		return nil, nil
	}
	return custom.New(src.cfg.Tools)
}

// toolSpecs is the section tools.
type toolSpecs []custom.Spec

// validate names every mistake.
func (specs toolSpecs) validate() error {
	t, err := custom.New(specs)
	if err != nil {
		return err
	}
	return t.Close()
}

// adopt takes from toolsets what they hold: secrets that must be masked, and
// connections or processes that end with the App.
func (a *App) adopt(sets []tool.Toolset) {
	for _, ts := range sets {
		if s, ok := ts.(interface{ Secrets() []string }); ok {
			for _, v := range s.Secrets() {
				a.redactor.AddKnown(v, "credential")
			}
		}
		if c, ok := ts.(io.Closer); ok {
			a.closers = append(a.closers, c.Close)
		}
	}
}
