"""Workers: each attaches and detaches its own volumes, and keeps account of what it was told."""
import random
import threading
import time
from collections import Counter

import machine
from machine import bowline

ATTACHED, DETACHED, UNKNOWN = 'attached', 'detached', 'unknown'
# The guest's serial line takes one at a time.
LOOKS_INTO_GUEST = 0.15
CANCELLED = 0.06
ASKED_TWICE = 0.06
# Exit codes of bowline: see its --help.
CONFLICT = 4


class Volume:
    """One of the soak's volumes. What was last heard of it is written only by its worker."""

    def __init__(self, number, identity, bus):
        self.number, self.id, self.bus = number, identity, bus
        self.state, self.guest = DETACHED, None

    def marker(self):
        """Its first 16 bytes."""
        return marker(self.number)

    def shown_serial(self):
        return self.id if self.bus == 'scsi' else self.id[:20]


def marker(number):
    return f'soak-volume-{number:04d}'


class Account:
    """What was done, and what should never have been said."""

    def __init__(self):
        self.lock, self.counts, self.wrong = threading.Lock(), Counter(), []

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def accuse(self, text):
        with self.lock:
            self.wrong.append(text)
        machine.say(f'WRONG: {text}')


class Worker(threading.Thread):
    def __init__(self, volumes, guests, account, control, seed):
        super().__init__(daemon=True)
        self.volumes, self.guests, self.account, self.control = volumes, guests, account, control
        self.random = random.Random(seed)

    def run(self):
        while self.control.may_go_on():
            try:
                self.once()
            except Exception as error:  # a worker that dies would make the soak a lighter one
                self.account.accuse(f'a worker failed: {error!r}')

    def once(self):
        volume = self.random.choice(self.volumes)
        if volume.state == UNKNOWN:
            self.learn(volume)
        elif volume.state == ATTACHED:
            if self.random.random() < ASKED_TWICE:
                self.ask_twice(volume)
            self.detach(volume)
        else:
            self.attach(volume)

    def learn(self, volume):
        """After an outcome that nobody told: what the agent knows, once nothing is under way."""
        status, listed = bowline('list')
        under_way, operations = bowline('operations')
        if status != 0 or under_way != 0 or any(operation['volume'] == volume.id for operation in operations['operations']):
            time.sleep(1)
            return
        found = [entry['guest_name'] for entry in listed['attachments'] if entry['volume'] == volume.id]
        volume.state, volume.guest = (ATTACHED, found[0]) if found else (DETACHED, None)

    def attach(self, volume):
        guest = self.random.choice(self.guests)
        if self.random.random() < CANCELLED:
            self.attach_and_cancel(volume, guest)
            return
        volume.state, volume.guest = UNKNOWN, guest
        status, said = bowline('attach', volume.id, guest, '--bus', volume.bus)
        if self.ended(volume, 'attach', status, said) == 'succeeded':
            volume.state = ATTACHED
            if guest in self.control.running_guests and self.random.random() < LOOKS_INTO_GUEST:
                self.look(volume)

    def attach_and_cancel(self, volume, guest):
        volume.state, volume.guest = UNKNOWN, guest
        status, said = bowline('attach', volume.id, guest, '--bus', volume.bus, '--no-wait')
        if status == 0 and 'operation' in said:
            time.sleep(self.random.random() * 2)
            bowline('cancel', said['operation']['id'])
            self.account.count('cancel asked')

    def detach(self, volume):
        guest, volume.state = volume.guest, UNKNOWN
        status, said = bowline('detach', volume.id, guest)
        state = self.ended(volume, 'detach', status, said)
        if state == 'succeeded':
            volume.state, volume.guest = DETACHED, None
        elif state == 'failed':
            # The guest, or whoever was asked before it, said no: everything is as it was.
            volume.state = ATTACHED

    def ask_twice(self, volume):
        """What is attached is not attached a second time, whoever asks."""
        status, said = bowline('attach', volume.id, self.random.choice(self.guests), '--bus', volume.bus)
        if status == 0:
            self.account.accuse(f'volume {volume.id} was attached, and was attached again: {said}')
        self.account.count('refused as it should' if status == CONFLICT else f'a second attach: exit {status}')

    def ended(self, volume, verb, status, said):
        """Counts an end, and tells the operation's state as it was told; None where that is not known."""
        operation = said.get('operation') or said.get('error', {}).get('operation') or {}
        state = 'succeeded' if status == 0 else operation.get('state')
        if state in ('failed', 'cancelled') and verb == 'attach':
            volume.state, volume.guest = DETACHED, None
        self.account.count(f'{verb} {state or "not known"}' if status == 0 else f'{verb} {state or "not known"}: exit {status}')
        return state

    def look(self, volume):
        """The guest has the very bytes that the volume begins with."""
        try:
            seen = machine.disks_in_guest(volume.guest)
        except RuntimeError:
            # Its I/O may stand still for as long as a fault lasts; the next check looks again.
            self.account.count('a guest that was too busy to look')
            return
        head = seen.get(volume.shown_serial())
        if head is None:
            self.account.count('not seen by the guest yet')
        elif head != volume.marker():
            self.account.accuse(f'guest {volume.guest} reads {head!r} from volume {volume.id}, which begins with {volume.marker()!r}')
        else:
            self.account.count('seen right by the guest')


class Control:
    """Lets all workers go, and has them stand still."""

    def __init__(self, running_guests):
        self.running_guests, self.condition = frozenset(running_guests), threading.Condition()
        self.go, self.over, self.still, self.workers = False, False, 0, 0

    def may_go_on(self):
        """Waits while workers are to stand still; False at the end."""
        with self.condition:
            self.still += 1
            self.condition.notify_all()
            self.condition.wait_for(lambda: self.go or self.over)
            self.still -= 1
            return not self.over

    def let_go(self):
        with self.condition:
            self.go = True
            self.condition.notify_all()

    def stand_still(self):
        """Returns when every worker does."""
        with self.condition:
            self.go = False
            if not self.condition.wait_for(lambda: self.still == self.workers, LIMIT_S):
                raise RuntimeError(f'{self.workers - self.still} workers do not come to an end within {LIMIT_S} s')

    def end(self):
        with self.condition:
            self.over = True
            self.condition.notify_all()


LIMIT_S = 2 * machine.LIMIT_S
