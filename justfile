# Without `just`: python3 -m venv .venv && .venv/bin/pip install -q rust-just && .venv/bin/just test

native := if arch() == "aarch64" { "arm64" } else { "amd64" }

# uv takes a quarter of pip's time for these, but does not know where pip was told to look.
packages := "cargo-zigbuild==0.24.1 ziglang==0.17.1 influxdb==5.3.2 'influxdb-client[async]==1.50.0' duckdb==1.5.5 \
    duckdb-extension-sqlite-scanner==1.5.5 kubernetes-validate==1.37.0 'cyclonedx-python-lib[json-validation]==11.12.0' \
    spdx-tools==0.8.5"

# List the recipes
default:
    @'{{ just_executable() }}' --list

# Install what the other recipes need beyond cargo, Python and Docker: rustfmt, clippy, the oldest Rust, zig (in .venv)
setup: lints
    test -x .venv/bin/python3 || python3 -m venv .venv
    oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); cargo "+$oldest" --version >/dev/null 2>&1 || \
        rustup toolchain install "$oldest" --profile minimal || [ "${CI:-}" != true ]
    .venv/bin/pip install -q uv==0.13.9
    .venv/bin/uv pip install -q --python .venv/bin/python3 {{ packages }} || .venv/bin/pip install -q {{ packages }}

[private]
lints:
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

# Build the program for this machine
build:
    cargo build --release --locked

# Run every test; those in containers are skipped where there is no Docker, but never on CI
test: fmt-check
    #!/bin/sh
    set -eu
    mkdir -p target
    # What is tested, and the static programs with what they need, are made in folders of their own: side by side.
    log=target/static.log
    {
        '{{ just_executable() }}' setup || exit
        if [ "${CI:-}" = true ] || docker version >/dev/null 2>&1; then
            '{{ just_executable() }}' image || exit
        fi
        '{{ just_executable() }}' --no-deps binary amd64 && '{{ just_executable() }}' --no-deps binary arm64
    } >"$log" 2>&1 &
    static=$!
    trap 'wait "$static" || cat "$log"' EXIT
    '{{ just_executable() }}' clippy
    cargo test --locked --no-run
    status=0
    wait "$static" || status=1
    trap - EXIT
    cat "$log"
    [ "$status" = 0 ] || exit 1
    # What simulates faults is bound by the processor, the rest mostly waits: all go side by side.
    simulated=target/simulated.log emulated=target/arm64.log
    {
        nice cargo test --locked --no-fail-fast --lib --test memory &&
            nice cargo test --locked --no-fail-fast --test stories -- crashes:: faults::
    } >"$simulated" 2>&1 &
    simulating=$!
    {
        nice '{{ just_executable() }}' --no-deps quick || status=1
        '{{ just_executable() }}' --no-deps test-arm64 || status=1
        exit "$status"
    } >"$emulated" 2>&1 &
    emulating=$!
    trap 'kill $simulating $emulating 2>/dev/null || true' EXIT
    cargo test --locked --no-fail-fast --bins --test allocations || status=1
    cargo test --locked --no-fail-fast --test stories -- --test-threads=3 --skip crashes:: --skip faults:: || status=1
    cargo test --locked --doc || status=1
    wait "$simulating" || status=1
    cat "$simulated"
    wait "$emulating" || status=1
    trap - EXIT
    cat "$emulated"
    exit "$status"

# Build the static binary that goes into the image: target/<architecture>-unknown-linux-musl/release/seawall
binary arch=native: setup
    #!/bin/sh
    set -eu
    target={{ if arch == "arm64" { "aarch64" } else { "x86_64" } }}-unknown-linux-musl
    case '{{ arch }}' in
        amd64 | arm64) ;;
        *) echo 'just: the architecture is amd64 or arm64, not {{ arch }}' >&2; exit 2 ;;
    esac
    rustup target list --installed | grep -q "^$target$" || rustup target add "$target"
    # zig compiles SQLite, and is found as a module of the python3 on PATH; Rust's own linker links. A panic
    # aborts in this binary, so that nothing in it needs tables to unwind by (src/sys/unwind.rs), and no frame
    # pointers either. zig takes -Oz for -Os, which inlines: for SQLite that is 75 KB, and no faster. But its interpreter
    # alone by -Os is 700 bytes and 6 % less processor time for each reading. Functions of the same code are one, where
    # nobody takes their address. The path of the build is left out.
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    flags="'-Cforce-unwind-tables=no', '-Clink-arg=--no-eh-frame-hdr', '-Clink-arg=-T.image/no-unwind-tables.ld',
        '-Clink-arg=-zpack-relative-relocs', '-Clink-arg=--icf=safe', '-Clink-arg=-O2',
        '--remap-path-prefix=$cargo_home=/cargo', '--remap-path-prefix=$PWD=/seawall'"
    export "CFLAGS_$(echo $target | tr - _)=-Xclang -Oz -fomit-frame-pointer -fno-unwind-tables -fno-asynchronous-unwind-tables
        -mllvm -force-remove-attribute=sqlite3VdbeExec:minsize"
    PATH="$PWD/.venv/bin:$PATH" cargo zigbuild --release --locked --bin seawall --target "$target" \
        --config 'profile.release.opt-level = "z"' \
        --config 'profile.release.package.libsqlite3-sys.opt-level = "s"' \
        --config "target.$target.linker = 'rust-lld'" \
        --config "target.$target.rustflags = [$(echo $flags)]"

