package scenario

import (
	"strings"
	"testing"
	"time"
)

// Every scenario that ships parses, its templates expand, and its fleet can be made.
func TestScenariosAreWellFormed(t *testing.T) {
	t.Parallel()
	all, err := Load("../scenarios")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 40 {
		t.Errorf("only %d scenarios", len(all))
	}
	for _, s := range all {
		if _, err := fleet(s.Fleet); err != nil {
			t.Errorf("%s: %v", s.ID, err)
		}
		for i, st := range s.Steps {
			text, err := Expand(st.Apply, time.Unix(0, 0))
			if err != nil {
				t.Errorf("%s step %d: %v", s.ID, i+1, err)
			}
			if strings.Contains(text, "{{") {
				t.Errorf("%s step %d keeps a template mark", s.ID, i+1)
			}
			if st.Pods != nil {
				if _, err := Expand(st.Pods.Status, time.Unix(0, 0)); err != nil {
					t.Errorf("%s step %d: %v", s.ID, i+1, err)
				}
			}
		}
	}
}
