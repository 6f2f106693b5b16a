package apiserver

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// form is how a client wants its answer.
type form struct {
	// as is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList".
	as   string
	yaml bool
	// include is how much of each object a table row carries.
	include metav1.IncludeObjectPolicy
	// none says that the client takes nothing that this server speaks.
	none bool
}

// formOf reads the Accept header: the first clause that can be served counts.
func formOf(r *http.Request) form {
	f := form{include: metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject"))}
	accept := r.Header.Get("Accept")
	if strings.TrimSpace(accept) == "" {
		return f
	}
	for clause := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		switch media {
		case "application/json", "application/*", "*/*":
			f.yaml = false
		case "application/yaml":
			f.yaml = true
		default:
			continue
		}
		f.as = params["as"]
		switch f.as {
		case "":
			return f
		case "Table", "PartialObjectMetadata", "PartialObjectMetadataList":
			if params["g"] == "meta.k8s.io" && params["v"] == "v1" {
				return f
			}
		}
	}
	f.none = true
	return f
}

func notAcceptable(w http.ResponseWriter) {
	fail(w, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: application/json, application/yaml"}})
}

// write sends a value in the form the client wants.
func (f form) write(w http.ResponseWriter, code int, v any) {
	if !f.yaml {
		writeJSON(w, code, v)
		return
	}
	raw, err := json.Marshal(v)
	if err == nil {
		raw, err = yaml.JSONToYAML(raw)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	w.WriteHeader(code)
	_, _ = w.Write(raw)
}

// respond writes one object in the form the client wants.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, q request, code int, u *unstructured.Unstructured) {
	f := formOf(r)
	switch {
	case f.none:
		notAcceptable(w)
	case f.as == "Table":
		f.write(w, code, s.printed(q, f, []*unstructured.Unstructured{u}, metav1.ListMeta{ResourceVersion: u.GetResourceVersion()}))
	case f.as == "PartialObjectMetadata":
		f.write(w, code, partial(u))
	default:
		f.write(w, code, u.Object)
	}
}

func partial(u *unstructured.Unstructured) map[string]any {
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": u.Object["metadata"]}
}

// encode gives one line of JSON.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}
