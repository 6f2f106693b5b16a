package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Every path and method of the document has a route, every route is in the document,
// and the roles are the same.
func TestRoutesAreTheDocuments(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.New(&lame{}, api.Config{}, nil); err == nil {
		t.Fatal("an API without a clock")
	}
	a, err := api.New(&lame{}, api.Config{}, clock)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			documented[method+" "+path] = fmt.Sprint(op.Extensions["x-role"])
		}
	}
	routed := map[string]string{}
	for _, r := range a.Routes() {
		if r.Public {
			t.Errorf("%s %s is public", r.Method, r.Pattern)
		}
		routed[r.Method+" "+r.Pattern] = r.Role.String()
	}
	if !maps.Equal(documented, routed) {
		t.Errorf("document: %v\nroutes: %v", documented, routed)
	}
	if len(routed) < 35 {
		t.Errorf("only %d routes", len(routed))
	}
}

// Every answer that the document names is given by the server, on a real listener,
// before the real service, and is as the document says.
func TestContract(t *testing.T) {
	t.Parallel()
	svc := staged(t)
	r := server(t, svc, api.Config{}, nil)
	c := newContract(t, r)
	c.cancelled() // nobody works on questions yet
	svc.Work(t)
	ann := r.as(t, "ann", nil)

	_, turn := answered(t, ann, session.Ask{Question: incident.Question{Text: "why does service web not answer", Namespace: "shop"}})
	c.doors()
	c.investigations(turn.Run)
	c.plans(svc, turn.Run)
	c.sessions(turn.Run)
	c.others(svc, turn.Run)
	c.refusals()
	c.outputs(svc.Keep)
	c.streams(svc, turn.Run)

	// What is left is the default answer alone.
	for id, s := range c.every() {
		op := c.doc.Paths.Find(s.path).GetOperation(s.method)
		for status := range op.Responses.Map() {
			if status != "default" && !c.seen[id+" "+status] {
				t.Errorf("%s never answered %s, which the document names", id, status)
			}
		}
	}
}

// doors: nobody enters without a token, or with too small a role; what is not there is
// said to be so; parameters that are not known are refused.
func (c *contract) doors() {
	for id, s := range c.every() {
		op := c.doc.Paths.Find(s.path).GetOperation(s.method)
		s.path, s.body = s.real()+query(id), bodyOf(id)
		c.want(http.StatusUnauthorized, "", s)
		s.as = "nobody"
		c.want(http.StatusForbidden, "no role on this server", sent{as: "nobody", method: s.method, path: s.path, body: s.body})
		if role := fmt.Sprint(op.Extensions["x-role"]); role != "viewer" {
			below := map[string]string{"asker": "vic", "approver": "ann", "admin": "bob"}[role]
			c.want(http.StatusForbidden, role, sent{as: below, method: s.method, path: s.path, body: s.body})
		}
		s.as = "root"
		if op.Responses.Status(http.StatusNotFound) != nil && id != "createInvestigation" {
			c.want(http.StatusNotFound, "", s)
		}
		odd := s
		odd.path += map[bool]string{true: "&", false: "?"}[strings.Contains(s.path, "?")] + "nope=1"
		c.want(http.StatusBadRequest, "nope", odd)
		if op.RequestBody != nil {
			wrong := s
			wrong.header, wrong.bad = map[string]string{"Content-Type": "text/plain"}, true
			c.want(http.StatusUnsupportedMediaType, "Content-Type", wrong)
			large := s
			size := map[string]int{"proposePlan": 2 << 20, "noteAlerts": 4 << 20, "followAfter": 4 << 20}[id]
			large.body, large.bad = `{"x":"`+strings.Repeat("x", max(size, 1<<20))+`"}`, true
			c.want(http.StatusRequestEntityTooLarge, "larger", large)
		}
	}
}

