package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// logBytes bounds what is read of a log, logLines how far back.
const (
	logBytes = 64 << 10
	logLines = 300
)

// logCause is the line of a log that says why a process is in trouble, and what
// kind of trouble that is. The text is quoted, never obeyed.
type logCause struct {
	line string
	// weight is 4 for a named cause, 3 for an exception's last line, 2 for a line
	// of level error or fatal, 1 for one that only sounds like it, 0 for none.
	weight int
	// count is how often a line of this weight and shape occurs.
	count int
	// denied says that this identity may not read the log.
	denied bool
}

// decisive reads the end of a container's log, of the run asked for or, where
// that says nothing, of the other one.
func (j *judge) decisive(ctx context.Context, p *corev1.Pod, container string, previous bool) logCause {
	var first logCause
	for _, prev := range []bool{previous, !previous} {
		log, err := j.src.Logs(ctx, p.Namespace, p.Name, source.LogQuery{Container: container, Previous: prev, Tail: logLines, Limit: logBytes})
		if err != nil || strings.TrimSpace(log.Text) == "" {
			first.denied = first.denied || err != nil && tool.KindOf(err) == tool.Forbidden
			continue
		}
		c := tellingLine(log.Text)
		if c.weight > 0 {
			return c
		}
		if first.line == "" {
			c.denied = first.denied
			first = c
		}
	}
	return first
}

// unexplained takes back that a container's end is a cause: why it ends stands in a
// log that may not be read.
func (v *verdict) unexplained(container, code string) {
	v.findings = slices.DeleteFunc(v.findings, func(f incident.Finding) bool { return f.Code == "kube.container_crash_loop" && f.Subject == v.subject })
	v.symptom("kube.container_log_unreadable", incident.Warning, fmt.Sprintf("container %s of pod %s ends with exit code %s; its log, which would say why, may not be read by this identity", container, v.subject.Path(), code), params("container", container, "exit_code", code))
}

// tellingLine finds the line of a log that says most about a failure: concrete
// causes before exceptions, those before cries of woe, the last of its kind.
func tellingLine(text string) logCause {
	var best logCause
	lines := strings.Split(strings.TrimSpace(text), "\n")
	traceback := false
	last := ""
	for _, raw := range lines {
		l := withoutTime(raw)
		if strings.TrimSpace(l) == "" {
			continue
		}
		last = l
		w := weighLine(l)
		switch {
		case strings.Contains(l, "Traceback (most recent call last)"):
			traceback = true
		case traceback && !strings.HasPrefix(l, " ") && !strings.HasPrefix(l, "\t"):
			// The line after a traceback's frames is the exception itself.
			if traceback = false; !wrapper.MatchString(l) {
				w = max(w, 3)
			}
		}
		switch {
		case w > best.weight:
			best = logCause{line: l, weight: w, count: 1}
		case w == best.weight && w > 0:
			best = logCause{line: l, weight: w, count: best.count + 1}
		}
	}
	if best.weight == 0 {
		best = logCause{line: last}
	}
	best.line = oneLine(message(best.line), 300)
	return best
}

// stamped is the time that the kubelet, and often the program too, puts before
// a line.
var stamped = pattern.New(`^(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) ?)`)

// ranked is what launchers put before the lines of one of several processes.
var ranked = pattern.New(`^(?:\([A-Za-z0-9_ ]*pid=\d+[^)]*\)|\[(?:rank|Rank )?\d+\]:|\[default\d+\]:) ?`)

func withoutTime(l string) string {
	return strings.TrimRight(ranked.ReplaceAllString(stamped.ReplaceAllString(l, ""), ""), "\r ")
}

// message takes the text out of a line that is JSON, with its error.
func message(l string) string {
	t := strings.TrimSpace(l)
	if !strings.HasPrefix(t, "{") {
		return t
	}
	var m map[string]any
	if json.Unmarshal([]byte(t), &m) != nil {
		return t
	}
	var parts []string
	for _, k := range []string{"level", "severity", "msg", "message", "error", "err", "exception"} {
		if s, ok := m[k].(string); ok && s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return t
	}
	return strings.Join(parts, ": ")
}

