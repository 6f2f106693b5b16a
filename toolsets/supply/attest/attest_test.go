package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/supply/attest"
)

const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

var statement = fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","subject":[{"name":"x","digest":{"sha256":"%s"}}],"predicate":{"spdxVersion":"SPDX-2.3"}}`, digest[7:])

func public(t *testing.T, k crypto.PublicKey) attest.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	out, err := attest.ParseKey("release", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sign(t *testing.T, key crypto.Signer, message []byte) string {
	t.Helper()
	var opts crypto.SignerOpts = crypto.SHA256
	sum := sha256.Sum256(message)
	in := sum[:]
	if _, ok := key.(ed25519.PrivateKey); ok {
		opts, in = crypto.Hash(0), message
	}
	sig, err := key.Sign(rand.Reader, in, opts)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(sig)
}

func envelope(t *testing.T, key crypto.Signer, payload string) string {
	t.Helper()
	kind := attest.PayloadInToto
	message := fmt.Sprintf("DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
	raw, err := json.Marshal(map[string]any{"payloadType": kind, "payload": base64.StdEncoding.EncodeToString([]byte(payload)), "signatures": []any{map[string]string{"keyid": "k", "sig": sign(t, key, []byte(message))}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func keys(t *testing.T) []crypto.Signer {
	t.Helper()
	a, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, b, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return []crypto.Signer{a, b, c}
}

func TestEnvelopeOfEachKey(t *testing.T) {
	t.Parallel()
	all := keys(t)
	for i, k := range all {
		r, err := attest.Parse([]byte(envelope(t, k, statement)), []attest.Key{public(t, k.Public())})
		if err != nil || len(r.Signatures) != 1 || !r.Signatures[0].Verified() || r.Signatures[0].By != "release" {
			t.Fatalf("%T: %+v %v", k, r.Signatures, err)
		}
		if !r.Statement.IsSBOM() || !r.Statement.About(digest) || r.Statement.About("sha256:22") || r.Statement.About("") {
			t.Errorf("%+v", r.Statement)
		}
		other := all[(i+1)%len(all)]
		r, err = attest.Parse([]byte(envelope(t, k, statement)), []attest.Key{public(t, other.Public())})
		if err != nil || r.Signatures[0].Verified() || !strings.Contains(r.Signatures[0].Problem, "none of the 1 configured keys") {
			t.Errorf("another key verifies: %+v %v", r.Signatures, err)
		}
		r, err = attest.Parse([]byte(envelope(t, k, statement)), nil)
		if err != nil || r.Signatures[0].Problem != "no key is configured to verify it" {
			t.Errorf("%+v %v", r.Signatures, err)
		}
		forged := strings.Replace(envelope(t, k, statement), base64.StdEncoding.EncodeToString([]byte(statement)), base64.StdEncoding.EncodeToString([]byte(strings.Replace(statement, "1111", "2222", 1))), 1)
		r, err = attest.Parse([]byte(forged), []attest.Key{public(t, k.Public())})
		if err != nil || r.Signatures[0].Verified() {
			t.Errorf("%T: a forged statement verifies", k)
		}
	}
}

// certificate makes one like Fulcio's for a workflow.
func certificate(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	id, err := url.Parse("https://git.example.com/ml/serve/.github/workflows/release.yml@refs/tags/v1")
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), URIs: []*url.URL{id},
		ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte("https://token.example.com")}}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeylessIsNeverCalledVerified(t *testing.T) {
	t.Parallel()
	k, other := keys(t)[0], keys(t)[0]
	wrap := func(der []byte, env string) []byte {
		return fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"%s"}},"dsseEnvelope":%s}`, base64.StdEncoding.EncodeToString(der), env)
	}
	r, err := attest.Parse(wrap(certificate(t, k), envelope(t, k, statement)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Signatures[0]
	if s.Verified() || !s.Intact || !strings.Contains(s.Identity, "release.yml") || s.Issuer != "https://token.example.com" || !strings.Contains(s.Problem, "not verified") {
		t.Errorf("%+v", s)
	}
	r, err = attest.Parse(wrap(certificate(t, other), envelope(t, k, statement)), nil)
	if err != nil || r.Signatures[0].Intact || !strings.Contains(r.Signatures[0].Problem, "does not fit") {
		t.Errorf("%+v %v", r.Signatures, err)
	}
	r, err = attest.Parse([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"ERE="},"signature":"AA=="}}`), nil)
	if err != nil || r.Statement != nil || r.Signatures[0].Of != "sha256:1111" || r.Signatures[0].Problem == "" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestSimpleSigning(t *testing.T) {
	t.Parallel()
	k := keys(t)[0]
	payload := []byte(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"cosign container image signature"},"optional":null}`)
	trusted := []attest.Key{public(t, k.Public())}
	if s := attest.Simple(payload, sign(t, k, payload), "", digest, trusted); !s.Verified() {
		t.Errorf("%+v", s)
	}
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate(t, k)}))
	if s := attest.Simple(payload, sign(t, k, payload), certPEM, digest, nil); s.Verified() || !s.Intact {
		t.Errorf("%+v", s)
	}
	for name, s := range map[string]attest.Signature{
		"another image":   attest.Simple(payload, sign(t, k, payload), "", "sha256:22", trusted),
		"no base64":       attest.Simple(payload, "%%", "", digest, trusted),
		"no payload":      attest.Simple([]byte("{}"), "", "", digest, trusted),
		"a changed text":  attest.Simple([]byte(strings.Replace(string(payload), `"x"`, `"y"`, 1)), sign(t, k, payload), "", digest, trusted),
		"an empty answer": attest.Simple(nil, "", "", digest, nil),
	} {
		if s.Verified() || s.Problem == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestProvenance(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind, predicate string
		want            attest.Provenance
	}{
		"SLSA 1 of a workflow": {"https://slsa.dev/provenance/v1", `{"buildDefinition":{"buildType":"t","externalParameters":{"workflow":{"repository":"https://git.example.com/r","ref":"refs/tags/v1"}},"resolvedDependencies":[{"uri":"git+https://git.example.com/r@refs/tags/v1","digest":{"gitCommit":"abc"}}]},"runDetails":{"builder":{"id":"b"},"metadata":{"startedOn":"now"}}}`,
			attest.Provenance{Builder: "b", BuildType: "t", Source: "https://git.example.com/r", Revision: "abc", Started: "now", Materials: 1}},
		"SLSA 0.2 of BuildKit": {"https://slsa.dev/provenance/v0.2", `{"builder":{"id":"b"},"buildType":"bk","invocation":{"configSource":{"entryPoint":"Dockerfile"}},"materials":[{"uri":"pkg:docker/nvidia/cuda@12.8?platform=linux%2Famd64","digest":{"sha256":"a"}}],"metadata":{"https://mobyproject.org/buildkit@v1#metadata":{"vcs":{"source":"https://git.example.com/r","revision":"def"}}}}`,
			attest.Provenance{Builder: "b", BuildType: "bk", Source: "https://git.example.com/r", Revision: "def", Materials: 1, Bases: []string{"pkg:docker/nvidia/cuda@12.8"}}},
		"nothing": {"https://slsa.dev/provenance/v1", `{}`, attest.Provenance{}},
	} {
		s := attest.Statement{PredicateType: tc.kind, Predicate: json.RawMessage(tc.predicate)}
		got, err := attest.ParseProvenance(s)
		if err != nil || !s.IsProvenance() {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := attest.ParseProvenance(attest.Statement{Predicate: json.RawMessage(`[]`)}); err == nil {
		t.Error("a list is no provenance")
	}
}

func TestKeysAndBlobsThatAreNone(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "no PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n": "no public key"} {
		if _, err := attest.ParseKey("k", []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	for _, in := range []string{"", "[]", "{}", `{"payloadType":"x","payload":"%%"}`, `{"payloadType":"x","payload":"e30="}`, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`} {
		r, err := attest.Parse([]byte(in), nil)
		if err == nil && (len(r.Signatures) > 0 || r.Statement != nil && r.Statement.PredicateType != "") {
			t.Errorf("%q: %+v", in, r)
		}
	}
	if r, err := attest.Parse([]byte(statement), nil); err != nil || len(r.Signatures) != 0 || !r.Statement.IsSBOM() {
		t.Errorf("a bare statement: %+v %v", r, err)
	}
}

func FuzzAttestation(f *testing.F) {
	f.Add([]byte(statement))
	f.Add([]byte(`{"payloadType":"x","payload":"e30=","signatures":[{"sig":"AA=="}]}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"AA=="}},"dsseEnvelope":{"payload":"e30="}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := attest.Parse(raw, nil)
		if err != nil {
			return
		}
		for _, s := range r.Signatures {
			if s.Verified() {
				t.Fatal("verified without a key")
			}
		}
		if r.Statement != nil {
			_, _ = attest.ParseProvenance(*r.Statement)
		}
		attest.Simple(raw, "AA==", string(raw), digest, nil)
	})
}
