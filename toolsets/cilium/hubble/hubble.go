// Package hubble reads flows from a Hubble Observer over gRPC: hubble-relay, or the
// observer of one node. It gives plain types, says which nodes it did not hear and
// how many events were lost, and checks again what the server's filters gave.
//
// The API is that of Cilium 1.20 (api/v1/observer/observer.proto); a server of
// another version leaves fields out, which then are unknown.
package hubble

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// TLS of the client; files are PEM and read at each connection, so that renewed
// certificates count.
type TLS struct {
	CAFile, CertFile, KeyFile string
	// ServerName that the certificate must carry; relay's is
	// ui.hubble-relay.cilium.io or instance.hubble-relay.cilium.io.
	ServerName         string
	InsecureSkipVerify bool
}

// Config says where the observer is.
type Config struct {
	// Address is host:port of hubble-relay.
	Address string
	// TLS nil means plain text.
	TLS *TLS
	// Dialer connects to Address; nil means TCP.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
	// Timeout bounds one call; zero means 15 seconds.
	Timeout time.Duration
	// Now is the clock that client certificates are held against; nil means time.Now.
	Now func() time.Time
}

// Client talks to one observer. It is safe for concurrent use.
type Client struct {
	c Config
}

// New makes a client. It does not connect.
func New(c Config) (*Client, error) {
	if c.Address == "" {
		return nil, errors.New("hubble: an address, host:port, is required")
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return nil, fmt.Errorf("hubble: address %q is not host:port: %w", c.Address, err)
	}
	if c.TLS != nil && (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return nil, errors.New("hubble: certFile and keyFile go together")
	}
	if c.Timeout <= 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Client{c: c}, nil
}

// Address that is asked.
func (c *Client) Address() string { return c.c.Address }

// maxMessage bounds one message in bytes; a flow has a few kilobytes.
const maxMessage = 1 << 20

// Dial connects lazily, for callers that speak the API themselves; they close it.
func (c *Client) Dial() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.c.TLS != nil {
		cfg, err := c.c.TLS.config(c.c.Now())
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(cfg)
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)), grpc.WithUserAgent("gumshoe"), grpc.WithDisableServiceConfig()}
	if c.c.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(c.c.Dialer))
	}
	// The name is used as it stands: resolving is the dialer's business.
	conn, err := grpc.NewClient("passthrough:///"+c.c.Address, opts...)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "hubble-relay at " + c.c.Address + " cannot be used: " + err.Error(), Err: err}
	}
	return conn, nil
}

func (t *TLS) config(now time.Time) (*tls.Config, error) {
	// The servers take nothing older (pkg/hubble/server/serveroption, MinTLSVersion).
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // off unless the user says so
	if t.CAFile != "" {
		raw, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "hubble.tls.caFile cannot be read: " + err.Error(), Err: err}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(raw) {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "hubble.tls.caFile " + t.CAFile + " holds no PEM certificate"}
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "hubble.tls.certFile and keyFile cannot be used: " + err.Error(), Err: err}
		}
		if leaf := pair.Leaf; leaf != nil && now.After(leaf.NotAfter) {
			return nil, &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("the client certificate %s expired at %s", t.CertFile, leaf.NotAfter.UTC().Format(time.RFC3339)), Fix: "renew it and try again"}
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Status is what an observer says of itself. A relay whose peers are all gone says
// that all is well with no flows: Unavailable tells.
type Status struct {
	Flows, Seen uint64
	// Connected and Unavailable count nodes; -1 where the server does not say.
	Connected, Unavailable int
	UnavailableNodes       []string
	Version                string
	FlowsRate              float64
}