func (c *contract) cancelled() {
	const all = "/api/v1/investigations"
	ask := func() wire.Asked {
		return read[wire.Asked](c.t, c.want(201, "", sent{as: "ann", method: "POST", path: all, body: `{"question":"is namespace shop healthy"}`}))
	}
	one, two := ask(), ask()
	c.want(200, `"state":"queued"`, sent{as: "vic", method: "GET", path: all + "/" + one.Turn.ID})
	c.want(404, "", sent{as: "ann", method: "POST", path: all + "/" + one.Session.ID + "/cancel", body: `{"turn":"` + two.Turn.ID + `"}`})
	c.want(400, "another run", sent{as: "ann", method: "POST", path: all + "/" + one.Turn.ID + "/cancel", body: `{"turn":"` + two.Turn.ID + `"}`})
	c.want(200, "taken back by ann", sent{as: "ann", method: "POST", path: all + "/" + one.Turn.ID + "/cancel"})
	c.want(200, "taken back by bob", sent{as: "bob", method: "POST", path: all + "/" + two.Session.ID + "/cancel", body: `{}`})
	c.want(409, "cancelled already", sent{as: "ann", method: "POST", path: all + "/" + two.Session.ID + "/cancel", body: `{"turn":"` + two.Turn.ID + `"}`})
}

func (c *contract) investigations(run string) {
	const all = "/api/v1/investigations"
	c.want(404, noSession, sent{as: "ann", method: "POST", path: all, body: `{"question":"x","session":"` + noSession + `"}`})
	raw := c.want(201, "queued", sent{as: "ann", method: "POST", path: all, header: map[string]string{"Idempotency-Key": "k-9"}, body: `{"question":"is deployment web healthy","namespace":"shop","priority":"low","title":"a look","subjects":[{"kind":"Deployment","namespace":"shop","name":"web"}],"alerts":[{"name":"A","fingerprint":"f1"}],"links":[{"surface":"slack","key":"C9/1"}]}`})
	asked := read[wire.Asked](c.t, raw)
	if again := read[wire.Asked](c.t, c.want(201, "", sent{as: "ann", method: "POST", path: all, header: map[string]string{"Idempotency-Key": "k-9"}, body: `{"question":"another"}`})); again.Turn.ID != asked.Turn.ID {
		c.t.Errorf("the same key gives turn %s after %s", again.Turn.ID, asked.Turn.ID)
	}
	c.want(200, asked.Session.ID, sent{as: "vic", method: "GET", path: all + "/" + asked.Turn.ID})
	more := read[wire.Asked](c.t, c.want(201, "", sent{as: "ann", method: "POST", path: all + "/" + asked.Session.ID + "/questions", body: `{"question":"and the pods"}`}))
	if len(more.Session.Turns) != 2 {
		c.t.Errorf("%d turns", len(more.Session.Turns))
	}
	// A session that is closed takes no question, and one without work none to cancel.
	c.settled(more.Turn.ID)
	c.settled(asked.Turn.ID)
	c.want(409, "nothing to cancel", sent{as: "ann", method: "POST", path: all + "/" + asked.Session.ID + "/cancel"})
	c.want(409, "nothing to cancel", sent{as: "ann", method: "POST", path: all + "/" + asked.Turn.ID + "/cancel", body: `{}`})
	page := read[wire.Investigations](c.t, c.want(200, "next", sent{as: "vic", method: "GET", path: all + "?limit=1&state=answered"}))
	var got []string
	for n := 0; page.Next != "" && n < 20; n++ {
		got = append(got, page.Items[0].Turn.ID)
		page = read[wire.Investigations](c.t, c.want(200, "", sent{as: "vic", method: "GET", path: all + "?limit=1&state=answered&cursor=" + page.Next}))
	}
	got = append(got, page.Items[0].Turn.ID)
	if !slices.Contains(got, run) || len(got) != len(slices.Compact(slices.Sorted(slices.Values(got)))) || len(got) < 3 {
		c.t.Errorf("the pages hold %v", got)
	}
	c.want(400, "cursor", sent{as: "vic", method: "GET", path: all + "?cursor=nonsense"})
	c.want(200, `"items":[]`, sent{as: "vic", method: "GET", path: all + "?owner=vic"})
	c.unchanged(all, all+"/"+run)
	c.want(200, `"outcome":"root_cause"`, sent{as: "vic", method: "GET", path: all + "/" + run})
}

