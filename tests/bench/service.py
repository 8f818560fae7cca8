"""The volume service, asked without the agent: reserves, exports and frees a volume for the floor's runs.

One kept connection, and the same requests in the same order as the agent makes them.
"""
import http.client
import json
import time
from pathlib import Path

STATE_DIR = Path('/var/lib/bowline-backend')
ADDRESS = ('127.0.0.1', 8776)
LIMIT_S = 60


class Service:
    def __init__(self):
        self.connection = http.client.HTTPConnection(*ADDRESS, timeout=LIMIT_S)
        self.headers = {
            'X-Auth-Token': (STATE_DIR / 'token').read_text().strip(),
            'OpenStack-API-Version': 'volume 3.54',
            'Content-Type': 'application/json',
        }

    def ask(self, method, path, body=None):
        """Returns the answer's JSON and how many milliseconds it took."""
        begun = time.monotonic()
        self.connection.request(method, f'/v3{path}', None if body is None else json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        took_ms = (time.monotonic() - begun) * 1000
        if answer.status >= 300:
            raise RuntimeError(f'{method} {path}: {answer.status} {text.decode(errors="replace")}')
        return json.loads(text or 'null'), took_ms

    def reserve_and_export(self, volume, guest_uuid, initiator):
        """Returns the attachment, how to connect, and the time."""
        reserve = {'attachment': {'volume_uuid': volume, 'instance_uuid': guest_uuid}}
        made, reserved_ms = self.ask('POST', '/attachments', reserve)
        attachment = made['attachment']['id']
        connector = {'initiator': initiator, 'host': 'bench', 'ip': '127.0.0.1', 'multipath': False, 'os_type': 'linux', 'platform': 'x86_64'}
        updated, exported_ms = self.ask('PUT', f'/attachments/{attachment}', {'attachment': {'connector': connector}})
        return attachment, updated['attachment']['connection_info'], reserved_ms + exported_ms

    def complete(self, attachment):
        return self.ask('POST', f'/attachments/{attachment}/action', {'os-complete': {}})[1]

    def free(self, attachment):
        return self.ask('DELETE', f'/attachments/{attachment}')[1]
