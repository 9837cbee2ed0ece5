#!/usr/bin/env bash
# Apache Kafka from its Maven artifacts, broker and controller in one process (KRaft); see common.sh.
source "$(dirname "$0")/common.sh"

version=${KAFKA_VERSION:-4.2.2}

peer_fetch() {
  [[ -d $home/libs ]] || maven_jars "$home/libs" "org.apache.kafka:kafka_2.13:$version"
}

# The heap that its own start script gives.
kafka() {
  "${runner[@]}" java -Xms1g -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
    -Djava.awt.headless=true -cp "$home/libs/*" "$@"
}

peer_start() {
  local sync=
  [[ $3 != durable ]] || sync=log.flush.interval.messages=1
  cat > "$1/server.properties" << CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(($2 + 1))
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$(($2 + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$2
controller.listener.names=CONTROLLER
log.dirs=$1/logs
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
$sync
CONF
  runner=()
  kafka kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAQ -c "$1/server.properties" > "$1/format.out" 2>&1 ||
    say_error "format failed: $(tail -3 "$1/format.out")"
  runner=(launch)
  kafka kafka.Kafka "$1/server.properties"
}

peer_ready() {
  listens "$1"
}

peer_version() {
  echo "Kafka $(basename "$home"/libs/kafka-clients-*.jar .jar | sed 's/.*-//'), $(java -version 2>&1 | head -1)"
}

peer_settings() {
  if [[ $1 == durable ]]; then
    echo 'log.flush.interval.messages=1 (sync of every batch), heap 1 GiB'
  else
    echo 'as it comes (acknowledged from the page cache), heap 1 GiB'
  fi
}

peer_main "$@"
