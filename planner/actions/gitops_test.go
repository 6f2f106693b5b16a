package actions

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// sourced compiles an action and asks where its change belongs.
func sourced(t *testing.T, objects, action, params string) (*incident.SourcePatch, incident.Step) {
	t.Helper()
	d := newDeck(t, objects)
	draft := d.must(action, given(params))
	step := incident.Step{ID: "s1", Action: action, Say: draft.Say, Writes: draft.Writes, Warnings: draft.Warnings}
	p, err := d.cat.Source(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	return p, step
}

// kept is a Deployment with metadata that says who keeps it, and what else is served.
func kept(metadata, more string) string {
	return strings.NewReplacer("METADATA", metadata).Replace(`apiVersion: v1
kind: Namespace
metadata: {name: ml}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: ml, uid: web, METADATA}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "reg.io/web:1.0", args: ["--a=1"]}]}}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop, namespace: argocd}
spec:
  source: {repoURL: "https://git.example.com/shop.git", targetRevision: main, path: apps/web}
  syncPolicy: {automated: {selfHeal: true}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps, namespace: flux-system}
spec: {path: ./apps, sourceRef: {kind: GitRepository, name: fleet}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: fleet, namespace: flux-system}
spec: {url: "ssh://git@example.com/fleet", ref: {branch: prod}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: ml, labels: {kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system}}
spec:
  chart: {spec: {chart: web, version: "3.x", sourceRef: {kind: HelmRepository, name: charts, namespace: flux-system}}}
  values: {image: {repository: reg.io/web, tag: "1.0"}, other: "2"}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: flux-system}
spec: {url: "https://charts.example.com"}
---
`) + more
}

const (
	setWeb     = "kind=Deployment; namespace=ml; name=web; image=reg.io/web:2.0"
	byTracking = `annotations: {argocd.argoproj.io/tracking-id: "shop:apps/Deployment:ml/web"}`
	imageOwned = `fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}}`
)

func TestSource(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		metadata, action, params string
		tool, owner, where       string
		body                     []string
	}{
		"Argo CD by tracking id": {
			byTracking, "set_image", setWeb, argo, "Application argocd/shop", "repository https://git.example.com/shop.git, revision main, path apps/web",
			[]string{"heals itself", "spec.template.spec.containers[0].image: from \"reg.io/web:1.0\" to \"reg.io/web:2.0\"", "Set image of container web", "delivered by Argo CD Application shop"},
		},
		"Argo CD in any namespace": {`annotations: {argocd.argoproj.io/tracking-id: "argocd_shop:apps/Deployment:ml/web"}`, "set_image", setWeb, argo, "Application argocd/shop", "path apps/web", nil},
		"Argo CD by label":         {`labels: {argocd.argoproj.io/instance: shop}`, "set_image", setWeb, argo, "Application argocd/shop", "path apps/web", nil},
		"Argo CD by the common label and its field manager": {
			`labels: {app.kubernetes.io/instance: shop}, managedFields: [{manager: argocd-controller, operation: Apply, apiVersion: apps/v1, ` + imageOwned + `}]`, "set_image", setWeb, argo, "Application argocd/shop", "path apps/web", nil,
		},
		"Argo CD elsewhere":  {`labels: {argocd.argoproj.io/instance: other}`, "set_image", setWeb, argo, "Application other", "there is no Application other in this cluster", nil},
		"Flux Kustomization": {`labels: {kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system}`, "set_image", setWeb, flux, "Kustomization flux-system/apps", "repository ssh://git@example.com/fleet, revision branch prod, path ./apps", []string{"next interval"}},
		"Flux HelmRelease": {
			`labels: {helm.toolkit.fluxcd.io/name: web, helm.toolkit.fluxcd.io/namespace: ml}, annotations: {meta.helm.sh/release-name: web, meta.helm.sh/release-namespace: ml}`, "set_image", setWeb, flux, "HelmRelease ml/web",
			"chart web, version 3.x, repository https://charts.example.com; its values come with Flux Kustomization flux-system/apps: repository ssh://git@example.com/fleet", []string{"change the chart's values", "image.repository = reg.io/web, image.tag = 1.0"},
		},
		"Helm":                    {`annotations: {meta.helm.sh/release-name: web, meta.helm.sh/release-namespace: ml}`, "set_image", setWeb, helm, "Release ml/web", "", []string{"next helm upgrade", "rendered from a chart"}},
		"Helm by its label alone": {`labels: {app.kubernetes.io/managed-by: Helm, app.kubernetes.io/instance: web}`, "set_image", setWeb, helm, "Release ml/web", "", nil},
		"only the field manager tells": {
			`managedFields: [{manager: kustomize-controller, operation: Apply, apiVersion: apps/v1, ` + imageOwned + `}]`, "set_image", setWeb, flux, "Kustomization (unknown)", "", nil,
		},
		"replicas of the repository": {
			byTracking + `, managedFields: [{manager: argocd-controller, operation: Apply, apiVersion: apps/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:replicas": {}}}}]`, "scale", "kind=Deployment; namespace=ml; name=web; replicas=3", argo, "Application argocd/shop", "path apps/web", []string{"spec.replicas: from 2 to 3"},
		},
		"a list that is owned as a whole": {
			byTracking + `, managedFields: [{manager: argocd-controller, operation: Apply, apiVersion: apps/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:args": {}}}}}}}}]`, "patch_args", "kind=Deployment; namespace=ml; name=web; set=--a=2", argo, "Application argocd/shop", "path apps/web", []string{`containers[0].args[0]: from "--a=1" to "--a=2"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := sourced(t, kept(x.metadata, ""), x.action, x.params)
			if p == nil {
				t.Fatal("nobody is said to keep it")
			}
			if p.Tool != x.tool || p.Owner.String() != x.owner || !strings.Contains(p.Where, x.where) {
				t.Errorf("%s, %s, %q; want %s, %s, %q", p.Tool, p.Owner, p.Where, x.tool, x.owner, x.where)
			}
			for _, want := range x.body {
				if !strings.Contains(p.Body, want) {
					t.Errorf("the body does not say %q:\n%s", want, p.Body)
				}
			}
			if !strings.HasPrefix(p.Diff, "diff a/") || !strings.Contains(p.Diff, "\n+") {
				t.Errorf("diff:\n%s", p.Diff)
			}
		})
	}
}

func TestSourceOfNobody(t *testing.T) {
	t.Parallel()
	const replicasFree = `, managedFields: [{manager: argocd-controller, operation: Apply, apiVersion: apps/v1, ` + imageOwned + `}]`
	for name, x := range map[string]struct{ metadata, more, action, params string }{
		"nobody":                  {"labels: {a: b}", "", "set_image", setWeb},
		"a copied tracking id":    {`annotations: {argocd.argoproj.io/tracking-id: "shop:apps/Deployment:ml/other"}`, "", "set_image", setWeb},
		"the common label alone":  {`labels: {app.kubernetes.io/instance: shop}`, "", "set_image", setWeb},
		"a restart":               {byTracking, "", "rollout_restart", "kind=Deployment; namespace=ml; name=web"},
		"replicas left to others": {byTracking + replicasFree, "", "scale", "kind=Deployment; namespace=ml; name=web; replicas=3"},
		"a field manager of other fields": {
			`managedFields: [{manager: helm, operation: Update, apiVersion: apps/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:replicas": {}}}}]`, "", "set_image", setWeb,
		},
		"a Job made anew as it was": {"labels: {a: b}", `apiVersion: batch/v1
kind: Job
metadata: {name: prep, namespace: ml, uid: prep, labels: {argocd.argoproj.io/instance: shop}}
spec: {selector: {matchLabels: {controller-uid: prep}}, template: {metadata: {labels: {controller-uid: prep}}, spec: {restartPolicy: Never, containers: [{name: c, image: a}]}}}
`, "recreate_job", "namespace=ml; name=prep"},
		"a pod that its controller makes anew": {"labels: {a: b}", `apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: rs, namespace: ml, uid: rs}
spec: {selector: {matchLabels: {app: rs}}, template: {metadata: {labels: {app: rs}}, spec: {containers: [{name: c, image: a}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ml, uid: p, labels: {app: rs, argocd.argoproj.io/instance: shop}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: rs, uid: rs, controller: true}]}
spec: {containers: [{name: c, image: a}]}
`, "delete_pod", "namespace=ml; name=p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if p, _ := sourced(t, kept(x.metadata, x.more), x.action, x.params); p != nil {
				t.Errorf("%s %s is said to keep it:\n%s", p.Tool, p.Owner, p.Body)
			}
		})
	}
}

// TestSourceOfSeveralObjects puts everything that a step changes into one patch.
func TestSourceOfSeveralObjects(t *testing.T) {
	t.Parallel()
	job := `apiVersion: batch/v1
kind: Job
metadata: {name: prep, namespace: ml, uid: prep, labels: {argocd.argoproj.io/instance: shop}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: "a:1"}]}}}
`
	p, step := sourced(t, kept("labels: {a: b}", job), "set_image", "kind=Job; namespace=ml; name=prep; image=a:2")
	if len(step.Writes) != 2 {
		t.Fatalf("%d writes", len(step.Writes))
	}
	if p == nil || p.Owner.Name != "shop" || strings.Count(p.Diff, "diff a/") != 1 || !strings.Contains(p.Diff, "+      - image: a:2") {
		t.Errorf("delete and create of one object are not one change: %+v", p)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	for metadata, want := range map[string]string{
		byTracking: "Argo CD Application shop",
		`labels: {helm.toolkit.fluxcd.io/name: web, helm.toolkit.fluxcd.io/namespace: ml}`:                                       "Flux HelmRelease ml/web",
		`annotations: {meta.helm.sh/release-name: web, meta.helm.sh/release-namespace: ml}`:                                      "Helm release ml/web",
		`ownerReferences: [{apiVersion: x/v1, kind: Thing, name: t, uid: t, controller: true}]`:                                  "Thing t",
		`managedFields: [{manager: helm-controller, operation: Apply, apiVersion: apps/v1, fieldsType: FieldsV1, fieldsV1: {}}]`: "Flux",
		`labels: {a: b}`: "",
	} {
		d := newDeck(t, kept(metadata, ""))
		o, err := d.cat.cluster.session().Get(t.Context(), "Deployment", "ml", "web")
		if err != nil {
			t.Fatal(err)
		}
		if got := owner(o.Unstructured); got != want {
			t.Errorf("%s: %q, want %q", metadata, got, want)
		}
	}
}
