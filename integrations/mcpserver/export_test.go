package mcpserver

// What the tests of the wire reach for.
var (
	Sieve       = sieve
	ParseURI    = parseURI
	ReportURI   = reportURI
	EvidenceURI = evidenceURI
)
