#!/usr/bin/env bash
# RabbitMQ and Erlang from Debian's packages; see common.sh.
source "$(dirname "$0")/common.sh"

packages=(rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap erlang-ftp erlang-inets erlang-mnesia
  erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-snmp erlang-ssl erlang-syntax-tools
  erlang-tftp erlang-tools erlang-xmerl)
erlang=$home/root/usr/lib/erlang

peer_fetch() {
  [[ ! -x $erlang/bin/erl ]] || return 0
  unpack_debian "${packages[@]}"
  # The start script names the folder that the package is made for.
  sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$erlang|" "$erlang/bin/erl"
}

# The broker's own settings are its defaults in both modes: what differs is the kind of queue.
peer_start() {
  local server
  server=$(echo "$home"/root/usr/lib/rabbitmq/lib/rabbitmq_server-*)
  # Nothing listens but on the loopback interface: the port for clients, the next ones for Erlang.
  export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$(($2 + 1))
  export RABBITMQ_NODENAME=bench@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$2
  export RABBITMQ_DIST_PORT=$(($2 + 2)) RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  export RABBITMQ_MNESIA_BASE=$1/mnesia RABBITMQ_LOG_BASE=$1/log RABBITMQ_LOGS=- RABBITMQ_PID_FILE=$1/rabbitmq.pid
  export RABBITMQ_CONFIG_FILE=$1/none RABBITMQ_ADVANCED_CONFIG_FILE=$1/none.config RABBITMQ_CONF_ENV_FILE=$1/none.env
  export RABBITMQ_ENABLED_PLUGINS_FILE=$1/plugins HOME=$1 PATH=$erlang/bin:$PATH
  echo '[].' > "$1/plugins"
  launch "$(echo "$erlang"/erts-*/bin)/epmd"
  launch "$server/sbin/rabbitmq-server"
}

peer_ready() {
  listens "$1" && grep -qs 'Server startup complete' "$data/$peer.out"
}

peer_version() {
  echo "RabbitMQ $(basename "$home"/root/usr/lib/rabbitmq/lib/rabbitmq_server-* | sed 's/.*-//')," \
    "Erlang $(cat "$erlang"/releases/*/OTP_VERSION)"
}

peer_settings() {
  if [[ $1 == durable ]]; then
    echo 'quorum queue, 1 replica (synced before the confirm)'
  else
    echo 'classic durable queue, persistent messages'
  fi
}

peer_main "$@"
