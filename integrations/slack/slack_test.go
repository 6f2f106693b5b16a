package slack_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
	"github.com/gumshoe-ai/gumshoe/integrations/slack/slacktest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// People of the workspace.
const (
	ann   = "U0ANN"   // on call, mapped by id
	bob   = "U0BOB"   // on call, mapped by a user group
	carl  = "U0CARL"  // a member who is mapped to nothing that may approve
	eve   = "U0EVE"   // of another workspace
	guest = "U0GUEST" // a guest
	ops   = "C0OPS"
)

// lab is a workspace, a server's core on one store, and replicas of the surface.
type lab struct {
	t     *testing.T
	slack *slacktest.Server
	svc   *service
	cfg   slack.Config
	dir   string
	stop  context.CancelFunc
	wg    sync.WaitGroup
	http  bool
	lease time.Duration
	log   *slog.Logger
	out   *output
}

// output keeps what replicas log, for a test that fails.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func newLab(t *testing.T, change ...func(*lab)) *lab {
	t.Helper()
	dir := t.TempDir()
	st, err := file.Open(file.Config{Dir: filepath.Join(dir, "store"), Sync: func(*os.File) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	srv := slacktest.New(t)
	srv.Redeliver = 200 * time.Millisecond
	srv.TriggerLife = time.Minute // a machine that is busy with other tests is slow
	srv.Rates = true
	srv.AddUser(ann, "ann")
	srv.AddUser(bob, "bob")
	srv.AddUser(carl, "carl")
	srv.AddAnyone(slacktest.User{ID: eve, Name: "eve", TeamID: "T0OTHER", Stranger: true})
	srv.AddAnyone(slacktest.User{ID: guest, Name: "guest", TeamID: slacktest.Team, Guest: true})
	srv.AddGroup("S0SRE", bob)
	srv.AddChannel(ops)
	l := &lab{t: t, slack: srv, svc: newService(st), dir: dir, out: &output{}, lease: 10 * time.Second}
	l.log = slog.New(slog.NewTextHandler(l.out, nil))
	l.cfg = slack.Config{APIURL: srv.APIURL(), BotTokenFile: l.file("bot", slacktest.BotToken), AppTokenFile: l.file("app", slacktest.AppToken), SigningSecretFile: l.file("secret", slacktest.Secret),
		Channels: slack.Channels{Default: ops}, Askers: slack.AskersEveryone,
		Users:      []slack.User{{ID: ann, Name: "ann@example.com", Groups: []string{"sre"}}},
		UserGroups: []slack.UserGroup{{ID: "S0SRE", Groups: []string{"sre", "oncall"}}}}
	for _, f := range change {
		f(l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	l.wg.Go(func() { l.svc.serve(ctx) })
	t.Cleanup(func() {
		cancel()
		l.wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			for _, p := range srv.Problems() {
				t.Errorf("Slack refuses: %s", p)
			}
		}
	})
	return l
}

// file writes a secret and gives its name.
func (l *lab) file(name, text string) string {
	l.t.Helper()
	f := filepath.Join(l.dir, name)
	if err := os.WriteFile(f, []byte(text+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return f
}

// replica is one process.
type replica struct {
	*slack.Surface
	stop context.CancelFunc
	done chan struct{}
	// killed is closed once the boundary said that the process ends.
	killed chan struct{}
}

func (r *replica) end() {
	r.stop()
	<-r.done
}

// start runs a replica. boundary may be nil; when it gives false, the process ends.
func (l *lab) start(boundary func(point string) bool) *replica {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	r := &replica{stop: cancel, done: make(chan struct{}), killed: make(chan struct{})}
	var dead atomic.Bool
	o := slack.Options{Config: l.cfg, Service: l.svc, Journal: l.svc.store, Log: l.log,
		Timing: slack.Timing{Lease: l.lease, Poll: 10 * time.Millisecond, Status: 30 * time.Millisecond, Retry: 20 * time.Millisecond, Tokens: 30 * time.Millisecond}}
	if boundary != nil {
		o.Boundary = func(point string) error {
			if dead.Load() {
				return errKilled
			}
			if !boundary(point) {
				if dead.CompareAndSwap(false, true) {
					close(r.killed)
					cancel()
				}
				return errKilled
			}
			return nil
		}
	}
	s, err := slack.New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Surface = s
	l.wg.Go(func() {
		defer close(r.done)
		if err := s.Run(ctx); err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(r.end)
	if !l.http {
		l.until("a websocket", func() bool { return l.slack.Connections() > 0 })
	}
	return r
}

// until waits for something to be so.
func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.dump()
			l.t.Fatalf("%s: it did not come", what)
		}
	}
}

func (l *lab) dump() {
	l.t.Log(l.out.String())
	for _, m := range l.slack.Channel(ops) {
		for _, x := range l.slack.Thread(ops, m.TS) {
			l.t.Logf("--- %s %s (%d edits)\n%s", x.TS, x.User, x.Edits, x.All())
		}
	}
	for _, u := range []string{ann, bob, carl, eve, guest} {
		for _, e := range l.slack.Ephemerals(u) {
			l.t.Logf("--- only %s: %s", u, e.Text)
		}
	}
}

// message waits for the bot's message of a thread that holds a text.
func (l *lab) message(channel, thread, text string) slacktest.Message {
	l.t.Helper()
	var found slacktest.Message
	l.until("a message with "+text, func() bool {
		for _, m := range l.slack.Own(channel, thread) {
			if strings.Contains(m.All(), text) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// told waits for a sentence that one member sees.
func (l *lab) told(user, text string) {
	l.t.Helper()
	l.until(user+" is told "+text, func() bool {
		for _, e := range l.slack.Ephemerals(user) {
			if strings.Contains(e.Text, text) {
				return true
			}
		}
		return false
	})
}

// count gives how many of the bot's messages of a thread hold a text.
func (l *lab) count(channel, thread, text string) int {
	n := 0
	for _, m := range l.slack.Own(channel, thread) {
		if strings.Contains(m.All(), text) {
			n++
		}
	}
	return n
}

const question = "why is pod train/llama-0 pending?"

// TestFromMentionToApproval is the whole way: a mention, its thread, the answer, a
// plan, a button, and the end of the execution.
func TestFromMentionToApproval(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(l *lab) { l.svc.gate = make(chan struct{}) })
	l.start(nil)
	ts := l.slack.Say(ann, ops, "", slacktest.Call+" "+question)
	status := l.message(ops, ts, "Investigating")
	l.message(ops, ts, "Leading so far")
	l.svc.gate <- struct{}{}
	got := l.message(ops, ts, "Cause")
	if got.TS != status.TS {
		t.Errorf("the answer stands in %s, the status stood in %s: it is edited in place", got.TS, status.TS)
	}
	for _, want := range []string{"confidence 0.97", "asks for an H200", "&lt;!channel&gt; &amp; more", "Chain", "Pod llama-0", "Not seen", "GPU telemetry", "ask for an H100"} {
		if !strings.Contains(got.All(), want) {
			t.Errorf("the answer lacks %q:\n%s", want, got.All())
		}
	}
	l.until("a picture", func() bool { return l.count(ops, ts, "E3.png") == 1 })

	l.slack.Click(ann, got, "Make a plan")
	card := l.message(ops, ts, "waits for approval")
	for _, want := range []string{"no node has an H200", "scale Deployment train/web to 2", "+ replicas: 2", "Hurts", "Undo", "0 of 1 approvals", "<!date^"} {
		if !strings.Contains(card.All(), want) {
			t.Errorf("the card lacks %q:\n%s", want, card.All())
		}
	}
	l.slack.Click(carl, card, "Approve")
	l.told(carl, "not mapped")
	l.slack.Click(bob, card, "Approve")
	l.message(ops, ts, "done and verified")
	l.message(ops, ts, "2 of 2 replicas")
	l.until("the card is frozen", func() bool {
		m := l.message(ops, ts, "1 of 1 approvals")
		return len(m.Buttons()) == 0 && m.TS == card.TS
	})
	l.slack.Press(ann, card, card.Buttons()[0])
	l.told(ann, "is verified")
	if l.svc.says != 1 {
		t.Errorf("%d words were taken, not 1", l.svc.says)
	}
}
