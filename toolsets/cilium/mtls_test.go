package cilium_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

// complaint is the router's log when the engine does not answer.
const complaint = "2026-11-25T11:59:00Z POST http://engine:8000/v1: context deadline exceeded\n"

func doc(text string) string { return "\n---\n" + strings.TrimSpace(text) + "\n" }

func daemon(ns, name, label string) string {
	return doc("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {namespace: " + ns + ", name: " + name + "}\nspec: {selector: {matchLabels: {" + label + "}}}\nstatus: {desiredNumberScheduled: 1, numberReady: 1}")
}

func part(ns, name, label, ready string) string {
	return doc("apiVersion: v1\nkind: Pod\nmetadata: {namespace: " + ns + ", name: " + name + ", labels: {" + label + "}}\nspec: {nodeName: node-a, containers: [{name: c}]}\nstatus: {phase: Running, conditions: [{type: Ready, status: \"" + ready + "\"}]}")
}

func settings(pairs string) string {
	return doc("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: kube-system, name: cilium-config}\ndata: {" + pairs + "}")
}

// pods without the policy of twoPods.
func pods(nsLabels string) string {
	base, _, _ := strings.Cut(twoPods, "\n---\napiVersion: cilium.io/v2")
	return strings.Replace(base, "metadata: {name: serve}", "metadata: {name: serve, labels: {"+nsLabels+"}}", 1) + doc("apiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {os: linux}}\nspec: {taints: [{key: sku, value: gpu, effect: NoSchedule}]}")
}

