# The whole of what a developer runs. CI runs `make verify`.
GO      ?= go
BIN     ?= bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/gumshoe-ai/gumshoe/integrations/app.version=$(VERSION)
# grpc's tracing page is one of html/template, which keeps the methods of all types in the binary.
TAGS    := grpcnotrace
FUZZTIME ?= 30s
CACHE   ?= $(shell $(GO) env GOCACHE)/../gumshoe
LINTER  := $(CACHE)/golangci-lint-$(shell sed -n 's|^\tgithub.com/golangci/golangci-lint/v2 ||p' deploy/tools.mod | cut -d' ' -f1)

.PHONY: build nvml test lint fmt cluster bench docs cases verify fuzz eval hubble

build: ## the binary, static
	CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/gumshoe .

test: ## everything that needs no cluster
	$(GO) test ./...

cluster: ## the suites on a real kube-apiserver, scheduler, controller-manager and etcd
	cd evals/cluster && $(GO) run ./cmd/controlplane build && $(GO) test -timeout 30m ./...

nvml: ## gumshoe-nvml, the cgo program that asks the driver, and its tests; needs gcc
	cd deploy/gumshoe-nvml && CGO_CFLAGS='-O2 -g -Wno-deprecated-declarations' $(GO) test ./... && \
	CGO_CFLAGS='-O2 -g -Wno-deprecated-declarations' $(GO) build -trimpath -ldflags '-s -w -extldflags=-Wl,-z,lazy' -o $(abspath $(BIN))/gumshoe-nvml .

hubble: ## the Hubble client and replay against a real hubble-relay and observers
	cd evals/hubble && $(GO) vet ./... && $(GO) test ./...

eval: build ## the recorded incidents
	$(BIN)/gumshoe eval run

lint: $(LINTER)
	$(LINTER) run ./...
	cd evals/cluster && $(GO) vet ./...

$(LINTER):
	mkdir -p $(CACHE)
	$(GO) build -modfile=deploy/tools.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

fmt:
	gofmt -w $(shell git ls-files '*.go')

bench: build ## the figures of docs/benchmarks.md
	cd evals/cluster && $(GO) run ./cmd/bench

docs: build ## generated pages; a test fails when they are stale
	$(GO) test ./integrations/app -run TestGeneratedDocs -update
	$(GO) test ./agent/llm/llmtest -run TestModelsPage -update
	$(GO) test ./integrations/cli -run TestReadmeOutputs -update

cases: ## the cases packed for the binary; a test fails when they are stale
	$(GO) test ./evals -run TestPackedCasesAreTheCases -update

fuzz: ## a smoke of every parser that takes outside bytes
	FUZZTIME=$(FUZZTIME) deploy/fuzz.sh

verify: ## what CI checks
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	$(GO) vet ./...
	$(MAKE) lint test nvml eval cluster hubble
