# Underlane. `make help` lists the targets.
SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/underlane/underlane/internal/version.Version=$(VERSION)
comma := ,
# Everything runs in namespaces that may have no libc of their own.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
# grpcnotrace leaves golang.org/x/net/trace out, and html/template with it, for which the linker
# keeps all methods of all types: a sixth of the agent. All targets have it, to compile once.
export GOFLAGS ?= -buildvcs=false -tags=grpcnotrace

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

##@ Use

.PHONY: demo
demo: deps build-demo ## the demo on two nodes, until Ctrl-C; ONCE=1 checks it and exits
	ONCE=$(ONCE) test/demo/run.sh

.PHONY: cluster-up cluster-down images
cluster-up: deps-cluster images ## a Kubernetes cluster of two nodes on this machine (root); docs/cluster.md
	bin/cluster up
cluster-down: bin/cluster ## take the cluster away
	bin/cluster down
.PHONY: cluster-demo
cluster-demo: deps-cluster build images ## the demo on the cluster, checked; KEEP=1 leaves it running
	test/cluster/demo/run.sh
images: bin/cluster ## container images of our programs, in bin/images
	bin/cluster images

.PHONY: bin/cluster
bin/cluster:
	cd test/cluster && CGO_ENABLED=0 $(GO) build -trimpath -o ../../bin/cluster ./cmd/cluster

# What the lab and the demo run. The cluster's command line is not among it: its
# libraries (Helm) are a sixth of what an empty cache has `build` compile and link.
LAB := ./cmd/agent ./cmd/controller ./test/lab/cmd/lab ./test/demo/cmd/...

.PHONY: build build-demo
build: ## bin/agent, bin/controller, bin/underlane, bin/lab and the demo's programs
	$(BUILD) -o bin/ $(LAB) ./cmd/underlane
	ln -sf underlane bin/kubectl-underlane
# nocluster leaves client-go out of the controller, which on the lab reads manifests,
# and NRI out of the agent: half of what there would be to compile.
build-demo: ## what make demo needs: no bin/underlane, agent and controller without a cluster's parts
	$(BUILD) -tags nocluster,grpcnotrace -o bin/ $(LAB)

##@ Release

.PHONY: release
release: ## the files of a release, in dist/: VERSION=v0.2.0 CHANNEL=stable|edge KEY=file; docs/releases.md
	$(GO) run ./internal/tools/release -version '$(VERSION)' -channel '$(CHANNEL)' -out $(or $(OUT),dist) \
	  $(if $(KEY),-key '$(KEY)') $(if $(PUBLIC_KEY),-public-key '$(PUBLIC_KEY)') $(if $(BASE_URL),-base-url '$(BASE_URL)') \
	  $(if $(PLATFORMS),-platforms '$(PLATFORMS)') $(if $(PREVIOUS),-previous '$(PREVIOUS)') \
	  $(if $(PREVIOUS_PUBLIC_KEY),-previous-public-key '$(PREVIOUS_PUBLIC_KEY)')

.PHONY: build-arm
build-arm: ## agent, controller and command line for arm64, into bin/arm64; BPF objects are the same for both
	GOARCH=arm64 GOARM64=v8.0 $(BUILD) -o bin/arm64/ ./cmd/agent ./cmd/controller ./cmd/underlane

##@ Measure

.PHONY: bench bench-diff bench-build
bench: deps-bench bench-build ## Underlane, no proxy, the floor and other proxies; BENCH=work, QUICK=1, OUT=directory
	bin/bench run $(if $(QUICK),-quick) $(if $(BENCH),-work '$(BENCH)') $(BENCHFLAGS) \
	  -out $(or $(OUT),$(if $(QUICK)$(BENCH)$(BENCHFLAGS),bin/benchmark,docs/benchmarks))
bench-diff: deps-bench bench-build ## the agents of two commits: A=commit B=commit, by default HEAD and the working tree
	bin/bench diff $(if $(QUICK),-quick) $(if $(BENCH),-work '$(BENCH)') $(BENCHFLAGS) $(or $(A),HEAD) $(or $(B),.)
bench-build: build
	$(BUILD) -o bin/ ./test/bench/cmd/bench

##@ Check

.PHONY: test test-full
test: deps-test ## all tests: unit, eBPF on this kernel, and the lab end to end (root); PART=unit or PART=kernel
	PART=$(PART) scripts/test.sh
test-full: deps-test deps-release ## the same with what takes long and rarely fails: before a larger change is called done
	FULL=1 scripts/test.sh
	scripts/fuzz.sh
	@if [ "$$(id -u)" -eq 0 ]; then $(MAKE) test-web test-web-demo; fi

.PHONY: test-cluster
test-cluster: deps-cluster build images ## install on a real cluster and prove what is promised (root); RUN=, FULL=1, KEEP=1, CGROUP=v1,v2
	scripts/test-cluster.sh

