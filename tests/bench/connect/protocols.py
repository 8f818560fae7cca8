"""What each protocol's volumes are: how they are made, told, recognised, and seen to be gone. One class a protocol."""
import os
import subprocess
import uuid
from pathlib import Path

LIMIT_S = 120
IQN = 'iqn.2026-01.org.bowline.test'


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(command)}: status {done.returncode}: {done.stderr or done.stdout}')
    return done.stdout.strip()


def start(*command):
    """Runs a command that leaves services behind: they would hold the pipe that its words come by."""
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=LIMIT_S).returncode != 0:
        raise RuntimeError(f'{" ".join(command)} failed')


def mark(volume):
    return f'this is {volume["name"]}.'.encode()


def read_mark(volume, path):
    with open(path, 'rb') as device:
        found = device.read(len(mark(volume)))
    if found != mark(volume):
        raise RuntimeError(f'{path} is not {volume["name"]}: it begins with {found}')


def write_mark(volume, file):
    with open(file, 'r+b') as device:
        device.write(mark(volume))


class Iscsi:
    """A target for each volume, with one portal and CHAP, as Cinder's LVM driver makes them."""

    name = 'iscsi'
    portals = ('127.0.0.1:3260',)

    def prepare(self, count):
        self.volumes = [self.volume(number, 1) for number in range(count)]
        for volume in self.volumes:
            write_mark(volume, run('target-up', volume['name'], '64'))

    def volume(self, number, lun):
        name = f'bench-{number}'
        data = {'target_discovered': False, 'auth_method': 'CHAP', 'auth_username': 'chapuser',
                'auth_password': 'chappassword12', 'access_mode': 'rw', 'encrypted': False, 'qos_specs': None,
                'target_portal': self.portals[0], 'target_iqn': f'{IQN}:{name}', 'target_lun': lun}
        if len(self.portals) > 1:
            data |= {'target_portals': list(self.portals), 'target_iqns': [data['target_iqn']] * len(self.portals),
                     'target_luns': [lun] * len(self.portals)}
        paths = [{'iqn': data['target_iqn'], 'portal': portal, 'lun': lun} for portal in self.portals]
        id = str(uuid.uuid5(uuid.NAMESPACE_OID, f'{name} {lun}'))
        data['volume_id'] = id
        return {'name': name, 'id': id, 'info': {'driver_volume_type': 'iscsi', 'data': data}, 'bare': {'paths': paths}}

    def check(self, volume, path):
        read_mark(volume, path)

    def while_connected(self, side, volumes):
        """The floor logs in with the very record that Bowline wrote."""
        if side != 'ours':
            return
        for volume in volumes:
            for path in volume['bare']['paths']:
                host, _, port = path['portal'].rpartition(':')
                record = Path(f'/etc/iscsi/nodes/{path["iqn"]}/{host},{port}')
                path['record'], path['record_text'] = str(record), record.read_text()

    def after(self, side):
        pass

    def left(self):
        """Sessions, records and disks."""
        places = ('/sys/class/iscsi_session/*', '/etc/iscsi/nodes/*', '/sys/class/scsi_disk/*', '/run/bowline/volumes/*')
        return [str(found) for place in places for found in Path('/').glob(place[1:])]

    def tear_down(self):
        for volume in self.volumes:
            run('target-down', volume['name'])

    def missing(self, side):
        """One LUN that its target has not, while others are connected; and how those do by themselves."""
        others = self.volumes[1:9]
        alone = side.do({'do': 'connect', 'volumes': others})
        side.do({'do': 'disconnect'})
        absent = self.volume(0, 7)
        mixed = side.ask({'do': 'connect', 'volumes': [absent, *others]})
        failed, *rest = mixed['each']
        errors = [one['error'] for one in rest if one['error']]
        if not failed['error'] or errors:
            raise RuntimeError(f'a LUN that is not there: {failed}, others: {errors}')
        side.do({'do': 'disconnect'})
        if self.left():
            raise RuntimeError(f'a LUN that is not there left {self.left()}')
        return {'error': failed['error'], 'failed_after_ms': round(failed['ms'], 2),
                'others_slowest_ms': round(max(one['ms'] for one in rest), 2),
                'others_slowest_alone_ms': round(max(one['ms'] for one in alone['each']), 2)}


