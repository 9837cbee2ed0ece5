#!/usr/bin/env bash
# The queue at work, with the real binaries: start a broker, create a topic, send 100,000 lines, read them back, kill the
# broker with -9, start it again, read them back again, measure; then delayed messages: cancelled, moved, recurring, and a
# kill -9 before they are due; then transactions: orders in an SQLite database and their messages, with a crash between the
# two. Ends with 0 if every byte came back, every delayed message came once and not early, and every order has its message.
#
#   BIN=build/bin tools/dev/demo.sh   (TIDEMARKD, TIDEMARK_CLI and TIDEMARK_EXAMPLES may name binaries and their folder instead)
#
# LINES=100000 sets how many. Everything lives in a temporary folder that is removed at the end; KEEP=1 keeps it.
set -euo pipefail

bin=${BIN:-${BUILD:-build}/bin}
daemon=${TIDEMARKD:-$bin/tidemarkd}
cli=${TIDEMARK_CLI:-$bin/tidemark}
shop=${TIDEMARK_EXAMPLES:-$bin/../examples}/order_service
lines=${LINES:-100000}
for binary in "$daemon" "$cli" "$shop"; do
  if [[ ! -x $binary ]]; then
    echo "demo: $binary is not there; run make first" >&2
    exit 1
  fi
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-demo.XXXXXX")
broker=
# Until the process is gone; it is not a job of this shell.
wait_gone() {
  for _ in $(seq 1 1000); do
    kill -0 "$1" 2> /dev/null || return 0
    sleep 0.01
  done
  return 1
}
cleanup() {
  if [[ -n $broker ]]; then
    kill -TERM "$broker" 2> /dev/null || true
    wait_gone "$broker" || kill -9 "$broker" 2> /dev/null || true
  fi
  if [[ ${KEEP:-0} == 1 ]]; then
    echo "kept: $folder"
  else
    rm -rf "$folder"
  fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [[ -t 1 ]]; then
  bold=$'\e[1m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' green='' plain=''
fi
step=0
say() {
  step=$((step + 1))
  printf '\n%s%d. %s%s\n' "$bold" "$step" "$*" "$plain"
}
ok() { printf '   %sok%s  %s\n' "$green" "$plain" "$*"; }
fail() {
  printf 'demo failed: %s\n' "$*" >&2
  if [[ -s $folder/broker.log ]]; then
    echo "--- the broker's last words ---" >&2
    tail -n 20 "$folder/broker.log" >&2
  fi
  exit 1
}
indent() { sed 's/^/   /'; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
sha() { sha256sum "$1" | cut -d' ' -f1; }

data=$folder/data
# Waits for the line `ready ...` and takes the address from it: the port was chosen by the system.
start_broker() {
  local started=$(now_ms) line=
  : > "$folder/ready"
  "$daemon" --data-dir "$data" --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 \
    > "$folder/ready" 2>> "$folder/broker.log" &
  broker=$!
  # The shell is not to report how this job ends.
  disown "$broker"
  for _ in $(seq 1 1000); do
    if line=$(grep -m1 '^ready' "$folder/ready"); then
      break
    fi
    kill -0 "$broker" 2> /dev/null || fail 'the broker ended before it was ready'
    sleep 0.01
  done
  [[ -n $line ]] || fail 'the broker was not ready within 10 seconds'
  TIDEMARK_BROKERS=$(grep -oE '127\.0\.0\.1:[0-9]+' <<< "$line" | head -n 1)
  [[ -n $TIDEMARK_BROKERS ]] || fail "no address in: $line"
  export TIDEMARK_BROKERS
  metrics=$(grep -oE 'http=[^ ]+' <<< "$line" | cut -d= -f2)
  ok "pid $broker, after $(($(now_ms) - started)) ms: $line"
}

# $1: file to read the topic into; fails unless it has the bytes that were sent.
read_back() {
  "$cli" consume orders --from start -n "$lines" --format '%v\n' > "$1" 2> "$folder/consume.err" ||
    fail "consume: $(cat "$folder/consume.err")"
  indent < "$folder/consume.err"
  [[ $(sha "$1") == "$sent" ]] || fail "sha256 of what came back is $(sha "$1"), sent was $sent"
  ok "$(wc -l < "$1") lines, sha256 ${sent:0:16}... equal"
}

say "Start a broker on an empty directory: $folder/data"
start_broker

say 'Create a topic'
"$cli" topic create orders --retention 7d | indent

say "Send $lines lines through the C++ client"
awk -v lines="$lines" 'BEGIN {
  srand(20260301)
  split("Amsterdam Bergen Cadiz Dresden Esbjerg Fukuoka Ghent Halifax", city, " ")
  split("card transfer invoice wallet", payment, " ")
  split("paid shipped returned cancelled", state, " ")
  for (i = 1; i <= lines; i++)
    printf "{\"order\":%d,\"customer\":\"c%05d\",\"city\":\"%s\",\"items\":%d,\"amount\":%.2f,\"payment\":\"%s\",\"state\":\"%s\"}\n",
      1000000 + i, rand() * 20000, city[1 + int(rand() * 8)], 1 + rand() * 9, 5 + rand() * 495,
      payment[1 + int(rand() * 4)], state[1 + int(rand() * 4)]
}' > "$folder/orders.txt"
sent=$(sha "$folder/orders.txt")
head -n 2 "$folder/orders.txt" | indent
"$cli" produce orders "$folder/orders.txt" 2> "$folder/produce.err" || fail "produce: $(cat "$folder/produce.err")"
indent < "$folder/produce.err"
ok "sha256 ${sent:0:16}..., every line acknowledged from disk"

say 'Read them back'
read_back "$folder/back-1.txt"

say 'Kill the broker with -9'
kill -9 "$broker"
wait_gone "$broker" || fail "pid $broker does not end"
ok "pid $broker is gone"
broker=
"$cli" log verify "$folder/data" > "$folder/verify.out" 2>&1 || fail "log verify: $(cat "$folder/verify.out")"
ok "log verify: $(tail -n 1 "$folder/verify.out")"

say 'Start it again on the same directory'
start_broker

say 'Still all there'
read_back "$folder/back-2.txt"
"$cli" partition describe orders | indent

say 'Rates on this machine (1 KiB messages; every acknowledgement means: on disk)'
"$cli" bench produce bench --size 1024 --seconds 3 --partitions 4 --baseline-dir "$folder" --metrics "$metrics" --quiet | indent
"$cli" bench consume bench --quiet | indent
"$cli" bench e2e latency --size 100 --rate 10000 --seconds 3 --no-baseline --quiet | indent

# --- delayed messages -------------------------------------------------------------------------------------------------

# $1: text, the rest: flags. Prints the handle.
schedule() {
  local text=$1
  shift
  "$cli" produce reminders -m "$text" "$@" -o json --quiet > "$folder/receipt" || fail "produce $*"
  grep -oE '"handle":"[^"]+"' "$folder/receipt" | cut -d'"' -f4
}
due_ms() { grep -oE '"due_ms":[0-9]+' "$folder/receipt" | cut -d: -f2; }
# Remembers what is due when: $1 text, $2 ms since 1970.
declare -A due
# Lines `now text` of a reader, $1: each expected once, none before its time. Prints how late each was.
check_times() {
  local at text late
  while read -r at text; do
    [[ -n ${due[$text]:-} ]] || fail "'$text' was delivered, and should not have been"
    late=$((at - due[$text]))
    ((late >= 0)) || fail "'$text' came $((-late)) ms early"
    ok "$text: $late ms after its time"
    unset "due[$text]"
  done < "$1"
  [[ ${#due[@]} == 0 ]] || fail "lost: ${!due[*]}"
}
# Reads $1 messages of the topic from offset $2 on and notes when each came, in $folder/times; fails if they do not come.
receive() {
  local value
  : > "$folder/times"
  while IFS= read -r value; do
    echo "$(now_ms) $value" >> "$folder/times"
  done < <(timeout 60 "$cli" consume reminders --partition 0 --from "$2" -n "$1" --quiet --format '%v\n')
  [[ $(wc -l < "$folder/times") == "$1" ]] || fail "of $1 delayed messages $(wc -l < "$folder/times") came"
}

say 'Delayed messages: in 1 s, in 3 s, one cancelled, one moved from 1 h to 2 s'
"$cli" topic create reminders --quiet > /dev/null
schedule one-second --after 1s > /dev/null
due[one-second]=$(due_ms)
schedule three-seconds --after 3s > /dev/null
due[three-seconds]=$(due_ms)
cancelled=$(schedule cancelled --after 2s)
moved=$(schedule moved --after 1h)
"$cli" delay list reminders | indent
"$cli" delay cancel reminders "$cancelled" | indent
"$cli" delay reschedule reminders "$moved" --after 2s -o json > "$folder/receipt" || fail 'reschedule'
due[moved]=$(due_ms)
ok 'moved'
receive 3 0
check_times "$folder/times"

say 'Again and again: every second by cron, cancelled after two'
schedule tick --cron '* * * * * *' --delay-key clock > /dev/null
tick_due=$(due_ms)
receive 2 3
while read -r at text; do
  [[ $text == tick ]] || fail "'$text' was delivered, and should not have been"
  ((at >= tick_due)) || fail "a tick came $((tick_due - at)) ms early"
  ok "tick: $((at - tick_due)) ms after its second"
  tick_due=$((tick_due + 1000))
done < "$folder/times"
"$cli" delay cancel reminders --key clock | indent
# What came between the second tick and the cancel counts; after it nothing may come.
next=$("$cli" partition describe reminders -o json | grep -oE '"end_offset":[0-9]+' | cut -d: -f2)
seen_after_cancel=$next

say 'kill -9 between schedule and due time'
schedule survivor --after 2s > /dev/null
due[survivor]=$(due_ms)
killed_cancelled=$(schedule cancelled-before-the-kill --after 2s)
"$cli" delay cancel reminders "$killed_cancelled" --quiet > /dev/null || fail 'cancel'
kill -9 "$broker"
wait_gone "$broker" || fail "pid $broker does not end"
ok "pid $broker is gone"
broker=
start_broker
receive 1 "$seen_after_cancel"
check_times "$folder/times"
# A last message behind everything: what would still come wrongly has come by then.
schedule last --after 1500ms > /dev/null
due[last]=$(due_ms)
receive 1 $((seen_after_cancel + 1))
check_times "$folder/times"
"$cli" consume reminders --quiet > "$folder/all" || fail 'consume reminders'
if grep -q cancelled "$folder/all"; then
  fail 'a cancelled message was delivered'
fi
[[ $(sort "$folder/all" | grep -v tick | uniq -d | wc -l) == 0 ]] || fail 'a message came twice'
[[ $("$cli" delay list reminders -o json | grep -c '"handle"') == 0 ]] || fail 'something is pending still'
ok 'nothing early, lost, twice, or delivered though cancelled'

say 'How late delayed messages come at 5,000 per second, with 20,000 more pending'
"$cli" bench delay later --rate 5000 --seconds 3 --delay 1s --size 100 --backlog 20000 --no-baseline --quiet > "$folder/delay.out" ||
  fail "bench delay: $(cat "$folder/delay.out")"
indent < "$folder/delay.out"

# --- transactions -----------------------------------------------------------------------------------------------------

# The example program: for each order prepare, then the database, then commit. Notes what it says in $folder/shop.out.
shop() { "$shop" --db "$folder/orders.db" --topic placed --instance demo --timeout-ms 1000 "$@" 2>&1 | tee "$folder/shop.out" | indent; }
# $1: words of a line of the program; the transaction that is named at its end.
transaction_of() { grep -m1 "$1" "$folder/shop.out" | grep -oE '[0-9]+-[0-9]+-[0-9]+-[0-9]+' || fail "no transaction '$1'"; }
# The orders that have a message, in order. Nobody sees another.
placed() { "$cli" consume placed --from start --quiet --format '%k\n' | sort -n > "$folder/placed" || fail 'consume placed'; }
# $1: how the program calls it when an order is in the database; adds to those that must have a message.
note_orders() {
  grep -oE "^order [0-9]+ $1" "$folder/shop.out" | cut -d' ' -f2 >> "$folder/expected" || fail "no order '$1'"
}
check_placed() {
  placed
  [[ $(sort -n "$folder/expected") == "$(cat "$folder/placed")" ]] ||
    fail "messages of orders $(tr '\n' ' ' < "$folder/placed"), in the database: $(tr '\n' ' ' < "$folder/expected")"
}

say 'Transactions, on a broker of their own: orders in an SQLite database, each with its message or without both'
kill -TERM "$broker"
wait_gone "$broker" || fail "pid $broker does not end"
data=$folder/transactions
start_broker
"$cli" topic create placed --partitions 2 --quiet > /dev/null
shop --count 6 --rollback-percent 40 --seed 7
note_orders committed
committed=$(transaction_of ' committed')
rolled_back=$(transaction_of ' refused')
check_placed
ok "visible: orders $(tr '\n' ' ' < "$folder/placed")"

say 'The program crashes after its database, before the commit; started again, the broker asks it'
shop --count 1 --seed 3 --die-after-local-commit 1 || true
"$cli" txn list | indent
check_placed
ok 'nobody sees the message yet'
note_orders 'is in the database'
shop --count 1 --seed 4 --settle
grep -q 'asked about .*: committed' "$folder/shop.out" || fail 'the broker did not ask'
note_orders committed
check_placed
ok "visible: orders $(tr '\n' ' ' < "$folder/placed")"
"$cli" txn stats | indent

say 'What was answered holds for ever'
"$cli" txn commit "$committed" | indent
check_placed
ok 'committed again: still one message each'
if "$cli" txn commit "$rolled_back" > "$folder/refused" 2>&1; then
  fail "the commit of $rolled_back, which is rolled back, was not refused"
else
  code=$?
fi
indent < "$folder/refused"
[[ $code == 6 ]] || fail "the commit after the rollback ended with exit code $code, expected is 6"
check_placed
ok 'commit after rollback: refused with exit code 6, nothing became visible'

say 'A body is written once: 1 MB prepared, asked about, committed'
# Sums up to now: the bytes of message values, and of all records of transactions.
growth() { "$cli" log dump "$data" --stats -o json | grep -oE "\"$1\":[0-9]+" | cut -d: -f2; }
bodies=$(growth half_body_bytes) records=$(growth txn_log_bytes)
shop --count 1 --seed 5 --value-bytes 1000000 --die-after-local-commit 1 || true
note_orders 'is in the database'
shop --count 0 --settle
check_placed
bodies=$(($(growth half_body_bytes) - bodies)) records=$(($(growth txn_log_bytes) - records))
((records < bodies + 4096)) || fail "$bodies bytes of body took $records bytes of log"
ok "$bodies bytes of body, $records bytes of log: $((records - bodies)) more"

say 'Transactions per second'
"$cli" bench txn load --size 1024 --seconds 2 --partitions 4 --no-baseline --quiet > "$folder/txn.out" ||
  fail "bench txn: $(cat "$folder/txn.out")"
indent < "$folder/txn.out"

printf '\n%sDone: %s lines sent, read, and read again after kill -9, with equal checksums; every order has its message.%s\n' "$bold" "$lines" "$plain"
