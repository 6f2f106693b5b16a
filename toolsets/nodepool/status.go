package nodepool

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// caStatus is what the cluster autoscaler publishes of itself in the ConfigMap
// cluster-autoscaler-status: YAML since 1.30, readable text before.
type caStatus struct {
	// running is its own word: Running, Initializing.
	running string
	// at is when it was written; zero where that is not said.
	at     time.Time
	groups []group
}

// group is one node group of the autoscaler. Figures that it does not give are -1.
type group struct {
	name                     string
	min, max, target         int
	ready, registered        int
	unregistered, longAbsent int
	scaleUp                  string // NoActivity, InProgress, Backoff
	since                    time.Time
	errorCode, errorMessage  string
	healthy                  bool
}

// parseStatus reads either format. Unknown fields are passed over.
func parseStatus(s string) (*caStatus, error) {
	if strings.TrimSpace(s) == "" {
		return nil, &tool.Error{Kind: tool.Internal, User: "the ConfigMap cluster-autoscaler-status has no status"}
	}
	if len(s) > maxStatus {
		return nil, &tool.Error{Kind: tool.Internal, User: fmt.Sprintf("the ConfigMap cluster-autoscaler-status has %d bytes, more than %d", len(s), maxStatus)}
	}
	if strings.HasPrefix(strings.TrimSpace(s), "Cluster-autoscaler status at") || strings.Contains(s, "Cluster-wide:") {
		return parseText(s), nil
	}
	var y struct {
		AutoscalerStatus string `json:"autoscalerStatus"`
		Time             string `json:"time"`
		NodeGroups       []struct {
			Name   string `json:"name"`
			Health struct {
				Status     string `json:"status"`
				NodeCounts struct {
					Registered struct {
						Total int `json:"total"`
						Ready int `json:"ready"`
					} `json:"registered"`
					LongUnregistered int `json:"longUnregistered"`
					Unregistered     int `json:"unregistered"`
				} `json:"nodeCounts"`
				CloudProviderTarget int `json:"cloudProviderTarget"`
				MinSize             int `json:"minSize"`
				MaxSize             int `json:"maxSize"`
			} `json:"health"`
			ScaleUp struct {
				Status      string `json:"status"`
				BackoffInfo struct {
					ErrorCode    string `json:"errorCode"`
					ErrorMessage string `json:"errorMessage"`
				} `json:"backoffInfo"`
				LastTransitionTime string `json:"lastTransitionTime"`
			} `json:"scaleUp"`
		} `json:"nodeGroups"`
	}
	if err := yaml.Unmarshal([]byte(s), &y); err != nil {
		return nil, &tool.Error{Kind: tool.Internal, User: "the status of the cluster autoscaler cannot be read: it is neither of the two formats known", Err: err}
	}
	st := &caStatus{running: y.AutoscalerStatus, at: when(y.Time)}
	for _, g := range y.NodeGroups {
		if g.Name == "" {
			continue
		}
		st.groups = append(st.groups, group{
			name: g.Name, min: g.Health.MinSize, max: g.Health.MaxSize, target: g.Health.CloudProviderTarget,
			ready: g.Health.NodeCounts.Registered.Ready, registered: g.Health.NodeCounts.Registered.Total,
			unregistered: g.Health.NodeCounts.Unregistered, longAbsent: g.Health.NodeCounts.LongUnregistered,
			scaleUp: g.ScaleUp.Status, since: when(g.ScaleUp.LastTransitionTime),
			errorCode: g.ScaleUp.BackoffInfo.ErrorCode, errorMessage: g.ScaleUp.BackoffInfo.ErrorMessage,
			healthy: g.Health.Status == "" || g.Health.Status == "Healthy",
		})
	}
	return st, nil
}

// maxStatus bounds what is read: etcd takes no object beyond about 1.5 MiB.
const maxStatus = 2 << 20

// when reads a time as either format writes it; zero if it is none.
func when(s string) time.Time {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " m=")
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999 -0700 MST"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at
		}
	}
	return time.Time{}
}

// parseText reads the format of releases before 1.30: indented lines "Name:",
// "Health:" and "ScaleUp:" with figures in brackets.
func parseText(s string) *caStatus {
	st := &caStatus{running: "Running"}
	if strings.Contains(s, "Initializing") {
		st.running = "Initializing"
	}
	head, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(s), "Cluster-autoscaler status at "), "\n")
	st.at = when(strings.TrimSuffix(head, ":"))
	figures := regexp.MustCompile(`(\w+)=(\d+)`)
	var g *group
	section := ""
	for line := range strings.Lines(s) {
		key, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		rest = strings.TrimSpace(rest)
		if !ok {
			continue
		}
		if key == "Name" && rest != "" {
			st.groups = append(st.groups, group{name: rest, min: -1, max: -1, target: -1, healthy: true})
			g, section = &st.groups[len(st.groups)-1], ""
			continue
		}
		if g == nil {
			continue
		}
		switch key {
		case "Health", "ScaleUp", "ScaleDown":
			section = key
			word, _, _ := strings.Cut(rest, " ")
			if key == "ScaleUp" {
				g.scaleUp = word
			}
			if key == "Health" {
				g.healthy = word == "Healthy"
				for _, m := range figures.FindAllStringSubmatch(rest, -1) {
					g.figure(m[1], m[2])
				}
			}
		case "LastTransitionTime":
			if section == "ScaleUp" {
				g.since = when(rest)
			}
		}
	}
	return st
}

func (g *group) figure(name, value string) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return
	}
	switch name {
	case "ready":
		g.ready = n
	case "registered":
		g.registered = n
	case "longUnregistered":
		g.longAbsent = n
	case "unregistered":
		g.unregistered = n
	case "cloudProviderTarget":
		g.target = n
	case "minSize":
		g.min = n
	case "maxSize":
		g.max = n
	}
}

// atMax reports whether a group may not grow.
func (g *group) atMax() bool { return g != nil && g.max >= 0 && g.target >= g.max }
