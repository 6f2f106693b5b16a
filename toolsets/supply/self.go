package supply

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Container images through the OCI distribution API and its referrers: digests, platforms, signatures, SBOMs (SPDX, CycloneDX) and SLSA provenance of what a workload runs now and ran before, and what differs.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: []string{"pods", "replicasets.apps", "controllerrevisions.apps"}, For: "which images a workload runs, and ran before"},
			{Verbs: []string{"pull"}, Resources: []string{"the repository of the image"}, For: "manifests, signatures, SBOMs and provenance"},
		},
		Config: "supply",
		Found:  "registries are asked only where supply.registries lists them: they are outside of the cluster",
		Sources: []string{
			"OCI image and distribution specifications 1.1 (referrers)",
			"cosign's signature and attestation formats, in-toto and SLSA provenance, SPDX 2.3, CycloneDX 1.x",
		},
	}
}
