package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ArgError says which argument cannot be used, and why.
type ArgError struct {
	Flag, Value, Why string
}

// Error implements error.
func (e *ArgError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s", e.Flag, e.Why)
	}
	return fmt.Sprintf("%s %q: %s", e.Flag, e.Value, e.Why)
}

// kind is how a flag's value is read.
type kind uint8

const (
	isInt kind = iota
	isLen
	isFraction
	isText
	isBool
	isGiB
	isBytes
	isJSON
)

// flag says what an argument sets. long names are written with dashes.
type flag struct {
	kind kind
	set  func(s *Settings, v value)
}

// value is a read value in the form its kind has.
type value struct {
	n    int
	f    float64
	b    bool
	text string
	auto bool
}

// common are the flags that engines write alike.
func vllmFlags() map[string]flag {
	return map[string]flag{
		"model":                           {isText, func(s *Settings, v value) { s.Model = v.text }},
		"hf-config-path":                  {isText, func(s *Settings, v value) { s.ConfigPath = v.text }},
		"config":                          {isText, func(s *Settings, v value) { s.File = v.text }},
		"tensor-parallel-size":            {isInt, func(s *Settings, v value) { s.TP = v.n }},
		"tp":                              {isInt, func(s *Settings, v value) { s.TP = v.n }},
		"pipeline-parallel-size":          {isInt, func(s *Settings, v value) { s.PP = v.n }},
		"pp":                              {isInt, func(s *Settings, v value) { s.PP = v.n }},
		"data-parallel-size":              {isInt, func(s *Settings, v value) { s.DP = v.n }},
		"dp":                              {isInt, func(s *Settings, v value) { s.DP = v.n }},
		"enable-expert-parallel":          {isBool, func(s *Settings, v value) { s.EP = v.b }},
		"ep":                              {isBool, func(s *Settings, v value) { s.EP = v.b }},
		"gpu-memory-utilization":          {isFraction, func(s *Settings, v value) { s.Utilization = v.f }},
		"max-model-len":                   {isLen, func(s *Settings, v value) { s.MaxLen, s.AutoLen = v.n, v.auto }},
		"max-num-seqs":                    {isInt, func(s *Settings, v value) { s.MaxSeqs = v.n }},
		"max-num-batched-tokens":          {isLen, func(s *Settings, v value) { s.BatchedTokens = v.n }},
		"block-size":                      {isInt, func(s *Settings, v value) { s.BlockSize = v.n }},
		"kv-cache-dtype":                  {isText, func(s *Settings, v value) { s.KVType = v.text }},
		"dtype":                           {isText, func(s *Settings, v value) { s.DType = v.text }},
		"quantization":                    {isText, func(s *Settings, v value) { s.Quantization = v.text }},
		"q":                               {isText, func(s *Settings, v value) { s.Quantization = v.text }},
		"kv-cache-memory-bytes":           {isBytes, func(s *Settings, v value) { s.KVBytes = int64(v.n) }},
		"kv-cache-memory":                 {isBytes, func(s *Settings, v value) { s.KVBytes = int64(v.n) }},
		"cpu-offload-gb":                  {isGiB, func(s *Settings, v value) { s.OffloadBytes = int64(v.f * (1 << 30)) }},
		"enable-prefix-caching":           {isBool, func(s *Settings, v value) { s.NoPrefixCache = !v.b }},
		"disable-hybrid-kv-cache-manager": {isBool, func(s *Settings, v value) { s.NoHybrid = v.b }},
		"enforce-eager":                   {isBool, func(s *Settings, v value) { s.Eager = v.b }},
		"enable-lora":                     {isBool, func(s *Settings, v value) { s.LoRA = v.b }},
		"speculative-config":              {isJSON, speculative},
		"speculative-config.method":       {isText, func(s *Settings, v value) { s.Drafter = v.text }},
		"speculative-config.model":        {isText, func(s *Settings, v value) { s.DraftModel = v.text }},
		"speculative-config.num-speculative-tokens": {isInt, func(s *Settings, v value) { s.Speculate = v.n }},
		"kv-transfer-config":                        {isJSON, func(s *Settings, v value) { s.NoHybrid = true }},
	}
}

