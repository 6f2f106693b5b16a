package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/cloud"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool/aks"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool/gke"
)

// AzureConfig names the AKS cluster whose agent pools are read through Azure's API.
// Without it Azure is not asked. The identity is found as the Azure SDKs do:
// environment, workload identity, managed identity, az login.
type AzureConfig struct {
	// Subscription is an id, ResourceGroup and Cluster are names.
	Subscription  string `json:"subscription,omitempty"`
	ResourceGroup string `json:"resourceGroup,omitempty"`
	Cluster       string `json:"cluster,omitempty"`
	// Cloud is "public" (the default), "china" or "government".
	Cloud string `json:"cloud,omitempty"`
	// Timeout bounds one look at the pools; zero means 20s.
	Timeout Duration `json:"timeout,omitempty"`
	// Preview allows plans that use what Azure offers as a preview: blue-green upgrades.
	Preview bool `json:"preview,omitempty"`
}

func (c AzureConfig) zero() bool { return c == AzureConfig{} }

func (c AzureConfig) validate() error {
	if c.zero() {
		return nil
	}
	if err := named("azure", [][2]string{{"subscription", c.Subscription}, {"resourceGroup", c.ResourceGroup}, {"cluster", c.Cluster}}); err != nil {
		return err
	}
	if _, err := c.where(); err != nil {
		return err
	}
	if c.Timeout < 0 {
		return errors.New("azure.timeout cannot be negative")
	}
	return nil
}

// where is the Azure cloud of the configuration.
func (c AzureConfig) where() (azcloud.Configuration, error) {
	switch c.Cloud {
	case "", "public":
		return azcloud.AzurePublic, nil
	case "china":
		return azcloud.AzureChina, nil
	case "government":
		return azcloud.AzureGovernment, nil
	}
	return azcloud.Configuration{}, fmt.Errorf("azure.cloud %q is none of public, china, government", c.Cloud)
}

// GKEConfig names the GKE cluster whose node pools are read through Google's API.
// Without it Google Cloud is not asked. The identity is found as application-default
// credentials are.
type GKEConfig struct {
	Project string `json:"project,omitempty"`
	// Location is a region or a zone.
	Location string `json:"location,omitempty"`
	Cluster  string `json:"cluster,omitempty"`
	// Timeout bounds one look at the pools; zero means 20s.
	Timeout Duration `json:"timeout,omitempty"`
}

func (c GKEConfig) zero() bool { return c == GKEConfig{} }

func (c GKEConfig) validate() error {
	if c.zero() {
		return nil
	}
	if c.Timeout < 0 {
		return errors.New("gke.timeout cannot be negative")
	}
	return named("gke", [][2]string{{"project", c.Project}, {"location", c.Location}, {"cluster", c.Cluster}})
}

// named checks that each field of a section is a name: it becomes a part of a URL.
func named(section string, fields [][2]string) error {
	for _, f := range fields {
		switch {
		case f[1] == "":
			return fmt.Errorf("%s.%s is empty: %s needs all of its names, or leave the section out", section, f[0], section)
		case strings.ContainsAny(f[1], "/?#% \t\n"):
			return fmt.Errorf("%s.%s %q is no name", section, f[0], f[1])
		}
	}
	return nil
}

// liveClouds makes the clients of the clouds that are configured; it asks nobody.
func liveClouds(c Config) ([]nodepool.Cloud, error) { return clouds(c, nil) }

