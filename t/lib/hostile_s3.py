"""An object store that misbehaves on purpose, as no real one can be made to.  What a key begins with says how:

    good/…       the bytes of `content`                  slow/…       five bytes, then one a second
    html/…       a page that says it is fine             hang/…       nothing, for as long as it takes
    missing/…    404                                     truncated/…  half of what Content-Length promises
    denied/…     403                                     reset/…      the connection is cut instead of an answer
    error/…      500, for ever                           endless/…    chunks without end
    overload/…   503 with Retry-After: 1, twice; then as good
    redirect/…   302 to good/…                           large/…      200 MB, or so it says
    garbage/…    what is no HTTP

    with HostileS3(content) as store:
        store.url; store.asked['slow/1']        # how often each key was asked for

Threads of this process, on the loopback interface.
"""
import collections
import contextlib
import http.server
import socket
import struct
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    timeout = 300

    def log_message(self, *args):
        pass

    def do_GET(self):
        store = self.server.store
        bucket_and_key = urllib.parse.unquote(self.path.partition('?')[0]).lstrip('/')
        self.key = bucket_and_key.partition('/')[2]
        with store.lock:
            store.asked[self.key] += 1
            self.times = store.asked[self.key]
        with contextlib.suppress(OSError):
            getattr(self, 'do_' + self.key.partition('/')[0], self.do_missing)()

    def do_PUT(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.do_GET()

    def answer(self, status, body=b'', kind='application/octet-stream', length=None, **headers):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def refuse(self, status, code, **headers):
        self.answer(status, ('<?xml version="1.0"?><Error><Code>%s</Code><Message>on purpose</Message></Error>' % code).encode(), 'application/xml', **headers)

    def wait(self, seconds):
        """False when the store is being closed."""
        return not self.server.store.over.wait(seconds)

    def do_good(self):
        self.answer(200, self.server.store.content, 'image/jpeg')

    def do_html(self):
        self.answer(200, b'<!DOCTYPE html><html><body>Please sign in.</body></html>', 'text/html')

    def do_missing(self):
        self.refuse(404, 'NoSuchKey')

    def do_denied(self):
        self.refuse(403, 'AccessDenied')

    def do_error(self):
        self.refuse(500, 'InternalError')

    def do_overload(self):
        if self.times <= 2:
            self.refuse(503, 'SlowDown', Retry_After='1')
        else:
            self.do_good()

    def do_redirect(self):
        self.answer(302, Location=self.path.replace('redirect/', 'good/redirected-'))

    def do_slow(self):
        self.answer(200, b'12345', length=100000)
        while self.wait(1):
            self.wfile.write(b'6')
            self.wfile.flush()

    def do_hang(self):
        while self.wait(60):
            pass
        self.close_connection = True

    def do_truncated(self):
        body = self.server.store.content
        self.answer(200, body[:len(body) // 2], length=len(body))
        self.close_connection = True

    def do_reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_endless(self):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        while self.wait(0):
            self.wfile.write(b'10000\r\n' + bytes(65536) + b'\r\n')

    def do_large(self):
        self.answer(200, bytes(65536), length=200 << 20)
        self.close_connection = True

    def do_garbage(self):
        self.wfile.write(b'\x16\x03\x01 this is no answer\r\n\r\n')
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):        # cut connections are no news here
        pass


class HostileS3:
    def __init__(self, content):
        self.content = content
        self.asked = collections.Counter()
        self.lock = threading.Lock()
        self.over = threading.Event()

    def __enter__(self):
        self.server = Server(('127.0.0.1', 0), Handler)
        self.server.store = self
        self.url = 'http://127.0.0.1:%d' % self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
