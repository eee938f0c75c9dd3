# Gantry: everything a developer or CI runs. `make help` lists the targets.
SHELL       := /bin/bash
GO          ?= go
export CGO_ENABLED = 0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT      ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
BUILT       ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS     := -s -w -X github.com/gantry-engine/gantry/internal/version.Built=$(BUILT) -X github.com/gantry-engine/gantry/internal/version.Version=$(VERSION) -X github.com/gantry-engine/gantry/internal/version.Commit=$(COMMIT)
CLIENT_CMDS := gantry gantry-manifest gantry-trust
LINUX_CMDS  := gantryd gantry-keeper gantry-anchor gantry-net gantry-lazy gantry-runtime gantry-registry gantry-import
PREFIX      ?= /usr
DESTDIR     ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN{FS=":.*## "} /^[a-zA-Z0-9_-]+:.*## /{printf "  %-16s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build all executables into bin/
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(CLIENT_CMDS) $(LINUX_CMDS))
	$(GO) build -trimpath -ldflags '-s -w' -o bin/gantry-init ./cmd/gantry-init
	@ls -l bin

.PHONY: run
run: deps-run build ## Build, start an engine of its own and run a web application in it
	packaging/first-run.sh

.PHONY: test
test: deps-test build ## Run all tests (root, about 20 minutes)
	test/run.sh

.PHONY: test-unit
test-unit: ## Tests that need no engine process
	$(GO) test ./internal/... ./runtime/... ./cmd/... ./test/arch/...

.PHONY: test-oci
test-oci: deps-test build ## OCI validation suite, beside Debian's runc
	GANTRY_TEST_OCI=1 $(GO) test ./test/oci -count=1 -v -timeout 60m -run "Validation|Under"

.PHONY: test-compat
test-compat: deps-test build ## The official docker client against Debian's dockerd and gantryd
	$(GO) test ./test/compat -count=1 -timeout 60m

.PHONY: test-crash
test-crash: deps-test build ## Kill at every failpoint × every process, then at random: 1,000 kills (SEED=n, KILLS=n)
	$(GO) test -tags failpoints -count=1 ./internal/kit/failpoint ./internal/keeper
	$(if $(SEED),GANTRY_CRASH_SEED=$(SEED)) GANTRY_CRASH_MATRIX=all GANTRY_CRASH_KILLS=$(or $(KILLS),300) $(GO) test ./test/crash -count=1 -timeout 120m -v

.PHONY: features
features: deps-test build ## Play every operation and option, then write docs/features.md
	GANTRY_BIN=$(CURDIR)/bin GANTRY_UPDATE_DOCS=1 $(GO) test ./test/features -count=1 -timeout 20m

.PHONY: features-proof
features-proof: deps-test build ## Take each option's code away and see its script fail (ROWS=all: also what is proven already)
	GANTRY_BIN=$(CURDIR)/bin GANTRY_FEATURES_PROOF=$(or $(ROWS),1) $(GO) test ./test/features -count=1 -run TestProof -timeout 80m -v
	GANTRY_UPDATE_DOCS=1 $(GO) test ./test/features -count=1 -run TestPage

.PHONY: conformance
conformance: deps-test build ## Judge registries by the OCI distribution specification, then write docs/registry-conformance.md
	GANTRY_BIN=$(CURDIR)/bin GANTRY_UPDATE_DOCS=1 $(GO) test ./test/conformance -count=1

.PHONY: test-vm
test-vm: deps-vm build deb ## cgroup v2, systemd and the package, in a virtual machine (slow: emulated)
	test/vm/run.sh

.PHONY: bench
bench: deps-test build ## Time Gantry, Docker, Podman and the kernel's floor; print one table
	$(GO) run ./test/bench

.PHONY: fuzz
fuzz: ## Run every fuzzer for FUZZTIME (default 30s)
	test/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: lint
lint: ## Formatting, vet on all platforms, static analysis, shell scripts
	test/lint.sh

.PHONY: cross
cross: ## Build the command line for every platform
	@for os in linux darwin windows; do for arch in amd64 arm64; do \
	  for cmd in $(CLIENT_CMDS); do echo "$$cmd $$os/$$arch"; \
	    GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/$$os-$$arch/$$cmd$$([ $$os = windows ] && echo .exe) ./cmd/$$cmd || exit 1; \
	done; done; done

.PHONY: deb
deb: build ## Make the Debian package in dist/
	packaging/build-deb.sh

.PHONY: install
install: build ## Install into DESTDIR/PREFIX
	packaging/install.sh "$(DESTDIR)" "$(PREFIX)"

.PHONY: deps-run deps-test deps-vm
deps-vm:
	@packaging/deps.sh vm
deps-run:
	@packaging/deps.sh run
deps-test:
	@packaging/deps.sh test

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist
