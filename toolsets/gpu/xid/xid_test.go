package xid_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

func TestParse(t *testing.T) {
	t.Parallel()
	p := xid.NewParser()
	for name, tc := range map[string]struct {
		text string
		want []xid.Line
	}{
		"off the bus": {
			"[ 912.331] NVRM: Xid (PCI:0000:9b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
			[]xid.Line{{Code: 79, PCI: "0000:9b:00.0", Text: "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."}},
		},
		"with a process": {
			"kernel: NVRM: Xid (PCI:0000:1A:00): 31, pid=23911, name=python3, Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS",
			[]xid.Line{{Code: 31, PCI: "0000:1a:00.0", Process: "python3", PID: 23911, Text: "pid=23911, name=python3, Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS"}},
		},
		"the old form without PCI": {"NVRM: Xid (0000:03:00): 13, 0001", []xid.Line{{Code: 13, PCI: "0000:03:00.0", Text: "0001"}}},
		"two lines, one of them twice": {
			"NVRM: Xid (PCI:0000:3b:00): 48, DBE\nNVRM: Xid (PCI:0000:3b:00): 48, DBE\nNVRM: Xid (PCI:0000:3b:00): 45, pid=1, name=a,",
			[]xid.Line{{Code: 48, PCI: "0000:3b:00.0", Text: "DBE"}, {Code: 45, PCI: "0000:3b:00.0", Process: "a", PID: 1, Text: "pid=1, name=a,"}},
		},
		"a switch": {
			"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
			[]xid.Line{{Code: 20034, NVSwitch: true, PCI: "0000:c1:00.0", Fatal: true, Text: "Fatal, Link 30 LTSSM Fault Up"}},
		},
		"a switch that recovers": {
			"nvidia-nvswitch0: SXid (PCI:0000:ca:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error",
			[]xid.Line{{Code: 12028, NVSwitch: true, PCI: "0000:ca:00.0", Text: "Non-fatal, Link 32 egress non-posted PRIV error"}},
		},
		"a monitor": {
			"ErrorCode:79 PCI:0000:9b:00 GPU_UUID:GPU-11111111-2222-3333-4444-555555555555 XID error occurred Recommended Action=RESTART_BM;",
			[]xid.Line{{Code: 79, PCI: "0000:9b:00.0", UUID: "GPU-11111111-2222-3333-4444-555555555555", Recovery: "RESTART_BM", Text: "PCI:0000:9b:00 GPU_UUID:GPU-11111111-2222-3333-4444-555555555555 XID error occurred Recommended Action=RESTART_BM"}},
		},
		"a monitor that wants nothing": {"ErrorCode:13 GPU:0 Recommended Action=NONE;", []xid.Line{{Code: 13, Text: "GPU:0 Recommended Action=NONE"}}},
		"the driver's recovery action": {
			"NVRM: Xid (PCI:0000:18:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
			[]xid.Line{{Code: 154, PCI: "0000:18:00.0", Recovery: "Node Reboot Required", Text: "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"}},
		},
		"lost without a number": {"NVRM: GPU 0000:41:00.0: GPU has fallen off the bus.", []xid.Line{{Code: 79, PCI: "0000:41:00.0", Text: "GPU has fallen off the bus"}}},
		"prose":                 {"what does xid 79 mean on node gpu-3?", nil},
		"a long domain":         {"NVRM: Xid (PCI:00000000:9B:00.0): 94, x", []xid.Line{{Code: 94, PCI: "0000:9b:00.0", Text: "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, p.Parse(tc.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"NVRM: Xid (PCI:0000:9b:00): 79, pid=1, name=a, GPU has fallen off the bus.", "SXid (PCI:0000:ca:00.0): 1, Fatal", "ErrorCode:9 PCI:0000:01:00 Recommended Action=X;",
		"NVRM: GPU at PCI:0000:41:00: GPU has fallen off the bus", strings.Repeat("Xid (PCI:0000:9b:00): 7,\n", 100), "\xff\xfe Xid (::::): 1", "",
	} {
		f.Add(s)
	}
	p := xid.NewParser()
	f.Fuzz(func(t *testing.T, text string) {
		got := p.Parse(text)
		if len(got) > 64 {
			t.Fatalf("%d lines", len(got))
		}
		for _, l := range got {
			if l.Code <= 0 || l.Code > 999_999 || !utf8.ValidString(l.Text+l.Process+l.PCI) || len(l.Text) > 300 {
				t.Fatalf("%+v", l)
			}
			if xid.BusID(l.PCI) != l.PCI {
				t.Fatalf("bus id %q is not in its final form", l.PCI)
			}
		}
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	tab, err := xid.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		code     int
		gen      string
		class    xid.Class
		group    xid.Group
		follows  bool
		disputed bool
	}{
		{79, "", xid.Fatal, xid.Bus, false, false},
		{13, "Hopper", xid.Application, "", false, true},
		{31, "", xid.Application, "", false, true},
		{43, "", xid.Application, "", true, true},
		{45, "", xid.Informational, "", true, true},
		{48, "Ampere", xid.Fatal, xid.Memory, false, true},
		{63, "Volta", xid.Informational, xid.Remap, false, false},
		{74, "Blackwell", xid.Fatal, xid.NVLink, false, false},
		{94, "Hopper", xid.Warning, xid.Contained, false, false},
		{95, "Hopper", xid.Fatal, xid.Memory, false, false},
		{109, "", xid.Fatal, xid.Hang, false, true},
		{119, "Hopper", xid.Fatal, xid.GSP, false, false},
		{128, "", xid.Application, "", false, false},
		{146, "Blackwell", xid.Warning, xid.NVLink, false, false},
		{172, "", xid.Fatal, xid.Memory, false, false},
	} {
		r, ok := tab.Find(tc.code, tc.gen)
		if !ok || r.Code != tc.code || r.Class != tc.class || r.Group != tc.group || r.Follows != tc.follows || r.Disputed() != tc.disputed {
			t.Errorf("%d on %q: %+v", tc.code, tc.gen, r)
		}
	}
	old, _ := tab.Find(63, "Volta")
	young, _ := tab.Find(63, "Hopper")
	if old.Title == young.Title {
		t.Errorf("63 reads %q on both generations", old.Title)
	}
	if r, ok := tab.Find(7, ""); ok || r.Class != xid.Unknown {
		t.Errorf("a code without a row: %+v", r)
	}
	if n := len(tab.Codes()); n < 100 {
		t.Errorf("%d codes", n)
	}
	if a, ok := tab.ActionOf(2); !ok || a.Name != "node reboot" {
		t.Errorf("%+v", a)
	}
	if _, ok := tab.ActionOf(99); ok {
		t.Error("an action nobody knows")
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	row := func(more string) string {
		return `{"sources":{"s":"x"},"rows":[{"code":1,"title":"t","class":"fatal","act":"a","source":"s"` + more + `]}`
	}
	for name, tc := range map[string]struct{ doc, want string }{
		"no JSON":          {`{`, "xid table"},
		"no title":         {`{"sources":{"s":"x"},"rows":[{"code":1,"class":"fatal","act":"a","source":"s"}]}`, "xid 1: title"},
		"unknown class":    {`{"sources":{"s":"x"},"rows":[{"code":1,"title":"t","class":"odd","act":"a","source":"s"}]}`, "known class"},
		"unknown source":   {`{"sources":{},"rows":[{"code":1,"title":"t","class":"fatal","act":"a","source":"s"}]}`, `source "s"`},
		"twice":            {row(`},{"code":2,"codes":[1],"title":"t","class":"fatal","act":"a","source":"s"}`), "xid 1 stands twice"},
		"a silent opinion": {row(`,"others":[{"source":"s","says":""}]}`), "says nothing"},
	} {
		if _, err := xid.Read([]byte(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	if _, err := xid.Read([]byte(row(`},{"code":1,"title":"t","class":"fatal","act":"a","source":"s","generations":["Volta"]}`))); err != nil {
		t.Errorf("one code on two generations: %v", err)
	}
	if raw, err := json.Marshal(xid.Row{}); err != nil || len(raw) == 0 {
		t.Error(err)
	}
}

func TestGeneration(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"NVIDIA H100 80GB HBM3": "Hopper", "NVIDIA-A100-SXM4-40GB": "Ampere", "NVIDIA B200": "Blackwell", "NVIDIA GB200": "Blackwell", "NVIDIA A10": "Ampere", "NVIDIA L40S": "Ada",
		"Tesla T4": "Turing", "Tesla V100-SXM2-16GB": "Volta", "NVIDIA L4": "Ada", "AMD Instinct MI300X": "", "": "", "NVIDIA RTX A6000": "Ampere", "NVIDIA GH200 480GB": "Hopper",
	} {
		if got := xid.Generation(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

func TestBusID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0000:9b:00": "0000:9b:00.0", "00000000:9B:00.0": "0000:9b:00.0", "9b:00.1": "0000:9b:00.1", "00010000:01:00.0": "10000:01:00.0", "odd": "odd", "": "",
	} {
		if got := xid.BusID(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
