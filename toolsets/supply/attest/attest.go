// Package attest reads what is said about an image: DSSE envelopes, in-toto
// statements, SLSA provenance, cosign's signatures and Sigstore bundles. It verifies
// signatures against public keys that the user names. It does not verify
// certificates of a keyless signature against a root, nor a transparency log: what it
// finds there is reported as not verified. It is pure.
package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Media types and predicate types of what is read.
const (
	PayloadInToto  = "application/vnd.in-toto+json"
	SimpleSigning  = "application/vnd.dev.cosign.simplesigning.v1+json"
	BundlePrefix   = "application/vnd.dev.sigstore.bundle"
	SignatureNote  = "dev.cosignproject.cosign/signature"
	CertNote       = "dev.sigstore.cosign/certificate"
	provenanceBase = "https://slsa.dev/provenance/"
)

// Key is a public key that the user trusts.
type Key struct {
	Name string
	key  crypto.PublicKey
}

// ParseKey reads a PEM public key: ECDSA, RSA or Ed25519.
func ParseKey(name string, raw []byte) (Key, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return Key{}, fmt.Errorf("key %s holds no PEM block", name)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("key %s is no public key: %w", name, err)
	}
	switch k.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		return Key{Name: name, key: k}, nil
	}
	return Key{}, fmt.Errorf("key %s is a %T; ECDSA, RSA and Ed25519 are verified", name, k)
}

// verify checks a signature over a message, hashed with SHA-256 as cosign does.
func verify(pub crypto.PublicKey, message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil ||
			rsa.VerifyPSS(k, crypto.SHA256, sum[:], sig, nil) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	}
	return false
}

// Signature is what is known of one signature.
type Signature struct {
	// By names the key that verifies it, empty when none does.
	By string `json:"verified_by,omitempty"`
	// Identity and Issuer are those of the certificate of a keyless signature.
	Identity string `json:"identity,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	// Intact says that the signature fits the key in its own certificate: that shows
	// that nothing was altered, not who signed.
	Intact bool `json:"intact,omitempty"`
	// Problem says why it is not verified, empty when it is.
	Problem string `json:"problem,omitempty"`
	// Of is what was signed: the digest of an image, or the type of a statement.
	Of string `json:"of"`
}

// Verified reports whether a key of the user's verifies the signature.
func (s Signature) Verified() bool { return s.By != "" }

// Statement is an in-toto statement.
type Statement struct {
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
	Subject       []struct {
		Name   string            `json:"name"`
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// About reports whether the statement is about a digest ("sha256:...").
func (s Statement) About(digest string) bool {
	algo, hash, ok := strings.Cut(digest, ":")
	return ok && slices.ContainsFunc(s.Subject, func(x struct {
		Name   string            `json:"name"`
		Digest map[string]string `json:"digest"`
	}) bool {
		return strings.EqualFold(x.Digest[algo], hash)
	})
}

// IsSBOM and IsProvenance tell the statements that are read.
func (s Statement) IsSBOM() bool {
	return strings.HasPrefix(s.PredicateType, "https://spdx.dev/Document") || strings.HasPrefix(s.PredicateType, "https://cyclonedx.org/bom") || s.PredicateType == "https://spdx.dev/Document"
}

// IsProvenance reports whether the statement is SLSA provenance.
func (s Statement) IsProvenance() bool { return strings.HasPrefix(s.PredicateType, provenanceBase) }

// Envelope is a DSSE envelope.
type Envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     string `json:"payload"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	} `json:"signatures"`
}

// pae is the pre-authentication encoding of DSSE, version 1.
func pae(kind string, payload []byte) []byte {
	var b bytes.Buffer
	b.WriteString("DSSEv1 " + strconv.Itoa(len(kind)) + " " + kind + " " + strconv.Itoa(len(payload)) + " ")
	b.Write(payload)
	return b.Bytes()
}

// bundle is the part of a Sigstore bundle that is read (protobuf-specs, JSON form).
type bundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		Certificate *raw `json:"certificate"`
		Chain       *struct {
			Certificates []raw `json:"certificates"`
		} `json:"x509CertificateChain"`
		PublicKey *struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	} `json:"verificationMaterial"`
	Envelope *Envelope `json:"dsseEnvelope"`
	Message  *struct {
		Digest struct {
			Algorithm string `json:"algorithm"`
			Digest    string `json:"digest"`
		} `json:"messageDigest"`
		Signature string `json:"signature"`
	} `json:"messageSignature"`
}

type raw struct {
	RawBytes string `json:"rawBytes"`
}

