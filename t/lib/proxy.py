"""A TCP proxy before a Kafka broker that can do to connections what networks do.

    with Proxy(kafka.port) as proxy:         # clients are told of proxy.port (Kafka(proxied=...))
        proxy.cut()                          # all connections end, new ones may come
        proxy.refuse()                       # and no new ones until heal()
        proxy.swallow('up')                  # black hole: bytes to the broker vanish; 'down': those from it
        proxy.hold('down')                   # bytes wait until heal()
        proxy.slow(delay=0.2)                # each piece waits; slow(rate=50000): bytes a second
        proxy.cut_within('down')             # the next frame is cut in its middle, and its connection
        proxy.drop_answers('EndTxn')         # the broker did it, and its answer never comes: the connection ends after a second
        proxy.heal()                         # connections that lost bytes end, everything passes again

Two threads a connection pass on what comes, 256 kB at a time.  They follow Kafka's frames (a size of four bytes, then a
request's API key, version and correlation id, or an answer's correlation id) and so know which answer belongs to which request.
`hits` counts faults that met a connection, or a frame.
"""
import socket
import struct
import threading
import time

API = {'Produce': 0, 'Fetch': 1, 'ListOffsets': 2, 'Metadata': 3, 'InitProducerId': 22, 'AddPartitionsToTxn': 24, 'EndTxn': 26}
NAMES = {key: name for name, key in API.items()}
PIECE = 1 << 18
ANSWER_CUT_S = 1.0          # from a dropped answer to the end of its connection


class Cut(Exception):
    """The connection ends here."""


class Pump(threading.Thread):
    """One direction of a connection."""

    def __init__(self, link, way, source, sink):
        super().__init__(daemon=True)
        self.link, self.way, self.source, self.sink = link, way, source, sink
        self.head_len = 12 if way == 'up' else 8
        self.head, self.left, self.fate = b'', 0, 'pass'

    def run(self):
        proxy = self.link.proxy
        try:
            while True:
                data = self.source.recv(4096 if proxy.rate else PIECE)
                if not data:
                    break
                while self.way in proxy.held and not self.link.ended:
                    proxy.change.wait(0.05)
                out, cut = self.follow(memoryview(data))
                if self.way in proxy.swallowed:
                    self.link.damaged = True
                    proxy.hit()
                    continue
                if proxy.delay:
                    proxy.hit()
                    time.sleep(proxy.delay)
                if out:
                    self.sink.sendall(b''.join(out))
                if proxy.rate:
                    proxy.hit()
                    time.sleep(len(data) / proxy.rate)
                if cut:
                    break
        except OSError:
            pass
        self.link.end()

    def follow(self, view):
        """What of these bytes is to be passed on, and whether the connection is to end behind it."""
        out = []
        while view:
            if self.left == 0:
                need = self.head_len - len(self.head)
                self.head += bytes(view[:need])
                view = view[need:]
                if len(self.head) < self.head_len:
                    break
                self.left = int.from_bytes(self.head[:4], 'big') + 4 - self.head_len
                self.fate = self.link.judge(self.way, self.head)
                if self.fate != 'drop':
                    out.append(self.head)
                self.head = b''
            piece = view[:self.left]
            view = view[len(piece):]
            self.left -= len(piece)
            if self.fate == 'cut':
                out.append(piece[:len(piece) // 2])
                return out, True
            if self.fate == 'pass':
                out.append(piece)
        return out, False


class Link:
    """A connection of a client, and ours to the broker for it."""

    def __init__(self, proxy, client, broker):
        self.proxy, self.sockets = proxy, (client, broker)
        self.asked = {}                 # correlation id -> API key, of requests without an answer
        self.damaged = self.ended = False
        for s in self.sockets:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pumps = [Pump(self, 'up', client, broker), Pump(self, 'down', broker, client)]

    def start(self):
        for p in self.pumps:
            p.start()

    def judge(self, way, head):
        """What becomes of the frame that begins so."""
        proxy = self.proxy
        if way == 'up':
            api, _, correlation = struct.unpack('>hhi', head[4:12])
            self.asked[correlation] = api
        else:
            api = self.asked.pop(struct.unpack('>i', head[4:8])[0], None)
        if proxy.cutting == way:
            proxy.cutting = None
            proxy.hit()
            return 'cut'
        if way == 'down' and proxy.dropping == api:
            proxy.dropping = None
            proxy.hit()
            threading.Timer(ANSWER_CUT_S, self.end).start()
            return 'drop'
        return 'pass'

    def end(self):
        with self.proxy.lock:
            if self.ended:
                return
            self.ended = True
            self.proxy.links.discard(self)
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


class Proxy:
    def __init__(self, broker_port, port=0):
        self.broker_port, self.port = broker_port, port
        self.lock = threading.Lock()
        self.change = threading.Event()
        self.links = set()
        self.listener = None
        self.hits = 0
        self._well()

    def __enter__(self):
        self._listen()
        return self

    def __exit__(self, *exc):
        self.refuse()

    def _well(self):
        self.swallowed, self.held = (), ()
        self.delay, self.rate = 0, None
        self.cutting = self.dropping = None

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return                  # refuse() closed it
            try:
                broker = socket.create_connection(('127.0.0.1', self.broker_port), 5)
                broker.settimeout(None)
            except OSError:
                client.close()
                continue
            link = Link(self, client, broker)
            with self.lock:
                self.links.add(link)
            link.start()

    def hit(self):
        self.hits += 1

    # -- faults --------------------------------------------------------------
    def cut(self):
        for link in list(self.links):
            self.hit()
            link.end()

    def refuse(self):
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        self.cut()

    def swallow(self, *ways):
        self.swallowed = ways

    def hold(self, *ways):
        self.hits += len(self.links)
        self.held = ways

    def slow(self, delay=0, rate=None):
        self.delay, self.rate = delay, rate

    def cut_within(self, way):
        self.cutting = way

    def drop_answers(self, api):
        """The next one."""
        self.dropping = API[api]

    def armed(self):
        """A fault that waits for its frame has not met it yet."""
        return self.cutting is not None or self.dropping is not None

    def heal(self):
        self._well()
        for link in list(self.links):
            if link.damaged:
                link.end()
        if self.listener is None:
            self._listen()
