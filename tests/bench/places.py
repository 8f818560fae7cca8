"""Where it is measured: how the volume service and the agent are started there, and how it is seen that the agent is ready."""
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import bare
from service import STATE_DIR

LIMIT_S = 120
START_LIMIT_S = 30


def run(*command):
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(command)}: status {done.returncode}: {done.stderr or done.stdout}')
    return done.stdout.strip()


def configure(initiator):
    folder = Path('/etc/bowline/bowlined.d')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / '10-bench.toml').write_text(f'[cloud]\nfile = "{STATE_DIR}/clouds.yaml"\n[iscsi]\ninitiator = "{initiator}"\n')


class Host:
    """The host rig: plain processes, QEMU as the initiator."""

    name, initiator, floor = 'host', 'qemu', bare.QemuInitiator

    def __init__(self):
        configure(self.initiator)
        self.agent = None

    def start_service(self, *arguments):
        self.service = self._start('bowline-backend', 'serve', *arguments)[0]
        return self.service.pid

    def start_agent(self):
        """Returns the milliseconds from the process's start to its READY."""
        self.agent, took_ms = self._start('bowlined')
        return took_ms

    def stop_agent(self):
        self.agent.terminate()
        if self.agent.wait(LIMIT_S) != 0:
            raise RuntimeError(f'bowlined ended with status {self.agent.returncode}')

    def agent_pid(self):
        return self.agent.pid

    def logs(self):
        """What the services said last."""
        return '\n'.join(f'--- {log}\n{log.read_text()[-3000:]}' for log in sorted(Path('/run').glob('bowline*.log')))

    @staticmethod
    def _start(*command):
        """Starts what tells systemd that it is ready, and hears it in systemd's place."""
        address = f'/run/notify-{command[0]}'
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, open(f'/run/{command[0]}.log', 'ab') as log:
            Path(address).unlink(missing_ok=True)
            listener.bind(address)
            listener.settimeout(START_LIMIT_S)
            begun = time.monotonic()
            started = subprocess.Popen(command, env={**os.environ, 'NOTIFY_SOCKET': address}, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            try:
                while 'READY=1' not in listener.recv(4096).decode().splitlines():
                    pass
            except TimeoutError as error:
                raise RuntimeError(f'{command[0]} was not ready within {START_LIMIT_S} s') from error
            return started, (time.monotonic() - begun) * 1000


class Node:
    """The compute node: systemd's services as installed, the kernel as the initiator."""

    name, initiator, floor = 'node', 'kernel', bare.KernelInitiator

    def __init__(self):
        configure(self.initiator)

    def start_service(self):
        run('systemctl', 'start', 'bowline-backend', 'iscsid')
        return int(run('systemctl', 'show', '-P', 'MainPID', 'bowline-backend'))

    def start_agent(self):
        """By systemd's own clock: from the start of the process to its READY, in milliseconds."""
        run('systemctl', 'start', 'bowlined')
        shown = run('systemctl', 'show', 'bowlined', '-p', 'ExecMainStartTimestampMonotonic', '-p', 'ActiveEnterTimestampMonotonic')
        at_us = {name: int(value) for name, value in re.findall(r'(\w+)=(\d+)', shown)}
        return (at_us['ActiveEnterTimestampMonotonic'] - at_us['ExecMainStartTimestampMonotonic']) / 1000

    def stop_agent(self):
        run('systemctl', 'stop', 'bowlined')

    def agent_pid(self):
        return int(run('systemctl', 'show', '-P', 'MainPID', 'bowlined'))

    def logs(self):
        """What the services said last."""
        return run('journalctl', '-b', '--no-pager', '-n', '40', '-u', 'bowlined', '-u', 'bowline-backend')
