# make up      everything, from a bare Debian 12: packages, programs, template, containers
# make down    remove every trace of it
# make test    lint, unit tests, real containers
# make help    the rest

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

CONFIG   ?= examples/homelab
ROOT     ?= /var/lib/phoenix
BRIDGE   ?= phxbr0
# The container of CONFIG's certificate authority: its root goes with make down.
CA       ?= 103
FUZZTIME ?= 20s

# What is built once and survives a checkout.
PHOENIX_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/phoenix
export PHOENIX_CACHE

PACKAGES      := lxc mmdebstrap debian-archive-keyring dnsmasq-base nftables uidmap iproute2 btrfs-progs util-linux ca-certificates
TEST_PACKAGES := attr bindfs openssl curl
BENCH_PACKAGES := lego

# With the uidmap package, lxc refuses a range that root has not reserved here. phoenix reserves its own (docs/ids.md); tests of sites
# made before need the one that all containers had.
IDMAP_FILES := /etc/subuid /etc/subgid

# RELEASE is the last one, for trees without tags: versions have an order, so that no older phoenix overwrites what a newer one made.
RELEASE := 0.1.0
VERSION := $(shell git describe --tags --dirty 2>/dev/null || \
  git log -1 --format=$(RELEASE)-$$(git rev-list --count HEAD 2>/dev/null)-g%h$$(git diff --quiet HEAD || echo -dirty) 2>/dev/null || echo dev)
DIST    ?= dist
PHOENIX := bin/phoenix

# The race detector needs cgo and a C compiler.
RACE = $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null && echo -race)

# What tests run besides phoenix: none of it is installed, and without it they fail instead of being skipped.
TOOLS = eval "$$(go run ./tools/artifacts -o env)"; \
	PHOENIX_NGINX=$$(tools/unpacked $(PHOENIX_CACHE)/debian nginx)/usr/sbin/nginx; \
	export PHOENIX_NGINX PHOENIX_TOOLS=required;

E2E := PHOENIX_BIN=$(abspath $(PHOENIX)) PHOENIX_E2E=required

.PHONY: help up down build artifacts deb release deps test-deps root test check lint unit stand-ins faults conformance test-zfs \
  zfs-built e2e bench fuzz clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

up: root deps build artifacts ## bring the containers of CONFIG up
	@$(PHOENIX) up --config $(CONFIG) --root $(ROOT)

down: root ## remove the containers, their volumes, the bridge and ROOT
	@if [ -e $(ROOT) ]; then \
	  $(MAKE) --no-print-directory build && \
	  $(PHOENIX) delete --all --volumes$(addprefix =,$(CA)) --yes --config $(CONFIG) --root $(ROOT) || \
	    echo "make down: phoenix could not remove everything; sweeping" >&2; \
	fi
	@tools/sweep $(ROOT) $(BRIDGE)

build: ## bin/phoenix, static
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(PHOENIX) ./cmd/phoenix

artifacts: ## step-ca and Traefik, built once into PHOENIX_CACHE
	@go run ./tools/artifacts >/dev/null

deb: build artifacts ## Debian packages of phoenix and of the programs that go into containers, in DIST
	@tools/package/build $(DIST) $(VERSION) $(PHOENIX) deb

release: build artifacts ## the same, with tarballs, bills of materials and checksums
	@tools/package/build $(DIST) $(VERSION) $(PHOENIX)

deps: ## Debian packages that phoenix calls; ids for containers phoenix reserves itself
	@tools/deps $(PACKAGES)

test-deps: deps
	@for file in $(IDMAP_FILES); do \
	  grep -qs '^root:100000:65536$$' $$file || { echo "make test-deps: $$file: root:100000:65536" >&2; echo root:100000:65536 >>$$file; }; \
	done
	@tools/deps $(TEST_PACKAGES)

root:
	@[ "$$(id -u)" = 0 ] || { echo "make: containers need root: sudo make ..." >&2; exit 1; }

test: root test-deps build artifacts lint unit stand-ins zfs-built e2e ## everything

check: ## what is quick: format, vet, staticcheck, short unit tests; no root
	@tools/lint/run $(PHOENIX_CACHE) quick
	go test -short ./internal/... ./cmd/... ./tools/... 2>&1 | grep -v "no test files"

lint: ## gofmt, go vet, staticcheck, govulncheck
	@tools/lint/run $(PHOENIX_CACHE)

unit: artifacts ## unit tests, those with real tools included
	$(TOOLS) \
	go test $(RACE) -count=1 -timeout 20m $$(go list ./... | grep -v /test/)

# Whole runs of phoenix where only containers, or Proxmox, are stand-ins. The programs that are run are not built for the race detector,
# so that it would see nothing.
stand-ins: artifacts ## phoenix killed and failing at each kind of change, hostile containers, Proxmox
	$(TOOLS) \
	go test -count=1 -timeout 30m $$(go list ./test/... | grep -v -e /test/e2e -e /test/volumes)

faults: ## the same at every single change of every container: an hour
	PHOENIX_EVERY_CASE=1 go test -count=1 -timeout 120m -v ./test/kill ./test/pve

conformance: ## the providers of volumes and containers against the one suite, as a table
	go test -count=1 -timeout 30m -v ./test/conformance

test-zfs: root deps build artifacts ## ZFS for real: on this kernel where it has it, else in a virtual machine of its own
	@test/volumes/run $(PHOENIX_CACHE) $(abspath $(PHOENIX))

# Ten minutes at most, of two processors where the machine is emulated: the whole of test-zfs takes three times as long.
zfs-built: root build ## the provider's part of test-zfs, where the kernel has ZFS or the machine was built before
	@LIMIT=600 test/volumes/run --built $(PHOENIX_CACHE) $(abspath $(PHOENIX)) provider

e2e: root test-deps build artifacts ## tests in real containers
	$(E2E) go test -count=1 -timeout 10m -v ./test/volumes
	$(E2E) go test -count=1 -timeout 75m -parallel 32 -v ./test/e2e

bench: root test-deps build artifacts ## phoenix against the bare floor, as ratios
	@tools/deps $(BENCH_PACKAGES)
	$(E2E) go test -run '^$$' -bench . -benchtime 1x -count 1 -timeout 30m ./test/e2e

fuzz: ## every fuzz target for FUZZTIME
	@grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' internal cmd | sed 's/func //' | \
	while IFS=: read -r file name; do \
	  echo "fuzz: $$name in $$(dirname $$file)"; \
	  go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) </dev/null; \
	done

clean: ## bin/ (the cache stays: rm -r PHOENIX_CACHE to drop it)
	@rm -rf bin
