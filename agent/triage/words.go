package triage

import (
	"regexp"
	"strings"
)

// vocabulary is what the reader of questions knows of words. It never changes
// after it is made.
type vocabulary struct {
	kinds            map[string]string
	stop, grammar    map[string]bool
	determiners      map[string]bool
	parts, prefixes  map[string]bool
	places, products map[string]bool
	fileEndings      map[string]bool
	nouns, owners    map[string]bool
	orgs, fields     map[string]bool

	trouble, traffic, state, inflected, measures, words, name, usable, numbered *regexp.Regexp
	urls, hosts, images, pairs                                                  *regexp.Regexp
}

func newVocabulary() *vocabulary {
	set := func(words string) map[string]bool {
		m := map[string]bool{}
		for w := range strings.FieldsSeq(words) {
			m[w] = true
		}
		return m
	}
	return &vocabulary{
		kinds: kindWords(),
		// The ordinary words of questions. They are never tried as names unless they
		// are quoted, carry a namespace or follow the word "namespace".
		stop: set(`a about after again ago alert alerts all allocate allocated allocates allocation am an and any anything are around at available back bad be because been before began being
			behave behaving below best between both bound break breaks broke broken but by call can cannot cant caught cause causes change changed check claim cluster come complete completed
			container containers could cpu cpus crash crashed crashes crashing crashloop crashloopbackoff crashlooping create created creates creating cuda curl current currently
			day days dead describe device devices did didnt die died dies do does doesnt doing done dont down dra due during each eating empty end ends enough error errors even event events ever every everything
			everywhere evict evicted evicting evictions exist exit exited exiting exits explain fail failed failing fails failure failures fast few find fine first fit fits fix flapping
			for found freeze freezes freezing from frozen full fully get gets getting give gives go goes gone good got gpu gpus had half hang hanging hangs happen happened happening happens has
			have having he healthy health hello help helm her here hey hi high hour hours how hung i if image images in inside into investigate is isnt issue issues it its itself
			just k8s keep keeps kill killed kills know kubectl kubelet kubernetes last latency later latest least left let like limit load loads long look looks loop loops lost low made make makes many maybe me mean memory minute minutes
			missing model models month months more morning most mount mounts much must my myself need needs never new next night no nobody none not nothing now of off often ok okay old on once one ones
			only oom oomed ooming oomkill oomkilled or our out outage over past pending people please possible problem problems pull pulled pulling pulls ram ready really reason recently recover
			recovered refuse refused refuses reach reachable replicas report reported request requests restart restarted restarting restarts right rollout root run running runs same saw say
			saying says scale scaled scheduling schedule scheduled schedules second seconds see seeing seem seems seen sees service several she should show shows since slow slowly so some somebody someone
			something sometimes soon start started starting starts startup state status stay stays still stop stopped stops stuck such suddenly sure system take takes team tell terminated terminating than thank
			thanks that the their them then there these they thing things think this those throttled through time timeout times to today together tomorrow tonight too tried tries trouble true try trying
			two under unhealthy unavailable unreachable unresponsive unschedulable until up upgrade us usage use used user users using very wait waited waiting waits want wants warning was wasnt way we week
			weeks weird well went were weren what whats when where which while who whole why will with within without won wont work worked working workload workloads works worse would wrong
			year yesterday yet you your`),
		// What may stand beside the word "namespace" without naming one. Any other
		// word there is a name, also "gpu" or "memory".
		grammar: set(`a all an and any anything are be been being but by called can could did do does each every everything for from had has have how i if in into is isnt it its
			keeps me my named no not of on only or other our same should so something still that the their then there these they this those to was we were what when where which whole who why will
			with without would you your`),
		determiners: set(`my our your their its a an the this that these those every each any some which all no both`),
		// What may follow a kind and is a part of it or speaks about it, not its name.
		parts: set(`pool pools group groups selector selectors affinity label labels taint taints template templates class classes controller controllers plugin plugins driver drivers
			agent agents exporter exporters name names port ports count counts log logs spec specs status ip ips address addresses network networking security policy policies
			account accounts endpoint endpoints mesh queue queues level type types id ids uid version versions yaml manifest manifests owner owners quota quotas priority conditions condition
			volume volumes resource resources metrics probe probes disk object objects list set`),
		// First parts of compound words that are prose with any second one.
		prefixes: set(`anti auto co cross cuda double ex fully half hyper inter intra long low mid micro mini mono multi non over per post pre pro quasi re self semi short single sub super triple
			ultra under whole`),
		places: set(`in inside within`),
		// Words of questions that namespaces are called nevertheless.
		nouns: set(`gpu gpus memory service workload workloads model models container containers system event events health cuda image images people usage alert alerts team users`),
		// What follows these is the name of something that is no object.
		owners: set(`container containers image images model models label labels taint taints toleration tolerations annotation annotations env variable variables field fields flag flags key keys
			user users team branch tag version file files metric metrics attribute driver command`),
		// Who publishes models: "meta-llama/Llama-3.1-8B" is none of a cluster's objects.
		orgs: set(`openai facebook google microsoft mistralai meta-llama deepseek-ai nvidia huggingface bigscience tiiuae baai intfloat unsloth qwen sentence-transformers ibm-granite stabilityai eleutherai moonshotai zai-org`),
		// First parts of product names.
		products: set(`nvidia amd intel cuda nccl rocm nvlink nvswitch infiniband roce pcie numa rtx gtx geforce tesla xid mig a10 a10g a30 a40 a100 a800 b100 b200 b300 gb200 gb300 gh200 h20 h100 h200 h800
			l4 l40 l40s t4 v100 p100 mi210 mi250 mi250x mi300 mi300x mi325x mi350x mi355x fp8 fp16 fp4 bf16 int8 int4`),
		fileEndings: set(`py sh go rs js ts yaml yml json toml ini cfg conf txt md log so whl gz tar tgz zip bin pt safetensors gguf onnx html csv parquet com org net io co dev ai`),
		// Words with the form of a verb that teams, namespaces and jobs are called.
		fields: set(`monitoring training serving logging staging testing tracing networking messaging banking billing streaming processing rendering scoring ranking tuning finetuning
			pretraining indexing embedding pricing trading marketing engineering routing caching mining ingestion production integration evaluation inspection recommendation collection`),
		traffic: regexp.MustCompile(`(?i)\b(?:ttft|itl|tpot|time.to.first.token|inter.token|latenc(?:y|ies)|throughput|tokens?.(?:per|/).?s|slow\w*|5\d\d|requests?|responses?|timeouts?|timed?.out|rout(?:e|ed|ing))\b`),
		trouble: regexp.MustCompile(`(?i)\b(why|wrong|broke\w*|break\w*|missing|refus\w*|changed|5\d\d|pending|stuck|fail\w*|crash\w*|error\w*|down|unhealthy|health\w*|trouble|problem\w*|issue\w*|slow|not|can'?t|cannot|won'?t|doesn'?t|isn'?t|oom\w*|evict\w*|restart\w*|unavailable|unreachable|ready|what|status|check|diagnose|investigate|explain|happen\w*|wait\w*|allocat\w*|schedul\w*|ok|okay|fine|dead|die[sd]?|hang\w*|hung|hängt|insufficient|untolerated|backoff|imagepull\w*|errimagepull|notready|terminat\w*|flapping|frozen|freez\w*|timeout\w*|alert\w*|firing)\b`),
		// Words like NotReady or CrashLoopBackOff, as Kubernetes writes states and
		// reasons and as alerts are called.
		state: regexp.MustCompile(`^[A-Z]+[a-z]+([A-Z]+[a-z]*)+$`),
		words: regexp.MustCompile(`[\p{L}\p{N}][\p{L}\p{M}\p{N}._/-]*`),
		// Names of objects, and what people write for them.
		name:     regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`),
		usable:   regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`),
		numbered: regexp.MustCompile(`^[a-z].*-[0-9]+$`),
		// Numbers, versions, and numbers with a unit.
		measures: regexp.MustCompile(`^(v?\d+([.:]\d+)*((-(rc|alpha|beta|dev|gke|eks)|\+)[0-9a-z.-]*)?|\d+(\.\d+)?(s|m|h|d|w|ms|us|min|sec|hrs?|gb|gi|gib|mb|mi|mib|tb|ti|k|x|th|st|nd|rd|b|am|pm))$`),
		urls:     regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://([^\s/:?#"'<>()]*)[^\s"'<>()]*`),
		hosts:    regexp.MustCompile(`(?i)((?:svc|services?|pods?|po)/)?([a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+)(:\d+)?`),
		images:   regexp.MustCompile(`[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9._-]+)+(?::([A-Za-z0-9._-]*[A-Za-z0-9]))?(@sha256:[0-9a-f]+)?`),
		// Labels as Prometheus, YAML and JSON write them.
		pairs: regexp.MustCompile(`(?:^|[\s{,("'\[])([A-Za-z_][A-Za-z0-9_]*)["']?\s*[=:]\s*["']?([A-Za-z0-9][A-Za-z0-9._:/-]*)`),
		// Forms of verbs and adjectives: no name that anybody writes without a hint.
		inflected: regexp.MustCompile(`^[a-z]{2,}(ing|ed|able|ible|ly|ful|less|ous|tion)$`),
	}
}

