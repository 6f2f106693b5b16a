package prom

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Service is a Service of the cluster, as far as a discovery needs it.
type Service struct {
	Namespace, Name string
	Labels          map[string]string
	Ports           []Port
}

// Port of a Service.
type Port struct {
	Name   string
	Number int32
}

// Place is a Service that serves one of the APIs.
type Place struct {
	Namespace, Name string
	Port            Port
	// Path is the prefix of the API behind the port: "/prometheus" for Mimir.
	Path string
	// TLS says that the port wants https.
	TLS bool
	// What runs there: "Prometheus", "Thanos Query", ...
	What string
}

// known are the servers that clusters run, the most complete first: where a
// querier stands before several Prometheus servers, it sees what they see. Names
// are those of the common charts and operators.
func known() []server {
	return []server{
		{what: "Thanos Query", app: []string{"thanos-query", "thanos-query-frontend"}, names: []string{"thanos-query-frontend", "thanos-query", "thanos-querier"}, ports: []string{"http", "http-query-frontend", "web"}, number: []int32{9090, 10902, 9091}},
		{what: "Mimir", app: []string{"mimir"}, component: []string{"query-frontend", "nginx", "gateway"}, names: []string{"mimir-query-frontend", "mimir-gateway", "mimir-nginx", "mimir"}, ports: []string{"http-metrics", "http"}, number: []int32{8080, 80, 9009}, path: "/prometheus"},
		{what: "VictoriaMetrics", app: []string{"vmselect"}, names: []string{"vmselect"}, ports: []string{"http"}, number: []int32{8481}, path: "/select/0/prometheus"},
		{what: "VictoriaMetrics", app: []string{"vmsingle", "victoria-metrics-single"}, names: []string{"vmsingle", "victoria-metrics"}, ports: []string{"http"}, number: []int32{8428, 8429}},
		{what: "Prometheus", app: []string{"prometheus", "kube-prometheus-stack-prometheus"}, component: []string{"", "prometheus", "server"},
			names: []string{"kube-prometheus-stack-prometheus", "prometheus-kube-prometheus-prometheus", "prometheus-k8s", "prometheus-server", "prometheus-operated", "prometheus"}, ports: []string{"http-web", "web", "http"}, number: []int32{9090, 80}},
	}
}

func alertmanagers() []server {
	return []server{
		{what: "Mimir Alertmanager", names: []string{"mimir-alertmanager"}, ports: []string{"http-metrics", "http"}, number: []int32{8080}, path: "/alertmanager"},
		{what: "Alertmanager", app: []string{"alertmanager", "kube-prometheus-stack-alertmanager", "vmalertmanager"},
			names: []string{"kube-prometheus-stack-alertmanager", "prometheus-kube-prometheus-alertmanager", "alertmanager-main", "prometheus-alertmanager", "alertmanager-operated", "vmalertmanager", "alertmanager"},
			ports: []string{"http-web", "web", "http"}, number: []int32{9093, 80}},
	}
}

// server is one kind of server and how its Service is recognised: by the label
// app.kubernetes.io/name or app, or by its name.
type server struct {
	what           string
	app, component []string
	names          []string
	ports          []string
	number         []int32
	path           string
}

// Discover picks the Services that serve metrics and alerts, the likeliest
// first. Nothing is asked: whether they answer is for the caller to find out.
func Discover(all []Service) (prometheus, alertmanager []Place) {
	return pick(all, known()), pick(all, alertmanagers())
}

func pick(all []Service, servers []server) []Place {
	type scored struct {
		Place
		rank int
	}
	var out []scored
	for _, svc := range all {
		for i, s := range servers {
			rank, ok := s.fits(svc)
			if !ok {
				continue
			}
			port, ok := s.port(svc)
			if !ok {
				continue
			}
			out = append(out, scored{rank: i*100 + rank, Place: Place{Namespace: svc.Namespace, Name: svc.Name, Port: port, Path: s.path, What: s.what,
				TLS: port.Number == 443 || port.Number == 8443 || strings.Contains(port.Name, "https")}})
			break
		}
	}
	slices.SortStableFunc(out, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	places := make([]Place, len(out))
	for i, s := range out {
		places[i] = s.Place
	}
	return places
}

// fits tells whether a Service belongs to a server and how surely: 0 is best. An
// exact name is surest; a label comes next; a name with a release before it last.
func (s server) fits(svc Service) (int, bool) {
	if strings.Contains(svc.Name, "exporter") || strings.Contains(svc.Name, "operator") || strings.Contains(svc.Name, "pushgateway") || strings.HasSuffix(svc.Name, "-headless") || strings.HasSuffix(svc.Name, "-discovery") {
		return 0, false
	}
	if i := slices.Index(s.names, svc.Name); i >= 0 {
		return i, true
	}
	component := svc.Labels["app.kubernetes.io/component"]
	for _, label := range []string{"app.kubernetes.io/name", "app"} {
		if slices.Contains(s.app, svc.Labels[label]) && (len(s.component) == 0 || slices.Contains(s.component, component)) {
			return 20, true
		}
	}
	for i, n := range s.names {
		if strings.HasSuffix(svc.Name, "-"+n) {
			return 40 + i, true
		}
	}
	return 0, false
}

// port picks the port of the API: by its name, then by its number, else the only one.
func (s server) port(svc Service) (Port, bool) {
	for _, name := range s.ports {
		for _, p := range svc.Ports {
			if p.Name == name {
				return p, true
			}
		}
	}
	for _, n := range s.number {
		for _, p := range svc.Ports {
			if p.Number == n {
				return p, true
			}
		}
	}
	if len(svc.Ports) == 1 {
		return svc.Ports[0], true
	}
	return Port{}, false
}

const (
	// mostTried is how many Services are tried until one answers.
	mostTried = 4
	// tryTime is how long one of them may take.
	tryTime = 5 * time.Second
)

// Reach asks the places in turn, the likeliest first, and gives the first that
// answers as its API does. Where none does, the likeliest is given, so that its
// status can say what is wrong with it. dial makes the endpoint of a place.
func Reach(ctx context.Context, prometheus, alertmanager []Place, dial func(Place) Endpoint) Found {
	return Found{
		Prometheus: reach(ctx, prometheus, dial, func(ctx context.Context, ep Endpoint) error {
			c := NewClient(ClientConfig{Found: Found{Prometheus: ep}})
			_, err := c.InstantAt(ctx, "vector(1)", c.now(), 1)
			return err
		}),
		Alertmanager: reach(ctx, alertmanager, dial, func(ctx context.Context, ep Endpoint) error {
			var status struct {
				Version map[string]string `json:"versionInfo"`
			}
			_, err := NewClient(ClientConfig{Found: Found{Alertmanager: ep}}).alertmanager(ctx, "status", nil, &status)
			return err
		}),
	}
}

func reach(ctx context.Context, places []Place, dial func(Place) Endpoint, ask func(context.Context, Endpoint) error) Endpoint {
	var first Endpoint
	for i, p := range places[:min(len(places), mostTried)] {
		ep := dial(p)
		if i == 0 {
			first = ep
		}
		bound, cancel := context.WithTimeout(ctx, tryTime)
		err := ask(bound, ep)
		cancel()
		if err == nil {
			return ep
		}
	}
	return first
}
