// Package controlplane runs a real Kubernetes control plane for tests: etcd,
// kube-apiserver, kube-scheduler, kube-controller-manager and, if asked for,
// kwok, which plays the kubelet for nodes annotated kwok.x-k8s.io/node=fake.
// Everything listens on loopback and ends with the test.
package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Options of a control plane.
type Options struct {
	// Kwok makes pods on fake nodes run.
	Kwok bool
	// NoScheduler and NoControllers leave those processes out.
	NoScheduler, NoControllers bool
	// APIServerArgs, SchedulerArgs and ControllerArgs are added to the command lines.
	APIServerArgs, SchedulerArgs, ControllerArgs []string
	// Users beside the administrator: name to token. They have no rights until
	// RBAC gives them some.
	Users map[string]string
	// Audit makes the API server record every request; see AuditLog.
	Audit bool
	// Log is told what is done; may be nil.
	Log func(string)
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	dir    string
	bin    string
	server string
	token  string
	procs  []*process
}

// startTimeout bounds a start on a busy machine.
const startTimeout = 2 * time.Minute

// ForTest starts a control plane that ends with the test.
func ForTest(t testing.TB, o Options) *ControlPlane {
	t.Helper()
	if o.Log == nil {
		o.Log = func(s string) { t.Log(s) }
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	cp, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	return cp
}

// Start builds what is missing and starts the processes. It returns when the
// API server is ready and the scheduler and controllers answer.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	bin, err := Build(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "gumshoe-controlplane-")
	if err != nil {
		return nil, fmt.Errorf("control plane directory: %w", err)
	}
	cp := &ControlPlane{dir: dir, bin: bin, token: secret()}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := cp.start(ctx, o); err != nil {
		cp.Stop()
		return nil, err
	}
	return cp, nil
}

func (c *ControlPlane) start(ctx context.Context, o Options) error {
	ports, err := freePorts(5)
	if err != nil {
		return err
	}
	etcdURL := "http://127.0.0.1:" + ports[0]
	c.server = "https://127.0.0.1:" + ports[2]
	if err := c.writeFiles(o); err != nil {
		return err
	}
	etcd, err := c.run("etcd", "--data-dir="+c.path("etcd"), "--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls=http://127.0.0.1:"+ports[1], "--unsafe-no-fsync", "--log-level=warn")
	if err != nil {
		return err
	}
	if err := etcd.await(ctx, answers(etcdURL+"/health", nil)); err != nil {
		return err
	}
	if o.Audit {
		o.APIServerArgs = append(slices.Clone(o.APIServerArgs), "--audit-policy-file="+c.path("audit-policy.yaml"), "--audit-log-path="+c.path("audit.log"), "--audit-log-mode=blocking")
	}
	api, err := c.run("kube-apiserver", append([]string{
		"--etcd-servers=" + etcdURL, "--bind-address=127.0.0.1", "--secure-port=" + ports[2], "--cert-dir=" + c.path("certs"),
		"--authorization-mode=RBAC", "--token-auth-file=" + c.path("tokens.csv"), "--anonymous-auth=false",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.path("sa.key"),
		"--service-account-signing-key-file=" + c.path("sa.key"), "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged",
		// New nodes would carry the not-ready taint that the node lifecycle controller, left out below, takes away.
		"--disable-admission-plugins=TaintNodesByCondition",
		"--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
	}, o.APIServerArgs...)...)
	if err != nil {
		return err
	}
	if err := api.await(ctx, c.ready); err != nil {
		return err
	}
	if err := c.writeKubeconfig(c.Kubeconfig(), c.token); err != nil {
		return err
	}
	if !o.NoControllers {
		_, err := c.run("kube-controller-manager", append([]string{
			"--kubeconfig=" + c.Kubeconfig(), "--service-account-private-key-file=" + c.path("sa.key"), "--root-ca-file=" + c.ca(),
			"--use-service-account-credentials=false", "--leader-elect=false", "--secure-port=0",
			// Fake nodes renew no lease; without this they would turn unreachable.
			"--controllers=*,-node-lifecycle-controller", "--kube-api-qps=500", "--kube-api-burst=1000",
		}, o.ControllerArgs...)...)
		if err != nil {
			return err
		}
	}
	if !o.NoScheduler {
		sched, err := c.run("kube-scheduler", append([]string{
			"--kubeconfig=" + c.Kubeconfig(), "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=" + ports[3],
			"--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics", "--cert-dir=" + c.path("scheduler-certs"),
			"--kube-api-qps=500", "--kube-api-burst=1000",
		}, o.SchedulerArgs...)...)
		if err != nil {
			return err
		}
		if err := sched.await(ctx, answers("https://127.0.0.1:"+ports[3]+"/readyz", insecure())); err != nil {
			return err
		}
	}
	if o.Kwok {
		stages, err := kwokStages(ctx)
		if err != nil {
			return err
		}
		kwok, err := c.run("kwok", append(stages, "--kubeconfig="+c.Kubeconfig(), "--manage-all-nodes=false",
			"--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-lease-duration-seconds=0", "--server-address=127.0.0.1:"+ports[4])...)
		if err != nil {
			return err
		}
		if err := kwok.await(ctx, answers("http://127.0.0.1:"+ports[4]+"/healthz", nil)); err != nil {
			return err
		}
	}
	return c.awaitDefaultAccount(ctx, o)
}

