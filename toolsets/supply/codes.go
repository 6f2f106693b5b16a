package supply

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset emits.
func Codes() []tool.Code {
	strs := func(s ...string) []string { return s }
	return []tool.Code{
		{Code: "supply.platform_mismatch", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Image"), Params: strs("image", "container", "architecture", "node", "platforms"), Text: "The image is not built for the architecture of the node that runs it."},
		{Code: "supply.cuda_newer_than_driver", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Image"), Params: strs("image", "container", "cuda", "supported", "driver", "node"), Text: "The image needs a newer CUDA than the node's driver supports (F19)."},
		{Code: "supply.library_changed", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Image"), Params: strs("image", "before", "container", "library", "from", "to", "line"), Optional: strs("kind", "namespace", "workload"), Text: "A library that the container's error names changed with this image."},
		{Code: "supply.tag_moved", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Image"), Params: strs("image", "container", "good", "bad", "well", "sick"), Optional: strs("kind", "namespace", "workload"), Text: "Pods of one template run different contents of one tag, and exactly those with the one are sick."},
		{Code: "supply.digests_differ", Role: incident.Context, Severity: incident.Info, Kinds: strs("Image"), Params: strs("image", "digests"), Text: "Pods of one template run different contents of one tag."},
		{Code: "supply.image_changed", Role: incident.Context, Severity: incident.Info, Kinds: strs("Image"), Params: strs("image", "before", "changes"), Text: "What changed from the image that the workload ran before."},
		{Code: "supply.signature_invalid", Role: incident.Context, Severity: incident.Warning, Kinds: strs("Image"), Params: strs("image", "problem"), Text: "A signature of the image does not verify against the configured keys."},
		{Code: "supply.registry_unread", Role: incident.Context, Severity: incident.Info, Kinds: strs("Image"), Params: strs("image", "why"), Text: "The image's registry could not be read."},
	}
}
