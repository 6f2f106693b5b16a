package gke

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// FuzzDecode: whatever the API or a proxy answers, it is pools with names or a
// sentence.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `{"nodePools":[{"name":"a","status":"RUNNING","autoscaling":{"enabled":true,"maxNodeCount":9999999999}}]}`, `[]`, `{"nodePools":[null]}`, `{"nodePools":[{"name":"a","conditions":[{"code":"X"}]}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		pools, err := decode(raw)
		if err != nil {
			if tool.UserText(err) == "" {
				t.Fatal("an error without a sentence")
			}
			return
		}
		for _, p := range pools {
			if p.Name == "" || p.Phase == "" || p.State == "" {
				t.Fatalf("%+v", p)
			}
		}
	})
}
