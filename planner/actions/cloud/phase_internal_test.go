package cloud

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

func TestAKSPhase(t *testing.T) {
	t.Parallel()
	old, now := time.Unix(1000, 0), time.Unix(9000, 0)
	blue := func(cordoned bool, pods int) actions.PoolNode {
		return actions.PoolNode{Version: "1.34.4", Image: "i1", Created: old, Cordoned: cordoned, Pods: pods}
	}
	green := actions.PoolNode{Version: "1.35.2", Image: "i2", Created: now}
	nodes := func(n ...actions.PoolNode) []actions.PoolNode { return n }
	for name, c := range map[string]struct {
		state     string
		blueGreen bool
		nodes     []actions.PoolNode
		want      string
		was       string
	}{
		"idle":                        {"Succeeded", true, nodes(blue(false, 1)), actions.PhaseIdle, ""},
		"no green node yet":           {"Upgrading", true, nodes(blue(false, 1), blue(false, 1)), actions.PhaseProvisioning, ""},
		"a green node comes":          {"Upgrading", true, nodes(blue(false, 1), blue(false, 1), green), actions.PhaseProvisioning, "1.34.4"},
		"some blue cordoned":          {"Upgrading", true, nodes(blue(true, 1), blue(false, 1), green, green), actions.PhaseCordoning, "1.34.4"},
		"blue cordoned, pods there":   {"Upgrading", true, nodes(blue(true, 1), blue(true, 0), green, green), actions.PhaseDraining, "1.34.4"},
		"blue empty":                  {"Upgrading", true, nodes(blue(true, 0), blue(true, 0), green, green), actions.PhaseFinalSoak, "1.34.4"},
		"an image upgrade":            {"UpgradingNodeImageVersion", true, nodes(blue(true, 0), green), actions.PhaseFinalSoak, "1.34.4"},
		"blue going":                  {"Upgrading", true, nodes(blue(true, 0), green, green), actions.PhaseDeleting, "1.34.4"},
		"one colour, cordoned":        {"Upgrading", true, nodes(blue(true, 1)), actions.PhaseUnknown, ""},
		"nothing is known of nodes":   {"Upgrading", true, nil, actions.PhaseUnknown, ""},
		"three versions":              {"Upgrading", true, nodes(blue(true, 0), green, actions.PoolNode{Version: "1.33.0", Cordoned: true}), actions.PhaseUnknown, ""},
		"rolling":                     {"Upgrading", false, nodes(blue(true, 0), green), actions.PhaseUpdating, "1.34.4"},
		"stopping":                    {"Canceling", true, nodes(blue(true, 0), green), actions.PhaseUpdating, "1.34.4"},
		"stopped":                     {"Canceled", true, nodes(blue(true, 0), green), actions.PhasePaused, "1.34.4"},
		"going back":                  {"RollingBack", true, nodes(blue(false, 0), green), actions.PhaseRollingBack, "1.34.4"},
		"failed":                      {"Failed", true, nodes(blue(false, 0), green), actions.PhaseFailed, "1.34.4"},
		"scaling":                     {"Scaling", false, nil, actions.PhaseUpdating, ""},
		"creating":                    {"Creating", false, nil, actions.PhaseProvisioning, ""},
		"deleting":                    {"Deleting", false, nil, actions.PhaseDeleting, ""},
		"a word that nobody told us":  {"Levitating", true, nodes(blue(true, 0), green), actions.PhaseUnknown, "1.34.4"},
		"no word at all":              {"", true, nil, actions.PhaseUnknown, ""},
		"the same age, two versions":  {"Upgrading", true, nodes(blue(true, 0), actions.PoolNode{Version: "1.35.2", Image: "i2", Created: old.Add(time.Second)}), actions.PhaseFinalSoak, "1.34.4"},
		"a blue node that came later": {"Upgrading", true, nodes(blue(true, 0), actions.PoolNode{Version: "1.34.4", Image: "i1", Created: now.Add(time.Hour), Cordoned: true}, green, green), actions.PhaseFinalSoak, "1.34.4"},
	} {
		got, was := aksPhase(c.state, c.blueGreen, c.nodes)
		if got != c.want || was.Version != c.was {
			t.Errorf("%s: %s, back to %q, want %s, %q", name, got, was.Version, c.want, c.was)
		}
	}
}

func TestNewer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{{"1.36.0", "1.35.2", true}, {"1.35.2", "1.35.2", false}, {"1.35", "1.35.2", false}, {"1.9.0", "1.10.0", false}, {"2", "1.99", true}, {"x", "1", false}, {"", "", false}} {
		if newer(c.a, c.b) != c.want {
			t.Errorf("newer(%q, %q) is %v", c.a, c.b, !c.want)
		}
	}
}

// FuzzDecode: a plan that was tampered with gives an error or a request, never a panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"pool":"p","method":"PUT","path":"p","want":{"settings":{"a.b":"c"}},"body":{}}`), []byte(`{"properties":{"eTag":"1","count":2}}`))
	f.Add([]byte(`{`), []byte(`[]`))
	f.Fuzz(func(_ *testing.T, body, doc []byte) {
		r, err := decode(incident.Write{API: apiAKS, Body: body}, apiAKS)
		if err != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(doc, &m) != nil {
			return
		}
		r.Want.stands(field(m, "a"), nil, "", number(field(m, "properties.count")), m)
		_ = unchanged(incident.Ref{}, r, m)
		_ = gkePhase(m)
		_ = clean(m)
		_ = asked(m, func(map[string]any) {})
	})
}
