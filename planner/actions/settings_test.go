package actions

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestServices(t *testing.T) {
	t.Parallel()
	runAll(t, "settings.yaml", map[string]deed{
		"the labels of the nearest workload": {
			action: "patch_service_selector", params: "namespace=ml; name=web; selector=app=wob,tier=front", verify: []string{CheckEndpoints}, warn: []string{"chosen by gumshoe: Deployment ml/web"},
			say: "Change the selector of Service ml/web from app=wob,tier=front to app=web,tier=front, which matches 1 pod(s)", fields: map[string]string{"Service/ml/web spec.selector": `{"app":"web","tier":"front"}`},
		},
		"given labels":         {action: "patch_service_selector", params: "namespace=ml; name=good; selector=tier=front", verify: []string{CheckEndpoints}, say: "from app=web to tier=front", warn: []string{"1 ready pod(s) now"}},
		"the port of the name": {action: "patch_service_port", params: "namespace=ml; name=good; port=http; target_port=8081", verify: []string{CheckField, CheckEndpoints}, say: "Change the target port of port 8080 of Service ml/good from 8080 to 8081", warn: []string{"no container declares port 8081"}, fields: map[string]string{"Service/ml/good spec.ports[0].targetPort": "8081"}},
		"a port by its name":   {action: "patch_service_port", params: "namespace=ml; name=good; target_port=http", verify: []string{CheckField, CheckEndpoints}, say: "from 8080 to http", fields: map[string]string{"Service/ml/good spec.ports[0].targetPort": "http"}},
		"the only port": {
			action: "patch_service_port", params: "namespace=ml; name=odd; port=80; target_port=9999", verify: []string{CheckField, CheckEndpoints}, say: "from 9999 to 8080", warn: []string{"the only one that the pods declare"},
			objects: "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: ml}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 9999}]}\n",
		},
	})
	runAll(t, "settings.yaml", map[string]denial{
		"matches nothing": {action: "patch_service_selector", params: "namespace=ml; name=web; selector=app=none", param: "selector", says: []string{"matches no pod", "{app=web,tier=front}"}},
		"no selector":     {action: "patch_service_selector", params: "namespace=ml; name=outside", says: []string{"has no selector"}},
		"selects already": {action: "patch_service_selector", params: "namespace=ml; name=good", param: "selector", says: []string{"matches pod web-1-a"}},
		"two come near": {
			action: "patch_service_selector", params: "namespace=ml; name=web", param: "selector", says: []string{"no single workload", "Job ml/other"},
			objects: "apiVersion: v1\nkind: Pod\nmetadata: {name: o, namespace: ml, uid: o, labels: {app: other, tier: front}, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: other, uid: j, controller: true}]}\nspec: {containers: [{name: c, image: a}]}\n",
		},
		"which port":        {action: "patch_service_port", params: "namespace=ml; name=web; target_port=1", param: "port", says: []string{"80 http, 9090 metrics"}},
		"no such name":      {action: "patch_service_port", params: "namespace=ml; name=good; target_port=grpc", param: "target_port", says: []string{"the names are http"}},
		"it has that port":  {action: "patch_service_port", params: "namespace=ml; name=good; target_port=8080", param: "target_port"},
		"no pods to ask at": {action: "patch_service_port", params: "namespace=ml; name=web; port=80; target_port=9999", param: "target_port", says: []string{"none"}},
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	in := "namespace=ml; name=web; "
	runAll(t, "settings.yaml", map[string]deed{
		"class":       {action: "patch_ingress", params: in + "field=ingressClassName; value=nginx", say: "Change ingressClassName of Ingress ml/web from ngnix to nginx", verify: []string{CheckField}, fields: map[string]string{"Ingress/ml/web spec.ingressClassName": "nginx"}},
		"backend":     {action: "patch_ingress", params: in + "field=backend; value=web", say: "Change the backend of Ingress ml/web from wob:80 to web:80", verify: []string{CheckExists, CheckEndpoints}, fields: map[string]string{"Ingress/ml/web spec.rules[0].http.paths[1].backend.service": `{"name":"web","port":{"number":80}}`}},
		"with a port": {action: "patch_ingress", params: in + "field=backend; value=good:http", say: "to good:http", verify: []string{CheckExists, CheckEndpoints}, fields: map[string]string{"Ingress/ml/web spec.rules[0].http.paths[0].backend.service": `{"name":"good","port":{"name":"http"}}`}},
		"certificate": {action: "patch_ingress", params: in + "field=tls secret; value=new", say: "from old to new", verify: []string{CheckField}, fields: map[string]string{"Ingress/ml/web spec.tls[0].secretName": "new"}},
		"weights":     {action: "patch_ingress", params: "namespace=ml; name=llm; field=weights; value=web=100,canary=0", say: "Change the weights of HTTPRoute ml/llm from canary=10,web=90 to web=100,canary=0", verify: []string{CheckExists}, fields: map[string]string{"HTTPRoute/ml/llm spec.rules[0].backendRefs[1].weight": "0"}},
		"route":       {action: "patch_ingress", params: "namespace=ml; name=llm; field=backendRefs; backend=canary; value=good:8080", say: "from canary:80 to good:8080", verify: []string{CheckExists, CheckEndpoints}, fields: map[string]string{"HTTPRoute/ml/llm spec.rules[0].backendRefs[1].name": "good"}},
		"pool":        {action: "patch_ingress", params: "namespace=ml; name=pool; field=backend; value=right", say: "from wrong: to right:", verify: []string{CheckExists}, fields: map[string]string{"HTTPRoute/ml/pool spec.rules[0].backendRefs[0].name": "right"}},
		"parent":      {action: "patch_ingress", params: "namespace=ml; name=llm; field=parentRefs; value=front", say: "Change the parent of HTTPRoute ml/llm from old to front", verify: []string{CheckField}, fields: map[string]string{"HTTPRoute/ml/llm spec.parentRefs[0].name": "front"}},
		"gateway":     {action: "patch_ingress", params: "namespace=ml; name=front; field=gatewayClassName; value=istio", say: "from nope to istio", verify: []string{CheckField}},
	})
	runAll(t, "settings.yaml", map[string]denial{
		"nothing of the name": {action: "patch_ingress", params: "namespace=ml; name=nope; field=backend; value=a", param: "name"},
		"which field":         {action: "patch_ingress", params: in, param: "field", says: []string{"tls secret"}},
		"what":                {action: "patch_ingress", params: in + "field=backend", param: "value", says: []string{"wob:80"}},
		"no class":            {action: "patch_ingress", params: in + "field=ingressClassName; value=traefik", param: "value", says: []string{"there are nginx"}},
		"no Service":          {action: "patch_ingress", params: in + "field=backend; value=nope", param: "value", says: []string{"no Service ml/nope"}},
		"no such port":        {action: "patch_ingress", params: in + "field=backend; value=good:81", param: "value", says: []string{"8080 http"}},
		"which backend":       {action: "patch_ingress", params: "namespace=ml; name=llm; field=backend; value=good:8080", param: "backend", says: []string{"canary:80"}},
		"no answer to all":    {action: "patch_ingress", params: "namespace=ml; name=llm; field=weights; value=web=0,canary=0", param: "value", says: []string{"weight 0"}},
		"no such backend":     {action: "patch_ingress", params: "namespace=ml; name=llm; field=weights; value=x=1", param: "value"},
		"no pool":             {action: "patch_ingress", params: "namespace=ml; name=pool; field=backend; value=left", param: "value", says: []string{"no InferencePool ml/left"}},
		"no Gateway":          {action: "patch_ingress", params: "namespace=ml; name=llm; field=parentRefs; value=x", param: "value"},
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	runAll(t, "settings.yaml", map[string]deed{
		"the full line":    {action: "quota_patch", params: "namespace=ml; name=team; value=8", say: "Raise hard requests.nvidia.com/gpu in ResourceQuota ml/team from 4 to 8, 4 of it used", verify: []string{CheckField}, warn: []string{"other teams"}, fields: map[string]string{`ResourceQuota/ml/team spec.hard.requests\.nvidia\.com/gpu`: "8"}},
		"of a limit range": {action: "quota_patch", params: "namespace=ml; name=bounds; resource=memory; value=16Gi", say: "Raise max memory in LimitRange ml/bounds from 8Gi to 16Gi", verify: []string{CheckField}, fields: map[string]string{"LimitRange/ml/bounds spec.limits[1].max.memory": "16Gi", "LimitRange/ml/bounds spec.limits[0].max.cpu": "8"}},
		"label":            {action: "label_node", params: "node=n1; label=pool=h100", say: "Set label pool of Node n1 from none to h100", verify: []string{CheckField}, fields: map[string]string{"Node//n1 metadata.labels.pool": "h100"}},
		"no label":         {action: "label_node", params: "node=n1; label=nvidia.com/mig.config-", say: "Take label nvidia.com/mig.config=all-disabled off Node n1", verify: []string{CheckField}, pods: 1, gpus: 1, risk: incident.RiskHigh, warn: []string{"laid out anew"}},
		"MIG":              {action: "label_node", params: "node=n1; label=nvidia.com/mig.config; value=all-1g.10gb", say: "from all-disabled to all-1g.10gb", verify: []string{CheckField}, pods: 1, gpus: 1, risk: incident.RiskHigh},
		"bounds and more": {
			action: "hpa_patch", params: "namespace=ml; name=web; max=6; target=Deployment/web; resource=cpu; utilization=60", verify: []string{CheckField, CheckField, CheckField},
			say:    "averageUtilization from 80 to 60, maxReplicas from 3 to 6, name from wob to web",
			fields: map[string]string{"HorizontalPodAutoscaler/ml/web spec.maxReplicas": "6", "HorizontalPodAutoscaler/ml/web spec.scaleTargetRef.name": "web", "HorizontalPodAutoscaler/ml/web spec.metrics[0].resource.target.averageUtilization": "60"},
		},
		"KEDA's own": {action: "hpa_patch", params: "namespace=ml; name=keda-hpa-queue; max=9", say: "Change ScaledObject ml/queue: maxReplicaCount from 5 to 9", verify: []string{CheckField}, warn: []string{"is changed instead"}, fields: map[string]string{"ScaledObject.keda.sh/ml/queue spec.maxReplicaCount": "9"}},
		"another class": {
			action: "pvc_recreate", params: "namespace=ml; name=waits; storage_class=fast; access_mode=ReadWriteMany", say: "Delete PersistentVolumeClaim ml/waits and create it with StorageClass from gone to fast, access mode from ReadWriteOnce to ReadWriteMany", verify: []string{CheckExists, CheckField},
			fields: map[string]string{"PersistentVolumeClaim/ml/waits spec.storageClassName": "fast", "PersistentVolumeClaim/ml/waits spec.accessModes": `["ReadWriteMany"]`, "PersistentVolumeClaim/ml/waits spec.resources.requests.storage": "10Gi"},
		},
		"a class that waits": {action: "pvc_recreate", params: "namespace=ml; name=waits; storage_class=late", say: "to late", verify: []string{CheckExists}, warn: []string{"first pod"}},
		"expand":             {action: "pvc_expand", params: "namespace=ml; name=bound; size=20Gi", say: "Expand PersistentVolumeClaim ml/bound from 10Gi to 20Gi", verify: []string{CheckField}, oneWay: true, fields: map[string]string{"PersistentVolumeClaim/ml/bound spec.resources.requests.storage": "20Gi"}},
		"webhook":            {action: "webhook_policy_patch", params: "configuration=guard; webhook=a.guard.io", say: "Set failurePolicy of webhook a.guard.io of ValidatingWebhookConfiguration guard from Fail to Ignore", verify: []string{CheckField}, risk: incident.RiskHigh, fields: map[string]string{"ValidatingWebhookConfiguration//guard webhooks[0].failurePolicy": "Ignore"}},
		"webhook back":       {action: "webhook_policy_patch", params: "configuration=guard; webhook=b.guard.io; policy=Fail", say: "from Ignore to Fail", verify: []string{CheckField}, warn: []string{"every request"}},
	})
	runAll(t, "settings.yaml", map[string]denial{
		"how much":             {action: "quota_patch", params: "namespace=ml; name=team", param: "value", says: []string{"now 4, 4 of it used"}},
		"no line":              {action: "quota_patch", params: "namespace=ml; name=team; resource=cpu; value=1", param: "resource", says: []string{"pods=10"}},
		"lower":                {action: "quota_patch", params: "namespace=ml; name=team; resource=nvidia.com/gpu; value=2", param: "value", says: []string{"only raises"}},
		"no quota":             {action: "quota_patch", params: "namespace=ml; name=nope; value=2", param: "name"},
		"which value":          {action: "label_node", params: "node=n1; label=nvidia.com/mig.config", param: "value", says: []string{"all-disabled"}},
		"the kubelet's":        {action: "label_node", params: "node=n1; label=kubernetes.io/hostname=x", says: []string{"set it back"}},
		"the same label":       {action: "label_node", params: "node=n1; label=nvidia.com/mig.config=all-disabled", param: "value"},
		"not there":            {action: "label_node", params: "node=n1; label=x-", param: "label"},
		"no value":             {action: "label_node", params: "node=n1; label=x=a b", param: "value"},
		"which label":          {action: "label_node", params: "node=n1", param: "label"},
		"nothing to change":    {action: "hpa_patch", params: "namespace=ml; name=web", param: "max", says: []string{"maxReplicas 3"}},
		"min above max":        {action: "hpa_patch", params: "namespace=ml; name=web; min=5", param: "max", says: []string{"min 5 above max 3"}},
		"no target":            {action: "hpa_patch", params: "namespace=ml; name=web; target=Deployment/nope", param: "target"},
		"a metric of KEDA":     {action: "hpa_patch", params: "namespace=ml; name=queue; resource=cpu; utilization=1", says: []string{"triggers"}},
		"bound":                {action: "pvc_recreate", params: "namespace=ml; name=bound; storage_class=late", says: []string{"is Bound"}},
		"of a StatefulSet":     {action: "pvc_recreate", params: "namespace=ml; name=data-db-0; storage_class=fast", says: []string{"StatefulSet db"}},
		"corrected how":        {action: "pvc_recreate", params: "namespace=ml; name=waits", param: "storage_class", says: []string{"now gone"}},
		"no class":             {action: "pvc_recreate", params: "namespace=ml; name=waits; storage_class=x", param: "storage_class", says: []string{"fast, late"}},
		"a class that is firm": {action: "pvc_expand", params: "namespace=ml; name=fixed; size=20Gi", says: []string{"does not allow"}},
		"smaller":              {action: "pvc_expand", params: "namespace=ml; name=bound; size=5Gi", param: "size", says: []string{"does not shrink"}},
		"unbound":              {action: "pvc_expand", params: "namespace=ml; name=waits; size=20Gi", says: []string{"pvc_recreate"}},
		"which webhook":        {action: "webhook_policy_patch", params: "configuration=guard", param: "webhook", says: []string{"a.guard.io, b.guard.io"}},
		"ignored already":      {action: "webhook_policy_patch", params: "configuration=guard; webhook=b.guard.io", param: "policy"},
		"no configuration":     {action: "webhook_policy_patch", params: "configuration=x", param: "configuration"},
		"a Secret":             {action: "provide_object", params: "kind=Secret; namespace=ml; name=hf; key=token", says: []string{"Secret ml/hf with the key token", "known to a person"}},
		"a ConfigMap":          {action: "provide_object", params: "kind=ConfigMap; namespace=ml; name=x", says: []string{"for a person to supply"}},
		"it has come":          {action: "provide_object", params: "kind=Service; namespace=ml; name=web", says: []string{"is there"}},
		"advice":               {action: "advise", params: "about=the switch", says: []string{"the switch is for a person"}},
	})
}
