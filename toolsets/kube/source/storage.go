package source

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// PVC reads a PersistentVolumeClaim by name.
func (s *Source) PVC(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return getOne(ctx, s, call{resource: "persistentvolumeclaims", namespace: namespace, name: name}, s.client.CoreV1().PersistentVolumeClaims(namespace).Get)
}

// PVCs lists the PersistentVolumeClaims of a namespace. An empty namespace means all of them.
func (s *Source) PVCs(ctx context.Context, namespace string) ([]*corev1.PersistentVolumeClaim, error) {
	return listAll(ctx, s, call{resource: "persistentvolumeclaims", namespace: namespace}, s.client.CoreV1().PersistentVolumeClaims(namespace).List,
		func(l *corev1.PersistentVolumeClaimList) []corev1.PersistentVolumeClaim { return l.Items })
}

// PV reads a PersistentVolume by name.
func (s *Source) PV(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return getOne(ctx, s, call{resource: "persistentvolumes", name: name}, s.client.CoreV1().PersistentVolumes().Get)
}

// PVs lists all PersistentVolumes.
func (s *Source) PVs(ctx context.Context) ([]*corev1.PersistentVolume, error) {
	return listAll(ctx, s, call{resource: "persistentvolumes"}, s.client.CoreV1().PersistentVolumes().List,
		func(l *corev1.PersistentVolumeList) []corev1.PersistentVolume { return l.Items })
}

// StorageClass reads a StorageClass by name.
func (s *Source) StorageClass(ctx context.Context, name string) (*storagev1.StorageClass, error) {
	return getOne(ctx, s, call{group: "storage.k8s.io", resource: "storageclasses", name: name}, s.client.StorageV1().StorageClasses().Get)
}

// StorageClasses lists all StorageClasses.
func (s *Source) StorageClasses(ctx context.Context) ([]*storagev1.StorageClass, error) {
	return listAll(ctx, s, call{group: "storage.k8s.io", resource: "storageclasses"}, s.client.StorageV1().StorageClasses().List,
		func(l *storagev1.StorageClassList) []storagev1.StorageClass { return l.Items })
}

// CSIDriver reads a CSIDriver by name.
func (s *Source) CSIDriver(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	return getOne(ctx, s, call{group: "storage.k8s.io", resource: "csidrivers", name: name}, s.client.StorageV1().CSIDrivers().Get)
}

// CSIDrivers lists all CSIDrivers.
func (s *Source) CSIDrivers(ctx context.Context) ([]*storagev1.CSIDriver, error) {
	return listAll(ctx, s, call{group: "storage.k8s.io", resource: "csidrivers"}, s.client.StorageV1().CSIDrivers().List,
		func(l *storagev1.CSIDriverList) []storagev1.CSIDriver { return l.Items })
}

// CSINode reads a CSINode by name.
func (s *Source) CSINode(ctx context.Context, name string) (*storagev1.CSINode, error) {
	return getOne(ctx, s, call{group: "storage.k8s.io", resource: "csinodes", name: name}, s.client.StorageV1().CSINodes().Get)
}

// CSINodes lists all CSINodes.
func (s *Source) CSINodes(ctx context.Context) ([]*storagev1.CSINode, error) {
	return listAll(ctx, s, call{group: "storage.k8s.io", resource: "csinodes"}, s.client.StorageV1().CSINodes().List,
		func(l *storagev1.CSINodeList) []storagev1.CSINode { return l.Items })
}

// VolumeAttachment reads a VolumeAttachment by name.
func (s *Source) VolumeAttachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error) {
	return getOne(ctx, s, call{group: "storage.k8s.io", resource: "volumeattachments", name: name}, s.client.StorageV1().VolumeAttachments().Get)
}

// VolumeAttachments lists all VolumeAttachments.
func (s *Source) VolumeAttachments(ctx context.Context) ([]*storagev1.VolumeAttachment, error) {
	return listAll(ctx, s, call{group: "storage.k8s.io", resource: "volumeattachments"}, s.client.StorageV1().VolumeAttachments().List,
		func(l *storagev1.VolumeAttachmentList) []storagev1.VolumeAttachment { return l.Items })
}
