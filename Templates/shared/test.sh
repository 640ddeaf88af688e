#!/usr/bin/env bash
# Sends a profile through a gateway that runs the plugin, and looks for its line in the file.
set -euo pipefail

gateway=${GATEWAY:-gateway}
plugin=$(realpath "$(dirname "$0")")/@NAME@.so
folder=$(mktemp -d)
pid=

stop() {
    if [[ -n $pid ]]; then kill "$pid" 2> /dev/null || true; wait "$pid" || true; fi
    rm -rf "$folder"
}
trap stop EXIT
fail() { echo "test.sh: $*" >&2; exit 1; }

# With "ack": "delivered" the answer waits until the plugin has delivered the profile, or the time is over.
cat > "$folder/gateway.json" <<JSON
{
  "admin": null,
  "receive_http": {
    "default": {
      "http": { "listen_address": "127.0.0.1", "listen_port": 0, "server_write_timeout": "10s" },
      "ack": "delivered",
      "forward_to": ["@NAME@"],
    },
  },
  "receivers": { "@NAME@": { "plugin": "$plugin", "config": { "path": "$folder/profiles.txt" } } },
}
JSON

# The system chooses the port, and the gateway's log tells it.
exec 3< <(exec "$gateway" run --config "$folder/gateway.json" 2>&1)
pid=$!
log= port=
while [[ -z $port ]] && IFS= read -r -t 30 -u 3 line; do
    log+="$line"$'\n'
    if [[ $line =~ msg=listening.*:([0-9]+)$ ]]; then port=${BASH_REMATCH[1]}; fi
done
[[ -n $port ]] || fail "the gateway does not listen:"$'\n'"$log"

echo "main;work 1" > "$folder/profile.folded"
timeout 30 "$gateway" send "$folder/profile.folded" --to "http://127.0.0.1:$port" --name "@NAME@.test{env=test}"
grep -q "env=test .*12 bytes" "$folder/profiles.txt" || fail "the profile has no line in the file"
echo "test.sh: the profile was delivered"
