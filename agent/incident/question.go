package incident

import "time"

// Question is what a person asked.
type Question struct {
	Text string `json:"text"`
	// Cluster, Namespace narrow the question where the surface knows them.
	Cluster   string `json:"cluster,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Alert is set when an alert asks.
	Alert *Alert `json:"alert,omitempty"`
	// Subjects are set when the surface already knows what is meant.
	Subjects []Ref `json:"subjects,omitempty"`
	// Before is what was asked and answered earlier in the conversation, the newest
	// last. A question that names nothing is about what the last one was about.
	Before []Exchange `json:"before,omitempty"`
}

// Alert is one Alertmanager alert, with the names of its payload version 4.
type Alert struct {
	Name        string            `json:"name"`
	Status      string            `json:"status,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"startsAt,omitzero"`
	EndsAt      time.Time         `json:"endsAt,omitzero"`
	Fingerprint string            `json:"fingerprint,omitempty"`
}

// Exchange is what was asked and answered earlier in the same conversation.
type Exchange struct {
	Question string `json:"question"`
	// Answer is the headline of the diagnosis, Run the investigation that gave it.
	Answer string `json:"answer"`
	Run    string `json:"run,omitempty"`
	// Subjects that it was about, and where its causes lie.
	Subjects []Ref `json:"subjects,omitempty"`
}
