#!/usr/bin/env python3
"""The bundled volume service with tokens of the real Keystone and images of the real Glance, run in the rig beside them.

  bundled_service.py CLOUDS_YAML FOLDER    starts `bowline-backend serve` in FOLDER; says "ok" when all was as it should be
"""
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

IDENTITY = 'http://127.0.0.1:5000/v3'
VOLUMES = 'http://127.0.0.1:18776/v3'
IMAGES = 'http://127.0.0.1:9292/v2/images'
STATE = Path('/run/openstack')
# A Keystone over the same database and keys, whose tokens live for less than the volume service keeps what it knows of them.
BRIEF_IDENTITY = 'http://127.0.0.1:5001/v3'
BRIEF_S = 6
CACHE_S = 9
MIB = 1 << 20
CONNECTOR = {'initiator': 'iqn.2026-01.test:keystone', 'host': 'a', 'ip': '127.0.0.1'}
GUEST = '11111111-1111-4111-8111-111111111111'


def ask(method, url, body=None, **headers):
    """The answer's status, headers and JSON."""
    headers = {name.replace('_', '-'): value for name, value in headers.items() if value}
    headers |= {'Content-Type': 'application/json', 'OpenStack-API-Version': 'volume 3.60'}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            return answer.status, answer.headers, json.loads(answer.read() or 'null')
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read() or 'null')


def log_in(auth, identity=IDENTITY):
    def domain(of):
        return {'name': auth[f'{of}_domain_name']}
    user = {'name': auth['username'], 'domain': domain('user'), 'password': auth['password']}
    scope = {'project': {'name': auth['project_name'], 'domain': domain('project')}}
    body = {'auth': {'identity': {'methods': ['password'], 'password': {'user': user}}, 'scope': scope}}
    return ask('POST', f'{identity}/auth/tokens', body)[1]['X-Subject-Token']


def expect(wanted, answered, what):
    assert answered[0] == wanted, f'{what}: {answered[0]} and not {wanted}: {answered[2]}'
    return answered[2]


def wait(status, volume, token):
    end = time.monotonic() + 60
    while (now := ask('GET', f'{VOLUMES}/volumes/{volume}', X_Auth_Token=token)[2]['volume']['status']) != status:
        assert time.monotonic() < end, now
        time.sleep(0.1)


def story(clouds):
    tenant, service = log_in(clouds['tenant']['auth']), log_in(clouds['service']['auth'])
    made = expect(202, ask('POST', f'{VOLUMES}/volumes', {'volume': {'size': 1}}, X_Auth_Token=tenant), 'a member makes a volume')
    volume = made['volume']['id']
    wait('available', volume, tenant)
    expect(403, ask('GET', f'{VOLUMES}/os-services', X_Auth_Token=tenant), 'a member is no administrator')
    administrator = log_in(clouds['admin']['auth'])
    expect(200, ask('GET', f'{VOLUMES}/os-services', X_Auth_Token=administrator), 'an administrator is')
    for forged in ('gAAAAAB' + 'x' * 180, tenant[:-6] + 'AAAAAA', '', '../../v3/users'):
        expect(401, ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=forged), f'forged: {forged}')
    # Only another service may say that a guest has let go.
    attachment = {'volume_uuid': volume, 'instance_uuid': GUEST, 'connector': CONNECTOR}
    made = expect(200, ask('POST', f'{VOLUMES}/attachments', {'attachment': attachment}, X_Auth_Token=tenant), 'attached')
    attachment = f"{VOLUMES}/attachments/{made['attachment']['id']}"
    expect(409, ask('DELETE', attachment, X_Auth_Token=tenant), 'its owner alone does not detach')
    expect(409, ask('DELETE', attachment, X_Auth_Token=tenant, X_Service_Token=tenant), 'a member vouches for nothing')
    expect(200, ask('DELETE', attachment, X_Auth_Token=tenant, X_Service_Token=service), 'a service does')
    # A revoked token is worth nothing as soon as what was kept of it is old; one that expires, whatever was kept of it.
    expect(204, ask('DELETE', f'{IDENTITY}/auth/tokens', X_Auth_Token=administrator, X_Subject_Token=tenant), 'revoked')
    revoked = time.monotonic()
    for _ in range(5):
        brief = log_in(clouds['tenant']['auth'], BRIEF_IDENTITY)
        issued = time.monotonic()
        seen = ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=brief)
        time.sleep(max(0, issued + BRIEF_S + 0.2 - time.monotonic()))
        # A machine that was too slow meanwhile shows nothing.
        if seen[0] == 200 and time.monotonic() < issued + CACHE_S:
            break
    expect(200, seen, 'a token that lives briefly')
    expect(401, ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=brief), 'an expired token')
    time.sleep(max(0, revoked + CACHE_S + 0.5 - time.monotonic()))
    expect(401, ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=tenant), 'a revoked token')
    expect(200, ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=log_in(clouds['tenant']['auth'])), 'a new one')


