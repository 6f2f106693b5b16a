package prom

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	// maxExpr is how long an expression may be, in bytes.
	maxExpr = 4 << 10
	// maxRange is how far a range selector may reach back.
	maxRange = 7 * 24 * time.Hour
	// maxSubSteps is how many steps a subquery may have.
	maxSubSteps = 11_000
)

// bounded refuses an expression that no server should be asked: one that reads
// every series or too much time. What does not parse as PromQL is left to the
// server, whose dialect may know more.
func bounded(expr string) error {
	if strings.TrimSpace(expr) == "" {
		return &tool.Error{Kind: tool.Invalid, User: "the expression is empty", Fix: "write PromQL, for example up or sum by (pod) (rate(http_requests_total[5m]))"}
	}
	if len(expr) > maxExpr {
		return &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the expression has %d bytes, more than %d", len(expr), maxExpr), Fix: "shorten it, for example with a regular expression in place of many names"}
	}
	parsed, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(expr)
	if err != nil {
		// The parser's own refusal of such a selector; other servers allow it.
		if strings.Contains(err.Error(), "at least one non-empty matcher") {
			return everythingError(clip(expr, 80))
		}
		return nil
	}
	var refused error
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if refused != nil {
			return refused
		}
		switch n := n.(type) {
		case *parser.VectorSelector:
			if everything(n.LabelMatchers) {
				refused = everythingError(n.String())
			}
		case *parser.MatrixSelector:
			if n.Range > maxRange {
				refused = &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the range of %s in the expression is longer than %s", short(n.Range), short(maxRange)), Fix: "use a shorter range"}
			}
		case *parser.SubqueryExpr:
			step := n.Step
			if step <= 0 {
				step = time.Minute
			}
			if n.Range > maxRange || n.Range/step > maxSubSteps {
				refused = &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the subquery of %s every %s is too much", model.Duration(n.Range), model.Duration(step)), Fix: "use a shorter range or a longer step"}
			}
		}
		return refused
	})
	return refused
}

func everythingError(what string) error {
	return &tool.Error{Kind: tool.Invalid, User: what + " reads every series there is", Fix: "name a metric, or list names with prom_series"}
}

// everything reports whether matchers let every series through: none of them
// asks for a value, by equality or by a pattern that is not all wild cards.
func everything(ms []*labels.Matcher) bool {
	for _, m := range ms {
		switch m.Type {
		case labels.MatchEqual:
			if m.Value != "" {
				return false
			}
		case labels.MatchRegexp:
			if strings.Trim(m.Value, ".*+?^$()|") != "" {
				return false
			}
		}
	}
	return true
}
