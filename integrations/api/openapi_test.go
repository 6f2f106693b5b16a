package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
)

var update = flag.Bool("update", false, "write openapi.yaml")

// TestDocument makes the document of the table of operations and the Go types, and
// fails when openapi.yaml is another one.
func TestDocument(t *testing.T) {
	t.Parallel()
	g := generator{t: t, names: map[reflect.Type]string{}, taken: map[string]reflect.Type{}, request: map[reflect.Type]bool{}, docs: map[string]*ast.StructType{}, about: map[string]string{}}
	got := g.document()
	if *update {
		if err := os.WriteFile("openapi.yaml", got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got, OpenAPI()) {
		t.Errorf("openapi.yaml is stale: go test ./integrations/api -run TestDocument -update")
	}
}

type generator struct {
	t     *testing.T
	names map[reflect.Type]string
	taken map[string]reflect.Type
	// request are the types that a request may hold: the server reads them strictly.
	request map[reflect.Type]bool
	order   []reflect.Type
	// docs are the struct types of a source by "import path.Name"; about their comments.
	docs  map[string]*ast.StructType
	about map[string]string
}

const moduleDir = "../.."

func (g *generator) document() []byte {
	ops := (&API{}).operations()
	g.reach(reflect.TypeFor[access.Problem](), false) // the first of its name
	for _, op := range ops {
		if op.in != nil {
			g.reach(op.in, true)
		}
	}
	for _, op := range ops {
		if op.out != nil {
			g.reach(op.out, false)
		}
	}
	for _, x := range []reflect.Type{reflect.TypeFor[event.Event](), reflect.TypeFor[session.Notice](), reflect.TypeFor[wire.End]()} {
		g.reach(x, false)
	}
	schemas := map[string]any{}
	for _, t := range g.order {
		schemas[g.names[t]] = g.schema(t)
	}
	paths := map[string]map[string]any{}
	for _, op := range ops {
		if paths[op.path] == nil {
			paths[op.path] = map[string]any{}
		}
		paths[op.path][strings.ToLower(op.method)] = g.operation(op)
	}
	var b bytes.Buffer
	b.WriteString("# Made of the table of operations and the Go types by\n# go test ./integrations/api -run TestDocument -update\nopenapi: 3.1.1\n")
	for _, part := range []struct {
		name string
		v    any
	}{
		{"info", map[string]any{
			"title": "gumshoe", "version": "1", "license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Investigations of AI workloads on Kubernetes, their evidence, and plans that people approve.\n\nRequests are read strictly: a field that is not known, given twice or of another type is refused. Answers may get more fields later. Every error is a Problem: a code for programs, a sentence, and the way out. A server without authentication serves this machine only; else a request carries a bearer token, and x-role names the least role that may send it: viewer, asker, approver or admin.\n",
		}},
		{"servers", []any{map[string]any{"url": "/"}}},
		{"security", []any{map[string]any{"bearer": []any{}}}},
		{"tags", []any{
			tag("investigations", "Questions and their answers."), tag("runs", "What a run saw."), tag("plans", "Plans, approvals, executions."),
			tag("sessions", "Conversations."), tag("events", "What happens, as it happens."), tag("server", "The server itself."),
		}},
		{"paths", paths},
		{"components", map[string]any{
			"schemas":         schemas,
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
			"responses": map[string]any{"Problem": map[string]any{
				"description": "What went wrong, and the way out.",
				"content":     map[string]any{"application/json": map[string]any{"schema": ref("Problem")}},
			}},
		}},
	} {
		raw, err := yaml.Marshal(map[string]any{part.name: part.v})
		if err != nil {
			g.t.Fatal(err)
		}
		b.Write(raw)
	}
	return b.Bytes()
}

func tag(name, about string) map[string]any {
	return map[string]any{"name": name, "description": about}
}

func ref(name string) map[string]any { return map[string]any{"$ref": "#/components/schemas/" + name} }

// reach names a struct type and those that it holds.
func (g *generator) reach(t reflect.Type, request bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		g.reach(t.Elem(), request)
		return
	case reflect.Struct:
	default:
		return
	}
	if t == reflect.TypeFor[time.Time]() {
		return
	}
	g.request[t] = g.request[t] || request
	if _, known := g.names[t]; known {
		return
	}
	pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
	name := t.Name()
	if request && pkg == "wire" {
		name += "Request"
	}
	if g.taken[name] != nil {
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	if g.taken[name] != nil {
		g.t.Fatalf("%s and %s have one name", t, g.taken[name])
	}
	g.names[t], g.taken[name] = name, t
	g.order = append(g.order, t)
	for f := range t.Fields() {
		if f.IsExported() && f.Tag.Get("json") != "-" {
			g.reach(f.Type, request)
		}
	}
}

// schema is that of a struct type, in which other struct types are referred to.
func (g *generator) schema(t reflect.Type) *jsonschema.Schema {
	known := map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time]():       {Type: "string", Format: "date-time"},
		reflect.TypeFor[json.RawMessage](): {Description: "Any JSON document."},
		reflect.TypeFor[[]byte]():          {Type: "string", ContentEncoding: "base64"},
	}
	for other, name := range g.names {
		if other != t {
			known[other] = &jsonschema.Schema{Ref: "#/components/schemas/" + name}
		}
	}
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: known})
	if err != nil {
		g.t.Fatalf("%s: %v", t, err)
	}
	s.PropertyOrder = nil
	about, fields := g.comments(t)
	s.Description = about
	if !g.request[t] {
		s.AdditionalProperties = nil
	}
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := s.Properties[name]
		if p == nil {
			continue
		}
		omitted := strings.Contains(opts, "omit")
		if f.Type.Kind() == reflect.Pointer && omitted || g.request[t] {
			notNull(p)
		}
		if p.Ref != "" && len(p.Types) > 0 {
			g.t.Fatalf("%s.%s may be null, and is no list: the schema cannot say it", t, f.Name)
		}
		p.Description = strings.TrimSpace(fields[f.Name])
		if words := f.Tag.Get("enum"); words != "" {
			for w := range strings.SplitSeq(words, "|") {
				p.Enum = append(p.Enum, w)
			}
		}
		bound(p, f)
	}
	switch t {
	case reflect.TypeFor[wire.Ask](), reflect.TypeFor[wire.FollowUp]():
		s.AnyOf = []*jsonschema.Schema{{Required: []string{"question"}}, {Required: []string{"alert"}}, {Required: []string{"subjects"}, Properties: map[string]*jsonschema.Schema{"subjects": {MinItems: new(1)}}}}
	case reflect.TypeFor[wire.Propose]():
		s.OneOf = []*jsonschema.Schema{{Required: []string{"run"}}, {Required: []string{"file"}}}
	}
	return s
}