// named are the words of a concrete cause: what is missing, refused or broken.
// Words that also occur in good news ("certificate loaded") stand with their
// complaint.
var named = pattern.New(`(?i)connection refused|connection reset by peer|no route to host|network is unreachable|no such file or directory|filenotfounderror|no such host|name or service not known|temporary failure in name resolution|could not resolve host|server misbehaving|` +
	`permission denied|operation not permitted|cannot (?:get|list|watch|create|update|patch|delete|use) resource|is forbidden|access ?denied|unauthorized|authentication failed|password authentication|invalid (?:credentials|token|api key|argument|value|option|flag|configuration|character|syntax)|` +
	`out of memory|outofmemory|cannot allocate memory|cuda (?:error|driver|runtime)|cuda out of|cuinit|cudnn|nccl (?:error|warn|failure)|nccl.*(?:error|fail|timeout)|no cuda|\bnvml|driver version is insufficient|no gpus? |gpu .*not (?:found|available)|\bxid\b|` +
	`address already in use|port is already|exec format error|no space left|read-only file system|too many open files|disk quota exceeded|x509|certificate (?:has expired|is not|signed by|verify failed|required)|tls: |ssl: |handshake fail|` +
	`module ?not ?found|no module named|importerror|undefined symbol|cannot open shared object|symbol lookup error|version .* not found|already exists|does not exist|not found in|is not set|must be set|is required|missing required|unknown flag|unrecognized (?:argument|option)|flag provided but not defined|unknown (?:command|option|field|architecture)|` +
	`no such table|relation ".*" |deadlock|segmentation fault|sigsegv|illegal instruction|i/o timeout|deadline exceeded|timed out|timeout (?:waiting|expired|exceeded)|failed to connect|unable to connect|could not connect|cannot connect|unreachable|keyerror|valueerror|runtimeerror|assertionerror|typeerror|attributeerror|oserror|nullpointerexception|stack overflow|too large|exceeds? (?:the )?(?:limit|maximum|max)|quota|rate limit|429 too many|gated repo|401 client error|403 client error|404 client error|` +
	`econnrefused|econnreset|enotfound|eai_again|etimedout|ehostunreach|eacces|enospc|eaddrinuse|unknownhostexception|could not translate host name|shared memory segment|bus error|noauth|wrongpass|free memory on device|cache blocks|gpu is lost|fallen off the bus|not in the authorized list|device-side assert|value error, |world size|larger than the (?:number|maximum|available)|did not find expected|parse error|cannot unmarshal|max seq len`)

// wrapper are lines that only pass on that something failed: whoever reads them
// is sent to another line, and the named words they hold are not the cause.
var wrapper = pattern.New(`(?i)see (?:root cause|stack ?trace|the (?:error|log|trace)\w*|logs?|error)s? (?:\(?above\)?|below|for (?:the )?(?:root cause|details|more))|root cause above|enginedeaderror|engine core initialization failed|engine process failed to start|failed core proc|workerproc initialization failed|` +
	`unhandled system error \(run with|external library call failed or device error|might be asynchronously reported|childfailederror|processexitedexception|processraisedexception|the above exception was the direct cause|during handling of the above exception|` +
	`timed out waiting for caches? to sync|problem running manager|command terminated with (?:non-zero )?exit code|exited with (?:exit ?code|code|status)|\\d+ validation errors? for|for further information visit|npm err! (?:code|errno|lifecycle)|make(?:\[\d+\])?: \*\*\*|error: process completed with exit code`)

// machine are the words of trouble that may come from below: the node, its
// devices, its disks, its network.
var machine = pattern.New(`(?i)cuda|cudnn|cuinit|\bxid\b|nvml|nvidia|\becc\b|\bgpus?\b|nccl|i/o error|input/output error|read-only file system|no space left|enospc|bus error|cannot allocate memory|out of memory|resource temporarily unavailable|too many open files|network is unreachable|no route to host|temporary failure in name resolution|timed? ?out|hardware|device`)

