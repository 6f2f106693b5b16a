package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	maxAnswer   = 16 << 20 // bytes of one message
	maxPages    = 20
	maxListed   = 2000
	stopTimeout = time.Second // before a process that does not stop is told to, and killed
	keptStderr  = 2 << 10
)

// session is a connection to a server.
type session struct {
	cs     *mcp.ClientSession
	stderr *tailBuffer
	over   chan struct{}
}

// alive reports whether the server is still there.
func (s *session) alive() bool {
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

// connect starts or reaches the server and lists its tools, within ctx.
func (s *server) connect(ctx context.Context) (*session, []*mcp.Tool, error) {
	out := &session{stderr: &tailBuffer{}, over: make(chan struct{})}
	transport, err := s.transport(out.stderr)
	if err != nil {
		return nil, nil, err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "gumshoe", Version: "1"}, &mcp.ClientOptions{
		Logger: slog.New(slog.DiscardHandler),
		// Nothing is offered to the server: no roots, no sampling, no questions.
		Capabilities: &mcp.ClientCapabilities{},
	})
	cs, err := client.Connect(ctx, transport, nil)
	if err != nil {
		return nil, nil, out.explain(err)
	}
	out.cs = cs
	go func() {
		_ = cs.Wait()
		close(out.over)
	}()
	tools, err := listed(ctx, cs)
	if err != nil {
		_ = cs.Close()
		return nil, nil, out.explain(err)
	}
	return out, tools, nil
}

// listed reads the server's tools, page by page, as far as is reasonable.
func listed(ctx context.Context, cs *mcp.ClientSession) ([]*mcp.Tool, error) {
	var out []*mcp.Tool
	cursor := ""
	for range maxPages {
		r, err := cs.ListTools(ctx, &mcp.ListToolsParams{Cursor: cursor})
		if err != nil {
			return nil, fmt.Errorf("list tools: %w", err)
		}
		out = append(out, r.Tools...)
		if cursor = r.NextCursor; cursor == "" || len(out) > maxListed {
			break
		}
	}
	return out, nil
}

// explain adds what a process said last.
func (s *session) explain(err error) error {
	if text := s.stderr.last(); text != "" {
		return fmt.Errorf("%w; it said: %s", err, text)
	}
	return err
}

func (s *server) transport(stderr io.Writer) (mcp.Transport, error) {
	if s.spec.URL == "" {
		env, err := s.environment()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(s.spec.Command[0], s.spec.Command[1:]...) //nolint:gosec // the user's own program, no shell
		cmd.Env, cmd.Dir, cmd.Stderr = env, s.spec.Dir, stderr
		cmd.WaitDelay = stopTimeout
		return &mcp.CommandTransport{Command: cmd, TerminateDuration: stopTimeout}, nil
	}
	u, err := url.Parse(s.spec.URL)
	if err != nil {
		return nil, err
	}
	var rt http.RoundTripper = &bounded{next: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10}}
	switch {
	case s.spec.BearerTokenFile != "":
		rt = &bearer{next: rt, host: u.Host, file: s.spec.BearerTokenFile}
	case s.spec.OAuth != nil:
		src := &credentials{o: *s.spec.OAuth, client: &http.Client{Transport: rt, CheckRedirect: stay, Timeout: 10 * time.Second}}
		rt = &oauth2.Transport{Source: oauth2.ReuseTokenSource(nil, src), Base: rt}
	}
	return &mcp.StreamableClientTransport{
		Endpoint: s.spec.URL, HTTPClient: &http.Client{Transport: rt, CheckRedirect: stay},
		MaxRetries: -1, DisableStandaloneSSE: true, MaxEventSize: maxAnswer,
	}, nil
}

// stay lets no redirect leave the host: the credentials are for it alone.
func stay(r *http.Request, via []*http.Request) error {
	if len(via) > 3 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return errors.New("a redirect to another host is not followed")
	}
	return nil
}

// credentials fetches tokens with a secret that is read each time.
type credentials struct {
	o      OAuth
	client *http.Client
}

var _ oauth2.TokenSource = (*credentials)(nil)

// Token implements oauth2.TokenSource.
func (c *credentials) Token() (*oauth2.Token, error) {
	raw, err := os.ReadFile(c.o.ClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("oauth.clientSecretFile: %w", err)
	}
	conf := clientcredentials.Config{ClientID: c.o.ClientID, ClientSecret: strings.TrimSpace(string(raw)), TokenURL: c.o.TokenURL, Scopes: c.o.Scopes}
	tok, err := conf.Token(context.WithValue(context.Background(), oauth2.HTTPClient, c.client))
	if re, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		// Its text holds the whole answer.
		return nil, fmt.Errorf("oauth.tokenURL answers HTTP %d %s", re.Response.StatusCode, re.ErrorCode)
	}
	return tok, err
}

// bounded ends an answer that floods: one that is not a stream of events, whose parts
// the protocol's own client bounds.
type bounded struct{ next http.RoundTripper }

var _ http.RoundTripper = (*bounded)(nil)

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		resp.Body = &limited{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, nil
}

type limited struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("the answer has more than %d MiB", maxAnswer>>20)
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// environment is what a program is given: little of this process's own, which holds
// keys that are none of its business.
func (s *server) environment() ([]string, error) {
	var env []string
	for _, k := range []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	for k, v := range s.spec.Env {
		env = append(env, k+"="+v)
	}
	for k, f := range s.spec.EnvFiles {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("envFiles.%s: %w", k, err)
		}
		env = append(env, k+"="+strings.TrimSpace(string(raw)))
	}
	return env, nil
}

// tailBuffer keeps the end of what is written to it. It is safe for concurrent use.
type tailBuffer struct {
	mu  sync.Mutex
	buf []byte
}

var _ io.Writer = (*tailBuffer)(nil)

// Write implements io.Writer.
func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-keptStderr):]...)
	t.buf = t.buf[max(0, len(t.buf)-keptStderr):]
	return len(p), nil
}

// last gives the last line, shortened.
func (t *tailBuffer) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "")), "\n")
	return clean(lines[len(lines)-1], 300)
}
