package serving

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

type ownerRef = metav1.OwnerReference