// awaitDefaultAccount waits for the default ServiceAccount, without which no
// pod can be created.
func (c *ControlPlane) awaitDefaultAccount(ctx context.Context, o Options) error {
	if o.NoControllers {
		return nil
	}
	cs, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	kcm := c.procs[2]
	return kcm.await(ctx, func(ctx context.Context) error {
		_, err := cs.CoreV1().ServiceAccounts("default").Get(ctx, "default", getOptions())
		return err
	})
}

func (c *ControlPlane) run(name string, args ...string) (*process, error) {
	p, err := start(name, filepath.Join(c.bin, name), c.dir, args...)
	if err != nil {
		return nil, err
	}
	c.procs = append(c.procs, p)
	return p, nil
}

// Stop ends all processes, last started first, and removes their files.
func (c *ControlPlane) Stop() {
	for i := len(c.procs) - 1; i >= 0; i-- {
		c.procs[i].stop()
	}
	c.procs = nil
	_ = os.RemoveAll(c.dir)
}

// Kubectl is the path of a kubectl of the same version.
func (c *ControlPlane) Kubectl() string { return filepath.Join(c.bin, "kubectl") }

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *ControlPlane) Kubeconfig() string { return c.path("kubeconfig") }

// RESTConfig is the administrator's client configuration.
func (c *ControlPlane) RESTConfig() *rest.Config { return c.UserConfig(c.token) }

// UserConfig is the client configuration of the user with this token.
func (c *ControlPlane) UserConfig(token string) *rest.Config {
	return &rest.Config{Host: c.server, BearerToken: token, QPS: 1000, Burst: 2000, TLSClientConfig: rest.TLSClientConfig{CAFile: c.ca()}}
}

// UserKubeconfig writes a kubeconfig for the user with this token.
func (c *ControlPlane) UserKubeconfig(path, token string) error {
	return c.writeKubeconfig(path, token)
}

// Log gives the end of a process's log.
func (c *ControlPlane) Log(name string) string {
	for _, p := range c.procs {
		if p.name == name {
			return p.tail()
		}
	}
	return ""
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.dir, name) }
func (c *ControlPlane) ca() string              { return filepath.Join(c.dir, "certs", "apiserver.crt") }

func (c *ControlPlane) writeFiles(o Options) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	tokens := c.token + ",admin,admin,system:masters\n"
	for user, token := range o.Users {
		tokens += token + "," + user + "," + user + "\n"
	}
	return errors.Join(os.WriteFile(c.path("sa.key"), raw, 0o600), os.WriteFile(c.path("tokens.csv"), []byte(tokens), 0o600),
		os.WriteFile(c.path("audit-policy.yaml"), []byte(auditPolicy), 0o600))
}

func (c *ControlPlane) writeKubeconfig(path, token string) error {
	ca, err := os.ReadFile(c.ca())
	if err != nil {
		return fmt.Errorf("certificate of the API server: %w", err)
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["test"] = &clientcmdapi.Cluster{Server: c.server, CertificateAuthorityData: ca}
	cfg.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: token}
	cfg.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "user"}
	cfg.CurrentContext = "test"
	return clientcmd.WriteToFile(*cfg, path)
}

// ready asks the API server itself, with the administrator's token.
func (c *ControlPlane) ready(ctx context.Context) error {
	if _, err := os.Stat(c.ca()); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(c.RESTConfig())
	if err != nil {
		return err
	}
	return answers(c.server+"/readyz", client)(ctx)
}

// answers reports nil once the address answers 200.
func answers(url string, client *http.Client) func(context.Context) error {
	if client == nil {
		client = http.DefaultClient
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, res.Status)
		}
		return nil
	}
}

func secret() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return strings.ToLower(hex.EncodeToString(b))
}
