// Package approval makes and judges the word of a person about a plan. An approval
// is bound to the digest of the plan, names the person, ends by itself, counts once,
// and is signed, so that who executes need not trust where it was kept.
package approval

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Signer signs with a key that it need not show: a file, or a key service.
type Signer interface {
	// Sign gives a pure Ed25519 signature of the payload (RFC 8032) and the id of the
	// key, which is KeyID of its public half.
	Sign(ctx context.Context, payload []byte) (sig []byte, keyID string, err error)
}

// maxKey is the largest key file, in bytes.
const maxKey = 16 << 10

// PEM types of keys.
const (
	privateType = "PRIVATE KEY"
	publicType  = "PUBLIC KEY"
)

// Key is an Ed25519 key at hand.
type Key struct {
	private ed25519.PrivateKey
	id      string
}

var _ Signer = (*Key)(nil)

// KeyID names a public key: the first 16 hex digits of the SHA-256 of its 32 bytes.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// NewKey makes a key that is kept nowhere.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return keyOf(private)
}

func keyOf(private ed25519.PrivateKey) (*Key, error) {
	pub, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("signing key: it is no Ed25519 key")
	}
	return &Key{private: private, id: KeyID(pub)}, nil
}

// ID is KeyID of the public half.
func (k *Key) ID() string { return k.id }

// Public is the public half.
func (k *Key) Public() ed25519.PublicKey {
	return ed25519.PublicKey(slices.Clone(k.private[ed25519.SeedSize:]))
}

// Sign implements Signer.
func (k *Key) Sign(_ context.Context, payload []byte) ([]byte, string, error) {
	return ed25519.Sign(k.private, payload), k.id, nil
}

// CreateKey makes a key and keeps it in a new file that only its owner can read,
// PKCS#8 in PEM. The directory is made as needed. The error is fs.ErrExist when the
// file is there; nothing is ever written over.
func CreateKey(path string) (*Key, error) {
	k, err := NewKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	// The key appears under its name whole or not at all, also when another process
	// makes one in the same moment: a link is never made over a file.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // with mode 0600
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := errors.Join(pem.Encode(tmp, &pem.Block{Type: privateType, Bytes: der}), tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return k, nil
}

// OpenKey reads a key file. A file that others than its owner can read or change is
// refused; with group, the group may read it, as it does where Kubernetes mounts a
// Secret for a process that is not root.
func OpenKey(path string, group bool) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat() // of the open file: what is checked is what is read
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	forbidden := fs.FileMode(0o077)
	if group {
		forbidden = 0o037
	}
	switch {
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("signing key %s is no file", path)
	case st.Mode().Perm()&forbidden != 0:
		return nil, fmt.Errorf("signing key %s has mode %04o: others can get at it; take their rights away with chmod 600, or make a new key if they may have read it", path, st.Mode().Perm())
	case st.Size() > maxKey:
		return nil, fmt.Errorf("signing key %s has %d bytes, at most %d are read", path, st.Size(), maxKey)
	}
	raw := make([]byte, st.Size())
	if _, err := f.ReadAt(raw, 0); err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	k, err := parsePrivate(raw)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	return k, nil
}

func parsePrivate(raw []byte) (*Key, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != privateType {
		return nil, errors.New("it holds no PEM block of the type " + privateType + " (PKCS#8); openssl genpkey -algorithm ed25519 makes one")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a %T, not an Ed25519 key", parsed)
	}
	return keyOf(private)
}

// Keys are the public keys whose signatures count, by id. The zero value trusts none.
type Keys struct{ byID map[string]ed25519.PublicKey }

// NewKeys trusts the given keys.
func NewKeys(pub ...ed25519.PublicKey) *Keys {
	k := &Keys{byID: map[string]ed25519.PublicKey{}}
	for _, p := range pub {
		if len(p) == ed25519.PublicKeySize {
			k.byID[KeyID(p)] = slices.Clone(p)
		}
	}
	return k
}

// ParseKeys reads public keys from PEM blocks (PKIX), one or several.
func ParseKeys(raw []byte) ([]ed25519.PublicKey, error) {
	var out []ed25519.PublicKey
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			break
		}
		raw = rest
		if block.Type != publicType {
			return nil, fmt.Errorf("a PEM block of the type %q is no %s", block.Type, publicType)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		pub, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("a %T is no Ed25519 key", parsed)
		}
		out = append(out, pub)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no PEM block of the type " + publicType)
	}
	return out, nil
}

// EncodeKey writes a public key as PEM (PKIX).
func EncodeKey(pub ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: der}), nil
}

// IDs lists the trusted keys, sorted.
func (k *Keys) IDs() []string {
	var out []string
	if k != nil {
		for id := range k.byID {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Errors of Verify.
var (
	// ErrUntrusted: the key is none of those that are trusted.
	ErrUntrusted = errors.New("the key is not trusted")
	// ErrForged: the signature is not the trusted key's over these bytes.
	ErrForged = errors.New("the signature does not fit what it stands under")
)

// Verify checks a signature.
func (k *Keys) Verify(keyID string, payload, sig []byte) error {
	if k == nil || k.byID[keyID] == nil {
		return fmt.Errorf("key %q: %w", keyID, ErrUntrusted)
	}
	if !ed25519.Verify(k.byID[keyID], payload, sig) {
		return fmt.Errorf("key %q: %w", keyID, ErrForged)
	}
	return nil
}