# Write the image as an archive that `docker load` takes
[private]
archive file arch tag: (binary arch)
    mkdir -p "$(dirname '{{ file }}')"
    .venv/bin/python3 .image/pack.py Dockerfile.scratch \
        'target/{{ if arch == "arm64" { "aarch64" } else { "x86_64" } }}-unknown-linux-musl/release/seawall' \
        '{{ arch }}' "$(cargo pkgid | sed 's/.*[#@]//')" "$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
        '{{ tag }}' '{{ file }}'

# Build the static binary and the image: `seawall`, or `seawall:ARCH` for another architecture
image arch=native tag=(if arch == native { "seawall:latest" } else { "seawall:" + arch }): (archive ("target/image/" + arch + ".tar") arch tag)
    docker load -q -i 'target/image/{{ arch }}.tar' >/dev/null
    # The images that lost their name to this one.
    docker image prune --force --filter label=org.opencontainers.image.title=seawall >/dev/null
    docker image inspect -f '{{ tag }} {{{{ .Os }}/{{{{ .Architecture }} {{{{ .Size }} bytes' '{{ tag }}'

# Write what is handed out into target/release-files: binaries, images, packages, archives, bills of materials, checksums
release: (binary native)
    #!/bin/sh
    set -eu
    version=$(cargo pkgid | sed 's/.*[#@]//')
    seconds=$(git log -1 --format=%ct 2>/dev/null || echo 0)
    files=target/release-files
    native=target/{{ if native == "arm64" { "aarch64" } else { "x86_64" } }}-unknown-linux-musl/release/seawall
    rm -rf "$files"
    for arch in amd64 arm64; do
        '{{ just_executable() }}' archive "$files/seawall-$version-linux-$arch.docker.tar" "$arch" "seawall:$version"
        case $arch in amd64) target=x86_64 ;; arm64) target=aarch64 ;; esac
        binary=target/$target-unknown-linux-musl/release/seawall
        install -m 755 "$binary" "$files/seawall-$version-linux-$arch"
        .venv/bin/python3 .image/package.py "$binary" "$native" "$arch" "$version" "$seconds" "$files"
    done
    .venv/bin/python3 .image/bill.py "$native" "$version" "$seconds" "$files"
    cd "$files"
    sha256sum seawall* >SHA256SUMS
    cat SHA256SUMS

# Keep a database of this version in tests/files, for the tests of every later one
keep: build
    #!/bin/sh
    set -eu
    kept=tests/files/$(cargo pkgid | sed 's/.*[#@]//')
    for run in 1 2; do
        target/release/seawall --db "$kept.db" --source stdin <tests/files/kept.lp
    done
    target/release/seawall export "$kept.db" >"$kept.csv"

# Write what is handed out, once more from a clone in another folder with nothing kept, and compare; what is not committed is not in it
reproduce: release
    #!/bin/sh
    set -eu
    again=$(mktemp -d)
    trap 'rm -rf "$again"' EXIT
    git clone -q . "$again/seawall"
    ln -s "$PWD/.venv" "$again/seawall/.venv"
    (cd "$again/seawall" && ZIG_GLOBAL_CACHE_DIR="$again/zig" \
        '{{ just_executable() }}' -f "$again/seawall/justfile" release >/dev/null)
    diff -r target/release-files "$again/seawall/target/release-files"
    echo 'just reproduce: both are the same bytes'

# A part by its name replaces only that table: throughput, stops, docker-stop, start, looking, growth, series, http,
# latency, resources, sampling, flash. What some need: apt-get install influxdb bindfs sqlite3 btrfs-progs; flash: root
# Measure all figures into docs/figures.md (40 minutes); --large also 100 million readings and 10 GB, --quick only instructions, failing if they have grown
bench *options:
    #!/bin/sh
    set -eu
    case ' {{ options }} ' in *' --quick '*) exec '{{ just_executable() }}' quick ;; esac
    '{{ just_executable() }}' --quiet binary
    cargo build --quiet --release --locked
    export BENCH_IMAGE_PROGRAM="$PWD/target/{{ if native == "arm64" { "aarch64" } else { "x86_64" } }}-unknown-linux-musl/release/seawall"
    .venv/bin/python3 benches/bench.py {{ options }}

# Instructions for each reading, by valgrind, against benches/expected.txt
[private]
quick: (binary native)
    #!/bin/sh
    set -eu
    if [ '{{ native }}' != amd64 ]; then
        echo 'just bench --quick: skipped: the expected numbers are of amd64'
    elif [ "${CI:-}" != true ] && ! valgrind --version >/dev/null 2>&1; then
        echo 'just bench --quick: skipped: there is no valgrind'
    else
        .venv/bin/python3 benches/quick.py target/x86_64-unknown-linux-musl/release/seawall benches/expected.txt
    fi

