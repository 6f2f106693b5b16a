package actions

import (
	"fmt"
	"strings"
	"testing"
)

// What the parsers of parameters take says what it means: written out again it is
// read as the same, and nothing empty or wide gets through.
func FuzzNetworkParams(f *testing.F) {
	for _, s := range []string{"ingress[0]", "specs[2].egressDeny[1]", "8000/TCP", "53", "169.254.7.127/32", "::1", "app=x,tier=y", "k8s:app=x", "blue=90,green=10", "cluster.local/ns/a/sa/b", "a.b/c=d:NoSchedule", "=x", "0.0.0.0/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := parseRule(s); err == nil {
			again := fmt.Sprintf("%s[%d]", r.dir, r.index)
			if r.deny {
				again = fmt.Sprintf("%sDeny[%d]", r.dir, r.index)
			}
			if r.spec >= 0 {
				again = fmt.Sprintf("specs[%d].%s", r.spec, again)
			}
			if b, err := parseRule(again); err != nil || b != r {
				t.Errorf("%q is %+v, and %q is %+v: %v", s, r, again, b, err)
			}
		}
		if p, err := parsePort(s); err == nil {
			if b, err := parsePort(p.String()); err != nil || b != p || p.number < 1 || p.number > 65535 {
				t.Errorf("%q is %s", s, p)
			}
		}
		if a, err := oneAddress(s); err == nil && (!a.IsSingleIP() || a.Addr().IsUnspecified()) {
			t.Errorf("%q lets in %s", s, a)
		}
		if m, err := parseLabels(s); err == nil {
			if _, empty := m[""]; empty || len(m) == 0 {
				t.Errorf("%q is %v: it means everybody", s, m)
			}
		}
		if w, err := parseWeights(s); err == nil {
			sum := int64(0)
			for _, x := range w {
				sum += x.weight
			}
			if sum <= 0 {
				t.Errorf("%q answers no request", s)
			}
		}
		if ns, sa, err := parsePrincipal(s); err == nil && (ns == "" || sa == "" || !strings.Contains(s, "/ns/"+ns+"/sa/"+sa)) {
			t.Errorf("%q is %s/%s", s, ns, sa)
		}
		for _, parse := range []func(string) (taint, error){parseTaint, parseNodeTaint} {
			if x, err := parse(s); err == nil && x.key == "" {
				t.Errorf("%q is every taint", s)
			}
		}
	})
}

// constants never fails, whatever an expression is made of.
func FuzzConstants(f *testing.F) {
	for _, s := range []string{"device.attributes['a'].b == 'H100'", "'x' in device.attributes['a']", "device.capacity['a'].memory.compareTo(quantity('40Gi')) >= 0", "[1,2].exists(x, x == 1)", "((("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range constants(s) {
			if c == "" {
				t.Errorf("%q has an empty constant", s)
			}
		}
	})
}
