package triage

import (
	"maps"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

func TestReverts(t *testing.T) {
	t.Parallel()
	pod, other := ref("Pod ml/web-1"), ref("Pod ml/web-2")
	serves := func(more map[string]string) incident.Finding {
		p := map[string]string{"kind": "Deployment", "namespace": "ml", "name": "web", "revision": "4", "available": "2"}
		maps.Copy(p, more)
		return incident.Finding{Code: earlierServes, Role: incident.Context, Subject: pod, Params: p, Evidence: []string{"E2"}}
	}
	image := serves(map[string]string{"images": "side,app", "containers": "differ", "objects": "ConfigMap/web-v5,Image/reg/app:2"})
	place := serves(map[string]string{"scheduling": "differ"})
	tests := map[string]struct {
		says      incident.Finding
		revert    string
		subject   incident.Ref
		container string
		want      bool
	}{
		"the image of the container differs":        {image, runbooks.RevertImage, pod, "app", true},
		"the image of another container differs":    {image, runbooks.RevertImage, pod, "third", false},
		"no container is named":                     {image, runbooks.RevertImage, pod, "", false},
		"what runs differs":                         {image, runbooks.RevertContainers, pod, "app", true},
		"only where it may run differs":             {place, runbooks.RevertContainers, pod, "app", false},
		"where it may run differs":                  {place, runbooks.RevertScheduling, pod, "", true},
		"only what runs differs":                    {image, runbooks.RevertScheduling, pod, "", false},
		"another pod":                               {image, runbooks.RevertContainers, other, "app", false},
		"the runbook does not say where it is from": {image, "", pod, "app", false},
		"an object that only the newest names":      {image, runbooks.RevertObjects, ref("ConfigMap ml/web-v5"), "", true},
		"an object of another namespace":            {image, runbooks.RevertObjects, ref("ConfigMap web/web-v5"), "", false},
		"an object that both name":                  {image, runbooks.RevertObjects, ref("ConfigMap ml/common"), "", false},
		"an image that only the newest names":       {image, runbooks.RevertObjects, ref("Image reg/app:2"), "", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &session{findings: []incident.Finding{tt.says}}
			c := &candidate{revert: tt.revert, cause: incident.Cause{Subject: tt.subject, Code: "x.y", Evidence: []string{"E1"}}, finding: incident.Finding{Params: map[string]string{"container": tt.container}}}
			if tt.subject.Kind == "Image" {
				c.cause.Subject = incident.Ref{Kind: "Image", Name: "reg/app:2"}
			}
			got := s.reverts(c)
			if !tt.want {
				if len(got) > 0 {
					t.Fatalf("proposed %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Action != "rollout_undo" || got[0].Params["revision"] != "4" || got[0].Params["name"] != "web" || got[0].Cause != "x.y" || len(got[0].Evidence) != 2 {
				t.Fatalf("got %+v", got)
			}
		})
	}
}