class IscsiMultipath(Iscsi):
    """The same over two portals, with a map of multipathd."""

    name = 'iscsi_multipath'
    portals = ('127.0.0.1:3260', '127.0.0.2:3260')
    missing = None

    def prepare(self, count):
        # A node has it masked until somebody wants it.
        run('systemctl', 'unmask', 'multipathd.service', 'multipathd.socket')
        run('systemctl', 'start', 'multipathd.service')
        super().prepare(count)

    def left(self):
        maps = [f'map {line}' for line in run('dmsetup', 'ls', '--target', 'multipath').splitlines() if line != 'No devices found']
        return super().left() + maps


class Nfs:
    """Files of one export, raw."""

    name = 'nfs'

    def prepare(self, count):
        start('nfs-up', '/srv/bench')
        self.volumes = []
        for number in range(count):
            id = str(uuid.uuid5(uuid.NAMESPACE_OID, f'nfs {number}'))
            volume = {'name': f'volume-{id}', 'id': id, 'bare': {}, 'info': {'driver_volume_type': 'nfs', 'data': {
                'export': '127.0.0.1:/', 'name': f'volume-{id}', 'format': 'raw', 'options': None, 'volume_id': id}}}
            file = Path('/srv/bench', volume['name'])
            file.touch()
            os.truncate(file, 64 << 20)
            write_mark(volume, file)
            self.volumes.append(volume)

    def check(self, volume, path):
        """os-brick gives the mount point; the name below it is the caller's."""
        path = Path(path)
        read_mark(volume, path / volume['name'] if path.is_dir() else path)

    def while_connected(self, side, volumes):
        pass

    def after(self, side):
        """os-brick never unmounts: its disconnect is nothing, and what it leaves is taken away here, outside of the times."""
        if side == 'os_brick':
            for place in self.left():
                run('umount', place)

    def left(self):
        mounts = [line.split() for line in Path('/proc/mounts').read_text().splitlines()]
        return [fields[1] for fields in mounts if fields[2].startswith('nfs') and fields[2] != 'nfsd']

    def tear_down(self):
        start('nfs-down')


class Rbd:
    """Images of a cluster in the node, mapped by the kernel."""

    name = 'rbd'

    def prepare(self, count):
        start('ceph-up')
        run('modprobe', 'rbd', 'single_major=Y')
        Path('/etc/ceph/ceph.client.cinder.keyring').write_text(Path('/root/cinder.keyring').read_text())
        key = Path('/root/cinder.key').read_text()
        self.volumes = []
        for number in range(count):
            id = str(uuid.uuid5(uuid.NAMESPACE_OID, f'rbd {number}'))
            volume = {'name': f'volume-{id}', 'id': id, 'bare': {'key': key}, 'info': {'driver_volume_type': 'rbd', 'data': {
                'name': f'volumes/volume-{id}', 'hosts': ['127.0.0.1'], 'ports': ['6789'], 'cluster_name': 'ceph',
                'auth_enabled': True, 'auth_username': 'cinder', 'secret_type': 'ceph', 'secret_uuid': None,
                'keyring': f'[client.cinder]\n\tkey = {key}\n', 'volume_id': id}}}
            Path('/run/bench-mark').write_bytes(mark(volume))
            run('rbd', 'import', '--no-progress', '--image-feature', 'layering', '/run/bench-mark', f'volumes/{volume["name"]}')
            run('rbd', 'resize', '--no-progress', '--size', '64M', f'volumes/{volume["name"]}')
            self.volumes.append(volume)

    def check(self, volume, path):
        read_mark(volume, path)

    def while_connected(self, side, volumes):
        pass

    def after(self, side):
        pass

    def left(self):
        return [str(device) for device in Path('/sys/bus/rbd/devices').iterdir()]

    def tear_down(self):
        pass


ALL = {protocol.name: protocol for protocol in (Iscsi, IscsiMultipath, Nfs, Rbd)}
