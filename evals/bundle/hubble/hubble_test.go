package hubble

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const lines = `{"node_status":{"state_change":"NODE_UNAVAILABLE","node_names":["node-b"]},"time":"2026-11-25T11:00:00Z"}
{"flow":{"time":"2026-11-25T11:50:00Z","verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","IP":{"source":"10.0.0.1","destination":"10.0.0.2"},"l4":{"TCP":{"source_port":4000,"destination_port":8000}},"source":{"namespace":"serve","pod_name":"router-1","identity":7,"labels":["k8s:app=router"]},"destination":{"namespace":"serve","pod_name":"engine-0","identity":8},"made_up":1},"node_name":"prod/node-a","time":"2026-11-25T11:50:00Z"}

{"flow":{"time":"2026-11-25T11:40:00Z","verdict":"FORWARDED","l4":{"UDP":{"destination_port":53}},"l7":{"http":{"url":"http://x/?token=abc","code":200}},"source":{"namespace":"other","pod_name":"p"},"destination":{"namespace":"kube-system","pod_name":"dns"}},"node_name":"prod/node-a","time":"2026-11-25T11:40:00Z"}
{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"9"},"time":"2026-11-25T11:55:00Z"}
`

func open(t *testing.T, files map[string]string) *Server {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	s, err := Open(fsys, noon, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dial(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	d, stop := s.Start()
	conn, err := grpc.NewClient("passthrough:///"+Address, grpc.WithContextDialer(d), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func ask(ctx context.Context, conn grpc.ClientConnInterface, req *observer.GetFlowsRequest) (flows, others int, err error) {
	stream, err := observer.NewObserverClient(conn).GetFlows(ctx, req)
	if err != nil {
		return 0, 0, err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return flows, others, nil
		}
		if err != nil {
			return flows, others, err
		}
		if r.GetFlow() != nil {
			flows++
		} else {
			others++
		}
	}
}

func TestReplayFilters(t *testing.T) {
	t.Parallel()
	conn := dial(t, open(t, map[string]string{"flows/a.jsonl": lines}))
	for name, c := range map[string]struct {
		req  *observer.GetFlowsRequest
		want int
	}{
		"everything":  {&observer.GetFlowsRequest{}, 2},
		"by pod":      {&observer.GetFlowsRequest{Whitelist: []*flow.FlowFilter{{SourcePod: []string{"serve/router"}}}}, 1},
		"whole space": {&observer.GetFlowsRequest{Whitelist: []*flow.FlowFilter{{DestinationPod: []string{"kube-system/"}}}}, 1},
		"and":         {&observer.GetFlowsRequest{Whitelist: []*flow.FlowFilter{{SourcePod: []string{"serve/"}, Verdict: []flow.Verdict{flow.Verdict_FORWARDED}}}}, 0},
		"or":          {&observer.GetFlowsRequest{Whitelist: []*flow.FlowFilter{{SourcePod: []string{"serve/"}}, {Protocol: []string{"UDP"}}}}, 2},
		"blacklist":   {&observer.GetFlowsRequest{Blacklist: []*flow.FlowFilter{{Verdict: []flow.Verdict{flow.Verdict_DROPPED}}}}, 1},
		"port":        {&observer.GetFlowsRequest{Whitelist: []*flow.FlowFilter{{DestinationPort: []string{"8000"}, SourceIp: []string{"10.0.0.1"}, DestinationIdentity: []uint32{8}}}}, 1},
		"since":       {&observer.GetFlowsRequest{Since: timestamppb.New(noon.Add(-15 * time.Minute))}, 1},
		"until":       {&observer.GetFlowsRequest{Until: timestamppb.New(noon.Add(-15 * time.Minute))}, 1},
		"last":        {&observer.GetFlowsRequest{Number: 1, Whitelist: []*flow.FlowFilter{{Verdict: []flow.Verdict{flow.Verdict_DROPPED}}}}, 0},
	} {
		got, _, err := ask(t.Context(), conn, c.req)
		if err != nil || got != c.want {
			t.Errorf("%s: %d flows, want %d: %v", name, got, c.want, err)
		}
	}
	_, _, err := ask(t.Context(), conn, &observer.GetFlowsRequest{Whitelist: []*flow.FlowFilter{{HttpPath: []string{"/"}}}})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "http_path") {
		t.Errorf("a filter that is not applied: %v", err)
	}
}

func TestReplayTellsOfNodes(t *testing.T) {
	t.Parallel()
	c := observer.NewObserverClient(dial(t, open(t, map[string]string{"flows.jsonl": lines})))
	s, err := c.ServerStatus(t.Context(), &observer.ServerStatusRequest{})
	if err != nil || s.GetNumFlows() != 2 || s.GetNumConnectedNodes().GetValue() != 1 || s.GetNumUnavailableNodes().GetValue() != 1 || s.GetUnavailableNodes()[0] != "node-b" {
		t.Errorf("%v %v", err, s)
	}
	n, err := c.GetNodes(t.Context(), &observer.GetNodesRequest{})
	if err != nil || len(n.GetNodes()) != 2 {
		t.Errorf("%v %v", err, n)
	}
	ns, err := c.GetNamespaces(t.Context(), &observer.GetNamespacesRequest{})
	if err != nil || len(ns.GetNamespaces()) != 3 {
		t.Errorf("%v %v", err, ns)
	}
}

func TestOpenNamesTheLine(t *testing.T) {
	t.Parallel()
	for text, say := range map[string]string{
		lines + "not json\n":                          "flows/a.jsonl:6",
		`{"flow":{"time":5}}`:                         "flows/a.jsonl:1",
		strings.Repeat("x", 2<<20):                    "too long",
		strings.Repeat(`{"lost_events":{}}`+"\n", 20): "more than 10",
	} {
		l := DefaultLimits()
		l.Events = 10
		_, err := Open(fstest.MapFS{"flows/a.jsonl": {Data: []byte(text)}}, noon, l)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%v does not say %q", err, say)
		}
	}
	if Holds(fstest.MapFS{"bundle.yaml": {}}) || !Holds(fstest.MapFS{"flows.jsonl": {Data: []byte("{}")}}) {
		t.Error("Holds")
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(lines)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Open(fstest.MapFS{"flows.jsonl": {Data: []byte(text)}}, noon, DefaultLimits())
		if err != nil {
			return
		}
		if _, err := s.ServerStatus(t.Context(), nil); err != nil {
			t.Error(err)
		}
		for _, e := range s.events {
			if e.GetFlow() != nil {
				matches(&flow.FlowFilter{SourcePod: []string{"serve/"}, Protocol: []string{"tcp"}}, e.GetFlow(), e.GetNodeName())
			}
		}
	})
}
