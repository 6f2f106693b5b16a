package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	kjson "sigs.k8s.io/json"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// maxDepth is how deep the objects and lists of a request may lie in each other.
const maxDepth = 16

// decode reads the document of a request into v, a pointer to a struct, strictly:
// each field is known, given once and of its type, and nothing follows.
func (c *call) decode(v any) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	if len(raw) == 0 && c.op.optional {
		return nil
	}
	return decode(raw, v)
}

func (c *call) body() ([]byte, error) {
	raw, err := io.ReadAll(c.r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, err
		}
		return nil, invalid("the body", "", "it broke off: "+err.Error(), "send it again")
	}
	if len(raw) == 0 && c.op.optional && c.r.Header.Get("Content-Type") == "" {
		return nil, nil
	}
	if e := c.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, unsupported("Content-Encoding", e, "send the body as it is")
	}
	media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, unsupported("Content-Type", c.r.Header.Get("Content-Type"), "send JSON in UTF-8 and say Content-Type: application/json")
	}
	return raw, nil
}

func unsupported(header, value, fix string) error {
	return &access.Error{Status: http.StatusUnsupportedMediaType, User: fmt.Sprintf("the header %s %s is not what is taken here", header, quoted(value)), Fix: fix}
}

// noBody refuses a body where none is read: whoever sends one means something by it.
func (c *call) noBody() error {
	if c.r.Body == nil {
		return nil
	}
	switch n, err := io.ReadFull(c.r.Body, make([]byte, 1)); {
	case n > 0:
		return invalid("the body", "", "none is read here", "leave it out")
	case err != nil && !errors.Is(err, io.EOF):
		return invalid("the body", "", "it broke off: "+err.Error(), "send it again")
	}
	return nil
}

// decode is the decoder without the request.
func decode(raw []byte, v any) error {
	if !utf8.Valid(raw) {
		return invalid("the body", "", "it is no UTF-8", "encode it as UTF-8")
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return invalid("the body", "", "it is empty", "send a JSON object")
	}
	if depth(raw) > maxDepth {
		return invalid("the body", "", fmt.Sprintf("it is nested deeper than %d levels", maxDepth), "flatten it")
	}
	var doc any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return notJSON(err, d.InputOffset())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("the body", "", fmt.Sprintf("something follows the JSON object at byte %d", d.InputOffset()), "send one object")
	}
	strict, err := kjson.UnmarshalStrict(raw, v)
	if err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			field := e.Field
			if field == "" {
				field = "the body"
			}
			return invalid(field, "", fmt.Sprintf("it is a JSON %s, and %s is meant", e.Value, typeName(e.Type)), "")
		}
		return invalid("the body", "", err.Error(), "docs/openapi describes what is taken: gumshoe api openapi")
	}
	if len(strict) > 0 {
		return invalid("the body", "", strict[0].Error(), "see gumshoe api openapi for the fields")
	}
	return check(reflect.TypeOf(v).Elem(), doc, "")
}

func notJSON(err error, at int64) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	}
	why := err.Error()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		why = "it ends in the middle"
	}
	return invalid("the body", "", fmt.Sprintf("it is no JSON, at byte %d: %s", at, why), "")
}

// depth is how deep objects and lists lie in each other; of what is no JSON it is
// some number.
func depth(raw []byte) int {
	deepest, now, inText := 0, 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{', c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}', c == ']':
			now--
		}
	}
	return deepest
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return "a time"
		}
		return "an object"
	case reflect.Map:
		return "an object"
	default:
		return "a whole number"
	}
}

// check holds a decoded document against the type that it was decoded into: fields
// that must be there, null, which nothing is, and the limits of the tags. It says
// what the schemas say that are made of the same types.
func check(t reflect.Type, doc any, path string) error {
	name := path
	if name == "" {
		name = "the body"
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if doc == nil {
		return invalid(name, "", "it is null, and "+typeName(t)+" is meant", "leave it out, or give one")
	}
	switch t.Kind() {
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return nil
		}
		return checkStruct(t, doc, path)
	case reflect.Slice:
		items, _ := doc.([]any)
		for i, x := range items {
			if err := check(t.Elem(), x, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		entries, _ := doc.(map[string]any)
		for k, x := range entries {
			if err := check(t.Elem(), x, path+"."+k); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkStruct(t reflect.Type, doc any, path string) error {
	fields, ok := doc.(map[string]any)
	if !ok {
		return invalid(path, "", "it is no object", "")
	}
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		x, given := fields[name]
		if !given {
			if !strings.Contains(opts, "omit") {
				return invalid(at, "", "it is missing", "give it")
			}
			continue
		}
		if err := check(f.Type, x, at); err != nil {
			return err
		}
		if err := checkTags(f.Tag, x, at); err != nil {
			return err
		}
	}
	return nil
}

func checkTags(tag reflect.StructTag, x any, at string) error {
	if list := tag.Get("enum"); list != "" {
		words := strings.Split(list, "|")
		if s, _ := x.(string); !slices.Contains(words, s) {
			return invalid(at, s, "it is none of "+strings.Join(words, ", "), "leave it out, or give one of them")
		}
	}
	least, most := limits(tag)
	n, unit := 0, "entries"
	switch v := x.(type) {
	case string:
		n, unit = utf8.RuneCountInString(v), "characters"
	case []any:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return nil
	}
	switch {
	case n < least && n == 0:
		return invalid(at, "", "it is empty", "leave it out, or give it")
	case n < least:
		return invalid(at, "", fmt.Sprintf("it has %d %s, at least %d are needed", n, unit, least), "")
	case most > 0 && n > most:
		return invalid(at, "", fmt.Sprintf("it has %d %s, at most %d are taken", n, unit, most), "make it shorter")
	}
	return nil
}

// limits reads the tag limit:"MIN..MAX"; 0 is no limit.
func limits(tag reflect.StructTag) (least, most int) {
	from, to, _ := strings.Cut(tag.Get("limit"), "..")
	least, _ = strconv.Atoi(from)
	most, _ = strconv.Atoi(to)
	return least, most
}