// Status asks for the state of the observer.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
	defer cancel()
	conn, err := c.Dial()
	if err != nil {
		return Status{}, err
	}
	defer func() { _ = conn.Close() }()
	r, err := observer.NewObserverClient(conn).ServerStatus(ctx, &observer.ServerStatusRequest{})
	if err != nil {
		return Status{}, c.failure(err)
	}
	s := Status{Flows: r.GetNumFlows(), Seen: r.GetSeenFlows(), Connected: -1, Unavailable: -1, UnavailableNodes: r.GetUnavailableNodes(), Version: r.GetVersion(), FlowsRate: r.GetFlowsRate()}
	if r.GetNumConnectedNodes() != nil {
		s.Connected = int(r.GetNumConnectedNodes().GetValue())
	}
	if r.GetNumUnavailableNodes() != nil {
		s.Unavailable = int(r.GetNumUnavailableNodes().GetValue())
	}
	return s, nil
}

// Query selects flows.
type Query struct {
	// Since and Until bound the time of flows; a zero Until means now.
	Since, Until time.Time
	// Namespace and Pod of an end; Pod may be empty. An empty Namespace means all.
	Namespace, Pod string
	// Peer namespace and pod of the other end, if it matters.
	PeerNamespace, PeerPod string
	// Dropped asks only for flows that did not get through.
	Dropped bool
	// Max bounds the flows that are taken; zero means DefaultMax.
	Max int
}

// DefaultMax is how many flows one answer holds at most.
const DefaultMax = 20_000

// Answer is what was seen, and what was not.
type Answer struct {
	Flows []Flow
	// Unheard are nodes that do not answer, with the relay's words.
	Unheard map[string]string
	// Lost counts events that were lost, by where; then absence proves nothing.
	Lost map[string]uint64
	// Cut says that there were more flows than Max, or that time ran out.
	Cut bool
}

// Flows asks for flows. What the server's filter gave is checked again here: an
// older server ignores fields of a filter that it does not know.
func (c *Client) Flows(ctx context.Context, q Query) (Answer, error) {
	if q.Max <= 0 {
		q.Max = DefaultMax
	}
	out := Answer{Unheard: map[string]string{}, Lost: map[string]uint64{}}
	ctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
	defer cancel()
	conn, err := c.Dial()
	if err != nil {
		return out, err
	}
	defer func() { _ = conn.Close() }()
	req := &observer.GetFlowsRequest{Whitelist: q.filters()}
	if !q.Since.IsZero() {
		req.Since = timestamppb.New(q.Since)
	}
	if !q.Until.IsZero() {
		req.Until = timestamppb.New(q.Until)
	}
	stream, err := observer.NewObserverClient(conn).GetFlows(ctx, req)
	if err != nil {
		return out, c.failure(err)
	}
	for taken := 0; ; {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil && len(out.Flows) > 0 && status.Code(err) == codes.DeadlineExceeded:
			out.Cut = true
			return out, nil
		case err != nil:
			return out, c.failure(err)
		}
		if n := m.GetNodeStatus(); n != nil {
			out.node(n)
		}
		if l := m.GetLostEvents(); l != nil {
			out.Lost[strings.ToLower(l.GetSource().String())] += l.GetNumEventsLost()
		}
		f := m.GetFlow()
		if f == nil {
			continue
		}
		if taken++; taken > q.Max {
			out.Cut = true
			return out, nil
		}
		if one := plain(f, m.GetNodeName()); q.wants(one) {
			out.Flows = append(out.Flows, one)
		}
	}
}

