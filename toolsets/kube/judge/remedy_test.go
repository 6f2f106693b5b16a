package judge

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
)

func TestMeant(t *testing.T) {
	t.Parallel()
	tests := []struct {
		word string
		from []string
		want string
	}{
		{"ngnix", []string{"nginx", "traefik"}, "nginx"},
		{"NGINX", []string{"nginx", "traefik"}, "nginx"},
		{"gpu-bigg", []string{"gpu-big", "gpu-small"}, "gpu-big"},
		{"gpu-b", []string{"gpu-a", "gpu-c"}, ""},             // two come as near
		{"bonn", []string{"berlin"}, ""},                      // another place
		{"fast-ssd", []string{"standard", "premium-ssd"}, ""}, // another class
		{"pool-1", []string{"pool-2"}, ""},                    // a figure is no spelling
		{"llama-70b", []string{"llama-8b"}, ""},               // another model
		{"h100", []string{"h200"}, ""},                        // another GPU
		{"web", []string{"wbe", "api"}, "wbe"},                // two letters swapped
		{"web", []string{"db"}, ""},                           // short words differ in little
		{"nginx", []string{"nginx"}, ""},                      // it is what it says
		{"production", []string{"prodction", "production2"}, "prodction"},
	}
	for _, tt := range tests {
		if got := meant(tt.word, tt.from); got != tt.want {
			t.Errorf("%s among %v: %q, want %q", tt.word, tt.from, got, tt.want)
		}
	}
	if oneClass("", []string{"nginx"}) != "nginx" || oneClass("", []string{"a", "b"}) != "" || oneClass("internal", []string{"nginx"}) != "" {
		t.Error("a class that is not named means the only one; a class of another name means none")
	}
}

func asking(name string, n string) *corev1.Pod {
	p := &corev1.Pod{}
	c := corev1.Container{Name: "app"}
	if name != "" {
		c.Resources.Limits = corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(n)}
	}
	p.Spec.Containers = []corev1.Container{c}
	return p
}

func TestBelongs(t *testing.T) {
	t.Parallel()
	selecting := asking("", "")
	selecting.Spec.NodeSelector = map[string]string{"team": "vision"}
	tests := map[string]struct {
		pod   *corev1.Pod
		taint string
		want  bool
	}{
		"asks for the resource of the taint":     {asking("nvidia.com/gpu", "1"), "nvidia.com/gpu:NoSchedule", true},
		"asks for it, whatever the value":        {asking("nvidia.com/gpu", "1"), "nvidia.com/gpu=present:NoSchedule", true},
		"asks for none of it":                    {asking("nvidia.com/gpu", "0"), "nvidia.com/gpu:NoSchedule", false},
		"asks for something else":                {asking("amd.com/gpu", "1"), "nvidia.com/gpu:NoSchedule", false},
		"asks for GPUs on a GPU pool of AKS":     {asking("nvidia.com/gpu", "8"), "sku=gpu:NoSchedule", true},
		"asks for no GPU on a GPU pool of AKS":   {asking("cpu", "8"), "sku=gpu:NoSchedule", false},
		"selects the very nodes":                 {selecting, "team=vision:NoSchedule", true},
		"selects other nodes":                    {selecting, "team=speech:NoSchedule", false},
		"the nodes are kept for somebody":        {asking("nvidia.com/gpu", "1"), "reserved=batch:NoSchedule", false},
		"a taint without a value selects nobody": {selecting, "team:NoSchedule", false},
	}
	for name, tt := range tests {
		if got := belongs(tt.pod, tt.taint); (got != "") != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestNeeded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ resource, used, asked, want string }{
		{"requests.cpu", "200m", "100m", "300m"},
		{"requests.nvidia.com/gpu", "6", "4", "10"},
		{"requests.memory", "6Gi", "4Gi", "10Gi"},
		{"limits.cpu, requests.cpu", "7, 6", "4, 4", ""},
		{"requests.cpu", "?", "1", ""},
		{"", "1", "1", ""},
	} {
		if got := needed(params("resource", tt.resource, "used", tt.used, "requested", tt.asked)); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

func TestAsksRightly(t *testing.T) {
	t.Parallel()
	const plain = `Readiness probe failed: Get "https://10.0.0.1:8000/ready": http: server gave HTTP response to HTTPS client`
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8000), Scheme: corev1.URISchemeHTTPS}}, PeriodSeconds: 7}
	if got, want := asksRightly(probe, plain), `{"httpGet":{"path":"/ready","port":8000,"scheme":"HTTP"},"periodSeconds":7}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if probe.HTTPGet.Scheme != corev1.URISchemeHTTPS {
		t.Error("the pod itself was changed")
	}
	if got := asksRightly(probe, "HTTP probe failed with statuscode: 404"); got != "" {
		t.Errorf("a wrong path has no known right one: %s", got)
	}
	if got := asksRightly(nil, plain); got != "" {
		t.Errorf("no probe: %s", got)
	}
}

func TestOnlyPort(t *testing.T) {
	t.Parallel()
	for want, ports := range map[string][]corev1.ContainerPort{
		"http": {{Name: "http", ContainerPort: 8000}}, "8000": {{ContainerPort: 8000}},
		"": {{Name: "http", ContainerPort: 8000}, {Name: "metrics", ContainerPort: 9090}},
	} {
		if got := onlyPort(&corev1.Container{Ports: ports}); got != want {
			t.Errorf("%v: %q, want %q", ports, got, want)
		}
	}
}

func TestRelabel(t *testing.T) {
	t.Parallel()
	node := func(v string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"workload": v}}}
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: map[string]string{"workload": "gpu-bgi"}}}
	off := []filters.Demand{{Text: "workload=gpu-bgi"}}
	if got := relabel(p, off, []*corev1.Node{node("gpu-big"), node("cpu")}); got != "workload=gpu-big" {
		t.Errorf("got %q", got)
	}
	if got := relabel(p, off, []*corev1.Node{node("cpu")}); got != "" {
		t.Errorf("no node comes near: %q", got)
	}
	if got := relabel(p, append(off, filters.Demand{Text: "zone=a"}), []*corev1.Node{node("gpu-big")}); got != "" {
		t.Errorf("two labels are wrong, and one change does not do: %q", got)
	}
}
