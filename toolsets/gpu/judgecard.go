package gpu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// judge judges the cards of a node that pass want, each beside its peers.
func (v *verdict) judge(m *machine, want func(*card) bool) {
	v.judgeXIDs(m, want)
	for _, c := range m.cards {
		if !want(c) {
			continue
		}
		v.presence(m, c)
		v.memory(m, c)
		v.clocks(m, c)
		v.heat(m, c)
		v.pcie(m, c)
		v.nvlink(m, c)
		v.driver(c)
	}
}

// everyCard passes all cards.
func everyCard(*card) bool { return true }

// peers are the other cards of the node of the same model.
func (m *machine) peers(c *card) []*card {
	var out []*card
	for _, o := range m.cards {
		if o != c && (o.model == c.model || o.model == "" || c.model == "") {
			out = append(out, o)
		}
	}
	return out
}

// has reports whether a code stands against a card already.
func (v *verdict) stands(c *card, codes ...string) bool {
	return slices.ContainsFunc(v.findings, func(f incident.Finding) bool {
		return f.Subject == c.ref && f.Role == incident.Fault && slices.Contains(codes, f.Code)
	})
}

// presence finds the card whose series ended while those of its neighbours go on:
// a GPU that is lost is not measured any more.
func (v *verdict) presence(m *machine, c *card) {
	if !m.tel.seen() || v.stands(c, "gpu.fell_off_bus") {
		return
	}
	live := 0
	for _, o := range m.cards {
		if up, known := o.alive(m); o != c && known && up && len(o.series) > 0 {
			live++
		}
	}
	if live == 0 {
		return
	}
	if last := c.ended(m.tel.to); !last.IsZero() {
		v.fault(c, incident.Finding{Code: "gpu.series_vanished", Confidence: 0.8, FirstSeen: last,
			Message: fmt.Sprintf("%s is not measured since %s, while %d other GPUs of the node still are: the driver lost it, or it was taken away", c.label(), clock(last), live),
			Params:  params("since", clock(last), "others", strconv.Itoa(live))})
		return
	}
	if len(c.series) == 0 && c.published && c.uuid != "" && len(c.parts) == 0 {
		v.fault(c, incident.Finding{Code: "gpu.series_vanished", Confidence: 0.6, Severity: incident.Warning,
			Message: fmt.Sprintf("%s is offered by its driver and has no series in the last %s, while %d other GPUs of the node have", c.label(), span(window), live),
			Params:  params("others", strconv.Itoa(live))})
	}
}

// memory judges errors of the card's memory and what the remapping makes of them.
func (v *verdict) memory(m *machine, c *card) {
	if up, ok := c.growth("gpu.ecc_dbe_volatile", m.tel.to, window); ok && up > 0 && !v.stands(c, "gpu.memory_uncorrectable", "gpu.memory_contained") {
		v.fault(c, incident.Finding{Code: "gpu.memory_uncorrectable", Confidence: 0.88,
			Message: fmt.Sprintf("%s: %.0f new uncorrectable memory errors in the last %s (DCGM_FI_DEV_ECC_DBE_VOL_TOTAL)", c.label(), up, span(window)), Params: params("errors", fmt.Sprintf("%.0f", up))})
	}
	l := v.t.limits["sbe"]
	if up, ok := c.growth("gpu.ecc_sbe_volatile", m.tel.to, l.window()); ok && up > l.Value {
		v.find(incident.Finding{Code: "gpu.ecc_corrected", Subject: c.ref, Message: fmt.Sprintf("%s: %.0f corrected memory errors in the last hour; they need no action by themselves", c.label(), up), Params: params("errors", fmt.Sprintf("%.0f", up))})
	}
	failed, _ := c.latest("gpu.row_remap_failure", m.tel.to)
	pending, _ := c.latest("gpu.row_remap_pending", m.tel.to)
	from := "DCGM"
	if g := c.nvml; g != nil && g.Remap != nil {
		from = "NVML"
		failed, pending = max(failed, float64(b2i(g.Remap.Failed))), max(pending, float64(b2i(g.Remap.Pending)))
	}
	switch {
	case failed >= 1:
		v.fault(c, incident.Finding{Code: "gpu.row_remap_failed", Confidence: 0.9,
			Message: fmt.Sprintf("%s: a memory row could not be remapped (%s): a candidate for replacement", c.label(), from), Params: params("from", from)})
	case pending >= 1:
		v.unfelt(c, incident.Finding{Code: "gpu.row_remap_pending", Confidence: 0.6,
			Message: fmt.Sprintf("%s: a memory row waits to be remapped until the GPU is reset (%s); work may go on elsewhere in its memory", c.label(), from), Params: params("from", from)})
	}
	if g := c.nvml; g != nil && g.ECC != nil && g.ECC.SRAMThreshold != nil && *g.ECC.SRAMThreshold {
		v.fault(c, incident.Finding{Code: "gpu.sram_threshold", Confidence: 0.85,
			Message: fmt.Sprintf("%s: the threshold of uncorrectable SRAM errors is passed (NVML): field diagnostics, then replacement", c.label())})
	}
	if g := c.nvml; g != nil && g.Remap != nil && g.Remap.Banks != nil && g.Remap.Banks.None+g.Remap.Banks.Low > 0 {
		v.line("%s: %d memory banks have few spare rows left, %d none", c.label(), g.Remap.Banks.Low, g.Remap.Banks.None)
	}
}

