#!/usr/bin/env bash
# redis-cli as scripts use it: one that lives on and is told line by line, one that is started for each command,
# and one that listens.
set -u

errors=() ops=0 unknown=0 lost=0 doubled=0 longest=0 counted=0 maybe=0 n=0 again=0 heard=$CLIENT_DIR/heard
cli() { redis-cli -h "$CLIENT_HOST" -p "$@"; }
now() { echo "${EPOCHREALTIME/[.,]/}"; } # µs

coproc KEPT { exec redis-cli -h "$CLIENT_HOST" -p "$CLIENT_PRIMARY_PORT" 2>&1; }
# redis-cli ends a subscription whose connection is lost; who wants to go on starts it anew.
(
	trap 'kill "$child"; exit' TERM
	while :; do
		redis-cli -h "$CLIENT_HOST" -p "$CLIENT_PRIMARY_PORT" SUBSCRIBE "$CLIENT_KEY:news" >>"$heard" &
		child=$!
		wait "$child"
		sleep 0.05
	done
) &
listener=$!
trap 'kill "$listener" "$KEPT_PID"; wait' EXIT

# ask tells the one that lives on. redis-cli says when its connection was lost, and opens another one for the
# next command: it is told again.
ask() {
	tell "$*"
	if [[ $reply == "Error: Server closed the connection" ]]; then
		again=$((again + 1))
		tell "$*"
	fi
}
tell() {
	echo "$*" >&"${KEPT[1]}"
	IFS= read -r -t 30 reply <&"${KEPT[0]}" || reply="no answer"
	# It prints an empty line behind an error of the server.
	[[ $reply =~ ^[A-Z]+\  ]] && IFS= read -r -t 1 _ <&"${KEPT[0]}"
}
once() { reply=$(cli "$@" 2>&1); }

# does WHAT REPEATABLE WANTED COMMAND… runs one operation and compares its reply with a pattern.
does() {
	local what=$1 repeatable=$2 wanted=$3 begun took
	shift 3
	begun=$(now)
	"$@"
	took=$(($(now) - begun))
	ops=$((ops + 1))
	((took > longest)) && longest=$took
	# shellcheck disable=SC2053 # it is a pattern
	[[ $reply == $wanted ]] && return 0
	if [[ $repeatable == no && $reply == *UNKNOWN* ]]; then unknown=$((unknown + 1)); else errors+=("$what: $reply"); fi
	return 1
}

declare -A values
while [[ ! -e $CLIENT_STOP ]]; do
	n=$((n + 1)) at=$CLIENT_KEY:value:$((n % 50))
	does SET yes OK ask "SET $at $n" && values[$at]=$n && does GET yes "$n" ask "GET $at"
	before=$unknown
	does INCR no "[0-9]*" ask "INCR $CLIENT_KEY:count" && counted=$((counted + 1))
	maybe=$((maybe + unknown - before))
	does "SET anew" yes OK once "$CLIENT_PRIMARY_PORT" SET "$CLIENT_KEY:anew" "$n" &&
		does "GET anew" yes "$n" once "$CLIENT_PRIMARY_PORT" GET "$CLIENT_KEY:anew"
	does "SET on split" yes OK once "$CLIENT_SPLIT_PORT" SET "$CLIENT_KEY:split" "$n" &&
		does "GET on split" yes "$n" once "$CLIENT_SPLIT_PORT" GET "$CLIENT_KEY:split"
	does "GET on reader" yes "*" once "$CLIENT_READER_PORT" GET "$at" # may be a moment behind
	does PUBLISH yes "[0-9]*" ask "PUBLISH $CLIENT_KEY:news $n"
	echo round
	sleep "$(printf '%d.%03d' $((CLIENT_PAUSE_MS / 1000)) $((CLIENT_PAUSE_MS % 1000)))"
done

hears=no
for _ in {1..100}; do
	once "$CLIENT_PRIMARY_PORT" PUBLISH "$CLIENT_KEY:news" the-last
	grep -qs the-last "$heard" && hears=yes && break
	sleep 0.05
done
[[ $hears == yes ]] || errors+=("the subscriber hears nothing any more")
for at in "${!values[@]}"; do does "GET at the end" yes "${values[$at]}" ask "GET $at" || lost=$((lost + 1)); done
does "GET at the end" yes "[0-9]*" ask "GET $CLIENT_KEY:count"
((reply < counted)) && lost=$((lost + counted - reply))
((reply > counted + maybe)) && doubled=$((reply - counted - maybe))
note= said=
((again > 0)) && note="told again $again times"
for e in "${errors[@]:0:20}"; do e=${e//[\"\\]/}; said+="${said:+,}\"${e//$'\n'/ }\""; done
printf '{"version":"%s","ops":%d,"errors":[%s],"failed":%d,"unknown":%d,"lost":%d,"doubled":%d,"longest_ms":%d,"note":"%s"}\n' \
	"$(redis-cli --version)" "$ops" "$said" "${#errors[@]}" "$unknown" "$lost" "$doubled" $((longest / 1000)) "$note"
