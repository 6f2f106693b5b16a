package storage

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Volumes on their way from claim to container (PersistentVolumes, attachments, CSI drivers and their limits), and how long images and model weights take to arrive.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: []string{"persistentvolumeclaims", "persistentvolumes"}, For: "which volume a pod waits for"},
			{Verbs: []string{"list"}, Resources: []string{"volumeattachments.storage.k8s.io"}, For: "where a volume is attached, and what the driver said"},
			{Verbs: []string{"list"}, Resources: []string{"csinodes.storage.k8s.io", "csidrivers.storage.k8s.io", "storageclasses.storage.k8s.io"}, For: "which drivers a node has, and how many volumes they attach"},
			{Verbs: []string{"list"}, Resources: []string{"pods", "events", "nodes"}, For: "who holds a volume, pull and mount times against peers"},
		},
		Found: "Prometheus (container_fs_reads_bytes_total of cAdvisor) for what an Elastic SAN gives; the API server's own storage kinds",
		Sources: []string{
			"kubernetes.io/docs/concepts/storage; external-attacher, external-provisioner and kubelet messages",
			"CSI drivers of Azure (Disk, Files, Elastic SAN through Azure Container Storage), AWS EBS and GCE PD: error texts, each with its source in signatures.json",
		},
	}
}
