package logtemplate

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Level is how serious a record is.
type Level int

// Levels, mildest first.
const (
	Plain Level = iota
	Warn
	Error
)

// String gives "info", "warning" or "error".
func (l Level) String() string {
	return [...]string{"info", "warning", "error"}[l]
}

// LevelOf judges a record: by the level it states, else by its words. A stack
// trace is an error whatever its logger calls it.
func LevelOf(text string) Level { return newJudge().level(text) }

// judge holds the compiled patterns of one run.
type judge struct {
	stated, lead, klog, strong, weak, denied *regexp.Regexp
}

func newJudge() *judge {
	re := regexp.MustCompile
	return &judge{
		// Level words as loggers write them: in capitals as a word of their own, or as a field.
		stated: re(`(?:^|[\s\[(|])(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|CRITICAL|CRIT|FATAL|PANIC|SEVERE)(?:[\s\]):|,]|$)|"?(?:level|lvl|severity|levelname)"?[=:] ?"?(\w+)`),
		lead:   re(`^(?i)(error|fatal|panic|critical|warning|warn|info|debug)[:\]] `),
		klog:   re(`^([IWEF])\d{4} \d\d:\d\d:\d\d`),
		strong: re(`(?i)\b(?:\w*error|\w*exception|traceback|panic|fatal|failed|failure|segfault|segmentation fault|core dumped|sig(?:segv|bus|abrt|ill)|out of memory|oom|killed|aborted|xid|fell off the bus|unhandled)\b`),
		weak:   re(`(?i)\b(?:warn|warning|cannot|can't|could not|couldn't|unable to|denied|refused|timed out|timeout|no such file|not found|deprecated|retrying|unreachable|mismatch)\b`),
		denied: re(`(?i)\b(?:no|0|zero|without) (?:\w+ )?(?:errors?|failures?|exceptions?|warnings?)\b|\b\w*(?:errors?|failures?|failed|warnings?)["']? ?[=:] ?["']?(?:0|null|none|nil|false|)["']?(?:[\s,;})\]]|$)`),
	}
}

func (j *judge) level(text string) Level {
	first, _, many := strings.Cut(text, "\n")
	if many && (strings.Contains(text, "Traceback (most recent call last)") || strings.Contains(text, "\ngoroutine ") || strings.Contains(text, "\n\tat ")) {
		return Error
	}
	head := first
	if len(head) > 160 {
		head = head[:160]
	}
	if m := j.klog.FindStringSubmatch(head); m != nil {
		return named(m[1])
	}
	if m := j.stated.FindStringSubmatch(head); m != nil {
		return named(m[1] + m[2])
	}
	if m := j.lead.FindStringSubmatch(head); m != nil {
		return named(m[1])
	}
	said := j.denied.ReplaceAllString(first, " ")
	switch {
	case j.strong.MatchString(said):
		return Error
	case j.weak.MatchString(said):
		return Warn
	}
	return Plain
}

func named(word string) Level {
	switch strings.ToUpper(word) {
	case "E", "F", "ERROR", "ERR", "CRITICAL", "CRIT", "FATAL", "PANIC", "SEVERE", "DPANIC", "EMERGENCY", "ALERT":
		return Error
	case "W", "WARN", "WARNING":
		return Warn
	}
	return Plain
}

// flatten writes a JSON log line as text: level, message, then the other fields
// by name without times. Text that is no JSON object stays as it is.
func flatten(text string) string {
	if !strings.HasPrefix(text, "{") {
		return text
	}
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) != nil || len(fields) == 0 {
		return text
	}
	take := func(names ...string) string {
		for _, n := range names {
			if v, ok := fields[n]; ok {
				delete(fields, n)
				return fmt.Sprint(v)
			}
		}
		return ""
	}
	level := strings.ToUpper(take("level", "severity", "lvl", "levelname"))
	msg := take("msg", "message", "event", "log")
	for _, n := range []string{"ts", "time", "timestamp", "@timestamp", "asctime"} {
		delete(fields, n)
	}
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString(strings.TrimSpace(level + " " + msg))
	for _, k := range keys {
		v, err := json.Marshal(fields[k])
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, " %s=%s", k, v)
	}
	return strings.TrimSpace(b.String())
}

// headline is what tells one record from another: the message; for a trace also
// the line that names the exception.
func (s *splitter) headline(text string) string {
	first, rest, many := strings.Cut(text, "\n")
	first = s.body(first)
	if !many {
		return flatten(first)
	}
	last := ""
	if strings.Contains(text, "Traceback (most recent call last)") {
		for line := range strings.SplitSeq(rest, "\n") {
			body := s.body(line)
			if body != "" && body[0] != ' ' && body[0] != '\t' && s.exception.MatchString(body) && !s.frame.MatchString(body) && !strings.HasPrefix(body, "Traceback") {
				last = body
			}
		}
	} else {
		for line := range strings.SplitSeq(rest, "\n") {
			if body := s.body(line); strings.HasPrefix(body, "Caused by: ") {
				last = body
			}
		}
	}
	switch {
	case last == "":
		return first
	case strings.HasPrefix(first, "Traceback (most recent call last)"):
		return last
	}
	return first + " | " + last
}