def bytes_of(url, token, sent=None):
    """An image's bytes, or sends them."""
    headers = {'X-Auth-Token': token, 'Content-Type': 'application/octet-stream'}
    request = urllib.request.Request(f'{url}/file', sent, headers, method='PUT' if sent else 'GET')
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def image(token, disk_format, content):
    fields = {'name': disk_format, 'disk_format': disk_format, 'container_format': 'bare', 'colour': 'red'}
    made = expect(201, ask('POST', IMAGES, fields, X_Auth_Token=token), 'an image')
    bytes_of(f"{IMAGES}/{made['id']}", token, content)
    return made['id']


def convert(source, source_format, target, target_format):
    subprocess.run(['qemu-img', 'convert', '-f', source_format, '-O', target_format, source, target], check=True)


def images(clouds, folder):
    tenant, stranger = log_in(clouds['tenant']['auth']), log_in(clouds['service']['auth'])
    disk = os.urandom(3 * MIB) + bytes(20 * MIB) + b'the end'.ljust(MIB)
    (folder / 'raw').write_bytes(disk)
    convert(folder / 'raw', 'raw', folder / 'qcow2', 'qcow2')
    of_tenant = image(tenant, 'qcow2', (folder / 'qcow2').read_bytes())
    wanted = {'volume': {'size': 1, 'imageRef': of_tenant}}

    def make(what):
        volume = expect(202, ask('POST', f'{VOLUMES}/volumes', what, X_Auth_Token=tenant), 'a volume from an image')['volume']['id']
        return volume, folder / 'state/volumes' / f'volume-{volume}'

    # The first, and one that is cloned from what was kept of it; for nobody who may not see the image.
    for _ in range(2):
        volume, path = make(wanted)
        wait('available', volume, tenant)
        with path.open('rb') as made:
            assert made.read(len(disk)) == disk and not made.read(MIB).strip(b'\0')
        shown = ask('GET', f'{VOLUMES}/volumes/{volume}', X_Auth_Token=tenant)[2]['volume']
        assert shown['bootable'] == 'true' and shown['volume_image_metadata']['image_id'] == of_tenant, shown
        assert shown['volume_image_metadata']['colour'] == 'red', shown
    expect(404, ask('POST', f'{VOLUMES}/volumes', wanted, X_Auth_Token=stranger), "another project's image")

    # Its owner's, as whom it was asked for; Glance has the bytes that were read.
    action = {'os-volume_upload_image': {'image_name': 'back', 'disk_format': 'qcow2'}}
    url = f'{VOLUMES}/volumes/{volume}/action'
    made = expect(202, ask('POST', url, action, X_Auth_Token=tenant), 'an image from a volume')['os-volume_upload_image']
    wait('available', volume, tenant)
    back = f"{IMAGES}/{made['image_id']}"
    shown = expect(200, ask('GET', back, X_Auth_Token=tenant), 'the image')
    assert (shown['status'], shown['visibility'], shown['min_disk']) == ('active', 'private', 1), shown
    assert shown['owner'] == ask('GET', f'{IMAGES}/{of_tenant}', X_Auth_Token=tenant)[2]['owner'], shown
    content = bytes_of(back, tenant)
    assert hashlib.sha512(content).hexdigest() == shown['os_hash_value'], shown
    (folder / 'qcow2').write_bytes(content)
    convert(folder / 'qcow2', 'qcow2', folder / 'raw', 'raw')
    with (folder / 'raw').open('rb') as read:
        assert read.read(len(disk)) == disk
    action['os-volume_upload_image']['visibility'] = 'public'
    expect(403, ask('POST', url, action, X_Auth_Token=tenant), 'a public image by a member')

    # What Glance's storage has lost a bit of is told, and no volume.
    damaged = image(tenant, 'raw', disk)
    with (STATE / 'glance/images' / damaged).open('r+b') as stored:
        stored.seek(MIB)
        stored.write(b'x' * 16)
    volume, _ = make({'volume': {'size': 1, 'imageRef': damaged}})
    wait('error', volume, tenant)
    messages = json.dumps(ask('GET', f'{VOLUMES}/messages', X_Auth_Token=tenant)[2])
    assert 'do not have the digest' in messages, messages
    assert list((folder / 'state/images').iterdir()) == []
    own = VOLUMES.replace('/v3', '/image/v2/images')
    expect(404, ask('GET', own, X_Auth_Token=tenant), "the service's own images")