const authRule = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {namespace: serve, name: auth}
spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{fromEndpoints: [{matchLabels: {app: router}}], authentication: {mode: required}}]}`

// Each mode that a part's own words prove is found in them, for a pod that suffers,
// and for none that does not.
func TestLogSignatures(t *testing.T) {
	t.Parallel()
	auth := pods("") + settings(`mesh-auth-enabled: "true"`) + doc(authRule) + daemon("cilium-spire", "spire-agent", "app: spire-agent") + part("cilium-spire", "spire-agent-a", "app: spire-agent", "True") + part("kube-system", "cilium-a", "k8s-app: cilium", "True") + part("kube-system", "cilium-operator-1", `"io.cilium/app": operator`, "True")
	ztunnel := pods(`"io.cilium/mtls-enabled": "true"`) + settings(`enable-ztunnel: "true"`) + doc("apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: node-a}") + daemon("kube-system", "ztunnel-cilium", "app.kubernetes.io/name: ztunnel-cilium") + part("kube-system", "ztunnel-cilium-a", "app.kubernetes.io/name: ztunnel-cilium", "True") + part("kube-system", "cilium-a", "k8s-app: cilium", "True")
	ambient := pods("istio.io/dataplane-mode: ambient") + doc("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: other, name: x}") + daemon("istio-system", "ztunnel", "app: ztunnel") + part("istio-system", "ztunnel-a", "app: ztunnel", "True")
	ambient = strings.ReplaceAll(ambient, "labels: {app: router}}", "labels: {app: router}, annotations: {ambient.istio.io/redirection: enabled}}")
	for line, c := range map[string]struct{ docs, at, want string }{
		`Error in delegate stream, restarting error="rpc error: code = PermissionDenied desc = no identity issued"`: {auth, "kube-system/cilium-a/c", "cilium.spire_delegate_missing"},
		`caller not configured as an authorized delegate`:                                                           {auth, "kube-system/cilium-a/c", "cilium.spire_delegate_unauthorized"},
		`no SPIFFE ID for spiffe://spiffe.cilium/identity/77`:                                                       {auth, "kube-system/cilium-a/c", "cilium.spire_entry_missing"},
		`no local endpoint present for identity 78`:                                                                 {auth, "kube-system/cilium-a/c", "cilium.identity_moved"},
		`remote node IP not available for node ID`:                                                                  {auth, "kube-system/cilium-a/c", "cilium.node_unknown_to_auth"},
		`failed to dial 10.9.9.9:4250: i/o timeout`:                                                                 {auth, "kube-system/cilium-a/c", "cilium.auth_dial_timeout"},
		`failed to verify certificate: x509: certificate has expired or is not yet valid`:                           {auth, "kube-system/cilium-a/c", "cilium.svid_expired"},
		`trust bundle not yet available`:                                                                            {auth, "kube-system/cilium-a/c", "cilium.trust_bundle_stale"},
		`Unable to connect to SPIRE server, attempt 3`:                                                              {auth, "kube-system/cilium-operator-1/c", "cilium.spire_unreachable"},
		`failed to upsert CA entries`:                                                                               {auth, "kube-system/cilium-operator-1/c", "cilium.spire_upsert_failed"},
		`failed to create gRPC TLS credentials`:                                                                     {ztunnel, "kube-system/cilium-a/c", "cilium.ztunnel_ca_failed"},
		`ztunnel is not compatible with clustermesh`:                                                                {ztunnel, "kube-system/cilium-a/c", "cilium.ztunnel_with_clustermesh"},
		`no endpoints found for service account default in namespace serve`:                                         {ztunnel, "kube-system/cilium-a/c", "cilium.ztunnel_csr_refused"},
		`Failed to enroll endpoint to ztunnel`:                                                                      {ztunnel, "kube-system/cilium-a/c", "cilium.ztunnel_enroll_failed"},
		`Nack received from ztunnel`:                                                                                {ztunnel, "kube-system/cilium-a/c", "cilium.ztunnel_nack"},
		`connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008`:                                  {ztunnel, "kube-system/ztunnel-cilium-a/c", "cilium.ztunnel_hbone_blocked"},
		`connecting to https://localhost:15012: tls handshake failed`:                                               {ztunnel, "kube-system/ztunnel-cilium-a/c", "cilium.ztunnel_bootstrap"},
		`delegated identity: no identity issued`:                                                                    {ztunnel, "kube-system/ztunnel-cilium-a/c", "cilium.ztunnel_no_identity"},
		`error="expected trustdomain a, got b"`:                                                                     {ztunnel, "kube-system/ztunnel-cilium-a/c", "cilium.ztunnel_san_mismatch"},
		`invalid peer certificate: UnknownIssuer`:                                                                   {ztunnel, "kube-system/ztunnel-cilium-a/c", "cilium.ztunnel_root_mismatch"},
		`signing: request impersonation authentication failure`:                                                     {ambient, "istio-system/ztunnel-a/c", "cilium.istio_ca_refused"},
		`h2 failed: frame with invalid size`:                                                                        {ambient, "istio-system/ztunnel-a/c", "cilium.istio_hbone_peer"},
		`XDS client connection error: gRPC connection error`:                                                        {ambient, "istio-system/ztunnel-a/c", "cilium.appnet_no_control_plane"},
		`explicitly denied by: serve/no-routers`:                                                                    {ambient, "istio-system/ztunnel-a/c", "cilium.istio_denied"},
	} {
		c1 := lab(t, c.docs)
		c1.logs["serve/router/router"] = complaint
		c1.logs[c.at] = "2026-11-25T11:58:00Z " + line + "\n"
		res, err := call(t, c1.toolset(t), "cilium_mtls", `{"namespace":"serve","pod":"router"}`)
		if err != nil || !strings.Contains(codes(res), c.want) {
			t.Errorf("%s: %v %q lacks %s\n%s", line, err, codes(res), c.want, res.Text)
		}
		delete(c1.logs, "serve/router/router")
		if res, _ := call(t, c1.toolset(t), "cilium_mtls", `{"namespace":"serve","pod":"router"}`); strings.Contains(codes(res), c.want) {
			t.Errorf("%s: a pod that complains of nothing is blamed for it", line)
		}
	}
}

