package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/toolsets/custom"
	"github.com/gumshoe-ai/gumshoe/toolsets/mcp"
)

// Config is everything gumshoe can be told. It is read from YAML over the
// defaults, then the environment, then flags; unknown fields are refused.
type Config struct {
	// Bundle is a captured incident to read instead of a cluster.
	Bundle     string           `json:"bundle,omitempty"`
	Kubernetes KubernetesConfig `json:"kubernetes,omitzero"`
	Prometheus PrometheusConfig `json:"prometheus,omitzero"`
	Loki       LokiConfig       `json:"loki,omitzero"`
	Supply     SupplyConfig     `json:"supply,omitzero"`
	GPU        GPUConfig        `json:"gpu,omitzero"`
	Hubble     HubbleConfig     `json:"hubble,omitzero"`
	Azure      AzureConfig      `json:"azure,omitzero"`
	GKE        GKEConfig        `json:"gke,omitzero"`
	Model      ModelConfig      `json:"model,omitzero"`
	// Models can be switched to, and fallbacks may name them. One that model.name
	// names is described here.
	Models []ModelEntry `json:"models,omitempty"`
	Budget BudgetConfig `json:"budget,omitzero"`
	// Tools are HTTP endpoints that become tools.
	Tools []custom.Spec `json:"tools,omitempty"`
	// MCP are servers of the Model Context Protocol whose tools are offered.
	MCP []mcp.Spec `json:"mcp,omitempty"`
	// Runbooks are directories of runbooks laid over the ones that ship.
	Runbooks []string    `json:"runbooks,omitempty"`
	Store    StoreConfig `json:"store,omitzero"`
	// Executor is the identity that writes, once a plan is approved.
	Executor ExecutorConfig `json:"executor,omitzero"`
	Policy   PolicyConfig   `json:"policy,omitzero"`
	Approval ApprovalConfig `json:"approval,omitzero"`
	// Server is for gumshoe serve.
	Server ServerConfig `json:"server,omitzero"`
	// AllowProbe lets one call touch a workload (effect probe). It is said by a
	// person for that call and is no setting of a file.
	AllowProbe bool `json:"-"`
	// keys of model providers that the environment holds, by provider.
	keys map[string]string
}

// KubernetesConfig says which cluster is looked at.
type KubernetesConfig struct {
	// Kubeconfig file; empty means KUBECONFIG, the home directory's, then the pod's own identity.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	// QPS and Burst of the client's own rate limit, in requests a second.
	QPS   float32 `json:"qps,omitempty"`
	Burst int     `json:"burst,omitempty"`
	// RequestTimeout of one API request.
	RequestTimeout Duration `json:"requestTimeout,omitempty"`
}

// ModelConfig says which model helps, if any.
type ModelConfig struct {
	// Name is "offline" or "PROVIDER/NAME".
	Name    string `json:"name,omitempty"`
	BaseURL string `json:"baseURL,omitempty"`
	// APIKeyFile holds the key; OPENAI_API_KEY is used when it is empty.
	APIKeyFile string `json:"apiKeyFile,omitempty"`
	apiKey     string
	// baseEnv says that BaseURL is the environment's.
	baseEnv bool
	// Window in tokens; 0 means what is known of the model, else unlimited.
	Window int `json:"window,omitempty"`
	// InputPrice and OutputPrice are US dollars per million tokens.
	InputPrice  float64 `json:"inputPrice,omitempty"`
	OutputPrice float64 `json:"outputPrice,omitempty"`
	// NoTools says that the model cannot call tools.
	NoTools bool `json:"noTools,omitempty"`
	// Fallback models, tried in order when the first cannot be used: each is one of
	// models, or else another name at the endpoint of this section.
	Fallback []string `json:"fallback,omitempty"`
}

// ModelEntry is one model with an endpoint and a key of its own.
type ModelEntry struct {
	// Name is "PROVIDER/NAME".
	Name string `json:"name"`
	// BaseURL may be empty where the provider has one address.
	BaseURL string `json:"baseURL,omitempty"`
	// APIKeyFile holds the key. When it and BaseURL are empty, the provider's own
	// environment variable is used, such as ANTHROPIC_API_KEY.
	APIKeyFile string `json:"apiKeyFile,omitempty"`
	apiKey     string
	// Window in tokens, prices in US dollars per million tokens; 0 means unknown.
	Window      int     `json:"window,omitempty"`
	InputPrice  float64 `json:"inputPrice,omitempty"`
	OutputPrice float64 `json:"outputPrice,omitempty"`
	// NoTools says that the model cannot call tools.
	NoTools bool `json:"noTools,omitempty"`
}

// BudgetConfig bounds one investigation; zero means no bound of its own.
type BudgetConfig struct {
	Steps   int      `json:"steps,omitempty"`
	Tokens  int      `json:"tokens,omitempty"`
	Cost    float64  `json:"cost,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
}

// Duration is written as "30s" or "2m" in YAML.
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("%s is not a duration in quotes such as \"30s\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s or 2m", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(strconv.Quote(time.Duration(d).String())), nil
}

// Offline is the name of no model.
const Offline = "offline"

// Defaults are the values used where nothing is said.
func Defaults() Config {
	return Config{
		Kubernetes: KubernetesConfig{QPS: 100, Burst: 200, RequestTimeout: Duration(30 * time.Second)},
		Model:      ModelConfig{Name: Offline},
		Budget:     BudgetConfig{Steps: 24, Tokens: 400_000, Timeout: Duration(5 * time.Minute)},
	}
}

// LoadConfig reads a configuration file over the defaults (no file is fine when
// path is empty), then the environment: GUMSHOE_MODEL, OPENAI_API_KEY and those of
// other providers, OPENAI_BASE_URL, GUMSHOE_STATE. KUBECONFIG is read by the Kubernetes client
// itself.
func LoadConfig(path string, getenv func(string) string) (Config, error) {
	c := Defaults()
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("configuration: %w", err)
		}
		if err := yaml.UnmarshalStrict(raw, &c); err != nil {
			return c, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	if v := getenv("GUMSHOE_MODEL"); v != "" {
		c.Model.Name = v
	}
	c.Store.fromEnv(getenv)
	c.modelEnv(getenv)
	return c, nil
}

// Validate checks fields against each other; the error names the field.
func (c Config) Validate() error {
	switch {
	case c.Bundle != "" && c.Kubernetes.Context != "":
		return errors.New("--bundle and --context exclude each other: a bundle is one recorded cluster")
	case c.Bundle != "" && c.Kubernetes.Kubeconfig != "":
		return errors.New("--bundle and --kubeconfig exclude each other: a bundle is one recorded cluster")
	case c.Kubernetes.QPS < 0 || c.Kubernetes.Burst < 0:
		return errors.New("kubernetes.qps and kubernetes.burst cannot be negative")
	case c.Budget.Steps < 0 || c.Budget.Tokens < 0 || c.Budget.Cost < 0 || c.Budget.Timeout < 0:
		return errors.New("budget: steps, tokens, cost and timeout cannot be negative")
	}
	if err := c.checkModels(); err != nil {
		return err
	}
	for _, section := range []interface{ validate() error }{
		c.Prometheus,
		c.GPU,
		c.Hubble,
		c.Loki,
		c.Supply,
		c.Azure,
		c.GKE,
		c.Store,
		c.Executor,
		c.Policy,
		c.Approval,
		c.Server,
		toolSpecs(c.Tools),
		mcpSpecs(c.MCP),
	} {
		if err := section.validate(); err != nil {
			return err
		}
	}
	return nil
}