def brief_keystone(folder):
    """Starts it; what it makes, the other Keystone knows."""
    settings = (STATE / 'etc/keystone.conf').read_text().replace('[token]\n', f'[token]\nexpiration = {BRIEF_S}\n')
    (folder / 'keystone.conf').write_text(settings)
    command = ['uwsgi_python3', '--http-socket', BRIEF_IDENTITY.split('/')[2], '--wsgi-file', '/usr/bin/keystone-wsgi-public',
               '--master', '--need-app', '--die-on-term', '--add-header', 'Connection: close']
    environment = os.environ | {'OS_KEYSTONE_CONFIG_FILES': str(folder / 'keystone.conf')}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def await_answer(url):
    end = time.monotonic() + 60
    while True:
        try:
            return ask('GET', url)
        except OSError:
            assert time.monotonic() < end, url
            time.sleep(0.2)


def main():
    clouds = json.loads(Path(sys.argv[1]).read_text())['clouds']
    folder = Path(sys.argv[2])
    folder.mkdir(mode=0o700)
    (folder / 'password').write_text(clouds['admin']['auth']['password'])
    (folder / 'backend.toml').write_text(f'''
listen = "127.0.0.1:18776"
[keystone]
auth_url = "{IDENTITY}"
username = "cinder"
project_name = "service"
password_file = "{folder}/password"
cache_s = {CACHE_S}
[images]
glance_url = "{IMAGES.removesuffix('/v2/images')}"
[targets.tgt]
portal = "127.0.0.1:13260"
''')
    brief = brief_keystone(folder)
    words = ['--config', folder / 'backend.toml', '--state-dir', folder / 'state']
    service = subprocess.Popen(['bowline-backend', 'serve', *words], stderr=subprocess.PIPE, text=True)
    try:
        said = []
        while not said or 'ready: ' not in said[-1]:
            said.append(service.stderr.readline())
            assert said[-1], ''.join(said)
        found = json.loads(subprocess.run(['bowline-backend', 'doctor', '--json', *words], stdout=subprocess.PIPE, check=False).stdout)
        assert [one['verdict'] for one in found if one['check'] in ('Keystone', 'Glance')] == ['ok', 'ok'], found
        images(clouds, folder)
        await_answer(BRIEF_IDENTITY)
        story(clouds)
    finally:
        brief.terminate()
        brief.wait()
        service.terminate()
        rest = service.communicate()[1]
    assert service.returncode == 0, rest
    print('ok')


main()