// settled waits until a run has ended and its turn says so.
func (c *contract) settled(run string) {
	c.t.Helper()
	cl := c.r.as(c.t, "vic", nil)
	for n, err := range cl.Follow(c.t.Context(), nil) {
		if err != nil {
			c.t.Fatal(err)
		}
		if n.Type != session.TypeEnded {
			continue
		}
		s, err := cl.Session(c.t.Context(), n.Session)
		if err != nil {
			c.t.Fatal(err)
		}
		if t, ok := s.Turn(run); ok && t.State.Ended() {
			return
		}
	}
}

// unchanged: what has not changed is not sent again.
func (c *contract) unchanged(paths ...string) {
	c.t.Helper()
	for _, p := range paths {
		_, _, h := c.do(sent{as: "root", method: "GET", path: p})
		if tag := h.Get("ETag"); tag == "" {
			c.t.Errorf("%s has no ETag", p)
		} else if raw := c.want(304, "", sent{as: "root", method: "GET", path: p, header: map[string]string{"If-None-Match": `"other", W/` + tag}}); len(raw) > 0 {
			c.t.Errorf("%s: a body with 304", p)
		}
	}
}

func (c *contract) plans(svc stage, run string) {
	const all = "/api/v1/plans"
	post := func(status int, say, as, path, body string) []byte {
		c.t.Helper()
		return c.want(status, say, sent{as: as, method: "POST", path: path, body: body})
	}
	post(400, "no_such", "ann", all, `{"file":"no_such: 1"}`)
	post(422, "", "ann", all, `{"run":"`+run+`","action":"cordon"}`)
	first := read[planner.Record](c.t, post(201, run, "ann", all, `{"run":"`+run+`"}`))
	other := all + "/" + first.Plan.ID
	// Whoever asks for the same is given the plan that stands.
	if again := read[planner.Record](c.t, post(201, "", "ann", all, `{"run":"`+run+`"}`)); again.Plan.ID != first.Plan.ID {
		c.t.Errorf("asked again it is %s, not %s", again.Plan.ID, first.Plan.ID)
	}
	post(200, "not now", "cat", other+"/reject", `{"comment":"not now"}`)
	for _, word := range []string{"approve", "reject", "revoke"} {
		body := map[string]string{"approve": `{"digest":"` + first.Digest + `"}`, "reject": `{"comment":"x"}`, "revoke": ""}[word]
		post(409, "rejected", "bob", other+"/"+word, body)
	}
	p := read[planner.Record](c.t, post(201, run, "ann", all, `{"run":"`+run+`"}`))
	one := all + "/" + p.Plan.ID
	c.want(200, p.Plan.ID, sent{as: "vic", method: "GET", path: "/api/v1/approvals"})
	c.want(200, p.Plan.ID, sent{as: "vic", method: "GET", path: all + "?state=pending"})
	c.want(200, `"items":[]`, sent{as: "vic", method: "GET", path: all + "?state=verified"})
	c.unchanged(one, all, "/api/v1/approvals")
	c.want(200, "", sent{as: "vic", method: "GET", path: one})
	post(200, `"problems":[`, "ann", one+"/rehearse", "")
	post(200, "looks right", "bob", one+"/comment", `{"comment":"looks right"}`)
	post(409, "another plan", "bob", one+"/approve", `{"digest":"sha256:00"}`)
	post(409, "", "bob", one+"/undo", `{"reason":"too early"}`)
	// Where nothing is executed an approval can be taken back.
	here := c.r
	c.r = server(c.t, svc.quiet, api.Config{}, nil)
	post(200, `"state":"approved"`, "cat", one+"/approve", `{"digest":"`+p.Digest+`"}`)
	post(200, `"state":"pending"`, "cat", one+"/revoke", "")
	c.r = here
	post(200, "", "bob", one+"/approve", `{"digest":"`+p.Digest+`","comment":"yes"}`)
	vic := c.r.as(c.t, "vic", nil)
	for n, err := range vic.Follow(c.t.Context(), nil) {
		if err != nil {
			c.t.Fatal(err)
		}
		if n.Plan != p.Plan.ID || n.Type != string(event.PlanReleased) {
			continue
		}
		break
	}
	c.want(200, `"state":"verified"`, sent{as: "vic", method: "GET", path: one})
	post(409, "", "cat", one+"/approve", `{"digest":"`+p.Digest+`"}`)
	post(200, "", "bob", one+"/undo", `{"reason":"it was a test"}`)
}

