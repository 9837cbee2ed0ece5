#!/usr/bin/env bash
# Installs the Debian packages that are missing for the groups named (default: build); see packages.txt.
#
#   tools/dev/setup.sh [build] [check] [fuzz] [coverage] [peers]
#
# Silent and quick when nothing is missing. Installs as root or by sudo; where neither is possible, prints the
# command to run and exits with 1. TIDEMARK_SKIP_SETUP=1 leaves the machine alone, for other distributions.
set -euo pipefail

[[ ${TIDEMARK_SKIP_SETUP:-} != 1 ]] || exit 0
list=$(dirname "${BASH_SOURCE[0]}")/packages.txt
(($#)) || set -- build

wanted=()
for group in "$@"; do
  mapfile -t packages < <(awk -v group="$group" '$1 == group { print $2 }' "$list")
  if ((${#packages[@]} == 0)); then
    echo "setup: no group '$group' in $list" >&2
    exit 2
  fi
  wanted+=("${packages[@]}")
done

if ! command -v dpkg-query > /dev/null; then
  {
    echo "setup: this is not Debian. Tidemark is built with these packages of Debian 12, or what is like them elsewhere:"
    printf '  %s\n' "${wanted[@]}"
    echo "setup: install them, then set TIDEMARK_SKIP_SETUP=1."
  } >&2
  exit 1
fi

# dpkg-query fails when it does not know one of the names; what it prints about the others still counts.
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2> /dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  [[ $'\n'$installed$'\n' == *$'\n'"$package installed"$'\n'* ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

update=(apt-get update -q)
install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends
  -o DPkg::Lock::Timeout=300 "${missing[@]}")
echo "setup: missing packages: ${missing[*]}" >&2

if ((EUID == 0)); then
  as_root=()
elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
  as_root=(sudo -n)
elif command -v sudo > /dev/null && [[ -t 0 ]]; then
  as_root=(sudo)
else
  {
    echo "setup: neither root nor sudo here. As root, run:"
    echo "  ${update[*]} && ${install[*]}"
  } >&2
  exit 1
fi

if ! { "${as_root[@]}" "${update[@]}" && "${as_root[@]}" "${install[@]}"; } >&2; then
  echo "setup: apt failed. When the network and the package sources are in order, run:" >&2
  echo "  ${as_root[*]:+${as_root[*]} }${update[*]} && ${as_root[*]:+${as_root[*]} }${install[*]}" >&2
  exit 1
fi
