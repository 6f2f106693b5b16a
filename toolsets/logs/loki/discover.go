package loki

import (
	"cmp"
	"slices"
	"strings"
)

// Service is what discovery sees of a Service.
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

// Candidate is a Service that looks like the read path of a Loki.
type Candidate struct {
	Namespace, Name string
	Port            Port
}

// maxCandidates bounds how many Services are asked.
const maxCandidates = 3

// Candidates picks the Services that look like the read path of a Loki, the most
// complete first: the gateway, the query front end, the read target, the single
// binary. Names and labels are those of Grafana's charts.
func Candidates(all []Service) []Candidate {
	type ranked struct {
		Candidate
		rank int
	}
	var found []ranked
	for _, s := range all {
		r := rank(s)
		if r < 0 {
			continue
		}
		if p, ok := port(s.Ports); ok {
			found = append(found, ranked{Candidate{s.Namespace, s.Name, p}, r})
		}
	}
	slices.SortFunc(found, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	out := make([]Candidate, 0, maxCandidates)
	for _, f := range found[:min(len(found), maxCandidates)] {
		out = append(out, f.Candidate)
	}
	return out
}

// rank is 0 for the best, -1 for what is no read path of a Loki.
func rank(s Service) int {
	ours := s.Labels["app.kubernetes.io/name"] == "loki" || s.Labels["app"] == "loki"
	part := s.Labels["app.kubernetes.io/component"]
	for i, name := range []string{"gateway", "query-frontend", "read"} {
		if ours && part == name || strings.HasSuffix(s.Name, "loki-"+name) {
			return i
		}
	}
	single := s.Name == "loki" || strings.HasSuffix(s.Name, "-loki") || s.Name == "loki-stack"
	if ours && (part == "single-binary" || part == "" && !strings.Contains(s.Name, "headless") && !strings.Contains(s.Name, "memberlist")) || single {
		return 3
	}
	return -1
}

// port picks the HTTP port.
func port(ports []Port) (Port, bool) {
	for _, name := range []string{"http-metrics", "http"} {
		for _, p := range ports {
			if p.Name == name {
				return p, true
			}
		}
	}
	for _, n := range []int32{3100, 80, 8080} {
		for _, p := range ports {
			if p.Number == n {
				return p, true
			}
		}
	}
	return Port{}, false
}
