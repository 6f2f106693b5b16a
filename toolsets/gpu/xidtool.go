package gpu

import (
	"context"
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// XIDIn asks about a code, or about a text that holds kernel lines.
type XIDIn struct {
	Code       int    `json:"code,omitempty"`
	Text       string `json:"text,omitempty"`
	Generation string `json:"generation,omitempty"`
	Node       string `json:"node,omitempty"`
}

// XIDAnswer is what is known of the codes.
type XIDAnswer struct {
	Codes   []XIDKnown        `json:"codes"`
	History []XIDSeen         `json:"history" jsonschema:"errors of the node's GPUs in the last day"`
	Read    string            `json:"table_read" jsonschema:"when the sources of the table were read"`
	Sources map[string]string `json:"sources"`
}

// XIDKnown is one code as the table knows it.
type XIDKnown struct {
	Code        int           `json:"code"`
	NVSwitch    bool          `json:"nvswitch,omitempty"`
	PCI         string        `json:"pci,omitempty"`
	Process     string        `json:"process,omitempty"`
	Title       string        `json:"title"`
	Class       xid.Class     `json:"class"`
	Act         string        `json:"act"`
	Then        string        `json:"then,omitempty"`
	Source      string        `json:"source"`
	Others      []xid.Opinion `json:"others" jsonschema:"what other sources say"`
	Generations []string      `json:"generations" jsonschema:"empty: all"`
	Recovery    string        `json:"recovery,omitempty" jsonschema:"what the driver or the monitor itself wants done"`
}

// XIDSeen is an error of a GPU of the node.
type XIDSeen struct {
	GPU string `json:"gpu"`
	XIDOut
}

func (t *Toolset) xidTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "gpu_xid", Text: text("gpu_xid"), Effect: tool.Read}, t.xid)
}

func (t *Toolset) xid(ctx context.Context, in XIDIn) (tool.Output[XIDAnswer], error) {
	if in.Code == 0 && in.Text == "" && in.Node == "" {
		return tool.Output[XIDAnswer]{}, tool.Errorf(tool.Invalid, "give a code, a text with kernel lines, or a node")
	}
	out := XIDAnswer{Codes: []XIDKnown{}, History: []XIDSeen{}, Read: t.table.Read, Sources: t.table.Sources}
	gen := in.Generation
	if g := xid.Generation(gen); g != "" {
		gen = g
	}
	lines := t.parser.Parse(in.Text)
	if in.Code != 0 {
		lines = append(lines, xid.Line{Code: in.Code})
	}
	var b strings.Builder
	for _, l := range lines {
		if l.NVSwitch {
			out.Codes = append(out.Codes, XIDKnown{Code: l.Code, NVSwitch: true, PCI: l.PCI, Title: l.Text, Class: xid.Unknown, Act: "look the SXid up in NVIDIA's fabric manager guide", Source: "the line itself", Others: []xid.Opinion{}, Generations: []string{}})
			fmt.Fprintf(&b, "SXid %d of an NVSwitch: %s\n", l.Code, l.Text)
			continue
		}
		r, known := t.table.Find(l.Code, gen)
		k := XIDKnown{Code: l.Code, PCI: l.PCI, Process: l.Process, Title: r.Title, Class: r.Class, Act: r.Act, Then: r.Then, Source: t.table.Sources[r.Source], Others: append([]xid.Opinion{}, r.Others...), Generations: append([]string{}, r.Generations...), Recovery: l.Recovery}
		out.Codes = append(out.Codes, k)
		fmt.Fprintf(&b, "XID %d: %s. Class %s. Now: %s.", l.Code, r.Title, r.Class, r.Act)
		if r.Then != "" {
			fmt.Fprintf(&b, " Then: %s.", r.Then)
		}
		if known {
			fmt.Fprintf(&b, " Source: %s.", k.Source)
		}
		for _, o := range r.Others {
			fmt.Fprintf(&b, " %s says: %s.", t.table.Sources[o.Source], o.Says)
		}
		if l.Recovery != "" {
			fmt.Fprintf(&b, " The driver or monitor itself wants: %s; that stands over the table.", l.Recovery)
		}
		b.WriteString("\n")
	}
	var findings []incident.Finding
	var edges []incident.Edge
	if in.Node != "" {
		m, err := t.machineOf(ctx, in.Node)
		if err != nil {
			return tool.Output[XIDAnswer]{}, err
		}
		v := t.verdict()
		v.judgeXIDs(m, everyCard)
		v.has(m)
		for _, c := range m.cards {
			for i := range c.reports {
				r := &c.reports[i]
				s := XIDSeen{GPU: c.ref.Path(), XIDOut: XIDOut{Code: r.Code, Title: r.row.Title, Class: r.row.Class, From: r.from, Process: r.Process}}
				if !r.first.IsZero() {
					s.First = clock(r.first)
				}
				out.History = append(out.History, s)
			}
		}
		fmt.Fprintf(&b, "%d errors of GPUs of node %s are known", len(out.History), in.Node)
		b.WriteString(v.text(""))
		findings, edges = v.findings, v.edges
	}
	if len(lines) == 0 && in.Text != "" {
		b.WriteString("the text holds no XID")
	}
	return tool.Output[XIDAnswer]{Data: out, Text: strings.TrimSpace(b.String()), Findings: findings, Edges: edges}, nil
}