// Bits of the clock event reasons (nvml.h).
const (
	// bitApplication is set where somebody fixed the clocks.
	bitApplication = 0x2
	bitPowerCap    = 0x4
	bitHW          = 0x8
	bitThermal     = 0x20
	bitHWThermal   = 0x40
	bitBrake       = 0x80
	bitBoardLimit  = 0x200
	bitReliable    = 0x400
)

// clocks judges what holds the clocks down, under load only.
func (v *verdict) clocks(m *machine, c *card) {
	load, known := c.load(m.tel.to, recent)
	if g := c.nvml; !known && g != nil && g.UtilGPU != nil {
		load, known = *g.UtilGPU, true
	}
	if !known || load < v.t.limits["load"].Value {
		return
	}
	share, from := c.reasons(m.tel.to)
	need := v.t.limits["throttled"].Value
	beside := v.beside(m, c)
	mild := func(s float64) (incident.Severity, float64) {
		if s >= need {
			return incident.Critical, 0.87
		}
		return incident.Warning, 0.6
	}
	say := func(code string, s float64, why string, bits string) {
		sev, conf := mild(s)
		v.fault(c, incident.Finding{Code: code, Severity: sev, Confidence: conf,
			Message: fmt.Sprintf("%s: clocks held down by %s in %.0f %% of the samples of the last %s (%s) at %.0f %% load%s", c.label(), why, s*100, span(recent), bits, load, beside),
			Params:  params("share", fmt.Sprintf("%.0f %%", s*100), "load", fmt.Sprintf("%.0f %%", load), "reason", why)})
	}
	const least = 0.2
	thermal, brake, hw := max(share[bitThermal], share[bitHWThermal]), share[bitBrake], share[bitHW]
	switch {
	case thermal >= least:
		say("gpu.throttled_thermal", thermal, "heat", from+", bits 0x20 and 0x40")
	case brake >= least:
		say("gpu.throttled_power_brake", brake, "an external power brake", from+", bit 0x80")
	case hw >= least:
		say("gpu.throttled_hardware", hw, "a hardware slowdown whose reason is not told", from+", bit 0x8")
	case max(share[bitReliable], share[bitBoardLimit]) >= least:
		say("gpu.throttled_hardware", max(share[bitReliable], share[bitBoardLimit]), "a limit of the board", from+", bits 0x200 and 0x400")
	case share[bitPowerCap] >= need:
		v.find(incident.Finding{Code: "gpu.power_capped", Subject: c.ref,
			Message: fmt.Sprintf("%s: at its power limit in %.0f %% of the samples of the last %s at %.0f %% load%s; normal under full load", c.label(), share[bitPowerCap]*100, span(recent), load, beside)})
	}
	l := v.t.limits["violation"]
	if from == "" || len(share) == 0 {
		// Without the mask the counters of the time held down tell.
		if up, ok := c.growth("gpu.thermal_violation", m.tel.to, l.window()); ok {
			if s := up / float64(l.window()); s >= l.Value {
				say("gpu.throttled_thermal", s, "heat", "DCGM_FI_DEV_THERMAL_VIOLATION, read as nanoseconds")
			}
		}
	}
	if g := c.nvml; g != nil && g.PowerLimit != nil && g.PowerDefault != nil && *g.PowerLimit < *g.PowerDefault*9/10 {
		v.fault(c, incident.Finding{Code: "gpu.power_limit_lowered", Confidence: 0.6,
			Message: fmt.Sprintf("%s: its power limit is %d W, the default is %d W (NVML)", c.label(), *g.PowerLimit/1000, *g.PowerDefault/1000), Params: params("limit", fmt.Sprint(*g.PowerLimit/1000), "default", fmt.Sprint(*g.PowerDefault/1000))})
	}
}