// speculative reads the JSON of --speculative-config.
func speculative(s *Settings, v value) {
	var c struct {
		Method string `json:"method"`
		Model  string `json:"model"`
		Tokens int    `json:"num_speculative_tokens"`
	}
	if json.Unmarshal([]byte(v.text), &c) != nil || c.Tokens < 0 || c.Tokens > 1024 {
		return
	}
	s.Drafter, s.DraftModel, s.Speculate = c.Method, c.Model, c.Tokens
}

func sglangFlags() map[string]flag {
	tp := flag{isInt, func(s *Settings, v value) { s.TP = v.n }}
	pp := flag{isInt, func(s *Settings, v value) { s.PP = v.n }}
	dp := flag{isInt, func(s *Settings, v value) { s.DP = v.n }}
	ep := flag{isInt, func(s *Settings, v value) { s.EP = v.n > 1 }}
	name := flag{isText, func(s *Settings, v value) { s.Model = v.text }}
	draft := flag{isText, func(s *Settings, v value) { s.DraftModel = v.text }}
	return map[string]flag{
		"model-path": name, "model": name,
		"tp": tp, "tp-size": tp, "tensor-parallel-size": tp,
		"pp": pp, "pp-size": pp, "pipeline-parallel-size": pp,
		"dp": dp, "dp-size": dp, "data-parallel-size": dp,
		"ep": ep, "ep-size": ep, "expert-parallel-size": ep,
		"enable-dp-attention":          {isBool, func(s *Settings, v value) { s.DPAttention = v.b }},
		"mem-fraction-static":          {isFraction, func(s *Settings, v value) { s.Utilization = v.f }},
		"context-length":               {isLen, func(s *Settings, v value) { s.MaxLen = v.n }},
		"max-running-requests":         {isInt, func(s *Settings, v value) { s.MaxSeqs = v.n }},
		"chunked-prefill-size":         {isText, func(s *Settings, v value) { s.BatchedTokens = positive(v.text) }},
		"page-size":                    {isInt, func(s *Settings, v value) { s.BlockSize = v.n }},
		"kv-cache-dtype":               {isText, func(s *Settings, v value) { s.KVType = v.text }},
		"dtype":                        {isText, func(s *Settings, v value) { s.DType = v.text }},
		"quantization":                 {isText, func(s *Settings, v value) { s.Quantization = v.text }},
		"cpu-offload-gb":               {isGiB, func(s *Settings, v value) { s.OffloadBytes = int64(v.f * (1 << 30)) }},
		"disable-radix-cache":          {isBool, func(s *Settings, v value) { s.NoPrefixCache = v.b }},
		"disable-cuda-graph":           {isBool, func(s *Settings, v value) { s.Eager = v.b }},
		"enable-lora":                  {isBool, func(s *Settings, v value) { s.LoRA = v.b }},
		"speculative-algorithm":        {isText, func(s *Settings, v value) { s.Drafter = v.text }},
		"speculative-num-draft-tokens": {isInt, func(s *Settings, v value) { s.Speculate = v.n }},
		"speculative-draft-model-path": draft,
		"speculative-draft":            draft,
		"config":                       {isText, func(s *Settings, v value) { s.File = v.text }},
	}
}

