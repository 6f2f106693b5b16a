// Package logtemplate turns a long container log into a short summary: lines
// become records (a stack trace is one record), records of one shape become
// templates with counts and times, and templates that report trouble come
// first, the rare ones before the frequent.
//
// The miner follows the idea of Drain (He, Zhu, Zheng, Lyu: "Drain: An Online
// Log Parsing Approach with Fixed Depth Tree", ICWS 2017): records are routed by
// length and first words through a tree of fixed depth to a small group of
// templates, and join the most similar one.
package logtemplate

import (
	"regexp"
	"strings"
	"time"
)

// Limits of one record; a longer trace is cut and says so.
const (
	maxRecordLines = 200
	maxRecordBytes = 32 << 10
)

// Record is one log message: a line, or a stack trace with the line it belongs to.
type Record struct {
	// Number of the first line, from 1.
	Number int
	// At is the runtime's timestamp of the first line, zero if there is none.
	At time.Time
	// Text without the runtime's timestamps; lines joined by newlines.
	Text string
	// Lines is how many lines the record has.
	Lines int
}

// prefixes are what loggers put before a message. They are peeled off to see a
// line's own indentation; one blank after each belongs to the prefix.
type prefixes []*regexp.Regexp

// splitter holds the compiled patterns of one run.
type splitter struct {
	prefix    prefixes
	goFrame   *regexp.Regexp
	exception *regexp.Regexp
	frame     *regexp.Regexp
	judge     *judge
}

func newSplitter() *splitter {
	re := regexp.MustCompile
	return &splitter{
		judge: newJudge(),
		prefix: prefixes{
			re(`^\([^()]{1,80}pid=\d+[^()]{0,40}\) ?`), // vLLM, Ray: (EngineCore_0 pid=272)
			re(`^\[rank ?\d+\]: ?`),                    // torchrun
			re(`^(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL):? +\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)? \[[^\]]{1,80}\] ?`),
			re(`^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^\]]{1,120}\] ?`), // klog
			re(`^\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]? ?`),
		},
		goFrame:   re(`^(?:goroutine \d+ |created by |\[signal |exit status |runtime: |[\w./*()\-{}\[\]]+\(.*\)$|[\w./*()\-]+\(\.\.\.\)$)`),
		exception: re(`^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Timeout|Fault|Abort)?\b:? ?`),
		frame:     re(`^(?:Caused by: |Suppressed: |\.\.\. \d+ (?:more|common)|frame #\d+: |#\d+ +0x|Exception raised from |During handling of the above exception|The above exception was the direct cause)`),
	}
}

// body peels the prefixes off a line.
func (s *splitter) body(line string) string {
	for _, re := range s.prefix {
		if loc := re.FindStringIndex(line); loc != nil {
			line = line[loc[1]:]
		}
	}
	return line
}

// trace says what kind of stack trace a record is in the middle of.
type trace int

const (
	noTrace trace = iota
	pythonTrace
	goTrace
	// endedTrace: the exception line was seen; only a chained trace goes on.
	endedTrace
)

// Records splits a log into records. Each line may start with the RFC 3339
// timestamp that the kubelet adds on request.
func Records(text string) []Record {
	s := newSplitter()
	var out []Record
	var b strings.Builder
	state := noTrace
	flush := func() {
		if len(out) > 0 {
			out[len(out)-1].Text = strings.TrimRight(b.String(), "\n")
		}
		b.Reset()
	}
	number := 0
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		number++
		at, msg := stamp(strings.TrimRight(line, "\r"))
		body := s.body(msg)
		var joins bool
		joins, state = s.continues(state, body, b.String(), len(out) > 0)
		if joins {
			r := &out[len(out)-1]
			r.Lines++
			if r.Lines <= maxRecordLines && b.Len()+len(msg) <= maxRecordBytes {
				b.WriteByte('\n')
				b.WriteString(msg)
			}
			continue
		}
		if strings.TrimSpace(body) == "" {
			continue
		}
		flush()
		out = append(out, Record{Number: number, At: at, Lines: 1})
		b.WriteString(cutText(msg, maxRecordBytes))
	}
	flush()
	return out
}

// continues decides whether a line belongs to the record before it.
func (s *splitter) continues(state trace, body, record string, have bool) (bool, trace) {
	starts := strings.HasPrefix(body, "Traceback (most recent call last)")
	switch {
	case starts:
		// logging.exception writes the message, then the traceback.
		join := have && (state == endedTrace || state == noTrace && !strings.Contains(record, "\n") && s.judge.level(record) == Error)
		return join, pythonTrace
	case strings.HasPrefix(body, "panic: "), strings.HasPrefix(body, "fatal error: "):
		return false, goTrace
	case strings.HasPrefix(body, "goroutine ") && strings.HasSuffix(body, "]:"):
		return have && state == goTrace, goTrace
	case !have:
		return false, state
	case s.frame.MatchString(body):
		return true, state
	case body != "" && (body[0] == ' ' || body[0] == '\t') && strings.TrimSpace(body) != "":
		return true, state
	case strings.TrimSpace(body) == "":
		return state == goTrace || state == endedTrace, state
	case state == pythonTrace:
		// The first line at the margin names the exception and ends the frames.
		if s.exception.MatchString(body) {
			return true, endedTrace
		}
		return false, noTrace
	case state == goTrace && s.goFrame.MatchString(body):
		return true, goTrace
	}
	return false, noTrace
}

// stamp cuts the kubelet's timestamp off a line.
func stamp(line string) (time.Time, string) {
	first, rest, ok := strings.Cut(line, " ")
	if !ok {
		first, rest = line, ""
	}
	if len(first) < len("2006-01-02T15:04:05Z") || first[4] != '-' || first[10] != 'T' {
		return time.Time{}, line
	}
	at, err := time.Parse(time.RFC3339Nano, first)
	if err != nil {
		return time.Time{}, line
	}
	return at.UTC(), rest
}

// cutText bounds a text without splitting a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
