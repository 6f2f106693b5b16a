package serving

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

//go:embed signatures.json
var rawSigns []byte

// Phases of an engine's life in which a line counts.
const (
	atStart = "start" // only while the container does not come up
	atServe = "serve" // only while it serves
	anyTime = "any"
)

// sign is one log signature: a stable fragment of what a program prints, and what
// it means.
type sign struct {
	ID       string        `json:"id"`
	Engine   string        `json:"engine"`
	Patterns []string      `json:"patterns"`
	Code     string        `json:"code"`
	Role     incident.Role `json:"role"`
	// Confidence of a fault.
	Confidence float64 `json:"confidence"`
	Phase      string  `json:"phase"`
	// Min is how often the line must occur to count; 0 means once.
	Min int `json:"min"`
	// Within says that the cause lies in the program, its model or settings, and
	// not in the machine it runs on.
	Within bool `json:"within"`
	// Owner is the toolset that judges the same line with more knowledge; its
	// finding is the surer one where it has one.
	Owner   string   `json:"owner"`
	Meaning string   `json:"meaning"`
	Way     string   `json:"way"`
	Sources []string `json:"sources"`

	res []*regexp.Regexp
}

// signs are all signatures, in the order in which a line is held against them.
type signs struct {
	all   []sign
	stamp *regexp.Regexp
}

// shippedSigns are the signatures that ship, read once in the life of the process. Nobody changes them.
var shippedSigns = sync.OnceValues(loadSigns)

func loadSigns() (*signs, error) {
	var f struct {
		Signatures []sign `json:"signatures"`
	}
	if err := json.Unmarshal(rawSigns, &f); err != nil {
		return nil, fmt.Errorf("signatures.json: %w", err)
	}
	var errs []error
	for i := range f.Signatures {
		s := &f.Signatures[i]
		if s.Role == "" {
			s.Role = incident.Fault
		}
		for _, p := range s.Patterns {
			re, err := regexp.Compile("(?i)" + p)
			if err != nil {
				errs = append(errs, fmt.Errorf("signatures.json: %s: %w", s.ID, err))
				continue
			}
			s.res = append(s.res, re)
		}
		if s.ID == "" || s.Code == "" || s.Meaning == "" || len(s.Patterns) == 0 || len(s.Sources) == 0 || !slices.Contains([]string{atStart, atServe, anyTime}, s.Phase) {
			errs = append(errs, fmt.Errorf("signatures.json: %s needs id, code, meaning, patterns, sources and a phase", s.ID))
		}
		if s.Role == incident.Fault && (s.Confidence <= 0 || s.Way == "") {
			errs = append(errs, fmt.Errorf("signatures.json: %s is a fault and needs confidence and way", s.ID))
		}
	}
	return &signs{all: f.Signatures, stamp: regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) `)}, errors.Join(errs...)
}

// maxLine is how much of one line is looked at.
const maxLine = 4096

// hit is a signature that a log carries.
type hit struct {
	sign *sign
	// line is the first that matched, count how many did; first and last are their
	// times where the log has them.
	line        string
	count       int
	first, last time.Time
}

// read holds each line of a log against the signatures; what is older than since
// does not count. Hits come in the order of their first line: the first error
// of a dying engine is nearer to the cause than its last words.
func (s *signs) read(log string, since time.Time) []hit {
	var out []hit
	for line := range strings.Lines(log) {
		if len(line) > maxLine {
			line = line[:maxLine]
		}
		var at time.Time
		if m := s.stamp.FindStringSubmatch(line); m != nil {
			at, _ = time.Parse(time.RFC3339Nano, m[1])
		}
		if !since.IsZero() && !at.IsZero() && at.Before(since) {
			continue
		}
		i := slices.IndexFunc(s.all, func(x sign) bool {
			return slices.ContainsFunc(x.res, func(re *regexp.Regexp) bool { return re.MatchString(line) })
		})
		if i < 0 {
			continue
		}
		j := slices.IndexFunc(out, func(h hit) bool { return h.sign == &s.all[i] })
		if j < 0 {
			out = append(out, hit{sign: &s.all[i], line: oneLine(bare(line), 400), first: at})
			j = len(out) - 1
		}
		out[j].count++
		out[j].last = at
	}
	return slices.DeleteFunc(out, func(h hit) bool { return h.count < h.sign.Min })
}

// bare takes the runtime's time and a launcher's prefix off a line.
func bare(line string) string {
	head, rest, ok := strings.Cut(line, " ")
	if ok {
		if _, err := time.Parse(time.RFC3339Nano, head); err == nil {
			line = rest
		}
	}
	return strings.TrimSpace(line)
}

// decisive picks the fault that a log shows: the surest, of equals the first.
func decisive(hits []hit) (hit, bool) {
	var best hit
	for _, h := range hits {
		if h.sign.Role == incident.Fault && (best.sign == nil || h.sign.Confidence > best.sign.Confidence) {
			best = h
		}
	}
	return best, best.sign != nil
}
