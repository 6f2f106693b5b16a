package logtemplate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool/logtemplate"
)

func TestRecords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, log string
		want      []string
	}{
		{"lines", "a\nb\n\nc\n", []string{"a", "b", "c"}},
		{"empty", "", nil},
		{"python trace after its message", `INFO:     Application startup
ERROR: worker died
Traceback (most recent call last):
  File "/app/run.py", line 3, in <module>
    main()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
INFO:     Shutting down`, []string{"INFO:     Application startup", `ERROR: worker died
Traceback (most recent call last):
  File "/app/run.py", line 3, in <module>
    main()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.`, "INFO:     Shutting down"}},
		{"chained python trace", `Traceback (most recent call last):
  File "a.py", line 1
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2
RuntimeError: no config
next`, []string{`Traceback (most recent call last):
  File "a.py", line 1
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2
RuntimeError: no config`, "next"}},
		{"trace with a logger prefix on every line", `(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632] EngineCore failed to start.
(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632] Traceback (most recent call last):
(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632]   File "core.py", line 623, in run
(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632] ValueError: No available memory for the cache blocks.
(APIServer pid=1) INFO 11-24 11:00:01 [api.py:1] bye`, []string{`(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632] EngineCore failed to start.
(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632] Traceback (most recent call last):
(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632]   File "core.py", line 623, in run
(EngineCore_0 pid=272) ERROR 11-24 11:00:00 [core.py:632] ValueError: No available memory for the cache blocks.`, "(APIServer pid=1) INFO 11-24 11:00:01 [api.py:1] bye"}},
		{"go panic", `starting
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a]

goroutine 1 [running]:
main.(*driver).prepare(0x0, {0xc000, 0x1})
	/src/driver.go:42 +0x1d
main.main()
	/src/main.go:7 +0x2f
exit status 2`, []string{"starting", `panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a]

goroutine 1 [running]:
main.(*driver).prepare(0x0, {0xc000, 0x1})
	/src/driver.go:42 +0x1d
main.main()
	/src/main.go:7 +0x2f
exit status 2`}},
		{"java", `2026-11-24 11:00:00 ERROR boot failed
java.lang.IllegalStateException: no database
	at app.Main.run(Main.java:4)
Caused by: java.net.ConnectException: Connection refused
	... 3 more
done`, []string{"2026-11-24 11:00:00 ERROR boot failed", `java.lang.IllegalStateException: no database
	at app.Main.run(Main.java:4)
Caused by: java.net.ConnectException: Connection refused
	... 3 more`, "done"}},
		{"kubelet timestamps before a trace", `2026-11-24T11:00:00.5Z Traceback (most recent call last):
2026-11-24T11:00:00.6Z   File "x.py", line 1
2026-11-24T11:00:00.7Z OSError: [Errno 28] No space left on device
2026-11-24T11:00:01Z next`, []string{"Traceback (most recent call last):\n  File \"x.py\", line 1\nOSError: [Errno 28] No space left on device", "next"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, r := range logtemplate.Records(tc.log) {
				got = append(got, r.Text)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLevelOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]logtemplate.Level{
		"INFO:     Started server process [1]":                                   logtemplate.Plain,
		"INFO 0 errors, 3 requests failed in total":                              logtemplate.Plain,
		"E1124 11:00:00.123456       1 driver.go:120] prepare failed":            logtemplate.Error,
		"I1124 11:00:00.123456       1 driver.go:120] error budget fine":         logtemplate.Plain,
		"W1124 11:00:00.123456       1 reflector.go:12] watch closed":            logtemplate.Warn,
		`{"level":"error","ts":1,"msg":"x"}`:                                     logtemplate.Error,
		`{"severity":"INFO","message":"failed over happily"}`:                    logtemplate.Plain,
		"level=warn msg=slow":                                                    logtemplate.Warn,
		"NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.":  logtemplate.Error,
		"torch.OutOfMemoryError: CUDA out of memory.":                            logtemplate.Error,
		"node-1:99:120 [0] NCCL WARN Timeout waiting for connection":             logtemplate.Warn,
		"finished with no errors":                                                logtemplate.Plain,
		"retries=3 errors=0 done":                                                logtemplate.Plain,
		"connection refused":                                                     logtemplate.Warn,
		"exec /entrypoint.sh: exec format error":                                 logtemplate.Error,
		"fatal: repository 'x' does not exist":                                   logtemplate.Error,
		"loading weights from /models/llama":                                     logtemplate.Plain,
		"step 100 loss 0.3":                                                      logtemplate.Plain,
		"hello\nTraceback (most recent call last):\n  File \"x\"\nValueError: x": logtemplate.Error,
		"2026-11-24 11:00:00,123 - app - CRITICAL - out of disk":                 logtemplate.Error,
		`time="2026-11-24T11:00:00Z" level=fatal msg="failed to load config"`:    logtemplate.Error,
	} {
		if got := logtemplate.LevelOf(line); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// shape is a template without its sample.
type shape struct {
	Text  string
	Level string
	Count int
}

func shapes(s logtemplate.Summary) []shape {
	out := []shape{}
	for _, t := range s.Templates {
		out = append(out, shape{t.Text, t.Level.String(), t.Count})
	}
	return out
}

func TestMine(t *testing.T) {
	t.Parallel()
	var training strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&training, "2026-11-24T11:%02d:%02dZ INFO step=%d loss=%.3f tokens/s %d\n", i/60%60, i%60, i, 2.0/float64(i+1), 9000+i)
		if i%100 == 0 {
			fmt.Fprintf(&training, "2026-11-24T11:%02d:%02dZ WARNING dataloader slow for %d ms\n", i/60%60, i%60, i)
		}
		if i == 700 {
			training.WriteString("2026-11-24T11:11:40Z NVRM: Xid (PCI:0000:3b:00): 79, pid=4242, GPU has fallen off the bus.\n")
		}
	}
	for _, tc := range []struct {
		name, log string
		want      []shape
	}{
		{"training run with one Xid", training.String(), []shape{
			{"NVRM: Xid (PCI:0000:3b:00): 79, pid=4242, GPU has fallen off the bus.", "error", 1},
			{"WARNING dataloader slow for <*> ms", "warning", 10},
			{"INFO step=<*> loss=<*> tokens/s <*>", "info", 1000},
		}},
		{"values of few kinds are shown", "GET /health 200\nGET /health 200\nGET /health 503\nGET /metrics 200\n", []shape{
			{"GET /health <200|503>", "info", 3},
			{"GET /metrics 200", "info", 1},
		}},
		{"rare errors before frequent ones", strings.Repeat("ERROR retry of request 17 failed\n", 5) + "ERROR cannot open device /dev/nvidia3\n" + strings.Repeat("ok\n", 9), []shape{
			{"ERROR cannot open device /dev/nvidia3", "error", 1},
			{"ERROR retry of request 17 failed", "error", 5},
			{"ok", "info", 9},
		}},
		{"json lines", `{"level":"error","ts":"2026-11-24T11:00:00Z","msg":"prepare failed","claim":"train/a","err":"no such device"}
{"level":"error","ts":"2026-11-24T11:00:09Z","msg":"prepare failed","claim":"train/b","err":"no such device"}
{"level":"info","msg":"ready"}`, []shape{
			{`ERROR prepare failed claim=<"train/a"|"train/b"> err="no such device"`, "error", 2},
			{"INFO ready", "info", 1},
		}},
		{"klog of a DRA driver", `I1124 11:00:00.100000       1 driver.go:80] NodePrepareResources is called: number of claims: 1
E1124 11:00:00.200000       1 driver.go:98] error preparing devices for claim train/a:u1: requested device is not allocatable: gpu-3
I1124 11:00:10.100000       1 driver.go:80] NodePrepareResources is called: number of claims: 1
E1124 11:00:10.200000       1 driver.go:98] error preparing devices for claim train/a:u1: requested device is not allocatable: gpu-3
`, []shape{
			{"error preparing devices for claim train/a:u1: requested device is not allocatable: gpu-3", "error", 2},
			{"NodePrepareResources is called: number of claims: 1", "info", 2},
		}},
		{"a trace is told by its exception", `ERROR engine died
Traceback (most recent call last):
  File "a.py", line 1
torch.OutOfMemoryError: CUDA out of memory. GPU 0 has 79.1 GiB`, []shape{
			{"ERROR engine died | torch.OutOfMemoryError: CUDA out of memory. GPU 0 has 79.1 GiB", "error", 1},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, shapes(logtemplate.Mine(tc.log))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTimesAndSamples(t *testing.T) {
	t.Parallel()
	s := logtemplate.Mine(`2026-11-24T11:00:00Z ERROR request 1 failed
2026-11-24T11:05:00Z ERROR request 2 failed
2026-11-24T11:09:00Z INFO request 3 fine
2026-11-24T11:10:00Z INFO request 4 fine`)
	at := func(min int) time.Time { return time.Date(2026, 11, 24, 11, min, 0, 0, time.UTC) }
	want := logtemplate.Summary{Lines: 4, Records: 4, Templates: []logtemplate.Template{
		{Text: "ERROR request <1|2> failed", Level: logtemplate.Error, Count: 2, First: at(0), Last: at(5), Number: 1, Sample: "ERROR request 2 failed"},
		{Text: "INFO request <3|4> fine", Count: 2, First: at(9), Last: at(10), Number: 3, Sample: "INFO request 3 fine"},
	}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

func TestBoundsHold(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	word := func(i int) string { return fmt.Sprintf("%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26) }
	for i := range 3000 {
		fmt.Fprintf(&b, "%s %s %s\n", word(i), word(i*7), word(i*11))
	}
	b.WriteString(strings.Repeat("x", 1<<20) + "\n")
	s := logtemplate.Mine(b.String())
	if len(s.Templates) > 500 || s.Other == 0 || s.Records != 3001 {
		t.Errorf("%d templates, %d others, %d records", len(s.Templates), s.Other, s.Records)
	}
	long := "Traceback (most recent call last):\n" + strings.Repeat("  File \"deep.py\", line 1, in f\n", 5000) + "RecursionError: maximum recursion depth exceeded\nnext"
	recs := logtemplate.Records(long)
	if len(recs) != 2 || recs[0].Lines != 5002 || len(recs[0].Text) > 33<<10 {
		t.Errorf("%d records, first of %d lines", len(recs), recs[0].Lines)
	}
}

func FuzzMine(f *testing.F) {
	for _, s := range []string{"", "a\n\nb", "Traceback (most recent call last):\n  x\nE: y", "panic: x\n\ngoroutine 1 [running]:\nmain.f()\n\t/x:1", `{"level":"error","msg":1}`,
		"2026-11-24T11:00:00Z x", "2026-11-24T", "\xff\xfe 12", "E1124 11:00:00.1 1 x] y\n\ty", "a=1\na=2\na=3\na=4\na=5", "Caused by: x", "{}", "0x 0x1 1=1=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, log string) {
		s := logtemplate.Mine(log)
		counted, lines := s.Other, 0
		for _, tpl := range s.Templates {
			if tpl.Count < 1 || tpl.Text == "" {
				t.Errorf("template without records or text: %+v", tpl)
			}
			if tpl.Last.Before(tpl.First) {
				t.Errorf("last before first: %+v", tpl)
			}
			counted += tpl.Count
		}
		for _, r := range logtemplate.Records(log) {
			lines += r.Lines
		}
		if counted > s.Records || lines != s.Lines || lines > strings.Count(log, "\n")+1 {
			t.Errorf("%d records counted of %d, %d lines of %d", counted, s.Records, s.Lines, lines)
		}
	})
}

func BenchmarkMine(b *testing.B) {
	var log strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&log, "2026-11-24T11:00:00Z INFO step=%d loss=%d request from 10.0.%d.%d took %d ms\n", i, i, i%256, i%250, i)
	}
	text := log.String()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		logtemplate.Mine(text)
	}
}
