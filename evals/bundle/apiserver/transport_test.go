package apiserver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestServedOverTheNetwork reads, watches and stops a server on loopback.
func TestServedOverTheNetwork(t *testing.T) {
	t.Parallel()
	url, stop, err := Serve(t.Context(), shop(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := kubernetes.NewForConfig(&rest.Config{Host: url})
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(l.Items) != 4 {
		t.Fatalf("%v %v", l, err)
	}
	w, err := c.CoreV1().Pods("shop").Watch(t.Context(), metav1.ListOptions{ResourceVersion: l.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Pods("shop").Delete(t.Context(), "train", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != "DELETED" {
		t.Errorf("%v", e)
	}
	stop()
	for range w.ResultChan() { // ends with the server
	}
	if _, err := c.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a stopped server answers")
	}
	stop() // twice is no harm
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	url, stop, err := Serve(ctx, shop(t), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	stop()
	if _, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		t.Error("the port is open still")
	}
	if _, _, err := Serve(t.Context(), shop(t), "256.0.0.1:1"); err == nil {
		t.Error("an address that is none is listened on")
	}
}

// TestOnlyThisMachine: a page in a browser that has its own name point to
// loopback gets nothing.
func TestOnlyThisMachine(t *testing.T) {
	t.Parallel()
	url, stop, err := Serve(t.Context(), shop(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for host, want := range map[string]int{"": 200, "localhost": 200, "localhost:1": 200, "[::1]:80": 200, "127.0.0.9": 200, "evil.example.com": 403, "evil.example.com:80": 403, "127.0.0.1.example.com": 403, "10.0.0.1": 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/v1/pods", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("Host %q gets %d, want %d", host, res.StatusCode, want)
		}
	}
}

// TestTransportEnds: whatever the client does, the handler comes to its end.
func TestTransportEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer ended.Add(1)
			if r.URL.Path == "/late" {
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "first ")
			<-r.Context().Done()
			if _, err := io.WriteString(w, "last"); err == nil {
				t.Error("a write after the end succeeds")
			}
		})
		tr := &transport{handler: slow}
		get := func(ctx context.Context, path string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bundle.invalid"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			return tr.RoundTrip(req)
		}
		// The client closes the body.
		res, err := get(t.Context(), "/")
		if err != nil || res.Status != "200 OK" {
			t.Fatalf("%v %v", res, err)
		}
		buf := make([]byte, 6)
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != "first " {
			t.Errorf("%q %v", buf, err)
		}
		_ = res.Body.Close()
		// The client's time ends while it reads.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if res, err = get(ctx, "/"); err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(res.Body); string(raw) != "first " || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q %v", raw, err)
		}
		// And before there is an answer.
		ctx2, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		if _, err := get(ctx2, "/late"); !errors.Is(err, context.DeadlineExceeded) { //nolint:bodyclose // there is none
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if n := ended.Load(); n != 3 {
			t.Errorf("%d of 3 handlers have ended", n)
		}
	})
}

// TestPanicsAreAnswers: an object that no decoder gives makes a 500, not a dead
// process.
func TestPanicsAreAnswers(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.store(widgets(), nil, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "odd", "namespace": "shop"}, "spec": map[string]any{"replicas": int(3)}}})
	rec := ask(t, s, "PATCH", "/apis/example.com/v1/namespaces/shop/widgets/odd/scale", `{"spec":{"replicas":1}}`, "Content-Type: application/merge-patch+json")
	st := status(t, rec)
	if st.Code != 500 || st.Reason != metav1.StatusReasonInternalError || !strings.Contains(st.Message, "evals/bundle/apiserver/") || strings.Contains(st.Message, "goroutine") {
		t.Errorf("%+v", st)
	}
	// The lock is free still.
	if rec := ask(t, s, "PATCH", "/apis/example.com/v1/namespaces/shop/widgets/red-one/scale", `{"spec":{"replicas":1}}`, "Content-Type: application/merge-patch+json"); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
