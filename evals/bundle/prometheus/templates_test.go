package prometheus

import (
	"context"
	"errors"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"
)

// both expands a text here and by Prometheus' own package.
func both(t testing.TB, text string, value float64) (got, want string, gotErr, wantErr error) {
	t.Helper()
	now := time.Date(2026, 11, 24, 12, 0, 0, 250e6, time.UTC)
	metric := labels.FromStrings("pod", "llama-0", "namespace", "serve", "instance", "node-1.example.com:9400")
	query := func(_ context.Context, expr string, at time.Time) (promql.Vector, error) {
		switch {
		case !at.Equal(now):
			t.Errorf("queried at %s", at)
		case expr == "broken":
			return nil, errors.New("no such thing")
		case expr == "none":
			return promql.Vector{}, nil
		}
		return promql.Vector{
			{Metric: labels.FromStrings("pod", "b", "__value__", "text"), F: 2},
			{Metric: labels.FromStrings("pod", "a"), F: value},
		}, nil
	}
	got, gotErr = expand(t.Context(), "x", text, alertData{Labels: metric.Map(), Value: value}, now, query)
	data := template.AlertTemplateData(metric.Map(), nil, "", promql.Sample{Metric: metric, F: value})
	want, wantErr = template.NewTemplateExpander(t.Context(), shorthands+text, "x", data, model.Time(now.UnixMilli()), query, &url.URL{}, nil).Expand()
	return got, want, gotErr, wantErr
}

// texts uses each function of the template reference.
func texts() []string {
	return []string{
		"plain", "{{ $labels.pod }} in {{ $labels.namespace }}", "{{ .Labels.none }}|{{ $externalLabels.none }}|{{ $externalURL }}", `{{ printf "%.2f" $value }}`,
		"{{ $value | humanize }}", "{{ $value | humanize1024 }}", "{{ $value | humanizePercentage }}", "{{ $value | humanizeDuration }}", "{{ $value | humanizeTimestamp }}",
		"{{ toTime $value }}", "{{ toDuration $value }}", "{{ now }}", `{{ parseDuration "1h30m" }}`, `{{ parseDuration "x" }}`, `{{ humanize "12.5" }}`, `{{ humanize "x" }}`, `{{ humanize1024 "x" }}`,
		`{{ humanizePercentage "x" }}`, `{{ toTime "x" }}`, `{{ toDuration "x" }}`,
		`{{ with query "up" }}{{ . | first | value }}{{ . | first | label "pod" }}{{ . | first | strvalue }}{{ end }}`,
		`{{ range query "up" | sortByLabel "pod" }}{{ .Labels.pod }}={{ .Value }};{{ end }}`, `{{ query "none" | first | value }}`, `{{ query "broken" }}`,
		`{{ reReplaceAll "(.*)-0" "$1" $labels.pod }}`, `{{ match "^ll" $labels.pod }}`, `{{ match "(" "x" }}`, `{{ title "out of memory" }} {{ toUpper "a" }} {{ toLower "A" }}`,
		"{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}", `{{ stripDomain "10.0.0.1:80" }} {{ stripDomain "[::1]:80" }} {{ stripDomain "a.b" }} {{ stripPort "a" }} {{ stripDomain "" }}`,
		`{{ graphLink "up == 0" }} {{ tableLink "up == 0" }} {{ urlQueryEscape "a b&c" }} {{ safeHtml "<b>" }}`, "{{ pathPrefix }}{{ externalURL }}",
		`{{ define "t" }}{{ .arg0 }}-{{ .arg1 }}{{ end }}{{ template "t" args 1 "x" }}`, "{{ if gt $value 1.0 }}high{{ else }}low{{ end }}", "{{ len $labels }} {{ index $labels \"pod\" }}",
		"{{ broken", "{{ nosuch 1 }}", "{{ $labels.pod.deeper }}", "{{ $value | first }}",
	}
}

// The functions are Prometheus' own in what they answer and in what they refuse.
func TestTemplatesAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	for _, text := range texts() {
		for _, v := range []float64{0, 1, -1, 0.25, 999, 1000, 1023.5, 1024, 123456789, -5e-7, 1e-30, 1e30, 1764000000, math.NaN(), math.Inf(1), math.Inf(-1)} {
			got, want, gotErr, wantErr := both(t, text, v)
			if got != want || (gotErr == nil) != (wantErr == nil) {
				t.Errorf("%s of %v: %q (%v), Prometheus says %q (%v)", text, v, got, gotErr, want, wantErr)
			}
		}
	}
}

// A pattern that is none, and a method, are errors, never a panic.
func TestTemplatesRefuse(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{`{{ reReplaceAll "(" "x" "y" }}`: "missing closing", `{{ (toTime 1.0).Year }}`: "can't evaluate field Year"} {
		if got, _, err, _ := both(t, text, 1); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %q %v", text, got, err)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, text := range texts() {
		f.Add(text, 1.5)
	}
	f.Fuzz(func(t *testing.T, text string, v float64) {
		if len(text) > 4096 {
			return
		}
		got, want, gotErr, wantErr := both(t, text, v)
		// Prometheus' can call methods, and then alone has an answer. A list is printed as
		// addresses, which are never the same.
		if gotErr == nil && !strings.Contains(got, "0x") && (wantErr != nil || got != want) {
			t.Errorf("%q of %v: %q, Prometheus says %q (%v)", text, v, got, want, wantErr)
		}
	})
}
