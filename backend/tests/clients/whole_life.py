"""The whole life of volumes, snapshots, types, quotas and attachments by the stock clients, against a running service.

Run by `clients/run`, which starts the service: python-cinderclient, openstacksdk and the `openstack` command, as they come.
"""

import json
import os
import subprocess
import sys
import time

import openstack
from cinderclient import client as cinderclient
from cinderclient import exceptions
from keystoneauth1 import session, token_endpoint

CONNECTOR = {"initiator": "iqn.2026-01.test:clients", "host": "node-a", "ip": "127.0.0.1"}
GUEST = "11111111-1111-4111-8111-111111111111"


def wait(what, status, within_s=120):
    """Waits until `what()` has a status; None is gone."""
    end = time.monotonic() + within_s
    while True:
        try:
            now = what().status
        except (exceptions.NotFound, openstack.exceptions.NotFoundException):
            now = None
        if now == status:
            return
        assert time.monotonic() < end, f"it is {now}, not {status}"
        time.sleep(0.05)


def refused(error, call, *args, **kwargs):
    """The call must be refused in this way."""
    try:
        call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{call} was not refused")


def by_cinderclient(url, token):
    cinder = cinderclient.Client("3.71", session=session.Session(auth=token_endpoint.Token(url, token)))
    project = cinder.volumes.create(1, name="first", metadata={"a": "b"})
    volume = project
    wait(lambda: cinder.volumes.get(volume.id), "available")
    volume = cinder.volumes.get(volume.id)
    project_id = getattr(volume, "os-vol-tenant-attr:tenant_id")
    cinder.volumes.update(volume, name="renamed", description="d")
    cinder.volumes.set_metadata(volume, {"k": "v"})
    cinder.volumes.delete_metadata(volume, ["a"])
    assert cinder.volumes.get(volume.id).metadata == {"k": "v"}
    assert [one.id for one in cinder.volumes.list(search_opts={"name": "renamed"})] == [volume.id]
    assert cinder.volumes.summary(False)["volume-summary"]["total_count"] == 1
    assert cinder.volumes.get_encryption_metadata(volume.id)["encryption_key_id"] is None
    cinder.volumes.set_bootable(volume, True)
    assert cinder.volumes.get(volume.id).bootable == "true"

    shared = cinder.volume_types.create("shared", description="d", is_public=False)
    shared.set_keys({"multiattach": "<is> True"})
    assert shared.get_keys() == {"multiattach": "<is> True"}
    cinder.volume_type_access.add_project_access(shared, project_id)
    assert [one.project_id for one in cinder.volume_type_access.list(shared)] == [project_id]
    both = cinder.volumes.create(1, volume_type="shared")
    wait(lambda: cinder.volumes.get(both.id), "available")
    assert cinder.volumes.get(both.id).multiattach
    assert {one.name for one in cinder.volume_types.list()} >= {"shared"}
    qos = cinder.qos_specs.create("q", {"consumer": "front-end", "total_iops_sec": "100"})
    cinder.qos_specs.associate(qos, shared.id)
    assert [one.name for one in cinder.qos_specs.get_associations(qos)] == ["shared"]

    secret = cinder.volume_types.create("secret")
    how = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}
    cinder.volume_encryption_types.create(secret, how)
    cinder.volume_encryption_types.update(secret, {"key_size": 512})
    assert [(one.provider, one.key_size) for one in cinder.volume_encryption_types.list()] == [("luks", 512)]
    locked = cinder.volumes.create(1, volume_type="secret")
    wait(lambda: cinder.volumes.get(locked.id), "available")
    assert cinder.volumes.get(locked.id).encrypted
    told = cinder.volumes.get_encryption_metadata(locked.id)
    assert (told["provider"], told["key_size"]) == ("luks", 512) and told["encryption_key_id"], told
    refused(exceptions.BadRequest, cinder.volume_encryption_types.delete, secret)
    cinder.volumes.delete(locked)
    wait(lambda: cinder.volumes.get(locked.id), None)
    cinder.volume_encryption_types.delete(secret)
    cinder.volume_types.delete(secret)

    hosts = []
    for host in ("a", "b"):
        connector = dict(CONNECTOR, initiator=f"iqn.2026-01.test:{host}", host=host)
        made = cinder.attachments.create(both.id, connector, GUEST)
        info = made["connection_info"]
        assert info["qos_specs"] == {"total_iops_sec": "100"}, info
        cinder.attachments.complete(made["id"])
        hosts.append(made["id"])
    assert cinder.volumes.get(both.id).status == "in-use"
    assert len(cinder.volumes.get(both.id).attachments) == 2
    assert len(cinder.attachments.list(search_opts={"volume_id": both.id})) == 2
    refused(exceptions.BadRequest, cinder.volumes.delete, both)
    for attachment in hosts:
        cinder.attachments.delete(attachment)
    assert cinder.volumes.get(both.id).status == "available"

    cinder.volumes.reserve(volume)
    told = cinder.volumes.initialize_connection(volume, CONNECTOR)
    assert told["driver_volume_type"] == "iscsi" and told["data"]["target_iqn"].endswith(volume.id)
    cinder.volumes.attach(volume, GUEST, "/dev/vdb")
    assert cinder.volumes.get(volume.id).status == "in-use"
    cinder.volumes.begin_detaching(volume)
    cinder.volumes.terminate_connection(volume, CONNECTOR)
    cinder.volumes.detach(volume)
    assert cinder.volumes.get(volume.id).status == "available"

    snapshot = cinder.volume_snapshots.create(volume.id, name="s")
    wait(lambda: cinder.volume_snapshots.get(snapshot.id), "available")
    cinder.volume_snapshots.update(snapshot, name="s2")
    cinder.volume_snapshots.set_metadata(snapshot, {"x": "y"})
    cinder.volume_snapshots.delete_metadata(snapshot, ["x"])
    cinder.volume_snapshots.reset_state(snapshot, "error")
    cinder.volume_snapshots.reset_state(snapshot, "available")
    assert [one.name for one in cinder.volume_snapshots.list()] == ["s2"]
    cinder.volumes.revert_to_snapshot(volume, snapshot)
    wait(lambda: cinder.volumes.get(volume.id), "available")
    copy = cinder.volumes.create(1, snapshot_id=snapshot.id)
    wait(lambda: cinder.volumes.get(copy.id), "available")

    offer = cinder.transfers.create(copy.id, "t")
    assert [one.id for one in cinder.transfers.list()] == [offer.id]
    cinder.transfers.accept(offer.id, offer.auth_key)
    assert cinder.volumes.get(copy.id).status == "available"

    cinder.quotas.update(project_id, volumes=3)
    assert cinder.quotas.get(project_id, usage=True).volumes == {"limit": 3, "in_use": 3, "reserved": 0}
    refused(exceptions.OverLimit, cinder.volumes.create, 1)
    cinder.quotas.delete(project_id)
    cinder.quota_classes.update("default", volumes=50)
    assert cinder.quotas.defaults(project_id).volumes == 50
    assert {one.name: one.value for one in cinder.limits.get().absolute}["totalVolumesUsed"] == 3

    kind = cinder.volume_types.create("plain")
    cinder.volumes.retype(volume, "plain", "never")
    assert cinder.volumes.get(volume.id).volume_type == "plain"
    assert cinder.services.list(binary="cinder-volume")[0].state == "up"
    assert cinder.pools.list(detailed=True)[0].total_capacity_gb > 0
    assert cinder.availability_zones.list()[0].zoneName
    assert cinder.messages.list() == []
    assert cinder.groups.list() == []
    cinder.default_types.create("plain", project_id)
    cinder.default_types.delete(project_id)

    pages = cinder.volumes.list(limit=2, sort="created_at:asc")
    rest = cinder.volumes.list(marker=pages[-1].id, sort="created_at:asc")
    assert [one.id for one in pages + rest] == [volume.id, both.id, copy.id]
    refused(exceptions.BadRequest, cinder.volumes.delete, volume)
    cinder.volume_snapshots.delete(snapshot)
    wait(lambda: cinder.volume_snapshots.get(snapshot.id), None)
    cinder.volumes.reset_state(copy, "error")
    cinder.volumes.force_delete(copy)
    for one in (volume, both):
        cinder.volumes.delete(one)
    for one in (volume, both, copy):
        wait(lambda: cinder.volumes.get(one.id), None)
    cinder.qos_specs.disassociate_all(qos)
    cinder.qos_specs.delete(qos)
    cinder.volume_types.delete(shared)
    cinder.volume_types.delete(kind)


