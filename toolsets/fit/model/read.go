package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxConfig is the largest config.json that is read, in bytes. Real ones have a
// few kilobytes; those with long layer lists stay below 200 KiB.
const MaxConfig = 4 << 20

// FieldError says which field of a config.json cannot be used, and why.
type FieldError struct {
	// Field is the path of the field, "text_config.hidden_size".
	Field string
	// Value as written, shortened; empty if the field is missing.
	Value string
	// Why is what is wrong with it.
	Why string
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("config.json: %s %s", e.Field, e.Why)
	}
	return fmt.Sprintf("config.json: %s is %s: %s", e.Field, e.Value, e.Why)
}

// object is one JSON object with the path that leads to it. The first error is
// kept in err, so that reading code has no branch after each field.
type object struct {
	path   string
	fields map[string]any
	// outer is where a field is looked for that this object lacks.
	outer *object
	err   *error
}

// decode reads the one JSON object of a config.json.
func decode(raw []byte) (*object, error) {
	if len(raw) > MaxConfig {
		return nil, fmt.Errorf("config.json has %d bytes, more than %d: this is no model configuration", len(raw), MaxConfig)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("config.json is empty")
		}
		return nil, fmt.Errorf("config.json is not valid JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("config.json holds more than one JSON value")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("config.json is %s, not an object", word(v))
	}
	return &object{fields: m, err: new(error)}, nil
}

// fail records the first error.
func (o *object) fail(field, value, why string) {
	if *o.err == nil {
		*o.err = &FieldError{Field: o.path + field, Value: value, Why: why}
	}
}

// find gives the first of several names for one thing, JSON null being absent.
func (o *object) find(names ...string) (*object, string, any) {
	for at := o; at != nil; at = at.outer {
		for _, n := range names {
			if v, ok := at.fields[n]; ok && v != nil {
				return at, n, v
			}
		}
	}
	return o, names[0], nil
}

// own is find without the outer object.
func (o *object) own(name string) any { return o.fields[name] }

// sub gives a nested object, nil if there is none.
func (o *object) sub(name string) *object {
	v, ok := o.fields[name]
	if !ok || v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		o.fail(name, short(v), "an object is expected")
		return nil
	}
	return &object{path: o.path + name + ".", fields: m, err: o.err}
}

// count reads a whole number from 1 to most; 0 if none of the names is there.
func (o *object) count(most int, names ...string) int { return o.number(1, most, names...) }

// number reads a whole number; 0 if none of the names is there.
func (o *object) number(least, most int, names ...string) int {
	at, name, v := o.find(names...)
	if v == nil {
		return 0
	}
	n, why := whole(v)
	switch {
	case why != "":
		at.fail(name, short(v), why)
	case n < int64(least) || n > int64(most):
		at.fail(name, short(v), fmt.Sprintf("a whole number from %d to %d is expected", least, most))
	default:
		return int(n)
	}
	return 0
}

// need is count for a field without which nothing can be said.
func (o *object) need(most int, names ...string) int {
	n := o.count(most, names...)
	if _, name, v := o.find(names...); v == nil {
		o.fail(name, "", "is missing; without it the memory cannot be computed")
	}
	return n
}

// fraction reads a positive number; 0 if it is not there.
func (o *object) fraction(names ...string) float64 {
	at, name, v := o.find(names...)
	if v == nil {
		return 0
	}
	num, ok := v.(json.Number)
	if !ok {
		at.fail(name, short(v), "a number is expected")
		return 0
	}
	f, err := num.Float64()
	if err != nil || f <= 0 || f > 1e9 {
		at.fail(name, short(v), "a positive number is expected")
		return 0
	}
	return f
}

// text reads a string; empty if it is not there.
func (o *object) text(names ...string) string {
	at, name, v := o.find(names...)
	if v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		at.fail(name, short(v), "a string is expected")
		return ""
	}
	if len(s) > 200 {
		at.fail(name, short(v), "it is too long for a name")
		return ""
	}
	return s
}

// flag reads true or false.
func (o *object) flag(absent bool, names ...string) bool {
	at, name, v := o.find(names...)
	if v == nil {
		return absent
	}
	b, ok := v.(bool)
	if !ok {
		at.fail(name, short(v), "true or false is expected")
		return absent
	}
	return b
}

// maxList bounds the lists that are read: one entry a layer.
const maxList = 10000

// list reads a list; nil if it is not there.
func (o *object) list(names ...string) []any {
	at, name, v := o.find(names...)
	if v == nil {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		at.fail(name, short(v), "a list is expected")
		return nil
	}
	if len(l) > maxList {
		at.fail(name, fmt.Sprintf("a list of %d", len(l)), "no model has as many")
		return nil
	}
	return l
}

// texts reads a list of strings; other entries are an error.
func (o *object) texts(names ...string) []string {
	var out []string
	for i, v := range o.list(names...) {
		s, ok := v.(string)
		if !ok {
			o.fail(fmt.Sprintf("%s[%d]", names[0], i), short(v), "a string is expected")
			return nil
		}
		out = append(out, s)
	}
	return out
}

// whole makes a whole number of a JSON value; 4096.0 is one, "4096" is not.
func whole(v any) (int64, string) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Sprintf("a whole number is expected, not %s", word(v))
	}
	if i, err := n.Int64(); err == nil {
		return i, ""
	}
	f, err := n.Float64()
	if err != nil || f != float64(int64(f)) || f > 1e15 || f < -1e15 {
		return 0, "a whole number is expected"
	}
	return int64(f), ""
}

// word names the JSON type of a value.
func word(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a truth value"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}

// short writes a value for a message.
func short(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return word(v)
	}
	s := strings.ToValidUTF8(string(raw), "?")
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return s
}
