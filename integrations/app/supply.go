package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/oci"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	kubesource "github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/attest"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
)

// SupplyConfig says which registries may be asked about images. None is asked that is
// not listed: a registry is outside of the cluster.
type SupplyConfig struct {
	Registries []RegistryConfig `json:"registries,omitempty"`
	// DockerConfig is a file of logins as `docker login` writes it. Credential helpers
	// named in it are not run.
	DockerConfig string `json:"dockerConfig,omitempty"`
	// Keys are files of PEM public keys that signatures are verified with.
	Keys []string `json:"keys,omitempty"`
}

// RegistryConfig is one registry.
type RegistryConfig struct {
	// Host as image names have it, with its port; "*" allows every registry that an
	// image of the cluster names.
	Host         string `json:"host"`
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	// Insecure speaks plain HTTP.
	Insecure bool `json:"insecure,omitempty"`
}

// validate names the field that is wrong.
func (c SupplyConfig) validate() error {
	seen := map[string]bool{}
	for i, r := range c.Registries {
		switch {
		case r.Host == "" || strings.ContainsAny(r.Host, "/ @"):
			return fmt.Errorf("supply.registries[%d].host %q: a registry's name as in an image, such as ghcr.io, or \"*\"", i, r.Host)
		case seen[r.Host]:
			return fmt.Errorf("supply.registries[%d].host %q is listed twice", i, r.Host)
		case (r.Username == "") != (r.PasswordFile == ""):
			return fmt.Errorf("supply.registries[%d]: username and passwordFile go together", i)
		case r.Host == "*" && (r.Username != "" || r.Insecure):
			return fmt.Errorf("supply.registries[%d]: credentials and insecure need a named host, not \"*\"", i)
		}
		seen[r.Host] = true
		if r.PasswordFile != "" {
			if _, err := os.Stat(r.PasswordFile); err != nil {
				return fmt.Errorf("supply.registries[%d].passwordFile: %w", i, err)
			}
		}
	}
	if _, err := c.keys(); err != nil {
		return err
	}
	_, err := c.logins()
	return err
}

func (c SupplyConfig) keys() ([]attest.Key, error) {
	var out []attest.Key
	for i, f := range c.Keys {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("supply.keys[%d]: %w", i, err)
		}
		k, err := attest.ParseKey(f, raw)
		if err != nil {
			return nil, fmt.Errorf("supply.keys[%d]: %w", i, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// logins reads the logins of the Docker configuration file.
func (c SupplyConfig) logins() (map[string]authn.AuthConfig, error) {
	out := map[string]authn.AuthConfig{}
	if c.DockerConfig == "" {
		return out, nil
	}
	raw, err := os.ReadFile(c.DockerConfig)
	if err != nil {
		return nil, fmt.Errorf("supply.dockerConfig: %w", err)
	}
	var file struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		// The error of the decoder quotes what it read.
		return nil, fmt.Errorf("supply.dockerConfig %s is no JSON of Docker's configuration", c.DockerConfig)
	}
	for host, a := range file.Auths {
		one := authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
		if plain, err := base64.StdEncoding.DecodeString(a.Auth); err == nil && a.Auth != "" {
			if user, pass, ok := strings.Cut(string(plain), ":"); ok {
				one.Username, one.Password = user, pass
			}
		}
		host = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://"), "/")
		host = strings.TrimSuffix(strings.TrimSuffix(host, "/v1"), "/v2")
		out[host] = one
	}
	return out, nil
}

// secrets are the values that must not be shown.
func (c SupplyConfig) secrets() []string {
	var out []string
	for _, r := range c.Registries {
		if raw, err := os.ReadFile(r.PasswordFile); r.PasswordFile != "" && err == nil {
			out = append(out, strings.TrimSpace(string(raw)))
		}
	}
	if logins, err := c.logins(); err == nil {
		for _, l := range logins {
			out = append(out, l.Password, l.IdentityToken)
		}
	}
	return out
}

// keychain gives the credentials of the configuration; every other registry is asked
// anonymously.
type keychain struct {
	c      SupplyConfig
	logins map[string]authn.AuthConfig
}

var _ authn.Keychain = keychain{}

// Resolve implements authn.Keychain. A password file is read each time, so that a
// rotated one is used.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	host := r.RegistryStr()
	for _, one := range k.c.Registries {
		if one.Host == host && one.PasswordFile != "" {
			raw, err := os.ReadFile(one.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("passwordFile: %w", err)
			}
			return &authn.Basic{Username: one.Username, Password: strings.TrimRight(string(raw), "\r\n")}, nil
		}
	}
	if a, ok := k.logins[host]; ok {
		return authn.FromConfig(a), nil
	}
	return authn.Anonymous, nil
}

// newSupply wires the images' toolset to what the Kubernetes toolset reads and to the
// registries that may be asked: those of the configuration, or those of the bundle.
func newSupply(src *source, k *kube.Toolset) (*supply.Toolset, error) {
	cfg := src.cfg.Supply
	keys, err := cfg.keys()
	if err != nil {
		return nil, err
	}
	rc := registry.Config{Keys: keys, Now: src.now}
	if src.recorded {
		if src.oci != nil {
			rc.Allowed, rc.Transport = src.oci.Has, src.oci.Transport()
		}
	} else {
		logins, err := cfg.logins()
		if err != nil {
			return nil, err
		}
		hosts, insecure := map[string]bool{}, map[string]bool{}
		for _, r := range cfg.Registries {
			hosts[dockerHost(r.Host)], insecure[dockerHost(r.Host)] = true, r.Insecure
		}
		rc.Allowed = func(host string) bool { return hosts[host] || hosts["*"] }
		rc.Insecure = func(host string) bool { return insecure[host] }
		rc.Keychain = keychain{c: cfg, logins: logins}
		rc.Transport = http.DefaultTransport
	}
	reach := func(ctx context.Context) error {
		_, err := k.Source().ServerVersion(ctx)
		return err
	}
	return supply.New(supply.Config{Pods: k.Source(), History: k.Source(), Images: registry.NewClient(rc), Logs: supplyLogs{k.Source()}, Reach: reach, Cluster: src.cluster})
}

// dockerHost gives Docker Hub the name that its registry has.
func dockerHost(host string) string {
	if host == "docker.io" {
		return "index.docker.io"
	}
	return host
}

// supplyLogs reads the ends of logs for the images' toolset.
type supplyLogs struct{ src *kubesource.Source }

var _ supply.Tailer = supplyLogs{}

// Tail implements supply.Tailer.
func (l supplyLogs) Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error) {
	log, err := l.src.Logs(ctx, namespace, pod, kubesource.LogQuery{Container: container, Previous: previous, Tail: lines, Limit: 64 << 10})
	return log.Text, err
}

// recordedImages replays the OCI metadata of a bundle; nil when it holds none.
func recordedImages(ctx context.Context, b *bundle.Bundle) (*oci.Server, error) {
	if !oci.Holds(b.FS()) {
		return nil, nil
	}
	s, err := oci.Open(ctx, b.FS(), oci.DefaultLimits())
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "bundle: " + err.Error(), Err: err}
	}
	return s, nil
}
