package truth_test

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/truth"
)

// Every published measurement comes out within what its row allows.
func TestMeasurements(t *testing.T) {
	t.Parallel()
	table, err := truth.Compute()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range table.Rows {
		ids[r.ID] = true
		if !r.Held {
			t.Errorf("%s %s: published %s, computed %s (%s)", r.ID, r.What, r.Published, r.Computed, r.Off)
		}
		if r.Source == "" {
			t.Errorf("%s has no source", r.ID)
		}
	}
	for _, id := range []string{"V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8a", "V8b", "V9", "V10", "V11"} {
		if !ids[id] {
			t.Errorf("no row %s", id)
		}
	}
}

// The reference table of verdicts comes out cell by cell, and the cells that a
// point estimate gets wrong are tight.
func TestGolden(t *testing.T) {
	t.Parallel()
	table, err := truth.Compute()
	if err != nil {
		t.Fatal(err)
	}
	cells := 0
	for _, g := range table.Golden {
		cells += len(g.Have)
		for _, d := range g.Different {
			t.Errorf("%s on %s", g.Model, d)
		}
	}
	if cells != 72 {
		t.Errorf("%d cells, want 72", cells)
	}
	for _, r := range table.Tight {
		if !r.Held {
			t.Errorf("%s on %s is %s, want tight (%s)", r.ID, r.What, r.Computed, r.Note)
		}
	}
	if len(table.Tight) < 3 {
		t.Error("the tight cells are gone")
	}
}