func notNull(p *jsonschema.Schema) {
	rest := slices.DeleteFunc(slices.Clone(p.Types), func(s string) bool { return s == "null" })
	p.Types = nil
	if len(rest) == 1 {
		p.Type = rest[0]
	}
}

func bound(p *jsonschema.Schema, f reflect.StructField) {
	least, most := limits(f.Tag)
	set := func(lo, hi **int) {
		if least > 0 {
			*lo = &least
		}
		if most > 0 {
			*hi = &most
		}
	}
	switch f.Type.Kind() {
	case reflect.String:
		set(&p.MinLength, &p.MaxLength)
	case reflect.Slice:
		set(&p.MinItems, &p.MaxItems)
	case reflect.Map:
		set(&p.MinProperties, &p.MaxProperties)
	}
}

// comments gives the comment of a type and those of its fields, from the source.
func (g *generator) comments(t reflect.Type) (string, map[string]string) {
	key := t.PkgPath() + "." + t.Name()
	if g.docs[key] == nil {
		g.load(t.PkgPath())
	}
	out := map[string]string{}
	s := g.docs[key]
	if s == nil {
		g.t.Fatalf("the source of %s is not found", key)
	}
	for _, f := range s.Fields.List {
		for _, n := range f.Names {
			out[n.Name] = plain(f.Doc.Text() + f.Comment.Text())
		}
	}
	return plain(g.about[key]), out
}

func plain(s string) string { return strings.Join(strings.Fields(s), " ") }

func (g *generator) load(pkg string) {
	dir := filepath.Join(moduleDir, strings.TrimPrefix(pkg, "github.com/gumshoe-ai/gumshoe/"))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		g.t.Fatalf("%s: no source in %s: %v", pkg, dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, d := range f.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if st, ok := ts.Type.(*ast.StructType); ok {
					g.docs[pkg+"."+ts.Name.Name] = st
					g.about[pkg+"."+ts.Name.Name] = ts.Doc.Text()
					if ts.Doc == nil {
						g.about[pkg+"."+ts.Name.Name] = gen.Doc.Text()
					}
				}
			}
		}
	}
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

