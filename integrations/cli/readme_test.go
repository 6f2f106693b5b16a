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
	state := t.TempDir() // a plan is made of the investigation before it
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
			out.WriteString(shown(t, state, words(strings.TrimPrefix(strings.TrimSpace(line), "$ gumshoe "))))
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
func shown(t *testing.T, state string, args []string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(name string) string {
		if name == "GUMSHOE_STATE" {
			return state
		}
		return ""
	}, Width: readmeWidth})
	if code != 0 {
		t.Errorf("gumshoe %s: exit code %d: %s", strings.Join(args, " "), code, errs.String())
	}
	text := out.String()
	for _, same := range [][2]string{
		{`\b\d+\.\d\d( +(ok|MISS))`, "0.05$1"},
		{`plan-[0-9a-f]{12}`, "plan-de76f8dd0385"}, {`run-[0-9a-f]{16}`, "run-73c43a16324ea680"}, {`sha256:[0-9a-f]{64}`, "sha256:" + strings.Repeat("091c9ae0", 8)},
		{`\d{4}-\d\d-\d\d \d\d:\d\d UTC \(in \S+\)`, "2026-11-30 23:51 UTC (in 72h0m0s)"},
	} {
		text = regexp.MustCompile(same[0]).ReplaceAllString(text, same[1])
	}
	return text
}

// words splits a command line as a shell does, as far as the README goes.
func words(line string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`'([^']*)'|"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		out = append(out, m[1]+m[2]+m[3])
	}
	return out
}
