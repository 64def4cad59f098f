"""Asking a gateway: one connection kept open, answers as (status, value, headers)."""
import contextlib
import http.client
import json
import urllib.parse

from .cluster import free_port
from .stream import cluster


class Web:
    """One keep-alive connection; JSON bodies come back decoded, others as bytes."""

    def __init__(self, port, token=None):
        self.port, self.token, self.c = port, token, None

    def raw(self, method, path, body=None, headers=None, timeout=60):
        """(status, bytes, headers); a connection that was closed in between is made anew once."""
        sent = {'Authorization': 'Bearer ' + self.token} if self.token else {}
        for again in (False, True):
            if self.c is None:
                self.c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)
            try:
                self.c.request(method, path, body, {**sent, **(headers or {})})
                r = self.c.getresponse()
                return r.status, r.read(), r.headers
            except ConnectionError:
                self.close()
                if again:
                    raise
            except BaseException:
                self.close()
                raise

    def close(self):
        if self.c:
            self.c.close()
        self.c = None

    def ask(self, method, path, body=None, headers=None):
        status, got, told = self.raw(method, path, body, headers)
        return status, json.loads(got) if got and told.get('Content-Type', '').startswith('application/json') else got, told

    def get(self, path, query=None):
        """(status, value); query: a list of pairs or a dict."""
        return self.ask('GET', path + ('?' + urllib.parse.urlencode(query) if query else ''))[:2]

    def post(self, path, value):
        """(status, value) of a JSON body; a text is sent as it is."""
        text = value if isinstance(value, (str, bytes)) else json.dumps(value)
        return self.ask('POST', path, text.encode() if isinstance(text, str) else text, {'Content-Type': 'application/json'})[:2]

    def form(self, path, parts):
        """(status, value) of a multipart body of (name, file name or None, type or None, bytes)."""
        out = b''
        for name, filename, kind, content in parts:
            out += b'--x-x\r\nContent-Disposition: form-data; name="%s"' % name.encode()
            out += b'; filename="%s"' % filename.encode() if filename is not None else b''
            out += b'\r\nContent-Type: %s' % kind.encode() if kind else b''
            out += b'\r\n\r\n' + content + b'\r\n'
        return self.ask('POST', path, out + b'--x-x--\r\n', {'Content-Type': 'multipart/form-data; boundary=x-x'})[:2]


@contextlib.contextmanager
def gateway(name, setup, conf=None):
    """A running cluster whose database postgres answers HTTP; (cluster, port) once it does."""
    port = free_port()
    with cluster(name, conf={'millrace.http_listen': '127.0.0.1:%d' % port, **(conf or {})}) as c:
        c.psql('CREATE EXTENSION millrace;' + setup)
        c.psql('SELECT millrace.start()')
        c.wait_for("SELECT count(DISTINCT backend_type) FROM pg_stat_activity WHERE backend_type IN ('millrace gateway', 'millrace executor')", '2')
        yield c, port


def token(c, role, **options):
    """A new token of the role."""
    n = c.value('SELECT count(*) FROM millrace.api_tokens')
    return c.value("SELECT millrace.create_api_token('test %s', '%s', '%s')" % (n, role, json.dumps(options)))


def routes(c, *functions):
    """A route per function: POST /name, and GET /get/name, of signatures like f(int)."""
    for f in functions:
        name = f.split('(')[0]
        c.psql("SELECT millrace.create_route('POST', '/%s', 'public.%s', '{\"body\": [\"json\", \"form\", \"multipart\", \"raw\"]}');"
               "SELECT millrace.create_route('GET', '/get/%s', 'public.%s')" % (name, f, name, f))
