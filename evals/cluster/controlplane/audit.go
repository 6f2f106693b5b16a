package controlplane

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// auditPolicy records the end of every request, without bodies.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
`

// Request is one request that the API server answered.
type Request struct {
	// Verb is the API's: get, list, watch, create, update, patch, delete.
	Verb string `json:"verb"`
	URI  string `json:"requestURI"`
	// UserAgent as the client said it.
	UserAgent string `json:"userAgent"`
	User      struct {
		Username string `json:"username"`
	} `json:"user"`
	// Object is nil for requests that name no resource, such as discovery.
	Object *struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	Status struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// AuditLog lists the requests answered so far, oldest first. The control plane
// must have been started with Options.Audit.
func (c *ControlPlane) AuditLog() ([]Request, error) {
	raw, err := os.ReadFile(c.path("audit.log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("no audit log: start the control plane with Options.Audit")
	}
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	// A last line without its end is still being written.
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	var out []Request
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("audit log, line %d: %w", len(out)+1, err)
		}
		out = append(out, r)
	}
	return out, lines.Err()
}
