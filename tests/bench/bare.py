"""The floor: the least that any program does to give a guest an exported volume and to take it away.

libvirt is asked over one kept connection, with the XML of Bowline's own disk. Where the kernel is the initiator, iscsiadm logs
in as it does by default: record, settings, login with the scan of the whole target; its CHAP password stands on an argument
list meanwhile, which Bowline avoids and which costs nothing.
"""
import os
import socket
import subprocess
import threading
import time
import uuid
import xml.etree.ElementTree as ET

import libvirt

LIMIT_S = 60
# A guest that lost a request is asked again after this, as the agent does by default.
ASK_AGAIN_S = 5
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


class Guest:
    """A running guest, plugged by hand."""

    def __init__(self, name):
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=self._dispatch, daemon=True).start()
        self.connection = libvirt.open('qemu:///system')
        self.domain = self.connection.lookupByName(name)

    @staticmethod
    def _dispatch():
        while True:
            libvirt.virEventRunDefaultImpl()

    def uuid(self):
        return self.domain.UUIDString()

    def disk_of(self, alias):
        """The disk's element as the guest's definition has it, without the place libvirt chose for it."""
        root = ET.fromstring(self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        for disk in root.iterfind('devices/disk'):
            if disk.find('alias') is not None and disk.find('alias').get('name') == alias:
                disk.remove(disk.find('address'))
                return disk
        raise RuntimeError(f'the guest has no disk {alias} in its definition')

    def plug(self, xml):
        self.domain.attachDeviceFlags(xml, LIVE | CONFIG)

    def listen(self):
        """Begins to listen for removed devices: before a time is taken, and not for what the agent does."""
        self.removed, self.gone = None, threading.Condition()
        event = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
        self.callback = self.connection.domainEventRegisterAny(self.domain, event, self._on_removed, None)

    def _on_removed(self, _connection, _domain, alias, _opaque):
        with self.gone:
            self.removed = alias
            self.gone.notify_all()

    def unplug(self, alias):
        deadline = time.monotonic() + LIMIT_S
        with self.gone:
            while self.removed != alias:
                if time.monotonic() > deadline:
                    raise RuntimeError(f'the guest did not let go of {alias} within {LIMIT_S} s')
                self.domain.detachDeviceAlias(alias, LIVE)
                self.gone.wait_for(lambda: self.removed == alias, ASK_AGAIN_S)
        self.domain.detachDeviceAlias(alias, CONFIG)

    def stop_listening(self):
        self.connection.domainEventDeregisterAny(self.callback)


class QemuInitiator:
    """QEMU logs in: the disk names the target, and a secret the password."""

    def __init__(self, guest, disk):
        self.guest, self.disk = guest, disk
        self.alias = disk.find('alias').get('name')

    def prepare(self, info):
        """What a program would have ready before it begins."""
        self.password = info['auth_password'].encode()
        secret = str(uuid.uuid4())
        self.disk.find('source').set('name', f'{info["target_iqn"]}/{info["target_lun"]}')
        auth = next(self.disk.iter('auth'))
        auth.set('username', info['auth_username'])
        auth.find('secret').set('uuid', secret)
        self.xml = ET.tostring(self.disk, encoding='unicode')
        self.secret_xml = (
            f'<secret ephemeral="yes" private="yes"><uuid>{secret}</uuid>'
            f'<usage type="iscsi"><target>bench {secret}</target></usage></secret>'
        )

    def attach(self):
        self.secret = self.guest.connection.secretDefineXML(self.secret_xml)
        self.secret.setValue(self.password)
        self.guest.plug(self.xml)

    def detach(self):
        self.guest.unplug(self.alias)
        self.secret.undefine()


class KernelInitiator:
    """iscsiadm logs in, and the guest gets the device by udev's name of its path."""

    # Multicast group of udev's own announcements: its links are there when it makes them.
    UDEV_GROUP = 2
    NETLINK_KOBJECT_UEVENT = 15

    def __init__(self, guest, disk):
        self.guest, self.disk = guest, disk
        self.alias = disk.find('alias').get('name')

    def prepare(self, info):
        portal, iqn = info['target_portal'], info['target_iqn']
        self.node = ('iscsiadm', '-m', 'node', '-T', iqn, '-p', portal)
        self.settings = []
        for key, value in (('authmethod', 'CHAP'), ('username', info['auth_username']), ('password', info['auth_password'])):
            self.settings += ['-n', f'node.session.auth.{key}', '-v', value]
        self.device = f'/dev/disk/by-path/ip-{portal}-iscsi-{iqn}-lun-{info["target_lun"]}'
        self.disk.find('source').set('dev', self.device)
        self.xml = ET.tostring(self.disk, encoding='unicode')

    def iscsiadm(self, *arguments):
        done = subprocess.run([*self.node, *arguments], capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise RuntimeError(f'iscsiadm {arguments[0]} {arguments[1] if len(arguments) > 1 else ""}: {done.stderr}')

    def attach(self):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self.NETLINK_KOBJECT_UEVENT) as uevents:
            uevents.bind((0, self.UDEV_GROUP))
            uevents.settimeout(LIMIT_S)
            self.iscsiadm('-o', 'new')
            self.iscsiadm('-o', 'update', *self.settings)
            self.iscsiadm('--login')
            while not os.path.exists(self.device):
                uevents.recv(1 << 16)
        self.guest.plug(self.xml)

    def detach(self):
        self.guest.unplug(self.alias)
        self.iscsiadm('--logout')
        self.iscsiadm('-o', 'delete')
