package openaichat_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick has the short limits that the contract suite provokes.
func quick(url string) openaichat.Config {
	return openaichat.Config{Provider: openaichat.Compatible, Name: "m", BaseURL: url, APIKey: "key-canary-1234",
		Idle: 500 * time.Millisecond, Wait: 5 * time.Second,
		Retry: transport.Policy{Pause: time.Millisecond, Longest: 2 * time.Second}}
}

func open(t *testing.T, c openaichat.Config) *openaichat.Model {
	t.Helper()
	m, err := openaichat.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestContract(t *testing.T) {
	for _, name := range []string{"plain", "o1", "gpt-5-mini", "gpt-6-sol"} {
		t.Run(name, func(t *testing.T) {
			llmtest.Run(t, func(t *testing.T, url string) llm.Model {
				c := quick(url)
				c.Name = name
				return open(t, c)
			}, llmtest.Options{})
		})
	}
}
