#!/usr/bin/env bash
# Checks an installed tree as a user would: check_install.sh PREFIX
#
# Compiles the examples with what pkg-config says, against the shared and the static library, and compiles each public
# header alone; looks that the shared library exports nothing but the public API, that the tool and the daemon answer,
# and that man pages, completions and the systemd unit are whole. With cmake on the machine, also find_package().
set -euo pipefail
unset MAKEFLAGS MAKELEVEL  # a make started by cmake is not a part of the one that runs us

prefix=$1
cxx=${CXX:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check-install: $*" >&2; exit 1; }

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
read -ra compile < <(pkg-config --cflags tidemark)
read -ra shared < <(pkg-config --libs tidemark)
read -ra static < <(pkg-config --libs --static tidemark)
static=("${static[@]/#-ltidemark/-l:libtidemark.a}")

examples=0
for source in clients/cpp/examples/*.cc; do
  [[ -e $source ]] || fail "no examples"
  extra=()
  [[ $source != */order_service.cc ]] || extra=(-lsqlite3)
  "$cxx" -std=c++20 "${compile[@]}" "$source" -o "$work/shared" "${shared[@]}" "${extra[@]}" || fail "$source against the shared library"
  "$cxx" -std=c++20 "${compile[@]}" "$source" -o "$work/static" "${static[@]}" "${extra[@]}" || fail "$source against the static library"
  ! LD_LIBRARY_PATH=$prefix/lib ldd "$work/shared" | grep 'not found' || fail "$source: libraries are missing"
  examples=$((examples + 1))
done

for header in "$prefix"/include/tidemark/*.h; do
  echo "#include <tidemark/${header##*/}>" > "$work/header.cc"
  "$cxx" -std=c++20 -Wall -Wextra -Werror "${compile[@]}" -fsyntax-only "$work/header.cc" || fail "${header##*/} does not stand alone"
  ! grep -nE '^#include [<"](uv|flatbuffers|lmdb|raft|log/|broker/)' "$header" || fail "${header##*/} shows what is internal"
done

exports=$(nm -DC --defined-only "$prefix/lib/libtidemark.so" | awk '$2 != "A" { sub(/^[^ ]+ . /, ""); print }')
exported=$(grep -c '^tidemark::client::' <<< "$exports" || true)
((exported > 0)) || fail "libtidemark.so exports nothing"
foreign=$(grep -vE '^((vtable|VTT|typeinfo|typeinfo name) for )?tidemark::client::' <<< "$exports" || true)
[[ -z $foreign ]] || fail "libtidemark.so exports more than its API:"$'\n'"$foreign"

"$prefix/bin/tidemark" --version > /dev/null || fail "tidemark --version"
"$prefix/bin/tidemarkd" --version > /dev/null || fail "tidemarkd --version"
# What the man pages name exists.
daemon_help=$("$prefix/bin/tidemarkd" --help)
for flag in $(tr -d '\\' < "$prefix/share/man/man8/tidemarkd.8" | grep -oE -- '--[a-z][a-z-]*[a-z]' | sort -u); do
  grep -qF -- "$flag" <<< "$daemon_help" || fail "tidemarkd.8 speaks of $flag, the daemon does not"
done
for command in "topic create" "topic list" "topic describe" "topic alter" "topic delete" produce consume \
  "partition describe" "txn list" "txn show" "txn commit" "txn rollback" "txn recheck" "txn stats" \
  "log dump" "log verify" "bench produce" "bench consume" "bench e2e" "bench txn" completion; do
  read -ra words <<< "$command"
  "$prefix/bin/tidemark" "${words[@]}" --help > /dev/null || fail "tidemark.1 speaks of $command, the tool does not"
done

bash -n "$prefix/share/bash-completion/completions/tidemark" || fail "bash completion"
for file in share/zsh/site-functions/_tidemark share/fish/vendor_completions.d/tidemark.fish \
  share/man/man1/tidemark.1 share/man/man8/tidemarkd.8 lib/systemd/system/tidemarkd.service; do
  [[ -s $prefix/$file ]] || fail "$file is empty"
done
left=$(grep -rlE '@[A-Z]+@' "$prefix/share/man" "$prefix/lib/systemd" "$prefix/lib/pkgconfig" "$prefix/lib/cmake" || true)
[[ -z $left ]] || fail "unfilled places in $left"

if command -v cmake > /dev/null; then
  mkdir "$work/cmake"
  cat > "$work/cmake/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.16)
project(check CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(tidemark 0.1 REQUIRED)
foreach(target IN ITEMS tidemark tidemark_static)
  add_executable(check_${target} ${SOURCE})
  target_link_libraries(check_${target} PRIVATE tidemark::${target})
endforeach()
CMAKE
  sources=("$PWD"/clients/cpp/examples/*.cc)
  cmake -S "$work/cmake" -B "$work/cmake/build" -DSOURCE="${sources[0]}" -DCMAKE_PREFIX_PATH="$prefix" > "$work/cmake.log" \
    && cmake --build "$work/cmake/build" >> "$work/cmake.log" || { cat "$work/cmake.log" >&2; fail "find_package(tidemark)"; }
fi
echo "install ok: $examples examples, $exported exported functions"
