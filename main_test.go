package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
)

// TestMain lets scripts run this test binary as the command gumshoe: a process of
// its own, with its own streams and signals.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gumshoe": main})
}

// TestCommandLine runs the scripts of integrations/cli: bad input, bad clusters and
// bad weather, each with the sentence and the exit code it must get.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "integrations/cli/testdata/script",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "signalled": signalled, "closedpipe": closedPipe, "fulldisk": fullDisk, "onlyfiles": onlyFiles, "hostile": hostile,
		},
	})
}

// setup gives a script its servers and the cases' bundles.
func setup(env *testscript.Env) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	set := func(name, value string) { env.Vars = append(env.Vars, name+"="+value) }
	set("CASES", filepath.Join(root, "evals", "cases"))
	set("HOME", filepath.Join(env.WorkDir, "home"))
	for _, name := range []string{"KUBECONFIG", "OPENAI_API_KEY", "OPENAI_BASE_URL", "GUMSHOE_MODEL", "GUMSHOE_CONFIG", "GUMSHOE_STATE"} {
		set(name, "")
	}
	serve := func(name string, h http.HandlerFunc) {
		s := httptest.NewServer(h)
		env.Defer(s.Close)
		set(name, s.URL)
		kubeconfig(env, strings.ToLower(name), s.URL)
	}
	status := func(code int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	serve("EXPIRED", status(401, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`))
	serve("DENIED", status(403, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"forbidden","reason":"Forbidden","code":403}`))
	serve("LOGIN", status(200, "text/html", "<!DOCTYPE html><html><title>Sign in</title></html>"))
	serve("BUSY", status(503, "text/plain", "upstream connect error"))
	handler, err := recorded(filepath.Join(root, "evals", "cases", "k8s-crash-log-error", "bundle"))
	if err != nil {
		return err
	}
	serve("CLUSTER", handler.ServeHTTP)
	serve("PARTIAL", partial(handler, "events", "nodes", "replicasets"))
	serve("SLOW", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/pods") {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Minute):
			}
		}
		handler.ServeHTTP(w, r)
	})
	secure := httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the refusal of the certificate is what is wanted
	secure.StartTLS()
	env.Defer(secure.Close)
	kubeconfig(env, "untrusted", secure.URL)
	return silentPorts(env)
}

// silentPorts gives a script a port that nobody listens on and one that takes
// connections and never says a word.
func silentPorts(env *testscript.Env) error {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	kubeconfig(env, "dead", "http://"+gone.Addr().String())
	if err := gone.Close(); err != nil {
		return err
	}
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = hole.Close() })
	kubeconfig(env, "hole", "http://"+hole.Addr().String())
	env.Vars = append(env.Vars, "HOLE=http://"+hole.Addr().String())
	return nil
}

// kubeconfig writes a kubeconfig that names one server.
func kubeconfig(env *testscript.Env, name, server string) {
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: canary-token}}]\n", server)
	if err := os.WriteFile(filepath.Join(env.WorkDir, name+".kubeconfig"), []byte(text), 0o600); err != nil {
		env.T().Fatal(err)
	}
}

