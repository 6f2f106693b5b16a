package dra

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/triage"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/runbooks"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
)

type nolib struct{}

func (nolib) Match(runbooks.Query) []runbooks.Match { return nil }

type caller struct {
	mu    sync.Mutex
	n     int
	tools map[string]tool.Tool
	log   *strings.Builder
}

func (c *caller) Call(ctx context.Context, name string, args any) (incident.Evidence, tool.Result) {
	c.mu.Lock()
	c.n++
	id := fmt.Sprintf("E%d", c.n)
	c.mu.Unlock()
	raw, _ := json.Marshal(args)
	ev := incident.Evidence{ID: id, Tool: name, Args: raw}
	tl := c.tools[name]
	if tl == nil {
		ev.Error = "no tool"
		return ev, tool.Result{}
	}
	res, err := tl.Call(ctx, raw)
	if err != nil {
		ev.Error, ev.ErrorKind = tool.UserText(err), string(tool.KindOf(err))
	}
	ev.Text, ev.Data = res.Text, res.Data
	for i := range res.Findings {
		res.Findings[i].Evidence = []string{id}
	}
	for i := range res.Edges {
		res.Edges[i].Evidence = []string{id}
	}
	c.mu.Lock()
	fmt.Fprintf(c.log, "--- %s %s %s %s\n%s\n", id, name, raw, ev.Error, res.Text)
	c.mu.Unlock()
	return ev, res
}

func TestScratch(t *testing.T) {
	dirs, _ := filepath.Glob("../../evals/cases/" + os.Getenv("CASES"))
	for _, dir := range dirs {
		if _, err := os.Stat(dir + "/case.yaml"); err != nil {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			raw, _ := os.ReadFile(dir + "/case.yaml")
			var c struct {
				Question string `json:"question"`
				Expect   struct {
					Outcome string           `json:"outcome"`
					Causes  []map[string]any `json:"causes"`
					Not     []any            `json:"not"`
				} `json:"expect"`
			}
			if err := yaml.Unmarshal(raw, &c); err != nil {
				t.Fatal(err)
			}
			b, closer, err := bundle.OpenPath(dir+"/bundle", bundle.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			defer closer()
			srv, err := apiserver.New(b)
			if err != nil {
				t.Fatal(err)
			}
			cfg := srv.RESTConfig()
			cs, _ := kubernetes.NewForConfig(cfg)
			dyn, _ := dynamic.NewForConfig(cfg)
			now := func() time.Time { return b.Manifest.Captured }
			d, err := New(Config{Client: cs, Dynamic: dyn, Cluster: "c", Now: now})
			if err != nil {
				t.Fatal(err)
			}
			k, err := kube.New(kube.Config{Client: cs, Dynamic: dyn, Cluster: "c", Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if st := d.Status(context.Background()); st.State != tool.Ready {
				t.Logf("status %+v", st)
			}
			cl := &caller{tools: map[string]tool.Tool{}, log: &strings.Builder{}}
			for _, ts := range []tool.Toolset{d, k} {
				for _, tl := range ts.Tools() {
					cl.tools[tl.Info().Name] = tl
				}
			}
			tr := triage.New(triage.Config{Cluster: "c", Toolsets: []tool.Toolset{k, d}, Library: nolib{}})
			start := time.Now()
			a, err := tr.Assess(context.Background(), incident.Question{Text: c.Question, Cluster: "c"}, cl)
			if err != nil {
				t.Error(err)
			}
			took := time.Since(start)
			var got []string
			for _, x := range a.Diagnosis.Causes {
				got = append(got, fmt.Sprintf("%s %s %.2f", x.Code, x.Subject, x.Confidence))
			}
			ok := "OK  "
			if c.Expect.Outcome != string(a.Diagnosis.Outcome) {
				ok = "BAD "
			}
			if len(c.Expect.Causes) > 0 {
				hit := false
				for _, w := range c.Expect.Causes {
					if len(a.Diagnosis.Causes) > 0 && a.Diagnosis.Causes[0].Code == w["code"] && (w["name"] == nil || a.Diagnosis.Causes[0].Subject.Name == w["name"]) {
						hit = true
					}
				}
				if !hit {
					ok = "BAD "
				}
			}
			fmt.Printf("%s%-40s %4dms %s want %s %v\n      got %v\n", ok, filepath.Base(dir), took.Milliseconds(), a.Diagnosis.Outcome, c.Expect.Outcome, c.Expect.Causes, got)
			if os.Getenv("V") != "" || false {
				fmt.Println(c.Question, a.Subjects)
				fmt.Println(cl.log.String())
			}
		})
	}
}
