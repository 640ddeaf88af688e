# make run    a running gateway with the example config
# make test   what a contributor runs: lint, the release build, every test once; installs what it needs beside the Swift toolchain
.PHONY: run build test sanitize durability-long fuzz fuzz-long lint format fixtures clean

run: build
	@echo
	@echo "Send it a profile from another terminal:"
	@echo
	@echo "  curl -i 'http://127.0.0.1:9999/ingest?name=myapp&format=pprof' --data-binary @$(CURDIR)/Tests/Fixtures/go-cpu.pprof"
	@echo
	@echo "It is archived under ./archive and shown below. Ctrl-C stops."
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

# The tests again, with AddressSanitizer and then with ThreadSanitizer in the gateway and its plugins.
sanitize:
	@scripts/setup test
	Tests/Sanitizers/run address
	Tests/Sanitizers/run thread

# What `make test` does of kills, damage, full and failing disks and long absences, many times over.
durability-long:
	@scripts/setup test
	swift build -c release
	GATEWAY_CRASH_ROUNDS=200 GATEWAY_CORRUPTION_ROUNDS=500 GATEWAY_ABSENCE_PROFILES=720000 \
		swift test --filter 'ScenarioTests\.(Crash|Corruption|FullDisk|Fault|Absence)Tests/'

# Fuzzes whatever reads bytes from outside, for FUZZ_SECONDS a target (60 by default), TARGETS only where given.
fuzz:
	@scripts/setup build
	@Tests/Fuzz/run $(TARGETS)

fuzz-long:
	@FUZZ_SECONDS=300 $(MAKE) --no-print-directory fuzz

lint:
	scripts/lint-docs
	scripts/lint-source
	swift format lint --strict --parallel --recursive Package.swift Sources Plugins Tests

format:
	swift format --in-place --parallel --recursive Package.swift Sources Plugins Tests

# Makes the profiles in Tests/Fixtures again, with the tools that profile real programs.
fixtures:
	Tests/Fixtures/make-fixtures.sh

clean:
	rm -rf .build