// reasons gives, by bit, the share of the recent samples in which it was set.
func (c *card) reasons(to time.Time) (map[int]float64, string) {
	out := map[int]float64{}
	points := c.points("gpu.clock_event_reasons", to, recent)
	for _, p := range points {
		if p.Value < 0 || p.Value > 1<<20 {
			continue
		}
		for bit := 1; bit <= 1<<11; bit <<= 1 {
			if int(p.Value)&bit != 0 {
				out[bit] += 1 / float64(len(points))
			}
		}
	}
	if len(points) > 0 {
		return out, "clock event reasons"
	}
	// Without the mask, the exporter's count of clock events in its window names them.
	for _, s := range c.series["gpu.clock_events"] {
		word := strings.ToLower(s.Labels["clock_event"])
		bit := 0
		switch {
		case strings.Contains(word, "thermal"):
			bit = bitHWThermal
		case strings.Contains(word, "brake"):
			bit = bitBrake
		case strings.Contains(word, "hw_slowdown"):
			bit = bitHW
		case strings.Contains(word, "power_cap"):
			bit = bitPowerCap
		default:
			continue
		}
		n, set := 0.0, 0.0
		for _, p := range s.Points {
			if p.At.After(to.Add(-recent)) {
				n++
				set += float64(b2i(p.Value > 0))
			}
		}
		if n > 0 {
			out[bit] = max(out[bit], set/n)
		}
	}
	if len(out) > 0 {
		return out, "DCGM_EXP_CLOCK_EVENTS_COUNT"
	}
	if g := c.nvml; g != nil && g.EventReasons != nil {
		for bit := 1; bit <= 1<<11; bit <<= 1 {
			if *g.EventReasons&uint64(bit) != 0 {
				out[bit] = 1
			}
		}
		return out, "NVML clock event reasons, one look"
	}
	return out, ""
}

// beside compares the card's clock with that of its loaded peers.
func (v *verdict) beside(m *machine, c *card) string {
	own, ok := c.median("gpu.sm_clock", m.tel.to, recent)
	if !ok {
		return ""
	}
	var others []float64
	for _, o := range m.peers(c) {
		if l, ok := o.load(m.tel.to, recent); ok && l >= v.t.limits["load"].Value {
			if clk, ok := o.median("gpu.sm_clock", m.tel.to, recent); ok {
				others = append(others, clk)
			}
		}
	}
	if len(others) == 0 {
		return fmt.Sprintf(", SM clock %.0f MHz", own)
	}
	slices.Sort(others)
	return fmt.Sprintf(", SM clock %.0f MHz against %.0f MHz of %d loaded peers on the node", own, others[len(others)/2], len(others))
}

// heat judges temperatures that throttling does not tell of yet.
func (v *verdict) heat(m *machine, c *card) {
	if v.stands(c, "gpu.throttled_thermal") {
		return
	}
	for _, one := range []struct{ limit, signal, what string }{{"temperature", "gpu.temperature", "temperature"}, {"memory_temperature", "gpu.memory_temperature", "memory temperature"}} {
		l := v.t.limits[one.limit]
		if at, ok := c.median(one.signal, m.tel.to, l.window()); ok && at >= l.Value {
			v.fault(c, incident.Finding{Code: "gpu.overheating", Confidence: 0.65,
				Message: fmt.Sprintf("%s: %s %.0f °C over the last %d minutes, at or above %.0f °C (%s)", c.label(), one.what, at, l.Minutes, l.Value, l.Source),
				Params:  params("celsius", fmt.Sprintf("%.0f", at), "limit", fmt.Sprintf("%.0f", l.Value))})
		}
	}
	if g := c.nvml; g != nil && g.Temperature != nil && g.Slowdown != nil && *g.Temperature >= *g.Slowdown {
		v.fault(c, incident.Finding{Code: "gpu.overheating", Confidence: 0.75,
			Message: fmt.Sprintf("%s: %.0f °C, at or above its own slowdown temperature of %.0f °C (NVML)", c.label(), *g.Temperature, *g.Slowdown),
			Params:  params("celsius", fmt.Sprintf("%.0f", *g.Temperature), "limit", fmt.Sprintf("%.0f", *g.Slowdown))})
	}
}

