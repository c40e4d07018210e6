# Sourced by the scripts beside it, from the root of the checkout: finds Pythons, and makes .venv.

export PIP_DISABLE_PIP_VERSION_CHECK=1

# Print the Python of a version such as 3.12 that can make virtual environments; fail where there is none.
find_python() {
    local python
    for python in "python$1" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1"[.-]*/bin/python; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$1" 2>/dev/null; then
            "$python" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# Print the newest one, of the versions that the project is tested with or a later one.
find_newest_python() {
    local version later
    later=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 14) else "")' 2>/dev/null || true)
    for version in 3.13 3.12 3.11 $later; do
        find_python "$version" && return
    done
    return 1
}

make_venv() {
    local python
    if ! python=$(find_newest_python); then
        # Debian's own Python cannot make virtual environments without this package.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        fi
        if ! python=$(find_newest_python); then
            echo "Python 3.11 or newer with its venv module is needed. Install it (on Debian and Ubuntu: python3-venv)." >&2
            return 1
        fi
    fi
    echo "making .venv with $("$python" --version)"
    "$python" -m venv .venv || { rm -rf .venv; return 1; }
}

# The disk of tests/crash is a library in C; without a compiler those tests are skipped, and say so.
find_compiler() {
    if ! command -v cc >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && apt-get install -y -qq gcc libc6-dev; } >/dev/null || echo "no C compiler: tests of failing disks are skipped" >&2
    fi
}

# Install the project editable into .venv, with these extras (such as "[test]") if any, unless that has been done.
install_project() {
    local done_for=".venv/installed${1:-}"
    [ -x .venv/bin/python ] || make_venv
    if ! cmp -s pyproject.toml "$done_for"; then
        .venv/bin/python -m pip install --quiet --editable ".${1:-}"
        cp pyproject.toml "$done_for"
    fi
}
