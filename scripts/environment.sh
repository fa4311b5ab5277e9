# Sourced by scripts/demo and scripts/test: makes the virtual environments, or reuses them if they are current.
#
#   .venv          the product with the extra that the caller names (demo, dev)
#   .venv-tflite   the TFLite exporter, whose pins clash with everything else (docs/adr/0001)
#   .venv-tflite-runtime   scripts/test only: the LiteRT backend on tflite_runtime, which wants numpy 1 and Python 3.11
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
TFLITE_VENV="$ROOT/.venv-tflite"
TFLITE_RUNTIME_VENV="$ROOT/.venv-tflite-runtime"
trap 'printf "%s: interrupted\n" "${SCRIPT_NAME:-scripts}" >&2; exit 130' INT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() {
    if [ -t 2 ]; then printf '\033[1m==>\033[0m %s\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi
}

fail() {
    printf '%s: %s\n' "${SCRIPT_NAME:-scripts}" "$*" >&2
    exit 1
}

usable() { # PYTHON
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

find_python() { # a Python that PYTHON names is never replaced by another
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 to 3.14; name one or unset PYTHON"
    else
        for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
            if usable "$candidate"; then
                PYTHON="$candidate"
                break
            fi
        done
        [ -n "${PYTHON:-}" ] || fail "needs Python 3.11 to 3.14, found $(python3 --version 2>&1 || echo none); install one or set PYTHON=/path/to/python3"
    fi
    PYTHON="$(command -v "$PYTHON")"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$PYTHON has no venv module; on Debian, Ubuntu and Raspberry Pi OS: sudo apt install python3-venv"
}

need_disk() { # MEBIBYTES
    local free
    free="$(df -Pm "$ROOT" | awk 'NR==2 {print $4}')"
    [ "$free" -ge "$1" ] || fail "needs $1 MiB of free disk in $ROOT, found $free MiB; free some and run again"
}

stamp() { # FILE...: digest of what the environment was made from
    (cat "$@" && "$PYTHON" -c 'import sys, sysconfig; print(sys.version, sysconfig.get_platform())') | sha256sum | cut -c1-64
}

# A failed step leaves no stamp, so the next run makes the environment again.
make_environment() { # DIRECTORY WANTED-STAMP NAME PIP-ARGUMENTS...
    local directory="$1" wanted="$2" name="$3" log
    shift 3
    if [ "$(cat "$directory/.$name" 2>/dev/null)" = "$wanted" ]; then
        say "reusing ${directory#"$ROOT"/}"
        return
    fi
    say "installing ${directory#"$ROOT"/} ($name): a minute or two; tail -f ${directory#"$ROOT"/}/install.log to watch"
    [ -x "$directory/bin/python" ] && "$directory/bin/python" -c 'import pip' 2>/dev/null ||
        "$PYTHON" -m venv --clear "$directory" || fail "could not make a virtual environment in $directory"
    log="$directory/install.log"
    if ! "$directory/bin/python" -m pip install --no-color "$@" >"$log" 2>&1; then
        if grep -qiE 'no space left' "$log"; then fail "the disk is full; free some space and run again ($log)"; fi
        if grep -qiE 'NameResolutionError|Temporary failure in name resolution|Network is unreachable|NewConnectionError|ConnectTimeout' "$log"; then
            fail "pip could not reach its package index: no network? ($log)"
        fi
        fail "pip failed: $(grep -iE '^ERROR' "$log" | head -1 || tail -1 "$log") ($log)"
    fi
    printf '%s\n' "$wanted" >"$directory/.$name"
}

prepare() { # EXTRA
    find_python
    [ -e "$VENV/.dev" ] || [ -e "$VENV/.demo" ] || need_disk 6000
    local wanted
    wanted="$(stamp "$ROOT/pyproject.toml" "$ROOT/constraints.txt")"
    if [ "$1" = demo ] && [ "$(cat "$VENV/.dev" 2>/dev/null)" = "$wanted" ]; then
        say "reusing .venv"
    else
        make_environment "$VENV" "$wanted" "$1" -c "$ROOT/constraints.txt" -e "${ROOT}[$1]"
    fi
    if [ ! -e /dev/nvidia0 ] && [ ! -e /proc/driver/nvidia/version ] &&
        "$VENV/bin/python" -c 'import torch, sys; sys.exit(torch.version.cuda is None)' 2>/dev/null; then
        say "torch is a CUDA build, and there is no GPU here: to save gigabytes, delete .venv and set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheels (pytorch.org, Get Started, CPU)"
    fi
}

prepare_tflite() {
    case "$(uname -m)" in
        x86_64 | amd64) ;;
        *)
            say "the TFLite exporter has no build for $(uname -m): this machine exports ONNX only"
            return
            ;;
    esac
    if "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 14))'; then
        say "the TFLite exporter has no build for Python 3.14: this machine exports ONNX only"
        return
    fi
    make_environment "$TFLITE_VENV" "$(stamp "$ROOT/constraints-tflite.txt")" tflite -r "$ROOT/constraints-tflite.txt"
    export SANDERLING_TFLITE_PYTHON="$TFLITE_VENV/bin/python"
}

prepare_tflite_runtime() { # sets TFLITE_RUNTIME_PYTHON, or leaves it empty where there is no build
    local candidate found=""
    TFLITE_RUNTIME_PYTHON=""
    case "$(uname -sm)" in
        "Linux x86_64" | "Linux aarch64") ;;
        *)
            say "tflite_runtime has no build for $(uname -sm): its tests are skipped"
            return
            ;;
    esac
    for candidate in "$PYTHON" python3.11 /usr/bin/python3.11; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
            found="$(command -v "$candidate")"
            break
        fi
    done
    if [ -z "$found" ]; then
        say "tflite_runtime needs Python 3.11, which is not here: its tests are skipped"
        return
    fi
    local PYTHON="$found"
    make_environment "$TFLITE_RUNTIME_VENV" "$(stamp "$ROOT/constraints-tflite-runtime.txt")" tflite-runtime \
        -r "$ROOT/constraints-tflite-runtime.txt"
    TFLITE_RUNTIME_PYTHON="$TFLITE_RUNTIME_VENV/bin/python"
}
