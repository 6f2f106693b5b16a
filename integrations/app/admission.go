package app

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// Marks that people put on objects and that the executor may neither set nor take away.
const (
	// AllowZero on a workload lets a plan scale it to nothing: the value is "true".
	AllowZero = "gumshoe.ai/allow-zero"
	// SystemWrites is a label of a namespace that the cluster lives on; with the value
	// "true" plans may change what is in it.
	SystemWrites = "gumshoe.ai/system-writes"
)

// admissionName names the policies and, with their identity, their bindings.
const admissionName = "gumshoe.ai"

// Admission makes ValidatingAdmissionPolicies for the identities of the options: the
// API server then refuses what a plan may not do, whatever gumshoe says. The
// namespaces that the cluster lives on are those of the policy.
func Admission(o RBACOptions, p *policy.Policy) ([]runtime.Object, error) {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	g, err := executorGrants(o.Actions)
	if err != nil {
		return nil, err
	}
	account := func(name string) string { return "system:serviceaccount:" + o.Namespace + ":" + name }
	reader := vap("reader-reads", account(readerName), nil, []admissionv1.Validation{
		deny("false", "gumshoe's reader changes nothing"),
	}, admissionv1.Create, admissionv1.Update, admissionv1.Delete)
	executor := vap("executor-keeps-to-plans", account(executorName), variables(p.Settings().SystemNamespaces), validations(g.requests()),
		admissionv1.OperationAll)
	out := []runtime.Object{reader, binding(reader)}
	if !o.NoExecutor {
		out = append(out, executor, binding(executor))
	}
	return out, nil
}

