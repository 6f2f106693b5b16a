package mcpserver

// What the tests of the wire reach for.
var (
	Sieve       = sieve
	NewPending  = newPending
	ParseURI    = parseURI
	ReportURI   = reportURI
	EvidenceURI = evidenceURI
)