// pcie judges the link to the host: its width against what it can be, and replays
// against the peers.
func (v *verdict) pcie(m *machine, c *card) {
	width, ok := c.latest("gpu.pcie_link_width", m.tel.to)
	most, has := c.latest("gpu.pcie_link_width_max", m.tel.to)
	from := "the link can be x%.0f"
	if g := c.nvml; g != nil && g.PCIe != nil && g.PCIe.Width != nil && g.PCIe.WidthMax != nil {
		width, most, ok, has = float64(*g.PCIe.Width), float64(*g.PCIe.WidthMax), true, true
		from = "the link can be x%.0f (NVML)"
	}
	if ok && !has {
		var others []float64
		for _, o := range m.peers(c) {
			if w, ok := o.latest("gpu.pcie_link_width", m.tel.to); ok {
				others = append(others, w)
			}
		}
		// Most of the peers must agree on the width: one other GPU proves nothing.
		slices.Sort(others)
		if n := len(others); n >= 2 && others[n/2] == others[n-1] {
			most, has, from = others[n/2], true, "its peers on the node have x%.0f"
		}
	}
	if ok && has && width > 0 && width < most {
		v.fault(c, incident.Finding{Code: "gpu.pcie_degraded", Confidence: 0.78,
			Message: fmt.Sprintf("%s: its PCIe link is x%.0f, %s", c.label(), width, fmt.Sprintf(from, most)), Params: params("width", fmt.Sprintf("x%.0f", width), "expected", fmt.Sprintf("x%.0f", most))})
	}
	l := v.t.limits["replays"]
	up, ok := c.growth("gpu.pcie_replays", m.tel.to, l.window())
	if !ok || up < l.Value {
		return
	}
	worst := 0.0
	for _, o := range m.peers(c) {
		if w, ok := o.growth("gpu.pcie_replays", m.tel.to, l.window()); ok {
			worst = max(worst, w)
		}
	}
	if up < 5*worst {
		return // all alike: the platform, not this link
	}
	v.fault(c, incident.Finding{Code: "gpu.pcie_replays", Confidence: 0.6,
		Message: fmt.Sprintf("%s: %.0f PCIe replays in the last hour, at most %.0f on its peers; threshold %.0f (%s)", c.label(), up, worst, l.Value, l.Source), Params: params("replays", fmt.Sprintf("%.0f", up))})
}

// nvlink judges the links between GPUs and the fabric behind them.
func (v *verdict) nvlink(m *machine, c *card) {
	if g := c.nvml; g != nil && len(g.NVLink) > 0 {
		v.links(m, c, g)
	}
	if !v.stands(c, "gpu.nvlink_error") {
		if up, ok := c.growth("gpu.nvlink_recovery", m.tel.to, window); ok && up > 0 {
			v.fault(c, incident.Finding{Code: "gpu.nvlink_error", Severity: incident.Warning, Confidence: 0.7,
				Message: fmt.Sprintf("%s: %.0f NVLink recoveries in the last %s (DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL)", c.label(), up, span(window)), Params: params("errors", fmt.Sprintf("%.0f", up))})
		}
		l := v.t.limits["nvlink_errors"]
		for _, signal := range []string{"gpu.nvlink_crc_flit", "gpu.nvlink_crc_data", "gpu.nvlink_replay", "gpu.nvlink_errors"} {
			up, ok := c.growth(signal, m.tel.to, l.window())
			if !ok || up < l.Value {
				continue
			}
			worst := 0.0
			for _, o := range m.peers(c) {
				w, _ := o.growth(signal, m.tel.to, l.window())
				worst = max(worst, w)
			}
			if up >= 5*worst {
				v.fault(c, incident.Finding{Code: "gpu.nvlink_error", Severity: incident.Warning, Confidence: 0.65,
					Message: fmt.Sprintf("%s: %.0f NVLink errors in the last hour (%s), at most %.0f on its peers", c.label(), up, signal, worst), Params: params("errors", fmt.Sprintf("%.0f", up))})
			}
		}
	}
	v.silent(m, c)
	// dcgmFabricManagerStatus_t of dcgm_structs.h.
	if s, ok := c.latest("gpu.fabric_manager_status", m.tel.to); ok && (s == 1 || s == 2 || s == 4) {
		word := map[float64]string{1: "not started", 2: "in progress", 4: "failed"}[s]
		v.fabric(c, word, "DCGM_FI_DEV_FABRIC_MANAGER_STATUS")
	}
	if g := c.nvml; g != nil && g.Fabric != nil && (g.Fabric.State == nvml.FabricNotStarted || g.Fabric.State == nvml.FabricInProgress) {
		v.fabric(c, g.Fabric.State, "NVML")
	}
}

