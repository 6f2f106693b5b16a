package judge

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// maker is a custom kind whose controller makes Secrets or ConfigMaps, and the field
// that names what it makes; without the field it is the object's own name.
type maker struct {
	resource, group, kind, makes string
	field                        []string
}

func makers() []maker {
	return []maker{
		{"certificates", "cert-manager.io", "Certificate", "Secret", []string{"spec", "secretName"}},
		{"externalsecrets", "external-secrets.io", "ExternalSecret", "Secret", []string{"spec", "target", "name"}},
		{"sealedsecrets", "bitnami.com", "SealedSecret", "Secret", []string{"spec", "template", "metadata", "name"}},
		{"vaultstaticsecrets", "secrets.hashicorp.com", "VaultStaticSecret", "Secret", []string{"spec", "destination", "name"}},
		{"vaultdynamicsecrets", "secrets.hashicorp.com", "VaultDynamicSecret", "Secret", []string{"spec", "destination", "name"}},
		{"vaultpkisecrets", "secrets.hashicorp.com", "VaultPKISecret", "Secret", []string{"spec", "destination", "name"}},
		{"bundles", "trust.cert-manager.io", "Bundle", "ConfigMap", nil},
	}
}

// madeBy ties something that does not exist to the custom object whose controller
// should have made it, and names that one.
func (j *judge) madeBy(ctx context.Context, v *verdict, to incident.Ref) string {
	for _, m := range makers() {
		if m.makes != to.Kind {
			continue
		}
		list, err := j.src.List(ctx, m.resource+"."+m.group, to.Namespace, selectors(""))
		if err != nil {
			continue
		}
		for _, u := range list {
			name := u.GetName()
			if s, ok, _ := unstructured.NestedString(u.Object, m.field...); ok && s != "" && len(m.field) > 0 {
				name = s
			}
			if name != to.Name {
				continue
			}
			by := j.ref(m.group, m.kind, u.GetNamespace(), u.GetName())
			v.edge(to, graph.ServedBy, by)
			said := ""
			for _, c := range conditions(u.Object, "status", "conditions") {
				if c.kind == "Ready" && c.status == "False" {
					said = strings.TrimSpace(fmt.Sprintf(", which is not ready: %s: %s", c.reason, c.message))
				}
			}
			v.line("%s should be made by %s%s", to, by, said)
			return by.String()
		}
	}
	return ""
}
