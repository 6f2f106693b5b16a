package web

import (
	"fmt"
	"net/http"

	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// statusView says how the server does and what it can look at.
type statusView struct {
	Cluster, Namespace, Mode, Model, Version string
	Pending, Queued, Running                 int
	Executes                                 bool
	Toolsets                                 []toolsetView
	Models                                   []modelView
	Trouble                                  []string
}

type toolsetView struct {
	Name, Reason, Fix string
	State             badge
	Tools             []string
}

type modelView struct {
	Name, Window, Price string
	Default             bool
}

func (s *Web) status(w http.ResponseWriter, r *http.Request) error {
	v := statusView{}
	trouble := func(err error) {
		_, p := s.explain(r.Context(), err)
		v.Trouble = append(v.Trouble, p.Text+" "+p.Fix)
	}
	if st, err := s.svc.Status(r.Context()); err != nil {
		trouble(err)
	} else {
		v.Cluster, v.Namespace, v.Mode, v.Model, v.Version = clean(st.Cluster), clean(st.Namespace), clean(st.Mode), clean(st.Model), clean(st.Version)
		v.Pending, v.Queued, v.Running, v.Executes = st.Pending, st.Queued, st.Running, st.Mode == "executor"
	}
	sets, err := s.svc.Toolsets(r.Context())
	if err != nil {
		trouble(err)
	}
	for _, t := range sets {
		v.Toolsets = append(v.Toolsets, toolsetView{Name: clean(t.Name), Reason: sentence(clean(t.Reason)), Fix: sentence(clean(t.Fix)), State: toolsetState(t), Tools: cleanAll(t.Tools)})
	}
	models, err := s.svc.Models(r.Context())
	if err != nil {
		trouble(err)
	}
	for _, m := range models {
		x := modelView{Name: clean(m.Name), Default: m.Default, Window: "not known", Price: "not known"}
		if m.Window > 0 {
			x.Window = fmt.Sprintf("%d tokens", m.Window)
		}
		if m.InputPrice > 0 || m.OutputPrice > 0 {
			x.Price = fmt.Sprintf("$%.2f in, $%.2f out for a million tokens", m.InputPrice, m.OutputPrice)
		}
		v.Models = append(v.Models, x)
	}
	f := s.frameOf(r, "Status", "status")
	f.Body = v
	return s.show(w, r, http.StatusOK, "status", f)
}

func toolsetState(t session.Toolset) badge {
	switch t.State {
	case "ready":
		return badge{"good", "ready"}
	case "absent", "not run":
		return badge{"off", clean(t.State)}
	case "denied":
		return badge{"warn", "denied"}
	}
	return badge{"bad", clean(t.State)}
}
