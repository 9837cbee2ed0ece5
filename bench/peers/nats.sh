#!/usr/bin/env bash
# NATS with JetStream, built from its Go module; see common.sh.
source "$(dirname "$0")/common.sh"

version=${NATS_VERSION:-v2.14.9}
binary=$home/nats-server

peer_fetch() {
  [[ ! -x $binary ]] || return 0
  # Debian's is too old.
  command -v go > /dev/null || say_error "NATS is built with Go (1.25 or newer), which is not here"
  mkdir -p "$home"
  GOBIN=$home GOFLAGS=-p=1 go install "github.com/nats-io/nats-server/v2@$version" > "$home/go.log" 2>&1 || {
    tail -20 "$home/go.log" >&2
    say_error "go install failed"
  }
}

peer_start() {
  local sync=
  [[ $3 != durable ]] || sync='sync_interval: always'
  cat > "$1/nats.conf" << CONF
listen: 127.0.0.1:$2
jetstream { store_dir: "$1/jetstream", max_mem: 1G, max_file: 50G, $sync }
CONF
  launch "$binary" -c "$1/nats.conf"
}

peer_ready() {
  grep -qs 'Server is ready' "$data/$peer.out"
}

peer_version() {
  "$binary" --version
}

peer_settings() {
  if [[ $1 == durable ]]; then
    echo 'file storage, 1 replica, sync_interval: always (sync of every message)'
  else
    echo 'file storage, 1 replica, sync_interval 2m'
  fi
}

peer_main "$@"
