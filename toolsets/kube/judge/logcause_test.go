package judge

import (
	"slices"
	"strings"
	"testing"
)

func TestTellingLineAmongOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ log, want string }{
		"a wrapper points elsewhere": {
			"(EngineCore_DP0 pid=88) ERROR ValueError: Free memory on device (3.2/44.4 GiB) on startup is less than desired\n(APIServer pid=1) Traceback (most recent call last):\n(APIServer pid=1)   File \"vllm\", line 8, in <module>\n(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n",
			"Free memory on device (3.2/44.4 GiB)"},
		"a right that is refused, then a time-out for want of it": {
			"W1124 reflector.go:561] failed to list *v1.Deployment: deployments.apps is forbidden: User \"system:serviceaccount:ops:scaler\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope\nE1124 main.go:88] \"problem running manager\" err=\"timed out waiting for caches to sync\"\n",
			`cannot list resource "deployments"`},
		"a collective fails for want of shared memory": {
			"NCCL WARN Error while creating shared memory segment /dev/shm/nccl-a8 (size 33030528)\ntorch.distributed.DistBackendError: NCCL error in: x.cpp:2090, unhandled system error (run with NCCL_DEBUG=INFO for details)\nncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.\n",
			"/dev/shm/nccl-a8"},
		"the gate of a model": {
			"requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://hub.example.com/m\nThe above exception was the direct cause of the following exception:\nhub.GatedRepoError: 403 Client Error.\nRuntimeError: Engine core initialization failed. See root cause above.\n",
			"GatedRepoError: 403"},
		"node's own words": {
			"server starting\nError: getaddrinfo ENOTFOUND redis.cache.svc\nnpm ERR! code ELIFECYCLE\n",
			"ENOTFOUND redis.cache.svc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tellingLine(c.log); !strings.Contains(got.line, c.want) {
				t.Errorf("%q (weight %d) does not hold %q", got.line, got.weight, c.want)
			}
		})
	}
}

func TestVictims(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"RayWorkerWrapper died: The actor died unexpectedly before finishing this task": true,
		"Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1)":              true,
		"rendezvous: waiting for 4 workers, 3 joined":                                   true,
		"torch.OutOfMemoryError: CUDA out of memory":                                    false,
		"could not parse LISTEN_PORT":                                                   false,
	} {
		if got := victim.MatchString(line); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"ERROR yaml: line 4: did not find expected '-' indicator: invalid configuration": "program",
		"RuntimeError: CUDA error: uncorrectable ECC error encountered":                  "",
		"OSError: [Errno 5] Input/output error: '/data/x'":                               "",
	} {
		if got := within(tellingLine(line)); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
	if got := within(logCause{line: "bye", weight: 1}); got != "" {
		t.Errorf("a line that says nothing: %q", got)
	}
}

func TestPeersOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]peer{
		"dial tcp: lookup redis-master.cache.svc.cluster.local on 10.96.0.10:53: no such host": {{"redis-master.cache.svc.cluster.local", 0}},
		"dial tcp 10.96.44.12:5432: connect: connection refused":                               {{"10.96.44.12", 5432}},
		"Connection timed out: http://qdrant.vector.svc:6333/collections":                      {{"qdrant.vector.svc", 6333}},
		"waiting for crm-db:3306": {{"crm-db", 3306}},
		`could not translate host name "pg.data" to address: Name or service not known`:                {{"pg.data", 0}},
		"psycopg2.OperationalError: postgresql://app:hunter2@pg.data.svc:5432/app: connection refused": {{"pg.data.svc", 5432}},
		"getaddrinfo EAI_AGAIN broker":              {{"broker", 0}},
		"until nc -z crm-db 3306; do sleep 2; done": {{"crm-db", 3306}},
		"nothing of the kind":                       nil,
		"ModuleNotFoundError: No module named x":    nil,
	} {
		if got := peersOf(line); !slices.Equal(got, want) {
			t.Errorf("%q: %v, not %v", line, got, want)
		}
	}
}

func FuzzPeersOf(f *testing.F) {
	f.Add("dial tcp 10.96.44.12:5432: connect: connection refused")
	f.Add("http://[::1]:99999/ lookup on 1:53")
	f.Fuzz(func(t *testing.T, line string) {
		for _, p := range peersOf(line) {
			if p.host == "" || p.port < 0 {
				t.Errorf("%q gives %+v", line, p)
			}
		}
		if l := tellingLine(line); len([]rune(l.line)) > 300 {
			t.Errorf("%q gives a line of %d", line, len(l.line))
		}
	})
}

func TestWordsOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{
		"GPUXIDErrors": bad, "IBLinkFlapping": bad, "GPUMissing": bad, "KernelDeadlock": bad, "ReadonlyFilesystem": bad, "FrequentKubeletRestart": bad,
		"RdmaReady": good, "GpuDriverInstalled": good, "GPUHealthy": good, "SysctlDrift": neither, "NoXIDErrors": neither,
	} {
		if got := polarity(name); got != want {
			t.Errorf("%s: %d, not %d (%v)", name, got, want, wordsOf(name))
		}
	}
}