// What objects alone show.
func TestMTLSObjects(t *testing.T) {
	t.Parallel()
	zt := settings(`enable-ztunnel: "true"`) + doc("apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: node-a}") + daemon("kube-system", "ztunnel-cilium", "app.kubernetes.io/name: ztunnel-cilium") + part("kube-system", "ztunnel-cilium-a", "app.kubernetes.io/name: ztunnel-cilium", "True")
	amb := doc("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: other, name: x}") + daemon("istio-system", "ztunnel", "app: ztunnel") + part("istio-system", "ztunnel-a", "app: ztunnel", "True")
	auth := settings(`mesh-auth-enabled: "true"`) + doc(authRule)
	for name, c := range map[string]struct {
		docs, args, want, not string
	}{
		"nothing of it":                {pods("") + settings("x: y"), `{"namespace":"serve","pod":"router"}`, "", "cilium."},
		"label with a wrong value":     {pods(`"io.cilium/mtls-enabled": "yes"`) + zt, `{"namespace":"serve"}`, "cilium.mtls_label_wrong", ""},
		"label, and all is off":        {pods(`"io.cilium/mtls-enabled": "true"`) + settings(`enable-ztunnel: "false"`), `{"namespace":"serve"}`, "cilium.mtls_off_while_enrolled", ""},
		"ztunnel with a mesh":          {pods("") + zt + doc("apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: kube-system, name: clustermesh-apiserver}"), `{}`, "cilium.ztunnel_with_clustermesh", ""},
		"host network":                 {strings.Replace(pods(`"io.cilium/mtls-enabled": "true"`), "serviceAccountName: default, containers: [{name: router", "serviceAccountName: default, hostNetwork: true, containers: [{name: router", 1) + zt, `{"namespace":"serve","pod":"router"}`, "cilium.mtls_host_network", ""},
		"ztunnel not on the node":      {pods(`"io.cilium/mtls-enabled": "true"`) + strings.Replace(zt, "name: ztunnel-cilium-a,", "name: ztunnel-cilium-a, deletionTimestamp: \"2026-11-25T11:00:00Z\",", 1), `{"namespace":"serve","pod":"router"}`, "cilium.ztunnel_down", ""},
		"spire-agent not on the node":  {pods("") + auth + daemon("cilium-spire", "spire-agent", "app: spire-agent"), `{"namespace":"serve","pod":"router"}`, "cilium.spire_agent_untolerated", ""},
		"spire-agent not ready":        {pods("") + auth + daemon("cilium-spire", "spire-agent", "app: spire-agent") + part("cilium-spire", "spire-agent-a", "app: spire-agent", "False"), `{"namespace":"serve","pod":"router"}`, "cilium.spire_agent_down", ""},
		"authentication is deprecated": {pods("") + auth, `{}`, "cilium.auth_deprecated", "cilium.auth_off"},
		"not captured":                 {pods("istio.io/dataplane-mode: ambient") + amb, `{"namespace":"serve","pod":"router"}`, "cilium.ambient_not_captured", ""},
		"istio-cni not there":          {pods("istio.io/dataplane-mode: ambient") + amb + daemon("istio-system", "istio-cni-node", "k8s-app: istio-cni-node"), `{"namespace":"serve","pod":"router"}`, "cilium.istio_cni_down", ""},
		"DENY that denies nothing":     {pods("istio.io/dataplane-mode: ambient") + amb + doc("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: serve, name: d}\nspec: {action: DENY}\nstatus: {conditions: [{type: ZtunnelAccepted, status: \"True\", reason: UnsupportedValue, message: methods}]}"), `{"namespace":"serve"}`, "cilium.istio_deny_ineffective", ""},
		"waypoint for workloads only":  {strings.Replace(pods("istio.io/dataplane-mode: ambient, istio.io/use-waypoint: wp"), "x", "x", 1) + amb + doc("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {namespace: serve, name: wp, labels: {istio.io/waypoint-for: workload}}"), `{"namespace":"serve","pod":"router"}`, "cilium.waypoint_scope", "cilium.waypoint_missing"},
	} {
		c1 := lab(t, c.docs)
		c1.logs["serve/router/router"] = complaint
		res, err := call(t, c1.toolset(t), "cilium_mtls", c.args)
		if err != nil || !strings.Contains(codes(res), c.want) || c.not != "" && strings.Contains(codes(res), c.not) {
			t.Errorf("%s: %v %q, want %q and not %q\n%s", name, err, codes(res), c.want, c.not, res.Text)
		}
	}
}

