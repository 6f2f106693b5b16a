package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// course is a series of an evidence: Unix seconds and values.
type course struct {
	Labels map[string]string `json:"labels"`
	Points [][2]float64      `json:"points"`
}

// mostSeries are drawn in one picture; tools put the most telling first.
const mostSeries = 6

// seriesOf gives the series that the data of an evidence hold, by the form in which
// tools that read metrics give them; none where there are fewer than two points.
func seriesOf(e incident.Evidence) []course {
	if e.Error != "" || len(e.Data) == 0 {
		return nil
	}
	var d struct {
		Series json.RawMessage `json:"series"`
	}
	var all []course
	if json.Unmarshal(e.Data, &d) != nil || json.Unmarshal(d.Series, &all) != nil {
		return nil
	}
	var out []course
	for _, c := range all {
		var kept [][2]float64
		for _, p := range c.Points {
			if p[0] > 0 && p[0] < 1e11 && !math.IsNaN(p[1]) && math.Abs(p[1]) < 1e300 {
				kept = append(kept, p)
			}
		}
		slices.SortStableFunc(kept, func(a, b [2]float64) int { return int(math.Copysign(1, a[0]-b[0])) })
		if len(kept) >= 2 && kept[len(kept)-1][0] > kept[0][0] && len(out) < mostSeries {
			out = append(out, course{c.Labels, kept})
		}
	}
	return out
}

// Size of a picture and of what surrounds the lines, in pixels.
const (
	chartWidth, chartHeight  = 800, 360
	padLeft, padRight        = 84, 16
	padTop, padBottom        = 34, 30
	legendLine, charW, charH = 16, 7, 13
)

// palette tells six lines apart, also for who sees few colours (Okabe and Ito, 2008).
func palette() []color.RGBA {
	return []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}}
}

// chart draws series over time as a PNG, and says in words what it shows.
func chart(all []course, e incident.Evidence) (picture []byte, alt string, err error) {
	if len(all) == 0 {
		return nil, "", errors.New("there are no series to draw")
	}
	t0, t1, lo, hi := all[0].Points[0][0], all[0].Points[0][0], math.Inf(1), math.Inf(-1)
	for _, c := range all {
		for _, p := range c.Points {
			t0, t1, lo, hi = min(t0, p[0]), max(t1, p[0]), min(lo, p[1]), max(hi, p[1])
		}
	}
	low, high := lo, hi
	if lo > 0 && lo < hi/2 {
		low = 0
	}
	if high-low < 1e-12*max(math.Abs(high), 1) {
		pad := max(math.Abs(high)*0.1, 1)
		low, high = low-pad, high+pad
	}
	height := chartHeight + legendLine*len(all)
	img := image.NewRGBA(image.Rect(0, 0, chartWidth, height))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	bottom := chartHeight - padBottom
	x := func(t float64) int { return padLeft + int((t-t0)/(t1-t0)*(chartWidth-padLeft-padRight)) }
	y := func(v float64) int { return bottom - int((v-low)/(high-low)*float64(bottom-padTop)) }
	grid, ink := color.RGBA{225, 225, 225, 255}, color.RGBA{60, 60, 60, 255}
	label(img, padLeft, 20, ink, shortened(title0(e), 95))
	for i := range 5 {
		v := low + (high-low)*float64(i)/4
		segment(img, padLeft, y(v), chartWidth-padRight, y(v), grid, 1)
		s := figure(v)
		label(img, padLeft-8-charW*len(s), y(v)+charH/3, ink, s)
	}
	for i := range 4 {
		t := t0 + (t1-t0)*float64(i)/3
		s := time.Unix(int64(t), 0).UTC().Format("01-02 15:04")
		label(img, min(max(x(t)-charW*len(s)/2, padLeft-20), chartWidth-charW*len(s)-4), chartHeight-8, ink, s)
		segment(img, x(t), padTop, x(t), bottom, grid, 1)
	}
	for i, c := range all {
		col := palette()[i%len(palette())]
		for j := 1; j < len(c.Points); j++ {
			a, b := c.Points[j-1], c.Points[j]
			segment(img, x(a[0]), y(a[1]), x(b[0]), y(b[1]), col, 2)
		}
		at := chartHeight + legendLine*i + 4
		draw.Draw(img, image.Rect(padLeft, at, padLeft+18, at+4), image.NewUniform(col), image.Point{}, draw.Src)
		label(img, padLeft+24, at+8, ink, shortened(series(c.Labels), 95))
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, "", err
	}
	alt = fmt.Sprintf("%d series from %s to %s UTC, between %s and %s; the first ends at %s", len(all),
		time.Unix(int64(t0), 0).UTC().Format("01-02 15:04"), time.Unix(int64(t1), 0).UTC().Format("01-02 15:04"), figure(lo), figure(hi), figure(all[0].Points[len(all[0].Points)-1][1]))
	return b.Bytes(), alt, nil
}

// title0 is what a picture is called: the expression that was asked, or the tool.
func title0(e incident.Evidence) string {
	var args map[string]any
	if json.Unmarshal(e.Args, &args) == nil {
		for _, k := range []string{"expr", "query", "metric"} {
			if s, ok := args[k].(string); ok && s != "" {
				return e.ID + "  " + s
			}
		}
	}
	return e.ID + "  " + e.Tool
}

func series(l map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		if k != "__name__" {
			parts = append(parts, k+"="+l[k])
		}
	}
	return first(strings.Join(parts, " "), first(l["__name__"], "value"))
}

// shortened makes a text fit, and gives '?' for what the font does not have.
func shortened(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x20 || r > 0x7e {
			r = '?'
		}
		if b.Len() == n-1 {
			b.WriteByte('~')
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// figure writes a value with three digits and a unit of size.
func figure(v float64) string {
	a := math.Abs(v)
	for _, u := range []struct {
		at  float64
		say string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if a >= u.at {
			div := u.at
			if u.say == "k" {
				div = 1e3
			}
			return strconv.FormatFloat(v/div, 'g', 4, 64) + u.say
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func label(img *image.RGBA, x, y int, c color.Color, s string) {
	d := font.Drawer{Dst: img, Src: image.NewUniform(c), Face: basicfont.Face7x13, Dot: fixed.P(x, y)}
	d.DrawString(s)
}

// segment draws a line (Bresenham), some pixels thick.
func segment(img *image.RGBA, x0, y0, x1, y1 int, c color.RGBA, thick int) {
	dx, dy := abs(x1-x0), -abs(y1-y0)
	sx, sy := sign(x1-x0), sign(y1-y0)
	for e := dx + dy; ; {
		for i := range thick {
			img.SetRGBA(x0, y0+i, c)
			img.SetRGBA(x0+i, y0, c)
		}
		if x0 == x1 && y0 == y1 {
			return
		}
		if e2 := 2 * e; e2 >= dy {
			if x0 == x1 {
				return
			}
			e += dy
			x0 += sx
		} else {
			if y0 == y1 {
				return
			}
			e += dx
			y0 += sy
		}
	}
}

func abs(n int) int { return max(n, -n) }

func sign(n int) int {
	if n < 0 {
		return -1
	}
	return 1
}
