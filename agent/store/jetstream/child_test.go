package jetstream_test

const (
	childJob = "GUMSHOE_TEST_JOB"
	childDir = "GUMSHOE_TEST_DIR"
)

func child(job, dir string) int { return 0 }
