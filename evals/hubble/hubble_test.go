// Package hubble_test holds gumshoe's Hubble client, its replay and its toolset
// against the real parts: a hubble-relay in front of real observers, with rings,
// filters and peers, over TCP. It is a module of its own, because they link most of
// Cilium.
package hubble_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	peerpb "github.com/cilium/cilium/api/v1/peer"
	v1 "github.com/cilium/cilium/pkg/hubble/api/v1"
	"github.com/cilium/cilium/pkg/hubble/container"
	"github.com/cilium/cilium/pkg/hubble/observer"
	"github.com/cilium/cilium/pkg/hubble/observer/namespace"
	"github.com/cilium/cilium/pkg/hubble/observer/observeroption"
	observertypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/hubble/relay/server"
	hubbleserver "github.com/cilium/cilium/pkg/hubble/server"
	"github.com/cilium/cilium/pkg/hubble/server/serveroption"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	bundlehubble "github.com/gumshoe-ai/gumshoe/evals/bundle/hubble"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

// pass hands flows through: what the datapath would have made of packets.
type pass struct{}

func (pass) Decode(e *observertypes.MonitorEvent) (*v1.Event, error) {
	f, ok := e.Payload.(*flow.Flow)
	if !ok {
		return nil, errors.New("no flow")
	}
	return &v1.Event{Timestamp: f.GetTime(), Event: f}, nil
}

// peers tells the relay of nodes, once.
type peers struct {
	peerpb.UnimplementedPeerServer
	known []*peerpb.ChangeNotification
}

func (p peers) Notify(_ *peerpb.NotifyRequest, out peerpb.Peer_NotifyServer) error {
	for _, n := range p.known {
		if err := out.Send(n); err != nil {
			return err
		}
	}
	<-out.Context().Done()
	return nil
}

func free(t *testing.T) string {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}

// node starts the real observer of one node with flows in its ring.
func node(t *testing.T, name string, flows []*flow.Flow) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	obs, err := observer.NewLocalServer(pass{}, namespace.NewManager(), log, observeroption.WithMaxFlows(container.Capacity255))
	if err != nil {
		t.Fatal(err)
	}
	go obs.Start()
	for _, f := range flows {
		f.NodeName = name
		obs.GetEventsChannel() <- &observertypes.MonitorEvent{Timestamp: f.GetTime().AsTime(), NodeName: name, Payload: f}
	}
	at := free(t)
	srv, err := hubbleserver.NewServer(log, serveroption.WithTCPListener(at), serveroption.WithInsecure(), serveroption.WithHealthService(), serveroption.WithObserverService(obs))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve() }()
	t.Cleanup(srv.Stop)
	return at
}

// alone runs a test in a process of its own and reports whether this is it: a relay
// keeps its metrics in a registry of the process, which takes one relay only.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv("GUMSHOE_RELAY_ALONE") != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GUMSHOE_RELAY_ALONE=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// relay starts the real hubble-relay in front of nodes.
func relay(t *testing.T, nodes map[string]string) string {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := peers{}
	for name, at := range nodes {
		p.known = append(p.known, &peerpb.ChangeNotification{Name: name, Address: at, Type: peerpb.ChangeNotificationType_PEER_ADDED})
	}
	ps := grpc.NewServer()
	peerpb.RegisterPeerServer(ps, p)
	go func() { _ = ps.Serve(lis) }()
	t.Cleanup(ps.Stop)
	at := free(t)
	srv, err := server.New(server.WithPeerTarget(lis.Addr().String()), server.WithListenAddress(at), server.WithHealthListenAddress(free(t)), server.WithInsecureClient(), server.WithInsecureServer(),
		server.WithLocalClusterName("prod"), server.WithRetryTimeout(200*time.Millisecond), server.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve() }()
	t.Cleanup(srv.Stop)
	return at
}

