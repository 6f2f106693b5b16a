package app

import (
	"errors"
	"io/fs"
	"os"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// PolicyCases reads the cases of a configuration's policy: those of its directories,
// or those that ship when it has none.
func PolicyCases(cfg Config) ([]policy.Case, error) {
	if len(cfg.Policy.Dirs) == 0 {
		return policy.Shipped()
	}
	var out []policy.Case
	for _, d := range cfg.Policy.Dirs {
		cases, err := policy.Cases(os.DirFS(d))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, &tool.Error{Kind: tool.Invalid, User: d + " is not a directory of policies", Err: err}
			}
			return nil, &tool.Error{Kind: tool.Invalid, User: d + ": " + err.Error(), Err: err}
		}
		out = append(out, cases...)
	}
	return out, nil
}