func TestProbesOfAmbientMode(t *testing.T) {
	t.Parallel()
	docs := pods("istio.io/dataplane-mode: ambient") + doc("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: other, name: x}") + daemon("istio-system", "ztunnel", "app: ztunnel") + part("istio-system", "ztunnel-a", "app: ztunnel", "True") +
		doc("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: serve, name: deny}\nspec: {podSelector: {}, policyTypes: [Ingress]}")
	docs = strings.Replace(docs, "containers: [{name: router,", "containers: [{name: router, readinessProbe: {httpGet: {path: /, port: 9000}},", 1)
	docs = strings.Replace(docs, `startTime: "2026-11-25T10:00:00Z", conditions: [{type: Ready, status: "True"}]`, `startTime: "2026-11-25T10:00:00Z", conditions: [{type: Ready, status: "False"}]`, 1)
	res, err := call(t, lab(t, docs).toolset(t), "cilium_mtls", `{"namespace":"serve","pod":"router"}`)
	if err != nil || !strings.Contains(codes(res), "cilium.ambient_probe_blocked") {
		t.Errorf("%v %q\n%s", err, codes(res), res.Text)
	}
}

// AUTH_REQUIRED that never ends is a fault; a drop before the handshake is none.
func TestAuthDrops(t *testing.T) {
	t.Parallel()
	end := func(app, cluster string) hubble.End {
		pod := map[string]string{"router": "router", "engine": "engine-0"}[app]
		return hubble.End{Namespace: "serve", Pod: pod, Cluster: cluster, Identity: 5, Labels: []string{"k8s:app=" + app, "k8s:io.kubernetes.pod.namespace=serve"}}
	}
	drop := func(n int, cluster string) []hubble.Flow {
		var out []hubble.Flow
		for i := range n {
			out = append(out, hubble.Flow{Time: noon.Add(-time.Duration(n-i) * time.Second), Verdict: "DROPPED", Drop: "AUTH_REQUIRED", Source: end("router", "prod"), Destination: end("engine", cluster), Proto: "TCP", Port: 8000, Direction: "INGRESS", Count: 1, DNSCode: -1, Node: "node-a"})
		}
		return out
	}
	docs := pods("") + settings(`mesh-auth-enabled: "true"`) + doc(authRule)
	for name, c := range map[string]struct {
		flows []hubble.Flow
		want  string
	}{
		"across clusters": {drop(5, "west"), "cilium.auth_cross_cluster"},
		"two drops":       {drop(2, "west"), ""},
		"then it flows":   {append(drop(5, "prod"), hubble.Flow{Time: noon, Verdict: "FORWARDED", Source: end("router", "prod"), Destination: end("engine", "prod"), Proto: "TCP", Port: 8000, Count: 1, DNSCode: -1}), ""},
	} {
		c1 := lab(t, docs)
		c1.flows = &hubble.Answer{Flows: c.flows}
		res, err := call(t, c1.toolset(t), "cilium_mtls", `{"namespace":"serve","pod":"router"}`)
		if got := strings.Trim(strings.ReplaceAll(codes(res), "cilium.auth_deprecated", ""), " "); err != nil || got != c.want {
			t.Errorf("%s: %v %q, want %q", name, err, got, c.want)
		}
	}
}

