#!/usr/bin/env bash
# Apache RocketMQ from its Maven artifacts, a name server and a broker; see common.sh.
source "$(dirname "$0")/common.sh"

version=${ROCKETMQ_VERSION:-5.3.3}

peer_fetch() {
  [[ -d $home/libs ]] ||
    maven_jars "$home/libs" "org.apache.rocketmq:rocketmq-broker:$version" "org.apache.rocketmq:rocketmq-namesrv:$version"
}

# $1: its heap, $2: the folder for its logs.
rocketmq() {
  local heap=$1 folder=$2
  shift 2
  ROCKETMQ_HOME=$home launch java -Xms"$heap" -Xmx"$heap" -XX:+UseG1GC -XX:MaxDirectMemorySize=2g \
    -Duser.home="$folder" -cp "$home/libs/*" \
    --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED \
    --add-opens=java.base/sun.nio.ch=ALL-UNNAMED "$@"
}

peer_start() {
  local flush=ASYNC_FLUSH
  [[ $3 != durable ]] || flush=SYNC_FLUSH
  cat > "$1/namesrv.conf" << CONF
listenPort=$(($2 + 5))
bindAddress=127.0.0.1
CONF
  # The broker also listens on the port two below the one for clients and, for replicas, on haListenPort.
  cat > "$1/broker.conf" << CONF
brokerClusterName=bench
brokerName=bench
brokerId=0
brokerRole=ASYNC_MASTER
flushDiskType=$flush
namesrvAddr=127.0.0.1:$(($2 + 5))
brokerIP1=127.0.0.1
bindAddress=127.0.0.1
listenPort=$2
haListenPort=$(($2 + 1))
storePathRootDir=$1/store
storePathCommitLog=$1/store/commitlog
timerWheelEnable=true
waitTimeMillsInSendQueue=10000
waitTimeMillsInTransactionQueue=10000
CONF
  rocketmq 256m "$1" org.apache.rocketmq.namesrv.NamesrvStartup -c "$1/namesrv.conf"
  rocketmq 2g "$1" org.apache.rocketmq.broker.BrokerStartup -c "$1/broker.conf"
}

peer_ready() {
  listens "$1" && grep -qs 'boot success' "$data/$peer.out"
}

peer_version() {
  echo "RocketMQ $(basename "$home"/libs/rocketmq-broker-*.jar .jar | sed 's/.*-//'), $(java -version 2>&1 | head -1)"
}

peer_settings() {
  local others='heap 2 GiB; requests may wait 10 s for a thread (by default 0.2 s, then they are refused as "broker busy")'
  if [[ $1 == durable ]]; then
    echo "SYNC_FLUSH, $others"
  else
    echo "ASYNC_FLUSH, $others"
  fi
}

peer_main "$@"