// hardware are the words of trouble with devices and disks themselves.
var hardware = pattern.New(`(?i)cuda error|\bxid\b|nvml|uncorrectable|\becc\b|gpu is lost|fallen off|i/o error|input/output error|read-only file system|bus error|hardware`)

// below says whether a line may be about the machine itself, so that a condition of
// its node explains it, though less is sure of conditions than of logs.
func below(line string) string {
	if hardware.MatchString(line) {
		return "hardware"
	}
	return ""
}

// within says whether a program that ended told of a cause of its own, one that
// the machine it runs on does not explain.
func within(l logCause) string {
	if l.weight >= 3 && !machine.MatchString(l.line) {
		return "program"
	}
	return ""
}

// victim are the words of a process that fails because another one of its
// group is gone or does not come.
var victim = pattern.New(`(?i)actor died|actor is (?:dead|unavailable)|actor .{0,40}unexpectedly|worker.{0,40}(?:died|lost|exited|disconnected|unexpectedly)|enginedeaderror|connection (?:closed|reset) by (?:remote )?peer|peer (?:is )?(?:gone|closed|disconnected)|socket closed by remote|remote process exited|watchdog caught collective|collective operation timeout|` +
	`rendezvous|waiting for .{0,40}(?:workers?|nodes?|ranks?|peers?|members?|leader|head)|(?:workers?|nodes?|ranks?|peers?) .{0,30}(?:joined|missing|not (?:ready|connected))|failed to connect to gcs|gcs (?:client|server).{0,40}(?:fail|timed out|unavailable)|timed out .{0,40}(?:joined|clients|ranks|peers)|heartbeat.{0,30}(?:lost|timeout|missed)`)

var (
	exception = pattern.New(`(?i)^panic:|^fatal error:|panicked at|^caused by:|[a-z]+(?:error|exception): |^thread '.*' panicked|terminate called after|core dumped|unhandled (?:exception|rejection)|^killed$`)
	level     = pattern.New(`(?i)\b(?:error|fatal|critical|panic|err|severe|emerg)\b|\blevel=(?:error|fatal|panic)|^[EF]\d{4} `)
	woe       = pattern.New(`(?i)fail|unable|cannot|could not|abort|exception|refused|rejected|giving up|exiting`)
	cheer     = pattern.New(`(?i)\b(?:0 errors?|no errors?|without errors?|errors?[=:] ?0|error_?count[=:] ?0)\b|\blevel=(?:info|debug)\b|"level":"(?:info|debug)"|^\S*\s*\[?(?:INFO|DEBUG|TRACE)\b`)
)

// weighLine weighs how much one line says about a failure, 4 most.
func weighLine(l string) int {
	switch calm := cheer.MatchString(l); {
	case wrapper.MatchString(l):
		return 1
	case named.MatchString(l) && !calm:
		return 4
	case exception.MatchString(l) && !calm:
		return 3
	case calm:
		return 0
	case level.MatchString(l):
		return 2
	case woe.MatchString(l):
		return 1
	}
	return 0
}

// refusedRight reads the API server's refusal out of a line.
var refusedRight = pattern.New(`(?:User "system:serviceaccount:([^:"]+):([^"]+)" )?cannot (get|list|watch|create|update|patch|delete|deletecollection|use|impersonate|bind|escalate) resource "([^"]+)"(?: in API group "([^"]*)")?(?: in the namespace "([^"]+)")?`)

// signalOf names what an exit code above 128 means.
func signalOf(code int32) string {
	names := map[int32]string{129: "SIGHUP", 130: "SIGINT", 132: "SIGILL", 134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 137: "SIGKILL", 139: "SIGSEGV", 141: "SIGPIPE", 143: "SIGTERM"}
	if n := names[code]; n != "" {
		return " (" + n + ")"
	}
	return ""
}

// restartable reports whether an init container is a sidecar.
func restartable(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}
