package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUnusedMethodsAreNotLinked holds on to a fifth of the binary. Once any code that
// can run looks up methods by a name that is not known at link time, the linker keeps
// every exported method of every type that becomes an interface. text/template and
// html/template do that; their forks in github.com/DataDog/datadog-agent/pkg/template do
// not. The build tags of the Makefile leave out what else would.
func TestUnusedMethodsAreNotLinked(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it links the whole program")
	}
	raw, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	tags := regexp.MustCompile(`(?m)^TAGS +:= (\S+)$`).FindSubmatch(raw)
	if tags == nil {
		t.Fatal("the Makefile names no TAGS")
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", string(tags[1]), "-ldflags", "-s -w -dumpdep", "-o", filepath.Join(t.TempDir(), "gumshoe"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%.2000s", err, out)
	}
	edges, by := 0, map[string]bool{}
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		from, _, ok := strings.Cut(sc.Text(), " -> ")
		if !ok {
			continue
		}
		edges++
		if name, ok := strings.CutSuffix(from, " <ReflectMethod>"); ok {
			by[name] = true
		}
	}
	if err := sc.Err(); err != nil || edges < 10_000 {
		t.Fatalf("the linker told %d dependencies (%v): its output is not understood", edges, err)
	}
	for name := range by {
		t.Errorf("%s looks up methods by name", name)
	}
}
