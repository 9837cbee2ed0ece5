#!/usr/bin/env bash
# Tidemark as built here; see common.sh.
source "$(dirname "$0")/common.sh"

binary=${TIDEMARKD:-$root/build/bin/tidemarkd}

peer_fetch() {
  [[ -x $binary ]] || say_error "$binary is not there; run make first"
}

peer_start() {
  local fsync=batch
  [[ $3 == durable ]] || fsync=interval:1000
  launch "$binary" --data-dir "$1/data" --listen "127.0.0.1:$2" --http-listen off --fsync "$fsync"
}

peer_ready() {
  listens "$1"
}

peer_version() {
  "$binary" --version
}

peer_modes() {
  echo durable relaxed
}

peer_settings() {
  if [[ $1 == durable ]]; then
    echo 'fsync=batch, the default'
  else
    echo 'fsync=interval:1000'
  fi
}

peer_main "$@"
