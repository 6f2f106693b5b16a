package source

import (
	"context"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// PriorityClass reads a PriorityClass by name.
func (s *Source) PriorityClass(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	return getOne(ctx, s, call{group: "scheduling.k8s.io", resource: "priorityclasses", name: name}, s.client.SchedulingV1().PriorityClasses().Get)
}

// PriorityClasses lists all PriorityClasses.
func (s *Source) PriorityClasses(ctx context.Context) ([]*schedulingv1.PriorityClass, error) {
	return listAll(ctx, s, call{group: "scheduling.k8s.io", resource: "priorityclasses"}, s.client.SchedulingV1().PriorityClasses().List,
		func(l *schedulingv1.PriorityClassList) []schedulingv1.PriorityClass { return l.Items })
}

// RuntimeClass reads a RuntimeClass by name.
func (s *Source) RuntimeClass(ctx context.Context, name string) (*nodev1.RuntimeClass, error) {
	return getOne(ctx, s, call{group: "node.k8s.io", resource: "runtimeclasses", name: name}, s.client.NodeV1().RuntimeClasses().Get)
}

// RuntimeClasses lists all RuntimeClasses.
func (s *Source) RuntimeClasses(ctx context.Context) ([]*nodev1.RuntimeClass, error) {
	return listAll(ctx, s, call{group: "node.k8s.io", resource: "runtimeclasses"}, s.client.NodeV1().RuntimeClasses().List,
		func(l *nodev1.RuntimeClassList) []nodev1.RuntimeClass { return l.Items })
}

// ValidatingWebhook reads a ValidatingWebhookConfiguration by name.
func (s *Source) ValidatingWebhook(ctx context.Context, name string) (*admissionv1.ValidatingWebhookConfiguration, error) {
	return getOne(ctx, s, call{group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations", name: name}, s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get)
}

// ValidatingWebhooks lists all ValidatingWebhookConfigurations.
func (s *Source) ValidatingWebhooks(ctx context.Context) ([]*admissionv1.ValidatingWebhookConfiguration, error) {
	return listAll(ctx, s, call{group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations"}, s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().List,
		func(l *admissionv1.ValidatingWebhookConfigurationList) []admissionv1.ValidatingWebhookConfiguration {
			return l.Items
		})
}

// MutatingWebhook reads a MutatingWebhookConfiguration by name.
func (s *Source) MutatingWebhook(ctx context.Context, name string) (*admissionv1.MutatingWebhookConfiguration, error) {
	return getOne(ctx, s, call{group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", name: name}, s.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get)
}

// MutatingWebhooks lists all MutatingWebhookConfigurations.
func (s *Source) MutatingWebhooks(ctx context.Context) ([]*admissionv1.MutatingWebhookConfiguration, error) {
	return listAll(ctx, s, call{group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations"}, s.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List,
		func(l *admissionv1.MutatingWebhookConfigurationList) []admissionv1.MutatingWebhookConfiguration {
			return l.Items
		})
}
