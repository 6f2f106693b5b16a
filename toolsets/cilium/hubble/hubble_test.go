package hubble_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// deaf is a server that ignores filters, as an old one does with new fields.
type deaf struct {
	observer.UnimplementedObserverServer
	send   []*observer.GetFlowsResponse
	status *observer.ServerStatusResponse
}

func (d deaf) GetFlows(_ *observer.GetFlowsRequest, out grpc.ServerStreamingServer[observer.GetFlowsResponse]) error {
	for _, r := range d.send {
		if err := out.Send(r); err != nil {
			return err
		}
	}
	return nil
}

func (d deaf) ServerStatus(context.Context, *observer.ServerStatusRequest) (*observer.ServerStatusResponse, error) {
	return d.status, nil
}

func serve(t *testing.T, d deaf, cfg *tls.Config) string {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if cfg != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg)))
	}
	srv := grpc.NewServer(opts...)
	observer.RegisterObserverServer(srv, d)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	return lis.Addr().String()
}

func seen(from, to string, v flow.Verdict, change func(*flow.Flow)) *observer.GetFlowsResponse {
	end := func(s string) *flow.Endpoint {
		ns, pod, _ := strings.Cut(s, "/")
		return &flow.Endpoint{Namespace: ns, PodName: pod, Identity: 7, Labels: []string{"k8s:app=" + pod}}
	}
	f := &flow.Flow{Time: timestamppb.New(noon), Verdict: v, Source: end(from), Destination: end(to), L4: &flow.Layer4{Protocol: &flow.Layer4_TCP{TCP: &flow.TCP{SourcePort: 4000, DestinationPort: 8000, Flags: &flow.TCPFlags{SYN: true}}}}}
	if change != nil {
		change(f)
	}
	return &observer.GetFlowsResponse{NodeName: "prod/node-a", Time: f.GetTime(), ResponseTypes: &observer.GetFlowsResponse_Flow{Flow: f}}
}

