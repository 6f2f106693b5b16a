package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gumshoe-ai/gumshoe/toolsets/supply/attest"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

// attachments reads what is kept beside an image: BuildKit's attestations in the
// index, OCI referrers of the index and of the manifest, and cosign's older tags.
// What fails is a note, not a failure: the image is known all the same.
func (c *Client) attachments(ctx context.Context, repo name.Repository, img *Image, inIndex []v1.Descriptor) {
	budget := maxAttests
	for _, d := range inIndex {
		if budget--; budget < 0 {
			break
		}
		c.attachment(ctx, repo, img, "index", d)
	}
	seen := map[string]bool{}
	for _, digest := range []string{img.Manifest, img.Digest} {
		if digest == "" || seen[digest] {
			continue
		}
		seen[digest] = true
		idx, err := remote.Referrers(repo.Digest(digest), c.options(ctx)...)
		if err != nil {
			img.note("referrers", err)
			continue
		}
		m, err := idx.IndexManifest()
		if err != nil {
			img.note("referrers", err)
			continue
		}
		for _, d := range m.Manifests {
			if budget--; budget < 0 {
				img.Notes = append(img.Notes, fmt.Sprintf("only %d attachments were read", maxAttests))
				return
			}
			c.attachment(ctx, repo, img, "referrer", d)
		}
	}
	for _, digest := range []string{img.Manifest, img.Digest} {
		if digest == "" || !seen[digest] {
			continue
		}
		seen[digest] = false
		for _, suffix := range []string{".sig", ".att", ".sbom"} {
			c.tagged(ctx, repo, img, digest, suffix)
		}
	}
}

// note records what could not be read; that there is nothing is no failure.
func (i *Image) note(what string, err error) {
	if te, ok := errors.AsType[*transport.Error](err); ok && te.StatusCode == http.StatusNotFound {
		return
	}
	i.Notes = append(i.Notes, clip(what+" not read: "+err.Error()))
}

// attachment reads one manifest that is about the image.
func (c *Client) attachment(ctx context.Context, repo name.Repository, img *Image, where string, d v1.Descriptor) {
	m, _, err := c.manifest(ctx, repo.Digest(d.Digest.String()))
	if err != nil {
		img.note("attachment "+d.Digest.String(), err)
		return
	}
	for _, l := range m.Layers {
		c.layer(ctx, repo, img, where, d, l)
	}
	if len(m.Layers) == 0 {
		img.Attached = append(img.Attached, Attached{Where: where, Kind: clip(d.ArtifactType), Digest: d.Digest.String()})
	}
}

// tagged reads cosign's older places: a tag made of the digest.
func (c *Client) tagged(ctx context.Context, repo name.Repository, img *Image, digest, suffix string) {
	m, at, err := c.manifest(ctx, repo.Tag(strings.Replace(digest, ":", "-", 1)+suffix))
	if err != nil {
		img.note("tag "+suffix, err)
		return
	}
	for _, l := range m.Layers[:min(len(m.Layers), maxAttests)] {
		if suffix != ".sig" {
			c.layer(ctx, repo, img, "cosign tag", v1.Descriptor{Digest: hash(at)}, l)
			continue
		}
		payload, err := c.blob(ctx, repo, l)
		if err != nil {
			img.note("signature", err)
			continue
		}
		sig := attest.Simple(payload, l.Annotations[attest.SignatureNote], l.Annotations[attest.CertNote], digest, c.c.Keys)
		img.Signatures = append(img.Signatures, sig)
		img.Attached = append(img.Attached, Attached{Where: "cosign tag", Kind: "signature", Digest: at, Note: sig.Problem})
	}
}

func hash(s string) v1.Hash {
	h, err := v1.NewHash(s)
	if err != nil {
		return v1.Hash{}
	}
	return h
}

// layer reads one blob of an attachment, whatever it says it is.
func (c *Client) layer(ctx context.Context, repo name.Repository, img *Image, where string, of v1.Descriptor, l v1.Descriptor) {
	kind := string(l.MediaType)
	a := Attached{Where: where, Kind: clip(kind), Digest: of.Digest.String()}
	bare := strings.Contains(kind, "spdx") || strings.Contains(kind, "cyclonedx")
	told := bare || strings.Contains(kind, "in-toto") || strings.Contains(kind, "dsse") || strings.HasPrefix(kind, attest.BundlePrefix) || l.Annotations["in-toto.io/predicate-type"] != ""
	if !told {
		img.Attached = append(img.Attached, a)
		return
	}
	raw, err := c.blob(ctx, repo, l)
	if err != nil {
		img.note(kind, err)
		return
	}
	if bare {
		a.Kind = "SBOM"
		a.Note = img.bill(raw)
		img.Attached = append(img.Attached, a)
		return
	}
	read, err := attest.Parse(raw, c.c.Keys)
	if err != nil {
		a.Note = clip(err.Error())
		img.Attached = append(img.Attached, a)
		return
	}
	img.Signatures = append(img.Signatures, read.Signatures...)
	s := read.Statement
	switch {
	case s == nil:
		a.Kind = "signature"
	case !s.About(img.Manifest) && !s.About(img.Digest):
		// Whoever may push can attach what speaks of something else.
		a.Note = "it is about another digest and was left aside"
	case s.IsSBOM():
		a.Kind = "SBOM"
		a.Note = img.bill(s.Predicate)
	case s.IsProvenance():
		a.Kind = "provenance"
		p, err := attest.ParseProvenance(*s)
		if err != nil {
			a.Note = clip(err.Error())
		} else if img.Provenance == nil {
			img.Provenance = &p
		}
	default:
		a.Kind = clip(s.PredicateType)
	}
	img.Attached = append(img.Attached, a)
}

// bill takes a bill of materials; the one with the most packages counts.
func (i *Image) bill(raw []byte) string {
	d, err := sbom.Parse(raw)
	if err != nil {
		return clip(err.Error())
	}
	if len(d.Packages) > i.Packages || i.SBOM == "" {
		i.Bill, i.SBOM, i.Packages = d, d.Format, len(d.Packages)
	}
	return ""
}
