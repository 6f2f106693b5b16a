package cli_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// The chain of the mTLS demo crosses flow, policy, identity and SPIRE, each link with
// evidence, in one diagnosis that the validator let stand.
func TestDemoMTLSDrop(t *testing.T) {
	t.Parallel()
	code, out, errs := run(t, nil, "demo", "mtls-drop", "--output", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var r incident.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	d := r.Diagnosis
	if d.Outcome != incident.RootCause || len(d.Causes) != 1 || d.Causes[0].Code != "cilium.spire_agent_untolerated" || len(d.Unsupported) > 0 || len(d.Unexplained) > 0 {
		t.Fatalf("%+v", d)
	}
	var kinds []string
	dropped := false
	for _, e := range d.Chain {
		kinds = append(kinds, e.To.Kind)
		dropped = dropped || strings.Contains(e.Note, "AUTH_REQUIRED")
		if len(e.Evidence) == 0 {
			t.Errorf("link %s -%s-> %s has no evidence", e.From, e.Relation, e.To)
		}
	}
	if want := []string{"Pod", "CiliumNetworkPolicy", "CiliumIdentity", "DaemonSet"}; !slices.Equal(kinds, want) || !dropped {
		t.Errorf("chain %v, want %v with the dropped packets", kinds, want)
	}
	if len(d.Proposals) == 0 || d.Proposals[0].Action != "spire_agent_tolerations" {
		t.Errorf("proposals %+v", d.Proposals)
	}
}

func TestDemoTakesShortNames(t *testing.T) {
	t.Parallel()
	_, byName, _ := run(t, nil, "demo", "pending-claim")
	_, byDefault, _ := run(t, nil, "demo")
	if byName == "" || byName != byDefault {
		t.Errorf("the default is not pending-claim:\n%s", byName)
	}
}
