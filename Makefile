# Bowline: everything a person or a CI does, by name. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

PREFIX ?= /usr
DESTDIR ?=
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Which built binaries `make install` takes.
BOWLINE_BIN ?= $(TARGET)/release
CARGO ?= cargo
# Node and host tests are bound by processors, each node by one of them; and a node's or a guest's memory is in /dev/shm.
TEST_THREADS ?= $(shell cpus=$$(nproc); free_mib=$$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -n 1); \
  fit=$$(($${free_mib:-0} / 2560)); [ $$fit -lt $$cpus ] || fit=$$cpus; [ $$fit -gt 0 ] || fit=1; echo $$fit)

# stage NAME: prints what begins, and runs the command with its time behind it.
define stage
@echo "== $(1)"; started=$$SECONDS; \
$(2); \
echo "== $(1): $$((SECONDS - started)) s"
endef

.PHONY: all build release test test-unit test-clients test-host test-node test-openstack demo demo-node bench bench-backend bench-boot bench-cinder bench-connect bench-starts soak fuzz lint deny doc \
	install install-programs install-system install-docs install-apply apply-here clean clean-rig help \
	need-root dependencies dependencies-run dependencies-node dependencies-openstack connect-side backend-load
# Cargo uses all processors by itself, and what comes first below is to come first.
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

all: build lint test ## build, lint, test

need-root:
	@[ "$$(id -u)" = 0 ] || { echo "make $(or $(MAKECMDGOALS),build) needs root: tgtd obeys no other, and the rigs make namespaces and\
	 mounts; without it there are make build, release, lint and doc" >&2; exit 1; }

dependencies:
	@scripts/install-deps build

dependencies-run:
	@scripts/install-deps build run

dependencies-node:
	@scripts/install-deps build run node

dependencies-openstack:
	@scripts/install-deps build run node openstack

build: dependencies ## debug binaries
	$(call stage,build,$(CARGO) build --locked --workspace --bins)

release: dependencies ## release binaries
	$(call stage,release,$(CARGO) build --locked --workspace --bins --release)

lint: dependencies ## rustfmt and clippy, no warnings
	$(call stage,format,$(CARGO) fmt --all --check)
	$(call stage,clippy,$(CARGO) clippy --locked --workspace --all-targets -- -D warnings)

# Building cargo-deny takes minutes, so it is used where it is there; .ci/run sees to it that it is.
deny: ## licences, bans and sources of the dependencies
	@if $(CARGO) deny --version >/dev/null 2>&1; then echo '== deny'; $(CARGO) deny check licenses bans sources; \
	else echo '== deny: NOT CHECKED, cargo-deny is not installed (cargo install cargo-deny --locked)'; fi

# What fails in one stage is told again at the end, and keeps no later stage from its say.
test: need-root dependencies-node build lint deny ## all tests: unit, host, OpenStack, clients, node
	@failed=; for stage in unit host beside-openstack node; do \
	$(MAKE) --no-print-directory test-$$stage || failed+=" $$stage"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

# Either uses one processor for most of its time. What the clients' tests say comes in one piece, so that no lines mix.
.PHONY: test-beside-openstack
test-beside-openstack:
	@log=$(TARGET)/test-clients.log; $(MAKE) --no-print-directory test-clients >"$$log" 2>&1 & clients=$$!; \
	trap 'kill $$clients 2>/dev/null || :' EXIT; \
	echo '== stock clients: begun beside the OpenStack tests; what they say follows those'; \
	failed=0; $(MAKE) --no-print-directory test-openstack || failed=1; \
	wait $$clients || failed=1; cat "$$log"; exit $$failed

test-unit: need-root dependencies-run build ## tests that need no rig
	$(call stage,unit and integration tests,failed=0; rm -f $(TARGET)/operations-*.md; \
	$(CARGO) test --locked --no-fail-fast --lib --bins --test imports --test dbus || failed=1; \
	$(CARGO) test --locked --no-fail-fast --package bowline-backend || failed=1; \
	BOWLINE_TEST_DATABASE=postgres $(CARGO) test --locked --no-fail-fast --package bowline-backend --tests || failed=1; \
	cat $(TARGET)/operations-*.md || failed=1; \
	[ $$failed = 0 ])

test-clients: need-root dependencies-run build ## the stock clients, from PyPI, against the volume service
	$(call stage,stock clients,backend/tests/clients/run $(TARGET)/debug/bowline-backend)
	$(call stage,backups in Swift and S3,backend/tests/clients/object-stores $(TARGET)/debug/bowline-backend)

test-host: need-root dependencies-node build ## tests on this machine's libvirtd and QEMU, isolated
	$(call stage,host tests,$(CARGO) test --locked --test host -- --test-threads=$(TEST_THREADS))

test-openstack: need-root dependencies-openstack build ## tests beside a real Keystone, Cinder and Glance, isolated
	$(call stage,OpenStack tests,$(CARGO) test --locked --test openstack -- --nocapture)

test-node: need-root dependencies-node build ## tests in whole compute nodes
	$(call stage,node image,tests/node/image/build >/dev/null)
	@echo '== node tests' # the last stage: cargo's own closing lines, with the time, end the output
	@$(CARGO) test --locked --test node -- --test-threads=$(TEST_THREADS)