// kindWords maps what people write to kinds. Plurals and names with a group
// ("deployments.apps") are understood by kindOf.
func kindWords() map[string]string {
	m := map[string]string{
		"po": "Pod", "deploy": "Deployment", "sts": "StatefulSet", "ds": "DaemonSet", "rs": "ReplicaSet", "cj": "CronJob", "svc": "Service", "ing": "Ingress",
		"pvc": "PersistentVolumeClaim", "pv": "PersistentVolume", "sc": "StorageClass", "ns": "Namespace", "hpa": "HorizontalPodAutoscaler", "pdb": "PodDisruptionBudget",
		"cm": "ConfigMap", "sa": "ServiceAccount", "netpol": "NetworkPolicy", "claim": "ResourceClaim", "claimtemplate": "ResourceClaimTemplate", "pc": "PriorityClass",
		"lws": "LeaderWorkerSet", "isvc": "InferenceService", "volumeclaim": "PersistentVolumeClaim",
	}
	for k := range strings.FieldsSeq(`Pod Deployment StatefulSet DaemonSet ReplicaSet Job CronJob Service Ingress HTTPRoute GRPCRoute Gateway GatewayClass PersistentVolumeClaim PersistentVolume
		StorageClass Node Namespace ResourceClaim ResourceClaimTemplate ResourceSlice DeviceClass DeviceTaintRule HorizontalPodAutoscaler PodDisruptionBudget ConfigMap Secret ServiceAccount
		NetworkPolicy ResourceQuota LimitRange PriorityClass RuntimeClass IngressClass EndpointSlice
		LeaderWorkerSet JobSet RayCluster RayJob RayService PyTorchJob MPIJob TFJob TrainJob InferenceService LLMInferenceService InferencePool Notebook NodePool NodeClaim
		ClusterQueue LocalQueue PodGroup ComputeDomain
		ModelDeployment Workspace InferenceSet MultiRoleInference DisaggregatedSet DynamoGraphDeployment PodCliqueSet PodClique`) {
		m[strings.ToLower(k)] = k
	}
	return m
}

