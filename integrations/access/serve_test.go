package access

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// listen gives a listener of this machine.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("this machine does not listen on %s: %v", address, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve runs a gate until the function it gives is called, which gives Serve's error.
func serve(t *testing.T, g *Gate, l net.Listener, routes []Route) (end func() error) {
	t.Helper()
	h := mux(t, g, routes)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, l, h) }()
	end = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = end() })
	return end
}

func TestServeRefusesTheNetworkWithoutAuthentication(t *testing.T) {
	t.Parallel()
	g := newGate(t, Config{})
	h := mux(t, g, surface())
	for _, address := range []string{"0.0.0.0:0", "[::]:0"} {
		err := g.Serve(t.Context(), listen(t, address), h)
		if err == nil || !strings.Contains(err.Error(), "loopback only") || !strings.Contains(err.Error(), "server.auth") {
			t.Errorf("%s: %v", address, err)
		}
	}
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Serve(t.Context(), socket, h); err == nil {
		t.Error("a socket of the file system is served: whoever may open it is nobody's to say")
	}
	l := listen(t, "127.0.0.1:0")
	end := serve(t, g, l, surface())
	b := newBrowser(t, "http://"+l.Addr().String())
	if resp, body := b.do(t, "GET", "/api/admin", nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"Local":true`) {
		t.Errorf("loopback: %d %s", resp.StatusCode, body)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeOnTheNetworkWithAuthentication(t *testing.T) {
	t.Parallel()
	cfg := crew(t, newClock())
	g := newGate(t, cfg)
	l := listen(t, "0.0.0.0:0")
	end := serve(t, g, l, surface())
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, "http://127.0.0.1:"+port)
	if resp, _ := b.do(t, "GET", "/api/viewer", nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("this machine needs no sign-in: %d", resp.StatusCode)
	}
	if resp, _ := b.do(t, "GET", "/api/viewer", nil, "Authorization", "Bearer "+tokenOf("viewer")); resp.StatusCode != http.StatusOK {
		t.Errorf("with a token: %d", resp.StatusCode)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestBoundsOfAConnection(t *testing.T) {
	t.Parallel()
	srv := newGate(t, Config{}).server(http.NotFoundHandler())
	if srv.ReadHeaderTimeout != 10*time.Second || srv.ReadTimeout != time.Minute || srv.WriteTimeout != time.Minute || srv.IdleTimeout != 2*time.Minute || srv.MaxHeaderBytes != 32<<10 {
		t.Errorf("a slow client may hold a connection: %+v", srv)
	}
	l := listen(t, "127.0.0.1:0")
	serve(t, newGate(t, Config{}), l, surface())
	b := newBrowser(t, "http://"+l.Addr().String())
	if resp, _ := b.do(t, "GET", "/healthz", nil, "X-Long", strings.Repeat("x", 64<<10)); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %d", resp.StatusCode)
	}
}

// TestDrain: a request that runs is waited for, a stream is told, and both see the end.
func TestDrain(t *testing.T) {
	t.Parallel()
	started, release := make(chan string, 2), make(chan struct{})
	routes := []Route{
		{Method: "GET", Pattern: "/api/long", Role: Viewer, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			started <- "long"
			<-release
			if r.Context().Err() != nil {
				http.Error(w, "cut off", http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, "whole")
		})},
		{Method: "GET", Pattern: "/api/events", Role: Viewer, Stream: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "data: 1\n\n")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			started <- "events"
			<-r.Context().Done()
			fmt.Fprint(w, "data: bye\n\n")
			close(release)
		})},
	}
	g := newGate(t, Config{})
	l := listen(t, "127.0.0.1:0")
	end := serve(t, g, l, routes)
	at := "http://" + l.Addr().String()
	bodies := make(chan string, 2)
	for _, path := range []string{"/api/long", "/api/events"} {
		b := newBrowser(t, at)
		go func() {
			resp, err := b.Get(at + path)
			if err != nil {
				bodies <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				body = append(body, err.Error()...)
			}
			bodies <- string(body)
		}()
	}
	<-started
	<-started
	if err := end(); err != nil {
		t.Error(err)
	}
	got := []string{<-bodies, <-bodies}
	slices.Sort(got)
	if got[0] != "data: 1\n\ndata: bye\n\n" || got[1] != "whole" {
		t.Errorf("the clients read %q", got)
	}
}

func TestDrainHasAnEnd(t *testing.T) {
	t.Parallel()
	started, ended := make(chan struct{}), make(chan error, 1)
	g := newGate(t, Config{DrainTimeout: Duration(time.Millisecond)})
	l := listen(t, "127.0.0.1:0")
	end := serve(t, g, l, []Route{{Method: "GET", Pattern: "/api/stuck", Role: Viewer, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		ended <- r.Context().Err()
	})}})
	b := newBrowser(t, "http://"+l.Addr().String())
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		if resp, err := b.Get(b.at + "/api/stuck"); err == nil {
			resp.Body.Close()
		}
	}()
	<-started
	if err := end(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the request that was stuck: %v", err)
	}
	<-failed
}

// TestCutOffAnswers: a handler that panics after it began leaves no whole answer.
func TestCutOffAnswers(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]any{"boom": "boom", "abort": http.ErrAbortHandler} {
		l := listen(t, "127.0.0.1:0")
		serve(t, newGate(t, Config{}), l, []Route{{Method: "GET", Pattern: "/api/half", Role: Viewer, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(p)
		})}})
		b := newBrowser(t, "http://"+l.Addr().String())
		resp, err := b.Get(b.at + "/api/half")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: the answer looks whole: %q", name, body)
		}
		resp.Body.Close()
	}
}

// deadlines is a listener that notes the deadlines of its connections.
type deadlines struct {
	net.Listener
	mu          sync.Mutex
	read, write []time.Time
}

type notedConn struct {
	net.Conn
	l *deadlines
}

func (l *deadlines) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &notedConn{c, l}, nil
}

func (c *notedConn) SetReadDeadline(t time.Time) error {
	c.l.mu.Lock()
	c.l.read = append(c.l.read, t)
	c.l.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *notedConn) SetWriteDeadline(t time.Time) error {
	c.l.mu.Lock()
	c.l.write = append(c.l.write, t)
	c.l.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

// TestDeadlinesOfAStream: between its writes a stream has none, and each write has one.
func TestDeadlinesOfAStream(t *testing.T) {
	t.Parallel()
	l := &deadlines{Listener: listen(t, "127.0.0.1:0")}
	more := make(chan struct{})
	serve(t, newGate(t, Config{}), l, []Route{{Method: "POST", Pattern: "/api/events", Role: Viewer, Stream: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f, ok := w.(http.Flusher)
		if !ok {
			t.Error("a stream cannot flush")
			return
		}
		l.mu.Lock()
		if n := len(l.read); n == 0 || !l.read[n-1].IsZero() {
			t.Errorf("deadlines of reading: %v", l.read)
		}
		if n := len(l.write); n == 0 || !l.write[n-1].IsZero() {
			t.Errorf("deadlines of writing: %v", l.write)
		}
		l.write = nil
		l.mu.Unlock()
		fmt.Fprintf(w, "%s\n", body)
		f.Flush()
		l.mu.Lock()
		if len(l.write) != 4 || l.write[0].IsZero() || !l.write[1].IsZero() || l.write[2].IsZero() || !l.write[3].IsZero() {
			t.Errorf("deadlines of a write and a flush: %v", l.write)
		}
		l.mu.Unlock()
		<-more
		fmt.Fprint(w, "more\n")
	})}})
	b := newBrowser(t, "http://"+l.Addr().String())
	resp, err := b.Post(b.at+"/api/events", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "hello" {
		t.Errorf("first %q %v", lines.Text(), lines.Err())
	}
	close(more)
	if !lines.Scan() || lines.Text() != "more" {
		t.Errorf("then %q %v", lines.Text(), lines.Err())
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{next: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue gives a certificate for 127.0.0.1, as server and as client, and its key.
func (a *authority) issue(t *testing.T) (cert, key string) {
	t.Helper()
	a.next++
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: "gumshoe"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestTLSWithCertificatesThatChange(t *testing.T) {
	t.Parallel()
	c := newClock()
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	cfg := crew(t, c)
	cfg.TLS = TLSConfig{CertFile: write(t, "tls.crt", cert), KeyFile: write(t, "tls.key", key)}
	l := listen(t, "127.0.0.1:0")
	end := serve(t, newGate(t, cfg), l, surface())
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	// serial asks over a new connection and gives the number of the certificate.
	serial := func() (int64, *http.Response) {
		t.Helper()
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), resp
	}
	if n, resp := serial(); n != 2 || resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Fatalf("certificate %d, HTTP/%d, %d", n, resp.ProtoMajor, resp.StatusCode)
	}
	if _, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	// A certificate without its key, as between two writes, changes nothing.
	cert, key = ca.issue(t)
	overwrite(t, cfg.TLS.CertFile, cert)
	c.add(certificateCheck)
	if n, _ := serial(); n != 2 {
		t.Errorf("a half-replaced pair serves certificate %d", n)
	}
	overwrite(t, cfg.TLS.KeyFile, key)
	c.add(certificateCheck)
	if n, _ := serial(); n != 3 {
		t.Errorf("the new pair was not taken: certificate %d", n)
	}
	if err := os.Remove(cfg.TLS.CertFile); err != nil {
		t.Fatal(err)
	}
	c.add(certificateCheck)
	if n, _ := serial(); n != 3 {
		t.Errorf("without its file: certificate %d", n)
	}
	cert, key = ca.issue(t)
	overwrite(t, cfg.TLS.CertFile, cert)
	overwrite(t, cfg.TLS.KeyFile, key)
	c.add(certificateCheck)
	if n, _ := serial(); n != 4 {
		t.Errorf("after it came back: certificate %d", n)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	c := newClock()
	ca, others := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(t)
	cfg := crew(t, c)
	cfg.TLS = TLSConfig{CertFile: write(t, "tls.crt", cert), KeyFile: write(t, "tls.key", key), ClientCAFile: write(t, "ca.crt", certPEM(ca.cert))}
	l := listen(t, "127.0.0.1:0")
	serve(t, newGate(t, cfg), l, surface())
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	get := func(show *authority) (int, error) {
		conf := &tls.Config{RootCAs: pool}
		if show != nil {
			cert, key := show.issue(t)
			pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
			if err != nil {
				t.Fatal(err)
			}
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		tr := &http.Transport{TLSClientConfig: conf}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String() + "/api/viewer")
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	if got, err := get(ca); err != nil || got != http.StatusUnauthorized {
		t.Errorf("a certificate is no sign-in: %d %v", got, err)
	}
	for what, a := range map[string]*authority{"none": nil, "another authority's": others} {
		if got, err := get(a); err == nil {
			t.Errorf("%s: %d", what, got)
		}
	}
	// The authorities change while it serves.
	overwrite(t, cfg.TLS.ClientCAFile, certPEM(others.cert))
	c.add(certificateCheck)
	if got, err := get(others); err != nil || got != http.StatusUnauthorized {
		t.Errorf("the new authority's: %d %v", got, err)
	}
	if got, err := get(ca); err == nil {
		t.Errorf("the one before: %d", got)
	}
}
