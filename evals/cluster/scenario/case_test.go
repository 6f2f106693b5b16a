package scenario

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/gumshoe-ai/gumshoe/evals"
)

// A case that was captured says what its scenario says: made again, it would be the same.
func TestCasesAreTheirScenarios(t *testing.T) {
	t.Parallel()
	all, err := Load("../scenarios")
	if err != nil {
		t.Fatal(err)
	}
	cases := os.DirFS("../../cases")
	for _, s := range all {
		c, err := evals.Find(cases, s.ID)
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is no case of this scenario: run casegen -run '^%s$'", s.ID, s.ID)
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		c.ID, c.Bundle = "", nil
		have, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(s.Case)
		if err != nil || string(have) != string(want) {
			t.Errorf("%s: case.yaml is not what the scenario says: run casegen -only-yaml", s.ID)
		}
	}
}
