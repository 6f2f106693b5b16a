package fit

import (
	"regexp"
	"strconv"
	"strings"
)

// logFacts are the engine's own figures and its own words about why it did not
// start. They beat any estimate.
type logFacts struct {
	// LoadedGiB is what one GPU's weights took; 0 if not said.
	LoadedGiB float64 `json:"loaded_gib,omitempty"`
	// CacheGiB is what was left for the KV cache; Cache says that it was printed.
	CacheGiB float64 `json:"cache_gib,omitempty"`
	Cache    bool    `json:"cache_printed,omitempty"`
	// NeededGiB for one sequence of MaxLen tokens, where the engine refused it, and
	// Longest the length it would take.
	NeededGiB float64 `json:"needed_gib,omitempty"`
	MaxLen    int     `json:"max_len,omitempty"`
	Longest   int     `json:"longest,omitempty"`
	// ShrunkTo is the length an engine settled on by itself.
	ShrunkTo int `json:"shrunk_to,omitempty"`
	// Reason is the decisive kind of failure, Line its line; empty if none is seen.
	Reason reason `json:"reason,omitempty"`
	Line   string `json:"line,omitempty"`
	// Other is an error that has nothing to do with memory or shape.
	Other string `json:"other,omitempty"`
	// Bare says that an assertion without words failed, as shapes do that cannot be split.
	Bare bool `json:"bare_assertion,omitempty"`
}

// reason is what a log names as the cause.
type reason string

const (
	tooLong      reason = "kv_cache_too_small"
	noCache      reason = "no_kv_cache"
	outOfMemory  reason = "out_of_memory"
	occupied     reason = "gpu_not_empty"
	indivisible  reason = "tp_indivisible"
	unaligned    reason = "quantisation_unaligned"
	tooFewGPUs   reason = "gpu_count"
	beyondModel  reason = "context_exceeds_model"
	dtypeRefused reason = "dtype_unsupported"
)

// phrases are stable fragments of the engines' messages, most telling first. A
// later line of the log does not undo an earlier match: the last words of a dying
// engine ("Engine core initialization failed") are never the cause.
type phrase struct {
	reason reason
	re     *regexp.Regexp
}

// logReader holds the compiled expressions.
type logReader struct {
	phrases                                         []phrase
	loaded, cache, needed, longest, shrunk, foreign *regexp.Regexp
	derived                                         *regexp.Regexp
}

func newLogReader() *logReader {
	re := func(s string) *regexp.Regexp { return regexp.MustCompile("(?i)" + s) }
	return &logReader{
		phrases: []phrase{
			{occupied, re(`free memory on device .{0,200}on startup is less than desired gpu memory utilization`)},
			{tooLong, re(`to serve at least one request with the model.{0,6} max seq len|is larger than the maximum number of tokens that can be stored in kv cache|kv cache is needed, which is larger than the available`)},
			{noCache, re(`no available memory for the cache blocks|cannot auto-fit max_model_len|loaded weights leave no gpu memory for the kv cache|not enough memory\. please try to increase --mem-fraction-static`)},
			{beyondModel, re(`is greater than the derived max_model_len`)},
			{indivisible, re(`must be divisible by tensor parallel size|is not divisible by (?:tp_size|tensor.parallel)`)},
			{unaligned, re(`is not divisible by weight quantization block_n|not aligned with the quantized weight shape`)},
			{tooFewGPUs, re(`world size \(\d+\) is larger than the number of available gpus`)},
			{dtypeRefused, re(`bfloat16 is only supported on gpus with compute capability`)},
			{outOfMemory, re(`cuda out of memory|outofmemoryerror|hip out of memory`)},
		},
		loaded:  re(`(?:model loading took|loading model weights took|model weights take)\s+(\d+(?:\.\d+)?)\s*gi?b`),
		cache:   re(`(?:available kv cache memory:\s*|memory reserved for kv cache is\s+)(-?\d+(?:\.\d+)?)\s*gib`),
		needed:  re(`max seq len \((\d+)\).{0,20}?\(?(\d+(?:\.\d+)?) gib kv cache is needed.{0,80}?\((-?\d+(?:\.\d+)?) gib\)`),
		longest: re(`(?:estimated maximum model length is|maximum number of tokens that can be stored in kv cache \()\s*(\d+)`),
		shrunk:  re(`auto-fit max_model_len: reduced from (\d+) to (\d+)`),
		derived: re(`user-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(.{0,80}?=?(\d+)`),
		foreign: re(`\b[a-z_.]*(?:error|exception)\b: .+`),
	}
}

// maxLine is how much of one line is looked at.
const maxLine = 4096

// read looks through a log.
func (r *logReader) read(text string) logFacts {
	var f logFacts
	rank := len(r.phrases)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if len(line) > maxLine {
			line = line[:maxLine]
		}
		r.figures(&f, line)
		matched := false
		for i, p := range r.phrases {
			if p.re.MatchString(line) {
				matched = true
				if i < rank {
					rank, f.Reason, f.Line = i, p.reason, clean(line)
				}
				break
			}
		}
		if strings.HasSuffix(strings.TrimSpace(line), "AssertionError") {
			f.Bare = true
		}
		if !matched && r.foreign.MatchString(line) && !generic(line) {
			f.Other = clean(line)
		}
	}
	return f
}

// figures takes the numbers of a line; the last one of a kind stands.
func (r *logReader) figures(f *logFacts, line string) {
	if m := r.loaded.FindStringSubmatch(line); m != nil {
		f.LoadedGiB = number(m[1])
	}
	if m := r.cache.FindStringSubmatch(line); m != nil {
		f.CacheGiB, f.Cache = number(m[1]), true
	}
	if m := r.needed.FindStringSubmatch(line); m != nil {
		f.MaxLen, f.NeededGiB, f.CacheGiB, f.Cache = int(number(m[1])), number(m[2]), number(m[3]), true
	}
	if m := r.longest.FindStringSubmatch(line); m != nil {
		f.Longest = int(number(m[1]))
	}
	if m := r.shrunk.FindStringSubmatch(line); m != nil {
		f.MaxLen, f.ShrunkTo = int(number(m[1])), int(number(m[2]))
	}
	if m := r.derived.FindStringSubmatch(line); m != nil {
		f.MaxLen, f.Longest = int(number(m[1])), int(number(m[2]))
	}
}

// number reads digits; absurd ones are 0.
func number(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v > 1e12 || v < -1e12 {
		return 0
	}
	return v
}

// generic errors only say that something failed before.
func generic(line string) bool {
	low := strings.ToLower(line)
	for _, s := range []string{"engine core initialization failed", "enginecore failed to start", "engine process failed", "see root cause above", "failed core proc", "worker proc", "workerproc", "assertionerror"} {
		if strings.Contains(low, s) {
			return true
		}
	}
	return false
}

// clean shortens a line for an answer.
func clean(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	if r := []rune(s); len(r) > 400 {
		s = string(r[:399]) + "…"
	}
	return s
}
