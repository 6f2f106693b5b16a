package judge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// certificate finds the certificate in a Secret that has expired. Secret values are
// never read, so only what cert-manager says of the certificates it keeps is known.
func (j *judge) certificate(ctx context.Context, v *verdict, namespace, secret string) {
	const group = "cert-manager.io"
	list, err := j.src.List(ctx, "certificates."+group, namespace, selectors(""))
	if err != nil {
		return
	}
	for _, u := range list {
		name, _, _ := unstructured.NestedString(u.Object, "spec", "secretName")
		until, _, _ := unstructured.NestedString(u.Object, "status", "notAfter")
		at, err := time.Parse(time.RFC3339, until)
		if name != secret || err != nil || j.now().Before(at) {
			continue
		}
		to := j.ref(group, "Certificate", u.GetNamespace(), u.GetName())
		var why []string
		for _, c := range conditions(u.Object, "status", "conditions") {
			if (c.kind == "Ready" || c.kind == "Issuing") && c.message != "" {
				why = append(why, "; "+c.kind+"="+c.status+": "+c.message)
			}
		}
		v.edge(v.subject, graph.Uses, to)
		text := fmt.Sprintf("the certificate of %s in Secret %s/%s expired %s ago%s", v.subject, namespace, secret, j.ago(at), strings.Join(why, ""))
		v.line("%s", text)
		v.fault("kube.certificate_expired", incident.Critical, 0.9, to, text, params("secret", secret, "not_after", until))
	}
}
