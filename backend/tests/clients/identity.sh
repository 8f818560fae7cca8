#!/bin/bash
# Users, projects and roles by the stock `openstack` command. OS_CLIENT_CONFIG_FILE and OS_CLOUD say where. Leaves nothing behind.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "identity.sh: $*" >&2; exit 1; }
is() { [ "$1" = "$2" ] || fail "'$1' is not '$2' ($3)"; }
refused() { local why=$1; shift; if "$@" >"$work/out" 2>&1; then fail "not refused: $*"; fi; grep -q -- "$why" "$work/out" || fail "$(cat "$work/out")"; }
url=$(openstack endpoint list --service identity --interface public -f value -c URL)
as() { # as USER PASSWORD PROJECT COMMAND...: nothing of the operator's
  local user=$1 password=$2 project=$3; shift 3
  env -u OS_CLOUD -u OS_CLIENT_CONFIG_FILE OS_AUTH_URL="$url" OS_USERNAME="$user" OS_PASSWORD="$password" OS_PROJECT_NAME="$project" \
    OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default OS_IDENTITY_API_VERSION=3 "$@"
}

project=$(openstack project create -f value -c id --description "of tests" kitchen)
refused 409 openstack project create kitchen
user=$(openstack user create -f value -c id --project kitchen --password 'first one' --email c@example.org cook)
refused 401 as cook 'first one' kitchen openstack token issue
openstack role add --project kitchen --user cook member
is "$(as cook 'first one' kitchen openstack token issue -f value -c project_id)" "$project" "a token"
is "$(openstack role assignment list --names --project kitchen -f value -c Role -c User | tr '\n' ' ')" "member cook@Default " assignments
is "$(openstack role assignment list --effective --names --project kitchen -f value -c Role | sort | tr '\n' ' ')" "member reader " implied
refused 401 as cook 'wrong' kitchen openstack token issue
refused 401 as cook 'first one' bowline openstack token issue

volume=$(as cook 'first one' kitchen openstack volume create -f value -c id --size 1 pot)
[ -n "$volume" ] || fail volume
refused 403 as cook 'first one' kitchen openstack user list
refused 403 as cook 'first one' kitchen openstack project create attic
refused 403 as cook 'first one' kitchen openstack volume service list
is "$(openstack volume list -f value -c ID)" "" "another project's volume is not listed"
refused 409 openstack project delete kitchen

# A reader looks and does no more; a manager is no administrator.
openstack role remove --project kitchen --user cook member
openstack role add --project kitchen --user cook reader
as cook 'first one' kitchen openstack volume list -f value | grep pot >/dev/null || fail "a reader sees"
refused 403 as cook 'first one' kitchen openstack volume create --size 1 no
openstack role add --project kitchen --user cook manager
refused 403 as cook 'first one' kitchen openstack volume service list
as cook 'first one' kitchen openstack volume delete "$volume"

# A revoked token, a changed password and a locked user let nobody in.
token=$(as cook 'first one' kitchen openstack token issue -f value -c id)
by_token() { env -u OS_CLOUD -u OS_CLIENT_CONFIG_FILE OS_AUTH_TYPE=v3token OS_AUTH_URL="$url" OS_TOKEN="$1" OS_PROJECT_ID="$project" OS_IDENTITY_API_VERSION=3 openstack token issue -f value -c user_id; }
is "$(by_token "$token")" "$user" "a token by a token"
openstack token revoke "$token"
refused 401 by_token "$token"
token=$(as cook 'first one' kitchen openstack token issue -f value -c id)
openstack user set --password 'second one' cook
refused 401 by_token "$token"
refused 401 as cook 'first one' kitchen openstack token issue
as cook 'second one' kitchen openstack user password set --original-password 'second one' --password 'third one'
as cook 'third one' kitchen openstack token issue -f value -c id >/dev/null
openstack user set --disable cook
refused 401 as cook 'third one' kitchen openstack token issue
openstack user set --enable --name chef --description 'of soup' cook
is "$(openstack user show -f value -c description chef)" "of soup" description

# The whole installation as a scope, for those who look after it.
in_system() { # in_system COMMAND...: as the operator, whose cloud names a project
  env -u OS_CLOUD -u OS_CLIENT_CONFIG_FILE OS_AUTH_URL="$url" OS_USERNAME=bowline OS_USER_DOMAIN_ID=default OS_SYSTEM_SCOPE=all \
    OS_PASSWORD="$(awk '$1 == "password:" {print $2}' "$OS_CLIENT_CONFIG_FILE")" OS_IDENTITY_API_VERSION=3 "$@"
}
is "$(in_system openstack role assignment list --system all --names -f value -c User)" "bowline@Default" "system scope"
is "$(openstack domain list -f value -c ID)" default domains
openstack service list -f value -c Type | grep image >/dev/null || fail services
openstack implied role list -f value | grep "admin .* manager" >/dev/null || fail "implied roles"

for _ in $(seq 50); do [ -z "$(openstack volume list --all-projects -f value)" ] && break; sleep 0.2; done
openstack user delete chef
openstack project set --name cellar kitchen
openstack project delete cellar
is "$(openstack project list -f value -c Name)$(openstack user list -f value -c Name)" bowlinebowline "nothing left"
echo "identity.sh: ok"