func sent(from, to string, ago time.Duration, v flow.Verdict, why flow.DropReason) *flow.Flow {
	end := func(pod string) *flow.Endpoint {
		return &flow.Endpoint{Namespace: "serve", PodName: pod, Identity: 7, Labels: []string{"k8s:app=" + pod, "k8s:io.kubernetes.pod.namespace=serve"}}
	}
	return &flow.Flow{Time: timestamppb.New(time.Now().Add(-ago)), Verdict: v, DropReasonDesc: why, Source: end(from), Destination: end(to), Type: flow.FlowType_L3_L4, TrafficDirection: flow.TrafficDirection_INGRESS,
		IP: &flow.IP{Source: "10.0.0.1", Destination: "10.0.0.2"}, L4: &flow.Layer4{Protocol: &flow.Layer4_TCP{TCP: &flow.TCP{SourcePort: 4000, DestinationPort: 8000}}}, EventType: &flow.CiliumEventType{Type: 1}}
}

// traffic is a ring with five drops, two forwarded flows of the router and one event
// at the end: a query never gives the newest of a ring.
func traffic() []*flow.Flow {
	var out []*flow.Flow
	for i := range 5 {
		out = append(out, sent("router", "engine", time.Duration(60-i)*time.Second, flow.Verdict_DROPPED, flow.DropReason_POLICY_DENIED))
	}
	out = append(out, sent("router", "store", 20*time.Second, flow.Verdict_FORWARDED, 0), sent("router-2", "engine", 19*time.Second, flow.Verdict_DROPPED, flow.DropReason_AUTH_REQUIRED))
	return append(out, sent("other", "thing", time.Second, flow.Verdict_FORWARDED, 0))
}

func client(t *testing.T, at string) *hubble.Client {
	t.Helper()
	c, err := hubble.New(hubble.Config{Address: at})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually asks until the relay has met its peers.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the relay never came to it")
}

func TestClientAgainstARealRelay(t *testing.T) {
	if !alone(t) {
		return
	}
	at := relay(t, map[string]string{"prod/node-a": node(t, "prod/node-a", traffic()), "prod/node-dead": "127.0.0.1:1"})
	c := client(t, at)
	eventually(t, func() bool {
		s, err := c.Status(t.Context())
		return err == nil && s.Connected == 1 && s.Unavailable == 1 && s.Flows > 0
	})
	s, err := c.Status(t.Context())
	if err != nil || !slices.Contains(s.UnavailableNodes, "prod/node-dead") {
		t.Errorf("%v %+v", err, s)
	}
	a, err := c.Flows(t.Context(), hubble.Query{Since: time.Now().Add(-10 * time.Minute), Namespace: "serve", Pod: "router", Dropped: true})
	if err != nil {
		t.Fatal(err)
	}
	// The server matches "serve/router" by prefix; the name is compared whole here.
	if len(a.Flows) != 5 || a.Flows[0].Drop != "POLICY_DENIED" || a.Flows[0].Port != 8000 || a.Flows[0].Node != "prod/node-a" || a.Flows[0].Direction != "INGRESS" {
		t.Errorf("%+v", a.Flows)
	}
	if _, ok := a.Unheard["prod/node-dead"]; !ok {
		t.Errorf("the dead node is not said: %+v", a.Unheard)
	}
	if a, err := c.Flows(t.Context(), hubble.Query{Namespace: "serve", Pod: "router", PeerNamespace: "serve", PeerPod: "store"}); err != nil || len(a.Flows) != 1 {
		t.Errorf("%v %+v", err, a.Flows)
	}
	if a, err := c.Flows(t.Context(), hubble.Query{Since: time.Now().Add(-10 * time.Second), Namespace: "serve", Pod: "router"}); err != nil || len(a.Flows) != 0 {
		t.Errorf("of the last seconds: %v %+v", err, a.Flows)
	}
}

// A relay whose peers are all dead answers that all is well, with no flows.
func TestDeafRelay(t *testing.T) {
	if !alone(t) {
		return
	}
	c := client(t, relay(t, map[string]string{"prod/node-dead": "127.0.0.1:1"}))
	eventually(t, func() bool {
		s, err := c.Status(t.Context())
		return err == nil && s.Unavailable == 1
	})
	s, err := c.Status(t.Context())
	if err != nil || s.Connected != 0 || s.Flows != 0 {
		t.Errorf("%v %+v", err, s)
	}
}

