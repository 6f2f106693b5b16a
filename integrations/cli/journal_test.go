package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

const keptQuestion = "why is pod train/llama-ft-0 pending"

// journals gives the ids of the runs that are kept in a directory, and the store.
func journals(t *testing.T, dir string) (*file.Store, []string) {
	t.Helper()
	s, err := file.Open(file.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var ids []string
	for info, err := range s.List(t.Context(), store.Runs) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, strings.TrimPrefix(info.Subject, "run."))
	}
	return s, ids
}

// Every fact of the stream is in the journal as it was shown, and the report is
// rebuilt from it.
func TestJournal(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	code, out, errs := run(t, map[string]string{"HOME": home}, "investigate", keptQuestion, "--bundle", demoBundle, "-o", "jsonl")
	if code != 0 || strings.Contains(errs, "warning") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	s, ids := journals(t, filepath.Join(home, ".local", "state", "gumshoe"))
	if len(ids) != 1 {
		t.Fatalf("runs %v", ids)
	}
	var shown, taken []string
	var last event.Event
	for line := range strings.Lines(out) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if !e.Type.Droppable() {
			shown = append(shown, same(t, []byte(line)))
		}
		last = e
	}
	for r, err := range s.Load(t.Context(), "run."+ids[0], 0) {
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, same(t, r.Data))
	}
	if diff := cmp.Diff(shown, taken); diff != "" {
		t.Errorf("the stream (-shown +journalled):\n%s", diff)
	}
	r, err := store.LoadRun(t.Context(), s, ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*last.Report, r.Report); diff != "" || r.State != store.RunDone {
		t.Errorf("the run is %s; its report (-shown +rebuilt):\n%s", r.State, diff)
	}
	if held, err := s.Held(t.Context(), "run."+ids[0]); err != nil || held {
		t.Errorf("the run is held after its end: %t, %v", held, err)
	}
}

