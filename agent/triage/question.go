package triage

import (
	"regexp"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// reading is what the words of a question say, before any cluster is asked.
type reading struct {
	// namespace named in the text ("in namespace train"), or given by the surface.
	namespace string
	// firm mentions are written as names: "pod train/llama-0", "`llama-0`".
	firm []tool.Mention
	// loose mentions are plain words that might be names, tried last.
	loose []tool.Mention
	// words are the lower-case words, for matching runbooks.
	words []string
	// trouble says that the text asks about trouble or health at all.
	trouble bool
}

// kindWords maps what people write to kinds. A word that is not here still
// counts as a kind when it is followed by "namespace/name": the resolver asks
// the cluster's discovery.
func kindWords() map[string]string {
	return map[string]string{
		"pod": "Pod", "pods": "Pod", "po": "Pod",
		"deployment": "Deployment", "deployments": "Deployment", "deploy": "Deployment",
		"statefulset": "StatefulSet", "statefulsets": "StatefulSet", "sts": "StatefulSet",
		"daemonset": "DaemonSet", "daemonsets": "DaemonSet", "ds": "DaemonSet",
		"replicaset": "ReplicaSet", "replicasets": "ReplicaSet", "rs": "ReplicaSet",
		"job": "Job", "jobs": "Job", "cronjob": "CronJob", "cronjobs": "CronJob",
		"service": "Service", "services": "Service", "svc": "Service",
		"ingress": "Ingress", "ingresses": "Ingress", "ing": "Ingress",
		"httproute": "HTTPRoute", "gateway": "Gateway", "gatewayclass": "GatewayClass",
		"pvc": "PersistentVolumeClaim", "persistentvolumeclaim": "PersistentVolumeClaim",
		"pv": "PersistentVolume", "persistentvolume": "PersistentVolume",
		"storageclass": "StorageClass",
		"node":         "Node", "nodes": "Node",
		"namespace": "Namespace", "namespaces": "Namespace", "ns": "Namespace",
		"claim": "ResourceClaim", "resourceclaim": "ResourceClaim", "resourceclaims": "ResourceClaim",
		"resourceclaimtemplate": "ResourceClaimTemplate", "claimtemplate": "ResourceClaimTemplate",
		"deviceclass": "DeviceClass", "devicetaintrule": "DeviceTaintRule",
		"hpa": "HorizontalPodAutoscaler", "horizontalpodautoscaler": "HorizontalPodAutoscaler",
		"pdb": "PodDisruptionBudget", "poddisruptionbudget": "PodDisruptionBudget",
		"configmap": "ConfigMap", "secret": "Secret", "serviceaccount": "ServiceAccount",
		"networkpolicy": "NetworkPolicy",
	}
}

// stopWords are the ordinary words of questions. They are never tried as names
// unless they are quoted, carry a namespace or follow a kind.
func stopWords() map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(`a about after again ago all allocated am an and any anything are at be because been before being broken but by
		can cannot cant check claim cluster come container containers could crash crashed crashes crashing crashloop crashloopbackoff created creating cuda
		did do does doesnt doing done down during error errors event events ever everything evicted exist fail failed failing fails failure find fine fix for from full
		get gets getting give go goes going good gpu gpus got had happen happened happening happens has have healthy health help here hour how i if image in into is it its
		just keep keeps kill killed last like long look loop many me memory minutes model more my need never new no not nothing now of off oom oomkilled ok okay old on one only or our out over
		pending please problem problems pull ready recover recovered reach reachable restart restarted restarting restarts right root run running runs
		say since schedule scheduled scheduling see seem seems service should show slow so some something start started starting starts state status still stop stopped stuck sure
		take tell than that the their them then there they thing things this time to today trouble unable under unhealthy unschedulable until up us use used
		wait waiting waits want was wasnt we went were what whats when where which while who why will with work workload working works would wrong yesterday you your yet`) {
		m[w] = true
	}
	return m
}

