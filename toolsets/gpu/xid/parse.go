// Package xid knows NVIDIA's XID messages: how the kernel driver and those who
// repeat it write them, and what each number means by whom. The table is data
// (table.json). The package imports the standard library only.
package xid

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Line is one XID as a text reports it.
type Line struct {
	// Code is the number; an SXid of an NVSwitch has NVSwitch set and numbers of
	// its own.
	Code     int
	NVSwitch bool
	// PCI is the bus id, "0000:9b:00.0"; empty when the text names none.
	PCI string
	// UUID of the GPU, where a health monitor adds it.
	UUID string
	// Process and PID as the driver saw them; empty when it did not know.
	Process string
	PID     int
	// Recovery is the action that XID 154, or the monitor that repeats the line,
	// names: "Node Reboot Required", "RESTART_VM".
	Recovery string
	// Fatal is what an SXid line says of itself.
	Fatal bool
	// Text is the rest of the line.
	Text string
}

// Bounds of a text: messages of events and conditions are short.
const (
	maxText  = 64 << 10
	maxLines = 64
	maxRest  = 300
)

// Parser finds XIDs in text. It is safe for concurrent use.
type Parser struct {
	kernel, monitor, pid, name, uuid, pci, recovery, changed, lost *regexp.Regexp
}

// NewParser compiles the forms.
func NewParser() *Parser {
	return &Parser{
		// NVRM: Xid (PCI:0000:9b:00): 79, pid=1234, name=python, GPU has fallen off the bus.
		kernel: regexp.MustCompile(`(?i)\b(S?)Xid \((?:PCI:)?([0-9a-f:.]{4,20})\): (\d{1,6})\b[, ]*([^\n]*)`),
		// ErrorCode:79 PCI:0000:9b:00 GPU_UUID:GPU-... Recommended Action=RESTART_VM;
		monitor: regexp.MustCompile(`(?i)\bErrorCode:\s*(\d{1,6})\b([^\n;]*)`),
		pid:     regexp.MustCompile(`\bpid='?(\d{1,10})`),
		name:    regexp.MustCompile(`\bname=([^,<>\s]{1,64})`),
		uuid:    regexp.MustCompile(`\bGPU-[0-9a-fA-F]{8}-[0-9a-fA-F-]{4,32}`),
		pci:     regexp.MustCompile(`(?i)\bPCI:([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-9a-f])?)`),

		recovery: regexp.MustCompile(`(?i)recommended action\s*[=:]\s*([A-Za-z_ ]{3,40})`),
		changed:  regexp.MustCompile(`(?i)recovery action changed from [^\n]*? to \w+ \(([^)]{2,60})\)`),
		lost:     regexp.MustCompile(`(?i)NVRM: GPU (?:at )?(?:PCI:)?([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-9a-f])?)[^\n]{0,60}?fallen off the bus`),
	}
}

// Parse finds every XID in a text, in its order. Text that holds none gives none.
func (p *Parser) Parse(text string) []Line {
	if len(text) > maxText {
		text = text[:maxText]
	}
	text = strings.ToValidUTF8(text, "")
	var out []Line
	seen := map[[2]string]bool{}
	add := func(l Line) {
		k := [2]string{strconv.Itoa(l.Code) + strconv.FormatBool(l.NVSwitch), l.PCI}
		if len(out) < maxLines && l.Code > 0 && !seen[k] {
			seen[k] = true
			out = append(out, l)
		}
	}
	for raw := range strings.Lines(text) {
		for _, m := range p.kernel.FindAllStringSubmatch(raw, maxLines) {
			l := Line{NVSwitch: m[1] != "", PCI: BusID(m[2]), Code: number(m[3])}
			p.rest(&l, m[4])
			add(l)
		}
		for _, m := range p.monitor.FindAllStringSubmatch(raw, maxLines) {
			if slices.ContainsFunc(out, func(l Line) bool { return l.Code == number(m[1]) }) {
				// The monitor repeats the kernel's own line behind its summary.
				continue
			}
			l := Line{Code: number(m[1])}
			if id := p.pci.FindStringSubmatch(m[2]); id != nil {
				l.PCI = BusID(id[1])
			}
			p.rest(&l, m[2])
			add(l)
		}
		for _, m := range p.lost.FindAllStringSubmatch(raw, maxLines) {
			add(Line{Code: OffTheBus, PCI: BusID(m[1]), Text: "GPU has fallen off the bus"})
		}
	}
	// What a monitor adds stands beside the kernel's line, not within it.
	if len(out) == 1 {
		if out[0].UUID == "" {
			out[0].UUID = p.uuid.FindString(text)
		}
		if m := p.recovery.FindStringSubmatch(text); m != nil && out[0].Recovery == "" && !strings.EqualFold(strings.TrimSpace(m[1]), "none") {
			out[0].Recovery = strings.TrimSpace(m[1])
		}
	}
	return out
}

// OffTheBus is the XID of a GPU that does not answer on PCIe any more.
const OffTheBus = 79

func (p *Parser) rest(l *Line, rest string) {
	l.Text = strings.TrimSpace(rest)
	if len(l.Text) > maxRest {
		l.Text = strings.ToValidUTF8(l.Text[:maxRest], "")
	}
	if m := p.pid.FindStringSubmatch(rest); m != nil {
		l.PID = number(m[1])
	}
	if m := p.name.FindStringSubmatch(rest); m != nil {
		l.Process = m[1]
	}
	l.UUID = p.uuid.FindString(rest)
	if m := p.changed.FindStringSubmatch(rest); m != nil {
		l.Recovery = m[1]
	} else if m := p.recovery.FindStringSubmatch(rest); m != nil && !strings.EqualFold(strings.TrimSpace(m[1]), "none") {
		l.Recovery = strings.TrimSpace(m[1])
	}
	l.Fatal = l.NVSwitch && strings.HasPrefix(strings.ToLower(l.Text), "fatal")
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// BusID writes a PCI address as the kernel does: four digits of domain, lower
// case, with the function: "00000000:9B:00" is "0000:9b:00.0". What is no such
// address stays as it is, in lower case.
func BusID(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	rest, fn, has := strings.Cut(s, ".")
	if !has {
		fn = "0"
	}
	parts := strings.Split(rest, ":")
	if len(parts) == 2 {
		parts = append([]string{"0000"}, parts...)
	}
	if len(parts) != 3 || len(parts[1]) != 2 || len(parts[2]) != 2 || fn == "" {
		return s
	}
	for len(parts[0]) > 4 && parts[0][0] == '0' {
		parts[0] = parts[0][1:]
	}
	return strings.Join(parts, ":") + "." + fn
}