.PHONY: conformance
conformance: deps-cluster build images ## the Gateway API's conformance suite on a real cluster (root); RUN=MeshPorts, KEEP=1
	scripts/conformance.sh

.PHONY: test-programs
test-programs: deps-programs ## other people's programs in pods, without the mesh and with it, in all ways (root); RUN=nginx/curl
	UNDERLANE_TEST_FULL=1 $(GO) test -count=1 -timeout 15m -run '$(if $(RUN),TestPrograms/$(RUN),TestPrograms|TestIngress)' ./test/programs/...

.PHONY: test-prometheus
test-prometheus: deps-prometheus ## a real Prometheus scrapes the demo: dashboards, rules and alerts have data (root)
	$(GO) test -count=1 -v -timeout 10m ./test/prometheus

.PHONY: test-tracing
test-tracing: deps-test ## traces on the lab, with the OpenTelemetry collector as the receiver (root; builds the collector)
	$(GO) test -count=1 -timeout 20m -run '^Test(Tracing|FullCollector)$$' ./test/e2e

.PHONY: test-upgrade
test-upgrade: deps-test ## agents and controllers of this version and of the release before replace each other under traffic (root; builds the old ones)
	$(GO) test -count=1 -v -timeout 20m -run '^TestFullUpgrade' ./test/e2e

.PHONY: test-upgrade-cluster
test-upgrade-cluster: deps-cluster bin/cluster ## on a real cluster: install the release before, upgrade to a release of this version, and go back, under traffic (root); KEEP=1
	bin/cluster images labtest
	bin/cluster build helm
	scripts/test-upgrade-cluster.sh

.PHONY: test-release
test-release: deps-release ## make a release of all platforms twice, the second time with an empty cache, compare the bytes, and run what is for arm64 in qemu
	check=$$($(GO) tool -n staticcheck) && for os in darwin windows; do \
	  CGO_ENABLED=0 GOOS=$$os "$$check" -tests=false ./cmd/underlane/... ./pkg/cli/... || exit 1; done # the tests are for linux
	scripts/tmp.sh $(GO) test -count=1 -v -timeout 90m -run '^TestFullRelease$$' ./internal/tools/release

.PHONY: test-kernels
test-kernels: deps-kernels ## the data path on other kernels, in virtual machines, one after the other: docs/support.md; KERNELS=6.1,newest ARCH=amd64|arm64 SHORT=1 LOAD=1 RUN=
	$(GO) run ./test/kernels/cmd/kernels -arch $(or $(ARCH),amd64) $(if $(KERNELS),-kernels '$(KERNELS)') $(if $(SHORT),-short) $(if $(LOAD),-load) \
	  $(if $(RUN),-run '$(RUN)',$(if $(LOAD),,-table docs/support.md))

.PHONY: hostile
hostile: deps-test ## attack the mesh, and measure what quiet pods feel (root); RUN=http2/ping
	$(GO) test -count=1 -v -timeout 90m -run 'TestHostile/$(RUN)' ./test/hostile -args -full

.PHONY: hostile-peers
hostile-peers: deps-test deps-bench ## the same attacks on Envoy, nginx and haproxy, beside the mesh (root); RUN=http2/ping
	$(GO) test -count=1 -v -timeout 90m -run 'TestPeerConfigurations|TestPeers/$(RUN)' ./test/hostile -args -full -peers -rounds $(or $(ROUNDS),2) -nice $(or $(NICE),19)

.PHONY: scale
scale: ## what the control plane costs at which size of a cluster, without an API server; NODES=25,100,400
	$(GO) test -count=1 -v -timeout 30m -run 'TestMeasure' ./test/scale -args -nodes $(or $(NODES),25$(comma)100$(comma)400)

.PHONY: scale-churn
scale-churn: ## what a change costs a controller with thousands of agents' streams while many come each second, without an API server; on one processor of its own; NODES=1000, RATES=200,1000, TIME=20s, STEPS=true on a busy machine, THREADS=1,2, PROFILES=DIR, TRACES=true
	GOMEMLIMIT=$(or $(GOMEMLIMIT),1536MiB) $(GO) test -count=1 -v -timeout 30m -run 'TestChurn$$' ./test/scale/churn -args -churn.nodes $(or $(NODES),1000) \
	  -churn.rates $(or $(RATES),200$(comma)1000) -churn.time $(or $(TIME),20s) -churn.steps=$(or $(STEPS),false) \
	  -churn.threads $(or $(THREADS),2) -churn.profiles "$(PROFILES)" -churn.traces=$(or $(TRACES),false)