// node takes in what the relay says of nodes.
func (a *Answer) node(n *relay.NodeStatusEvent) {
	for _, name := range n.GetNodeNames() {
		switch n.GetStateChange() {
		case relay.NodeState_NODE_UNAVAILABLE, relay.NodeState_NODE_ERROR, relay.NodeState_NODE_GONE:
			a.Unheard[name] = orElse(n.GetMessage(), strings.ToLower(strings.TrimPrefix(n.GetStateChange().String(), "NODE_")))
		case relay.NodeState_NODE_CONNECTED:
			delete(a.Unheard, name)
		}
	}
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// filters writes the query for the server: either end, each verdict that matters.
func (q Query) filters() []*flow.FlowFilter {
	var verdicts []flow.Verdict
	if q.Dropped {
		verdicts = []flow.Verdict{flow.Verdict_DROPPED, flow.Verdict_ERROR, flow.Verdict_AUDIT}
	}
	if q.Namespace == "" {
		if verdicts == nil {
			return nil
		}
		return []*flow.FlowFilter{{Verdict: verdicts}}
	}
	me := []string{q.Namespace + "/" + q.Pod}
	var peer []string
	if q.PeerNamespace != "" {
		peer = []string{q.PeerNamespace + "/" + q.PeerPod}
	}
	return []*flow.FlowFilter{
		{SourcePod: me, DestinationPod: peer, Verdict: verdicts},
		{DestinationPod: me, SourcePod: peer, Verdict: verdicts},
	}
}

// wants repeats the filter on this side, where names are compared whole.
func (q Query) wants(f Flow) bool {
	if q.Dropped && !slices.Contains([]string{"DROPPED", "ERROR", "AUDIT"}, f.Verdict) {
		return false
	}
	if !f.Time.IsZero() && (!q.Since.IsZero() && f.Time.Before(q.Since) || !q.Until.IsZero() && f.Time.After(q.Until)) {
		return false
	}
	is := func(e End, ns, pod string) bool { return ns == "" || e.Namespace == ns && (pod == "" || e.Pod == pod) }
	return is(f.Source, q.Namespace, q.Pod) && is(f.Destination, q.PeerNamespace, q.PeerPod) ||
		is(f.Destination, q.Namespace, q.Pod) && is(f.Source, q.PeerNamespace, q.PeerPod)
}

// failure says what is wrong with the connection and the way out; the texts are
// those of a real relay.
func (c *Client) failure(err error) error {
	msg := status.Convert(err).Message()
	e := &tool.Error{Kind: tool.Unreachable, User: "hubble-relay at " + c.c.Address + " does not answer: " + msg, Err: err}
	switch {
	case errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled:
		return context.Canceled
	case status.Code(err) == codes.DeadlineExceeded:
		e.Kind, e.User = tool.TimedOut, "hubble-relay at "+c.c.Address+" did not answer in time"
	case status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unauthenticated:
		e.Kind, e.Fix = tool.Forbidden, "hubble-relay does not accept this client: give hubble.tls.certFile and keyFile"
	case strings.Contains(msg, "certificate required"):
		e.User, e.Fix = "hubble-relay wants a client certificate", "give hubble.tls.certFile and keyFile, as in Secret kube-system/hubble-relay-client-certs"
	case c.c.TLS != nil && c.c.TLS.CertFile == "" && (strings.Contains(msg, "broken pipe") || strings.Contains(msg, "connection reset") || strings.Contains(msg, "EOF")):
		// TLS 1.3 refuses a client after its own handshake: what is written meanwhile
		// may fail before the refusal is read.
		e.User, e.Fix = "hubble-relay closed the connection after the handshake: "+msg, "if it wants a client certificate, give hubble.tls.certFile and keyFile, as in Secret kube-system/hubble-relay-client-certs"
	case strings.Contains(msg, "certificate is valid for"):
		e.User, e.Fix = "hubble-relay's certificate is for another name: "+msg, "set hubble.tls.serverName, for example ui.hubble-relay.cilium.io"
	case strings.Contains(msg, "unknown authority"):
		e.User, e.Fix = "hubble-relay's certificate is signed by an unknown authority", "give its CA with hubble.tls.caFile"
	case strings.Contains(msg, "expired certificate"), strings.Contains(msg, "has expired"):
		e.User, e.Fix = "a certificate between here and hubble-relay has expired: "+msg, "renew the Hubble certificates the way they were installed"
	case strings.Contains(msg, "error reading server preface"):
		e.User, e.Fix = "hubble-relay speaks TLS and was addressed in plain text", "set hubble.tls"
	case strings.Contains(msg, "first record does not look like a TLS handshake"):
		e.User, e.Fix = "hubble-relay speaks plain text and was addressed with TLS", "leave hubble.tls out"
	}
	return e
}
