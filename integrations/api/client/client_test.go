package client

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	t.Parallel()
	token := write(t, "token", "secret-0123456789\n")
	for name, tc := range map[string]struct {
		cfg Config
		say string
	}{
		"no address":                {Config{}, "no URL"},
		"another scheme":            {Config{URL: "ftp://x"}, "no URL"},
		"a password in it":          {Config{URL: "https://a:b@x"}, "no URL"},
		"a token in the clear":      {Config{URL: "http://gumshoe.example.com", TokenFile: token}, "in the clear"},
		"a token that is not":       {Config{URL: "https://x", TokenFile: token + "-not"}, "cannot be read"},
		"an empty token":            {Config{URL: "https://x", TokenFile: write(t, "empty", "\n")}, "holds no token"},
		"two lines":                 {Config{URL: "https://x", TokenFile: write(t, "two", "a\nb\n")}, "holds no token"},
		"certificates that are not": {Config{URL: "https://x", CAFile: token + "-not"}, "certificates"},
		"certificates of no PEM":    {Config{URL: "https://x", CAFile: token}, "PEM"},
	} {
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v, want %q", name, err, tc.say)
		}
	}
	for _, u := range []string{"http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1/api/v1"} {
		c, err := New(Config{URL: u, TokenFile: token})
		if err != nil || strings.HasSuffix(c.base.Path, "v1") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// The token is read again when its file changes, also where it is a link that is
// turned, as Kubernetes does it.
func TestTokenIsReadAgain(t *testing.T) {
	t.Parallel()
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"items":[]}`)
	}))
	defer srv.Close()
	dir := t.TempDir()
	for _, name := range []string{"one", "second"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"-0123456789\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "token")
	if err := os.Symlink("one", link); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{URL: srv.URL, TokenFile: link})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if _, err := c.Models(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(link), os.Symlink("second", link)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Models(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Bearer one-0123456789", "Bearer one-0123456789", "Bearer second-0123456789"}, got); d != "" {
		t.Error(d)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Models(t.Context()); tool.KindOf(err) != tool.Forbidden {
		t.Errorf("without a token: %v", err)
	}
}

// The certificates of the file are trusted, others are not, and a redirect takes the
// token nowhere.
func TestWhomItTrusts(t *testing.T) {
	t.Parallel()
	asked := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/status") {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		asked++
		_, _ = io.WriteString(w, `{"items":[]}`)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it says whom it could not shake hands with
	srv.StartTLS()
	defer srv.Close()
	strange, err := New(Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer strange.Close()
	if _, err := strange.Models(t.Context()); tool.KindOf(err) != tool.Unreachable || asked > 0 {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := New(Config{URL: srv.URL, CAFile: write(t, "ca.pem", string(ca)), TokenFile: write(t, "token", "secret-0123456789")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Models(t.Context()); err != nil || asked != 1 {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); err == nil || asked != 1 || !strings.Contains(err.Error(), "307") {
		t.Errorf("a redirect: %v, asked %d", err, asked)
	}
}

// What a server refuses comes back as it said it; what is no server of ours says so.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		kind   tool.Kind
		user   string
	}{
		"a kind":            {404, `{"error":{"code":"not_found","message":"there is no run","fix":"look at the list"}}`, tool.NotFound, "there is no run; look at the list"},
		"a code of its own": {409, `{"error":{"code":"digest_differs","message":"another plan"}}`, tool.Invalid, "another plan"},
		"a role":            {403, `{"error":{"code":"role_missing","message":"needs approver"}}`, tool.Forbidden, "needs approver"},
		"no token":          {401, `{"error":{"code":"no_credentials","message":"who?"}}`, tool.Forbidden, "who?"},
		"too much":          {429, `{"error":{"code":"too_many_requests","message":"slow down"}}`, tool.Unreachable, "slow down"},
		"a page":            {502, `<html>bad gateway</html>`, tool.Unreachable, "the server answers 502 Bad Gateway; check that the address is that of a gumshoe server"},
		"nothing":           {500, ``, tool.Internal, "the server answers 500 Internal Server Error; check that the address is that of a gumshoe server"},
		"half a document":   {200, `{"items":[`, tool.Internal, "the answer of the server is not understood; the server and this program may be of different versions"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		c, err := New(Config{URL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Models(t.Context())
		if tool.KindOf(err) != tc.kind || tool.UserText(err) != tc.user {
			t.Errorf("%s: %s %q", name, tool.KindOf(err), tool.UserText(err))
		}
		if e, ok := errors.AsType[*Refused](err); tc.status != 200 && (!ok || e.Status != tc.status || e.RetryAfter != 7*time.Second) {
			t.Errorf("%s: the cause is %+v", name, e)
		}
		c.Close()
		srv.Close()
	}
}

func TestDecoder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		want []frame
	}{
		"as the server writes":     {"retry: 2000\n\nid: 1\nevent: a\ndata: {}\n\n: alive\n\nevent: b\ndata: {\"x\":1}\n\n", []frame{{"1", "a", []byte("{}")}, {"", "b", []byte(`{"x":1}`)}}},
		"carriage returns":         {"id: 1\r\nevent: a\r\ndata: {}\r\n\r\nid: 2\revent: b\rdata: []\r\r", []frame{{"1", "a", []byte("{}")}, {"2", "b", []byte("[]")}}},
		"several lines of data":    {"data: a\ndata\ndata:b\n\n", []frame{{"", "message", []byte("a\n\nb")}}},
		"a byte order mark":        {"\xef\xbb\xbfdata: a\n\n", []frame{{"", "message", []byte("a")}}},
		"an event without data":    {"id: 4\nevent: a\n\ndata: x\n\n", []frame{{"", "message", []byte("x")}}},
		"one that is cut":          {"data: a\n\nid: 2\ndata: b\n", []frame{{"", "message", []byte("a")}}},
		"fields that nobody knows": {"foo: 1\ndata: a\nid: x\x00y\n\n", []frame{{"", "message", []byte("a")}}},
	} {
		for _, r := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in))} {
			d := newDecoder(r)
			var got []frame
			f, err := d.next()
			for ; err == nil; f, err = d.next() {
				got = append(got, f)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(frame{})); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	d := newDecoder(strings.NewReader("retry: 99999999\n\nretry: x\n\n"))
	if _, err := d.next(); !errors.Is(err, io.EOF) || d.retry != maxPause {
		t.Errorf("retry %s (%v)", d.retry, err)
	}
}

// endless gives one byte without end.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// An event without end is given up at its bound.
func TestDecoderIsBounded(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]io.Reader{
		"a line":  io.MultiReader(strings.NewReader("data: "), endless('x')),
		"a field": io.MultiReader(strings.NewReader("id: "), endless('7')),
		"lines":   &repeat{[]byte("data: " + strings.Repeat("x", 1<<20) + "\n"), 0},
	} {
		if _, err := newDecoder(r).next(); !errors.Is(err, errTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// repeat gives the same bytes again and again.
type repeat struct {
	b  []byte
	at int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}

// FuzzSSEClient: whatever a server sends, the decoder ends, holds its bound, and reads
// the same in pieces.
func FuzzSSEClient(f *testing.F) {
	f.Add([]byte("retry: 2000\n\nid: 1\nevent: a\ndata: {}\n\n"))
	f.Add([]byte("id: 1\r\nevent: a\r\ndata: {}\r\n\r\n"))
	f.Add([]byte("\xef\xbb\xbfdata\n\n:x\rdata:\r\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all := func(r io.Reader) (out []frame) {
			d := newDecoder(r)
			for {
				f, err := d.next()
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("%v", err)
					}
					return out
				}
				if f.name == "" || d.retry < 0 || d.retry > maxPause || len(f.data) > len(raw) {
					t.Errorf("%+v, retry %s", f, d.retry)
				}
				out = append(out, f)
			}
		}
		whole, pieces := all(bytes.NewReader(raw)), all(iotest.OneByteReader(bytes.NewReader(raw)))
		if diff := cmp.Diff(whole, pieces, cmp.AllowUnexported(frame{})); diff != "" {
			t.Error(diff)
		}
	})
}
