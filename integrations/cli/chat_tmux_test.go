package cli_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/term"

	"github.com/gumshoe-ai/gumshoe/integrations/cli"
)

// asGumshoe makes the test binary the program itself.
const asGumshoe = "GUMSHOE_TEST_AS_PROGRAM"

// program writes a script that runs gumshoe, which is this test binary, and gives its
// path.
func program(t *testing.T) string {
	t.Helper()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "gumshoe")
	text := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' -test.run='^TestChatInTmux$' -- \"$@\"\n", asGumshoe, self)
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// tmux is a server of its own, with one window.
type tmux struct {
	t      *testing.T
	socket string
}

func (m tmux) do(args ...string) string {
	m.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-f", "/dev/null", "-S", m.socket}, args...)...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

// screen gives what is seen, with the scrollback.
func (m tmux) screen() string { return m.do("capture-pane", "-p", "-S", "-") }

func (m tmux) wait(text string) string {
	m.t.Helper()
	for range 600 {
		if s := m.screen(); strings.Contains(s, text) {
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.t.Fatalf("the screen never showed %q:\n%s", text, m.screen())
	return ""
}

func (m tmux) typed(text string) {
	m.t.Helper()
	m.do("send-keys", "-l", text)
	m.wait(text)
}

// serving starts a server of a demonstration as a process, and gives its address.
func serving(t *testing.T, gumshoe string) string {
	t.Helper()
	cmd := exec.Command(gumshoe, "serve", "--demo", "k8s-service-selector", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "XDG_STATE_HOME="+t.TempDir())
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var said strings.Builder
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "gumshoe serves on "); ok {
			go func() { _, _ = io.Copy(io.Discard, errs) }()
			return url
		}
		said.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the server does not serve: %v\n%s", lines.Err(), said.String())
	return ""
}

// The chat in a real terminal: editor, resize, the end in the shell's own scrollback;
// then the script that records the first minute.
func TestChatInTmux(t *testing.T) {
	if os.Getenv(asGumshoe) != "" {
		width, _, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil {
			width = 0
		}
		tty := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
		cli.Quiet()
		os.Exit(cli.Run(t.Context(), flag.Args(), cli.Streams{
			In: os.Stdin, Out: os.Stdout, Err: os.Stderr, InTTY: tty(os.Stdin), OutTTY: tty(os.Stdout), ErrTTY: tty(os.Stderr), Width: width, Getenv: os.Getenv,
		}))
	}
	t.Parallel()
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("GUMSHOE_TMUX") == "required" {
			t.Fatal("tmux is not installed, and GUMSHOE_TMUX says that it is required")
		}
		t.Skip("tmux is not installed")
	}
	gumshoe := program(t)
	t.Run("terminal", func(t *testing.T) {
		t.Parallel()
		dir, err := os.MkdirTemp("", "tmux") // a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		m := tmux{t, filepath.Join(dir, "s")}
		m.do("new-session", "-d", "-x", "100", "-y", "30", fmt.Sprintf("echo before; env -u CI KUBECONFIG=/dev/null XDG_STATE_HOME='%s' EDITOR='sed -i s/pending/silent/' '%s' chat --demo k8s-service-selector; echo ended $?; cat", t.TempDir(), gumshoe))
		t.Cleanup(func() { _ = exec.Command("tmux", "-S", m.socket, "kill-server").Run() })
		m.wait("observe")
		m.typed("why is service web pending")
		m.do("send-keys", "C-g")
		m.wait("› why is service web silent")
		m.do("send-keys", "Enter")
		m.wait("/plan makes a plan")
		m.do("resize-window", "-x", "50", "-y", "15")
		m.typed("/plan")
		m.do("send-keys", "Enter")
		m.wait("tab: decide")
		m.do("resize-window", "-x", "120", "-y", "40")
		m.wait("1 plan waits")
		m.do("send-keys", "C-c")
		got := m.wait("ended 0")
		for _, want := range []string{"before", "› why is service web silent", "The selector of Service shop/web matches no pod", "app: website"} {
			if !strings.Contains(got, want) {
				t.Errorf("the scrollback is without %q:\n%s", want, got)
			}
		}
	})
	t.Run("attached", func(t *testing.T) {
		t.Parallel()
		url := serving(t, gumshoe)
		chat := func(more string) tmux {
			dir, err := os.MkdirTemp("", "tmux")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			m := tmux{t, filepath.Join(dir, "s")}
			m.do("new-session", "-d", "-x", "100", "-y", "30", fmt.Sprintf("env -u CI KUBECONFIG=/dev/null XDG_STATE_HOME='%s' '%s' chat --attach %s %s; echo ended $?; cat", t.TempDir(), gumshoe, url, more))
			t.Cleanup(func() { _ = exec.Command("tmux", "-S", m.socket, "kill-server").Run() })
			return m
		}
		ann := chat("")
		ann.wait("observe")
		ann.typed("why does service shop/web not answer")
		ann.do("send-keys", "Enter")
		ann.wait("/plan makes a plan")
		ann.typed("/plan")
		ann.do("send-keys", "Enter")
		ann.wait("tab: decide")

		// Another terminal goes on with the same conversation, and approves.
		bob := chat("--resume latest")
		bob.wait("The selector of Service shop/web matches no pod")
		bob.wait("1 plan waits")
		bob.do("send-keys", "BTab")
		bob.do("send-keys", "BTab")
		bob.wait("act: you may approve")
		bob.do("send-keys", "Tab")
		bob.wait("y approve")
		for range 60 { // a key right after another, or after the card, is not taken for a word
			if strings.Contains(bob.screen(), "is verified") {
				break
			}
			time.Sleep(time.Second)
			bob.do("send-keys", "y")
		}
		bob.wait("is verified")
		ann.wait("is verified")
		for _, m := range []tmux{ann, bob} {
			m.do("send-keys", "C-u")
			m.do("send-keys", "C-c")
			m.wait("ended 0")
		}
	})
	t.Run("first minute", func(t *testing.T) {
		t.Parallel()
		out := filepath.Join(t.TempDir(), "minute.txt")
		cmd := exec.Command("sh", filepath.Join("..", "..", "docs", "first-minute.sh"), out)
		cmd.Env = append(os.Environ(), "GUMSHOE="+gumshoe)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		raw, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(raw), "\n== ") + 1; n != 5 {
			t.Errorf("%d screens were kept", n)
		}
		for _, want := range []string{"The selector of Service shop/web matches no pod", "E1 kube_network", "+    app: web", "is verified"} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("the recording is without %q:\n%s", want, raw)
			}
		}
	})
}