func (c *contract) sessions(run string) {
	const all = "/api/v1/sessions"
	inv := read[wire.Investigation](c.t, c.want(200, "", sent{as: "vic", method: "GET", path: "/api/v1/investigations/" + run}))
	one := all + "/" + inv.Session.ID
	c.want(200, inv.Session.ID, sent{as: "vic", method: "GET", path: all + "?open=true&text=WEB&owner=ann&source=api"})
	c.want(200, inv.Session.ID, sent{as: "vic", method: "GET", path: all + "?run=" + run})
	c.want(200, `"items":[]`, sent{as: "vic", method: "GET", path: all + "?run=run-none"})
	c.want(200, "", sent{as: "vic", method: "GET", path: all + "/latest"})
	c.unchanged(all, one, one+"/export", "/api/v1/links?surface=slack&key=C9%2F1")
	c.want(200, `"runs":[{`, sent{as: "vic", method: "GET", path: one + "/export"})
	c.want(200, "## Question 1", sent{as: "vic", method: "GET", path: one + "/export?format=markdown"})
	c.want(200, `"model":"offline"`, sent{as: "ann", method: "PUT", path: one + "/model", body: `{"model":"offline"}`})
	c.want(400, "no model", sent{as: "ann", method: "PUT", path: one + "/model", body: `{"model":"none/such"}`})
	c.want(200, "C1/1", sent{as: "ann", method: "POST", path: one + "/links", body: `{"surface":"slack","key":"C1/1"}`})
	c.want(200, inv.Session.ID, sent{as: "vic", method: "GET", path: "/api/v1/links?surface=slack&key=C1%2F1"})
	c.want(200, "", sent{as: "ann", method: "DELETE", path: one + "/links?surface=slack&key=C1%2F1"})
	c.want(200, `"found":false`, sent{as: "vic", method: "GET", path: "/api/v1/links?surface=slack&key=C1%2F1"})
	c.want(200, "GPUDown", sent{as: "ann", method: "POST", path: one + "/alerts", body: `{"alerts":[{"name":"GPUDown","fingerprint":"f1","status":"firing","labels":{"node":"n1"},"startsAt":"2026-11-28T01:00:00Z"}],"resolved":false}`})
	mk := func(text string) session.Session {
		return read[wire.Asked](c.t, c.want(201, "", sent{as: "ann", method: "POST", path: "/api/v1/investigations", body: `{"question":"` + text + `"}`})).Session
	}
	gone, closed := mk("is namespace shop healthy"), mk("is node n1 healthy")
	c.want(200, inv.Session.ID, sent{as: "ann", method: "POST", path: all + "/" + gone.ID + "/merge", body: `{"into":"` + inv.Session.ID + `"}`})
	c.want(200, `"closed":true`, sent{as: "ann", method: "POST", path: all + "/" + closed.ID + "/close"})
	c.settled(gone.Turns[0].ID)
	c.want(400, "", sent{as: "ann", method: "POST", path: "/api/v1/investigations/" + closed.ID + "/questions", body: `{"question":"more"}`})
	c.want(204, "", sent{as: "root", method: "DELETE", path: all + "/" + gone.ID})
	c.want(404, gone.ID, sent{as: "vic", method: "GET", path: all + "/" + gone.ID})
	c.want(400, "named", sent{as: "root", method: "DELETE", path: all + "/latest"})
}