// recorded is a case's cluster behind the Kubernetes API.
func recorded(dir string) (http.Handler, error) {
	b, _, err := bundle.OpenPath(dir, bundle.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return apiserver.New(b)
}

// partial refuses the reads of some resources.
func partial(h http.Handler, resources ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for part := range strings.SplitSeq(r.URL.Path, "/") {
			if slices.Contains(resources, part) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusForbidden)
				_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"%s is forbidden","reason":"Forbidden","code":403}`, part)
				return
			}
		}
		h.ServeHTTP(w, r)
	}
}

// exits CODE PROGRAM ARGS... runs a program and wants exactly this exit code.
// Whatever it says, no stack trace and no credential may be in it.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	said := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	want(ts, args[0], err)
	clean(ts, said)
}

func want(ts *testscript.TestScript, code string, err error) {
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != code {
		ts.Fatalf("exit %d, want %s", got, code)
	}
}

func clean(ts *testscript.TestScript, said string) {
	for _, bad := range []string{"goroutine ", "panic:", "canary-token", "runtime error", "%!"} {
		if strings.Contains(said, bad) {
			ts.Fatalf("%q is said:\n%s", bad, said)
		}
	}
}

// command prepares a program in the script's own directory and environment.
func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if p := filepath.Join(dir, args[0]); isFile(p) {
			path = p
			break
		}
	}
	c := exec.Command(path, args[1:]...) //nolint:gosec // the program of a script of this repository
	c.Dir = ts.MkAbs(".")
	c.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "KUBECONFIG=", "OPENAI_BASE_URL="+ts.Getenv("OPENAI_BASE_URL"), "OPENAI_API_KEY="+ts.Getenv("OPENAI_API_KEY"), "PATH="+ts.Getenv("PATH"))
	return c
}

func isFile(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.Mode().IsRegular()
}

// signalled CODE SIGNAL WORDS PROGRAM ARGS... starts a program, sends it a signal
// once it has said WORDS on either stream, or once a file is there that matches
// "file:PATTERN", and wants this exit code.
func signalled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: signalled CODE SIGNAL WORDS PROGRAM ARGS...")
	}
	sig := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[1]]
	if sig == 0 {
		ts.Fatalf("no signal %s", args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := command(ts, args[3:])
	w := &watched{word: args[2], seen: make(chan struct{})}
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		ts.Fatalf("%v", err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	if pattern, ok := strings.CutPrefix(args[2], "file:"); ok {
		go w.await(ctx, filepath.Join(ts.MkAbs("."), pattern))
	}
	select {
	case <-w.seen:
	case err := <-done:
		ts.Fatalf("it ended (%v) before it said %q:\n%s", err, args[2], w.text())
	case <-ctx.Done():
		_ = c.Process.Kill()
		ts.Fatalf("it never said %q:\n%s", args[2], w.text())
	}
	if err := c.Process.Signal(sig); err != nil {
		ts.Fatalf("%v", err)
	}
	select {
	case err := <-done:
		want(ts, args[0], err)
	case <-ctx.Done():
		_ = c.Process.Kill()
		ts.Fatalf("it does not end after %s:\n%s", args[1], w.text())
	}
	clean(ts, w.text())
	ts.Logf("%s", w.text())
}

// closedPipe PROGRAM ARGS... runs a program whose reader has gone, as head does.
func closedPipe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: closedpipe PROGRAM ARGS...")
	}
	r, w, err := os.Pipe()
	if err != nil {
		ts.Fatalf("%v", err)
	}
	_ = r.Close()
	c := command(ts, args)
	var said strings.Builder
	c.Stdout, c.Stderr = w, &said
	err = c.Run()
	_ = w.Close()
	clean(ts, said.String())
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("it ended with %v though nobody read", err)
	}
	// Like every filter: by the signal, or by saying that it cannot write.
	if st, ok := e.Sys().(syscall.WaitStatus); !ok || !st.Signaled() && e.ExitCode() != 1 {
		ts.Fatalf("exit %d: %s", e.ExitCode(), said.String())
	}
}

// fullDisk CODE PROGRAM ARGS... runs a program whose output has no room.
func fullDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fulldisk CODE PROGRAM ARGS...")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		ts.Logf("no /dev/full here: %v", err)
		return
	}
	defer func() { _ = full.Close() }()
	c := command(ts, args[1:])
	var said strings.Builder
	c.Stdout, c.Stderr = full, &said
	want(ts, args[0], c.Run())
	clean(ts, said.String())
	if !strings.Contains(said.String(), "no space left") {
		ts.Fatalf("it does not say why:\n%s", said.String())
	}
}

// onlyFiles DIR NAME... wants exactly these entries in a directory.
func onlyFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: onlyfiles DIR NAME...")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	wanted := slices.Sorted(slices.Values(args[1:]))
	if !slices.Equal(have, wanted) {
		ts.Fatalf("%s holds %v, want %v", args[0], have, wanted)
	}
}

// watched keeps what a program says and tells when a word has been said.
type watched struct {
	mu   sync.Mutex
	said strings.Builder
	word string
	seen chan struct{}
	once sync.Once
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said.Write(p)
	if strings.Contains(w.said.String(), w.word) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

// await tells once a file is there.
func (w *watched) await(ctx context.Context, pattern string) {
	for ctx.Err() == nil {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			w.once.Do(func() { close(w.seen) })
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *watched) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}

// hostile KIND OUT writes an archive that means harm.
func hostile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hostile KIND OUT")
	}
	const manifest = "formatVersion: 1\ncaptured: 2026-01-01T00:00:00Z\n"
	var raw bytes.Buffer
	z, err := zstd.NewWriter(&raw)
	if err != nil {
		ts.Fatalf("%v", err)
	}
	w := tar.NewWriter(z)
	file := func(name, text string) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			ts.Fatalf("%v", err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			ts.Fatalf("%v", err)
		}
	}
	file("bundle.yaml", manifest)
	cut := 0
	switch args[0] {
	case "traversal":
		file("../../outside.yaml", "x: y")
	case "absolute":
		file("/outside.yaml", "x: y")
	case "twice":
		file("objects/a.yaml", "kind: Pod")
		file("objects/a.yaml", "kind: Pod")
	case "link":
		if err := w.WriteHeader(&tar.Header{Name: "objects/a.yaml", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}); err != nil {
			ts.Fatalf("%v", err)
		}
	case "huge":
		// A header that promises half a gigabyte; what follows is never read.
		if err := w.WriteHeader(&tar.Header{Name: "objects/a.yaml", Mode: 0o600, Size: 512 << 20, Typeflag: tar.TypeReg}); err != nil {
			ts.Fatalf("%v", err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			ts.Fatalf("%v", err)
		}
	case "truncated":
		file("objects/a.yaml", strings.Repeat("# a comment that does not end\n", 4000))
		cut = 200
	default:
		ts.Fatalf("no archive of kind %q", args[0])
	}
	_ = w.Close() // of "huge" it is an error that is meant
	if err := z.Close(); err != nil {
		ts.Fatalf("%v", err)
	}
	out := raw.Bytes()
	if cut > 0 {
		out = out[:len(out)-min(cut, len(out)/2)]
	}
	if err := os.WriteFile(ts.MkAbs(args[1]), out, 0o600); err != nil {
		ts.Fatalf("%v", err)
	}
}
