#!/bin/bash
# Images and volumes of them, by the stock `openstack` and `glance` commands.
# OS_CLIENT_CONFIG_FILE and OS_CLOUD say where; both programs and qemu-img are in PATH. Leaves nothing behind.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "images.sh: $*" >&2; exit 1; }
is() { [ "$1" = "$2" ] || fail "'$1' is not '$2' ($3)"; }
refused() { local why=$1; shift; if "$@" >"$work/out" 2>&1; then fail "not refused: $*"; fi; grep -q -- "$why" "$work/out" || fail "$(cat "$work/out")"; }
until_is() { # until_is STATUS COMMAND...: clients have nothing to wait on but asking again
  local wanted=$1 found; shift
  for _ in $(seq 300); do found=$("$@"); [ "$found" = "$wanted" ] && return; case $found in error*) break;; esac; sleep 0.2; done
  fail "$* is $found, not $wanted: $(openstack volume message list 2>/dev/null)"
}

# A disk with data at both ends and nothing between.
truncate -s 8M "$work/disk.raw"
head -c 1000000 /dev/urandom | dd of="$work/disk.raw" conv=notrunc status=none
head -c 1000000 /dev/urandom | dd of="$work/disk.raw" bs=1M seek=7 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"

raw=$(openstack image create -f value -c id --disk-format raw --container-format bare --file "$work/disk.raw" --property os_distro=debian --tag blue raw-disk)
is "$(openstack image show -f value -c status "$raw")" active "after an upload"
is "$(openstack image show -f value -c size "$raw")" 8388608 size
is "$(openstack image show -f value -c checksum "$raw")" "$(md5sum <"$work/disk.raw" | cut -d' ' -f1)" md5
openstack image show -f json "$raw" | grep "$(sha512sum <"$work/disk.raw" | cut -d' ' -f1)" >/dev/null || fail "sha512"
openstack image save --file "$work/back" "$raw"
cmp "$work/back" "$work/disk.raw"
qcow2=$(openstack image create -f value -c id --disk-format qcow2 --file "$work/disk.qcow2" qcow2-disk)
is "$(openstack image show -f value -c virtual_size "$qcow2")" 8388608 "virtual size"

openstack image set --name renamed --property os_distro=arch --property 'a/b=c' --min-disk 1 --tag green "$raw"
openstack image show -f json "$raw" | grep '"os_distro": "arch"' >/dev/null || fail property
openstack image unset --property 'a/b' --tag blue "$raw"
is "$(openstack image list -f value -c ID --tag green)" "$raw" "list by tag"
is "$(openstack image list -f value -c ID --property os_distro=arch)" "$raw" "list by property"
is "$(openstack image list -f value -c ID --name qcow2-disk)" "$qcow2" "list by name"
is "$(openstack image list -f value -c ID --sort name:desc | sed -n 1p)" "$raw" "sort"
openstack image set --protected "$raw"
refused "protected" openstack image delete "$raw"
openstack image set --unprotected --public "$raw"

# The older library: asks for versions and schemas, sends chunks. Its command knows no clouds.yaml.
export OS_AUTH_TOKEN OS_IMAGE_URL
OS_AUTH_TOKEN=$(openstack token issue -f value -c id)
OS_IMAGE_URL=$(openstack endpoint list --interface public -f value -c 'Service Type' -c URL | awk '$1 == "image" {print $2}')
glance=$(glance image-create --disk-format raw --container-format bare --name chunked --file "$work/disk.raw" --property k=v | awk '$2 == "id" {print $4}')
glance image-download --file "$work/back2" "$glance"
cmp "$work/back2" "$work/disk.raw"
glance image-update --property k=w --remove-property k "$glance" >/dev/null 2>&1 || glance image-update --property k=w "$glance" >/dev/null
glance image-list | grep chunked >/dev/null || fail "glance image-list"
glance image-delete "$glance"
unset OS_AUTH_TOKEN OS_IMAGE_URL

# What lies is refused, and says why.
refused "is not raw but qcow2" openstack image create --disk-format raw --file "$work/disk.qcow2" liar
refused "is not qcow2" openstack image create --disk-format qcow2 --file "$work/disk.raw" liar
qemu-img create -q -f qcow2 -F raw -b "$work/disk.raw" "$work/backed.qcow2"
refused "backing file" openstack image create --disk-format qcow2 --file "$work/backed.qcow2" liar
for id in $(openstack image list -f value -c ID --name liar); do
  is "$(openstack image show -f value -c status "$id")" queued "after a refusal"
  openstack image delete "$id"
done

# Volumes of images, twice, the second from what was kept; and back.
refused "smaller than the image minDisk" openstack volume create --image "$(openstack image create -f value -c id --disk-format raw --min-disk 2 --file "$work/disk.raw" large)" --size 1 small
openstack image delete large
for image in "$raw" "$qcow2" "$qcow2"; do
  volume=$(openstack volume create -f value -c id --image "$image" --size 1 of-image)
  until_is available openstack volume show -f value -c status "$volume"
  bootable=$(openstack volume show -f value -c bootable "$volume")
  is "${bootable,,}" true bootable
  openstack volume show -f json "$volume" | grep "$image" >/dev/null || fail "volume_image_metadata"
  for format in raw qcow2; do
    made=$(openstack image create -f value -c id --volume "$volume" --disk-format $format from-volume 2>/dev/null || true)
    made=$(openstack image list -f value -c ID --name from-volume)
    until_is available openstack volume show -f value -c status "$volume"
    until_is active openstack image show -f value -c status "$made"
    openstack image save --file "$work/again" "$made"
    qemu-img convert -f $format -O raw "$work/again" "$work/again.raw"
    is "$(stat -c %s "$work/again.raw")" 1073741824 "a volume's whole size"
    cmp -n 8388608 "$work/again.raw" "$work/disk.raw"
    openstack image delete "$made"
  done
  openstack volume delete "$volume"
done
openstack image delete "$raw" "$qcow2"
for _ in $(seq 100); do [ -z "$(openstack volume list -f value)" ] && break; sleep 0.2; done
is "$(openstack image list -f value)$(openstack volume list -f value)" "" "nothing left"
echo "images.sh: ok"
