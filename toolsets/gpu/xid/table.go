package xid

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed table.json
var raw []byte

// Class is what kind of trouble a code stands for.
type Class string

// Classes. An application's own fault says nothing against the GPU unless it
// follows the GPU across applications.
const (
	Application   Class = "application"
	Informational Class = "informational"
	Warning       Class = "warning"
	Fatal         Class = "fatal"
	// Unknown is the class of a code without a row.
	Unknown Class = "unknown"
)

// Group puts codes together that are one kind of fault to a reader.
type Group string

// Groups of faults.
const (
	Bus       Group = "bus"
	Memory    Group = "memory"
	Contained Group = "contained-memory"
	Remap     Group = "row-remap"
	NVLink    Group = "nvlink"
	GSP       Group = "gsp"
	Hang      Group = "hang"
	Recovery  Group = "recovery"
)

// Opinion is what one source says of a code.
type Opinion struct {
	Source string `json:"source"`
	Says   string `json:"says"`
}

// Row is what is known of one code.
type Row struct {
	Code int `json:"code"`
	// Codes are further codes with the same row.
	Codes []int  `json:"codes,omitempty"`
	Title string `json:"title"`
	Class Class  `json:"class"`
	Group Group  `json:"group,omitempty"`
	// Follows marks codes that nearly always come after another one, which is
	// then the cause.
	Follows bool `json:"follows,omitempty"`
	// Act is what is done at once, Then what comes after.
	Act  string `json:"act"`
	Then string `json:"then,omitempty"`
	// Generations of GPUs the row is about; empty means all.
	Generations []string `json:"generations,omitempty"`
	// Driver is the range of driver versions the row is about; empty means all.
	Driver string `json:"driver,omitempty"`
	// Source of title, class and actions: a key of Sources.
	Source string `json:"source"`
	// Others are sources that say something else, or more.
	Others []Opinion `json:"others,omitempty"`
}

// Disputed reports whether another source says something else.
func (r Row) Disputed() bool { return len(r.Others) > 0 }

// Table is the whole of it.
type Table struct {
	// Read is when the sources were read, a date.
	Read string `json:"read"`
	// Sources by key, with address.
	Sources map[string]string `json:"sources"`
	Rows    []Row             `json:"rows"`
	// Actions are the driver's recovery actions by number (NVML field 230).
	Actions []Action `json:"recovery_actions"`
	at      map[int][]int
}

// Action is one value of the driver's recovery action.
type Action struct {
	Value int    `json:"value"`
	Name  string `json:"name"`
	Do    string `json:"do"`
}

// shipped is the table that ships, read once in the life of the process.
var shipped = sync.OnceValues(func() (*Table, error) { return Read(raw) })

// Load gives the table that ships. It is shared by all who ask and must not be changed.
func Load() (*Table, error) { return shipped() }

// Read decodes a table. Every row needs a title, a class, an action and a known
// source; two rows of one code must differ in generation or driver.
func Read(data []byte) (*Table, error) {
	t := &Table{at: map[int][]int{}}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("xid table: %w", err)
	}
	var errs []error
	for i, r := range t.Rows {
		if r.Title == "" || r.Act == "" || !slices.Contains([]Class{Application, Informational, Warning, Fatal}, r.Class) {
			errs = append(errs, fmt.Errorf("xid %d: title, act and a known class are required", r.Code))
		}
		for _, s := range append([]Opinion{{Source: r.Source, Says: r.Title}}, r.Others...) {
			if t.Sources[s.Source] == "" || s.Says == "" {
				errs = append(errs, fmt.Errorf("xid %d: source %q is not in the list or says nothing", r.Code, s.Source))
			}
		}
		for _, c := range append([]int{r.Code}, r.Codes...) {
			for _, j := range t.at[c] {
				if o := t.Rows[j]; slices.Equal(o.Generations, r.Generations) && o.Driver == r.Driver {
					errs = append(errs, fmt.Errorf("xid %d stands twice", c))
				}
			}
			t.at[c] = append(t.at[c], i)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("xid table: %w", err)
	}
	return t, nil
}

// Find gives the row of a code for a GPU of a generation ("Hopper"); an unknown
// generation takes the first row. A code without a row has class Unknown.
func (t *Table) Find(code int, generation string) (Row, bool) {
	at := t.at[code]
	best := -1
	for _, i := range at {
		gens := t.Rows[i].Generations
		if slices.ContainsFunc(gens, func(g string) bool { return strings.EqualFold(g, generation) }) {
			best = i
			break
		}
		if best < 0 && (len(gens) == 0 || generation == "") {
			best = i
		}
	}
	if best < 0 && len(at) > 0 {
		best = at[0]
	}
	if best < 0 {
		return Row{Code: code, Title: "not in the table", Class: Unknown, Act: "look it up in NVIDIA's catalogue"}, false
	}
	r := t.Rows[best]
	r.Code, r.Codes = code, nil
	return r, true
}

// Codes lists every code with a row, in order.
func (t *Table) Codes() []int {
	var out []int
	for c := range t.at {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// ActionOf gives the driver's recovery action of a value.
func (t *Table) ActionOf(value int) (Action, bool) {
	i := slices.IndexFunc(t.Actions, func(a Action) bool { return a.Value == value })
	if i < 0 {
		return Action{}, false
	}
	return t.Actions[i], true
}

// Generation tells the architecture from a product's name as NVML, exporters and
// node labels write it; empty when it does not say.
func Generation(product string) string {
	p := strings.ToUpper(product)
	for _, g := range []struct {
		name string
		like []string
	}{
		{"Blackwell", []string{"B200", "B300", "GB10", "GB200", "GB300", "B100", "RTX PRO 6000"}},
		{"Hopper", []string{"H100", "H200", "H800", "H20", "GH200"}},
		{"Ada", []string{"L4", "L40", "L40S", "RTX 6000 ADA", "L20", "RTX 40"}},
		{"Ampere", []string{"A100", "A800", "A30", "A40", "A10", "A10G", "A16", "A2", "RTX A", "RTX 30"}},
		{"Turing", []string{"T4", "RTX 20", "QUADRO RTX"}},
		{"Volta", []string{"V100"}},
		{"Pascal", []string{"P100", "P40", "P4"}},
	} {
		for _, l := range g.like {
			if hasToken(p, l) {
				return g.name
			}
		}
	}
	return ""
}

// hasToken finds a name that stands by itself: "A10" is not in "A100".
func hasToken(s, token string) bool {
	for at := 0; ; {
		i := strings.Index(s[at:], token)
		if i < 0 {
			return false
		}
		i += at
		before, after := i-1, i+len(token)
		if (before < 0 || !alnum(s[before])) && (after >= len(s) || !alnum(s[after]) || strings.HasSuffix(token, " ") || strings.Contains(token, " ")) {
			return true
		}
		at = i + 1
	}
}

func alnum(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z'
}
