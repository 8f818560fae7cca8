"""The node as the soak sees it: commands, the volume service, guests, and what all of them say of every volume."""
import http.client
import json
import os
import re
import subprocess
import threading
from pathlib import Path

STATE_DIR = Path('/var/lib/bowline-backend')
OWN_NAMES = Path('/run/bowline/volumes')
PORTAL = '10.99.0.1'
SERVICE = ('127.0.0.1', 8776)
# Beyond what an operation that waits for a service which was killed may take.
LIMIT_S = 300
SAY = threading.Lock()


def say(text):
    with SAY:
        print(f'soak: {text}', flush=True)


def ask(*command, limit_s=LIMIT_S):
    """Exit status, standard output and standard error of a command; 124 if it did not end in time."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors='replace', timeout=limit_s, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return 124, '', f'no end within {limit_s} s'
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def run(*command, limit_s=LIMIT_S):
    """Standard output of a command that must succeed."""
    status, said, problem = ask(*command, limit_s=limit_s)
    if status != 0:
        raise RuntimeError(f'{" ".join(command)}: status {status}: {problem or said}')
    return said


def shell(script):
    """The same of a line of shell, whose status does not count."""
    return ask('bash', '-c', script)[1]


def bowline(*arguments):
    """Exit status, and the JSON of what was said: of the error where there was one."""
    status, said, problem = ask('bowline', '--json', *arguments)
    try:
        return status, json.loads(said if status == 0 else problem)
    except json.JSONDecodeError:
        return status, {'said': f'{said} {problem}'}


def asked(*arguments):
    """The JSON of a request that must succeed."""
    status, answer = bowline(*arguments)
    if status != 0:
        raise RuntimeError(f'bowline {" ".join(arguments)}: status {status}: {answer}')
    return answer


def service(path):
    """What the volume service itself says."""
    connection = http.client.HTTPConnection(*SERVICE, timeout=60)
    headers = {'X-Auth-Token': (STATE_DIR / 'token').read_text().strip(), 'OpenStack-API-Version': 'volume 3.54'}
    connection.request('GET', f'/v3{path}', None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        raise RuntimeError(f'{path}: {answer.status} {text}')
    return json.loads(text)


def volume_file(volume):
    return STATE_DIR / 'volumes' / f'volume-{volume}'


def targets():
    """The targets that tgtd shows to hosts."""
    return shell(f'socket=$(find /run {STATE_DIR} -name tgtd.sock.0) && '
                 'TGT_IPC_SOCKET=${socket%.0} tgtadm --lld iscsi --op show --mode target | sed -n "s/^Target [0-9]*: //p"').split()


def sessions():
    return sorted(name.read_text().strip() for name in Path('/sys/class/iscsi_session').glob('*/targetname'))


def scsi_disks():
    return sorted(disk.name for disk in Path('/sys/class/scsi_disk').glob('*'))


def node_records():
    return shell('find /etc/iscsi/nodes /var/lib/iscsi/nodes -mindepth 1 -maxdepth 1 2>/dev/null').split()


def mounts():
    return shell('grep -F /run/bowline/mnt /proc/mounts').splitlines()


def zombies():
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if text.rpartition(')')[2].split()[0] == 'Z':
            found.append(text.split(')')[0])
    return found


def disks_in_libvirt(guest, *which):
    """The volumes whose own names a guest's disks have."""
    listed = run('virsh', '-q', 'domblklist', guest, *which)
    return sorted(re.findall(rf'{OWN_NAMES}/(\S+)', listed))


def disks_in_guest(guest):
    """What a running guest reads: {serial: first 16 bytes}."""
    lines = run('guest-say', guest, 'ls', '120').splitlines()
    disks = [line.split() for line in lines if line.startswith('+ ')]
    return {words[3]: words[4] for words in disks if len(words) == 5}


def head_by_own_name(volume, length):
    """What this host reads behind a volume's own name, past its cache."""
    name = OWN_NAMES / volume
    done = subprocess.run(['dd', f'if={name}', 'iflag=direct', 'bs=4096', 'count=1', 'status=none'], capture_output=True, timeout=LIMIT_S)
    return done.stdout[:length].decode(errors='replace')


def agent_pid():
    return int(run('systemctl', 'show', '-P', 'MainPID', 'bowlined'))


def agent_sample():
    """What the agent holds: MB of 1,000,000 bytes, and counts."""
    pid = agent_pid()
    status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    kib = lambda name: round(int(status[name].split()[0]) * 1024 / 1e6, 2)
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return {
        'pid': pid, 'rss_mb': kib('VmRSS'), 'anon_mb': kib('RssAnon'), 'descriptors': len(os.listdir(f'/proc/{pid}/fd')),
        'threads': int(status['Threads']), 'children': len(children),
    }