func trtFlags() map[string]flag {
	return map[string]flag{
		"tp-size":                           {isInt, func(s *Settings, v value) { s.TP = v.n }},
		"pp-size":                           {isInt, func(s *Settings, v value) { s.PP = v.n }},
		"ep-size":                           {isInt, func(s *Settings, v value) { s.EP = v.n > 1 }},
		"max-seq-len":                       {isLen, func(s *Settings, v value) { s.MaxLen = v.n }},
		"max-batch-size":                    {isInt, func(s *Settings, v value) { s.MaxSeqs = v.n }},
		"max-num-tokens":                    {isLen, func(s *Settings, v value) { s.BatchedTokens = v.n }},
		"tokens-per-block":                  {isInt, func(s *Settings, v value) { s.BlockSize = v.n }},
		"kv-cache-free-gpu-memory-fraction": {isFraction, func(s *Settings, v value) { s.Utilization = v.f }},
		"kv-cache-dtype":                    {isText, func(s *Settings, v value) { s.KVType = v.text }},
		"extra-llm-api-options":             {isText, func(s *Settings, v value) { s.File = v.text }},
		"config":                            {isText, func(s *Settings, v value) { s.File = v.text }},
		"model":                             {isText, func(s *Settings, v value) { s.Model = v.text }},
	}
}

func positive(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1<<30 {
		return 0
	}
	return n
}

func flagsOf(k Kind) map[string]flag {
	switch k {
	case SGLang:
		return sglangFlags()
	case TRTLLM:
		return trtFlags()
	}
	return vllmFlags()
}

// ParseLine reads a command line or just its flags.
func ParseLine(line string, k Kind) (Settings, error) {
	words, err := Split(line)
	if err != nil {
		return Settings{Kind: k}, err
	}
	if found, rest, ok := Find(words); ok {
		return parse(rest, found)
	}
	return parse(words, k)
}

// Command reads a container's command and arguments, whose variables are
// resolved with env. ok is false when no serving engine is started by it.
func Command(words []string, env map[string]string) (s Settings, ok bool, err error) {
	flat := make([]string, 0, len(words))
	for _, w := range words {
		flat = append(flat, Expand(w, env))
	}
	k, rest, ok := Find(flat)
	if !ok {
		// sh -c "vllm serve ...": the program is inside one of the words.
		for _, w := range flat {
			if !strings.ContainsAny(w, " \t\n") {
				continue
			}
			inner, err := Split(w)
			if err != nil {
				continue
			}
			if k, rest, ok = Find(inner); ok {
				for i := range rest {
					rest[i] = Expand(rest[i], env)
				}
				break
			}
		}
	}
	if !ok {
		return Settings{}, false, nil
	}
	s, err = parse(rest, k)
	return s, true, err
}

// Find looks for the program that serves and gives what follows it, up to the
// end of its command.
func Find(words []string) (Kind, []string, bool) {
	for i, w := range words {
		base := w[strings.LastIndexByte(w, '/')+1:]
		var k Kind
		at := i + 1
		switch {
		case base == "vllm" && i+1 < len(words) && words[i+1] == "serve":
			k, at = VLLM, i+2
		case strings.HasPrefix(w, "vllm.entrypoints.") && strings.Contains(w, "api_server"):
			k = VLLM
		case w == "sglang.launch_server" || base == "sglang" && i+1 < len(words) && words[i+1] == "serve":
			k = SGLang
			if base == "sglang" {
				at = i + 2
			}
		case base == "trtllm-serve":
			k = TRTLLM
			if at < len(words) && words[at] == "serve" {
				at++
			}
		default:
			continue
		}
		end := len(words)
		for j := at; j < end; j++ {
			if words[j] == separator {
				end = j
			}
		}
		return k, append([]string(nil), words[at:end]...), true
	}
	return "", nil, false
}

// Parse reads flags of an engine, with the model as first word where the engine
// takes it so.
func Parse(args []string, k Kind) (Settings, error) { return parse(args, k) }

// maxArgs bounds how many arguments are read.
const maxArgs = 4096

