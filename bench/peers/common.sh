# What the scripts of the peers share; sourced by <name>.sh, which defines the functions
#
#   peer_fetch             brings the server under $home, if it is not there
#   peer_start DATA PORT MODE   starts it; calls `launch`
#   peer_ready PORT        0 once it serves
#   peer_version           prints one line
#   peer_settings MODE     prints one line: what differs from the server's own defaults
#   peer_modes             prints the modes there are, if not "durable default"
#
# and ends with `peer_main "$@"`. The verbs are
#
#   fetch | start DATA PORT MODE | stop DATA | version | modes | settings MODE
#
# A mode is "durable" (an acknowledgement means that the message is synced), "default" (the server as it comes), or,
# where the default is the durable one, "relaxed". Everything listens on 127.0.0.1. Nothing is installed: the servers
# are unpacked or built below $PEERS_DIR (default: build/peers), run as processes of the caller, and end with `stop`.
set -euo pipefail

peer=$(basename "$0" .sh)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
PEERS_DIR=${PEERS_DIR:-$root/build/peers}
home=$PEERS_DIR/$peer
start_seconds=${START_SECONDS:-90}

say_error() {
  echo "$peer: $*" >&2
  exit 1
}

# Unpacks Debian packages below $home: no service is installed or started, no user is made.
unpack_debian() {
  local folder=$home/deb
  mkdir -p "$folder"
  (cd "$folder" && apt-get download -q "$@" > ../apt.log 2>&1) || {
    cat "$home/apt.log" >&2
    say_error "apt-get download failed; is the list of packages there (apt-get update)?"
  }
  local package
  for package in "$folder"/*.deb; do
    dpkg-deb -x "$package" "$home/root"
  done
  rm -rf "$folder"
}

# $1: a package unpacked above, from the lists of the machine.
debian_version() {
  apt-cache policy "$1" | awk '/Candidate:/ { print $2 }'
}

# Copies the jars of Maven artifacts $2... (group:artifact:version) and of all that they need to $1.
maven_jars() {
  local folder=$1 pom=$home/pom.xml artifact
  shift
  mkdir -p "$home"
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>peers</groupId><artifactId>peers</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
    for artifact in "$@"; do
      IFS=: read -r group name version <<< "$artifact"
      echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } > "$pom"
  if ! mvn -B -q -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder.part" \
    > "$home/mvn.log" 2>&1; then
    tail -20 "$home/mvn.log" >&2
    say_error "mvn failed, see $home/mvn.log"
  fi
  mv "$folder.part" "$folder"
}

# Starts "$@" as a process that `stop` ends, with all that it starts; its output goes to a file of the data folder.
launch() {
  setsid "$@" >> "$data/$peer.out" 2>&1 < /dev/null &
  echo $! >> "$data/pids"
}

# 0 if something listens on a port of the loopback interface.
listens() {
  (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

# 0 if the process runs; one that has ended and that nobody has waited for does not.
running() {
  [[ -e /proc/$1/stat ]] && ! grep -qs ') Z ' "/proc/$1/stat"
}

all_running() {
  local pid
  while read -r pid; do
    running "$pid" || return 1
  done < "$data/pids"
}

start() {
  data=$1 port=$2
  [[ ! -e $data/pids ]] || say_error "$data: in use"
  ! listens "$port" || say_error "port $port is taken"
  mkdir -p "$data"
  data=$(cd "$data" && pwd)
  peer_start "$data" "$port" "$3"
  local deadline=$((SECONDS + start_seconds))
  until peer_ready "$port"; do
    if ! all_running || ((SECONDS >= deadline)); then
      tail -20 "$data/$peer.out" >&2
      stop "$data"
      say_error "did not start within $start_seconds s, see $data/$peer.out"
    fi
    sleep 0.2
  done
}

# Ends what `start` started, the last first, kindly and then not.
stop() {
  data=$1
  [[ -e $data/pids ]] || return 0
  local pid
  while read -r pid; do
    kill -TERM "$pid" 2> /dev/null || true
    for _ in $(seq 1 200); do
      running "$pid" || break
      sleep 0.1
    done
    # The group: what the process has started, too.
    kill -KILL -- "-$pid" 2> /dev/null || true
  done < <(tac "$data/pids")
  rm -f "$data/pids"
}

peer_modes() {
  echo durable default
}

peer_main() {
  case ${1:-} in
    fetch) peer_fetch ;;
    start) (($# == 4)) || say_error "start DATA PORT MODE" && start "$2" "$3" "$4" ;;
    stop) (($# == 2)) || say_error "stop DATA" && stop "$2" ;;
    version) peer_version ;;
    modes) peer_modes ;;
    settings) peer_settings "${2:-default}" ;;
    *) say_error "fetch | start DATA PORT MODE | stop DATA | version | modes | settings MODE" ;;
  esac
}
