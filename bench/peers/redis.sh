#!/usr/bin/env bash
# Redis from Debian's package; see common.sh.
source "$(dirname "$0")/common.sh"

# Debian ships the server's binary in redis-tools; what it is called decides what it does.
binary=$home/redis-server

peer_fetch() {
  [[ ! -x $binary ]] || return 0
  unpack_debian redis-tools libjemalloc2 liblzf1
  ln -s root/usr/bin/redis-check-rdb "$binary"
}

run() {
  LD_LIBRARY_PATH=$(echo "$home"/root/usr/lib/*-linux-gnu) "$@"
}

peer_start() {
  local sync=everysec
  [[ $3 != durable ]] || sync=always
  run launch "$binary" --bind 127.0.0.1 --port "$2" --dir "$1" --daemonize no --save '' --appendonly yes \
    --appendfsync "$sync"
}

peer_ready() {
  [[ $(run "$home/root/usr/bin/redis-cli" -h 127.0.0.1 -p "$1" ping 2> /dev/null) == PONG ]]
}

peer_version() {
  run "$binary" --version | sed -E 's/.*v=([^ ]+).*/Redis \1/'
}

peer_settings() {
  if [[ $1 == durable ]]; then
    echo 'appendonly yes, appendfsync always (sync before the answer)'
  else
    echo 'appendonly yes, appendfsync everysec (the default of the append-only file, which itself is off by default)'
  fi
}

peer_main "$@"