def by_openstacksdk():
    cloud = openstack.connect(cloud="bowline")
    block = cloud.block_storage
    volume = block.create_volume(size=1, name="sdk", metadata={"a": "b"})
    wait(lambda: block.get_volume(volume.id), "available")
    assert block.find_volume("sdk").id == volume.id
    snapshot = block.create_snapshot(volume_id=volume.id, name="sdk-s")
    wait(lambda: block.get_snapshot(snapshot.id), "available")
    kind = block.create_type(name="sdk-type")
    block.update_type(kind, description="d")
    assert block.find_type("sdk-type").id == kind.id
    assert [one.id for one in block.volumes()] == [volume.id]
    assert block.get_limits().absolute.total_volumes_used == 1
    assert len(list(block.backend_pools())) == 1
    assert len(list(block.services())) == 3
    block.delete_type(kind)
    block.delete_snapshot(snapshot)
    wait(lambda: block.get_snapshot(snapshot.id), None)
    block.delete_volume(volume)
    wait(lambda: block.get_volume(volume.id), None)


def by_command():
    def run(*words):
        words = ["openstack", "--os-cloud", "bowline", "--os-volume-api-version", "3.71", *words, "-f", "json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return json.loads(done.stdout)

    volume = run("volume", "create", "--size", "1", "by-command")
    end = time.monotonic() + 30
    while run("volume", "show", volume["id"])["status"] != "available":
        assert time.monotonic() < end
    assert [one["Name"] for one in run("volume", "list")] == ["by-command"]
    assert run("volume", "type", "list")
    encryption = ["--encryption-provider", "luks", "--encryption-cipher", "aes-xts-plain64", "--encryption-key-size", "256"]
    made = run("volume", "type", "create", "secret", *encryption, "--encryption-control-location", "front-end")
    assert all(word in str(made["encryption"]) for word in ("luks", "aes-xts-plain64", "256", "front-end")), made
    done = ["openstack", "--os-cloud", "bowline", "volume", "delete", volume["id"]]
    assert subprocess.run(done, check=False).returncode == 0


def main():
    stages = [
        ("python-cinderclient", lambda: by_cinderclient(os.environ["VOLUME_URL"], os.environ["VOLUME_TOKEN"])),
        ("openstacksdk", by_openstacksdk),
        ("openstack", by_command),
    ]
    for name, stage in stages:
        started = time.monotonic()
        stage()
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
