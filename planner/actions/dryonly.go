package actions

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// DryOnly lets requests through that read, and writes that are dry runs; any other
// request is refused before it leaves the process. Planning uses it, so that no
// mistake in it can change a cluster.
func DryOnly(next http.RoundTripper) http.RoundTripper { return dryOnly{next} }

type dryOnly struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (d dryOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	// Reviews are questions, though they are asked by POST.
	review := r.Method == http.MethodPost && (strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/") || strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/v1/selfsubjectreviews"))
	dry := slices.Equal(r.URL.Query()["dryRun"], []string{"All"})
	if reads || review || dry {
		return d.next.RoundTrip(r)
	}
	// A client sends the options of a delete in its body, where the server's audit log
	// does not show them; the same words in the address, which the server then does not
	// read, let whoever reads the log tell a dry run.
	if r.Method == http.MethodDelete && dryDelete(r) {
		r = r.Clone(r.Context())
		q := r.URL.Query()
		q.Set("dryRun", "All")
		r.URL.RawQuery = q.Encode()
		return d.next.RoundTrip(r)
	}
	return nil, fmt.Errorf("%s %s: planning changes nothing: only dry runs are sent", r.Method, r.URL.Path)
}

// maxOptions is the largest body of a delete that is looked into, in bytes.
const maxOptions = 64 << 10

// dryDelete reports whether the options in a delete's body ask for a dry run.
func dryDelete(r *http.Request) bool {
	if r.GetBody == nil {
		return false
	}
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	defer func() { _ = body.Close() }()
	var o struct {
		DryRun []string `json:"dryRun"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxOptions)).Decode(&o); err != nil {
		return false
	}
	return slices.Equal(o.DryRun, []string{"All"})
}
