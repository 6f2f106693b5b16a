package oci_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gumshoe-ai/gumshoe/evals/bundle/oci"
)

const image = "application/vnd.oci.image.manifest.v1+json"

// add puts a blob into a layout and gives its digest.
func add(fsys fstest.MapFS, dir, text string) string {
	d := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
	fsys[dir+"/blobs/sha256/"+d] = &fstest.MapFile{Data: []byte(text)}
	return "sha256:" + d
}

func TestReplay(t *testing.T) {
	t.Parallel()
	fsys := os.DirFS("../../cases/supply-engine-flag-gone/bundle")
	if !oci.Holds(fsys) || oci.Holds(fstest.MapFS{"bundle.yaml": {}}) {
		t.Error("Holds")
	}
	s, err := oci.Open(t.Context(), fsys, oci.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference("registry.example.com/serve/rag:0.15")
	if err != nil {
		t.Fatal(err)
	}
	opt := remote.WithTransport(s.Transport())
	d, err := remote.Get(ref, opt)
	if err != nil {
		t.Fatal(err)
	}
	img, err := d.Image()
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err := img.ConfigFile(); err != nil || cfg.Architecture != "amd64" {
		t.Errorf("%+v %v", cfg, err)
	}
	idx, err := remote.Referrers(ref.Context().Digest(d.Digest.String()), opt)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := idx.IndexManifest(); err != nil || len(m.Manifests) != 1 {
		t.Errorf("%+v %v", m, err)
	}
	tags, err := remote.List(ref.Context(), opt)
	if err != nil || strings.Join(tags, " ") != "0.14 0.15" {
		t.Errorf("%v %v", tags, err)
	}
	// A layer was never recorded, and another registry is not reached.
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if rc, err := layers[0].Compressed(); err == nil {
		_ = rc.Close()
		t.Error("a layer came from nowhere")
	}
	other, err := name.ParseReference("ghcr.io/a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Get(other, opt); err == nil || !strings.Contains(err.Error(), "not in the bundle") || s.Has("ghcr.io") || !s.Has("registry.example.com") {
		t.Errorf("another registry: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const dir = "oci/r.example.com/a"
	index := func(fsys fstest.MapFS, digest, kind string) {
		fsys[dir+"/index.json"] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s","size":2}]}`, kind, digest)}
	}
	for want, build := range map[string]func(fstest.MapFS){
		"invalid character":   func(f fstest.MapFS) { f[dir+"/index.json"] = &fstest.MapFile{Data: []byte("x")} },
		"file does not exist": func(f fstest.MapFS) { index(f, "sha256:"+strings.Repeat("a", 64), image) },
		"holds other bytes": func(f fstest.MapFS) {
			index(f, "sha256:"+strings.Repeat("a", 64), image)
			f[dir+"/blobs/sha256/"+strings.Repeat("a", 64)] = &fstest.MapFile{Data: []byte("{}")}
		},
		"no sha256 digest":        func(f fstest.MapFS) { index(f, "sha512:"+strings.Repeat("a", 128), image) },
		"has more than 400 bytes": func(f fstest.MapFS) { index(f, add(f, dir, `{"x":"`+strings.Repeat("y", 500)+`"}`), image) },
		"cannot unmarshal":        func(f fstest.MapFS) { index(f, add(f, dir, `[]`), image) },
		"blobs/sha256": func(f fstest.MapFS) {
			index(f, add(f, dir, `{"manifests":[{"digest":"sha256:`+strings.Repeat("b", 64)+`"}]}`), "application/vnd.oci.image.index.v1+json")
		},
	} {
		fsys := fstest.MapFS{}
		build(fsys)
		limits := oci.DefaultLimits()
		limits.BlobBytes = 400
		_, err := oci.Open(t.Context(), fsys, limits)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