// kindOf gives the kind a word means: singular, plural, short, or with its API
// group behind it as kubectl prints it. plural tells "pods" from "pod".
func (v *vocabulary) kindOf(word string) (kind string, plural bool) {
	if strings.ContainsAny(word, "/_") {
		return "", false
	}
	w, group, grouped := strings.Cut(strings.ToLower(word), ".")
	if grouped && !strings.ContainsAny(group, "abcdefghijklmnopqrstuvwxyz") {
		return "", false
	}
	w = strings.ReplaceAll(w, "-", "")
	if k := v.kinds[w]; k != "" {
		return k, false
	}
	for _, end := range []struct{ plural, singular string }{{"ies", "y"}, {"sses", "ss"}, {"s", ""}} {
		if base, ok := strings.CutSuffix(w, end.plural); ok {
			if k := v.kinds[base+end.singular]; k != "" {
				return k, true
			}
		}
	}
	return "", false
}

// prose reports whether a word without hyphens is ordinary: one of questions, a
// kind, a number, or an inflected form.
func (v *vocabulary) prose(low string) bool {
	kind, _ := v.kindOf(low)
	return v.stop[low] || v.grammar[low] || v.parts[low] || kind != "" || v.inflected.MatchString(low) && !v.fields[low] || v.measure(low)
}

// ordinary reports whether a compound word is plain English such as
// "out-of-memory", "multi-node" or "8-gpu".
func (v *vocabulary) ordinary(low string) bool {
	parts := strings.FieldsFunc(low, func(r rune) bool { return r == '-' || r == '_' })
	if len(parts) == 0 {
		return false
	}
	for i, p := range parts {
		prefix := i == 0 && len(parts) > 1 && v.prefixes[p]
		if !v.prose(p) && !prefix && (i == 0 || !compounds(p)) {
			return false
		}
	}
	return true
}

// compounds are second parts of compound words that are no words of questions.
func compounds(p string) bool {
	return strings.Contains(" first level wide token side term based mem space bit bound free only to up off on by core copy line point hop rank tenant stage step way size aware ", " "+p+" ")
}

// doubtful reports whether a word that has the shape of a name may well be
// something else: a product, a file, a version with a name before it.
func (v *vocabulary) doubtful(low string) bool {
	head, _, _ := strings.Cut(low, "-")
	if v.prefixes[head] || v.products[head] && (strings.ContainsAny(strings.TrimPrefix(low, head), "0123456789") || !strings.Contains(low, "-")) {
		return true
	}
	if i := strings.LastIndexByte(low, '.'); i >= 0 && (v.fileEndings[low[i+1:]] || v.measure(low[i+1:])) {
		return true
	}
	return false
}

// measure reports whether a word is a number, a version, or a number with a unit.
func (v *vocabulary) measure(w string) bool {
	return v.measures.MatchString(w)
}
