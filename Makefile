# Two commands for a fresh Debian 12 with Rust: `make demo` makes a call and lets you listen to it, `make test` passes the tests.

# What a test needs beside Rust: a C compiler (ring), cmake (libopus), ALSA (cpal), a voice, SIP peers (sipp, baresip, Kamailio), a DNS server, certificates, networks with a
# NAT, a sound tool, the unit checker, a Debian to install the package into and its judge.
PACKAGES = gcc libc6-dev cmake make pkg-config libasound2-dev espeak-ng sip-tester baresip-core linphone-cli kamailio kamailio-tls-modules dnsmasq-base openssl iproute2 nftables sox systemd mmdebstrap lintian
DEMO_PACKAGES = gcc libc6-dev cmake make pkg-config libasound2-dev espeak-ng
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)
LANG_OF_CALL ?= en
OUT ?= demo-out
TARGET ?= receiver
SECONDS ?= 300

.PHONY: demo test packages demo-packages deb deb-packages figures fuzz

demo: demo-packages
	cargo run --release --locked -- demo --lang $(LANG_OF_CALL) --out $(OUT)

test: packages
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps --document-private-items
	cargo test --locked

# Installs only what is missing, so that a machine without a network but with everything in place can test.
packages:
	@missing="$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done)"; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$missing; fi

demo-packages:
	@$(MAKE) --no-print-directory packages PACKAGES="$(DEMO_PACKAGES)"

# The Debian package, for this machine or the other one: make deb ARCH=arm64. It goes to target/deb.
ARCH ?= $(shell dpkg --print-architecture)
RUST_TARGET = $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-gnu
TOOLS = $(if $(filter arm64,$(ARCH)),aarch64,x86-64)-linux-gnu
FOREIGN = $(filter-out $(shell dpkg --print-architecture),$(ARCH))
CARGO_TARGET_DIR ?= target
# What a foreign program is linked with, and run by.
DEB_PACKAGES = gcc libc6-dev cmake make pkg-config binutils xz-utils git \
	$(if $(FOREIGN),gcc-$(TOOLS) g++-$(TOOLS) libc6-dev:$(ARCH) libasound2-dev:$(ARCH) qemu-user-static,libasound2-dev)

deb: deb-packages
	rustup target add $(RUST_TARGET)
	env $(if $(FOREIGN),$(CROSS)) cargo build --release --locked --target $(RUST_TARGET)
	packaging/deb $(ARCH) $(CARGO_TARGET_DIR)/$(RUST_TARGET)/release/offhook $(CARGO_TARGET_DIR)/deb

deb-packages:
	@$(if $(FOREIGN),dpkg --print-foreign-architectures | grep -qx $(ARCH) || { $(SUDO) dpkg --add-architecture $(ARCH) && $(SUDO) apt-get update -qq; })
	@$(MAKE) --no-print-directory packages PACKAGES="$(DEB_PACKAGES)"

MULTIARCH = $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-linux-gnu
RUST_NAME = $(subst -,_,$(RUST_TARGET))
CROSS = CARGO_TARGET_$(shell echo $(RUST_NAME) | tr a-z A-Z)_LINKER=$(MULTIARCH)-gcc CC_$(RUST_NAME)=$(MULTIARCH)-gcc CXX_$(RUST_NAME)=$(MULTIARCH)-g++ \
	PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR_$(RUST_NAME)=/usr/lib/$(MULTIARCH)/pkgconfig:/usr/share/pkgconfig

# The figures in docs/latency.md and docs/line.md, measured on this machine.
figures: packages
	cargo bench --locked --bench figures
	cargo bench --locked --bench line
	cargo bench --locked --bench turns

# Looks for input that breaks something, by coverage; see fuzz/README.md. Needs g++. Not part of the tests. The flags are those that
# `cargo fuzz` sets; the target is named so that they are not for build scripts.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions
HOST = $(shell rustc -vV | sed -n 's/host: //p')

fuzz:
	mkdir -p fuzz/corpus/$(TARGET) fuzz/artifacts/$(TARGET) fuzz/seeds/$(TARGET)
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_STRIP=none RUSTFLAGS="$(FUZZ_FLAGS)" cargo run --release --locked --target $(HOST) \
		--target-dir target/fuzz --package offhook-fuzz --bin $(TARGET) -- fuzz/corpus/$(TARGET) fuzz/seeds/$(TARGET) \
		-max_total_time=$(SECONDS) -artifact_prefix=fuzz/artifacts/$(TARGET)/ -max_len=4096 -timeout=10
