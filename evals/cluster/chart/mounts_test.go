package chart

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// pod is what a container of the chart sees: its volumes, laid out below a directory.
type pod struct {
	root, configFile string
}

// mounted lays the volumes of the Deployment out below root as the kubelet would below
// "/". Existing Secrets and ConfigMaps, which the chart does not make, hold what given has,
// by NAME/KEY, and else a word for each file that the configuration names.
func mounted(t *testing.T, r release, root string, given ...map[string]string) pod {
	t.Helper()
	d := one[*appsv1.Deployment](t, r)
	spec := d.Spec.Template.Spec
	own := one[*corev1.ConfigMap](t, r)
	held := map[string]string{}
	for _, g := range given {
		for k, v := range g {
			held[k] = v
		}
	}
	for _, m := range spec.Containers[0].VolumeMounts {
		dir := filepath.Join(root, m.MountPath)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		v := volume(t, spec, m.Name)
		files := map[string]string{}
		switch {
		case v.ConfigMap != nil && v.ConfigMap.Name == own.Name:
			files = own.Data
		case v.ConfigMap != nil:
			files = existing(held, v.ConfigMap.Name, nil)
		case v.Secret != nil && len(v.Secret.Items) == 1:
			files[v.Secret.Items[0].Path] = existing(held, v.Secret.SecretName, func() map[string]string { return map[string]string{v.Secret.Items[0].Key: signingKey(t)} })[v.Secret.Items[0].Key]
		case v.Secret != nil:
			files = existing(held, v.Secret.SecretName, func() map[string]string { return named(own.Data["gumshoe.yaml"], m.MountPath) })
		}
		for name, text := range files {
			text = strings.NewReplacer("/etc/gumshoe/", root+"/etc/gumshoe/", "/var/lib/gumshoe", root+"/var/lib/gumshoe").Replace(text)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o440); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := spec.Containers[0].Args
	if len(args) != 3 || args[0] != "serve" || args[1] != "--config" {
		t.Fatalf("the container is run with %q", args)
	}
	p := pod{root: root, configFile: filepath.Join(root, args[2])}
	p.complete(t)
	return p
}

func volume(t *testing.T, p corev1.PodSpec, name string) corev1.Volume {
	t.Helper()
	for _, v := range p.Volumes {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no volume %s", name)
	return corev1.Volume{}
}

// existing gives the files of a Secret or ConfigMap, by key.
func existing(held map[string]string, name string, otherwise func() map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range held {
		if key, ok := strings.CutPrefix(k, name+"/"); ok {
			out[key] = v
		}
	}
	if len(out) == 0 && otherwise != nil {
		return otherwise()
	}
	return out
}

// named gives a word for each file below a directory that a configuration names.
func named(config, dir string) map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(regexp.QuoteMeta(dir)+`/([-._A-Za-z0-9]+)`).FindAllStringSubmatch(config, -1) {
		out[m[1]] = strings.Repeat("a-word-of-"+m[1]+"-", 4)
	}
	return out
}

func signingKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// complete checks that each file that the configuration names is mounted, and that what it
// writes to can be written to.
func (p pod) complete(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(p.configFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range regexp.MustCompile(regexp.QuoteMeta(p.root)+`[-._/A-Za-z0-9]+`).FindAllString(string(raw), -1) {
		at := f
		if strings.HasPrefix(f, filepath.Join(p.root, "/var/lib/gumshoe")+"/") {
			at = filepath.Dir(f) // the store makes its own directory
		}
		if _, err := os.Stat(at); errors.Is(err, os.ErrNotExist) {
			t.Errorf("the configuration names %s, which is not mounted", strings.TrimPrefix(f, p.root))
		}
	}
}

// load reads the configuration as gumshoe serve does.
func (p pod) load() (app.Config, error) {
	cfg, err := app.LoadConfig(p.configFile, func(string) string { return "" })
	if err != nil {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("the chart's configuration is refused: %w", err)
	}
	return cfg, nil
}

func (p pod) config(t *testing.T) app.Config {
	t.Helper()
	cfg, err := p.load()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
