package source

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// lastApplied holds a copy of the whole object, which for a Secret means its
// values; it is dropped from lists for size and from Secrets for secrecy.
const lastApplied = corev1.LastAppliedConfigAnnotation

// reuse says how long an outcome may be reused: good answers and "does not
// exist" and "may not" for the TTL, everything else not at all.
func (s *Source) reuse(err error) time.Duration {
	if err == nil {
		return s.ttl
	}
	switch tool.KindOf(err) {
	case tool.NotFound, tool.Forbidden, tool.NotServed:
		return s.ttl
	}
	return 0
}

// cached runs a read through the cache with classified errors.
func cached[T any](ctx context.Context, s *Source, c call, load func(context.Context) (T, int, error)) (T, error) {
	v, err := s.cache.Do(ctx, c.key(), func(ctx context.Context) tool.Answer[any] {
		v, weight, err := load(ctx)
		if err != nil {
			err = s.fail(c, err)
			return tool.Answer[any]{Err: err, For: s.reuse(err)}
		}
		return tool.Answer[any]{Value: v, Weight: weight, For: s.ttl}
	})
	if err != nil {
		var zero T
		return zero, s.fail(c, err)
	}
	return v.(T), nil
}

// getOne reads one object with its managedFields.
func getOne[T any](ctx context.Context, s *Source, c call, get func(context.Context, string, metav1.GetOptions) (*T, error)) (*T, error) {
	c.verb = "get"
	if c.name == "" {
		return nil, &tool.Error{Kind: tool.Invalid, User: "a name is needed to read " + c.full()}
	}
	return cached(ctx, s, c, func(ctx context.Context) (*T, int, error) {
		v, err := get(ctx, c.name, metav1.GetOptions{})
		return v, 1, err
	})
}

// listAll reads every page of a list. Items come without managedFields and
// last-applied annotation.
func listAll[L metav1.ListInterface, T any](ctx context.Context, s *Source, c call, list func(context.Context, metav1.ListOptions) (L, error), items func(L) []T) ([]*T, error) {
	c.verb = "list"
	return cached(ctx, s, c, func(ctx context.Context) ([]*T, int, error) {
		out, err := pages(ctx, c, func(ctx context.Context, o metav1.ListOptions) ([]*T, string, error) {
			l, err := list(ctx, o)
			if err != nil {
				return nil, "", err
			}
			page := items(l)
			ptrs := make([]*T, len(page))
			for i := range page {
				slim(any(&page[i]), c.namespace == "")
				ptrs[i] = &page[i]
			}
			return ptrs, l.GetContinue(), nil
		})
		return out, len(out), err
	})
}

// pages follows Continue to the end. When a continue token has expired (410)
// it goes on with the inconsistent token the server offers, else it starts over
// once without a limit, which cannot expire.
func pages[T any](ctx context.Context, c call, fetch func(context.Context, metav1.ListOptions) ([]T, string, error)) ([]T, error) {
	opts := metav1.ListOptions{Limit: pageSize, LabelSelector: c.labels, FieldSelector: c.fields}
	out := []T{}
	restarted := false
	for {
		page, next, err := fetch(ctx, opts)
		if err != nil && opts.Continue != "" && !restarted && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)) {
			restarted = true
			if token := inconsistentToken(err); token != "" {
				opts.Continue = token
				continue
			}
			out = []T{}
			opts.Continue, opts.Limit = "", 0
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		// A server that repeats its token would have us go round for ever.
		if next == "" || next == opts.Continue {
			return out, nil
		}
		opts.Continue = next
	}
}

func inconsistentToken(err error) string {
	if st, ok := err.(apierrors.APIStatus); ok {
		return st.Status().Continue
	}
	return ""
}

// slim drops what no judgement needs from a listed object. Whole-cluster lists
// of pods also lose commands and environment, which are most of their size; a
// tool that wants those reads the pod by name or its namespace.
func slim(o any, wholeCluster bool) {
	if m, ok := o.(metav1.Object); ok {
		m.SetManagedFields(nil)
		if a := m.GetAnnotations(); a[lastApplied] != "" {
			delete(a, lastApplied)
		}
	}
	switch o := o.(type) {
	case *corev1.Node:
		o.Status.Images = nil
	case *corev1.Pod:
		if !wholeCluster {
			return
		}
		for _, cs := range [][]corev1.Container{o.Spec.InitContainers, o.Spec.Containers} {
			for i := range cs {
				cs[i].Command, cs[i].Args, cs[i].Env, cs[i].EnvFrom, cs[i].Lifecycle = nil, nil, nil, nil, nil
			}
		}
	}
}
