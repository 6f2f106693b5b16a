package slack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func drawn(t *testing.T, data string) (image.Image, string) {
	t.Helper()
	e := incident.Evidence{ID: "E1", Tool: "prom_range", Args: json.RawMessage(`{"query":"rate(x[5m]) ≥ 1"}`), Data: json.RawMessage(data)}
	raw, alt, err := chart(seriesOf(e), e)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return img, alt
}

// colored counts the points of a colour in a part of a picture.
func colored(img image.Image, c color.RGBA, in image.Rectangle) int {
	n := 0
	for y := in.Min.Y; y < in.Max.Y; y++ {
		for x := in.Min.X; x < in.Max.X; x++ {
			if r, g, b, _ := img.At(x, y).RGBA(); uint8(r>>8) == c.R && uint8(g>>8) == c.G && uint8(b>>8) == c.B {
				n++
			}
		}
	}
	return n
}

func TestChart(t *testing.T) {
	t.Parallel()
	img, alt := drawn(t, `{"series":[{"labels":{"gpu":"0"},"points":[[1790000000,0],[1790003600,0],[1790007200,100]]},{"labels":{"gpu":"1"},"points":[[1790000000,50],[1790007200,50]]}]}`)
	if want := "2 series from 09-21 14:13 to 09-21 16:13 UTC, between 0 and 100; the first ends at 100"; alt != want {
		t.Errorf("it is described as %q, not %q", alt, want)
	}
	left, right := image.Rect(padLeft, padTop, chartWidth/2, chartHeight-padBottom), image.Rect(chartWidth/2, padTop, chartWidth, chartHeight-padBottom)
	top := image.Rect(chartWidth/2, padTop, chartWidth, padTop+40)
	if n := colored(img, palette()[0], top); n == 0 {
		t.Error("the first series does not rise to the top on the right")
	}
	if n := colored(img, palette()[0], image.Rect(padLeft, padTop, chartWidth/2, chartHeight-padBottom-60)); n != 0 {
		t.Error("the first series is not flat on the left")
	}
	if a, b := colored(img, palette()[1], left), colored(img, palette()[1], right); a < 300 || b < 300 {
		t.Errorf("the second series has %d and %d points", a, b)
	}
	for _, data := range []string{
		`{"series":[{"points":[[1,5],[2,5]]}]}`, `{"series":[{"points":[[1,-1e299],[2,1e299]]}]}`, `{"series":[{"points":[[2,1],[1,0.000001],[3,2]]}]}`,
		`{"series":[` + strings.TrimSuffix(strings.Repeat(`{"points":[[1,1],[2,2]]},`, 50), ",") + `]}`,
	} {
		drawn(t, data)
	}
	for _, data := range []string{"", "null", "[]", `{"series":3}`, `{"series":[{"points":[[1,1]]}]}`, `{"series":[{"points":[[1,1],[1,2]]}]}`, `{"series":[{"points":[["a",1],[2,2]]}]}`} {
		if got := seriesOf(incident.Evidence{Data: json.RawMessage(data)}); len(got) > 0 {
			t.Errorf("%s gives %v", data, got)
		}
	}
	if _, _, err := chart(nil, incident.Evidence{}); err == nil {
		t.Error("a picture of nothing is drawn")
	}
}

func FuzzChart(f *testing.F) {
	f.Add(`{"series":[{"labels":{"a":"b"},"points":[[1,2],[3,4]]}]}`)
	f.Add(`{"series":[{"points":[[1e10,-0],[99999999999,1e-300]]}]}`)
	f.Fuzz(func(t *testing.T, data string) {
		e := incident.Evidence{ID: "E1", Data: json.RawMessage(data)}
		all := seriesOf(e)
		if len(all) == 0 {
			return
		}
		if _, _, err := chart(all, e); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFigure(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 1.5: "1.5", 9999: "9999", 12345: "12.35k", 8.1e10: "81G", -2.5e6: "-2.5M", 0.00012: "0.00012", 3e13: "30T"} {
		if got := figure(v); got != want {
			t.Errorf("%g is written %q, not %q", v, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	text := "header\nnode gpu-7 not ready\nnode gpu-8 ready\n48 devices, 0 fit\n"
	got := quote("Node gpu-7 has 48 devices", text)
	if fmt.Sprint(got) != "[node gpu-7 not ready 48 devices, 0 fit]" {
		t.Errorf("%q is quoted", got)
	}
	if got := quote("It is DNS", text); len(got) > 0 {
		t.Errorf("%q is quoted for nothing", got)
	}
}
