// Package hubble puts the flows of a bundle behind a real Hubble Observer: gRPC
// over an in-memory listener, or over TCP for other people's clients. A client
// cannot tell it from hubble-relay.
//
// Flows lie in flows.jsonl and flows/*.jsonl, one JSON object a line as `hubble
// observe -o jsonpb`, the Hubble exporter and AKS flow logs write them:
// {"flow":{...},"node_name":"...","time":"..."}; a line may hold node_status or
// lost_events instead, which say what was not seen.
package hubble

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Limits bound what is read of a bundle.
type Limits struct {
	// Events of all files together.
	Events int
	// LineBytes of one record.
	LineBytes int
}

// DefaultLimits fit an hour of a busy cluster's drops.
func DefaultLimits() Limits { return Limits{Events: 500_000, LineBytes: 1 << 20} }

// Address is what a client of an in-process server dials.
const Address = "hubble-relay.bundle:4245"

// Server serves the flows of one bundle.
type Server struct {
	observer.UnimplementedObserverServer
	clock  time.Time
	events []*observer.ExportEvent
	nodes  map[string]*relay.NodeStatusEvent
}

var _ observer.ObserverServer = (*Server)(nil)

// Holds reports whether a bundle has flows.
func Holds(fsys fs.FS) bool { return len(files(fsys)) > 0 }

func files(fsys fs.FS) []string {
	var out []string
	if st, err := fs.Stat(fsys, "flows.jsonl"); err == nil && st.Size() > 0 {
		out = append(out, "flows.jsonl")
	}
	more, err := fs.Glob(fsys, "flows/*.jsonl")
	if err == nil {
		out = append(out, more...)
	}
	return out
}

// Open reads the flows of a bundle. clock is the time that "now" means. Errors name
// file and line.
func Open(fsys fs.FS, clock time.Time, l Limits) (*Server, error) {
	s := &Server{clock: clock, nodes: map[string]*relay.NodeStatusEvent{}}
	for _, name := range files(fsys) {
		raw, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := s.read(name, raw, l); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(s.events, func(a, b *observer.ExportEvent) int { return at(a).Compare(at(b)) })
	return s, nil
}

func (s *Server) read(name string, raw []byte, l Limits) error {
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, l.LineBytes)
	for n := 1; sc.Scan(); n++ {
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		ev := &observer.ExportEvent{}
		// Other producers have fields of their own, and newer ones fields that are
		// unknown here.
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, ev); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if ns := ev.GetNodeStatus(); ns != nil {
			for _, node := range ns.GetNodeNames() {
				s.nodes[node] = ns
			}
		}
		if s.events = append(s.events, ev); len(s.events) > l.Events {
			return fmt.Errorf("%s:%d: the bundle has more than %d flows", name, n, l.Events)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// at is the time of an event.
func at(e *observer.ExportEvent) time.Time {
	if t := e.GetTime(); t != nil {
		return t.AsTime()
	}
	return e.GetFlow().GetTime().AsTime()
}

// Start serves over an in-memory listener until stop is called. The dialer connects
// to it, whatever the address.
func (s *Server) Start() (dial func(context.Context, string) (net.Conn, error), stop func() error) {
	lis := bufconn.Listen(256 << 10)
	srv := grpc.NewServer()
	observer.RegisterObserverServer(srv, s)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	return func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }, func() error {
		srv.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("hubble replay: %w", err)
		}
		return nil
	}
}

// Serve serves over TCP on loopback until ctx ends, for `gumshoe bundle serve`.
func (s *Server) Serve(ctx context.Context) (address string, stop func(), err error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	srv := grpc.NewServer()
	observer.RegisterObserverServer(srv, s)
	go func() { _ = srv.Serve(lis) }()
	return lis.Addr().String(), srv.Stop, nil
}

// GetFlows implements observer.ObserverServer: node states first, as a relay does,
// then the events in time that pass the filters. The stream ends with the recording.
func (s *Server) GetFlows(req *observer.GetFlowsRequest, out grpc.ServerStreamingServer[observer.GetFlowsResponse]) error {
	if err := known(append(slices.Clone(req.GetWhitelist()), req.GetBlacklist()...)); err != nil {
		return err
	}
	var send []*observer.GetFlowsResponse
	for _, e := range s.events {
		r := &observer.GetFlowsResponse{NodeName: e.GetNodeName(), Time: e.GetTime()}
		switch {
		case e.GetNodeStatus() != nil:
			r.ResponseTypes = &observer.GetFlowsResponse_NodeStatus{NodeStatus: e.GetNodeStatus()}
			if err := out.Send(r); err != nil {
				return err
			}
			continue
		case e.GetLostEvents() != nil:
			r.ResponseTypes = &observer.GetFlowsResponse_LostEvents{LostEvents: e.GetLostEvents()}
		case e.GetFlow() != nil:
			if !within(req, at(e)) || !passes(req, e.GetFlow(), e.GetNodeName()) {
				continue
			}
			r.ResponseTypes = &observer.GetFlowsResponse_Flow{Flow: e.GetFlow()}
		default:
			continue
		}
		send = append(send, r)
	}
	if n := int(req.GetNumber()); n > 0 && len(send) > n {
		if req.GetFirst() {
			send = send[:n]
		} else {
			send = send[len(send)-n:]
		}
	}
	for _, r := range send {
		if err := out.Send(r); err != nil {
			return err
		}
	}
	return nil
}