// requests lists what the grants let through as the admission policies write it:
// "GROUP/RESOURCE[/SUBRESOURCE] OPERATION".
func (g grants) requests() []string {
	var out []string
	for k, verbs := range g {
		for verb, op := range map[string]admissionv1.OperationType{"create": admissionv1.Create, "patch": admissionv1.Update, "update": admissionv1.Update, "delete": admissionv1.Delete} {
			if verbs[verb] {
				out = append(out, k[0]+"/"+k[1]+" "+string(op))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func deny(expression, message string) admissionv1.Validation {
	return admissionv1.Validation{Expression: expression, Message: message}
}

// vap is a policy on everything that one identity sends.
func vap(name, user string, vars []admissionv1.Variable, rules []admissionv1.Validation, ops ...admissionv1.OperationType) *admissionv1.ValidatingAdmissionPolicy {
	fail, exact := admissionv1.Fail, admissionv1.Exact
	return &admissionv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name + "." + admissionName, Labels: map[string]string{"app.kubernetes.io/name": "gumshoe"}},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{MatchPolicy: &exact, ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{Operations: ops, Rule: admissionv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*/*"}}},
			}}},
			MatchConditions: []admissionv1.MatchCondition{
				{Name: "identity", Expression: "request.userInfo.username == '" + user + "'"},
				// A question about one's own rights is put by creating it; nothing is stored.
				{Name: "no-question", Expression: "!(request.resource.group in ['authorization.k8s.io', 'authentication.k8s.io'] && request.resource.resource.endsWith('reviews'))"},
			},
			Variables: vars, Validations: rules,
		},
	}
}

func binding(p *admissionv1.ValidatingAdmissionPolicy) *admissionv1.ValidatingAdmissionPolicyBinding {
	return &admissionv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: p.Labels},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: p.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}
}

// variables are what the rules share. They are evaluated where a rule first asks for
// them, so that those on the object are not asked of a delete.
func variables(system []string) []admissionv1.Variable {
	var patterns []string
	for _, n := range system {
		patterns = append(patterns, strings.ReplaceAll(regexp.QuoteMeta(n), `\*`, `.*`))
	}
	pod := func(o string) string {
		return fmt.Sprintf("request.resource.resource == 'pods' ? %[1]s.?spec.orValue({}) : %[1]s.?spec.?template.?spec.orValue(%[1]s.?spec.?jobTemplate.?spec.?template.?spec.orValue(%[1]s.?spec.?leaderWorkerTemplate.?workerTemplate.?spec.orValue({})))", o)
	}
	return []admissionv1.Variable{
		{Name: "what", Expression: "request.resource.group + '/' + request.resource.resource + (request.?subResource.orValue('') == '' ? '' : '/' + request.subResource) + ' ' + request.operation"},
		{Name: "update", Expression: "request.operation == 'UPDATE'"},
		{Name: "mark", Expression: "request.operation == 'DELETE' ? " + annotation("oldObject", actions.Annotation) + " : " + annotation("object", actions.Annotation)},
		{Name: "system", Expression: "(request.resource.group == '' && request.resource.resource == 'namespaces' ? request.name : request.?namespace.orValue('')).matches(r'^(" + strings.Join(patterns, "|") + ")$')"},
		{Name: "pod", Expression: pod("object")},
		{Name: "oldPod", Expression: "request.operation == 'UPDATE' ? (" + pod("oldObject") + ") : {}"},
	}
}

func annotation(object, name string) string {
	return object + ".?metadata.?annotations[?'" + name + "'].orValue('')"
}

// validations are the rules on the executor. A rule on a field that a kind does not
// have holds.
func validations(requests []string) []admissionv1.Validation {
	quoted := make([]string, len(requests))
	for i, r := range requests {
		quoted[i] = "'" + r + "'"
	}
	same := func(path string) string { return fmt.Sprintf("object.%[1]s == oldObject.%[1]s", path) }
	host := func(field string) string {
		return fmt.Sprintf("(!variables.pod.?%[1]s.orValue(false) || variables.oldPod.?%[1]s.orValue(false))", field)
	}
	privileged := func(list string) string {
		return fmt.Sprintf("variables.pod.?%[1]s.orValue([]).all(c, !c.?securityContext.?privileged.orValue(false) || variables.oldPod.?%[1]s.orValue([]).exists(o, o.name == c.name && o.?securityContext.?privileged.orValue(false)))", list)
	}
	writes := "request.operation in ['CREATE', 'UPDATE'] && request.?subResource.orValue('') == ''"
	return []admissionv1.Validation{
		deny("variables.what in ["+strings.Join(quoted, ", ")+"]", "no action of gumshoe makes such a request"),
		deny("!(request.resource.group == '' && request.resource.resource in ['secrets', 'serviceaccounts']) && !(request.resource.group in ['rbac.authorization.k8s.io', 'certificates.k8s.io', 'apiextensions.k8s.io', 'apiregistration.k8s.io'])",
			"Secrets, identities, rights and definitions are not gumshoe's to change"),
		deny("variables.mark.matches(r'^[A-Za-z0-9._-]+/s[0-9]+\\.u?[0-9]+$') || (request.operation == 'DELETE' && request.?dryRun.orValue(false))",
			"the annotation "+actions.Annotation+" names no write of a plan"),
		deny("!variables.system || (request.resource.resource != 'namespaces' && namespaceObject.?metadata.?labels[?'"+SystemWrites+"'].orValue('') == 'true')",
			"the cluster lives on this namespace, and nobody labelled it "+SystemWrites+"=true"),
		deny("request.operation == 'CREATE' || "+annotation("oldObject", actions.Freeze)+" in ['', 'false']", "the object is frozen by "+actions.Freeze),
		deny("request.?namespace.orValue('') == '' || request.resource.resource == 'namespaces' || "+annotation("namespaceObject", actions.Freeze)+" in ['', 'false']", "the namespace is frozen by "+actions.Freeze),
		deny("!variables.update || ("+annotation("object", actions.Freeze)+" == "+annotation("oldObject", actions.Freeze)+" && "+annotation("object", AllowZero)+" == "+annotation("oldObject", AllowZero)+")",
			actions.Freeze+" and "+AllowZero+" are set and removed by people"),
		deny("!variables.update || ("+same("metadata.?finalizers")+" && "+same("metadata.?ownerReferences")+")", "finalizers and owners are not gumshoe's to change"),
		deny("!variables.update || (object.all(k, k in ['apiVersion', 'kind', 'metadata', 'spec', 'status'] || (k == 'webhooks' && request.resource.group == 'admissionregistration.k8s.io') || (k in oldObject && object[k] == oldObject[k])) && oldObject.all(k, k in object))",
			"a plan changes the spec, labels and annotations of an object, and nothing else"),
		deny("!(variables.update && request.resource.group == '' && request.resource.resource == 'namespaces') || (object.metadata.?labels.orValue({}).all(k, !(k.startsWith('pod-security.kubernetes.io/') || k == '"+SystemWrites+"') || oldObject.metadata.?labels[?k].orValue('') == object.metadata.labels[k]) && oldObject.metadata.?labels.orValue({}).all(k, !(k.startsWith('pod-security.kubernetes.io/') || k == '"+SystemWrites+"') || k in object.metadata.?labels.orValue({})))",
			"pod security and "+SystemWrites+" of a namespace are set by people"),
		deny("!variables.update || variables.pod.?serviceAccountName.orValue('') == variables.oldPod.?serviceAccountName.orValue('')", "a plan gives no pod another identity"),
		deny("!("+writes+") || ("+strings.Join([]string{host("hostNetwork"), host("hostPID"), host("hostIPC"), privileged("containers"), privileged("initContainers")}, " && ")+
			" && variables.pod.?volumes.orValue([]).all(v, !has(v.hostPath) || variables.oldPod.?volumes.orValue([]).exists(o, o == v)))", "a plan gives no pod the host"),
		deny("!variables.update || object.?spec.?replicas.orValue(1) != 0 || oldObject.?spec.?replicas.orValue(1) == 0 || "+annotation("oldObject", AllowZero)+" == 'true' || variables.mark.matches(r'/s[0-9]+\\.u[0-9]+$')",
			"a plan switches no workload off unless "+AllowZero+" is true on it"),
		deny("!("+writes+" && request.resource.group == 'resource.k8s.io' && request.resource.resource == 'devicetaintrules') || variables.update && object.?spec == oldObject.?spec || ['driver', 'pool', 'device'].exists(f, object.?spec.?deviceSelector[?f].orValue('') != '')",
			"a DeviceTaintRule without a selector taints every device"),
	}
}
