package prometheus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/text"
	convert "github.com/prometheus/common/helpers/templates"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/strutil"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// An alert's texts are Go templates with Prometheus' own functions (documentation,
// "Template reference"). Its package template runs them with text/template, which may
// call any method by name and so keeps every method of every type in the binary, a
// fifth of it. The fork used here is the same code without method calls; of what the
// reference lists only those of toTime's and toDuration's results are methods, and a
// text that calls one says so instead. A test holds the functions against Prometheus' own.

// queried is one sample of an instant query, as templates see it.
type queried struct {
	Labels map[string]string
	Value  any
}

// alertData is what a template reads besides functions.
type alertData struct {
	Labels, ExternalLabels map[string]string
	ExternalURL            string
	Value                  any
}

// queryFunc evaluates an expression at a time.
type queryFunc func(context.Context, string, time.Time) (promql.Vector, error)

// shorthands are the variables that Prometheus puts before every text.
const shorthands = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"

// expand runs one text.
func expand(ctx context.Context, name, text string, data alertData, now time.Time, query queryFunc) (string, error) {
	t, err := template.New(name).Funcs(functions(ctx, now, query)).Option("missingkey=zero").Parse(shorthands + text)
	if err != nil {
		return "", fmt.Errorf("error parsing template %v: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("error executing template %v: %w", name, err)
	}
	return b.String(), nil
}

func functions(ctx context.Context, now time.Time, query queryFunc) template.FuncMap {
	return template.FuncMap{
		"query": func(expr string) ([]*queried, error) {
			v, err := query(ctx, expr, now)
			if err != nil {
				return nil, err
			}
			out := make([]*queried, 0, len(v))
			for _, s := range v {
				r := &queried{Labels: s.Metric.Map(), Value: s.F}
				if s.H != nil {
					r.Value = s.H
				}
				out = append(out, r)
			}
			return out, nil
		},
		"first": func(rs []*queried) (*queried, error) {
			if len(rs) == 0 {
				return nil, errors.New("first() called on vector with no elements")
			}
			return rs[0], nil
		},
		"label":    func(name string, r *queried) string { return r.Labels[name] },
		"value":    func(r *queried) any { return r.Value },
		"strvalue": func(r *queried) string { return r.Labels["__value__"] },
		"sortByLabel": func(name string, rs []*queried) []*queried {
			slices.SortStableFunc(rs, func(a, b *queried) int { return strings.Compare(a.Labels[name], b.Labels[name]) })
			return rs
		},
		"args": func(vs ...any) map[string]any {
			out := map[string]any{}
			for i, v := range vs {
				out[fmt.Sprintf("arg%d", i)] = v
			}
			return out
		},
		"reReplaceAll": func(pattern, with, text string) (string, error) {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return "", err
			}
			return re.ReplaceAllString(text, with), nil
		},
		"match":              regexp.MatchString,
		"safeHtml":           func(text string) string { return text },
		"title":              cases.Title(language.AmericanEnglish, cases.NoLower).String,
		"toUpper":            strings.ToUpper,
		"toLower":            strings.ToLower,
		"stripPort":          stripPort,
		"stripDomain":        stripDomain,
		"graphLink":          strutil.GraphLinkForExpression,
		"tableLink":          strutil.TableLinkForExpression,
		"urlQueryEscape":     url.QueryEscape,
		"pathPrefix":         func() string { return "" },
		"externalURL":        func() string { return "" },
		"humanize":           humanize,
		"humanize1024":       humanize1024,
		"humanizeDuration":   convert.HumanizeDuration,
		"humanizePercentage": humanizePercentage,
		"humanizeTimestamp":  convert.HumanizeTimestamp,
		"toTime": func(v any) (*time.Time, error) {
			f, err := convert.ConvertToFloat(v)
			if err != nil {
				return nil, err
			}
			return convert.FloatToTime(f)
		},
		"toDuration": func(v any) (*time.Duration, error) {
			f, err := convert.ConvertToFloat(v)
			d := time.Duration(f * float64(time.Second))
			return &d, err
		},
		"now": func() float64 { return float64(now.UnixMilli()) / 1000 },
		"parseDuration": func(text string) (float64, error) {
			d, err := model.ParseDurationAllowNegative(text)
			return time.Duration(d).Seconds(), err
		},
	}
}

func stripPort(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return hostPort
}

// stripDomain keeps the first label of a host name and the port; an address stays.
func stripDomain(hostPort string) string {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		host, port = hostPort, ""
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return hostPort
	}
	host, _, _ = strings.Cut(host, ".")
	if port == "" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// humanize writes a number with four figures and a metric prefix.
func humanize(v any) (string, error) {
	f, err := convert.ConvertToFloat(v)
	if err != nil {
		return "", err
	}
	if f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprintf("%.4g", f), nil
	}
	if math.Abs(f) >= 1 {
		return scaled(f, 1000, "kMGTPEZY"), nil
	}
	unit := ""
	for _, p := range "munpfazy" {
		if math.Abs(f) >= 1 {
			break
		}
		unit = string(p)
		f *= 1000
	}
	return fmt.Sprintf("%.4g%s", f, unit), nil
}

// humanize1024 writes a number with four figures and a binary prefix.
func humanize1024(v any) (string, error) {
	f, err := convert.ConvertToFloat(v)
	if err != nil {
		return "", err
	}
	if math.Abs(f) <= 1 || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprintf("%.4g", f), nil
	}
	text := scaled(f, 1024, "kMGTPEZY")
	if last := text[len(text)-1]; last < '0' || last > '9' {
		text += "i"
	}
	return text, nil
}

// scaled divides by the base while it can and adds the prefix it got to.
func scaled(f, base float64, prefixes string) string {
	unit := ""
	for _, p := range prefixes {
		if math.Abs(f) < base {
			break
		}
		unit = string(p)
		f /= base
	}
	return fmt.Sprintf("%.4g%s", f, unit)
}

func humanizePercentage(v any) (string, error) {
	f, err := convert.ConvertToFloat(v)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.4g%%", f*100), nil
}