// grammarWords are what may stand beside the word "namespace" without naming
// one. Any other word there is a name, also "gpu" or "memory".
func grammarWords() map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(`a all an and any are be been being but by can cannot could did do does each every for from had has have if in into is it its
		my no not of on or other our same should so still that the their then there these they this those to was were what when where which whole why will with would your`) {
		m[w] = true
	}
	return m
}

func troubleWords() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(why|wrong|broken|break|pending|stuck|fail\w*|crash\w*|error\w*|down|unhealthy|health\w*|trouble|problem\w*|issue\w*|slow|not|can'?t|cannot|won'?t|doesn'?t|isn'?t|oom\w*|evict\w*|restart\w*|unavailable|unreachable|ready|what|status|check|diagnose|investigate|explain|happen\w*|wait\w*|allocat\w*|schedul\w*|ok|okay|fine)\b`)
}

type lexer struct {
	token, quoted, name, nsPhrase, nsAfter *regexp.Regexp
}

func newLexer() lexer {
	return lexer{
		token:    regexp.MustCompile("[A-Za-z0-9][A-Za-z0-9._/:-]*"),
		quoted:   regexp.MustCompile("[`\"'“”]([A-Za-z0-9][A-Za-z0-9._/:-]*)[`\"'“”]"),
		name:     regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`),
		nsPhrase: regexp.MustCompile("(?i)\\b(?:namespace|ns|-n)[ =:]+[`\"']?([a-z0-9][a-z0-9-]*)"),
		nsAfter:  regexp.MustCompile("(?i)\\b(?:in|from|of)\\s+(?:the\\s+)?[`\"']?([a-z0-9][a-z0-9-]*)[`\"']?\\s+namespace\\b"),
	}
}

// read takes a question apart.
func read(q incident.Question) reading {
	lx := newLexer()
	text := q.Text
	r := reading{namespace: q.Namespace, trouble: troubleWords().MatchString(text)}
	stop, grammar, kinds := stopWords(), grammarWords(), kindWords()

	nsNamed := ""
	for _, re := range []*regexp.Regexp{lx.nsPhrase, lx.nsAfter} {
		if m := re.FindStringSubmatch(text); m != nil && !grammar[strings.ToLower(m[1])] {
			nsNamed = strings.ToLower(m[1])
			break
		}
	}
	if nsNamed != "" {
		r.namespace = nsNamed
	}
	quoted := map[string]bool{}
	for _, m := range lx.quoted.FindAllStringSubmatch(text, -1) {
		quoted[strings.TrimRight(m[1], ".:/-")] = true
	}

	tokens := lx.token.FindAllString(text, -1)
	for i, raw := range tokens {
		tokens[i] = strings.TrimRight(raw, ".:/-")
	}
	for i, t := range tokens {
		low := strings.ToLower(t)
		r.words = append(r.words, low)
		if low == nsNamed && nsNamed != "" && !quoted[t] {
			continue
		}
		kind := ""
		if i > 0 {
			kind = kinds[strings.ToLower(tokens[i-1])]
		}
		after := ""
		if i+1 < len(tokens) {
			after = kinds[strings.ToLower(tokens[i+1])]
		}
		if m, ok := slashed(lx, t, kind, kinds); ok {
			r.addFirm(m)
			continue
		}
		if !lx.name.MatchString(t) || len(t) < 2 {
			continue
		}
		if kinds[low] != "" && kind == "" && !quoted[t] {
			continue
		}
		shaped := strings.ContainsAny(t, "-.") && strings.ContainsAny(low, "abcdefghijklmnopqrstuvwxyz") && !versionLike(t) && !compound(low, stop)
		switch {
		case quoted[t], shaped && !stop[low]:
			r.addFirm(tool.Mention{Kind: first(kind, after), Name: t})
		case kind != "" && kind != "Namespace" && !stop[low]:
			r.addFirm(tool.Mention{Kind: kind, Name: t})
		case !stop[low] && kinds[low] == "" && len(t) > 2 && !versionLike(t) && !compound(low, stop):
			r.loose = append(r.loose, tool.Mention{Kind: after, Name: t})
		}
	}
	return r
}