func (c *contract) others(svc stage, run string) {
	c.want(400, "not open", sent{as: "root", method: "POST", path: "/api/v1/breaker/reset", body: bodyOf("resetBreaker")})
	plans := read[wire.Plans](c.t, c.want(200, "", sent{as: "vic", method: "GET", path: "/api/v1/plans"}))
	svc.trip(c.t, plans.Items[0].Plan.ClusterUID)
	c.want(204, "", sent{as: "root", method: "POST", path: "/api/v1/breaker/reset", body: bodyOf("resetBreaker")})
	c.want(400, "reason", sent{as: "root", method: "POST", path: "/api/v1/breaker/reset", body: `{"reason":"  "}`})
	c.want(200, "mended", sent{as: "root", method: "GET", path: "/api/v1/audit"})
	base := "/api/v1"
	ev := read[wire.Evidence](c.t, c.want(200, "", sent{as: "vic", method: "GET", path: base + "/runs/" + run + "/evidence"}))
	if len(ev.Items) == 0 {
		c.t.Fatal("no evidence")
	}
	c.want(200, ev.Items[0].Tool, sent{as: "vic", method: "GET", path: base + "/runs/" + run + "/evidence/" + ev.Items[0].ID})
	c.want(404, "E9999", sent{as: "vic", method: "GET", path: base + "/runs/" + run + "/evidence/E9999"})
	c.want(200, "", sent{as: "vic", method: "GET", path: base + "/runs/" + run})
	c.want(200, `"name":"web"`, sent{as: "vic", method: "GET", path: base + "/objects?prefix=we&limit=5"})
	c.want(400, "limit", sent{as: "vic", method: "GET", path: base + "/objects?limit=0", bad: true})
	c.want(200, "offline", sent{as: "vic", method: "GET", path: base + "/models"})
	c.want(200, "kube", sent{as: "vic", method: "GET", path: base + "/toolsets"})
	c.want(200, `"mode":"executor"`, sent{as: "vic", method: "GET", path: base + "/status"})
	c.want(200, "openapi: 3.1", sent{as: "vic", method: "GET", path: base + "/openapi.yaml"})
	c.want(200, `"ok":true`, sent{as: "root", method: "GET", path: base + "/audit/verify"})
	first := read[wire.Trail](c.t, c.want(200, "", sent{as: "root", method: "GET", path: base + "/audit?limit=2"}))
	if len(first.Items) != 2 || first.Next != 2 {
		c.t.Errorf("a page of two: %d, next %d", len(first.Items), first.Next)
	}
	c.want(200, `"seq":3`, sent{as: "root", method: "GET", path: base + "/audit?limit=1&after=2"})
	paths := []string{"/runs/" + run, "/runs/" + run + "/evidence", "/runs/" + run + "/evidence/E1", "/objects", "/models", "/toolsets", "/status", "/openapi.yaml", "/audit", "/audit/verify"}
	for i := range paths {
		paths[i] = base + paths[i]
	}
	c.unchanged(paths...)
}

// outputs: texts, and what is none.
func (c *contract) outputs(keep *app.Keeper) {
	for raw, media := range map[string]string{"line 1\nline 2\n": "text/plain; charset=utf-8", "\xff\xfe\x00": "application/octet-stream"} {
		sum := sha256.Sum256([]byte(raw))
		digest := "sha256:" + hex.EncodeToString(sum[:])
		if err := keep.Spill.Put(digest, []byte(raw)); err != nil {
			c.t.Fatal(err)
		}
		if status, got, h := c.do(sent{as: "vic", method: "GET", path: "/api/v1/outputs/" + digest}); status != 200 || string(got) != raw || h.Get("Content-Type") != media {
			c.t.Errorf("%s: %d %q as %s", digest, status, got, h.Get("Content-Type"))
		}
		c.unchanged("/api/v1/outputs/" + digest)
	}
}

