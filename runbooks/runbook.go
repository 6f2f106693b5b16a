// Package runbooks is the knowledge: Markdown files that people read, whose
// YAML front matter an engine runs. It parses, lints, matches and concludes
// over plain facts, and imports nothing else of gumshoe.
package runbooks

import (
	"embed"
	"io/fs"
)

//go:embed library
var embedded embed.FS

// Embedded gives the runbooks that ship with the binary.
func Embedded() (fs.FS, error) { return fs.Sub(embedded, "library") }

// Matches says when a runbook applies.
type Matches struct {
	Alerts   []string `yaml:"alerts"`
	Findings []string `yaml:"findings"`
	Words    []string `yaml:"words"`
}

// Step is one look that gathers more evidence.
type Step struct {
	ID   string         `yaml:"id"`
	Tool string         `yaml:"tool"`
	With map[string]any `yaml:"with"`
	// When is a CEL condition; empty means always.
	When string `yaml:"when"`
}

// Cause is something a runbook can name.
type Cause struct {
	ID string `yaml:"id"`
	// Title is what the cause is called when it is ruled out.
	Title string `yaml:"title"`
	// Code of the cause; the finding's code when Finding is set and Code is not.
	Code string `yaml:"code"`
	// Finding makes the cause fire once for each finding of this code.
	Finding string `yaml:"finding"`
	// When is a CEL condition that must hold.
	When string `yaml:"when"`
	// Subject is CEL for a reference; the finding's subject, else the runbook's.
	Subject string `yaml:"subject"`
	// Say is the statement; the finding's message when empty.
	Say        string   `yaml:"say"`
	Detail     []string `yaml:"detail"`
	Confidence float64  `yaml:"confidence"`
	// Unless is the sentence shown when this cause is ruled out.
	Unless string   `yaml:"unless"`
	Rivals []string `yaml:"rivals"`
	Fix    []Fix    `yaml:"fix"`
	// Revert says what part of a pod template brings the fault about, one of Reverts.
	// Where the workload has an earlier revision that serves and that differs in this
	// part, to return to it is proposed before Fix.
	Revert string `yaml:"revert"`
}

// Parts of a pod template that a fault may come from.
const (
	// RevertImage is the image of the container that the finding names.
	RevertImage = "image"
	// RevertContainers is what runs: images, commands, environment, sizes, probes, volumes.
	RevertContainers = "containers"
	// RevertScheduling is where it may run: sizes, selectors, tolerations, claims.
	RevertScheduling = "scheduling"
	// RevertObjects is the object itself that the cause is about: a ConfigMap, a claim.
	RevertObjects = "objects"
)

// Reverts are the values that Cause.Revert takes.
func Reverts() []string {
	return []string{RevertImage, RevertContainers, RevertScheduling, RevertObjects}
}

// Fix proposes a typed action.
type Fix struct {
	Action string            `yaml:"action"`
	With   map[string]string `yaml:"with"`
	Why    string            `yaml:"why"`
	// When is a CEL condition; empty means always.
	When string `yaml:"when"`
}

// Runbook is one file.
type Runbook struct {
	ID    string `yaml:"id"`
	Title string `yaml:"title"`
	// Modes are the failure modes of the catalogues the runbook covers.
	Modes   []string `yaml:"modes"`
	Matches Matches  `yaml:"matches"`
	Steps   []Step   `yaml:"steps"`
	Causes  []Cause  `yaml:"causes"`

	// Body is the Markdown a person reads; Raw the whole file; Source its name.
	Body   string `yaml:"-"`
	Raw    []byte `yaml:"-"`
	Source string `yaml:"-"`

	// lines says where each field stands: "steps[0].with.pod" -> 9.
	lines map[string]int
}
