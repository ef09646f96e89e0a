#!/usr/bin/env bash
# Installs the system packages that are missing: those of requirements.apt, or with "python" what a virtual
# environment needs. Asks for nothing; without root's rights it says what to install.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

missing=()
if [ "${1:-}" = python ]; then
    command -v "$python" >/dev/null || missing+=(python3)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
else
    while read -r package; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done <"$here/requirements.apt"
fi

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "packages are missing; as root, run: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    echo "installing ${missing[*]}" >&2
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends "${missing[@]}")
    # a list of packages that is missing or out of date is the usual reason for the first attempt to fail
    "${as_root[@]}" "${install[@]}" >/dev/null 2>&1 || {
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" "${install[@]}" >/dev/null
    }
fi

if [ "${1:-}" = python ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kallsift needs Python 3.11 or later: make PYTHON=python3.x")'
fi