// Read is what a blob says: a statement with its signatures, or only a signature of
// the image.
type Read struct {
	Statement  *Statement
	Signatures []Signature
}

// Parse reads a blob that may be a Sigstore bundle, a DSSE envelope or a bare in-toto
// statement (which carries no signature, as BuildKit attaches it).
func Parse(blob []byte, keys []Key) (Read, error) {
	var b bundle
	if err := json.Unmarshal(blob, &b); err != nil {
		return Read{}, fmt.Errorf("attestation: %w", err)
	}
	if strings.HasPrefix(b.MediaType, BundlePrefix) {
		return b.read(keys)
	}
	var e Envelope
	if err := json.Unmarshal(blob, &e); err == nil && e.PayloadType != "" && e.Payload != "" {
		return e.read(keys, nil)
	}
	var s Statement
	if err := json.Unmarshal(blob, &s); err != nil || s.PredicateType == "" {
		return Read{}, errors.New("attestation: neither a Sigstore bundle nor a DSSE envelope nor an in-toto statement")
	}
	return Read{Statement: &s}, nil
}

func (b bundle) read(keys []Key) (Read, error) {
	var cert *x509.Certificate
	der := ""
	switch {
	case b.Material.Certificate != nil:
		der = b.Material.Certificate.RawBytes
	case b.Material.Chain != nil && len(b.Material.Chain.Certificates) > 0:
		der = b.Material.Chain.Certificates[0].RawBytes
	}
	if der != "" {
		if rawDER, err := base64.StdEncoding.DecodeString(der); err == nil {
			cert, _ = x509.ParseCertificate(rawDER)
		}
	}
	switch {
	case b.Envelope != nil:
		return b.Envelope.read(keys, cert)
	case b.Message != nil:
		sig := Signature{Of: "sha256:" + b.Message.Digest.Digest}
		if d, err := base64.StdEncoding.DecodeString(b.Message.Digest.Digest); err == nil {
			sig.Of = "sha256:" + hex.EncodeToString(d)
		}
		sig.Problem = "the bundle signs a digest of bytes that are not at hand"
		return Read{Signatures: []Signature{identified(sig, cert)}}, nil
	}
	return Read{}, errors.New("attestation: the Sigstore bundle holds neither an envelope nor a signature")
}

func (e Envelope) read(keys []Key, cert *x509.Certificate) (Read, error) {
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		return Read{}, fmt.Errorf("attestation: payload: %w", err)
	}
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return Read{}, fmt.Errorf("attestation: statement: %w", err)
	}
	out := Read{Statement: &s}
	message := pae(e.PayloadType, payload)
	for _, one := range e.Signatures {
		sig, err := base64.StdEncoding.DecodeString(one.Sig)
		if err != nil {
			out.Signatures = append(out.Signatures, Signature{Of: s.PredicateType, Problem: "the signature is not base64"})
			continue
		}
		out.Signatures = append(out.Signatures, judge(Signature{Of: s.PredicateType}, message, sig, keys, cert))
	}
	return out, nil
}

// judge verifies a signature against the user's keys, else against the key of its
// own certificate, which shows integrity only.
func judge(out Signature, message, sig []byte, keys []Key, cert *x509.Certificate) Signature {
	for _, k := range keys {
		if verify(k.key, message, sig) {
			out.By = k.Name
			return identified(out, cert)
		}
	}
	switch {
	case cert != nil && verify(cert.PublicKey, message, sig):
		out.Intact = true
		out.Problem = "keyless: the certificate's chain and the transparency log were not verified"
	case cert != nil:
		out.Problem = "the signature does not fit its certificate"
	case len(keys) == 0:
		out.Problem = "no key is configured to verify it"
	default:
		out.Problem = fmt.Sprintf("none of the %d configured keys verifies it", len(keys))
	}
	return identified(out, cert)
}

// Fulcio's extensions for the issuer of the identity: 1.8 is a DER string, 1.1 plain
// bytes (github.com/sigstore/fulcio docs/oid-info.md).
var issuerOIDs = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 57264, 1, 8}, {1, 3, 6, 1, 4, 1, 57264, 1, 1}}

func identified(s Signature, cert *x509.Certificate) Signature {
	if cert == nil {
		return s
	}
	switch {
	case len(cert.URIs) > 0:
		s.Identity = cert.URIs[0].String()
	case len(cert.EmailAddresses) > 0:
		s.Identity = cert.EmailAddresses[0]
	}
	for _, oid := range issuerOIDs {
		for _, x := range cert.Extensions {
			if x.Id.Equal(oid) && s.Issuer == "" {
				var text string
				if _, err := asn1.Unmarshal(x.Value, &text); err != nil {
					text = string(x.Value)
				}
				s.Issuer = text
			}
		}
	}
	s.Identity, s.Issuer = s.Identity[:min(len(s.Identity), 300)], s.Issuer[:min(len(s.Issuer), 200)]
	return s
}