func client(t *testing.T, c hubble.Config) *hubble.Client {
	t.Helper()
	c.Now = func() time.Time { return noon }
	h, err := hubble.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFlowsAreFilteredAgain(t *testing.T) {
	t.Parallel()
	d := deaf{send: []*observer.GetFlowsResponse{
		{ResponseTypes: &observer.GetFlowsResponse_NodeStatus{NodeStatus: &relay.NodeStatusEvent{StateChange: relay.NodeState_NODE_UNAVAILABLE, NodeNames: []string{"node-b", "node-c"}, Message: "no route"}}},
		{ResponseTypes: &observer.GetFlowsResponse_NodeStatus{NodeStatus: &relay.NodeStatusEvent{StateChange: relay.NodeState_NODE_CONNECTED, NodeNames: []string{"node-c"}}}},
		{ResponseTypes: &observer.GetFlowsResponse_LostEvents{LostEvents: &flow.LostEvent{Source: flow.LostEventSource_HUBBLE_RING_BUFFER, NumEventsLost: 7}}},
		seen("serve/router", "serve/engine", flow.Verdict_DROPPED, func(f *flow.Flow) { f.DropReasonDesc = flow.DropReason_POLICY_DENIED }),
		seen("serve/router-2", "serve/engine", flow.Verdict_DROPPED, nil),
		seen("serve/router", "serve/engine", flow.Verdict_FORWARDED, nil),
		seen("serve/router", "serve/engine", flow.Verdict_DROPPED, func(f *flow.Flow) { f.Time = timestamppb.New(noon.Add(-time.Hour)) }),
		seen("serve/engine", "serve/router", flow.Verdict_DROPPED, func(f *flow.Flow) { f.DropReasonDesc = 250 }),
		seen("serve/router", "other/engine", flow.Verdict_DROPPED, nil),
	}}
	c := client(t, hubble.Config{Address: serve(t, d, nil)})
	a, err := c.Flows(t.Context(), hubble.Query{Since: noon.Add(-time.Minute), Until: noon, Namespace: "serve", Pod: "router", PeerNamespace: "serve", Dropped: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Flows) != 2 || a.Flows[0].Drop != "POLICY_DENIED" || a.Flows[1].Drop != "DROP_250" || a.Flows[0].Port != 8000 || !a.Flows[0].SYN || a.Flows[0].Node != "prod/node-a" {
		t.Errorf("flows: %+v", a.Flows)
	}
	if len(a.Unheard) != 1 || a.Unheard["node-b"] != "no route" || a.Lost["hubble_ring_buffer"] != 7 || a.Cut {
		t.Errorf("what was not seen: %+v", a)
	}
	if a, err := c.Flows(t.Context(), hubble.Query{Max: 2}); err != nil || !a.Cut || len(a.Flows) != 2 {
		t.Errorf("bounded: %v %+v", err, a)
	}
}

func TestFlowWords(t *testing.T) {
	t.Parallel()
	d := deaf{send: []*observer.GetFlowsResponse{
		seen("serve/router", "serve/engine", flow.Verdict_FORWARDED, func(f *flow.Flow) {
			f.IsReply = wrapperspb.Bool(true)
			f.L7 = &flow.Layer7{Type: flow.L7FlowType_RESPONSE, Record: &flow.Layer7_Http{Http: &flow.HTTP{Code: 503}}}
			f.Aggregate = &flow.Aggregate{IngressFlowCount: 4, EgressFlowCount: 2}
			f.EgressDeniedBy = []*flow.Policy{{Name: "p", Namespace: "serve", Kind: "CiliumNetworkPolicy"}, {}}
			f.TrafficDirection = flow.TrafficDirection_EGRESS
		}),
		seen("serve/router", "/", flow.Verdict_DROPPED, func(f *flow.Flow) {
			f.Destination = &flow.Endpoint{Identity: 2, Labels: []string{"reserved:world"}}
			f.IP = &flow.IP{Destination: "203.0.113.9"}
			f.L4 = &flow.Layer4{Protocol: &flow.Layer4_UDP{UDP: &flow.UDP{DestinationPort: 53}}}
			f.L7 = &flow.Layer7{Type: flow.L7FlowType_RESPONSE, Record: &flow.Layer7_Dns{Dns: &flow.DNS{Query: "x.", Rcode: 3}}}
			f.DropReason = 133 //nolint:staticcheck // what old servers fill
		}),
	}}
	a, err := client(t, hubble.Config{Address: serve(t, d, nil)}).Flows(t.Context(), hubble.Query{})
	if err != nil || len(a.Flows) != 2 {
		t.Fatal(err, a)
	}
	one, two := a.Flows[0], a.Flows[1]
	if one.Reply != "yes" || one.HTTPCode != 503 || one.Count != 6 || len(one.DeniedBy) != 1 || one.Direction != "EGRESS" || !one.L7 || one.DNSCode != -1 {
		t.Errorf("%+v", one)
	}
	if two.Destination.String() != "world 203.0.113.9" || two.Proto != "UDP" || two.DNSCode != 3 || two.Drop != "POLICY_DENIED" || two.Reply != "" {
		t.Errorf("%+v", two)
	}
}

// A relay without peers says that all is well.
func TestStatusOfADeafRelay(t *testing.T) {
	t.Parallel()
	d := deaf{status: &observer.ServerStatusResponse{NumConnectedNodes: wrapperspb.UInt32(0), NumUnavailableNodes: wrapperspb.UInt32(2), UnavailableNodes: []string{"a", "b"}}}
	s, err := client(t, hubble.Config{Address: serve(t, d, nil)}).Status(t.Context())
	if err != nil || s.Unavailable != 2 || s.Connected != 0 || len(s.UnavailableNodes) != 2 {
		t.Errorf("%v %+v", err, s)
	}
	d.status = &observer.ServerStatusResponse{}
	if s, err := client(t, hubble.Config{Address: serve(t, d, nil)}).Status(t.Context()); err != nil || s.Unavailable != -1 {
		t.Errorf("a server that does not say: %v %+v", err, s)
	}
}

// pki makes a CA and certificates of it in files.
type pki struct {
	dir  string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{dir: t.TempDir(), pool: x509.NewCertPool()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.key = key
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: noon.Add(-time.Hour * 24 * 365), NotAfter: noon.Add(time.Hour * 24 * 3650), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if p.ca, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	p.pool.AddCert(p.ca)
	p.write(t, "ca.crt", "CERTIFICATE", raw)
	return p
}

func (p *pki) write(t *testing.T, name, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(p.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) issue(t *testing.T, name, dns string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{dns}, NotBefore: noon.Add(-time.Hour * 24 * 300), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, tmpl, p.ca, &key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, name+".crt", "CERTIFICATE", raw)
	p.write(t, name+".key", "PRIVATE KEY", der)
	pair, err := tls.LoadX509KeyPair(p.path(name+".crt"), p.path(name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Each way in which the connection can be wrong is told with its way out.
func TestTLS(t *testing.T) {
	t.Parallel()
	p, other := newPKI(t), newPKI(t)
	far := noon.Add(time.Hour * 24 * 3650)
	cert := p.issue(t, "server", "*.hubble-relay.cilium.io", far)
	p.issue(t, "client", "client", far)
	p.issue(t, "old", "client", noon.Add(-time.Hour))
	d := deaf{status: &observer.ServerStatusResponse{Version: "1.20.2"}}
	mutual := serve(t, d, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.pool})
	plain := serve(t, d, nil)
	const name = "ui.hubble-relay.cilium.io"
	for what, c := range map[string]struct {
		cfg hubble.Config
		say string
	}{
		"as it should be":       {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: p.path("ca.crt"), CertFile: p.path("client.crt"), KeyFile: p.path("client.key"), ServerName: name}}, ""},
		"plain text":            {hubble.Config{Address: mutual}, "set hubble.tls"},
		"no client certificate": {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: p.path("ca.crt"), ServerName: name}}, "certFile and keyFile"},
		"another name":          {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: p.path("ca.crt"), CertFile: p.path("client.crt"), KeyFile: p.path("client.key"), ServerName: "relay"}}, "hubble.tls.serverName"},
		"another authority":     {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: other.path("ca.crt"), CertFile: p.path("client.crt"), KeyFile: p.path("client.key"), ServerName: name}}, "hubble.tls.caFile"},
		"expired":               {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: p.path("ca.crt"), CertFile: p.path("old.crt"), KeyFile: p.path("old.key"), ServerName: name}}, "expired"},
		"no CA file":            {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: p.path("none")}}, "caFile"},
		"CA that is none":       {hubble.Config{Address: mutual, TLS: &hubble.TLS{CAFile: p.path("client.key")}}, "no PEM certificate"},
		"TLS to plain text":     {hubble.Config{Address: plain, TLS: &hubble.TLS{InsecureSkipVerify: true}}, "leave hubble.tls out"},
		"nobody there":          {hubble.Config{Address: "127.0.0.1:1"}, "does not answer"},
	} {
		s, err := client(t, c.cfg).Status(t.Context())
		if c.say == "" {
			if err != nil || s.Version != "1.20.2" {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if err == nil || !strings.Contains(tool.UserText(err), c.say) || tool.KindOf(err) != tool.Unreachable {
			t.Errorf("%s: %v does not say %q", what, err, c.say)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []hubble.Config{{}, {Address: "relay"}, {Address: "relay:1", TLS: &hubble.TLS{CertFile: "x"}}} {
		if _, err := hubble.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestHangingServerEnds(t *testing.T) {
	t.Parallel()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	c := client(t, hubble.Config{Address: lis.Addr().String(), Timeout: 50 * time.Millisecond})
	if _, err := c.Status(t.Context()); tool.KindOf(err) != tool.TimedOut && tool.KindOf(err) != tool.Unreachable {
		t.Error(err)
	}
}
