#!/usr/bin/env bash
# Installs what Meerkat needs on Debian and Ubuntu, and says what to install elsewhere.
# Does nothing, quickly, when everything is there.
#
#   scripts/setup.sh             everything for building and for the tests
#   scripts/setup.sh --runtime   only what building and running needs (enough for `make demo`)
#   scripts/setup.sh --check     changes nothing; says what is missing and exits with 1 if something is
set -euo pipefail

readonly RUST_NEEDED=1.89

readonly BUILD_PACKAGES=(
    build-essential pkg-config clang libclang-dev
    libopencv-dev opencv-data
    libavcodec-dev libavformat-dev libavutil-dev libswscale-dev
    libavfilter-dev libavdevice-dev libswresample-dev
    ca-certificates
)
# The tests read clips with ffprobe, scrape the node with a real Prometheus, let it tell a real Mosquitto, and speak to it
# from Python, also as clients with numpy do (5 MB); Chinese names are drawn with a font; a browser that opens its page is
# added below.
readonly TEST_PACKAGES=(ffmpeg fonts-wqy-microhei mosquitto prometheus python3 python3-numpy)

want_tests=yes
check_only=no
for argument in "$@"; do
    case "$argument" in
    --runtime) want_tests=no ;;
    --test) want_tests=yes ;;
    --check) check_only=yes ;;
    -h | --help)
        sed -n '2,7s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "setup.sh: unknown argument $argument (see --help)" >&2
        exit 2
        ;;
    esac
done

say() { echo "setup: $*" >&2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        say "this needs root and there is no sudo; run as root: $*"
        return 1
    fi
}

# Prints the packages of its arguments that are not installed.
missing_packages() {
    local installed package
    installed=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' "$@" 2>/dev/null || true)"
    for package in "$@"; do
        case "$installed" in
        *" installed:$package "*) ;;
        *) echo "$package" ;;
        esac
    done
}

# Installs packages without letting any of them start a service: the tests start a Prometheus and a Mosquitto of their
# own, and nobody asked for them on ports 9090 and 1883.
install_quietly() {
    local policy=/usr/sbin/policy-rc.d made_policy=no status=0 package
    if [ -d /run/systemd/system ] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        made_policy=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || status=$?
    if [ "$made_policy" = yes ]; then
        as_root rm -f "$policy"
        for package in "$@"; do
            case "$package" in
            mosquitto | prometheus) as_root systemctl disable --quiet "$package.service" || true ;;
            esac
        done
    fi
    return "$status"
}

setup_debian() {
    local wanted=("${BUILD_PACKAGES[@]}") missing
    if [ "$want_tests" = yes ]; then
        wanted+=("${TEST_PACKAGES[@]}")
        # A browser from elsewhere will do, and Ubuntu's package has another name.
        if ! command -v chromium chromium-browser google-chrome >/dev/null; then
            if grep -q '^ID=ubuntu' /etc/os-release; then wanted+=(chromium-browser); else wanted+=(chromium); fi
        fi
    fi
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    if [ "${#missing[@]}" -eq 0 ]; then
        return 0
    fi
    say "missing: ${missing[*]}"
    if [ "$check_only" = yes ]; then
        return 1
    fi
    as_root apt-get update -q
    install_quietly "${missing[@]}"
}

setup_elsewhere() {
    local missing=() tool module
    for tool in cc clang pkg-config; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    for module in opencv4 libavcodec libavformat libavutil libswscale libavfilter libavdevice libswresample; do
        pkg-config --exists "$module" 2>/dev/null || missing+=("$module")
    done
    if [ "$want_tests" = yes ]; then
        for tool in ffprobe mosquitto prometheus promtool python3; do
            command -v "$tool" >/dev/null || missing+=("$tool")
        done
    fi
    if [ "${#missing[@]}" -eq 0 ]; then
        return 0
    fi
    cat >&2 <<'TEXT'
setup: this script installs by itself only on Debian and Ubuntu. Elsewhere, install:
  Fedora  sudo dnf install gcc gcc-c++ clang clang-devel pkgconf opencv-devel opencv-contrib ffmpeg-devel ffmpeg
          (FFmpeg with H.264 is in RPM Fusion); for the tests also: golang-github-prometheus mosquitto chromium python3
          python3-numpy google-noto-sans-cjk-fonts
  Arch    sudo pacman -S --needed base-devel clang pkgconf opencv vtk hdf5 ffmpeg
          for the tests also: prometheus mosquitto chromium python python-numpy
  macOS   xcode-select --install; brew install llvm pkg-config opencv ffmpeg
          for the tests also: brew install prometheus mosquitto python numpy; a Chromium or Chrome
TEXT
    say "missing here: ${missing[*]}"
    return 1
}

check_rust() {
    local version
    if ! command -v cargo >/dev/null; then
        say "Rust is missing. Get it from https://rustup.rs, or: curl -sSf https://sh.rustup.rs | sh"
        return 1
    fi
    version=$(rustc --version | cut -d ' ' -f 2)
    if [ "$(printf '%s\n%s\n' "$RUST_NEEDED" "$version" | sort -V | head -n 1)" != "$RUST_NEEDED" ]; then
        say "Rust $version is too old: $RUST_NEEDED or newer is needed (rustup update stable)"
        return 1
    fi
    if [ "$want_tests" = yes ] && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        say "rustfmt or clippy is missing: rustup component add rustfmt clippy"
        return 1
    fi
}

status=0
if command -v dpkg-query apt-get >/dev/null 2>&1; then
    setup_debian || status=1
else
    setup_elsewhere || status=1
fi
check_rust || status=1
exit "$status"
