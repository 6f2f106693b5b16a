package transport

import (
	"crypto/tls"
	"errors"
	"net"
)

// hopeless tells network failures that a retry within seconds does not mend.
func hopeless(err error) bool {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true // HTTP on an HTTPS address
	}
	return false
}
