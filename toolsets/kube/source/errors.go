package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// call says what is read; it is the key of the cache and the subject of errors.
type call struct {
	verb            string // get, list, create (self subject reviews only)
	group, resource string
	namespace, name string
	labels, fields  string
	extra           string // tells variants of one read apart, for example metadata only
}

func (c call) key() string {
	return strings.Join([]string{c.verb, c.group, c.resource, c.namespace, c.name, c.labels, c.fields, c.extra}, "\x00")
}

// full is the resource as RBAC names it: "pods", "deployments.apps".
func (c call) full() string {
	if c.group == "" {
		return c.resource
	}
	return c.resource + "." + c.group
}

func (c call) where() string {
	if c.namespace == "" {
		if c.verb == "list" {
			return " in the whole cluster"
		}
		return ""
	}
	return " in namespace " + c.namespace
}

func (c call) what() string {
	if c.name == "" {
		return c.full() + c.where()
	}
	if c.namespace == "" {
		return c.full() + " " + c.name
	}
	return c.full() + " " + c.namespace + "/" + c.name
}

// fail turns whatever a client returned into a *tool.Error and remembers
// refused reads.
func (s *Source) fail(c call, err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*tool.Error](err); done {
		return err // classified already; it may be shared between callers
	}
	te := Classify(err)
	if te.User == "" {
		te.User = fmt.Sprintf("cannot %s %s: %v", c.verb, c.what(), err)
	}
	switch te.Kind {
	case tool.NotFound:
		te.User = c.what() + " does not exist"
	case tool.NotServed:
		te.User = "the API server has no resource " + c.full()
	case tool.Forbidden:
		te.User = fmt.Sprintf("this identity may not %s %s%s (403)", c.verb, c.full(), c.where())
		te.Fix = fmt.Sprintf("grant verb %s on %s%s", c.verb, c.full(), c.where())
		s.unseen.Add(incident.Gap{Source: "Kubernetes API: " + c.full(), Why: te.User, Fix: te.Fix})
	}
	return te
}

// Classify gives the kind of a client-go error with a sentence and a way out.
// User is empty where only the caller knows what was read. Err keeps the cause.
func Classify(err error) *tool.Error {
	if te, ok := errors.AsType[*tool.Error](err); ok {
		return te
	}
	if te := classifyTransport(err); te != nil {
		return te
	}
	switch {
	case apierrors.IsUnauthorized(err):
		return &tool.Error{Kind: tool.Unreachable, Err: err,
			User: "the API server does not accept this identity (401 Unauthorized): the token or certificate is missing or has expired",
			Fix:  "log in again or renew the credentials of the kubeconfig context"}
	case apierrors.IsForbidden(err):
		return &tool.Error{Kind: tool.Forbidden, Err: err, User: "the API server refused the read (403)"}
	case foreignAnswer(err):
		return &tool.Error{Kind: tool.Unreachable, Err: err,
			User: "the server answers, but not as a Kubernetes API server (it sent HTML or text)",
			Fix:  "check the server URL of the kubeconfig and any proxy or login page in between"}
	case apierrors.IsNotFound(err):
		if unexpectedResponse(err) {
			return &tool.Error{Kind: tool.NotServed, Err: err}
		}
		return &tool.Error{Kind: tool.NotFound, Err: err}
	case apierrors.IsMethodNotSupported(err):
		return &tool.Error{Kind: tool.NotServed, Err: err}
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return &tool.Error{Kind: tool.TimedOut, Err: err, User: "the API server timed out: " + err.Error()}
	case apierrors.IsTooManyRequests(err):
		return &tool.Error{Kind: tool.TimedOut, Err: err, User: "the API server is overloaded (429 Too Many Requests)", Fix: "try again in a minute"}
	case apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsUnexpectedServerError(err):
		return &tool.Error{Kind: tool.Unreachable, Err: err, User: "the API server cannot answer: " + err.Error()}
	case apierrors.IsBadRequest(err), apierrors.IsInvalid(err):
		return &tool.Error{Kind: tool.Invalid, Err: err, User: "the API server refused the request: " + err.Error()}
	}
	return &tool.Error{Kind: tool.Internal, Err: err}
}

func classifyTransport(err error) *tool.Error {
	var (
		netErr   net.Error
		urlErr   *url.Error
		opErr    *net.OpError
		dnsErr   *net.DNSError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
	)
	unreachable := func(user, fix string) *tool.Error {
		return &tool.Error{Kind: tool.Unreachable, User: user, Fix: fix, Err: err}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &tool.Error{Kind: tool.TimedOut, User: "the API server did not answer in time", Err: err}
	case errors.Is(err, context.Canceled):
		return &tool.Error{Kind: tool.TimedOut, User: "the read was cancelled", Err: err}
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &verify):
		return unreachable("the certificate of the API server is not trusted: "+err.Error(), "check certificate-authority and tls-server-name in the kubeconfig")
	case errors.As(err, &record), err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return unreachable("the server does not speak TLS", "check the server URL of the kubeconfig (http or https, port)")
	case errors.As(err, &dnsErr):
		return unreachable("the name of the API server cannot be resolved: "+dnsErr.Name, "check the server URL of the kubeconfig and the network or VPN")
	case errors.As(err, &netErr) && netErr.Timeout():
		return &tool.Error{Kind: tool.TimedOut, User: "the API server did not answer in time", Err: err}
	case errors.As(err, &opErr), errors.As(err, &urlErr):
		return unreachable("the API server cannot be reached: "+err.Error(), "check the server URL of the kubeconfig and the network or VPN")
	}
	return nil
}

// foreignAnswer recognises answers that no API server gives: HTML from a proxy
// or login page, or text that does not decode.
func foreignAnswer(err error) bool {
	text := strings.ToLower(err.Error() + "\n" + strings.Join(causeMessages(err), "\n"))
	for _, mark := range []string{"<html", "<!doctype", "invalid character '<'", "text/html", "couldn't get version/kind"} {
		if strings.Contains(text, mark) {
			return true
		}
	}
	return false
}

// unexpectedResponse tells "the server could not find the requested resource"
// (the path is unknown) from "pods \"x\" not found": client-go marks the former
// with the cause UnexpectedServerResponse (apimachinery api/errors
// NewGenericServerResponse).
func unexpectedResponse(err error) bool {
	var st apierrors.APIStatus
	if !errors.As(err, &st) || st.Status().Details == nil {
		return true
	}
	for _, c := range st.Status().Details.Causes {
		if c.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return false
}

func causeMessages(err error) []string {
	var st apierrors.APIStatus
	if !errors.As(err, &st) || st.Status().Details == nil {
		return nil
	}
	var out []string
	for _, c := range st.Status().Details.Causes {
		out = append(out, c.Message)
	}
	return out
}
