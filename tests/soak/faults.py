"""What goes wrong meanwhile: one thing at a time, at random, each of them mended again or left to those whose task that is."""
import random
import threading
import time
from collections import Counter

from machine import PORTAL, ask, say, shell

# Between two faults, seconds.
PAUSE_S = (8, 20)
# How long packets are lost, or a process stands still.
LASTING_S = (2, 12)


def kill_agent():
    ask('systemctl', 'kill', '--signal=KILL', '--kill-who=main', 'bowlined')


def kill_service():
    ask('systemctl', 'kill', '--signal=KILL', '--kill-who=main', 'bowline-backend')


def restart_service():
    ask('systemctl', 'restart', 'bowline-backend')


def restart_libvirtd():
    ask('systemctl', 'restart', 'libvirtd')


def restart_iscsid():
    ask('systemctl', 'restart', 'iscsid')


def kill_target():
    ask('pkill', '-9', '-x', 'tgtd')


def lose_packets():
    """Of all sessions: the portal's address goes and comes back."""
    ask('ip', 'address', 'del', f'{PORTAL}/32', 'dev', 'lo')
    time.sleep(random.uniform(*LASTING_S))
    ask('ip', 'address', 'add', f'{PORTAL}/32', 'dev', 'lo')


def hang_service():
    """It takes requests and answers none, until it goes on: answers come late, or to nobody."""
    shell('p=$(pgrep -x bowline-backend | head -n 1) && kill -STOP $p')
    time.sleep(random.uniform(*LASTING_S))
    shell('pkill -CONT -x bowline-backend')


STORAGE = (restart_libvirtd, kill_service, restart_service, hang_service, kill_target, lose_packets, restart_iscsid)


class Faults(threading.Thread):
    """`agent_too`: whether the agent itself is killed, which ends its memory's story."""

    def __init__(self, agent_too):
        super().__init__(daemon=True)
        # The agent's share is that of all others together.
        self.kinds = STORAGE + ((kill_agent,) * len(STORAGE) if agent_too else ())
        self.counts, self.over = Counter(), threading.Event()

    def run(self):
        while not self.over.wait(random.uniform(*PAUSE_S)):
            fault = random.choice(self.kinds)
            name = fault.__name__.replace('_', ' ')
            say(name)
            fault()
            self.counts[name] += 1

    def stop(self):
        """Returns when nothing is broken any more on purpose."""
        self.over.set()
        self.join()
