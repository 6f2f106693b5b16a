// Package oci replays what registries said about images, as a bundle holds it:
//
//	oci/<registry>/<repository>/index.json             an OCI image layout: what is tagged
//	oci/<registry>/<repository>/blobs/sha256/<digest>  manifests, configurations, attestations
//
// Layers are not kept: nobody who asks why an image fails needs their bytes. Referrers
// (bills of materials, provenance, signatures) are listed in index.json without a tag.
// Requests go through the real registry protocol to an in-process registry; a tool
// cannot tell it from a server.
package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Dir is the place of OCI metadata in a bundle.
const Dir = "oci"

// Limits bound what Open reads. Sizes are in bytes.
type Limits struct {
	// BlobBytes bounds one blob, TotalBytes all of them: they are held in memory.
	BlobBytes, TotalBytes int64
	// Manifests bounds the manifests of one repository.
	Manifests int
}

// DefaultLimits fit the images of a large cluster.
func DefaultLimits() Limits {
	return Limits{BlobBytes: 32 << 20, TotalBytes: 512 << 20, Manifests: 10_000}
}

// Holds reports whether a bundle has OCI metadata.
func Holds(fsys fs.FS) bool {
	st, err := fs.Stat(fsys, Dir)
	return err == nil && st.IsDir()
}

// Server is the registries of a bundle.
type Server struct {
	hosts map[string]http.Handler
}

// Open reads the OCI metadata of a bundle. Errors name the file.
func Open(ctx context.Context, fsys fs.FS, l Limits) (*Server, error) {
	s := &Server{hosts: map[string]http.Handler{}}
	left := l.TotalBytes
	hosts, err := fs.ReadDir(fsys, Dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Dir, err)
	}
	for _, h := range hosts {
		if !h.IsDir() || strings.HasPrefix(h.Name(), ".") {
			continue
		}
		blobs := registry.NewInMemoryBlobHandler()
		handler := registry.New(registry.WithReferrersSupport(true), registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0)))
		s.hosts[h.Name()] = handler
		err := fs.WalkDir(fsys, path.Join(Dir, h.Name()), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Base(name) != "index.json" {
				return err
			}
			r := repo{ctx: ctx, fsys: fsys, dir: path.Dir(name), limits: l, left: &left, handler: handler, blobs: blobs, done: map[string]bool{}}
			r.name = strings.TrimPrefix(r.dir, path.Join(Dir, h.Name())+"/")
			if err := r.load(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// repo loads one repository into a registry.
type repo struct {
	ctx     context.Context
	fsys    fs.FS
	dir     string
	name    string
	limits  Limits
	left    *int64
	handler http.Handler
	blobs   registry.BlobHandler
	done    map[string]bool
}

// tagNote is the annotation by which an OCI layout names a tag.
const tagNote = "org.opencontainers.image.ref.name"

func (r *repo) load() error {
	raw, err := r.file("index.json")
	if err != nil {
		return err
	}
	var idx v1.IndexManifest
	if err := json.Unmarshal(raw, &idx); err != nil {
		return err
	}
	for _, d := range idx.Manifests {
		if err := r.manifest(d, 0); err != nil {
			return err
		}
		if tag := d.Annotations[tagNote]; tag != "" {
			raw, err := r.blob(d.Digest)
			if err != nil {
				return err
			}
			if err := r.put(tag, d.MediaType, raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// manifest loads a manifest after what it lists, and the blobs it names as far as
// the bundle has them.
func (r *repo) manifest(d v1.Descriptor, depth int) error {
	if r.done[d.Digest.String()] {
		return nil
	}
	if r.done[d.Digest.String()] = true; len(r.done) > r.limits.Manifests || depth > 4 {
		return fmt.Errorf("more than %d manifests, or indexes in indexes in indexes", r.limits.Manifests)
	}
	raw, err := r.blob(d.Digest)
	if err != nil {
		return err
	}
	if d.MediaType.IsIndex() {
		var idx v1.IndexManifest
		if err := json.Unmarshal(raw, &idx); err != nil {
			return fmt.Errorf("%s: %w", d.Digest, err)
		}
		for _, m := range idx.Manifests {
			if err := r.manifest(m, depth+1); err != nil {
				return err
			}
		}
		return r.put(d.Digest.String(), d.MediaType, raw)
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	for _, b := range append(slices.Clone(m.Layers), m.Config) {
		body, err := r.blob(b.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a layer
		}
		if err != nil {
			return err
		}
		put, ok := r.blobs.(registry.BlobPutHandler)
		if !ok {
			return errors.New("the registry takes no blobs")
		}
		if err := put.Put(r.ctx, r.name, b.Digest, io.NopCloser(bytes.NewReader(body))); err != nil {
			return fmt.Errorf("blob %s: %w", b.Digest, err)
		}
	}
	return r.put(d.Digest.String(), d.MediaType, raw)
}

func (r *repo) put(target string, kind types.MediaType, raw []byte) error {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, "/v2/"+r.name+"/manifests/"+target, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(kind))
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	if w.Code != http.StatusCreated {
		return fmt.Errorf("manifest %s: the registry refuses it: %s", target, strings.TrimSpace(w.Body.String()))
	}
	return nil
}

func (r *repo) blob(d v1.Hash) ([]byte, error) {
	if d.Algorithm != "sha256" || len(d.Hex) != 64 || strings.Trim(d.Hex, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%q is no sha256 digest", d.String())
	}
	raw, err := r.file("blobs/sha256/" + d.Hex)
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || got != d {
		return nil, fmt.Errorf("blobs/sha256/%s holds other bytes: their digest is %s", d.Hex, got)
	}
	return raw, nil
}

func (r *repo) file(name string) ([]byte, error) {
	f, err := r.fsys.Open(path.Join(r.dir, name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, r.limits.BlobBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > r.limits.BlobBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", name, r.limits.BlobBytes)
	}
	if *r.left -= int64(len(raw)); *r.left < 0 {
		return nil, fmt.Errorf("%s holds more than %d bytes", Dir, r.limits.TotalBytes)
	}
	return raw, nil
}

// Has reports whether the bundle holds anything of a registry.
func (s *Server) Has(host string) bool { return s.hosts[host] != nil }

// Transport reaches the registries of the bundle and nothing else; requests never
// leave the process.
func (s *Server) Transport() http.RoundTripper { return reach{s} }

type reach struct{ s *Server }

var _ http.RoundTripper = reach{}

// RoundTrip implements http.RoundTripper. Answers are whole, not streamed.
func (t reach) RoundTrip(r *http.Request) (*http.Response, error) {
	h := t.s.hosts[r.URL.Host]
	if h == nil {
		return nil, fmt.Errorf("registry %s is not in the bundle", r.URL.Host)
	}
	inner := r.Clone(r.Context())
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	inner.RequestURI = r.URL.RequestURI()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, inner)
	_ = inner.Body.Close()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}
