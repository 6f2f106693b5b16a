package openaichat_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
)

// BenchmarkStream is the cost of one answer of 2,000 events without a network.
func BenchmarkStream(b *testing.B) {
	const events = 2000
	var body strings.Builder
	for i := range events {
		fmt.Fprintf(&body, "data: %s\n\n", llmtest.TextChunk(fmt.Sprint("word ", i, " ")))
	}
	fmt.Fprintf(&body, "data: %s\n\ndata: [DONE]\n\n", llmtest.FinishChunk("stop"))
	c := quick("http://model.example/v1")
	c.HTTP = trip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(body.String()))}, nil
	})
	m, err := openaichat.New(c)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(body.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := llm.Collect(b.Context(), m, llm.Request{}, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*events), "us/event")
}
