package dra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// failure turns a client error into one with a sentence and a way out. resource
// is as RBAC names it, "resourceslices.resource.k8s.io".
func failure(err error, verb, resource, namespace, name string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*tool.Error](err); ok {
		return err
	}
	where := " in the whole cluster"
	if namespace != "" {
		where = " in namespace " + namespace
	}
	var netErr net.Error
	var urlErr *url.Error
	switch {
	case apierrors.IsForbidden(err):
		return &tool.Error{
			Kind: tool.Forbidden, Err: err,
			User: fmt.Sprintf("this identity may not %s %s%s", verb, resource, where),
			Fix:  fmt.Sprintf("grant verb %s on %s%s", verb, resource, where),
		}
	case apierrors.IsNotFound(err) && name != "":
		path := name
		if namespace != "" {
			path = namespace + "/" + name
		}
		return &tool.Error{Kind: tool.NotFound, Err: err, User: fmt.Sprintf("%s %s does not exist", resource, path)}
	case apierrors.IsNotFound(err):
		return &tool.Error{Kind: tool.NotServed, Err: err, User: "the API server does not serve " + resource}
	case apierrors.IsUnauthorized(err):
		return &tool.Error{Kind: tool.Unreachable, Err: err, User: "the API server does not accept this identity (401)", Fix: "log in again or renew the token"}
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err),
		errors.As(err, &netErr) && netErr.Timeout():
		return &tool.Error{Kind: tool.TimedOut, Err: err, User: fmt.Sprintf("the API server did not answer in time (%s %s)", verb, resource)}
	case errors.As(err, &urlErr), errors.As(err, &netErr):
		return &tool.Error{Kind: tool.Unreachable, Err: err, User: "the API server cannot be reached: " + err.Error()}
	}
	return &tool.Error{Kind: tool.Internal, Err: err, User: fmt.Sprintf("cannot %s %s: %v", verb, resource, err)}
}

// gap says what a refused read hides.
func gap(resource string, err error) incident.Gap {
	g := incident.Gap{Source: "Kubernetes API: " + resource, Why: err.Error()}
	if te, ok := errors.AsType[*tool.Error](err); ok {
		g.Why, g.Fix = te.User, te.Fix
	}
	return g
}

func isNotFound(err error) bool { return err != nil && tool.KindOf(err) == tool.NotFound }