// An observer of a node does without what only a relay knows.
func TestClientAgainstANode(t *testing.T) {
	c := client(t, node(t, "prod/node-a", traffic()))
	eventually(t, func() bool { s, err := c.Status(t.Context()); return err == nil && s.Seen >= 8 })
	s, err := c.Status(t.Context())
	if err != nil || s.Unavailable != -1 {
		t.Errorf("%v %+v", err, s)
	}
	if a, err := c.Flows(t.Context(), hubble.Query{Namespace: "serve", Pod: "router-2"}); err != nil || len(a.Flows) != 1 || a.Flows[0].Drop != "AUTH_REQUIRED" {
		t.Errorf("%v %+v", err, a)
	}
}

// What is captured from a real relay, the replay gives as the relay did, filter by
// filter.
func TestReplayAnswersAsTheRelay(t *testing.T) {
	if !alone(t) {
		return
	}
	at := relay(t, map[string]string{"prod/node-a": node(t, "prod/node-a", traffic())})
	c := client(t, at)
	eventually(t, func() bool { s, err := c.Status(t.Context()); return err == nil && s.Connected == 1 && s.Flows > 0 })
	conn, err := grpc.NewClient("passthrough:///"+at, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	replay, err := bundlehubble.Open(recorded(t, conn), time.Now(), bundlehubble.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	dial, stop := replay.Start()
	defer func() { _ = stop() }()
	other, err := grpc.NewClient("passthrough:///bundle:1", grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	for name, f := range map[string]*flow.FlowFilter{
		"pod": {SourcePod: []string{"serve/router"}}, "namespace": {DestinationPod: []string{"serve/"}}, "verdict": {Verdict: []flow.Verdict{flow.Verdict_DROPPED}},
		"reason": {DropReasonDesc: []flow.DropReason{flow.DropReason_AUTH_REQUIRED}}, "port": {DestinationPort: []string{"8000"}, Protocol: []string{"TCP"}}, "udp": {Protocol: []string{"UDP"}},
		"ip": {SourceIp: []string{"10.0.0.1"}}, "identity": {DestinationIdentity: []uint32{7}}, "direction": {TrafficDirection: []flow.TrafficDirection{flow.TrafficDirection_EGRESS}},
		"node": {NodeName: []string{"prod/node-a"}}, "event": {EventType: []*flow.EventTypeFilter{{Type: 1}}}, "both": {SourcePod: []string{"serve/router"}, Verdict: []flow.Verdict{flow.Verdict_FORWARDED}},
	} {
		want, err := count(t.Context(), conn, f)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := count(t.Context(), other, f)
		if err != nil || got != want {
			t.Errorf("%s: the replay gives %d flows, the relay %d: %v", name, got, want, err)
		}
	}
}

// recorded writes what a relay gives as a recording does.
func recorded(t *testing.T, conn grpc.ClientConnInterface) fs.FS {
	t.Helper()
	stream, err := observerpb.NewObserverClient(conn).GetFlows(t.Context(), &observerpb.GetFlowsRequest{Since: timestamppb.New(time.Now().Add(-10 * time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	var events []*observerpb.ExportEvent
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e := &observerpb.ExportEvent{NodeName: r.GetNodeName(), Time: bundlehubble.Stamp(r)}
		switch {
		case r.GetFlow() != nil:
			e.ResponseTypes = &observerpb.ExportEvent_Flow{Flow: r.GetFlow()}
		case r.GetNodeStatus() != nil:
			e.ResponseTypes = &observerpb.ExportEvent_NodeStatus{NodeStatus: r.GetNodeStatus()}
		default:
			continue
		}
		events = append(events, e)
	}
	raw, err := bundlehubble.Encode(events)
	if err != nil || len(events) < 2 {
		t.Fatalf("%d events: %v", len(events), err)
	}
	return fstest.MapFS{bundlehubble.File: {Data: raw}}
}

func count(ctx context.Context, conn grpc.ClientConnInterface, f *flow.FlowFilter) (int, error) {
	stream, err := observerpb.NewObserverClient(conn).GetFlows(ctx, &observerpb.GetFlowsRequest{Since: timestamppb.New(time.Now().Add(-10 * time.Minute)), Whitelist: []*flow.FlowFilter{f}})
	if err != nil {
		return 0, err
	}
	for n := 0; ; {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if r.GetFlow() != nil {
			n++
		}
	}
}

// A dead address is an error sentence with the address in it.
func TestNobodyThere(t *testing.T) {
	_, err := client(t, "127.0.0.1:1").Status(t.Context())
	if tool.KindOf(err) != tool.Unreachable || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
}
