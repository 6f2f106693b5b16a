module github.com/gumshoe-ai/gumshoe/deploy/gumshoe-nvml

go 1.26.8

require (
	github.com/NVIDIA/go-nvml v0.13.4-1
	github.com/gumshoe-ai/gumshoe v0.0.0-00010101000000-000000000000
)

require github.com/google/uuid v1.6.0 // indirect

replace github.com/gumshoe-ai/gumshoe => ../..
