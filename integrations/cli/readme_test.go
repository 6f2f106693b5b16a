package cli_test

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

var update = flag.Bool("update", false, "write the outputs in the README")

// readmeWidth is the width that the outputs in the README are written for.
const readmeWidth = 118

// Every "$ gumshoe ..." in a console block of the README is run, and what stands
// below it is what it prints; `make docs` writes it.
func TestReadmeOutputs(t *testing.T) {
	t.Chdir("../..")
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```console\n(.*?)```")
	commands := 0
	want := block.ReplaceAllStringFunc(string(raw), func(b string) string {
		var out strings.Builder
		out.WriteString("```console\n")
		for line := range strings.Lines(b) {
			if !strings.HasPrefix(line, "$ gumshoe ") {
				continue
			}
			if commands++; !strings.HasSuffix(out.String(), "console\n") {
				out.WriteString("\n")
			}
			out.WriteString(line)
			out.WriteString(shown(t, words(strings.TrimPrefix(strings.TrimSpace(line), "$ gumshoe "))))
		}
		return out.String() + "```"
	})
	if commands < 5 {
		t.Errorf("the README runs only %d commands", commands)
	}
	switch {
	case want == string(raw):
	case *update:
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the outputs in README.md are stale; run make docs")
	}
}

// shown gives the standard output of one command, without what differs by the run.
func shown(t *testing.T, args []string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Width: readmeWidth})
	if code != 0 {
		t.Errorf("gumshoe %s: exit code %d: %s", strings.Join(args, " "), code, errs.String())
	}
	return regexp.MustCompile(`\b\d+\.\d\d( +(ok|MISS))`).ReplaceAllString(out.String(), "0.05$1")
}

// words splits a command line as a shell does, as far as the README goes.
func words(line string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`'([^']*)'|"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		out = append(out, m[1]+m[2]+m[3])
	}
	return out
}
