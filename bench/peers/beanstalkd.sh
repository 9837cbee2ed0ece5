#!/usr/bin/env bash
# beanstalkd from Debian's package; see common.sh.
source "$(dirname "$0")/common.sh"

binary=$home/root/usr/bin/beanstalkd

peer_fetch() {
  [[ -x $binary ]] || unpack_debian beanstalkd
}

peer_start() {
  local sync=()
  [[ $3 != durable ]] || sync=(-f 0)
  mkdir -p "$1/binlog"
  launch "$binary" -l 127.0.0.1 -p "$2" -b "$1/binlog" "${sync[@]}"
}

peer_ready() {
  listens "$1"
}

peer_version() {
  "$binary" -v
}

peer_settings() {
  if [[ $1 == durable ]]; then
    echo 'beanstalkd -b DIR -f 0 (fsync of every write to the binlog)'
  else
    echo 'beanstalkd -b DIR (fsync at most every 50 ms; without -b, the default, nothing is kept)'
  fi
}

peer_main "$@"
