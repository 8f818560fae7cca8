#!/usr/bin/python3
"""What an operator sets up once in Keystone and Cinder, over their own APIs.

  catalogue.py PASSWORD CLOUDS_YAML                    users, roles, services, endpoints; writes the clouds
  catalogue.py --add-service CLOUDS_YAML TYPE USER URL   one more service, with its endpoints and the user that checks tokens for it
  catalogue.py --upload CLOUDS_YAML NAME FILE          makes a raw image of the tenant's; prints its id
  catalogue.py --await-backends CLOUDS_YAML HOST...    until these backends are up; then a volume type of each one's name
  catalogue.py --token CLOUDS_YAML NAME                a token of that cloud's user, by password
  catalogue.py --ask CLOUDS_YAML PATH                  what Cinder, or whom a whole URL names, answers the administrator to a GET
"""
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

IDENTITY = 'http://127.0.0.1:5000/v3'
VOLUMES = 'http://127.0.0.1:8776/v3'
IMAGES = 'http://127.0.0.1:9292/v2'
LIMIT_S = 120


def ask(method, url, body=None, token=None):
    """The answer's headers and JSON; an error carries the service's own words."""
    headers = {'Content-Type': 'application/json', 'OpenStack-API-Version': 'volume 3.60'}
    if token:
        headers['X-Auth-Token'] = token
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
            return answer.headers, json.loads(answer.read() or 'null')
    except urllib.error.HTTPError as error:
        raise RuntimeError(f'{method} {url}: {error.code} {error.read().decode(errors="replace")}') from error


def token(user, project, password):
    domain = {'name': 'Default'}
    identity = {'methods': ['password'], 'password': {'user': {'name': user, 'domain': domain, 'password': password}}}
    auth = {'identity': identity, 'scope': {'project': {'name': project, 'domain': domain}}}
    return ask('POST', f'{IDENTITY}/auth/tokens', {'auth': auth})[0]['X-Subject-Token']


class Keystone:
    def __init__(self, admin):
        self.admin = admin

    def make(self, kind, **fields):
        """Creates one, unless there is one of that name."""
        for known in self.all(kind):
            if known.get('name') == fields.get('name'):
                return known['id']
        return ask('POST', f'{IDENTITY}/{kind}s', {kind: fields}, self.admin)[1][kind]['id']

    def all(self, kind):
        return ask('GET', f'{IDENTITY}/{kind}s', token=self.admin)[1][f'{kind}s']

    def serve(self, kind, url):
        service = self.make('service', name=kind, type=kind)
        for interface in ('public', 'internal', 'admin'):
            endpoint = {'service_id': service, 'interface': interface, 'url': url, 'region_id': 'RegionOne'}
            ask('POST', f'{IDENTITY}/endpoints', {'endpoint': endpoint}, self.admin)

    def grant(self, project, user, role):
        ask('PUT', f'{IDENTITY}/projects/{project}/users/{user}/roles/{role}', token=self.admin)


def set_up(password, clouds):
    keystone = Keystone(token('admin', 'admin', password))
    role = {name: keystone.make('role', name=name) for name in ('admin', 'member', 'reader', 'service')}
    services = keystone.make('project', name='service', domain_id='default')
    tenants = keystone.make('project', name='tenants', domain_id='default')
    # Cinder checks tokens; the agent's service user may do nothing but be a service.
    for name, project, roles in (
        ('cinder', services, ('admin', 'service')), ('bowline-service', services, ('service',)), ('tenant', tenants, ('member',)),
    ):
        user = keystone.make('user', name=name, domain_id='default', password=password)
        for each in roles:
            keystone.grant(project, user, role[each])
    for kind in ('volumev3', 'block-storage'):
        keystone.serve(kind, VOLUMES)
    tenant = token('tenant', 'tenants', password)
    made = ask('POST', f'{IDENTITY}/users/{user_of(tenant)}/application_credentials', {'application_credential': {'name': 'host1'}}, tenant)[1]
    write_clouds(clouds, password, made['application_credential'])


