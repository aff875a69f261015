# Without `just`: python3 -m venv .venv && .venv/bin/pip install -q rust-just && .venv/bin/just test

native := if arch() == "aarch64" { "arm64" } else { "amd64" }

# List the recipes
default:
    @'{{ just_executable() }}' --list

# Install what the other recipes need beyond cargo, Python and Docker: rustfmt, clippy, zig (in .venv)
setup:
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    test -x .venv/bin/python3 || python3 -m venv .venv
    .venv/bin/pip install -q cargo-zigbuild==0.24.1 ziglang==0.17.1

# Build the program for this machine
build:
    cargo build --release --locked

# Run every test; those in containers are skipped where there is no Docker, but never on CI
test: setup fmt-check clippy
    #!/bin/sh
    set -eu
    if [ "${CI:-}" = true ] || docker version >/dev/null 2>&1; then
        '{{ just_executable() }}' --no-deps image
    fi
    cargo test --locked --no-fail-fast

# Build the static binary and the image: `seawall`, or `seawall:ARCH` for another architecture
image arch=native: setup
    #!/bin/sh
    set -eu
    case '{{ arch }}' in
        amd64) target=x86_64-unknown-linux-musl ;;
        arm64) target=aarch64-unknown-linux-musl ;;
        *) echo 'just image: the architecture is amd64 or arm64, not {{ arch }}' >&2; exit 2 ;;
    esac
    rustup target list --installed | grep -q "^$target$" || rustup target add "$target"
    # zig is found as a module of the python3 on PATH. It makes a position-independent binary only if told.
    PATH="$PWD/.venv/bin:$PATH" cargo zigbuild --release --locked --bin seawall --target "$target" \
        --config "target.$target.rustflags = ['-Clink-arg=-pie']"

    context=target/image/{{ arch }}
    image='{{ if arch == native { "seawall" } else { "seawall:" + arch } }}'
    rm -rf "$context"
    install -D -m 755 "target/$target/release/seawall" "$context/rootfs/seawall"
    install -d -m 755 "$context/rootfs/app"
    install -d -m 1777 "$context/rootfs/app/data"
    docker build -q -f Dockerfile.scratch -t "$image" --platform 'linux/{{ arch }}' \
        --build-arg VERSION="$(cargo pkgid | sed 's/.*[#@]//')" "$context" >/dev/null
    # Without BuildKit, an image from scratch is taken to be for this machine, whatever --platform says.
    if [ "$(docker image inspect -f '{{{{ .Architecture }}' "$image")" != '{{ arch }}' ]; then
        docker save "$image" \
            | LC_ALL=C sed 's/"architecture":"{{ native }}"/"architecture":"{{ arch }}"/' \
            | docker load >/dev/null
    fi
    # The images that lost their name to this one.
    docker image prune --force --filter label=org.opencontainers.image.title=seawall >/dev/null
    docker image inspect -f "$image {{{{ .Os }}/{{{{ .Architecture }} {{{{ .Size }} bytes" "$image"

# Measure what the README's figures come from
bench:
    cargo bench --locked --bench yardsticks

# Kill, stop, fill and pin one database at random for so many MINUTES, and print the figures; a SEED replays
torture minutes seed="12":
    SEAWALL_TORTURE_MINUTES='{{ minutes }}' SEAWALL_TEST_SEED='{{ seed }}' \
        cargo test --locked --release --test torture as_long_as_asked -- --ignored --nocapture

# Fuzz a parser for so many SECONDS: line, stream, settings or number (C++ compiler; cargo-fuzz is installed)
fuzz target seconds="300":
    #!/bin/sh
    set -eu
    cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz@0.13.2
    mkdir -p target/fuzz/found/{{ target }}
    # libFuzzer's instrumentation counts as unstable; the stable compiler has it all the same.
    # What is found stays in target/fuzz/found: only what is worth keeping goes into tests/fuzz/corpus.
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz '{{ target }}' \
        "$PWD/target/fuzz/found/{{ target }}" "$PWD/tests/fuzz/corpus/{{ target }}" \
        -- -max_total_time='{{ seconds }}' -max_len=4096 -timeout=10

# Run the unit tests under AddressSanitizer, LeakSanitizer and UBSan, SQLite's C included, then under valgrind
sanitize:
    #!/bin/sh
    set -eu
    host=$(rustc -vV | sed -n 's/^host: //p')
    # Sanitizers count as unstable; the stable compiler has them all the same. What the C compiler puts in
    # calls the runtime that rustc brings.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
        CFLAGS='-fsanitize=address,undefined -fsanitize-undefined-trap-on-error -fno-omit-frame-pointer' \
        cargo test --locked --lib --target "$host" --target-dir target/sanitize
    runner="CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUNNER"
    env "$runner=valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite" \
        cargo test --locked --lib -- --test-threads=1 --skip floats_are_those_of_the_standard_library

# Run under Miri what needs neither SQLite nor the kernel: the queue, the parsers, the decisions (nightly)
miri:
    cargo +nightly miri --version >/dev/null 2>&1 \
        || rustup toolchain install nightly --profile minimal --component miri,rust-src
    MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked --lib --target-dir target/miri -- \
        ledger:: line:: log:: number:: queue:: reading:: source::sim:: source::sysfs::channel:: stop:: \
        terminal:: time:: writer:: --skip floats_are_those_of_the_standard_library

# Format the sources
fmt:
    cargo fmt

[private]
fmt-check:
    cargo fmt --check

# Check with clippy, all warnings denied
clippy:
    cargo clippy --locked --all-targets -- -D warnings
