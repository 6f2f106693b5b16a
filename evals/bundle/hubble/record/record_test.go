package record_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gumshoe-ai/gumshoe/evals/bundle/hubble"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/hubble/record"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const lines = `{"node_status":{"state_change":"NODE_UNAVAILABLE","node_names":["node-b"]},"time":"2026-11-25T11:45:00Z"}
{"flow":{"time":"2026-11-25T11:50:00Z","verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","source":{"namespace":"serve","pod_name":"router-1"},"destination":{"namespace":"serve","pod_name":"engine-0"}},"node_name":"prod/node-a","time":"2026-11-25T11:50:00Z"}
{"flow":{"time":"2026-11-25T11:40:00Z","verdict":"FORWARDED","l7":{"http":{"url":"http://x/?token=abc","code":200}},"source":{"namespace":"other","pod_name":"p"},"destination":{"namespace":"kube-system","pod_name":"dns"}},"node_name":"prod/node-a","time":"2026-11-25T11:40:00Z"}
{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"9"},"time":"2026-11-25T11:55:00Z"}
`

func dial(t *testing.T, files map[string]string) *grpc.ClientConn {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	s, err := hubble.Open(fsys, noon, hubble.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	d, stop := s.Start()
	conn, err := grpc.NewClient("passthrough:///"+hubble.Address, grpc.WithContextDialer(d), grpc.WithTransportCredentials(insecure.NewCredentials()))
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

// What a capture writes, a replay serves again, less what may carry payload.
func TestCaptureRoundTrip(t *testing.T) {
	t.Parallel()
	conn := dial(t, map[string]string{"flows/a.jsonl": lines})
	files := map[string]string{}
	c := record.New(record.Options{Conn: conn, Now: func() time.Time { return noon }, Redact: func(s string) string { return strings.ReplaceAll(s, "router-1", "masked") }})
	left, err := c.Record(t.Context(), func(name string, raw []byte) error { files[name] = string(raw); return nil })
	if err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	text := files["flows/hubble.jsonl"]
	if strings.Contains(text, "token") || strings.Contains(text, "router-1") || !strings.Contains(text, "drop_reason_desc") {
		t.Errorf("recorded: %s", text)
	}
	flows, others, err := ask(t.Context(), dial(t, files), &observer.GetFlowsRequest{})
	if err != nil || flows != 2 || others != 2 {
		t.Errorf("%d flows, %d others: %v", flows, others, err)
	}
	c = record.New(record.Options{Conn: conn, Now: func() time.Time { return noon }, Namespaces: []string{"serve"}, Max: 1})
	files = map[string]string{}
	if _, err := c.Record(t.Context(), func(name string, raw []byte) error { files[name] = string(raw); return nil }); err != nil || strings.Contains(files["flows/hubble.jsonl"], "kube-system") {
		t.Errorf("%v %v", err, files)
	}
}

func TestCaptureOfADeadRelay(t *testing.T) {
	t.Parallel()
	conn, err := grpc.NewClient("passthrough:///127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	left, err := record.New(record.Options{Conn: conn, Now: func() time.Time { return noon }}).Record(t.Context(), func(string, []byte) error { t.Error("written"); return nil })
	if err != nil || len(left) != 1 || left[0].What != "network flows" {
		t.Errorf("%v %v", left, err)
	}
}