func parse(args []string, k Kind) (Settings, error) {
	s := Settings{Kind: k}
	if k == "" {
		s.Kind = VLLM
	}
	if len(args) > maxArgs {
		return s, fmt.Errorf("%d engine arguments are more than %d", len(args), maxArgs)
	}
	flags := flagsOf(s.Kind)
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == separator {
			continue
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			if s.Model == "" && i == 0 {
				s.Model = a
			} else {
				s.Ignored = append(s.Ignored, a)
			}
			continue
		}
		name, text, given := strings.Cut(strings.TrimLeft(a, "-"), "=")
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
		negated := false
		f, ok := flags[name]
		if !ok {
			if base, cut := strings.CutPrefix(name, "no-"); cut && flags[base].kind == isBool && flags[base].set != nil {
				f, ok, negated = flags[base], true, true
			}
		}
		if !ok {
			s.Ignored = append(s.Ignored, a)
			if !given && i+1 < len(args) && !isFlag(args[i+1]) && args[i+1] != separator {
				i++
			}
			continue
		}
		if f.kind == isBool {
			v := value{b: !negated}
			if given {
				b, err := strconv.ParseBool(strings.ToLower(text))
				if err != nil {
					return s, &ArgError{Flag: flagText(a), Value: text, Why: "true or false is expected"}
				}
				v.b = b != negated
			}
			f.set(&s, v)
			continue
		}
		if !given {
			if i+1 >= len(args) || args[i+1] == separator {
				return s, &ArgError{Flag: a, Why: "a value is expected"}
			}
			i++
			text = args[i]
		}
		v, why := read(f.kind, text)
		if why != "" {
			return s, &ArgError{Flag: flagText(a), Value: short(text), Why: why}
		}
		f.set(&s, v)
	}
	return s, nil
}

// isFlag reports whether a word is a flag and not a negative number.
func isFlag(w string) bool {
	if !strings.HasPrefix(w, "-") || len(w) < 2 {
		return false
	}
	return w[1] < '0' || w[1] > '9'
}

func flagText(a string) string {
	n, _, _ := strings.Cut(a, "=")
	return n
}

// read reads one value; why says what is wrong with it.
func read(k kind, text string) (v value, why string) {
	v.text = text
	if strings.HasPrefix(text, "$") {
		return v, "it is a variable whose value is not known here"
	}
	switch k {
	case isInt:
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 1<<20 {
			return v, "a whole number of at least 1 is expected"
		}
		v.n = n
	case isLen:
		if text == "auto" || text == "-1" {
			v.auto = true
			return v, ""
		}
		n, ok := human(text)
		if !ok || n < 1 || n > 1<<30 {
			return v, "a number of tokens such as 32768 or 32k is expected"
		}
		v.n = int(n)
	case isBytes:
		n, ok := human(text)
		if !ok || n < 1 || n > 1<<44 {
			return v, "a number of bytes such as 8589934592 or 8G is expected"
		}
		v.n = int(n)
	case isFraction:
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(f) || f <= 0 || f > 1 {
			return v, "a number above 0 and at most 1 is expected"
		}
		v.f = f
	case isGiB:
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(f) || f < 0 || f > 1<<14 {
			return v, "a number of GiB is expected"
		}
		v.f = f
	case isJSON:
		if len(text) > maxLine || !json.Valid([]byte(text)) {
			return v, "JSON is expected"
		}
	case isText:
		if text == "" || len(text) > 4096 {
			return v, "a value is expected"
		}
	case isBool:
	}
	return v, ""
}

// human reads vLLM's numbers with a suffix: k, m, g in thousands, K, M, G in 1024s.
func human(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, false
	}
	scale := map[byte]float64{'k': 1e3, 'm': 1e6, 'g': 1e9, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}[text[len(text)-1]]
	if scale == 0 {
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	}
	f, err := strconv.ParseFloat(text[:len(text)-1], 64)
	if err != nil || math.IsNaN(f) || f < 0 || f*scale > 1<<50 {
		return 0, false
	}
	return int64(f * scale), true
}

func short(s string) string {
	if r := []rune(strings.ToValidUTF8(s, "?")); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return s
}