func (g *generator) operation(op operation) map[string]any {
	var params []any
	for _, m := range pathParam.FindAllStringSubmatch(op.path, -1) {
		params = append(params, map[string]any{"name": m[1], "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	for _, p := range op.params {
		params = append(params, g.param(p))
	}
	out := map[string]any{"operationId": op.id, "tags": []any{op.tag}, "summary": op.summary, "x-role": op.role.String(), "responses": g.responses(op)}
	if op.detail != "" {
		out["description"] = op.detail
	}
	if len(params) > 0 {
		out["parameters"] = params
	}
	if op.in != nil {
		out["requestBody"] = map[string]any{"required": !op.optional, "content": map[string]any{"application/json": map[string]any{"schema": ref(g.names[op.in])}}}
	}
	return out
}

func (g *generator) param(p param) map[string]any {
	s := map[string]any{"type": "string"}
	switch p.kind {
	case number:
		s = map[string]any{"type": "integer", "minimum": p.min}
		if p.max > 0 {
			s["maximum"] = p.max
		}
	case boolean:
		s = map[string]any{"type": "boolean"}
	case moment:
		s["format"] = "date-time"
	case text:
		if p.max > 0 && len(p.enum) == 0 {
			s["maxLength"] = p.max
		}
	}
	if len(p.enum) > 0 {
		s["enum"] = p.enum
	}
	in := "query"
	if p.header {
		in = "header"
	}
	return map[string]any{"name": p.name, "in": in, "description": p.about, "schema": s}
}

func (g *generator) responses(op operation) map[string]any {
	content := map[string]any{}
	if op.out != nil {
		content["application/json"] = map[string]any{"schema": ref(g.names[op.out])}
	}
	for _, m := range op.media {
		media := map[string]any{"schema": map[string]any{"type": "string"}}
		switch {
		case op.stream && op.tag == "events" && strings.HasSuffix(op.path, "}/events"):
			media["x-item-schema"] = ref("Event")
		case op.stream:
			media["x-item-schema"] = ref("Notice")
		}
		content[m] = media
	}
	ok := map[string]any{"description": http.StatusText(op.status) + "."}
	if len(content) > 0 {
		ok["content"] = content
	}
	if op.status == http.StatusCreated {
		ok["headers"] = map[string]any{"Location": map[string]any{"description": "Where it can be read.", "schema": map[string]any{"type": "string"}}}
	}
	problem := map[string]any{"$ref": "#/components/responses/Problem"}
	out := map[string]any{strconv.Itoa(op.status): ok, "default": problem}
	for _, code := range statuses(op) {
		out[strconv.Itoa(code)] = problem
	}
	if op.method == http.MethodGet && !op.stream {
		ok["headers"] = map[string]any{"ETag": map[string]any{"description": "Of this state, for If-None-Match.", "schema": map[string]any{"type": "string"}}}
		out["304"] = map[string]any{"description": "It is as the ETag in If-None-Match has it."}
	}
	return out
}

// statuses are the errors that an operation names.
func statuses(op operation) []int {
	all := slices.Concat([]int{400, 401, 403, 429}, op.also)
	if op.in != nil {
		all = append(all, 413, 415)
	}
	if op.stream {
		all = append(all, 503)
	}
	return all
}

// The table of operations says everything that a document needs.
func TestOperations(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, op := range (&API{}).operations() {
		where := fmt.Sprintf("%s %s", op.method, op.path)
		switch {
		case op.id == "" || ids[op.id]:
			t.Errorf("%s: the id %q is empty or given twice", where, op.id)
		case op.summary == "" || !strings.HasSuffix(op.summary, "."):
			t.Errorf("%s: the summary %q is no sentence", where, op.summary)
		case op.status == 0 || op.handle == nil || op.role == access.None || op.tag == "":
			t.Errorf("%s is not whole", where)
		case op.out == nil && len(op.media) == 0 && op.status != http.StatusNoContent:
			t.Errorf("%s answers nothing", where)
		case op.method == http.MethodGet && op.role > access.Viewer && op.tag != "server":
			t.Errorf("%s: reading needs %s", where, op.role)
		case op.method != http.MethodGet && op.role < access.Asker && op.id != "followAfter":
			t.Errorf("%s changes something and is for a %s", where, op.role)
		}
		ids[op.id] = true
	}
}
