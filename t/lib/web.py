"""Asking a gateway: one connection kept open, answers as (status, value, headers)."""
import contextlib
import http.client
import json
import time
import urllib.parse

from .cluster import free_port
from .stream import cluster


def until(ask, seconds=10, good=bool):
    """What ask() says once good(…) of it is true, else what it said last."""
    end = time.monotonic() + seconds
    while True:
        got = ask()
        if good(got) or time.monotonic() > end:
            return got
        time.sleep(0.05)


def multipart(parts, mark='xyz'):
    """Body and headers of a form of (name, file name or None, type or None, bytes)."""
    out = b''
    for name, filename, kind, content in parts:
        out += ('--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n' % (
            mark, name, '; filename="%s"' % filename if filename is not None else '', 'Content-Type: %s\r\n' % kind if kind else '')).encode() + content + b'\r\n'
    return out + ('--%s--\r\n' % mark).encode(), {'Content-Type': 'multipart/form-data; boundary=' + mark}


class Web:
    """One keep-alive connection; JSON bodies come back decoded, others as bytes.  again: where it was closed, a request makes it anew, once."""

    def __init__(self, port, token=None, again=True):
        self.port, self.token, self.again, self.c = port, token, again, None

    def raw(self, method, path, body=None, headers=None, timeout=60):
        """(status, bytes, headers)."""
        sent = {'Authorization': 'Bearer ' + self.token} if self.token else {}
        again = self.again
        while True:
            if self.c is None:
                self.c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)
            try:
                self.c.request(method, path, body, {**sent, **(headers or {})})
                r = self.c.getresponse()
                return r.status, r.read(), r.headers
            except ConnectionError:
                self.close()
                if not again:
                    raise
                again = False
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
        """(status, value) of a body of multipart()."""
        return self.ask('POST', path, *multipart(parts))[:2]

    def until(self, path, status=200, seconds=30, post=None):
        """(status, value) of GET path, or of a POST of that value, once it has that status, else the last; (0, None): nothing answered."""
        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.get(path) if post is None else self.post(path, post)
            return 0, None
        return until(ask, seconds, lambda got: got[0] == status)


@contextlib.contextmanager
def gateway(name, setup, conf=None, at='pg', listen='127.0.0.1:%d'):
    """A running cluster whose database postgres answers HTTP; (cluster, port) once it does.  at: its folder; listen: millrace.http_listen, with %d for the port."""
    port = free_port()
    with cluster(name, {'millrace.http_listen': listen % port, **(conf or {})}, at) as c:
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
