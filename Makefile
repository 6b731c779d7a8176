# SPDX-License-Identifier: Apache-2.0
# A thin front to meson and the scripts of tools/. `make help` lists the targets.

BUILD ?= build
ASAN ?= build-asan
PREFIX ?= /usr/local
VERSION = $(shell sed -n "s/^  version: '\(.*\)',/\1/p" meson.build)
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := build
.PHONY: help demo build build-asan guest kernel test test-kvm soak lint fuzz bench format install dist clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: ## install what is missing, build, fetch a kernel, run a command in a micro-VM
	@tools/install-deps demo
	@$(MAKE) --no-print-directory guest
	@tools/demo $(BUILD)

build: $(BUILD)/build.ninja ## compile everything into build/
	ninja -C $(BUILD) -j$(JOBS)

build-asan: $(ASAN)/build.ninja
	ninja -C $(ASAN) -j$(JOBS)

guest: build ## fetch and unpack the guest kernel into build/guest
	@tools/fetch-kernel $(BUILD)/guest
	@tools/make-kernel --cached $(BUILD)/guest

kernel: build ## build the small guest kernel (minutes, once) into build/guest; the kvm engine prefers it
	@tools/install-deps demo kernel
	@JOBS=$(JOBS) tools/make-kernel $(BUILD)/guest

test: ## all tests: unit (plain, ASan+UBSan), fuzz corpora, integration on each engine
	@tools/install-deps demo test
	@$(MAKE) --no-print-directory guest build-asan
	@tools/test-all --build $(BUILD) --asan $(ASAN)

test-kvm: ## the integration suite on the kvm engine, inside an emulated machine with /dev/kvm: its fast part
	@tools/install-deps demo test
	@$(MAKE) --no-print-directory guest
	@tests/nested/test-kvm --build $(BUILD)

soak: ## all of the integration suite on the kvm engine there
	@tools/install-deps demo test
	@$(MAKE) --no-print-directory guest
	@tests/nested/test-kvm --build $(BUILD) --full --limit 14400

lint: ## compilers, format, layers, sizes, headers, libraries, shellcheck, cppcheck, clang-tidy
	@tools/install-deps demo test lint
	@$(MAKE) --no-print-directory build
	@tools/lint $(BUILD)

fuzz: ## fuzz each parser for a minute, find the planted bugs, measure coverage
	@tools/install-deps demo test
	@for t in fuzz/fuzz_*.c; do tools/fuzz-run "$$(basename "$$t" .c)" 60 || exit 1; done
	@tools/fuzz-planted
	@tools/fuzz-coverage

bench: guest ## measure starts, commands, throughput, memory, and a bare QEMU beside them
	@bench/run --build $(BUILD)

format: ## run clang-format over all sources
	git ls-files '*.c' '*.h' | xargs -r clang-format-14 -i

install: guest ## install below PREFIX (default /usr/local); DESTDIR is honoured
	meson configure $(BUILD) --prefix=$(PREFIX)
	meson install -C $(BUILD)

dist: ## source archive of the committed tree
	mkdir -p dist
	git archive --prefix=vial-$(VERSION)/ -o dist/vial-$(VERSION).tar.gz HEAD

clean: ## remove what the other targets made
	rm -rf $(BUILD) $(ASAN) build-clang build-fuzz dist

$(BUILD)/build.ninja:
	meson setup $(BUILD) --buildtype=release --prefix=$(PREFIX)

$(ASAN)/build.ninja:
	meson setup $(ASAN) --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