func within(req *observer.GetFlowsRequest, t time.Time) bool {
	return (req.GetSince() == nil || !t.Before(req.GetSince().AsTime())) && (req.GetUntil() == nil || !t.After(req.GetUntil().AsTime()))
}

func passes(req *observer.GetFlowsRequest, f *flow.Flow, node string) bool {
	is := func(x *flow.FlowFilter) bool { return matches(x, f, node) }
	return (len(req.GetWhitelist()) == 0 || slices.ContainsFunc(req.GetWhitelist(), is)) && !slices.ContainsFunc(req.GetBlacklist(), is)
}

// ServerStatus implements observer.ObserverServer.
func (s *Server) ServerStatus(context.Context, *observer.ServerStatusRequest) (*observer.ServerStatusResponse, error) {
	r := &observer.ServerStatusResponse{Version: "recorded"}
	for _, e := range s.events {
		if e.GetFlow() != nil {
			r.NumFlows++
		}
	}
	r.MaxFlows, r.SeenFlows = r.GetNumFlows(), r.GetNumFlows()
	var up, down uint32
	for _, n := range s.nodeList() {
		if n.GetState() == relay.NodeState_NODE_CONNECTED {
			up++
		} else {
			down++
			r.UnavailableNodes = append(r.UnavailableNodes, n.GetName())
		}
	}
	r.NumConnectedNodes, r.NumUnavailableNodes = wrapperspb.UInt32(up), wrapperspb.UInt32(down)
	return r, nil
}

// GetNodes implements observer.ObserverServer.
func (s *Server) GetNodes(context.Context, *observer.GetNodesRequest) (*observer.GetNodesResponse, error) {
	return &observer.GetNodesResponse{Nodes: s.nodeList()}, nil
}

// nodeList gives the nodes that flows or node states name.
func (s *Server) nodeList() []*observer.Node {
	state := map[string]relay.NodeState{}
	for _, e := range s.events {
		if e.GetFlow() != nil && e.GetNodeName() != "" {
			state[e.GetNodeName()] = relay.NodeState_NODE_CONNECTED
		}
	}
	for name, ns := range s.nodes {
		state[name] = ns.GetStateChange()
	}
	var out []*observer.Node
	for name, st := range state {
		out = append(out, &observer.Node{Name: name, State: st})
	}
	slices.SortFunc(out, func(a, b *observer.Node) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// GetNamespaces implements observer.ObserverServer.
func (s *Server) GetNamespaces(context.Context, *observer.GetNamespacesRequest) (*observer.GetNamespacesResponse, error) {
	seen := map[string]bool{}
	out := &observer.GetNamespacesResponse{}
	for _, e := range s.events {
		for _, ep := range []*flow.Endpoint{e.GetFlow().GetSource(), e.GetFlow().GetDestination()} {
			if ns := ep.GetNamespace(); ns != "" && !seen[ns] {
				seen[ns] = true
				out.Namespaces = append(out.Namespaces, &observer.Namespace{Namespace: ns, Cluster: ep.GetClusterName()})
			}
		}
	}
	slices.SortFunc(out.GetNamespaces(), func(a, b *observer.Namespace) int { return strings.Compare(a.GetNamespace(), b.GetNamespace()) })
	return out, nil
}

// Encode writes events as lines of a flows file, in the names of the API.
func Encode(events []*observer.ExportEvent) ([]byte, error) {
	var b bytes.Buffer
	for _, e := range events {
		raw, err := (protojson.MarshalOptions{UseProtoNames: true}).Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode flow: %w", err)
		}
		b.Write(raw)
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// Stamp gives the time of a response for a record.
func Stamp(r *observer.GetFlowsResponse) *timestamppb.Timestamp {
	if r.GetTime() != nil {
		return r.GetTime()
	}
	return r.GetFlow().GetTime()
}

// File is where a recording writes what it heard.
const File = "flows/hubble.jsonl"
