package tui_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
)

// The same conversation in a usual, a large and a narrow window.
func TestScreens(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}} {
		name := fmt.Sprintf("%dx%d", size[0], size[1])
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := apptest.Stage(t, "k8s-service-selector").Work(t)
			v := open(t, size[0], size[1], tui.Config{Service: s, Namespace: "shop", Version: "v1"})
			v.wait("observe")
			v.say("why does service web not answer")
			v.answered()
			v.golden("answer-"+name, v.all)
			v.press("?")
			v.wait("keys and commands")
			v.golden("help-"+name, v.screen)
			v.press("q")
			v.gone("keys and commands")
			v.say("/evidence")
			v.wait("enter opens")
			v.golden("evidence-"+name, v.screen)
			v.press(enter)
			v.wait("cluster test")
			v.press("/", "selector")
			v.wait("/selector")
			v.press(enter)
			v.wait("esc all lines")
			v.golden("look-"+name, v.screen)
			v.press("q")
			v.wait("enter opens")
			v.press("q")
			v.gone("enter opens")
			v.press("/pl")
			v.wait("/plans")
			v.golden("complete-"+name, func() string { // what scrolled by while typing is chance
				_, s, _ := strings.Cut(v.screen(), "› /")
				return s
			})
			v.press("\x15")
			v.gone("/plans")
			v.say("/plan")
			v.wait("decide")
			v.wait("1 plan waits")
			v.golden("plan-"+name, v.all)
			for l := range strings.SplitSeq(v.all(), "\n") {
				if ansi.StringWidth(l) >= size[0] {
					t.Errorf("a line reaches the last column: %q", l)
				}
			}
			v.press(ctrlC)
			v.end()
		})
	}
}

// A window of five rows shows what is asked, what is at work, and where the plan stands.
func TestFiveRows(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 30, 5, tui.Config{Service: s, Namespace: "shop", Question: "why does service web not answer"})
	v.answered()
	v.say("/plan")
	v.wait("tab: decide")
	v.wait("1 plan waits")
	v.golden("five-rows", v.screen)
	v.press(ctrlC)
	v.end()
}

// In full screen the chat owns the window: the transcript scrolls in it, and nothing
// goes to the scrollback.
func TestFullScreen(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 80, 24, tui.Config{Service: s, Namespace: "shop", FullScreen: true, Question: "why does service web not answer"})
	v.wait("/plan makes a plan")
	v.golden("full", v.screen)
	v.press(ctrlO)
	v.wait("0 of 0 pods ready")
	v.press("\x1b[5~", "\x1b[5~", "\x1b[5~")
	v.wait("finds out why workloads misbehave")
	v.say("/full")
	v.until("is inline", func(string) bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return !v.emu.IsAltScreen() && strings.Contains(v.emu.String(), "plan makes a plan")
	})
	v.press(ctrlC)
	v.end()
}

// A window that changes its size while an answer stands loses nothing of it.
func TestResize(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 80, 24, tui.Config{Service: s, Namespace: "shop", FullScreen: true, Question: "why does service web not answer"})
	v.wait("/plan makes a plan")
	for _, size := range [][2]int{{40, 12}, {120, 30}, {20, 5}, {80, 24}} {
		v.resize(size[0], size[1])
		v.until(fmt.Sprintf("fits %v", size), func(s string) bool {
			for l := range strings.SplitSeq(s, "\n") {
				if ansi.StringWidth(l) > size[0] {
					return false
				}
			}
			return strings.Contains(s, "observe")
		})
	}
	v.wait("/plan makes a plan")
	v.press(ctrlC)
	v.end()
}
