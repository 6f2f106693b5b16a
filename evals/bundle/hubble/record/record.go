// Package record puts the flows of a live relay into a bundle. It is apart from the
// replay, which is also built with other versions of what a capture links.
package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/hubble"
)

// Options say which flows go into a bundle.
type Options struct {
	// Conn is a connection to a relay or observer; the caller closes it.
	Conn grpc.ClientConnInterface
	Now  func() time.Time
	// Window before now that is recorded; zero means 30 minutes.
	Window time.Duration
	// Namespaces whose flows are recorded; empty means all.
	Namespaces []string
	// Redact masks secrets in the text of a record. Layer 7 headers and URLs are left
	// out in any case.
	Redact func(string) string
	// Max bounds the events; zero means 50,000. The newest are kept.
	Max int
	// Timeout of the recording; zero means a minute.
	Timeout time.Duration
}

// Recorder records flows into a bundle.
type Recorder struct{ o Options }

var _ bundle.Source = (*Recorder)(nil)

// New makes a Recorder.
func New(o Options) *Recorder {
	if o.Window <= 0 {
		o.Window = 30 * time.Minute
	}
	if o.Max <= 0 {
		o.Max = 50_000
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	return &Recorder{o: o}
}

// Record implements bundle.Source. A relay that does not answer is told as left
// out; it is no reason to lose the rest of a capture.
func (c *Recorder) Record(ctx context.Context, write func(name string, raw []byte) error) ([]bundle.LeftOut, error) {
	events, cut, err := c.read(ctx)
	var left []bundle.LeftOut
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		left = append(left, bundle.LeftOut{What: "network flows", Why: err.Error()})
	case cut:
		left = append(left, bundle.LeftOut{What: "older network flows", Why: fmt.Sprintf("only the newest %d are kept", c.o.Max)})
	}
	if len(events) == 0 {
		return left, nil
	}
	raw, err := hubble.Encode(events)
	if err != nil {
		return nil, err
	}
	if c.o.Redact != nil {
		raw = []byte(c.o.Redact(string(raw)))
	}
	return left, write(hubble.File, raw)
}

func (c *Recorder) read(ctx context.Context) (events []*observer.ExportEvent, cut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	req := &observer.GetFlowsRequest{Since: timestamppb.New(c.o.Now().Add(-c.o.Window)), Until: timestamppb.New(c.o.Now())}
	for _, ns := range c.o.Namespaces {
		req.Whitelist = append(req.Whitelist, &flow.FlowFilter{SourcePod: []string{ns + "/"}}, &flow.FlowFilter{DestinationPod: []string{ns + "/"}})
	}
	stream, err := observer.NewObserverClient(c.o.Conn).GetFlows(ctx, req)
	if err != nil {
		return nil, false, fmt.Errorf("hubble-relay: %w", err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, cut, nil
		}
		if err != nil {
			return events, cut, fmt.Errorf("hubble-relay: %w", err)
		}
		e := &observer.ExportEvent{NodeName: r.GetNodeName(), Time: hubble.Stamp(r)}
		switch {
		case r.GetFlow() != nil:
			if !c.within(r.GetFlow()) {
				continue
			}
			strip(r.GetFlow())
			e.ResponseTypes = &observer.ExportEvent_Flow{Flow: r.GetFlow()}
		case r.GetNodeStatus() != nil:
			e.ResponseTypes = &observer.ExportEvent_NodeStatus{NodeStatus: r.GetNodeStatus()}
		case r.GetLostEvents() != nil:
			e.ResponseTypes = &observer.ExportEvent_LostEvents{LostEvents: r.GetLostEvents()}
		default:
			continue
		}
		events = append(events, e)
		if len(events) > 2*c.o.Max {
			events, cut = slices.Clone(events[len(events)-c.o.Max:]), true
		}
	}
}

// within repeats the filter: an old server may not know it.
func (c *Recorder) within(f *flow.Flow) bool {
	return len(c.o.Namespaces) == 0 || slices.Contains(c.o.Namespaces, f.GetSource().GetNamespace()) || slices.Contains(c.o.Namespaces, f.GetDestination().GetNamespace())
}

// strip takes out what may carry the payload of requests.
func strip(f *flow.Flow) {
	if h := f.GetL7().GetHttp(); h != nil {
		h.Headers, h.Url = nil, ""
	}
	f.Summary = "" //nolint:staticcheck // deprecated, and repeats the URL
	f.Extensions = nil
}
