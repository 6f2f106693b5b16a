package apiserver

import (
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The API types say most of what a schema holds: their JSON names, the words of
// their documentation (SwaggerDoc), the names of their models
// (OpenAPIModelName), and for the types with a form of their own, that form.
type (
	documented interface{ SwaggerDoc() map[string]string }
	named      interface{ OpenAPIModelName() string }
	formed     interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}
)

func (d document) metadata() map[string]any { return d.schema(reflect.TypeFor[metav1.ObjectMeta](), "") }

// typeOf adds the schema of a Go object and gives its name.
func (d document) typeOf(obj any) string {
	t := reflect.TypeOf(obj)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	d.define(t)
	return modelName(t)
}

// as gives a type's value or pointer as an interface that it implements.
func as[T any](t reflect.Type) (T, bool) {
	v, ok := reflect.New(t).Interface().(T)
	return v, ok
}

func modelName(t reflect.Type) string {
	if n, ok := as[named](t); ok {
		return n.OpenAPIModelName()
	}
	return strings.NewReplacer("/", ".", "~", "").Replace(t.PkgPath()) + "." + t.Name()
}

// define adds a named type to the document once.
func (d document) define(t reflect.Type) {
	name := modelName(t)
	if _, done := d.schemas[name]; done {
		return
	}
	out := map[string]any{}
	d.schemas[name] = out // before its fields: a type may hold itself
	if f, ok := as[formed](t); ok {
		if types := f.OpenAPISchemaType(); len(types) > 0 {
			out["type"] = types[0]
		}
		if format := f.OpenAPISchemaFormat(); format != "" {
			out["format"] = format
		}
		return
	}
	out["type"] = "object"
	docs := docsOf(t)
	if text := docs[""]; text != "" {
		out["description"] = text
	}
	props := map[string]any{}
	required := d.fields(t, docs, props)
	if len(props) > 0 {
		out["properties"] = props
	}
	if len(required) > 0 {
		out["required"] = required
	}
}

func docsOf(t reflect.Type) map[string]string {
	if doc, ok := as[documented](t); ok {
		return doc.SwaggerDoc()
	}
	return nil
}

// fields adds the properties of a struct and gives the names of those that
// must be there.
func (d document) fields(t reflect.Type, docs map[string]string, props map[string]any) (required []string) {
	for f := range t.Fields() {
		tag, ok := f.Tag.Lookup("json")
		name, flags, _ := strings.Cut(tag, ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case f.Anonymous && name == "":
			e := f.Type
			for e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if e.Kind() == reflect.Struct {
				required = append(required, d.fields(e, docsOf(e), props)...)
			}
			continue
		case !ok || name == "":
			continue
		}
		p := d.schema(f.Type, docs[name])
		if s := f.Tag.Get("patchStrategy"); s != "" {
			p["x-kubernetes-patch-strategy"] = s
		}
		if k := f.Tag.Get("patchMergeKey"); k != "" {
			p["x-kubernetes-patch-merge-key"] = k
		}
		props[name] = p
		if !strings.Contains(flags, "omit") && f.Type.Kind() != reflect.Pointer {
			required = append(required, name)
		}
	}
	return required
}

// schema gives the schema of a field.
func (d document) schema(t reflect.Type, text string) map[string]any {
	out := map[string]any{}
	if text != "" {
		out["description"] = text
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, isFormed := as[formed](t)
	switch {
	case isFormed || t.Kind() == reflect.Struct:
		d.define(t)
		ref := map[string]any{"$ref": "#/components/schemas/" + modelName(t)}
		if text == "" {
			return ref
		}
		// Nothing may stand beside a reference.
		out["allOf"] = []any{ref}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		out["type"], out["format"] = "string", "byte"
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		out["type"], out["items"] = "array", d.schema(t.Elem(), "")
	case t.Kind() == reflect.Map:
		out["type"], out["additionalProperties"] = "object", d.schema(t.Elem(), "")
	case t.Kind() == reflect.String:
		out["type"] = "string"
	case t.Kind() == reflect.Bool:
		out["type"] = "boolean"
	case t.Kind() == reflect.Int64 || t.Kind() == reflect.Int || t.Kind() == reflect.Uint64:
		out["type"], out["format"] = "integer", "int64"
	case t.Kind() == reflect.Int32 || t.Kind() == reflect.Uint32 || t.Kind() == reflect.Int16 || t.Kind() == reflect.Uint8:
		out["type"], out["format"] = "integer", "int32"
	case t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32:
		out["type"], out["format"] = "number", "double"
	}
	return out
}