// clouds makes the clients; between, if not nil, stands between a provider's client
// and the network.
func clouds(c Config, between func(provider string, next http.RoundTripper) transport) ([]nodepool.Cloud, error) {
	var out []nodepool.Cloud
	if !c.Azure.zero() {
		where, err := c.Azure.where()
		if err != nil {
			return nil, err
		}
		cred, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: policy.ClientOptions{Cloud: where}})
		if err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "no identity for Azure: " + err.Error(), Fix: "log in with az login, or leave the section azure out", Err: err}
		}
		cfg := aks.Config{Subscription: c.Azure.Subscription, ResourceGroup: c.Azure.ResourceGroup, Cluster: c.Azure.Cluster, Credential: cred, Cloud: where, Timeout: time.Duration(c.Azure.Timeout)}
		if between != nil {
			cfg.Transport = between("aks", http.DefaultTransport)
		}
		client, err := aks.New(cfg)
		if err != nil {
			return nil, err
		}
		out = append(out, client)
	}
	if !c.GKE.zero() {
		cfg := gke.Config{Project: c.GKE.Project, Location: c.GKE.Location, Cluster: c.GKE.Cluster, Token: googleToken(), Timeout: time.Duration(c.GKE.Timeout)}
		if between != nil {
			cfg.HTTP = between("gke", http.DefaultTransport)
		}
		client, err := gke.New(cfg)
		if err != nil {
			return nil, err
		}
		out = append(out, client)
	}
	return out, nil
}

// transport is how either SDK sends a request.
type transport interface {
	policy.Transporter
	http.RoundTripper
}

// googleToken finds application-default credentials when they are first wanted, and
// keeps a token while it is valid.
func googleToken() func(context.Context) (string, error) {
	var mu sync.Mutex
	var source oauth2.TokenSource
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if source == nil {
			cred, err := google.FindDefaultCredentials(context.WithoutCancel(ctx), "https://www.googleapis.com/auth/cloud-platform")
			if err != nil {
				return "", err
			}
			source = cred.TokenSource
		}
		tok, err := source.Token()
		if err != nil {
			return "", err
		}
		return tok.AccessToken, nil
	}
}

var (
	aksPath = regexp.MustCompile(`(?i)^/subscriptions/([^/?]+)/resourceGroups/([^/?]+)/providers/Microsoft\.ContainerService/managedClusters/([^/?]+)/agentPools`)
	gkePath = regexp.MustCompile(`^/v1/projects/([^/?]+)/locations/([^/?]+)/clusters/([^/?]+)/nodePools`)
)

// recordedClouds puts the providers' clients on the answers that a bundle holds. Which
// cluster they are of stands in the recorded paths.
func recordedClouds(fsys fs.FS) ([]nodepool.Cloud, error) {
	var out []nodepool.Cloud
	for _, provider := range []string{"aks", "gke"} {
		if !cloud.Holds(fsys, provider) {
			continue
		}
		r, err := cloud.Open(fsys, provider)
		if err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "bundle: " + err.Error(), Err: err}
		}
		client, err := recordedCloud(provider, r)
		if err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "bundle: cloud/" + provider + ": " + err.Error(), Err: err}
		}
		out = append(out, client)
	}
	return out, nil
}

func recordedCloud(provider string, r *cloud.Replay) (nodepool.Cloud, error) {
	for _, p := range r.Paths() {
		if m := aksPath.FindStringSubmatch(p); provider == "aks" && m != nil {
			return aks.New(aks.Config{Subscription: m[1], ResourceGroup: m[2], Cluster: m[3], Credential: recordedIdentity{}, Transport: r})
		}
		if m := gkePath.FindStringSubmatch(p); provider == "gke" && m != nil {
			return gke.New(gke.Config{Project: m[1], Location: m[2], Cluster: m[3], HTTP: r, Token: func(context.Context) (string, error) { return "recorded", nil }})
		}
	}
	return nil, errors.New("no file answers a list of pools")
}

// recordedIdentity is whoever made the recording.
type recordedIdentity struct{}

var _ azcore.TokenCredential = recordedIdentity{}

// GetToken implements azcore.TokenCredential.
func (recordedIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "recorded", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// captureClouds records what the configured clouds answer.
func captureClouds(c Config, redact func(string) string) ([]bundle.Source, error) {
	recorders := map[string]*cloud.Recorder{}
	var out []bundle.Source
	made, err := clouds(c, func(provider string, next http.RoundTripper) transport {
		r := cloud.NewRecorder(provider, next, redact)
		recorders[provider] = r
		out = append(out, r)
		return r
	})
	if err != nil {
		return nil, err
	}
	for _, client := range made {
		recorders[strings.ToLower(client.Name())].Look(func(ctx context.Context) error {
			_, err := client.Pools(ctx)
			return err
		})
	}
	return out, nil
}
