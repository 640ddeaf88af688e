#!/bin/sh
# Runs a gateway with the plugin, sends it a profile, and waits for the line of it: test.sh PLUGIN.so
set -eu
gateway=${GATEWAY:-gateway}
plugin=$(realpath "$1")
folder=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$folder"' EXIT

fail() {
    cat "$folder/log" >&2
    echo "test.sh: $*" >&2
    exit 1
}

# Tries a command until it succeeds, for ten seconds at most.
wait_for() {
    tries=100
    until "$@" 2> /dev/null; do
        [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}

cat > "$folder/gateway.json" <<END
{
  "admin": { "listen_port": 0 },
  "receive_http": { "default": { "http": { "listen_address": "127.0.0.1", "listen_port": 0 }, "forward_to": ["@NAME@"] } },
  "receivers": { "@NAME@": { "plugin": "$plugin", "config": { "path": "$folder/profiles.txt" } } }
}
END
"$gateway" run --config "$folder/gateway.json" 2> "$folder/log" &
pid=$!
wait_for grep -q "msg=ready" "$folder/log" || fail "the gateway does not get ready"
port=$(sed -n 's/.*msg=listening .*address=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$folder/log")

echo "main;work 1" > "$folder/profile.folded"
"$gateway" send "$folder/profile.folded" --to "http://127.0.0.1:$port" --name "test{run=$$}" --format folded || fail "the profile is not taken"
wait_for grep -q "\"run\":\"$$\"" "$folder/profiles.txt" || fail "the line does not come"

ended=$pid pid=
kill "$ended"
wait "$ended" || fail "the gateway ended with status $?"
echo "test.sh: the profile was delivered"