func (v *verdict) fabric(c *card, state, from string) {
	v.fault(c, incident.Finding{Code: "gpu.fabric_not_ready", Confidence: 0.85,
		Message: fmt.Sprintf("%s: its registration with the NVSwitch fabric is %s (%s); CUDA fails with error 802 until it completes", c.label(), state, from), Params: params("state", state)})
}

// links reads the state of each link as NVML tells it, against the peers.
func (v *verdict) links(m *machine, c *card, g *nvml.GPU) {
	count := func(g *nvml.GPU) (active int, down []string) {
		for _, l := range g.NVLink {
			if l.Active {
				active++
			} else {
				down = append(down, strconv.Itoa(l.Link))
			}
		}
		return active, down
	}
	active, down := count(g)
	most := 0
	for _, o := range m.peers(c) {
		if o.nvml != nil {
			a, _ := count(o.nvml)
			most = max(most, a)
		}
	}
	if len(down) == 0 || most == 0 && active == 0 {
		return // none at all on the node: a board without bridges
	}
	if active < most || active > 0 && most == 0 {
		v.fault(c, incident.Finding{Code: "gpu.nvlink_down", Confidence: 0.88,
			Message: fmt.Sprintf("%s: %d of its %d NVLinks are down (%s), up to %d are up on its peers (NVML)", c.label(), len(down), len(g.NVLink), strings.Join(down, ", "), most), Params: params("down", strconv.Itoa(len(down)), "links", strings.Join(down, ", "))})
	}
}

// silent finds the card without NVLink traffic while the others of the same pod
// exchange data.
func (v *verdict) silent(m *machine, c *card) {
	own, ok := c.median("gpu.nvlink_bandwidth", m.tel.to, recent)
	if !ok || own > 0 || v.stands(c, "gpu.nvlink_down", "gpu.nvlink_error") {
		return
	}
	if l, ok := c.load(m.tel.to, recent); !ok || l < v.t.limits["load"].Value {
		return
	}
	busy := 0
	for _, o := range m.peers(c) {
		bw, ok := o.median("gpu.nvlink_bandwidth", m.tel.to, recent)
		if ok && bw > 0 && shareHolder(c, o) {
			busy++
		}
	}
	if busy >= 2 {
		v.fault(c, incident.Finding{Code: "gpu.nvlink_down", Severity: incident.Warning, Confidence: 0.65,
			Message: fmt.Sprintf("%s: no NVLink traffic in the last %s, while %d other GPUs of the same pod exchange data", c.label(), span(recent), busy), Params: params("others", strconv.Itoa(busy))})
	}
}

func shareHolder(a, b *card) bool {
	return slices.ContainsFunc(a.holders, func(h holder) bool { return b.heldBy(h.pod) })
}

// driver reads what the driver itself says of the card.
func (v *verdict) driver(c *card) {
	g := c.nvml
	if g == nil {
		return
	}
	if g.Lost && !v.stands(c, "gpu.fell_off_bus") {
		v.fault(c, incident.Finding{Code: "gpu.fell_off_bus", Confidence: 0.95, Message: fmt.Sprintf("%s: the driver has lost it (NVML: GPU_IS_LOST)", c.label()),
			Params: params("xid", strconv.Itoa(xid.OffTheBus), "action", "reboot the machine; redeploy a virtual one")})
	}
	if g.Recovery != nil && *g.Recovery > 0 {
		a, ok := v.t.table.ActionOf(*g.Recovery)
		name := a.Name
		if !ok {
			name = "action " + strconv.Itoa(*g.Recovery)
		}
		v.driverSays(c, name, "NVML field 230", time.Time{})
	}
	if g.MIG != nil && g.MIG.Enabled != g.MIG.Pending {
		v.fault(c, incident.Finding{Code: "gpu.mig_pending", Confidence: 0.7,
			Message: fmt.Sprintf("%s: MIG is %s and will be %s after a reset (NVML)", c.label(), onOff(g.MIG.Enabled), onOff(g.MIG.Pending))})
	}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// span writes a length of time as findings show it.
func span(d time.Duration) string {
	switch {
	case d >= 2*time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d == time.Hour:
		return "hour"
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}
