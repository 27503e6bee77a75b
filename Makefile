# `make help` lists the targets.

SHELL := /bin/sh
# .ci/need unpacks Prometheus there, where there is none.
export PATH := $(PATH):$(CURDIR)/bin/prometheus
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)
STATICCHECK := v0.8.2
SCHEDULES ?= 1000000
FUZZTIME ?= 20s
SWITCHOVERS ?= 1000
CRASHES ?= 300
CLIENTS ?= all
# further flags of bench: go run ./bench -help
BENCHFLAGS ?=

# Packages whose tests watch real processes and their timing: two at a time, for they mostly wait, and the longest
# first.
TIMED = ./agent/... ./cmd/... ./dashboard/... ./drill/... ./fleet/... ./proxy/... ./redis/...
# Real processes and sockets as well, and mostly waiting: two at a time, beside the sim.
CALM = ./aws/... ./backup/... ./bench/... ./certs/... ./deploy/... ./etcd/... ./host/... ./monitor/... ./notify/... ./remotewrite/... ./rpc/... ./series/... ./upstream/...
SIM = ./failover/sim/...
E2E = $(if $(wildcard e2e/*.go),./e2e/...)
PURE = . ./atomicfile/... ./metric/... ./alarm/... ./metricmath/... ./shelf/... ./cluster/... ./resp/... ./command/... ./doctor/... ./failover ./history/... ./placement/...

# Stories of several machines on one: three members of a store and up to seven agents starve one another on two cores
# under the race detector, and when anything else runs. Their parts have it: host, rpc, etcd, agent, proxy.
MACHINES = ^(TestMachines|TestProxies)$$

.DEFAULT_GOAL := help
.PHONY: help build demo test ci tools fmt vet lint modules sim bench bench-proxy clients clients-suites soak figures fuzz generate clean need-go need-redis test-aws bench-aws

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

need-go:
	@.ci/need go

need-redis:
	@.ci/need redis

build: need-go ## build ./bin/understudy
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/understudy ./cmd/understudy

demo: build need-redis ## kill a primary under load and see what clients see; under a minute
	@bin/understudy demo

tools: ## install what the tests need: redis-server, the clients of other languages, Prometheus
	@.ci/need redis sentinel php python ruby node zones prometheus
	@[ -d examples/node/node_modules/ioredis ] || npm ci --silent --no-audit --no-fund --prefix examples/node

# The sim and the processes are timed, so what is compiled for them is compiled before.
test: need-go tools ## unit tests, scripts, 10,000 simulated schedules and e2e, with the race detector
	@go build -race ./...
	@go test -race $(PURE)
	@go test $(SIM) & sim=$$!; go test -race -p 2 $(CALM); calm=$$?; wait $$sim && exit $$calm
	@go test -race -p 2 -timeout 20m -skip '$(MACHINES)' $(E2E) $(TIMED)
	@go test -run '$(MACHINES)' ./cmd/understudy

# AWS's own clients take a second for every call, so they are not in make test. botocore comes from PyPI where the
# system's is older than the service models.
test-aws: need-go need-redis ## the AWS CLI, boto3, the SDK for Go and Terraform against a running group; ten minutes
	@.ci/need awscli
	@[ -x bin/botocore/bin/python ] || python3 -c 'import botocore; assert int(botocore.__version__.split(".")[1]) >= 43' 2>/dev/null || \
		{ python3 -m venv bin/botocore && bin/botocore/bin/pip install -q 'boto3>=1.43.11'; }
	@UNDERSTUDY_TEST_AWS=1 go test -count=1 ./aws/...
	@command -v terraform >/dev/null || echo 'NOT TESTED: Terraform: there is none here, so deploy/terraform is not tried' >&2
	@UNDERSTUDY_TEST_AWS=1 go test -count=1 -v -timeout 20m -run '^(TestTheCommandLineIsTheAWSCLIs|TestBoto3OperatesAGroup|TestTerraform.*)$$' ./e2e

# Ends with go test, and says nothing after it.
ci: need-go fmt vet lint modules test ## everything that a change must pass; what .ci/run runs

fmt: need-go
	@files=$$(gofmt -l .); test -z "$$files" || { echo "not formatted, run gofmt -w on:" $$files; exit 1; }

vet: need-go
	@go vet ./...

lint: need-go bin/staticcheck-$(STATICCHECK)
	@bin/staticcheck-$(STATICCHECK) ./...

bin/staticcheck-$(STATICCHECK):
	@GOBIN=$(CURDIR)/bin go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK)
	@mv bin/staticcheck $@

modules: need-go
	@go mod tidy -diff
	@go mod verify >/dev/null

sim: build ## SCHEDULES simulated schedules (a million); prints a seed that fails
	@bin/understudy sim --schedules $(SCHEDULES)

bench: need-go ## Understudy, Redis Sentinel and a direct connection side by side; under four minutes
	@.ci/need redis sentinel
	@go run ./bench $(BENCHFLAGS)

bench-proxy: need-go ## the proxy beside twemproxy, HAProxy and a direct connection, into docs/proxy-speed.md; three minutes
	@.ci/need redis twemproxy haproxy
	@go run ./bench -docs docs/proxy-speed.md $(BENCHFLAGS) proxies

bench-aws: need-go ## the AWS front: 500 describes a second under load, create, test-failover, against their goals; half a minute
	@.ci/need redis
	@go test ./e2e -count=1 -run '^TestSpeedOfTheAWSFront$$' -v -args -aws-speed

# The matrix needs what apt, npm and the Go module proxy carry; what cannot be had is said in the page.
clients: need-go ## real clients of five languages through every change of primary and cut sockets, into docs/clients.md; ten minutes
	@.ci/need redis cli php predis laravel python queues ruby sidekiq node
	@npm ci --silent --no-audit --no-fund --prefix e2e/clients/node
	@go test ./e2e -count=1 -run '^TestRealClients$$' -v -timeout 40m -args -clients '$(CLIENTS)' -docs ../docs/clients.md

clients-suites: need-go ## the test suites of phpredis and asynq through the proxy and direct, into docs/clients.md; ten minutes
	@.ci/need redis php
	@go test ./e2e -count=1 -run '^TestClientSuites$$' -v -timeout 40m -args -suites -docs ../docs/clients.md

soak: need-go ## SWITCHOVERS (1,000) and CRASHES (300) in a row under load: losses, resyncs, growth; some 20 minutes
	@.ci/need redis sentinel
	@go run ./bench -switchovers $(SWITCHOVERS) -crashes $(CRASHES) $(BENCHFLAGS) soak

figures: need-go ## all figures of docs/failover-times.md but the soak's, p99 over 50; about 45 minutes, root for the zones
	@.ci/need redis sentinel
	@go run ./bench -rounds 50 -peer-every 5 -docs docs/failover-times.md $(BENCHFLAGS) failover loss sizes zones alarms
	@go run ./bench -docs docs/failover-times.md $(BENCHFLAGS) idle throughput

fuzz: need-go ## every fuzz target for FUZZTIME (20s)
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

generate: need-go ## write generated files anew: docs/cli.md and the command table
	@go generate ./...

clean: ## remove what was built
	@rm -rf bin
