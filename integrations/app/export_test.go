package app

import (
	"context"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// File files a plan as it stands, past the bound that the policy sets on how many may
// wait.
func (p *Plans) File(ctx context.Context, r planner.Record) (planner.Record, error) {
	return p.desk.File(ctx, r.Plan, r.Decision, "")
}

// Load reads a subject of the journal.
func (s *Service) Load(ctx context.Context, subject string) ([]store.Record, error) {
	var out []store.Record
	for rec, err := range s.keep.Load(ctx, subject, 0) {
		if err != nil {
			return nil, err
		}
		out = append(out, rec)
	}
	return out, nil
}

// List gives the subjects that match a pattern.
func (s *Service) List(ctx context.Context, pattern string) ([]store.Info, error) {
	var out []store.Info
	for info, err := range s.keep.List(ctx, pattern) {
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

// Taken gives when the store took each record of a run, by sequence.
func (s *Service) Taken(ctx context.Context, run string) (map[uint64]time.Time, error) {
	subject, err := store.RunSubject(run)
	if err != nil {
		return nil, err
	}
	out := map[uint64]time.Time{}
	for rec, err := range s.keep.Load(ctx, subject, 0) {
		if err != nil {
			return nil, err
		}
		out[rec.Seq] = rec.At
	}
	return out, nil
}
