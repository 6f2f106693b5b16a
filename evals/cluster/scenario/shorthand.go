package scenario

import (
	"fmt"
	"strings"
	"text/template"
)

// shorthands are the template functions of a scenario: the documents that most
// incidents share, so that a scenario shows what is special about it.
func shorthands() template.FuncMap {
	return template.FuncMap{
		"class":     class,
		"claim":     claim,
		"claimTmpl": claimTemplate,
		"tmplPod":   func(ns, name, tmpl string) string { return gpuPod(ns, name, "resourceClaimTemplateName", tmpl) },
		"claimPod":  func(ns, name, claim string) string { return gpuPod(ns, name, "resourceClaimName", claim) },
		"hold":      hold,
		"pod":       func(ns, name string) string { return plainPod(ns, name, "") },
		"deploy":    deploy,
		"plugin":    plugin,
		"results":   results,
		"indent": func(n int, s string) string {
			return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", n))
		},
	}
}

// class is a DeviceClass that selects a driver's devices.
func class(name, driver string) string {
	return fmt.Sprintf(`
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: %s}
spec: {selectors: [{cel: {expression: "device.driver == '%s'"}}]}
---
`, name, driver)
}

func request(class string, count int, selector string) string {
	sel := ""
	if selector != "" {
		sel = fmt.Sprintf(", selectors: [{cel: {expression: %q}}]", selector)
	}
	return fmt.Sprintf("{devices: {requests: [{name: gpu, exactly: {deviceClassName: %s, count: %d%s}}]}}", class, count, sel)
}

// claim is a ResourceClaim of one request; an empty selector asks for any device.
func claim(ns, name, class string, count int, selector string) string {
	return fmt.Sprintf(`
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: %s, namespace: %s}
spec: %s
---
`, name, ns, request(class, count, selector))
}

func claimTemplate(ns, name, class string, count int, selector string) string {
	return fmt.Sprintf(`
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: %s, namespace: %s}
spec: {spec: %s}
---
`, name, ns, request(class, count, selector))
}

func gpuPod(ns, name, field, value string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: %s}}
spec:
  restartPolicy: Never
  resourceClaims: [{name: gpu, %s: %s}]
  containers: [{name: main, image: "registry.example.com/ml/train:2.1", resources: {claims: [{name: gpu}], requests: {cpu: "2"}}}]
---
`, name, ns, name, field, value)
}

// hold is a pod that has devices of a class, from a template of its own name.
func hold(ns, name, class string, count int, selector string) string {
	return claimTemplate(ns, name, class, count, selector) + gpuPod(ns, name, "resourceClaimTemplateName", name)
}

func plainPod(ns, name, extra string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: %s}}
spec:
  containers: [{name: main, image: "registry.example.com/web/app:1.4", resources: {requests: {cpu: 100m, memory: 64Mi}}}]
%s---
`, name, ns, name, extra)
}

// deploy is a Deployment with a label app=name.
func deploy(ns, name string, replicas int) string {
	return fmt.Sprintf(`
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %q, namespace: %q}
spec:
  replicas: %d
  selector: {matchLabels: {app: %q}}
  template:
    metadata: {labels: {app: %q}}
    spec:
      containers: [{name: main, image: "registry.example.com/web/app:1.4", ports: [{name: http, containerPort: 8080}], resources: {requests: {cpu: 100m, memory: 64Mi}}}]
---
`, name, ns, replicas, name, name)
}

// plugin is the DaemonSet of a DRA driver's kubelet plugin, on the nodes that
// carry a label ("key=value"; empty means all).
func plugin(ns, name, driver, label string) string {
	sel := ""
	if k, v, ok := strings.Cut(label, "="); ok {
		sel = fmt.Sprintf("      nodeSelector: {%s: %q}\n", k, v)
	}
	return fmt.Sprintf(`
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: %s, namespace: %s, labels: {app: %s}}
spec:
  selector: {matchLabels: {app: %s}}
  template:
    metadata: {labels: {app: %s}}
    spec:
%s      tolerations: [{operator: Exists}]
      containers:
        - name: plugin
          image: registry.example.com/dra/%s:0.4
          args: ["--driver-name=%s"]
          volumeMounts: [{name: plugins, mountPath: /var/lib/kubelet/plugins}]
      volumes: [{name: plugins, hostPath: {path: /var/lib/kubelet/plugins}}]
---
`, name, ns, name, name, name, sel, name, driver)
}

// results are the devices of an allocation: name-0 to name-(n-1) of one pool.
func results(request, driver, pool, name string, n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("{request: %s, driver: %s, pool: %s, device: %s-%d}", request, driver, pool, name, i))
	}
	return strings.Join(out, ", ")
}
