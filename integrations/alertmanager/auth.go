package alertmanager

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Headers of a signed request: the time in seconds since 1970, and "v1=" with the hex
// HMAC-SHA256 of that time, a dot and the body.
const (
	HeaderTimestamp = "X-Gumshoe-Timestamp"
	HeaderSignature = "X-Gumshoe-Signature"
)

const (
	// window is how far the time of a signature may be from this clock.
	window = 5 * time.Minute
	// remembered bounds the signatures that are kept to refuse a second use.
	remembered = 50_000
)

// denied is why a request is not let in, with the status it is answered with.
type denied struct {
	status int
	why    string
}

func (d denied) Error() string { return d.why }

// guard lets in who knows a secret. Without any secret it lets in this machine.
type guard struct {
	cfg AuthConfig
	now func() time.Time

	mu   sync.Mutex
	seen map[[sha256.Size]byte]struct{}
	// order holds them by age, to forget the oldest.
	order []seenAt
}

type seenAt struct {
	sum [sha256.Size]byte
	at  time.Time
}

func newGuard(cfg AuthConfig, now func() time.Time) *guard {
	return &guard{cfg: cfg, now: now, seen: map[[sha256.Size]byte]struct{}{}}
}

func (c AuthConfig) any() bool {
	return c.BearerTokenFile != "" || c.PasswordFile != "" || c.HMACSecretFile != ""
}

// before judges what can be judged without the body, so that a stranger's body is
// not read. signed says that the signature is still to be checked.
func (g *guard) before(r *http.Request) (signed bool, err error) {
	if !g.cfg.any() {
		return false, local(r)
	}
	if auth := r.Header.Get("Authorization"); auth != "" {
		token, bearer := strings.CutPrefix(auth, "Bearer ")
		user, password, basic := r.BasicAuth()
		switch {
		case bearer && g.cfg.BearerTokenFile != "":
			return false, match(g.cfg.BearerTokenFile, "", token)
		case basic && g.cfg.PasswordFile != "":
			return false, match(g.cfg.PasswordFile, g.cfg.Username+":", user+":"+password)
		}
	}
	if g.cfg.HMACSecretFile != "" && r.Header.Get(HeaderSignature) != "" {
		return true, nil
	}
	return false, denied{http.StatusUnauthorized, "the request carries no credentials that this webhook takes; set http_config.authorization or basic_auth of the receiver, or sign the body"}
}

// match compares what was sent with what a file holds, in constant time.
func match(file, prefix, sent string) error {
	want, err := secret(file)
	if err != nil {
		return err
	}
	a, b := sha256.Sum256([]byte(prefix+string(want))), sha256.Sum256([]byte(sent))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return denied{http.StatusUnauthorized, "the credentials are not those of this webhook"}
	}
	return nil
}

// maxSecret is the largest file of a secret, in bytes.
const maxSecret = 64 << 10

// secret reads the secret that a file holds, without the line end. An empty one lets
// nobody in.
func secret(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxSecret)
	}
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("a secret cannot be read: %w", err)
	}
	s := strings.TrimRight(string(raw), "\r\n")
	if s == "" {
		return nil, fmt.Errorf("the secret in %s is empty", file)
	}
	return []byte(s), nil
}

// local lets in what comes from this machine and from no page of another site.
func local(r *http.Request) error {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	addr, perr := netip.ParseAddr(host)
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	haddr, herr := netip.ParseAddr(name)
	loopback := strings.EqualFold(name, "localhost") || herr == nil && haddr.IsLoopback()
	if err != nil || perr != nil || !addr.Unmap().IsLoopback() || !loopback || r.Header.Get("Origin") != "" || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return denied{http.StatusForbidden, "no secret is configured for alerts, so they are taken from this machine only; set alertmanager.auth"}
	}
	return nil
}

// signature checks the signature of a body. The caller remembers it once what the body
// says is kept: a sender that was not answered may send it again.
func (g *guard) signature(r *http.Request, body []byte) (sum [sha256.Size]byte, err error) {
	no := func(status int, format string, args ...any) ([sha256.Size]byte, error) {
		return sum, denied{status, fmt.Sprintf(format, args...)}
	}
	stamp := r.Header.Get(HeaderTimestamp)
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return no(http.StatusUnauthorized, "%s is not a time in seconds", HeaderTimestamp)
	}
	given, found := strings.CutPrefix(r.Header.Get(HeaderSignature), "v1=")
	got, err := hex.DecodeString(given)
	if err != nil || !found {
		return no(http.StatusUnauthorized, "%s is not \"v1=\" and hex digits", HeaderSignature)
	}
	key, err := secret(g.cfg.HMACSecretFile)
	if err != nil {
		return sum, err
	}
	want := sign(key, stamp, body)
	if !hmac.Equal(got, want) {
		return no(http.StatusUnauthorized, "the signature is not that of this body and time")
	}
	now := g.now()
	if d := now.Sub(time.Unix(sec, 0)); d > window || d < -window {
		return no(http.StatusUnauthorized, "the signature is %s away from this clock, at most %s are taken; check the clocks", d.Abs().Round(time.Second), window)
	}
	copy(sum[:], want)
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, twice := g.seen[sum]; twice {
		return no(http.StatusConflict, "this signed request was taken already")
	}
	return sum, nil
}

// remember refuses a signature from now on. The set is bounded: what is pushed out of
// it, or lost with the process, is refused by the journal, which takes each delivery
// once.
func (g *guard) remember(sum [sha256.Size]byte) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.order) > 0 && (len(g.order) >= remembered || now.Sub(g.order[0].at) > 2*window) {
		delete(g.seen, g.order[0].sum)
		g.order = g.order[1:]
	}
	g.seen[sum] = struct{}{}
	g.order = append(g.order, seenAt{sum, now})
}

// sign gives the HMAC of a body at a time.
func sign(key []byte, stamp string, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(stamp))
	m.Write([]byte{'.'})
	m.Write(body)
	return m.Sum(nil)
}

// signedHeaders are the headers of a body that is sent now.
func signedHeaders(h http.Header, key, body []byte, now time.Time) {
	stamp := strconv.FormatInt(now.Unix(), 10)
	h.Set(HeaderTimestamp, stamp)
	h.Set(HeaderSignature, "v1="+hex.EncodeToString(sign(key, stamp, body)))
}

// asDenied gives the refusal in an error.
func asDenied(err error) (denied, bool) { return errors.AsType[denied](err) }
