package cilium

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// soon is how long before its end a trust anchor is worth a word. Roots of Azure
// Kubernetes Application Network are replaced six months before theirs.
const soon = 30 * 24 * time.Hour

// bundles reads the trust anchors that lie in ConfigMaps; keys and Secrets are never
// read.
func (v *mtlsView) bundles(ctx context.Context) {
	for _, at := range []struct{ namespace, name string }{
		{"cilium-spire", "spire-bundle"}, {"kube-system", "spire-bundle"}, {"applink-system", "istio-root-cert"}, {"istio-system", "istio-ca-root-cert"},
	} {
		o, err := v.t.objects.Get(ctx, "", "ConfigMap", at.namespace, at.name)
		if err != nil {
			continue
		}
		v.bundle(o)
	}
}

func (v *mtlsView) bundle(o *unstructured.Unstructured) {
	data, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		return
	}
	var last time.Time
	n := 0
	for _, text := range data {
		for _, c := range anchors(text) {
			n++
			if c.NotAfter.After(last) {
				last = c.NotAfter
			}
		}
	}
	if n == 0 {
		return
	}
	ref := v.t.ref("", "ConfigMap", o.GetNamespace(), o.GetName())
	v.out.Bundles = append(v.out.Bundles, fmt.Sprintf("trust bundle %s: %d certificates, the last until %s", ref.Path(), n, last.UTC().Format(time.RFC3339)))
	left := last.Sub(v.t.now())
	params := map[string]string{"not_after": last.UTC().Format(time.RFC3339)}
	switch {
	case left <= 0:
		v.findings = append(v.findings, finding("cilium.trust_bundle_expired", ref, 0.92, params, "all certificates of trust bundle %s have expired, the last at %s", ref.Path(), params["not_after"]))
	case left < soon:
		v.findings = append(v.findings, finding("cilium.trust_bundle_expires", ref, 0.6, params, "trust bundle %s expires at %s, in %d days", ref.Path(), params["not_after"], int(left.Hours()/24)))
	}
}

// expired gives the finding of a bundle that has expired, if there is one.
func (v *mtlsView) expired() (incident.Ref, bool) {
	for _, f := range v.findings {
		if f.Code == "cilium.trust_bundle_expired" {
			return f.Subject, true
		}
	}
	return incident.Ref{}, false
}

// trusts ties a pod to an expired bundle.
func (m *podMTLS) trusts() {
	if ref, ok := m.expired(); ok {
		m.edge(m.subject, authenticatedBy, ref)
	}
}

// anchors reads the certificates of a PEM text; what is none is skipped.
func anchors(text string) []*x509.Certificate {
	var out []*x509.Certificate
	if !strings.Contains(text, "BEGIN CERTIFICATE") {
		return nil
	}
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return out
		}
		if b.Type != "CERTIFICATE" || len(out) == 64 {
			continue
		}
		if c, err := x509.ParseCertificate(b.Bytes); err == nil {
			out = append(out, c)
		}
	}
}