# Run what tests the built program again, with the arm64 binary under emulation
test-arm64: (binary "arm64")
    #!/bin/sh
    set -eu
    if [ '{{ native }}' != arm64 ] && [ "${CI:-}" != true ] && ! qemu-aarch64-static --version >/dev/null 2>&1; then
        echo 'just test-arm64: skipped: there is no qemu-aarch64-static'
        exit
    fi
    mkdir -p target/arm64
    binary=$PWD/target/aarch64-unknown-linux-musl/release/seawall
    [ '{{ native }}' = arm64 ] || binary="qemu-aarch64-static $binary"
    printf '#!/bin/sh\nexec %s "$@"\n' "$binary" >target/arm64/seawall
    chmod 755 target/arm64/seawall
    # Not: what measures memory, to which the emulator adds its own; a signal at the start, because the emulator
    # handles all of them before it runs the program; what the kernel dropped, of which the emulator does not tell; a
    # limit on threads, of which the emulator needs some itself; what is the same anywhere and takes minutes there:
    # retention, wal, time_index, show, check, damage, the rows of an export, the kills of a backup.
    tests='recording simulation stalls checkpoints ownership environment log_lines terminal
        stopping stop_at_start second_signal stop_beside_others stuck_streams sigusr1
        backup status every_command sockets crowds listening datagrams files'
    skipped=
    [ '{{ native }}' = arm64 ] || skipped='
        a_backup_that_is_killed_leaves_dest_as_it_was
        a_backup_through_a_pipe_takes_no_memory_of_the_size_of_the_database
        a_client_that_never_reads_blocks_nobody
        a_thousand_connections_need_little_memory
        long_names_of_many_series_are_bounded_in_memory
        hostile_clients_cost_the_others_nothing
        unfinished_lines_of_many_hold_no_more_than_their_share
        of_more_series_than_are_remembered_each_reading_keeps_its_name
        a_flood_costs_the_others_nothing
        a_stop_at_any_moment_of_the_start_leaves_a_whole_file
        a_stop_before_the_file_could_be_opened_is_no_success
        a_stop_while_a_large_wal_is_recovered_loses_nothing
        a_stop_while_the_start_waits_for_a_lock_is_in_time
        what_the_kernel_dropped_is_counted_too
        where_no_thread_can_be_had'
    SEAWALL_TEST_BINARY=$PWD/target/arm64/seawall cargo test --locked --no-fail-fast \
        --test stories -- $(printf '%s:: ' $tests) a_follower_goes_on a_signal_ends_a_follower \
        $(printf -- '--skip %s ' $skipped)

# Kill, stop, fill and pin one database at random for so many MINUTES, and print the figures; a SEED replays
torture minutes seed="12":
    SEAWALL_TORTURE_MINUTES='{{ minutes }}' SEAWALL_TEST_SEED='{{ seed }}' \
        cargo test --locked --release --test stories as_long_as_asked -- --ignored --nocapture --test-threads=1

# `--of` names what is compared, `--states N` how many states are rebuilt for each cut, `--list` lists; docs/durability.md has more.
# Cut the power of a qemu guest so many times and look for what was acknowledged; a SEED replays (root, qemu, Debian)
powercut cuts="100" seed="17" *options: (binary "amd64")
    python3 tests/powercut/rig.py '{{ cuts }}' '{{ seed }}' {{ options }}

# Fuzz a parser for so many SECONDS: line, stream, settings, number, inflate or http (C++ compiler; cargo-fuzz is installed)
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

# Run the unit tests, and those of the store, under Address-, Leak- and UndefinedBehaviorSanitizer, SQLite's C included, then under valgrind
sanitize:
    #!/bin/sh
    set -eu
    host=$(rustc -vV | sed -n 's/^host: //p')
    # Sanitizers count as unstable; the stable compiler has them all the same. What the C compiler puts in
    # calls the runtime that rustc brings.
    (export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
        export CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer'
        options="--locked --target $host --target-dir target/sanitize"
        cargo test $options --lib && cargo test $options --test stories -- store:: repeats::)
    runner="CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUNNER"
    export "$runner=valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite"
    cargo test --locked --lib -- --test-threads=1 --skip floats_are_those_of_the_standard_library
    cargo test --locked --test stories -- --test-threads=1 store:: repeats::

# Run under Miri what needs neither SQLite nor the kernel: the queue, the parsers, the decisions (nightly)
miri:
    cargo +nightly miri --version >/dev/null 2>&1 \
        || rustup toolchain install nightly --profile minimal --component miri,rust-src
    MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked --lib --target-dir target/miri -- \
        log:: reading:: record:: --skip floats_are_those_of_the_standard_library

# Format the sources
fmt: lints
    cargo fmt

[private]
fmt-check: lints
    cargo fmt --check

# Check with clippy, all warnings denied
clippy: lints
    cargo clippy --locked --all-targets -- -D warnings
