"""The life of backups by the stock clients, against a running service and whatever store it has.

Run by `clients/run`: python-cinderclient, openstacksdk and the `openstack` command, as they come. VOLUMES is where its volumes' files are.
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
from whole_life import refused, wait

MIB = 1 << 20


def file_of(volume_id):
    return os.path.join(os.environ["VOLUMES"], f"volume-{volume_id}")


def write(volume_id, offset, data):
    with open(file_of(volume_id), "r+b") as file:
        file.seek(offset)
        file.write(data)


def same(one, other):
    return subprocess.run(["cmp", file_of(one), file_of(other)], check=False).returncode == 0


def by_cinderclient(url, token):
    cinder = cinderclient.Client("3.71", session=session.Session(auth=token_endpoint.Token(url, token)))
    volume = cinder.volumes.create(1, name="kept")
    wait(lambda: cinder.volumes.get(volume.id), "available")
    write(volume.id, 3 * MIB, os.urandom(20 * MIB))
    write(volume.id, 1000 * MIB, os.urandom(MIB))
    full = cinder.backups.create(volume.id, name="full", description="d", metadata={"k": "v"})
    wait(lambda: cinder.backups.get(full.id), "available")
    full = cinder.backups.get(full.id)
    assert (full.size, full.object_count, full.is_incremental, full.metadata) == (1, 7, False, {"k": "v"}), full.to_dict()
    write(volume.id, 5 * MIB, b"changed")
    part = cinder.backups.create(volume.id, incremental=True, container=None)
    wait(lambda: cinder.backups.get(part.id), "available")
    part = cinder.backups.get(part.id)
    assert (part.object_count, part.is_incremental) == (1, True), part.to_dict()
    assert cinder.backups.get(full.id).has_dependent_backups
    assert [one.id for one in cinder.backups.list(sort="created_at:asc")] == [full.id, part.id]
    assert [one.id for one in cinder.backups.list(search_opts={"name": "full"})] == [full.id]
    cinder.backups.update(part, name="part")
    refused(exceptions.BadRequest, cinder.backups.delete, full.id)
    restored = cinder.restores.restore(part.id, name="restored")
    wait(lambda: cinder.volumes.get(restored.volume_id), "available")
    assert restored.volume_name == "restored" and same(volume.id, restored.volume_id)
    record = cinder.backups.export_record(part.id)
    refused(exceptions.BadRequest, cinder.backups.import_record, record["backup_service"], record["backup_url"])
    cinder.backups.reset_state(part.id, "error")
    assert cinder.backups.get(part.id).status == "error"
    cinder.backups.delete(part.id, force=True)
    wait(lambda: cinder.backups.get(part.id), None)
    cinder.backups.delete(full.id)
    wait(lambda: cinder.backups.get(full.id), None)
    for one in (volume.id, restored.volume_id):
        cinder.volumes.delete(one)
        wait(lambda one=one: cinder.volumes.get(one), None)


def by_openstacksdk():
    block = openstack.connect(cloud="bowline").block_storage
    volume = block.create_volume(size=1, name="sdk")
    wait(lambda: block.get_volume(volume.id), "available")
    backup = block.create_backup(volume_id=volume.id, name="sdk-b")
    block.wait_for_status(block.get_backup(backup.id), status="available", failures=["error"], interval=0.1, wait=120)
    assert block.find_backup("sdk-b").id == backup.id
    assert [one.id for one in block.backups(details=True)] == [backup.id]
    block.restore_backup(backup.id, volume_id=volume.id)
    wait(lambda: block.get_volume(volume.id), "available")
    wait(lambda: block.get_backup(backup.id), "available")
    block.delete_backup(backup.id)
    wait(lambda: block.get_backup(backup.id), None)
    block.delete_volume(volume.id)
    wait(lambda: block.get_volume(volume.id), None)


def by_command():
    def run(*words, as_json=True):
        command = ["openstack", "--os-cloud", "bowline", "--os-volume-api-version", "3.71", "volume", *words]
        done = subprocess.run(command + (["-f", "json"] if as_json else []), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return json.loads(done.stdout) if as_json else None

    volume = run("create", "--size", "1", "by-command")["id"]
    deadline = time.monotonic() + 180
    while run("show", volume)["status"] != "available":
        assert time.monotonic() < deadline
    backup = run("backup", "create", "--name", "b", "--property", "a=b", volume)["id"]
    while run("backup", "show", backup)["status"] != "available":
        assert time.monotonic() < deadline
    assert [one["Name"] for one in run("backup", "list", "--long")] == ["b"]
    run("backup", "set", "--name", "c", backup, as_json=False)
    assert run("backup", "restore", backup, "again")["volume_name"] == "again"
    while run("show", "again")["status"] != "available":
        assert time.monotonic() < deadline
    run("backup", "delete", backup, as_json=False)
    run("delete", volume, "again", as_json=False)


def main():
    by_cinderclient(os.environ["VOLUME_URL"], os.environ["VOLUME_TOKEN"])
    by_openstacksdk()
    if len(sys.argv) < 2:
        by_command()
    return 0


if __name__ == "__main__":
    sys.exit(main())
