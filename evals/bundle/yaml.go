package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// ErrAlias refuses YAML aliases: a few of them can stand for gigabytes.
var errAlias = errors.New("YAML anchors with aliases (*name) are not read: a few can stand for gigabytes; write the value out")

// DecodeYAML reads one YAML or JSON document from outside as an object, with
// the number types of the API server (int64 and float64). Aliases and
// duplicate keys are refused. A document that holds nothing gives a nil map.
// The caller bounds the length of doc; the result is of its order.
func DecodeYAML(doc []byte) (map[string]any, error) {
	if line := aliasLine(doc); line > 0 {
		return nil, fmt.Errorf("line %d: %w", line, errAlias)
	}
	raw, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil, nil
	}
	if raw[0] != '{' {
		return nil, errors.New("the document is no object")
	}
	var obj map[string]any
	if err := utiljson.Unmarshal(raw, &obj); err != nil {
		return nil, err
	}
	return obj, nil
}

// aliasLine gives the line of the first alias, 0 when there is none. Only a
// document that could have one is parsed for it.
func aliasLine(doc []byte) int {
	if !token(doc, '&') || !token(doc, '*') {
		return 0
	}
	var root yamlv3.Node
	if err := yamlv3.Unmarshal(doc, &root); err != nil {
		return 0 // the reader proper says what is wrong with it
	}
	stack := []*yamlv3.Node{&root}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n.Kind == yamlv3.AliasNode {
			return n.Line
		}
		for i := len(n.Content) - 1; i >= 0; i-- {
			stack = append(stack, n.Content[i])
		}
	}
	return 0
}

// token reports whether c begins a word, as an anchor or alias would.
func token(doc []byte, c byte) bool {
	for i, b := range doc {
		if b != c || i+1 >= len(doc) || doc[i+1] <= ' ' {
			continue
		}
		if i == 0 || strings.IndexByte(" \t\r\n[{,:-?", doc[i-1]) >= 0 {
			return true
		}
	}
	return false
}

// located puts a file and the line within it before a YAML error; first is the
// line at which the document begins.
func located(file string, first int, err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, noise := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors: "} {
		text = strings.Replace(text, noise, "", 1)
	}
	before, rest, ok := strings.Cut(text, "line ")
	digits, after, colon := strings.Cut(rest, ":")
	n, nerr := strconv.Atoi(digits)
	if !ok || !colon || nerr != nil || (before != "" && !strings.HasSuffix(before, " ")) {
		return &fileError{file: file, line: first, text: text, err: err}
	}
	return &fileError{file: file, line: first + n - 1, text: strings.TrimSpace(before + strings.TrimSpace(after)), err: err}
}

// fileError is what is wrong at a line of a file.
type fileError struct {
	file string
	line int
	text string
	err  error
}

// Error implements error.
func (e *fileError) Error() string { return fmt.Sprintf("%s:%d: %s", e.file, e.line, e.text) }

// Unwrap gives the reader's own error.
func (e *fileError) Unwrap() error { return e.err }

// documents yields the YAML documents of a file with the line each begins at.
// A document keeps its leading marker line.
func documents(raw []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		line := 1
		for len(raw) > 0 {
			end, lines := nextDocument(raw)
			if !yield(line, raw[:end]) {
				return
			}
			raw = raw[end:]
			line += lines
		}
	}
}

// nextDocument gives the length of the first document and its number of lines.
func nextDocument(raw []byte) (end, lines int) {
	for end < len(raw) {
		next := bytes.IndexByte(raw[end:], '\n')
		if next < 0 {
			return len(raw), lines + 1
		}
		end += next + 1
		lines++
		if isMarker(raw[end:]) {
			return end, lines
		}
	}
	return end, lines
}

// isMarker reports whether a line begins or ends a document.
func isMarker(b []byte) bool {
	if !bytes.HasPrefix(b, []byte("---")) && !bytes.HasPrefix(b, []byte("...")) {
		return false
	}
	return len(b) == 3 || strings.IndexByte("\n\r\t ", b[3]) >= 0
}

// blank reports whether a document holds markers, directives and comments only.
func blank(doc []byte) bool {
	for l := range bytes.Lines(doc) {
		l = bytes.TrimSpace(l)
		if len(l) > 0 && l[0] != '#' && l[0] != '%' && !bytes.Equal(l, []byte("---")) && !bytes.Equal(l, []byte("...")) {
			return false
		}
	}
	return true
}
