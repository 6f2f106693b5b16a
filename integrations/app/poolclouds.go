package app

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/planner/actions/cloud"
)

// poolCloud is a provider whose API changes node pools.
type poolCloud interface {
	actions.PoolCloud
	planner.Backend
}

// poolClouds makes the clients of the clouds that are configured, by the API that
// their writes name; it asks nobody. A bundle has none: what it recorded can be read,
// not changed.
func poolClouds(c Config, recorded bool, now func() time.Time) (map[string]poolCloud, error) {
	out := map[string]poolCloud{}
	if recorded {
		return out, nil
	}
	if !c.Azure.zero() {
		where, err := c.Azure.where()
		if err != nil {
			return nil, err
		}
		cred, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: policy.ClientOptions{Cloud: where}})
		if err != nil {
			return nil, &tool.Error{Kind: tool.Unreachable, User: "no identity for Azure: " + err.Error(), Fix: "log in with az login, or leave the section azure out", Err: err}
		}
		client, err := cloud.NewAKS(cloud.AKSConfig{Subscription: c.Azure.Subscription, ResourceGroup: c.Azure.ResourceGroup, Cluster: c.Azure.Cluster, Credential: cred, Cloud: where, Preview: c.Azure.Preview, Now: now})
		if err != nil {
			return nil, err
		}
		out["aks"] = client
	}
	if !c.GKE.zero() {
		client, err := cloud.NewGKE(cloud.GKEConfig{Project: c.GKE.Project, Location: c.GKE.Location, Cluster: c.GKE.Cluster, Token: googleToken(), Now: now})
		if err != nil {
			return nil, err
		}
		out["gke"] = client
	}
	return out, nil
}

// undryable is a cloud while a plan is made: clouds have no dry run, and nothing of a
// plan is done before it is approved.
type undryable struct{ planner.Backend }

var errPlanning = errors.New("planning changes nothing in a cloud")

// Do implements planner.Backend.
func (undryable) Do(context.Context, string, incident.Write) (incident.WriteResult, error) {
	return incident.WriteResult{}, errPlanning
}
