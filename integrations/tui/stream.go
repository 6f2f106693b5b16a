package tui

import "strings"

// stream is a model's text while it comes. What a blank line has closed is drawn once;
// only the block that still grows is drawn again, so the cost of a piece does not grow
// with the answer.
type stream struct {
	th    theme
	width int
	raw   strings.Builder
	// done is how much of raw is in lines.
	done  int
	lines []string
	// drawn counts the bytes that were rendered, for the benchmark's test.
	drawn int
}

// maxStream bounds the text of one model turn that is kept for the screen, in bytes;
// the journal has all of it.
const maxStream = 256 << 10

func newStream(th theme, width int) *stream { return &stream{th: th, width: width} }

// add takes a piece.
func (s *stream) add(piece string) {
	if s.raw.Len()+len(piece) > maxStream {
		return
	}
	s.raw.WriteString(piece)
	all := s.raw.String()
	if end := closed(all[s.done:]); end > 0 {
		part := all[s.done : s.done+end]
		s.done += end
		s.drawn += len(part)
		if len(s.lines) > 0 {
			s.lines = append(s.lines, "")
		}
		s.lines = append(s.lines, renderMarkdown(s.th, part, s.width)...)
	}
}

// resize draws everything again at another width.
func (s *stream) resize(th theme, width int) {
	if s.width == width && s.th.name == th.name {
		return
	}
	all := s.raw.String()
	*s = stream{th: th, width: width}
	s.add(all)
}

// view gives the lines as they stand.
func (s *stream) view() []string {
	tail := s.raw.String()[s.done:]
	if strings.TrimSpace(tail) == "" {
		return s.lines
	}
	s.drawn += len(tail)
	out := append([]string{}, s.lines...)
	if len(out) > 0 {
		out = append(out, "")
	}
	return append(out, renderMarkdown(s.th, tail, s.width)...)
}

// closed gives how much of a text is made of whole blocks: the end of the last blank
// line that lies outside a code fence and is not followed by an indented line.
func closed(s string) int {
	end, at := 0, 0
	fence := ""
	for at < len(s) {
		n := strings.IndexByte(s[at:], '\n')
		if n < 0 {
			break
		}
		line := strings.TrimSpace(s[at : at+n])
		at += n + 1
		switch {
		case fence != "":
			if strings.HasPrefix(line, fence) && strings.Trim(line, fence[:1]) == "" {
				fence = ""
			}
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "~~~"):
			fence = line[:3]
		case line == "" && at < len(s) && s[at] != ' ' && s[at] != '\t' && s[at] != '\n':
			end = at
		}
	}
	return end
}
