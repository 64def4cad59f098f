"""An HTTP server that behaves as badly as its paths say: /bucket/<behaviour>-<argument>/<anything>.

    with Stub() as stub:
        stub.url                       # http://127.0.0.1:port
        stub.calls('/b/ok-10/a')       # times (monotonic) of the requests for a path
        stub.stored['/b/put/x']        # bodies of PUTs, by path as it stood in the request line
        stub.hold.clear()              # from now on every answer waits for hold.set()
        stub.down.set()                # from now on every answer is a 503

ok-N: N bytes (content(path, N)).  photo: the bytes of stub.photo.  missing, forbidden, badkey, refused: 404, 403, 403 for its signature, 400.  flaky-N:
500 N times, then well.  busy-N: 429 with Retry-After N once, then well.  truncated-N: ends early N times, then well.
reset-N: the same by RST.  drip: a byte now and then.  large-N: announces N bytes; endless: never ends, without length.
redirect: 302 to this server's /secret.  hung: no answer.  nohttp: no HTTP.  headers: headers without end.
"""
import collections
import contextlib
import hashlib
import http.server
import socket
import struct
import threading
import time
import urllib.parse


def content(path, n):
    """n bytes that depend on the path alone."""
    seed = hashlib.sha256(path.encode()).digest()
    return (seed * (n // 32 + 1))[:n]


def xml(code, message):
    return f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def answer(self, status, body=b'', length=None, **headers):
        self.send_response(status)
        self.send_header('Content-Length', str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def cut(self, reset=False):
        """End the connection now."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR) if not reset else self.connection.close()
        self.close_connection = True

    def respond(self):
        stub = self.server.stub
        length = int(self.headers.get('Content-Length') or 0)
        body = self.rfile.read(length)
        with stub.lock:
            stub.log.append((self.path, time.monotonic(), self.command, dict(self.headers)))
            count = sum(1 for call in stub.log if call[0] == self.path)
        stub.hold.wait()
        if stub.down.is_set():
            return self.answer(503)
        part = urllib.parse.unquote(self.path).split('/')[2]
        what, _, argument = part.partition('-')
        n = int(argument) if argument.isdigit() else 0
        well = content(self.path, 1000)
        if what == 'hung':
            stub.closing.wait()
        elif what == 'ok':
            self.answer(200, content(self.path, n))
        elif what == 'photo':
            self.answer(200, stub.photo)
        elif what == 'put' and self.command == 'PUT':
            with stub.lock:
                stub.stored[self.path] = body
                stub.types[self.path] = self.headers.get('Content-Type')
            self.answer(200)
        elif what == 'missing':
            self.answer(404, xml('NoSuchKey', 'The specified key does not exist.'))
        elif what == 'forbidden':
            self.answer(403, xml('AccessDenied', 'Access Denied.'))
        elif what == 'badkey':
            self.answer(403, xml('SignatureDoesNotMatch', 'The request signature we calculated does not match.'))
        elif what == 'refused':
            self.answer(400, xml('InvalidArgument', 'No.'))
        elif what == 'flaky':
            self.answer(500, b'sorry') if count <= n else self.answer(200, well)
        elif what == 'busy':
            self.answer(429, b'', Retry_After=argument) if count == 1 else self.answer(200, well)
        elif what in ('truncated', 'reset') and count <= n:
            self.answer(200, well[:500], length=1000)
            self.cut(reset=what == 'reset')
        elif what in ('truncated', 'reset'):
            self.answer(200, well)
        elif what == 'drip':
            self.answer(200, b'', length=1000)
            while not stub.closing.wait(0.2):
                self.wfile.write(b'x')
                self.wfile.flush()
        elif what == 'large':
            self.answer(200, b'x' * 1000, length=n)
            self.cut()
        elif what == 'endless':
            self.send_response(200)
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            while not stub.closing.is_set():
                self.wfile.write(b'8000\r\n' + b'x' * 32768 + b'\r\n')
        elif what == 'redirect':
            self.answer(302, b'', Location=stub.url + '/secret/ok-10/x')
        elif what == 'nohttp':
            self.wfile.write(b'220 smtp.example.org ESMTP\r\n')
            self.cut()
        elif what == 'headers':
            self.wfile.write(b'HTTP/1.1 200 OK\r\n')
            while not stub.closing.is_set():
                self.wfile.write(b'X-More: ' + b'y' * 1000 + b'\r\n')
        else:
            self.answer(404)

    def do_GET(self):
        with contextlib.suppress(OSError):
            self.respond()

    do_PUT = do_GET


class Stub:
    def __init__(self, context=None):
        """context: an ssl.SSLContext to serve HTTPS by."""
        self.log, self.stored, self.types, self.photo = [], {}, {}, b''
        self.lock, self.hold, self.closing = threading.Lock(), threading.Event(), threading.Event()
        self.hold.set()
        self.down = threading.Event()
        self.context = context

    def __enter__(self):
        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, request, client_address):
                pass
        self.server = Server(('127.0.0.1', 0), Handler)
        self.server.stub = self
        if self.context:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = 'http%s://127.0.0.1:%d' % ('s' if self.context else '', self.port)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.closing.set()
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def calls(self, path):
        with self.lock:
            return [at for p, at, _, _ in self.log if p == path]

    def paths(self):
        with self.lock:
            return collections.Counter(p for p, _, _, _ in self.log)
