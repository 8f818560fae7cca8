#!/usr/bin/python3
"""os-brick's side of the connect benchmark; the orders and answers are those of side.rs.

One process that lives as long as its benchmark, as Nova's does: its privileged helper is started by rootwrap's way before the
first order, and each volume has a thread.
"""
import json
import sys
import threading
import time

import os_brick
from os_brick.initiator import connector
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_privsep import priv_context

# What brings each protocol's connector, as Nova calls it.
CONNECTORS = {'iscsi': 'ISCSI', 'nfs': 'NFS', 'rbd': 'RBD'}
OPTIONS = {
    'nfs': {'nfs_mount_point_base': '/run/os-brick/mnt', 'nfs_mount_options': 'vers=4.2,nosuid,nodev,noexec'},
    'rbd': {'do_local_attach': True},
}

cfg.CONF([], project='bench')
lockutils.set_defaults('/run/os-brick')
os_brick.setup(cfg.CONF)
priv_context.init(root_helper=['env'])

connected = []


def of(info):
    protocol = info['driver_volume_type']
    options = OPTIONS.get(protocol, {})
    multipath = len(info['data'].get('target_portals', ())) > 1
    return connector.InitiatorConnector.factory(CONNECTORS[protocol], 'env', use_multipath=multipath, device_scan_attempts=3, **options)


def at_once(work, volumes):
    answers = [None] * len(volumes)

    def one(number):
        begun = time.monotonic()
        try:
            path, error = work(volumes[number]), None
        except Exception as failure:
            path, error = None, f'{type(failure).__name__}: {failure}'
        answers[number] = {'ms': (time.monotonic() - begun) * 1000, 'path': path, 'error': error}

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(volumes))]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {'wall_ms': (time.monotonic() - begun) * 1000, 'each': answers}


def connect(volume):
    info = volume['info']
    device = of(info).connect_volume(info['data'])
    connected.append((info, device))
    return device['path'] if isinstance(device['path'], str) else str(device['path'])


def disconnect(entry):
    info, device = entry
    of(info).disconnect_volume(info['data'], device)


for line in sys.stdin:
    order = json.loads(line)
    if order['do'] == 'connect':
        answer = at_once(connect, order['volumes'])
    else:
        entries, connected = connected, []
        answer = at_once(disconnect, entries)
    print(json.dumps(answer), flush=True)