demo: need-root dependencies-node release ## a guest gets a volume and lets it go, on this machine
	@scripts/demo

demo-node: need-root dependencies-node release ## the same with the kernel's initiator, in a node
	@scripts/demo-node

bench: need-root ## one JSON object of times and sizes on stdout
	@$(MAKE) --no-print-directory dependencies-node release connect-side backend-load >&2
	@scripts/bench

bench-backend: need-root ## its part about the volume service alone
	@$(MAKE) --no-print-directory dependencies-run release backend-load >&2
	@scripts/bench-backend

bench-cinder: need-root ## the volume service beside a real Cinder
	@$(MAKE) --no-print-directory dependencies-openstack release backend-load >&2
	@scripts/bench-cinder

backend-load: dependencies
	$(CARGO) build --locked --release --package bowline-backend --example backend_load

bench-boot: need-root ## its part from images to disks alone
	@$(MAKE) --no-print-directory dependencies-node release >&2
	@scripts/bench-boot

bench-starts: need-root ## its part about starts with a thousand attachments alone
	@$(MAKE) --no-print-directory dependencies-node release >&2
	@scripts/bench-starts

bench-connect: need-root ## its part beside os-brick alone
	@$(MAKE) --no-print-directory dependencies-node connect-side >&2
	@scripts/bench-connect

connect-side: dependencies
	$(CARGO) build --locked --release --features fuzzing --example connect_side

soak: need-root ## a node under load and faults for MINUTES (10); one JSON object on stdout, fails where anything is wrong
	@$(MAKE) --no-print-directory dependencies-node release >&2
	@scripts/soak $(or $(MINUTES),10)

# SECONDS for each target; TARGETS to name some.
fuzz: dependencies-run ## the fuzz targets by mutations; with FUZZ_WITH=libfuzzer under libFuzzer
	@scripts/fuzz $(or $(SECONDS),60) $(TARGETS)

doc: dependencies ## the API documentation
	$(CARGO) doc --locked --workspace --no-deps

install: install-programs install-system install-docs install-apply ## install below DESTDIR, from BOWLINE_BIN

install-programs:
	install -Dm755 $(BOWLINE_BIN)/bowlined $(DESTDIR)$(PREFIX)/sbin/bowlined
	install -Dm755 $(BOWLINE_BIN)/bowline $(DESTDIR)$(PREFIX)/bin/bowline
	install -Dm755 $(BOWLINE_BIN)/bowline-backend $(DESTDIR)$(PREFIX)/bin/bowline-backend

install-system:
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in bowlined.service bowline-backend.service; do \
	  sed 's|=/usr/|=$(PREFIX)/|' systemd/$$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; \
	  chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; done
	install -d $(DESTDIR)$(PREFIX)/share/bowline
	sed 's|/usr/|$(PREFIX)/|' systemd/bowline-backend-kernel-storage.conf >$(DESTDIR)$(PREFIX)/share/bowline/bowline-backend-kernel-storage.conf
	chmod 644 $(DESTDIR)$(PREFIX)/share/bowline/bowline-backend-kernel-storage.conf
	install -Dm644 systemd/bowlined-lvm.conf $(DESTDIR)$(PREFIX)/share/bowline/bowlined-lvm.conf
	install -Dm644 systemd/org.bowline.Agent1.conf $(DESTDIR)$(PREFIX)/share/dbus-1/system.d/org.bowline.Agent1.conf
	install -Dm644 systemd/org.bowline.agent1.policy $(DESTDIR)$(PREFIX)/share/polkit-1/actions/org.bowline.agent1.policy
	install -Dm644 systemd/50-bowline.rules $(DESTDIR)$(PREFIX)/share/polkit-1/rules.d/50-bowline.rules
	install -Dm644 systemd/bowline.sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/bowline.conf
	install -Dm644 systemd/bowline.tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/bowline.conf
	install -Dm644 systemd/bowlined.toml $(DESTDIR)$(PREFIX)/lib/bowline/bowlined.d/00-defaults.toml

# Written by the command itself; a man page or a completion that comes out empty is an error.
install-docs:
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BOWLINE_BIN)/bowline man --out $(DESTDIR)$(PREFIX)/share/man/man1
	$(BOWLINE_BIN)/bowline completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/bowline
	$(BOWLINE_BIN)/bowline completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_bowline
	$(BOWLINE_BIN)/bowline completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/bowline.fish
	test -s $(DESTDIR)$(PREFIX)/share/man/man1/bowline.1
	test -s $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bowline

# The group, the folders, and the units known to systemd: on this host alone. A package's own scripts do it elsewhere.
install-apply: install-system
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then $(MAKE) --no-print-directory apply-here; fi

apply-here:
	systemd-sysusers $(PREFIX)/lib/sysusers.d/bowline.conf
	systemd-tmpfiles --create $(PREFIX)/lib/tmpfiles.d/bowline.conf
	systemctl daemon-reload
	busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig

clean: ## cargo's output; the rig's cache stays
	$(CARGO) clean

clean-rig: ## the rigs' cache (test guest, node images), where no node runs
	@tests/rig/clean
