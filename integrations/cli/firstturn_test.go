package cli_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gumshoe-ai/gumshoe/evals"
)

// TestFirstTurnWithEveryToolset: with all that ships, and on incidents that cross
// many of them, the first request of a model stays below 8k tokens, by the same
// estimate as elsewhere (four bytes a token).
func TestFirstTurnWithEveryToolset(t *testing.T) {
	t.Parallel()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	cases, err := evals.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"slow-tokens": true, "mtls-drop": true, "gpu-cross-lws-ttft": true, "serving-slow-replica-node": true, "nodepool-green-breaks-serving": true, "dra-selector-excludes-all": true}
	for _, c := range cases {
		if !want[c.ID] {
			continue
		}
		delete(want, c.ID)
		var first []byte
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			if first == nil {
				first = raw
			}
			http.Error(w, `{"error":{"message":"enough"}}`, http.StatusBadRequest)
		}))
		run(t, map[string]string{"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": srv.URL, "GUMSHOE_STATE": "off"}, "investigate", c.Question, "--bundle", "../../evals/cases/"+c.ID+"/bundle", "--model", "openai/gpt-5-mini")
		srv.Close()
		if n := len(first) / 4; n == 0 || n >= 8000 {
			t.Errorf("%s: the first request has about %d tokens", c.ID, n)
		}
	}
	if len(want) > 0 {
		t.Errorf("cases that are gone: %v", want)
	}
}