// same writes a document in one form.
func same(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Only investigations are kept, and only where that is wanted.
func TestNothingKept(t *testing.T) {
	t.Parallel()
	off := filepath.Join(t.TempDir(), "off.yaml")
	if err := os.WriteFile(off, []byte("store: off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
	}{
		{"demo", nil, []string{"demo"}},
		{"eval", nil, []string{"eval", "run", "--filter", "^dra-selector-excludes-all$"}},
		{"tools", nil, []string{"tools", "call", "kube_pod", "--args", `{"namespace":"train","name":"llama-ft-0"}`, "--bundle", demoBundle}},
		{"doctor", nil, []string{"doctor", "--bundle", demoBundle}},
		{"version", nil, []string{"version"}},
		{"GUMSHOE_STATE=off", map[string]string{"GUMSHOE_STATE": "off"}, []string{"investigate", keptQuestion, "--bundle", demoBundle}},
		{"store: off", nil, []string{"--config", off, "investigate", keptQuestion, "--bundle", demoBundle}},
		{"a bundle that is not there", nil, []string{"investigate", keptQuestion, "--bundle", "/nowhere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := map[string]string{"XDG_STATE_HOME": dir, "HOME": dir}
			maps.Copy(env, c.env)
			if code, _, errs := run(t, env, c.args...); code != 0 && c.name != "a bundle that is not there" {
				t.Errorf("exit %d: %s", code, errs)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

// Without a journal the answer is the same, with one warning.
func TestJournalThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	ask := func(env map[string]string, form string) (int, string, string) {
		return run(t, env, "investigate", keptQuestion, "--bundle", demoBundle, "-o", form)
	}
	_, want, quiet := ask(nil, "text")
	if strings.Contains(quiet, "warning") {
		t.Fatalf("a warning without a home directory: %s", quiet)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A journal that fails after it was opened: its directory is another's file.
	broken := filepath.Join(t.TempDir(), "gumshoe")
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"journal", "live", "outputs"} {
		if err := os.WriteFile(filepath.Join(broken, sub), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{plain, filepath.Join(plain, "below"), broken} {
		code, out, errs := ask(map[string]string{"GUMSHOE_STATE": dir}, "text")
		if code != 0 || out != want {
			t.Errorf("%s: exit %d; the answer differs (-without +with):\n%s", dir, code, cmp.Diff(want, out))
		}
		if n := strings.Count(errs, "warning:"); n != 1 || !strings.Contains(errs, dir) || !strings.Contains(errs, "GUMSHOE_STATE") {
			t.Errorf("%s: %d warnings:\n%s", dir, n, errs)
		}
		_, stream, _ := ask(map[string]string{"GUMSHOE_STATE": dir}, "jsonl")
		if strings.Contains(stream, "journal") {
			t.Errorf("%s: the warning is in the stream", dir)
		}
	}
}

// The newest runs stay; runs at the same time do not get into each other's way.
func TestJournalKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(config, []byte("store: {keep: 2, dir: "+dir+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func() {
		if code, _, errs := run(t, nil, "--config", config, "investigate", keptQuestion, "--bundle", demoBundle); code != 0 || strings.Contains(errs, "warning") {
			t.Errorf("exit %d: %s", code, errs)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(ask)
	}
	wg.Wait()
	_, before := journals(t, dir)
	ask()
	s, after := journals(t, dir)
	if len(before) < 2 || len(after) != 2 {
		t.Errorf("%d runs are kept, then %d; want 2", len(before), len(after))
	}
	for _, id := range after {
		if r, err := store.LoadRun(t.Context(), s, id); err != nil || r.State != store.RunDone {
			t.Errorf("run %s is %s, %v", id, r.State, err)
		}
	}
	if !slices.ContainsFunc(after, func(id string) bool { return !slices.Contains(before, id) }) {
		t.Error("the last run is not kept")
	}
}

// watcher calls a function at the first line written to it.
type watcher struct {
	io.Writer
	first func()
	once  sync.Once
}

func (w *watcher) Write(p []byte) (int, error) {
	w.once.Do(w.first)
	return w.Writer.Write(p)
}

// An interrupted run is kept and says so; one whose process was killed is marked
// by the next.
func TestJournalOfInterruptedRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs bytes.Buffer
	code := cli.Run(ctx, []string{"investigate", keptQuestion, "--bundle", demoBundle}, cli.Streams{
		In: strings.NewReader(""), Out: &out, Err: &watcher{Writer: &errs, first: stop},
		Getenv: func(k string) string { return map[string]string{"GUMSHOE_STATE": dir}[k] },
	})
	if code != 130 || strings.Contains(errs.String(), "warning") {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	s, ids := journals(t, dir)
	if len(ids) != 1 {
		t.Fatalf("runs %v", ids)
	}
	if r, err := store.LoadRun(t.Context(), s, ids[0]); err != nil || r.State != store.RunDone || r.Report.Stop != incident.StopInterrupted {
		t.Errorf("the run is %s, %s, %v", r.State, r.Report.Stop, err)
	}
	// What kill -9 leaves: records without an end and a mark that nobody holds.
	if _, err := s.Append(t.Context(), "run.killed", 0, store.Entry{Type: "run.started", Data: []byte(`{"started":{"question":{"text":"why"},"model":"offline"}}`)}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "live", "run.killed.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t, map[string]string{"GUMSHOE_STATE": dir}, "investigate", keptQuestion, "--bundle", demoBundle); code != 0 || strings.Contains(errs, "warning") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	r, err := store.LoadRun(t.Context(), s, "killed")
	if err != nil || r.State != store.RunAbandoned || r.Report.Question != "why" || !strings.Contains(r.Report.StopReason, "its process is gone") {
		t.Errorf("the killed run is %s, %q, %v", r.State, r.Report.StopReason, err)
	}
}

func TestDoctorShowsTheJournal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "gumshoe")
	look := func(env map[string]string) string {
		t.Helper()
		code, out, errs := run(t, env, "doctor", "--bundle", demoBundle)
		if code != 0 {
			t.Errorf("exit %d: %s", code, errs)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "  journal ") {
				return line
			}
		}
		t.Errorf("no line about the journal:\n%s", out)
		return ""
	}
	env := map[string]string{"XDG_STATE_HOME": filepath.Dir(dir)}
	if line := look(env); !strings.HasPrefix(line, "ok") || !strings.Contains(line, dir) || !strings.Contains(line, "holds 0 of") {
		t.Errorf("before the first run: %s", line)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("doctor made the directory: %v", err)
	}
	run(t, env, "investigate", keptQuestion, "--bundle", demoBundle)
	if line := look(env); !strings.HasPrefix(line, "ok") || !strings.Contains(line, "holds 1 of") {
		t.Errorf("after a run: %s", line)
	}
	if line := look(nil); !strings.HasPrefix(line, "off") {
		t.Errorf("without a home: %s", line)
	}
	if line := look(map[string]string{"GUMSHOE_STATE": "off"}); !strings.HasPrefix(line, "off") {
		t.Errorf("switched off: %s", line)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if line := look(map[string]string{"GUMSHOE_STATE": plain}); !strings.HasPrefix(line, "limited") || !strings.Contains(line, plain) {
		t.Errorf("a file in its place: %s", line)
	}
}

// No secret reaches the disk, wherever it came from: the question, objects,
// logs, full outputs, the model.
func TestCanary(t *testing.T) {
	t.Parallel()
	const (
		asked  = "ghp_CANARYaskedCANARYaskedCANARY0123"
		logged = "hf_CANARYloggedCANARYloggedCANARY01"
		noted  = "nvapi-CANARYnotedCANARYnotedCANARY0123"
		spoken = "glpat-CANARYspokenCANARY0123"
		key    = "canary-model-key-0123456789"
		values = "CANARYpasswordValue99"
	)
	bundle := filepath.Join(t.TempDir(), "bundle")
	if err := os.CopyFS(bundle, os.DirFS("../../evals/cases/k8s-crash-injection/bundle")); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(bundle, "logs", "shop", "liar", "main.previous.log")
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	lines.Write(raw)
	for range 50 {
		lines.WriteString("ERROR: cannot log in with token " + logged + " password=" + values + "\n")
	}
	lines.Write(raw)
	if err := os.WriteFile(log, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	pods := filepath.Join(bundle, "objects", "shop", "pods.core.yaml")
	raw, err = os.ReadFile(pods)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(raw, []byte("  metadata:\n"), []byte("  metadata:\n    annotations: {note: \"use "+noted+"\"}\n"), 1)
	if bytes.Equal(changed, raw) {
		changed = bytes.Replace(raw, []byte("metadata:\n"), []byte("metadata:\n  annotations: {note: \"use "+noted+"\"}\n"), 1)
	}
	if bytes.Equal(changed, raw) {
		t.Fatalf("no place for an annotation:\n%s", raw)
	}
	if err := os.WriteFile(pods, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	// An answer so long that the whole of it goes beside the journal.
	settings := filepath.Join(bundle, "objects", "shop", "configmaps.core.yaml")
	raw, err = os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: big, namespace: shop}\ndata:\n  app.ini: |\n"...)
	for range 2000 {
		raw = append(raw, "    line with "+logged+" and password="+values+"\n"...)
	}
	if err := os.WriteFile(settings, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	srv := llmtest.NewServer(t,
		llmtest.Ask(llmtest.Call("kube_get", `{"kind":"ConfigMap","namespace":"shop","name":"big"}`), llmtest.Call("kube_get", `{"kind":"Pod","namespace":"shop","name":"liar"}`), llmtest.Call("kube_logs", `{"namespace":"shop","pod":"liar","previous":true,"grep":"`+spoken+`|token"}`)),
		llmtest.Forever(llmtest.Say("The pod uses "+spoken+" and "+key+", password: "+values)),
	)
	dir := t.TempDir()
	code, out, errs := run(t, map[string]string{"GUMSHOE_STATE": dir, "OPENAI_BASE_URL": srv.URL, "OPENAI_API_KEY": key},
		"investigate", "why does pod shop/liar crash? my token is "+asked, "--bundle", bundle, "--model", "compatible/x", "-o", "jsonl")
	if code == 1 || code == 2 || strings.Contains(errs, "warning: the journal") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if len(srv.Requests()) < 2 {
		t.Fatalf("the model was asked %d times", len(srv.Requests()))
	}
	files, read := 0, ""
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		files++
		read += string(raw)
		for _, secret := range []string{asked, logged, noted, spoken, key, values, "CANARY"} {
			if bytes.Contains(raw, []byte(secret)) {
				i := bytes.Index(raw, []byte(secret))
				t.Errorf("%s holds %s: ...%s...", path, secret, raw[max(0, i-60):min(len(raw), i+60)])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The places were looked at at all.
	for _, what := range []string{"[redacted:github-token]", "[redacted:huggingface-token]", "[redacted:nvidia-key]", "[redacted:gitlab-token]", "[redacted:credential]"} {
		if !strings.Contains(read, what) {
			t.Errorf("nothing kept holds %s; stream:\n%.2000s", what, out)
		}
	}
	outputs, err := os.ReadDir(filepath.Join(dir, "outputs"))
	if err != nil || len(outputs) == 0 || files < 3 {
		t.Errorf("%d files, %d full outputs, %v", files, len(outputs), err)
	}
}