// Simple reads a signature of cosign's older form: a payload that names the image's
// digest, and the signature in base64 beside it. digest is the image's.
func Simple(payload []byte, signature, certPEM, digest string, keys []Key) Signature {
	var p struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	out := Signature{Of: digest}
	if err := json.Unmarshal(payload, &p); err != nil || p.Critical.Image.Digest == "" {
		out.Problem = "the signed payload names no image"
		return out
	}
	if p.Critical.Image.Digest != digest {
		out.Problem = "it signs another image, " + p.Critical.Image.Digest[:min(len(p.Critical.Image.Digest), 80)]
		return out
	}
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		out.Problem = "the signature is not base64"
		return out
	}
	var cert *x509.Certificate
	if block, _ := pem.Decode([]byte(certPEM)); block != nil {
		cert, _ = x509.ParseCertificate(block.Bytes)
	}
	return judge(out, payload, sig, keys, cert)
}

// Provenance is how an image was built, as its builder says.
type Provenance struct {
	Builder   string `json:"builder,omitempty"`
	BuildType string `json:"build_type,omitempty"`
	// Source is the repository or context, Revision its commit.
	Source   string `json:"source,omitempty"`
	Revision string `json:"revision,omitempty"`
	Started  string `json:"started,omitempty"`
	// Materials counts what went in; Bases are the images among it.
	Materials int      `json:"materials"`
	Bases     []string `json:"bases,omitempty"`
}

type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// ParseProvenance reads SLSA provenance 0.2 and 1, and what BuildKit adds to both.
func ParseProvenance(s Statement) (Provenance, error) {
	var p struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		BuildType  string `json:"buildType"`
		Invocation struct {
			ConfigSource material `json:"configSource"`
		} `json:"invocation"`
		Materials []material `json:"materials"`
		Metadata  struct {
			Started  string   `json:"buildStartedOn"`
			BuildKit buildkit `json:"https://mobyproject.org/buildkit@v1#metadata"`
		} `json:"metadata"`
		Definition struct {
			BuildType string `json:"buildType"`
			External  struct {
				ConfigSource material `json:"configSource"`
				Workflow     struct {
					Repository string `json:"repository"`
					Ref        string `json:"ref"`
				} `json:"workflow"`
			} `json:"externalParameters"`
			Resolved []material `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Details struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
			Metadata struct {
				Started  string   `json:"startedOn"`
				BuildKit buildkit `json:"buildkit_metadata"`
			} `json:"metadata"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(s.Predicate, &p); err != nil {
		return Provenance{}, fmt.Errorf("provenance: %w", err)
	}
	out := Provenance{Builder: first(p.Details.Builder.ID, p.Builder.ID), BuildType: first(p.Definition.BuildType, p.BuildType), Started: first(p.Details.Metadata.Started, p.Metadata.Started)}
	all := slices.Concat(p.Materials, p.Definition.Resolved)
	out.Materials = len(all)
	vcs := p.Metadata.BuildKit.VCS
	if vcs.Source == "" {
		vcs = p.Details.Metadata.BuildKit.VCS
	}
	config := p.Definition.External.ConfigSource
	if config.URI == "" {
		config = p.Invocation.ConfigSource
	}
	out.Source = first(vcs.Source, p.Definition.External.Workflow.Repository, config.URI)
	out.Revision = first(vcs.Revision, config.Digest["sha1"], config.Digest["gitCommit"])
	for _, m := range all {
		switch {
		case strings.HasPrefix(m.URI, "pkg:docker/") || strings.HasPrefix(m.URI, "pkg:oci/"):
			if len(out.Bases) < 8 {
				base, _, _ := strings.Cut(m.URI, "?")
				out.Bases = append(out.Bases, base[:min(len(base), 200)])
			}
		case strings.HasPrefix(m.URI, "git+") && out.Revision == "":
			out.Source, out.Revision = first(out.Source, m.URI), first(m.Digest["gitCommit"], m.Digest["sha1"])
		}
	}
	for _, f := range []*string{&out.Builder, &out.BuildType, &out.Source, &out.Revision, &out.Started} {
		*f = (*f)[:min(len(*f), 300)]
	}
	return out, nil
}

type buildkit struct {
	VCS struct {
		Source   string `json:"source"`
		Revision string `json:"revision"`
	} `json:"vcs"`
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
