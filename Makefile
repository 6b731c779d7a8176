# SPDX-License-Identifier: Apache-2.0
# A thin front to meson and the scripts of tools/. `make help` lists the targets.

BUILD ?= build
ASAN ?= build-asan
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := build
.PHONY: help build guest clean install format

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

$(BUILD)/build.ninja:
	meson setup $(BUILD) --buildtype=release --prefix=$(PREFIX)

$(ASAN)/build.ninja:
	meson setup $(ASAN) --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false

build: $(BUILD)/build.ninja ## compile everything into build/
	ninja -C $(BUILD) -j$(JOBS)

guest: build ## fetch and unpack the guest kernel into build/guest
	tools/fetch-kernel $(BUILD)/guest

install: guest ## install below PREFIX (default /usr/local); DESTDIR is honoured
	meson configure $(BUILD) --prefix=$(PREFIX)
	meson install -C $(BUILD)

format: ## run clang-format over all sources
	clang-format-14 -i $$(git ls-files '*.c' '*.h')

clean: ## remove build directories
	rm -rf $(BUILD) $(ASAN) build-fuzz
