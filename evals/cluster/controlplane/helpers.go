package controlplane

import (
	"crypto/tls"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// insecure is for the scheduler's own self-signed health port on loopback.
func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // loopback health port of a test process
}

func getOptions() metav1.GetOptions { return metav1.GetOptions{} }
