#!/usr/bin/python3 -B
"""run.py RUNS PROTOCOL...: inside the node, measures the three sides in turns on the same targets; prints one JSON object.

What its figures are is told at the top of scripts/bench-connect. Any failure is an error: there are no half figures.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import protocols

MANY = 32
# An order of os-brick's to 32 volumes takes minutes here; a side that hangs is the caller's deadline's.
SIDES = {
    'ours': ['/share/bench/connect_side', 'ours'],
    'os_brick': ['/usr/bin/python3', '/share/bench/os_brick_side.py'],
    'floor': ['/share/bench/connect_side', 'floor'],
}


def say(text):
    print(f'bench: {text}', file=sys.stderr, flush=True)


class Side:
    def __init__(self, name):
        self.name = name
        environment = {**os.environ, 'PYTHONPATH': '/opt/os-brick', 'BOWLINE_LOG': 'error'}
        with open(f'/run/side-{name}.log', 'ab') as log:
            self.process = subprocess.Popen(SIDES[name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)

    def ask(self, order):
        self.process.stdin.write(json.dumps(order) + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f'{self.name} died: {Path(f"/run/side-{self.name}.log").read_text()[-3000:]}')
        return json.loads(answer)

    def do(self, order):
        answer = self.ask(order)
        errors = [one['error'] for one in answer['each'] if one['error']]
        if errors:
            log = Path(f'/run/side-{self.name}.log').read_text()[-3000:]
            raise RuntimeError(f'{self.name} could not {order["do"]}: {errors[0]}\n{log}')
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait(60)


class Times:
    """Milliseconds of one side: one at a time, and the wall time of many."""

    def __init__(self):
        self.connect, self.disconnect = [], []
        self.processes = {}


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def round_trip(side, protocol, volumes, times):
    """Connects, sees that each device is its volume, disconnects, sees that nothing is left."""
    connected = side.do({'do': 'connect', 'volumes': volumes})
    for volume, one in zip(volumes, connected['each']):
        protocol.check(volume, one['path'])
    protocol.while_connected(side.name, volumes)
    disconnected = side.do({'do': 'disconnect'})
    protocol.after(side.name)
    left = protocol.left()
    if left:
        raise RuntimeError(f'{side.name} left {left}')
    if times:
        times.connect.append(connected['wall_ms'])
        times.disconnect.append(disconnected['wall_ms'])
        times.processes = {'connect': connected.get('processes'), 'disconnect': disconnected.get('processes')}


def measure(protocol, runs):
    protocol.prepare(MANY)
    sides = {name: Side(name) for name in SIDES}
    one = {name: Times() for name in SIDES}
    many = {name: Times() for name in SIDES}
    first = protocol.volumes[:1]
    for side in sides.values():
        round_trip(side, protocol, first, None)
    for number in range(1, runs + 1):
        for name, side in sides.items():
            round_trip(side, protocol, first, one[name])
        say(f'{protocol.name}: run {number} of {runs}: connect ' + ', '.join(f'{name} {times.connect[-1]:.0f} ms' for name, times in one.items()))
    # In the order that gives the floor the records of the others' runs.
    for name, side in sides.items():
        round_trip(side, protocol, protocol.volumes, many[name])
        say(f'{protocol.name}: {MANY} at once: {name} {many[name].connect[-1]:.0f} ms, {many[name].disconnect[-1]:.0f} ms')
    missing = protocol.missing(sides['ours']) if getattr(protocol, 'missing', None) else None
    for side in sides.values():
        side.end()
    protocol.tear_down()

    def figures(verb):
        return {
            **{f'{name}_ms': round(median(getattr(one[name], verb)), 2) for name in SIDES},
            **{f'{name}_{MANY}_ms': round(median(getattr(many[name], verb)), 2) for name in SIDES},
            'ours_processes': one['ours'].processes[verb],
            f'ours_{MANY}_processes': many['ours'].processes[verb],
        }

    return figures('connect'), figures('disconnect'), missing


def main():
    runs = int(sys.argv[1])
    Path('/run/os-brick/mnt').mkdir(parents=True, exist_ok=True)
    result = {'runs': runs, 'connect': {}, 'disconnect': {}}
    for name in sys.argv[2:]:
        begun = time.monotonic()
        connect, disconnect, missing = measure(protocols.ALL[name](), runs)
        result['connect'][name], result['disconnect'][name] = connect, disconnect
        if missing:
            result['missing_lun'] = missing
        say(f'{name}: {time.monotonic() - begun:.0f} s')
    print(json.dumps(result))


main()
