# make run    builds and starts a gateway with the example config
# make test   installs what the tests need besides the Swift toolchain, and runs the linters, the release build and every test once
.PHONY: run build test test-system test-package sanitize durability-long fuzz fuzz-long bench-check lint format fixtures install install-sdk package clean

run: build
	@echo
	@echo "Send it a profile from another terminal:"
	@echo
	@echo "  curl -i 'http://127.0.0.1:9999/ingest?name=myapp&format=pprof' --data-binary @$(CURDIR)/Tests/Fixtures/go-cpu.pprof"
	@echo
	@echo "It is archived under ./archive and shown below. Ctrl-C stops."
	@echo "To see it and everything else in a browser: http://127.0.0.1:12345/"
	@echo
	@.build/release/gateway run --config examples/gateway.json

build:
	@scripts/setup build
	swift build -c release

test:
	@scripts/setup test
	$(MAKE) --no-print-directory lint
	swift build -c release
	swift build --build-tests
	Tests/run .build/debug

# Runs the tests with AddressSanitizer, and then with ThreadSanitizer, in the gateway and its plugins.
sanitize:
	@scripts/setup test
	Tests/Sanitizers/run address
	Tests/Sanitizers/run thread

# What needs other compilers or tools than the tests themselves: each script of Tests/System.
test-system:
	@scripts/setup test
	@scripts/setup system
	swift build -c release
	@for script in Tests/System/*; do echo "$$script"; "$$script" || exit 1; done

# Tests the Debian package, and the container image, which takes more room and time than continuous integration has.
test-package:
	@scripts/setup test
	@scripts/setup image
	swift build -c release
	Tests/System/package
	Tests/Package/image

# Runs the tests of kills, damage, full and failing disks and long outages with many more rounds.
durability-long:
	@scripts/setup test
	swift build -c release
	GATEWAY_CRASH_ROUNDS=200 GATEWAY_CORRUPTION_ROUNDS=500 GATEWAY_ABSENCE_PROFILES=720000 \
		swift test --filter 'ScenarioTests\.(Crash|Corruption|FullDisk|Fault|Absence)Tests/'

# Fuzzes all readers of bytes from outside, or only TARGETS, each for FUZZ_SECONDS (60 by default).
fuzz:
	@scripts/setup build
	@Tests/Fuzz/run $(TARGETS)

fuzz-long:
	@FUZZ_SECONDS=300 $(MAKE) --no-print-directory fuzz

# Compares the instructions and allocations of a request with those of Benchmarks/instructions.json, on the same processor and libraries.
bench-check: build
	Benchmarks/instructions --check

lint:
	scripts/lint-docs
	scripts/lint-source
	scripts/modules --check
	swift format lint --strict --parallel --recursive Package.swift Sources Plugins Tests

format:
	swift format --in-place --parallel --recursive Package.swift Sources Plugins Tests

# Makes the profiles in Tests/Fixtures again, with real profilers.
fixtures:
	Tests/Fixtures/make-fixtures.sh

# Installs the release build of `make build`, and the SDK, below PREFIX; DESTDIR stands before it, as packagers want it.
PREFIX ?= /usr/local
install: install-sdk
	@scripts/setup install
	DESTDIR="$(DESTDIR)" scripts/install "$(PREFIX)" $(SYSCONFDIR)

# Makes a package for this release of Debian, and one with the debug symbols, in .build/package.
package: build
	@scripts/setup package
	scripts/package

# Installs what a plugin in C or C++ is built with, so that pkg-config finds it as profile-gateway-plugin.
SDK = Sources/PluginABI/include
install-sdk:
	install -d "$(DESTDIR)$(PREFIX)/include/profile-gateway" "$(DESTDIR)$(PREFIX)/share/pkgconfig"
	install -m 644 $(SDK)/*.h $(SDK)/gw.hpp $(SDK)/gw_plugin.map "$(DESTDIR)$(PREFIX)/include/profile-gateway"
	sed 's|^sdk=.*|sdk=$${pcfiledir}/../../include/profile-gateway|; /^#/d' $(SDK)/profile-gateway-plugin.pc \
		> "$(DESTDIR)$(PREFIX)/share/pkgconfig/profile-gateway-plugin.pc"
	chmod 644 "$(DESTDIR)$(PREFIX)/share/pkgconfig/profile-gateway-plugin.pc"

clean:
	rm -rf .build
