package web

import (
	"bytes"
	"fmt"

	template "github.com/DataDog/datadog-agent/pkg/template/html"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// maxMarkdown bounds the prose of a model that is rendered, in bytes.
const maxMarkdown = 64 << 10

// markdown renders a model's prose: paragraphs, headings, lists, quotes, code,
// emphasis and rules. Raw HTML is shown as the text that it is; links and pictures
// become their text and their address, which is not a link: a model, or who speaks
// through it, sends nobody anywhere.
type markdown struct{ md goldmark.Markdown }

func newMarkdown() markdown {
	return markdown{goldmark.New(goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(plainLinks{}, 100))))}
}

func (m markdown) html(src string) (template.HTML, error) {
	if len(src) > maxMarkdown {
		src = src[:maxMarkdown]
	}
	var b bytes.Buffer
	if err := m.md.Convert([]byte(block(src)), &b); err != nil {
		return "", fmt.Errorf("render a model's words: %w", err)
	}
	return template.HTML(b.String()), nil // #nosec G203 -- goldmark escapes texts, and plainLinks leaves no address and no raw HTML
}

// plainLinks renders what could lead elsewhere or be markup as text.
type plainLinks struct{}

var _ renderer.NodeRenderer = plainLinks{}

// RegisterFuncs implements renderer.NodeRenderer.
func (plainLinks) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindLink, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if l, ok := n.(*ast.Link); ok && !entering {
			address(w, l.Destination)
		}
		return ast.WalkContinue, nil
	})
	r.Register(ast.KindImage, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if l, ok := n.(*ast.Image); ok && !entering {
			address(w, l.Destination)
		}
		return ast.WalkContinue, nil
	})
	r.Register(ast.KindAutoLink, func(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if l, ok := n.(*ast.AutoLink); ok && entering {
			_, _ = w.Write(util.EscapeHTML(l.Label(src)))
		}
		return ast.WalkSkipChildren, nil
	})
	r.Register(ast.KindRawHTML, func(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if raw, ok := n.(*ast.RawHTML); ok && entering {
			for i := range raw.Segments.Len() {
				s := raw.Segments.At(i)
				_, _ = w.Write(util.EscapeHTML(s.Value(src)))
			}
		}
		return ast.WalkSkipChildren, nil
	})
	r.Register(ast.KindHTMLBlock, func(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		b, ok := n.(*ast.HTMLBlock)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		_, _ = w.WriteString("<p>")
		for i := range b.Lines().Len() {
			s := b.Lines().At(i)
			_, _ = w.Write(util.EscapeHTML(s.Value(src)))
		}
		if b.HasClosure() {
			_, _ = w.Write(util.EscapeHTML(b.ClosureLine.Value(src)))
		}
		_, _ = w.WriteString("</p>\n")
		return ast.WalkContinue, nil
	})
}

// address writes where a link would have led, as text.
func address(w util.BufWriter, dest []byte) {
	if len(dest) == 0 {
		return
	}
	_, _ = w.WriteString(" (")
	_, _ = w.Write(util.EscapeHTML(dest))
	_, _ = w.WriteString(")")
}