// slashed reads "ns/name", "kind/name" and "kind/ns/name".
func slashed(lx lexer, t, before string, kinds map[string]string) (tool.Mention, bool) {
	parts := strings.Split(t, "/")
	if slices.Contains(parts, "") {
		return tool.Mention{}, false
	}
	switch len(parts) {
	case 2:
		if k := kinds[strings.ToLower(parts[0])]; k != "" && before == "" && lx.name.MatchString(parts[1]) {
			return tool.Mention{Kind: k, Name: parts[1]}, true
		}
		// "nvidia.com/gpu" is a resource: a namespace has no dot.
		if lx.name.MatchString(parts[0]) && !strings.Contains(parts[0], ".") && lx.name.MatchString(parts[1]) {
			return tool.Mention{Kind: before, Namespace: parts[0], Name: parts[1]}, true
		}
	case 3:
		k := first(kinds[strings.ToLower(parts[0])], parts[0])
		if lx.name.MatchString(parts[1]) && lx.name.MatchString(parts[2]) {
			return tool.Mention{Kind: k, Namespace: parts[1], Name: parts[2]}, true
		}
	}
	return tool.Mention{}, false
}

func (r *reading) addFirm(m tool.Mention) {
	if !slices.Contains(r.firm, m) {
		r.firm = append(r.firm, m)
	}
}

// versionLike keeps "0.19.1" and "v1.37.2" from being tried as names.
func versionLike(t string) bool {
	return regexp.MustCompile(`^v?\d+(\.\d+)+$`).MatchString(t)
}

// compound reports whether a hyphenated word is ordinary English, like
// "out-of-memory" or "time-to-first-token", rather than a name.
func compound(low string, stop map[string]bool) bool {
	for p := range strings.SplitSeq(low, "-") {
		if !stop[p] && !slices.Contains([]string{"first", "level", "looping", "wide", "end", "token", "side", "term", "non", "re", "pre", "co", "self", "hand", "based", "mem", "multi", "single", "per", "space"}, p) {
			return false
		}
	}
	return true
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// alertSubjects reads the objects an alert's labels name. Label names are those
// of kube-state-metrics and the kube-prometheus rules.
func alertSubjects(a incident.Alert, cluster string) []incident.Ref {
	l := a.Labels
	ns := first(l["exported_namespace"], l["namespace"])
	var out []incident.Ref
	add := func(group, kind, name string, namespaced bool) {
		if name == "" {
			return
		}
		r := incident.Ref{Cluster: cluster, Group: group, Kind: kind, Name: name}
		if namespaced {
			if ns == "" {
				return
			}
			r.Namespace = ns
		}
		out = append(out, r)
	}
	add("", "Pod", first(l["exported_pod"], l["pod"]), true)
	add("resource.k8s.io", "ResourceClaim", first(l["resourceclaim"], l["dra_claim_name"]), true)
	add("apps", "Deployment", l["deployment"], true)
	add("apps", "StatefulSet", l["statefulset"], true)
	add("apps", "DaemonSet", l["daemonset"], true)
	add("apps", "ReplicaSet", l["replicaset"], true)
	add("batch", "Job", l["job_name"], true)
	add("batch", "CronJob", l["cronjob"], true)
	add("", "PersistentVolumeClaim", l["persistentvolumeclaim"], true)
	add("autoscaling", "HorizontalPodAutoscaler", l["horizontalpodautoscaler"], true)
	add("policy", "PodDisruptionBudget", l["poddisruptionbudget"], true)
	add("networking.k8s.io", "Ingress", l["ingress"], true)
	if len(out) == 0 {
		add("", "Node", first(l["node"], l["kubernetes_node"], l["Hostname"], l["hostname"]), false)
	}
	if len(out) == 0 {
		add("", "Service", first(l["exported_service"], l["service"]), true)
	}
	if len(out) == 0 && ns != "" {
		out = append(out, incident.Ref{Cluster: cluster, Kind: "Namespace", Name: ns})
	}
	return out
}
