package triage

import (
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// maxQuestion is how much of a question is read, in bytes: names stand early,
// and a whole log pasted in is no question.
const maxQuestion = 16 << 10

// reading is what the words of a question say, before any cluster is asked.
type reading struct {
	// namespace named in the text ("in namespace train"), or given by the surface.
	namespace string
	// said is set when the text itself names the namespace.
	said bool
	// places are words that may be a namespace: "pending in train".
	places []string
	// firm mentions are written as names: "pod train/llama-0", "`llama-0`". One
	// that does not exist is answered as such.
	firm []tool.Mention
	// soft mentions are written like names and may be prose: "the pod hangs",
	// "prefill/decode". One that does not exist is not held against the question.
	soft []tool.Mention
	// loose mentions are plain words that might be names, tried last.
	loose []tool.Mention
	// words are the lower-case words, for matching runbooks.
	words []string
	// alerts are words that may be the name of an alert: "KubePodNotReady".
	alerts []string
	// alert is set when the text is one, pasted with its labels.
	alert *incident.Alert
	// trouble says that the text asks about trouble or health at all.
	trouble bool
	// traffic says that the text asks about requests on their way: how long they
	// take, whether they are answered.
	traffic bool
}

// token is a word of a question with what stands around it.
type token struct {
	text, low string
	// quoted words are names, whatever they look like.
	quoted bool
	// joined is set when only space or a sign of belonging (: = #) stands between
	// the word and the one before, comma when a comma does.
	joined, comma bool
	// flag is a command's option, as in -n.
	flag bool
	// used words are taken already, named ones gave a mention of this kind.
	used  bool
	named string
	// kind the word means, if it does.
	kind   string
	plural bool
}

// reader reads one question.
type reader struct {
	*vocabulary
	out    reading
	tokens []token
}

// read takes a question apart.
func (v *vocabulary) read(q incident.Question) reading {
	text := q.Text
	if len(text) > maxQuestion {
		text = strings.ToValidUTF8(text[:maxQuestion], "")
	}
	r := &reader{vocabulary: v}
	r.out = reading{namespace: q.Namespace, trouble: q.Alert != nil || r.trouble.MatchString(text), traffic: r.traffic.MatchString(text), alert: v.pasted(text)}
	r.tokenize(r.addresses(text))
	r.namespaces()
	for i := range r.tokens {
		r.mention(i)
	}
	return r.out
}

// addresses reads URLs, DNS names of Services and image references, which are
// no words, and blanks them.
func (r *reader) addresses(text string) string {
	text = r.urls.ReplaceAllStringFunc(text, func(u string) string {
		host := strings.ToLower(r.urls.FindStringSubmatch(u)[1])
		if !r.dns(host) {
			labels := strings.Split(host, ".")
			if r.name.MatchString(labels[0]) && !r.measure(host) {
				switch {
				case len(labels) == 1:
					r.soft(tool.Mention{Kind: "Service", Name: host})
				case len(labels) == 2 && !r.fileEndings[labels[1]]:
					r.soft(tool.Mention{Kind: "Service", Namespace: labels[1], Name: labels[0]})
				}
			}
		}
		return " . "
	})
	text = r.hosts.ReplaceAllStringFunc(text, func(m string) string {
		if r.dns(strings.ToLower(r.hosts.FindStringSubmatch(m)[2])) {
			return " . "
		}
		return m
	})
	return r.images.ReplaceAllStringFunc(text, func(m string) string {
		sub := r.images.FindStringSubmatch(m)
		registry, _, _ := strings.Cut(m, "/")
		tagged := sub[1] != "" && (sub[1] == "latest" || strings.ContainsAny(sub[1], "0123456789") || strings.ContainsAny(registry, ".:"))
		if tagged || sub[2] != "" {
			return " . "
		}
		return m
	})
}

// dns reads "web.shop.svc.cluster.local" and, behind a headless Service,
// "web-0.web.shop.svc"; it reports whether the name is one of a Service.
func (r *reader) dns(host string) bool {
	labels := strings.Split(host, ".")
	at := slices.Index(labels, "svc")
	if at < 2 || slices.Contains(labels, "") {
		return false
	}
	m := tool.Mention{Kind: "Service", Namespace: labels[at-1], Name: labels[at-2]}
	if at > 2 {
		m.Kind, m.Name = "Pod", labels[at-3]
	}
	r.firm(m)
	return true
}

// tokenize cuts the text into words.
func (r *reader) tokenize(text string) {
	last := 0
	for _, m := range r.words.FindAllStringIndex(text, -1) {
		word := strings.TrimRight(text[m[0]:m[1]], "./_-")
		end := m[0] + len(word)
		gap := text[last:m[0]]
		before, after := "", ""
		if m[0] > 0 {
			before = text[m[0]-1 : m[0]]
		}
		if end < len(text) {
			after = text[end : end+1]
		}
		t := token{text: word, low: strings.ToLower(word)}
		t.quoted = strings.Contains("`\"'", before) && before != "" && before == after || strings.HasSuffix(gap, "“") && strings.HasPrefix(text[end:], "”")
		t.comma = strings.Contains(gap, ",")
		t.joined = last > 0 && !strings.ContainsAny(gap, ".,;!?()[]{}<>|\n")
		switch {
		case !t.quoted && (before == "'" || strings.HasSuffix(gap, "’")) && len(word) <= 2:
			continue // the s of "pod's"; the gap goes on
		case before != "" && strings.Contains("/$@~\\%", before):
			t.used = true // a path, a variable, a person
		case before == "-":
			t.flag = true
		}
		last = end
		r.tokens = append(r.tokens, t)
	}
	r.kindTokens()
}

// kindTokens finds the words that are kinds, also those of several words such as
// "persistent volume claim", which become one.
func (r *reader) kindTokens() {
	in := r.tokens
	r.tokens = nil
	for i := 0; i < len(in); i++ {
		t := in[i]
		for n := 3; n > 0; n-- {
			if i+n > len(in) || t.used || t.flag || n > 1 && slices.ContainsFunc(in[i+1:i+n], func(t token) bool { return !t.joined || t.quoted || t.used || t.flag }) {
				continue
			}
			var said []string
			for _, w := range in[i : i+n] {
				said = append(said, w.low)
			}
			word := strings.Join(said, "")
			if k, plural := r.kindOf(word); k != "" {
				t.kind, t.plural, t.low = k, plural, word
				r.out.words = append(r.out.words, said...)
				i += n - 1
				break
			}
		}
		if t.kind == "" && !t.flag && !t.used {
			r.out.words = append(r.out.words, t.low)
		}
		r.tokens = append(r.tokens, t)
	}
}

// at gives a token, an empty one outside of the question.
func (r *reader) at(i int) *token {
	if i < 0 || i >= len(r.tokens) {
		return &token{}
	}
	return &r.tokens[i]
}

// namespaces finds the namespace that the text names: "namespace X", "in the X
// namespace", "-n X".
func (r *reader) namespaces() {
	for i := range r.tokens {
		t := r.at(i)
		isFlag := t.flag && (t.low == "n" || t.low == "namespace")
		if r.out.said || t.used || t.plural || !isFlag && (t.kind != "Namespace" || t.flag) {
			continue
		}
		if n := r.at(i + 1); n.joined && r.isNamespace(i, n, isFlag) {
			r.place(n)
			continue
		}
		p := r.at(i - 1)
		if !isFlag && t.joined && r.label(p.low) && !p.used && !r.grammar[p.low] && !r.determiners[p.low] && p.kind == "" && (p.quoted || !r.prose(p.low) || r.in(i-1)) {
			r.place(p)
		}
	}
}

// isNamespace judges the word behind "namespace".
func (r *reader) isNamespace(i int, n *token, flag bool) bool {
	if !r.label(n.low) || n.used {
		return false
	}
	if n.quoted || flag {
		return true
	}
	if r.grammar[n.low] {
		// "in namespace a" at the end of a sentence.
		return r.in(i) && !r.at(i+2).joined
	}
	switch {
	case r.determiners[r.at(i-1).low] && r.at(i-1).low != "the":
		return !r.prose(n.low) // "is my namespace broken"
	case r.in(i):
		return true // "in namespace gpu"
	case n.kind != "":
		return false
	}
	return !r.prose(n.low) || r.nouns[n.low]
}

// in reports whether a place is named at a word: "in X", "from the X".
func (r *reader) in(i int) bool {
	p := r.at(i - 1)
	if p.low == "the" {
		p = r.at(i - 2)
	}
	return r.places[p.low] || p.low == "from" || p.low == "of" || p.low == "for"
}

// label reports whether a word can be the name of a namespace (RFC 1123 label).
func (r *reader) label(low string) bool {
	return low != "" && len(low) <= 63 && r.name.MatchString(low) && !strings.Contains(low, ".")
}

func (r *reader) place(t *token) {
	t.used, r.out.said, r.out.namespace = true, true, t.low
}

// mention judges one word.
func (r *reader) mention(i int) {
	t := r.at(i)
	if t.used || t.flag || t.low == "" {
		return
	}
	if r.state.MatchString(t.text) && !t.quoted {
		r.out.alerts = appendNew(r.out.alerts, t.text)
		r.out.trouble = true
		return
	}
	kind, det, plural := r.kindBefore(i)
	if strings.Contains(t.low, "/") {
		r.slashed(t, kind)
		return
	}
	after := ""
	if n := r.at(i + 1); n.joined && !n.used && !n.flag {
		after = n.kind
	}
	usable := r.usable.MatchString(t.low)
	shaped := strings.ContainsAny(t.low, "-._") && strings.ContainsAny(t.low, "abcdefghijklmnopqrstuvwxyz")
	switch {
	case !usable:
	case t.quoted:
		t.named = first(kind, after)
		if t.named == "Namespace" && kind == "" {
			t.named = ""
		}
		r.firm(tool.Mention{Kind: t.named, Name: t.low})
	case t.kind != "" || r.measure(t.low) || r.ordinary(t.low):
		r.prosaic(i, t, kind, after, shaped)
	case kind == "Namespace":
		r.firm(tool.Mention{Kind: kind, Name: t.low})
		t.named = kind
	case kind != "":
		t.named = kind
		if shaped || !plural && !det && strings.ContainsAny(t.text, "abcdefghijklmnopqrstuvwxyz") {
			r.firm(tool.Mention{Kind: kind, Name: t.low})
		} else {
			r.soft(tool.Mention{Kind: kind, Name: t.low})
		}
	case r.owners[r.at(i-1).low] && t.joined:
		// The name of a container, an image, a label: no object.
	default:
		r.unkinded(i, t, after, shaped)
	}
}

// prosaic judges a word of ordinary English, or one made of such words: "gpu-7"
// is a name all the same, and "pod ceiling" may be one.
func (r *reader) prosaic(i int, t *token, kind, after string, shaped bool) {
	numbered := shaped && r.numbered.MatchString(t.low)
	switch {
	case t.kind != "" || r.measure(t.low):
	case kind != "" && numbered:
		t.named = kind
		r.firm(tool.Mention{Kind: kind, Name: t.low})
	case kind != "" && (shaped || !r.stop[t.low] && !r.parts[t.low] && !r.grammar[t.low]):
		r.soft(tool.Mention{Kind: kind, Name: t.low})
	case kind != "":
	case numbered:
		r.loose(tool.Mention{Kind: after, Name: t.low})
	default:
		r.maybePlace(i, t)
	}
}

// unkinded judges a word that no kind stands before.
func (r *reader) unkinded(i int, t *token, after string, shaped bool) {
	if !r.name.MatchString(t.low) {
		return
	}
	r.maybePlace(i, t)
	m := tool.Mention{Kind: after, Name: t.low}
	if after == "Namespace" {
		m.Kind = ""
	}
	switch {
	case shaped && t.text == t.low && !r.doubtful(t.low):
		t.named = m.Kind
		r.firm(m)
	case shaped, len(t.low) > 2 && (t.text == t.low || strings.ToLower(t.text[1:]) == t.text[1:]):
		r.loose(m)
	}
}

// maybePlace notes a word behind "in" that may be the name of a namespace.
func (r *reader) maybePlace(i int, t *token) {
	p := r.at(i - 1)
	if p.low == "the" {
		p = r.at(i - 2)
	}
	n := r.at(i + 1)
	kindFollows := n.joined && n.kind != "" // "in the training job"
	if r.places[p.low] && t.joined && r.label(t.low) && !r.stop[t.low] && !r.grammar[t.low] && !r.measure(t.low) && !kindFollows && len(r.out.places) < 3 {
		r.out.places = appendNew(r.out.places, t.low)
	}
}

// kindBefore gives the kind that stands before a word, whether a determiner
// ("my pod") stands before that, and whether the kind is plural. "named" and
// "called" may stand between, and a list shares its kind.
func (r *reader) kindBefore(i int) (kind string, det, plural bool) {
	t := r.at(i)
	k := i - 1
	if t.comma && r.at(k).named != "" {
		return r.at(k).named, false, true
	}
	if w := r.at(k).low; (w == "and" || w == "or") && r.at(k-1).named != "" && r.at(k).joined {
		return r.at(k - 1).named, false, true
	}
	if !t.joined {
		return "", false, false
	}
	said := false
	for ; k > 0 && r.at(k).joined; k-- {
		if w := r.at(k).low; w != "named" && w != "called" && w != "name" && w != "with" && w != "the" || r.at(k).kind != "" {
			break
		}
		said = said || r.at(k).low != "with" && r.at(k).low != "the"
	}
	if k != i-1 && !said {
		k = i - 1
	}
	p := r.at(k)
	if p.kind == "" || p.quoted || p.used || p.flag {
		return "", false, false
	}
	return p.kind, !said && r.determiners[r.at(k-1).low] && p.joined, p.plural && !said
}

// slashed reads "ns/name", "kind/name", "kind.group/name", "kind/ns/name" and
// "namespaces/ns/kind/name".
func (r *reader) slashed(t *token, before string) {
	parts := strings.Split(t.low, "/")
	for _, p := range parts {
		if !r.usable.MatchString(p) {
			return
		}
	}
	k0, _ := r.kindOf(parts[0])
	if parts[0] == "no" {
		k0 = "Node"
	}
	last := parts[len(parts)-1]
	prose := !slices.ContainsFunc(parts, func(p string) bool { return !r.ordinary(p) })
	switch {
	case !t.quoted && (prose && before == "" && k0 == "" || k0 != "" && last == "s"):
		// "and/or", "CPU/GPU", "0/6", "pod/s".
	case len(parts) == 2 && k0 == "Namespace":
		if !r.out.said {
			r.out.said, r.out.namespace = true, last
			return
		}
		r.firm(tool.Mention{Kind: k0, Name: last})
	case len(parts) == 2 && k0 != "" && (before == "" || before == k0):
		if kind, _ := r.kindOf(last); kind == "" {
			t.named = k0
			r.firm(tool.Mention{Kind: k0, Name: last})
		}
	case len(parts) == 2 && !strings.Contains(parts[0], "."):
		// A namespace has no dot: "nvidia.com/gpu" is a resource.
		m := tool.Mention{Kind: before, Namespace: parts[0], Name: last}
		plain := !strings.ContainsAny(t.low, "-.0123456789")
		if before == "" && !t.quoted && (plain || t.text != t.low || r.orgs[parts[0]] || r.measure(parts[0]) || r.ordinary(parts[0]) && r.prose(last)) {
			r.soft(m)
			return
		}
		t.named = before
		r.firm(m)
	case len(parts) == 3 && k0 != "":
		t.named = k0
		r.firm(tool.Mention{Kind: k0, Namespace: parts[1], Name: last})
	case len(parts) == 3 && !strings.Contains(parts[0], "."):
		r.soft(tool.Mention{Kind: parts[0], Namespace: parts[1], Name: last})
	case len(parts) == 4 && k0 == "Namespace":
		k, _ := r.kindOf(parts[2])
		r.firm(tool.Mention{Kind: first(k, parts[2]), Namespace: parts[1], Name: last})
	}
}

// maxRead bounds the names that are read out of one question.
const maxRead = 32

func (r *reader) firm(m tool.Mention)  { r.out.firm = one(r.out.firm, m) }
func (r *reader) soft(m tool.Mention)  { r.out.soft = one(r.out.soft, m) }
func (r *reader) loose(m tool.Mention) { r.out.loose = one(r.out.loose, m) }

func one(ms []tool.Mention, m tool.Mention) []tool.Mention {
	if len(ms) >= maxRead {
		return ms
	}
	return appendNew(ms, m)
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}
