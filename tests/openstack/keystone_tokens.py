#!/usr/bin/env python3
"""The bundled volume service with tokens of the real Keystone, run in the rig beside it.

  keystone_tokens.py CLOUDS_YAML FOLDER    starts `bowline-backend serve` in FOLDER; says "ok" when all was as it should be
"""
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

IDENTITY = 'http://127.0.0.1:5000/v3'
VOLUMES = 'http://127.0.0.1:18776/v3'
CACHE_S = 1
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


def log_in(auth):
    def domain(of):
        return {'name': auth[f'{of}_domain_name']}
    user = {'name': auth['username'], 'domain': domain('user'), 'password': auth['password']}
    scope = {'project': {'name': auth['project_name'], 'domain': domain('project')}}
    body = {'auth': {'identity': {'methods': ['password'], 'password': {'user': user}}, 'scope': scope}}
    return ask('POST', f'{IDENTITY}/auth/tokens', body)[1]['X-Subject-Token']


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
    # A revoked token is worth nothing as soon as what was kept of it is old.
    expect(204, ask('DELETE', f'{IDENTITY}/auth/tokens', X_Auth_Token=administrator, X_Subject_Token=tenant), 'revoked')
    time.sleep(CACHE_S + 0.5)
    expect(401, ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=tenant), 'a revoked token')
    expect(200, ask('GET', f'{VOLUMES}/volumes', X_Auth_Token=log_in(clouds['tenant']['auth'])), 'a new one')


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
[targets.tgt]
portal = "127.0.0.1:13260"
''')
    words = ['--config', folder / 'backend.toml', '--state-dir', folder / 'state']
    service = subprocess.Popen(['bowline-backend', 'serve', *words], stderr=subprocess.PIPE, text=True)
    try:
        said = []
        while not said or 'ready: ' not in said[-1]:
            said.append(service.stderr.readline())
            assert said[-1], ''.join(said)
        found = json.loads(subprocess.run(['bowline-backend', 'doctor', '--json', *words], stdout=subprocess.PIPE, check=False).stdout)
        assert [one['verdict'] for one in found if one['check'] == 'Keystone'] == ['ok'], found
        story(clouds)
    finally:
        service.terminate()
        rest = service.communicate()[1]
    assert service.returncode == 0, rest
    print('ok')


main()
