package judge

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTellingLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, log, want string
		weight          int
	}{
		{"a named cause before a cry of woe", "ERROR failed to start\nopen /etc/app.conf: no such file or directory\nexiting\n", "open /etc/app.conf: no such file or directory", 4},
		{"the last line of a traceback", "Traceback (most recent call last):\n  File \"a.py\", line 1\n    boom()\nCustomTrouble: nothing left\n", "CustomTrouble: nothing left", 3},
		{"good news that holds the words", "INFO certificate loaded, 0 errors\nINFO x509 verification enabled\nready\n", "ready", 0},
		{"the kubelet's time is left out", "2026-11-24T11:58:01.123456789Z panic: runtime error: index out of range\n", "panic: runtime error: index out of range", 3},
		{"a structured line", `{"level":"error","msg":"start","error":"dial tcp: connection refused"}` + "\n", "error: start: dial tcp: connection refused", 4},
		{"a klog line", "E1124 11:58:01.000000 1 main.go:1] sync went wrong\n", "E1124 11:58:01.000000 1 main.go:1] sync went wrong", 2},
		{"a word that only holds xid and nvml", "maxid reached, starting proxid\n", "maxid reached, starting proxid", 0},
		{"an Xid of the driver", "NVRM: Xid (PCI:0000:3b:00): 79\n", "NVRM: Xid (PCI:0000:3b:00): 79", 4},
		{"nothing", "\n\n", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := tellingLine(c.log); got.line != c.want || got.weight != c.weight {
				t.Errorf("%q of weight %d, want %q of %d", got.line, got.weight, c.want, c.weight)
			}
		})
	}
}

func TestPolarity(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{
		"GPUHealthy": good, "GpuHealthy": good, "AcceleratedHardwareReady": good, "StorageReady": good,
		"GPUUnhealthy": bad, "SyslogXIDError": bad, "DCGMError": bad, "ECCErrors": bad, "KernelDeadlock": bad, "ReadonlyFilesystem": bad, "CorruptDockerOverlay2": bad,
		"FrequentUnregisterNetDevice": bad, "NVLinkStatusInactive": bad, "DriverNotReady": bad, "ContainerRuntimeUnhealthy": bad, "example.com/disk-failure": bad,
		"NoDeadlock": neither, "MaintenanceActive": neither, "UpgradeRunning": neither, "VMEventScheduled": neither, "SysctlChanged": neither, "Default": neither, "": neither,
	} {
		if got := polarity(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

func TestClassifyPull(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"manifest unknown: manifest tagged by \"v9\" is not found": "kube.image_not_found",
		"reg.io/app:v9: not found":                                 "kube.image_not_found",
		"failed to resolve reference: pull access denied, repository does not exist or may require authorization": "kube.image_unauthorized",
		"no basic auth credentials": "kube.image_unauthorized",
		"denied: Permission \"artifactregistry.repositories.downloadArtifacts\" denied on resource (or it may not exist)": "kube.image_unauthorized",
		"failed to authorize: failed to fetch anonymous token: Get \"https://auth.io/token\": dial tcp: i/o timeout":      "kube.image_registry_unreachable",
		"failed to do request: Head \"https://reg.io/v2/\": http: server gave HTTP response to HTTPS client":              "kube.image_registry_unreachable",
		"toomanyrequests: You have reached your unauthenticated pull rate limit":                                          "kube.image_registry_unreachable",
		"context deadline exceeded": "kube.image_registry_unreachable",
		"no matching manifest for linux/arm64/v8 in the manifest list entries":      "kube.image_pull_failed",
		"failed to extract layer sha256:4014031: write /x: no space left on device": "kube.image_pull_failed",
		"layer sha256:401 does not match":                                           "kube.image_pull_failed",
		"something nobody has heard of":                                             "kube.image_pull_failed",
	} {
		if got := classifyPull("ErrImagePull", text); got.code != want {
			t.Errorf("%q is %s, want %s", text, got.code, want)
		}
	}
}

func TestQuotaFigures(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]string{
		"exceeded quota: q, requested: cpu=1, used: cpu=8, limited: cpu=8":                      {"resource": "cpu", "requested": "1", "used": "8", "hard": "8"},
		"exceeded quota: q, requested: cpu=1,pods=1, used: cpu=8,pods=4, limited: cpu=8,pods=4": {"resource": "cpu, pods", "requested": "1, 1", "used": "8, 4", "hard": "8, 4"},
		"exceeded quota: q":                          {},
		"requested: nonsense, used: , limited: =,=,": {},
	} {
		if got := quotaFigures(text); !maps.Equal(got, want) && len(want) > 0 {
			t.Errorf("%q gives %v, want %v", text, got, want)
		}
	}
}

func TestAskedName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"dial tcp: lookup qdrant.rag on 10.0.0.2:53: no such host":                   "qdrant.rag",
		"dial tcp: lookup db: no such host":                                          "db",
		"curl: (6) Could not resolve host: db.prod.svc":                              "db.prod.svc",
		"could not translate host name \"db\" to address: Name or service not known": "db",
		"java.net.UnknownHostException: kafka.infra":                                 "kafka.infra",
		"Error: getaddrinfo ENOTFOUND redis":                                         "redis",
		"HTTPConnectionPool: Failed to resolve 'api' ([Errno -2])":                   "api",
		"socket.gaierror: [Errno -2] Name or service not known":                      "",
	} {
		got := ""
		if m := asked.FindStringSubmatch(text); m != nil {
			got = m[1]
		}
		if got != want || !unresolved.MatchString(text) && want != "api" {
			t.Errorf("%q asks for %q, want %q", text, got, want)
		}
	}
}

// FuzzWords feeds what clusters say to everything that reads it as text.
func FuzzWords(f *testing.F) {
	f.Add("Traceback (most recent call last):\nKeyError: 'x'", "exceeded quota: q, requested: cpu=1, used: cpu=8, limited: cpu=8")
	f.Add(`{"level":"error","msg":"x"}`, "couldn't find key a in Secret b/c")
	f.Add("2026-11-24T11:58:01Z \xff\xfe", "{{{")
	f.Fuzz(func(t *testing.T, log, text string) {
		c := tellingLine(log)
		if utf8.RuneCountInString(c.line) > 300 || strings.Contains(c.line, "\n") {
			t.Errorf("line %q is no line", c.line)
		}
		if c.weight < 0 || c.weight > 4 || c.weight > 0 && c.count < 1 {
			t.Errorf("weight %d, count %d", c.weight, c.count)
		}
		if classifyPull("ErrImagePull", text).code == "" {
			t.Error("no code")
		}
		for k, v := range quotaFigures(text) {
			if v == "" {
				t.Errorf("empty %s", k)
			}
		}
		_ = polarity(text)
		if w := wordsOf(text); !strings.HasPrefix(w, " ") || !strings.HasSuffix(w, " ") {
			t.Errorf("words %q", w)
		}
		_ = holderOf(text)
		_ = quotedWord(text)
	})
}
