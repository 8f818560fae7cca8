"""Once all is quiet: does everybody say the same of every volume, and is anything there that nobody has?"""
import json
import time
from collections import Counter

import machine
from workers import ATTACHED, DETACHED, UNKNOWN

# Everything that was tried again ever more seldom has had its turn by then.
QUIET_LIMIT_S = 420
UNITS = ('bowlined', 'bowline-backend', 'libvirtd', 'iscsid')


def come_to_rest(account):
    """Waits until the services are up, no operation is left, and all storage answers."""
    deadline, left = time.monotonic() + QUIET_LIMIT_S, 'nothing was asked yet'
    while time.monotonic() < deadline:
        left = what_moves()
        if not left:
            return True
        time.sleep(2)
    account.accuse(f'it did not come to rest within {QUIET_LIMIT_S} s: {left}')
    return False


def what_moves():
    for unit in UNITS:
        if machine.ask('systemctl', 'is-active', unit)[0] != 0:
            # libvirtd ends by itself when nobody asks; its socket brings it back.
            machine.ask('systemctl', 'start', unit)
            return f'{unit} is down'
    status, said = machine.bowline('operations')
    if status != 0:
        return f'the agent does not answer: {said}'
    if said['operations']:
        return [(operation['kind'], operation['volume'], operation['state'], operation['error']) for operation in said['operations']]
    status, said = machine.bowline('list')
    unhealthy = [] if status != 0 else [
        (entry['volume'], entry['health']) for entry in said['attachments'] if not entry['health'] or entry['health']['state'] != 'healthy'
    ]
    return unhealthy or ('' if status == 0 else f'the agent does not answer: {said}')


class Truth:
    def __init__(self, volumes, guests, running, account):
        self.volumes, self.guests, self.running, self.account = volumes, guests, running, account
        self.by_id = {volume.id: volume for volume in volumes}

    def check(self):
        """Compares everything. Returns how many volumes are attached."""
        listed = {entry['volume']: entry['guest_name'] for entry in machine.asked('list')['attachments']}
        self.compare_with_what_was_told(listed)
        self.compare_with_service(listed)
        self.compare_with_libvirt(listed)
        self.compare_with_host(listed)
        self.compare_with_guests(listed)
        # Its status tells whether there are any.
        for difference in json.loads(machine.ask('bowline', '--json', 'fsck')[1])['differences']:
            self.account.accuse(f'fsck: {difference}')
        time.sleep(1)
        for zombie in machine.zombies():
            self.account.accuse(f'a zombie: {zombie}')
        return len(listed)

    def expect(self, what, found, expected):
        """Each of both is a list of names."""
        more, less = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
        if more:
            self.account.accuse(f'{what}: too many: {sorted(more.elements())[:5]} (of {more.total()})')
        if less:
            self.account.accuse(f'{what}: missing: {sorted(less.elements())[:5]} (of {less.total()})')

    def compare_with_what_was_told(self, listed):
        for volume in self.volumes:
            guest = listed.get(volume.id)
            if (volume.state == ATTACHED and guest != volume.guest) or (volume.state == DETACHED and guest is not None):
                self.account.accuse(f'volume {volume.id} was told to be {volume.state} ({volume.guest}), and is listed with {guest}')
            if volume.state == UNKNOWN:
                volume.state, volume.guest = (ATTACHED, guest) if guest else (DETACHED, None)

    def compare_with_service(self, listed):
        known = machine.service('/volumes/detail?limit=1000')['volumes']
        self.expect('volumes of the service', [volume['id'] for volume in known], list(self.by_id))
        for volume in known:
            expected = 'in-use' if volume['id'] in listed else 'available'
            if volume['status'] != expected:
                self.account.accuse(f'volume {volume["id"]} is {volume["status"]} in the service, not {expected}')
        attachments = machine.service('/attachments/detail?limit=1000')['attachments']
        self.expect('attachments of the service', [entry['volume_id'] for entry in attachments], list(listed))
        for entry in attachments:
            if entry['status'] != 'attached' or entry['instance'] != self.guests.get(listed.get(entry['volume_id'])):
                self.account.accuse(f'an attachment of the service: {entry}')

    def compare_with_libvirt(self, listed):
        for guest in self.guests:
            expected = [volume for volume, has in listed.items() if has == guest]
            self.expect(f'the definition of {guest}', machine.disks_in_libvirt(guest, '--inactive'), expected)
            if guest in self.running:
                self.expect(f'the disks of {guest}', machine.disks_in_libvirt(guest), expected)
        self.expect('secrets of libvirt', machine.run('virsh', '-q', 'secret-list').split(), [])

    def compare_with_host(self, listed):
        targets = [f'volume-{volume}' for volume in listed]
        shown = lambda names: [name.rpartition(':')[2] for name in names]
        self.expect('sessions', shown(machine.sessions()), targets)
        self.expect('targets of tgtd', shown(machine.targets()), targets)
        self.expect('node records', shown(path.rpartition('/')[2] for path in machine.node_records()), targets)
        self.expect('own names', [name.name for name in machine.OWN_NAMES.glob('*')], list(listed))
        if len(machine.scsi_disks()) != len(listed):
            self.account.accuse(f'{len(machine.scsi_disks())} SCSI disks for {len(listed)} attachments')
        self.expect('mounts', machine.mounts(), [])
        devices = Counter(str((machine.OWN_NAMES / volume).resolve()) for volume in listed)
        for device, count in devices.items():
            if count > 1 or not device.startswith('/dev/sd'):
                self.account.accuse(f'{count} volumes lead to {device}')
        for volume in listed:
            expected = self.by_id[volume].marker()
            head = machine.head_by_own_name(volume, len(expected))
            if head != expected:
                self.account.accuse(f'this host reads {head!r} from volume {volume}, which begins with {expected!r}')

    def compare_with_guests(self, listed):
        for guest in self.running:
            seen = machine.disks_in_guest(guest)
            volumes = [self.by_id[volume] for volume, has in listed.items() if has == guest]
            self.expect(f'what {guest} sees', list(seen), [volume.shown_serial() for volume in volumes])
            for volume in volumes:
                head = seen.get(volume.shown_serial(), volume.marker())
                if head != volume.marker():
                    self.account.accuse(f'guest {guest} reads {head!r} from volume {volume.id}, which begins with {volume.marker()!r}')
