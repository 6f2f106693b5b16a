package web

import "testing"

func TestPagesParse(t *testing.T) {
	t.Parallel()
	p, err := newPages()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.each) != 8 {
		t.Errorf("%d pages", len(p.each))
	}
}