// refusals: bodies that the document refuses are refused by the server too.
func (c *contract) refusals() {
	const all = "/api/v1/investigations"
	for body, say := range map[string]string{
		`{}`:                                   "nothing is asked",
		`{"question":"x","verdict":1}`:         "verdict",
		`{"question":1}`:                       "question",
		`{"question":""}`:                      "question",
		`{"question":null}`:                    "question",
		`{"question":"x","priority":"urgent"}`: "priority \\\"urgent\\\"",
		`{"question":"x","subjects":[{}]}`:     "subjects[0].kind",
		`{"question":"x","source":"slack"}`:    "source",
		`{"alert":{}}`:                         "alert.name",
		`{"question":"` + strings.Repeat("x", 8001) + `"}`: "8001 characters",
		`[]`:  "the body",
		`"x"`: "the body",
	} {
		c.want(400, say, sent{as: "ann", method: "POST", path: all, body: body, bad: true})
	}
	// What the document cannot say, or a proxy would not see.
	for body, say := range map[string]string{
		`{"question":"x"}{}`:              "follows",
		`{"question":"x","question":"y"}`: "duplicate field",
		`{"question":"x"`:                 "no JSON",
		"{\"question\":\"\xff\"}":         "UTF-8",
		`{"question":"x","Question":"y"}`: "Question",
		`{"question":"   "}`:              "nothing is asked",
		strings.Repeat("[", 40):           "nested deeper",
		" ":                               "is empty",
	} {
		got, raw, _ := c.loose("POST", all, body, nil)
		if got != 400 || !strings.Contains(raw, say) {
			c.t.Errorf("%.60q: %d %s, want %q", body, got, raw, say)
		}
	}
	for name, tc := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
		say                string
	}{
		"a body where none is read":    {"GET", all, "{}", nil, 400, "none is read"},
		"a compressed body":            {"POST", all, "x", map[string]string{"Content-Encoding": "gzip"}, 415, "gzip"},
		"another charset":              {"POST", all, `{}`, map[string]string{"Content-Type": "application/json; charset=latin1"}, 415, "latin1"},
		"a parameter twice":            {"GET", all + "?text=a&text=b", "", nil, 400, "2 times"},
		"a broken escape":              {"GET", all + "?text=%zz", "", nil, 400, "query"},
		"a parameter of no UTF-8":      {"GET", all + "?text=%ff", "", nil, 400, "UTF-8"},
		"a control character":          {"GET", all + "?text=%00", "", nil, 400, "control"},
		"an id of something else":      {"GET", all + "/plan-00", "", nil, 400, "run-"},
		"an id with a dot":             {"GET", all + "/s-1.2", "", nil, 400, "no id"},
		"a key that is no ASCII":       {"POST", all, `{"question":"x"}`, map[string]string{"Idempotency-Key": "schlüssel"}, 400, "ASCII"},
		"a key that is too long":       {"POST", all, `{"question":"x"}`, map[string]string{"Idempotency-Key": strings.Repeat("k", 201)}, 400, "200 characters"},
		"a key where it means nothing": {"POST", "/api/v1/plans", `{"run":"run-1"}`, map[string]string{"Idempotency-Key": "k"}, 400, "only questions"},
		"a digest that is none":        {"GET", "/api/v1/outputs/sha256:zz", "", nil, 400, "64 hex"},
		"an id of an event":            {"GET", "/api/v1/runs/" + noRun + "/events", "", map[string]string{"Last-Event-ID": "x"}, 400, "Last-Event-ID"},
		"neither run nor file":         {"POST", "/api/v1/plans", `{"reason":"x"}`, nil, 400, "run"},
		"a file with an action":        {"POST", "/api/v1/plans", `{"file":"x","action":"cordon"}`, nil, 400, "action"},
		"breaking glass in silence":    {"POST", "/api/v1/plans", `{"run":"run-1","break_glass":true}`, nil, 400, "reason"},
		"a subject of another kind":    {"POST", "/api/v1/events", `{"after":{"run.x":1}}`, nil, 400, "run.x"},
		"a method that is not served":  {"PATCH", all, "", nil, 405, "PATCH"},
		"a path that is not there":     {"GET", "/api/v1/nowhere", "", nil, 404, "nowhere"},
	} {
		got, raw, _ := c.loose(tc.method, tc.path, tc.body, tc.header)
		if got != tc.status || !strings.Contains(raw, tc.say) {
			c.t.Errorf("%s: %d %s, want %d with %q", name, got, raw, tc.status, tc.say)
		}
	}
}

// loose sends what cannot be held against the document.
func (c *contract) loose(method, path, body string, header map[string]string) (int, string, http.Header) {
	c.t.Helper()
	q := c.r.request(c.t, "bob", method, path)
	if body != "" {
		q.Body, q.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		q.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		q.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(raw), resp.Header
}

// lame is a service of which nothing is asked.
type lame struct{ api.Service }

func clock() time.Time { return time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC) }
