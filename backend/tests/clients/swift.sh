#!/bin/bash
# swift.sh PYTHON_VENV DIRECTORY: a real OpenStack Swift with its S3 API, one of each server, everything in DIRECTORY. Prints the proxy's
# port when it answers; runs until it is killed. User `test:tester`, key `testing`, both as Swift and as S3 know them.
set -euo pipefail
bin=$1/bin dir=$2
ports=($("$bin/python" -c 'import socket; s = [socket.socket() for _ in range(5)]; [x.bind(("127.0.0.1", 0)) for x in s]; print(*(x.getsockname()[1] for x in s))'))
proxy=${ports[0]}
# It looks for its settings in one place alone, so it is shown one of its own.
[ "${SWIFT_IN_NAMESPACE:-}" ] || SWIFT_IN_NAMESPACE=1 exec unshare --mount "$0" "$@"
mkdir -p "$dir/etc" "$dir/disks/d" "$dir/run"
mkdir -p /etc/swift
mount --bind "$dir/etc" /etc/swift
printf '[swift-hash]\nswift_hash_path_suffix = bowline\n' >/etc/swift/swift.conf
servers=(account container object)
for at in 0 1 2; do
  server=${servers[$at]} port=${ports[$((at + 1))]}
  (cd /etc/swift && "$bin/swift-ring-builder" "$server.builder" create 4 1 1 && "$bin/swift-ring-builder" "$server.builder" add "r1z1-127.0.0.1:$port/d" 1 &&
    "$bin/swift-ring-builder" "$server.builder" rebalance) >/dev/null
  cat >"/etc/swift/$server.conf" <<CONF
[DEFAULT]
devices = $dir/disks
mount_check = false
bind_ip = 127.0.0.1
bind_port = $port
workers = 0
user = root
log_address = /nowhere
disable_fallocate = true
[pipeline:main]
pipeline = $server-server
[app:$server-server]
use = egg:swift#$server
CONF
done
cat >/etc/swift/proxy.conf <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $proxy
workers = 0
user = root
log_address = /nowhere
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${ports[4]}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:slo]
use = egg:swift#slo
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
CONF
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
trap 'exit 0' TERM INT
memcached -u root -l 127.0.0.1 -p "${ports[4]}" &
for server in account container object proxy; do
  "$bin/swift-$server-server" "/etc/swift/$server.conf" -v >"$dir/$server.log" 2>&1 &
done
for _ in $(seq 900); do
  if curl -sf -o /dev/null -H 'X-Auth-User: test:tester' -H 'X-Auth-Key: testing' "http://127.0.0.1:$proxy/auth/v1.0"; then echo "$proxy"; wait; fi
  sleep 0.1
done
cat "$dir"/*.log >&2
exit 1