.PHONY: scale-full
scale-full: build bin/cluster ## the same with a real API server, etcd, controller and thousands of agents' streams; NODES=1000, REPLICAS=1, CHURN=0.001,0.01, TIME=30s, PROFILES=DIR
	bin/cluster build
	$(GO) test -count=1 -v -timeout 60m -run 'TestFull$$' ./test/scale/full -args -full.nodes $(or $(NODES),1000) \
	  -full.replicas $(or $(REPLICAS),1) -full.churn $(or $(CHURN),0.01) -full.time $(or $(TIME),30s) -full.profiles "$(PROFILES)"

.PHONY: contract
contract: deps-test ## the mesh's promises under faults, by seed (root; make test plays two seeds); SEED=7, TIME=10m, FAULTS=8, OVERLAP=2, KINDS=agent-killed,node-cut
	$(GO) test -count=1 -timeout 0 -v -run 'TestFullContract$$' ./test/contract -args \
	  -contract.seed=$(or $(SEED),0) -contract.time=$(or $(TIME),$(if $(SEED),0s,1m)) \
	  -contract.faults=$(or $(FAULTS),8) -contract.overlap=$(or $(OVERLAP),1) -contract.kinds=$(KINDS)

.PHONY: lint
lint: ## go vet, staticcheck, gofumpt, actionlint
	$(GO) vet ./...
	$(GO) vet -tags nocluster,grpcnotrace ./cmd/... ./pkg/agent/nri
	cd test/cluster && $(GO) vet ./...
	cd test/conformance && $(GO) vet ./...
	cd test/crds && $(GO) vet ./...
	cd test/interop/programs && $(GO) vet ./...
	cd test/programs/grpctest && $(GO) vet ./...
	cd test/tracing/collector && $(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd test/cluster && $$(cd ../.. && $(GO) tool -n staticcheck) ./...
	cd test/conformance && $$(cd ../.. && $(GO) tool -n staticcheck) ./...
	cd test/crds && $$(cd ../.. && $(GO) tool -n staticcheck) ./...
	cd test/interop/programs && $$(cd ../../.. && $(GO) tool -n staticcheck) ./...
	cd test/programs/grpctest && $$(cd ../../.. && $(GO) tool -n staticcheck) ./...
	cd test/tracing/collector && $$(cd ../../.. && $(GO) tool -n staticcheck) ./...
	cd internal/tools/actionlint && $(GO) tool actionlint -shellcheck= -pyflakes= ../../../.github/workflows/*.yml
	@out=$$($(GO) tool gofumpt -l $$(git ls-files '*.go' | grep -vE '\.pb\.go$$|_bpfel\.go$$')); \
	  if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi

.PHONY: fuzz
fuzz: ## run every fuzz target for a moment (FUZZTIME, default 5s)
	scripts/fuzz.sh

.PHONY: verify
verify: deps-generate ## generated files are what their sources say, and go.mod is tidy
	scripts/verify.sh

.PHONY: test-web
test-web: deps-web ## the dashboard: types, its pure parts, and in Chromium with generated data; RUN='words of a test', SHORT=1
	SHORT=$(SHORT) web/test.sh $(RUN)
.PHONY: test-web-demo
test-web-demo: deps deps-web build-demo ## the dashboard in Chromium on the demo that runs (root); RUN='words of a test', SHOTS=directory
	SHOTS=$(SHOTS) web/test-demo.sh $(RUN)

##@ Change

.PHONY: dashboard dashboard-dev
dashboard: deps-generate ## build web/ to pkg/dashboard/dist, which is committed
	web/build.sh
dashboard-dev: deps-generate ## the dashboard with generated data at 127.0.0.1:8085, as you edit it
	web/dev.sh

.PHONY: generate
generate: deps-generate ## eBPF objects (clang -Wall -Werror), protobuf Go, rendered manifest, dashboard
	$(GO) generate ./bpf ./api/... ./test/demo/proto ./daemonset ./pkg/dashboard

.PHONY: fmt
fmt: ## format
	$(GO) tool gofumpt -w $$(git ls-files '*.go' | grep -vE '\.pb\.go$$|_bpfel\.go$$')

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

##@ Tools (Debian packages; nothing is done where they are there)

.PHONY: deps deps-test deps-programs deps-cluster deps-generate deps-web deps-release
deps:
	scripts/deps.sh run
deps-test: # without root test/programs and test/prometheus are left out
	scripts/deps.sh run test $(if $(filter 0,$(shell id -u)),programs prometheus)
deps-programs:
	scripts/deps.sh programs
deps-prometheus:
	scripts/deps.sh run prometheus
deps-cluster:
	scripts/deps.sh cluster
deps-release:
	scripts/deps.sh release
deps-bench:
	scripts/deps.sh run bench
deps-kernels:
	scripts/deps.sh kernels-$(or $(ARCH),amd64)
deps-generate:
	scripts/deps.sh generate
deps-web:
	scripts/deps.sh web