def add_service(clouds, kind, user, url):
    password = json.loads(Path(clouds).read_text())['clouds']['admin']['auth']['password']
    keystone = Keystone(administrator(clouds))
    project = keystone.make('project', name='service', domain_id='default')
    made = keystone.make('user', name=user, domain_id='default', password=password)
    for role in ('admin', 'service'):
        keystone.grant(project, made, keystone.make('role', name=role))
    keystone.serve(kind, url)


def user_of(subject):
    headers = {'X-Auth-Token': subject, 'X-Subject-Token': subject}
    with urllib.request.urlopen(urllib.request.Request(f'{IDENTITY}/auth/tokens', headers=headers), timeout=60) as answer:
        return json.loads(answer.read())['token']['user']['id']


def write_clouds(path, password, application):
    def by_password(user, project):
        return {'region_name': 'RegionOne', 'auth': {
            'auth_url': IDENTITY, 'username': user, 'password': password, 'project_name': project,
            'user_domain_name': 'Default', 'project_domain_name': 'Default'}}

    clouds = {
        'admin': by_password('admin', 'admin'),
        'tenant': by_password('tenant', 'tenants'),
        'service': by_password('bowline-service', 'service'),
        'application': {'region_name': 'RegionOne', 'auth_type': 'v3applicationcredential', 'auth': {
            'auth_url': IDENTITY, 'application_credential_id': application['id'],
            'application_credential_secret': application['secret']}},
    }
    # JSON is YAML as well.
    Path(path).write_text(json.dumps({'clouds': clouds}, indent=2))


def token_of(clouds, name):
    auth = json.loads(Path(clouds).read_text())['clouds'][name]['auth']
    return token(auth['username'], auth['project_name'], auth['password'])


def administrator(clouds):
    return token_of(clouds, 'admin')


def upload(clouds, name, file):
    tenant = token_of(clouds, 'tenant')
    image = ask('POST', f'{IMAGES}/images', {'name': name, 'disk_format': 'raw', 'container_format': 'bare'}, tenant)[1]['id']
    headers = {'X-Auth-Token': tenant, 'Content-Type': 'application/octet-stream'}
    request = urllib.request.Request(f'{IMAGES}/images/{image}/file', Path(file).read_bytes(), headers, method='PUT')
    urllib.request.urlopen(request, timeout=60).close()
    print(image)


def await_backends(clouds, hosts):
    admin = administrator(clouds)
    deadline = time.monotonic() + LIMIT_S
    while True:
        services = ask('GET', f'{VOLUMES}/os-services', token=admin)[1]['services']
        up = {service['host'] for service in services if service['state'] == 'up'}
        if up.issuperset(hosts) and any(service['binary'] == 'cinder-scheduler' for service in services):
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f'not all backends are up after {LIMIT_S} s: {services}')
        # Cinder tells of its backends to who asks, and to nobody else.
        time.sleep(0.5)
    for name in (host.partition('@')[2] for host in hosts):
        body = {'volume_type': {'name': name, 'extra_specs': {'volume_backend_name': name}}}
        ask('POST', f'{VOLUMES}/types', body, admin)


if sys.argv[1] == '--await-backends':
    await_backends(sys.argv[2], sys.argv[3:])
elif sys.argv[1] == '--add-service':
    add_service(*sys.argv[2:])
elif sys.argv[1] == '--upload':
    upload(*sys.argv[2:])
elif sys.argv[1] == '--token':
    print(token_of(*sys.argv[2:]))
elif sys.argv[1] == '--ask':
    url = sys.argv[3] if sys.argv[3].startswith('http') else VOLUMES + sys.argv[3]
    print(json.dumps(ask('GET', url, token=administrator(sys.argv[2]))[1]))
else:
    set_up(*sys.argv[1:])
