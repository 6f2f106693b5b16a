package jetstream_test

import (
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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

// old speaks NATS as a server of another version would, as far as a client hears
// before it knows that. Such a server is not to be had as a module of this one.
func old(t *testing.T, info string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "INFO %s\r\n", info)
			buf := make([]byte, 4096)
			for got := ""; !strings.Contains(got, "PING"); {
				n, err := c.Read(buf)
				if err != nil {
					break
				}
				got += string(buf[:n])
			}
			_, _ = fmt.Fprint(c, "PONG\r\n")
			_, _ = c.Read(buf) // until the client is gone
			_ = c.Close()
		}
	}()
	return "nats://" + l.Addr().String()
}

// What stands in the way of a store is said in a sentence.
func TestRefused(t *testing.T) {
	t.Parallel()
	plain := options(t.TempDir(), 0)
	plain.JetStream = false
	small := options(t.TempDir(), 0)
	small.MaxPayload = 64 << 10
	locked := options(t.TempDir(), 0)
	locked.Users = []*server.User{
		{Username: "reader", Password: "secret", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"other.>"}}}},
	}
	full := options(t.TempDir(), 0)
	lockedURL := start(t, locked).Addr().String()
	for name, c := range map[string]struct {
		cfg  jetstream.Config
		says []string
	}{
		"nobody is there":     {jetstream.Config{URLs: []string{fmt.Sprintf("nats://127.0.0.1:%d", freePort(t))}}, []string{"cannot be reached", "check the URL"}},
		"JetStream is off":    {jetstream.Config{URLs: []string{start(t, plain).ClientURL()}}, []string{"JetStream", "off"}},
		"small messages":      {jetstream.Config{URLs: []string{start(t, small).ClientURL()}}, []string{"max_payload", "65536"}},
		"wrong password":      {jetstream.Config{URLs: []string{"nats://reader:wrong@" + lockedURL}}, []string{"refuses the credentials"}},
		"no permission":       {jetstream.Config{URLs: []string{"nats://reader:secret@" + lockedURL}}, []string{"no permission", "$JS.API"}},
		"an old server":       {jetstream.Config{URLs: []string{old(t, `{"server_id":"x","version":"2.9.1","max_payload":1048576,"headers":true}`)}}, []string{"2.9.1", "2.11"}},
		"too few servers":     {jetstream.Config{URLs: []string{start(t, full).ClientURL()}, Replicas: 3}, []string{"stream gumshoe-journal", "replicas"}},
		"a missing CA":        {jetstream.Config{URLs: []string{"tls://127.0.0.1:1"}, CA: filepath.Join(t.TempDir(), "none.pem")}, []string{"none.pem"}},
		"missing credentials": {jetstream.Config{URLs: []string{start(t, options(t.TempDir(), 0)).ClientURL()}, Credentials: filepath.Join(t.TempDir(), "none.creds")}, []string{"none.creds"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Wait = 3 * time.Second
			s, err := jetstream.Open(t.Context(), c.cfg)
			if err == nil {
				_ = s.Close()
				t.Fatal("it opens")
			}
			for _, w := range c.says {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v does not say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong@") {
				t.Errorf("%v tells a password", err)
			}
		})
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, cfg := range map[string]jetstream.Config{
		"nothing":            {},
		"both":               {Dir: dir, URLs: []string{"nats://a"}},
		"a name with a dot":  {Dir: dir, Name: "a.b"},
		"a name with a star": {Dir: dir, Name: "*"},
		"a long name":        {Dir: dir, Name: strings.Repeat("a", 33)},
		"two replicas":       {URLs: []string{"nats://a"}, Replicas: 2},
		"embedded replicas":  {Dir: dir, Replicas: 3},
		"a bad pattern":      {Dir: dir, Permanent: []string{"plan.*"}},
		"a key alone":        {URLs: []string{"nats://a"}, Key: "k.pem"},
		"a bound below zero": {Dir: dir, OutputBytes: -1},
	} {
		if _, err := jetstream.Open(t.Context(), cfg); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := opened(t, jetstream.Config{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := jetstream.Open(t.Context(), jetstream.Config{Dir: dir, Permanent: []string{"plan.>"}}); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "cannot change") {
		t.Errorf("other permanent subjects: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := jetstream.Open(ctx, jetstream.Config{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	opened(t, jetstream.Config{Dir: dir}) // what was refused does not hold the directory
}

// A store over TLS, with a certificate of its own on both sides.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(raw)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t.TempDir(), 0)
	o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	o.TLSTimeout = 20
	url := "tls://" + start(t, o).Addr().String()
	s := opened(t, jetstream.Config{URLs: []string{url}, CA: cert, Cert: cert, Key: key})
	mustAppend(t, s, "run.a", 0, text("1"))
	want(t, s, "run.a", "1")
	if _, err := jetstream.Open(t.Context(), jetstream.Config{URLs: []string{url}}); err == nil {
		t.Error("a server that nobody vouches for is trusted")
	}
	if _, err := jetstream.Open(t.Context(), jetstream.Config{URLs: []string{url}, CA: cert}); err == nil {
		t.Error("a client without a certificate is let in")
	}
}

func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
