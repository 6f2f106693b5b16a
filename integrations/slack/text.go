package slack

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// Slack's limits (docs.slack.dev/reference/block-kit, methods/chat.postMessage).
const (
	maxSection = 2900 // of 3000 characters of a text object
	maxBlocks  = 50   // of a message
	maxModal   = 100  // blocks of a modal
	maxPlain   = 70   // of 75 characters of a button
	maxTitle   = 24   // characters of the title of a modal
	maxLine    = 8000 // bytes of one line that are looked at
	maxMessage = 3500 // of the text beside blocks; Slack cuts it at 40,000
)

// escape takes the meaning out of a text for mrkdwn: Slack reads &, < and > as
// markup, so that nobody is called and nothing is linked, and the characters of its
// styles get a joiner that is not seen, so that names stay as they are.
func escape(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	before := ' '
	for _, r := range s {
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '*', '_', '~', '`':
			if !unicode.IsLetter(before) && !unicode.IsDigit(before) {
				b.WriteRune(0x200b)
			}
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
		before = r
	}
	return b.String()
}

// clean makes a text of the cluster one line and takes its markup out.
func clean(s string) string { return escape(render.Clean(clip(s, maxLine))) }

// fenced writes text of several lines as code; its back quotes get a
// joiner that is not seen, so that none of them closes the fence.
func fenced(s string) string {
	s = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "`\u200b").Replace(strings.ToValidUTF8(s, "\uFFFD"))
	return "```" + strings.TrimRight(s, "\n") + "```"
}

// cut shortens a text that is escaped already to a number of characters, never
// within an entity or a line where that can be helped.
func cut(s string, n int) (string, bool) {
	if utf8.RuneCountInString(s) <= n {
		return s, false
	}
	r := []rune(s)[:n-1]
	out := string(r)
	if i := strings.LastIndexByte(out, '\n'); i > len(out)/2 {
		out = out[:i]
	}
	if i := strings.LastIndexByte(out, '&'); i >= 0 && len(out)-i < 6 && !strings.Contains(out[i:], ";") {
		out = out[:i]
	}
	return strings.TrimRight(out, " \n") + "…", true
}

// page gathers the blocks of a message and keeps its limits. Cut says that
// something was left out.
type page struct {
	blocks []slack.Block
	limit  int
	cut    bool
	plain  []string
}

func newPage(limit int) *page { return &page{limit: limit} }

// add appends a block; the last places are kept for what is appended by force.
func (p *page) add(b slack.Block) bool {
	if len(p.blocks) >= p.limit-6 {
		p.cut = true
		return false
	}
	p.blocks = append(p.blocks, b)
	return true
}

func (p *page) force(b slack.Block) { p.blocks = append(p.blocks, b) }

// text appends a section of mrkdwn.
func (p *page) text(s string) {
	if strings.TrimSpace(s) == "" {
		return
	}
	s, short := cut(s, maxSection)
	p.cut = p.cut || short
	if p.add(slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, s, false, true), nil, nil)) {
		p.plain = append(p.plain, s)
	}
}

// small appends a line of context.
func (p *page) small(s string) {
	if strings.TrimSpace(s) == "" {
		return
	}
	s, _ = cut(s, maxSection)
	p.force(slack.NewContextBlock("", slack.NewTextBlockObject(slack.MarkdownType, s, false, true)))
	p.plain = append(p.plain, s)
}

// section appends a titled part of an answer or a plan.
func (p *page) section(sec render.Section, most int) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s*", escape(sec.Title))
	if sec.Note != "" {
		fmt.Fprintf(&b, "  _%s_", escape(sec.Note))
	}
	lines := sec.Lines
	if most > 0 && len(lines) > most {
		lines = lines[:most]
		p.cut = true
	}
	for _, l := range lines {
		b.WriteString("\n")
		if len(sec.Lines) > 1 {
			b.WriteString("• ")
		}
		b.WriteString(escape(clip(l, maxLine)))
	}
	if n := len(sec.Lines) - len(lines); n > 0 {
		fmt.Fprintf(&b, "\n… and %d more", n)
	}
	p.text(b.String())
}

// message is what is posted: blocks, and the text for notifications and readers
// that show no blocks.
type message struct {
	text   string
	blocks []slack.Block
	// final says that it changes no more by itself.
	final bool
	// urgent says that an edit is not left out for the sake of rate limits.
	urgent bool
}

func (p *page) message(final bool) message {
	text, _ := cut(strings.Join(p.plain, "\n"), maxMessage)
	return message{text: text, blocks: p.blocks[:min(len(p.blocks), p.limit)], final: final, urgent: final}
}

func button(action, value, label string, style slack.Style) *slack.ButtonBlockElement {
	l, _ := cut(label, maxPlain)
	b := slack.NewButtonBlockElement(action, value, slack.NewTextBlockObject(slack.PlainTextType, l, false, false))
	b.Style = style
	return b
}

// date writes a time as each reader's own clock shows it.
func date(unix int64, fallback string) string {
	return fmt.Sprintf("<!date^%d^{date_short_pretty} {time}|%s>", unix, escape(fallback))
}