func TestTrustBundles(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bundle := func(until time.Time) string {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: noon.Add(-1000 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
		raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
		return doc("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: applink-system, name: istio-root-cert}\ndata:\n  root-cert.pem: |\n    " + strings.ReplaceAll(text, "\n", "\n    "))
	}
	base := pods("") + daemon("applink-system", "ztunnel", "app: ztunnel")
	for want, until := range map[string]time.Time{"": noon.Add(9000 * time.Hour), "cilium.trust_bundle_expires": noon.Add(100 * time.Hour), "cilium.trust_bundle_expired": noon.Add(-time.Hour)} {
		res, err := call(t, lab(t, base+bundle(until)).toolset(t), "cilium_mtls", `{}`)
		if err != nil || codes(res) != want || !strings.Contains(res.Text, "azure kubernetes application network") || !strings.Contains(res.Text, "trust bundle applink-system/istio-root-cert: 1 certificates") {
			t.Errorf("%v %q, want %q\n%s", err, codes(res), want, res.Text)
		}
	}
}

func TestSystemsAreToldApart(t *testing.T) {
	t.Parallel()
	res, err := call(t, lab(t, pods("istio-injection: enabled")+doc("apiVersion: v1\nkind: Namespace\nmetadata: {name: aks-istio-system}")).toolset(t), "cilium_mtls", `{}`)
	if err != nil || !strings.Contains(res.Text, "meshless istio ingress: ingress only") || !strings.Contains(res.Text, "istio sidecars") {
		t.Errorf("%v\n%s", err, res.Text)
	}
	if _, err := call(t, lab(t, pods("")).toolset(t), "cilium_mtls", `{"pod":"x"}`); tool.KindOf(err) != tool.Invalid {
		t.Error(err)
	}
	c := lab(t, pods(""))
	c.refuse["DaemonSet"] = tool.Forbidden
	res, err = call(t, c.toolset(t), "cilium_mtls", `{}`)
	if err != nil || !strings.Contains(res.Text, "DaemonSets not seen") {
		t.Errorf("%v\n%s", err, res.Text)
	}
}

// A relay that hears no node is said to be deaf, and nobody is called silent.
func TestDeafRelayIsALimit(t *testing.T) {
	t.Parallel()
	c := lab(t, twoPods)
	c.flows = &hubble.Answer{Unheard: map[string]string{"node-b": "no route"}, Lost: map[string]uint64{"hubble_ring_buffer": 3}, Cut: true}
	c.state = hubble.Status{Unavailable: 1, UnavailableNodes: []string{"node-b"}}
	ts := c.toolset(t)
	if st := ts.Status(t.Context()); len(st.Limits) != 1 || !strings.Contains(st.Limits[0].Source, "node-b") {
		t.Errorf("%+v", st)
	}
	res, err := call(t, ts, "cilium_flows", `{"namespace":"serve","pod":"router"}`)
	if err != nil || codes(res) != "" || !strings.Contains(res.Text, "not heard: nodes node-b") || !strings.Contains(res.Text, "3 events were lost") {
		t.Errorf("%v\n%s", err, res.Text)
	}
	if l := ts.Limits(time.Time{}); len(l) != 2 {
		t.Errorf("limits: %+v", l)
	}
	// A fresh look asks the relay again, and is told nothing of what others did not see.
	fresh := tool.Fresh(t.Context())
	c.state = hubble.Status{}
	if st := ts.Status(t.Context()); len(st.Limits) != 1 {
		t.Errorf("the state of the relay is not reused: %+v", st)
	}
	if st := ts.Status(fresh); len(st.Limits) != 0 {
		t.Errorf("a fresh look was given an older one: %+v", st)
	}
	if l := ts.Limits(tool.FreshSince(fresh)); len(l) != 0 {
		t.Errorf("limits of a later look: %+v", l)
	}
	names := 0
	for _, k := range ts.Checks() {
		if k.Tool == "cilium_flows" {
			names++
		}
	}
	if names == 0 {
		t.Error("flows are not looked for")
	}
	none := lab(t, twoPods).toolset(t)
	_ = none.Status(t.Context())
	for _, k := range none.Checks() {
		if k.Tool == "cilium_flows" {
			t.Error("flows are looked for where there is no Hubble")
		}
	}
	var _ cilium.Flows = c
}
