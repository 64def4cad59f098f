"""Faults for the stream tests: a seeded plan of what is done to workers, the server, the broker and the network between them.

    world = World(c, kafka, proxy, 'source', name)       # or 'outbox'
    for kind in plan(world, 30, rng):
        text = world.inject(kind, random.Random(...))    # does it and undoes it; says what it was
    tap.same(world.unplanned_deaths(), [], '...')

The cluster must run the workers' library with failpoints: cluster(..., library(folder)).  A plan depends on the seed
alone, what a fault meets also on timing.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from lib import tap
from lib.cluster import REPO, SqlError, unprivileged

SOURCE_POINTS = ['turn', 'open', 'before_claim', 'claimed', 'after_claim', 'before_poll', 'after_poll', 'begin', 'before_fence', 'after_fence',
                 'before_insert', 'after_insert', 'before_commit', 'after_commit', 'isolate', 'reject', 'redrive']
OUTBOX_POINTS = ['load', 'open', 'after_init', 'after_progress', 'settled', 'before_claim', 'claimed', 'after_claim', 'begin', 'half', 'produced',
                 'after_commit']
AT_START = {'turn', 'open', 'before_claim', 'claimed', 'after_claim', 'load', 'after_init', 'after_progress', 'settled'}   # reached by a worker that starts

QUICK_AGAIN = {'broker.session.timeout.ms': '2000', 'broker.heartbeat.interval.ms': '500'}    # of Kafka: a broker that was killed may come back sooner


def library(folder):
    """Settings with which workers run the library with failpoints; a copy of it, since checkouts may be private."""
    if os.environ.get('MILLRACE_WORKER_LIBRARY'):
        return {}               # cluster() sees to it
    make = ['make', '-s', '-C', str(REPO), 'build/faults/millrace_worker.so']
    if os.environ.get('MILLRACE_BIN'):
        make.append('PG_CONFIG=%s/pg_config' % os.environ['MILLRACE_BIN'])
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    return use_library(REPO / 'build' / 'faults' / 'millrace_worker.so', folder)


def use_library(path, folder):
    place = pathlib.Path(folder) / 'lib'
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)
    for p in [place, *place.parents]:
        with contextlib.suppress(PermissionError):
            p.chmod(p.stat().st_mode | 0o011)
    place.chmod(0o755)
    return {'dynamic_library_path': '%s:$libdir' % place}


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A tmpfs of that size, for a tablespace; None where we may not mount one."""
    place = pathlib.Path(folder) / 'disk'
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=%dm,mode=777' % megabytes, 'tmpfs', place], stderr=subprocess.DEVNULL).returncode:
        yield None
        return
    if unprivileged():
        shutil.chown(place, unprivileged())
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', place], check=True)


def eventually(what, condition, timeout=120, every=0.05):
    """Wait until condition() is true, whatever the server says meanwhile; its value."""
    end = time.monotonic() + timeout
    while True:
        with contextlib.suppress(SqlError):
            value = condition()
            if value:
                return value
        if time.monotonic() > end:
            raise AssertionError('waited %d s until %s' % (timeout, what))
        time.sleep(every)


def points(c):
    """Folder of the armed failpoints."""
    folder = c.data / 'failpoints'
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, c.data.owner())
    return folder


def arm(c, point, action):
    """'room.place' shall do this, once: 'error', 'sleep MS', 'kill' or 'stop'."""
    new = points(c) / 'new'
    new.write_text(action + '\n')
    shutil.chown(new, c.data.owner())
    new.rename(points(c) / point)


def fired(c, point):
    """Process that met it, or None; once."""
    found = list(points(c).glob(point + '.*'))
    if not found:
        return None
    pid = int(found[0].suffix[1:])
    found[0].unlink()
    return pid


class World:
    """What faults are done to.  kind: 'source' (one named `source`) or 'outbox' (of server k)."""

    def __init__(self, c, kafka, proxy, kind, source=None, disk=None):
        self.c, self.kafka, self.proxy, self.kind, self.source, self.disk = c, kafka, proxy, kind, source, disk
        self.killed = set()
        self.missed = []            # failpoints that nobody reached, frames that did not come

    # -- looking -------------------------------------------------------------
    def up(self):
        eventually('the server is up', lambda: self.c.value('SELECT 1') == '1')

    def pids(self, type):
        return [int(r[0]) for r in self.c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace %s'" % type)]

    def working(self, looks=1):
        """Workers that are in the middle of a batch; between two batches nobody is, so several looks may be needed."""
        if self.kind == 'outbox':
            sql = 'SELECT pid FROM millrace.outbox_progress JOIN pg_stat_activity USING (pid) WHERE NOT confirmed'
        else:
            sql = ("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace source' AND state = 'active' "
                   "AND query LIKE '% messages of source %'")
        for _ in range(looks):
            with contextlib.suppress(SqlError):     # the server may be down
                pids = [int(p) for p, in self.c.psql(sql)]
                if pids:
                    return pids
        return []

    def victim(self, rng):
        """A worker, if possible one at work."""
        return rng.choice(sorted(eventually('there is a worker', lambda: self.working() or self.pids(self.kind), 60)))

    def send(self, rng, number):
        """A signal to a worker; one that ended by itself just now is no victim."""
        while True:
            with contextlib.suppress(ProcessLookupError):
                return os.kill(self.victim(rng), number)

    def unplanned_deaths(self):
        """Lines of the server's log about processes that ended by signals we did not send, and worse."""
        bad = []
        for line in self.c.logs().splitlines():
            m = re.search(r'\(PID (\d+)\) was terminated by signal (\d+)', line)
            if 'PANIC' in line or 'TRAP:' in line or 'AddressSanitizer' in line or (m and (m[2] != '9' or int(m[1]) not in self.killed)):
                bad.append(line)
        return bad

    def explain(self):
        """What is to be seen when something did not happen."""
        for sql in ('SELECT * FROM millrace.status()', 'SELECT * FROM millrace.source_workers', 'SELECT source, partition, next_offset, epoch, owner_pid, high_watermark '
                    'FROM millrace.source_offsets', 'SELECT * FROM millrace.outbox_progress',
                    "SELECT pid, backend_type, state, wait_event_type, wait_event, now() - xact_start, query FROM pg_stat_activity WHERE backend_type <> 'client backend'"):
            try:
                tap.note('\n'.join(map(str, self.c.psql(sql))))
            except SqlError as e:
                tap.note(e)
        tap.note(self.c.logs()[-6000:])

    # -- processes -----------------------------------------------------------
    def kill(self, pid):
        """SIGKILL to a child of the postmaster: it ends all of them and begins anew."""
        mark = self.c.log_mark()
        self.killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        eventually('the server noticed', lambda: 'PID %d) was terminated by signal 9' % pid in self.c.logs_since(mark), 30)
        self.up()

    def stopped(self, pid, seconds):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def worker_killed(self, rng):
        self.kill(self.victim(rng))

    def backend_killed(self, rng):
        with contextlib.closing(self.c.session()) as s:
            pid = s.pid()
            s.send('SELECT pg_sleep(60)')
            self.kill(pid)
        self.c.sessions.remove(s)

    def supervisor_killed(self, rng):
        self.kill(eventually('there is a supervisor', lambda: self.pids('supervisor'), 60)[0])

    def launcher_killed(self, rng):
        self.kill(eventually('there is a launcher', lambda: self.pids('launcher'), 60)[0])

    def worker_terminated(self, rng):
        self.send(rng, signal.SIGTERM)

    def worker_cancelled(self, rng):
        self.send(rng, signal.SIGINT)

    def worker_stopped(self, rng):
        s = rng.uniform(1, 4)
        self.stopped(self.victim(rng), s)
        return '%.1f s' % s

    def supervisor_stopped(self, rng):
        pid = eventually('there is a supervisor', lambda: self.pids('supervisor'), 60)[0]
        self.send(rng, signal.SIGTERM)
        self.stopped(pid, 2)

    # -- the server ----------------------------------------------------------
    def immediate_stop(self, rng):
        self.c.stop('immediate')
        self.c.start()

    def fast_stop(self, rng):
        self.c.stop('fast')
        self.c.start()

    def postmaster_killed(self, rng):
        os.kill(self.c.postmaster_pid(), signal.SIGKILL)
        time.sleep(0.5)
        for attempt in range(30):
            try:
                self.c.start()
                return
            except RuntimeError:            # its children have not noticed yet
                time.sleep(1)
        raise AssertionError('the server did not start within 30 s of the postmaster\'s death')

    def disk_full(self, rng):
        mark = self.c.log_mark()
        filler = self.disk / 'filler'
        try:
            with open(filler, 'wb', buffering=0) as f, contextlib.suppress(OSError):
                while f.write(bytes(65536)):
                    pass
            eventually('a worker met the full disk', lambda: 'No space left on device' in self.c.logs_since(mark), 60)
            time.sleep(rng.uniform(0.5, 2))
        finally:
            filler.unlink()

    # -- who works -----------------------------------------------------------
    def set_workers(self, n):
        eventually('the source is changed', lambda: self.c.psql(
            "UPDATE millrace.sources SET options = options || '{\"workers\": %d}', generation = generation + 1 WHERE name = '%s' RETURNING 1" % (n, self.source)), 60)

    def zombie(self, rng):
        """A worker stands still while others, who share partitions differently, take over; then it goes on."""
        pid = self.victim(rng)
        seconds = rng.choice([2, 3, 4, 12])         # 12: longer than takers wait for the row lock of an open batch
        os.kill(pid, signal.SIGSTOP)
        self.set_workers(4)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.5)
        self.set_workers(3)
        return '%d s' % seconds

    def resized(self, rng):
        self.set_workers(rng.choice([1, 2, 5]))
        time.sleep(1)
        self.set_workers(3)

    def paused(self, rng):
        what = "'%s'" % self.source if self.kind == 'source' else "'k'"
        self.up()
        self.c.psql('SELECT millrace.pause_%s(%s)' % (self.kind, what))
        time.sleep(rng.choice([0, 0.5]))
        self.c.psql('SELECT millrace.resume_%s(%s)' % (self.kind, what))

    # -- the broker ----------------------------------------------------------
    def broker_killed(self, rng):
        self.kafka.kill()
        self.kafka.start()

    def broker_frozen(self, rng):
        s = rng.choice([3, 3, 3, 4, 5, 8, 20])
        self.kafka.freeze()
        time.sleep(s)
        self.kafka.thaw()
        return '%d s' % s

    # -- the network ---------------------------------------------------------
    def network(self, seconds, fault, *args, **named):
        """A fault for a time."""
        try:
            fault(*args, **named)
            time.sleep(seconds)
        finally:
            self.proxy.heal()

    def meets(self, name, fault, *args, meanwhile=None):
        """A fault that waits for a frame."""
        fault(*args)
        if meanwhile:
            meanwhile()
        end = time.monotonic() + 15
        while self.proxy.armed():
            if time.monotonic() > end:
                self.missed.append(name)
                break
            time.sleep(0.05)
        time.sleep(1.2)             # a dropped answer ends its connection after a second
        self.proxy.heal()

    def cut(self, rng):
        self.proxy.cut()

    def refused(self, rng):
        s = rng.uniform(1, 4)
        self.network(s, self.proxy.refuse)
        return '%.1f s' % s

    def black_hole(self, rng):
        ways = rng.choice([('up',), ('down',), ('up', 'down')])
        s = rng.uniform(1, 4)
        self.network(s, self.proxy.swallow, *ways)
        return '%s, %.1f s' % ('+'.join(ways), s)

    def held(self, rng):
        ways = rng.choice([('up',), ('down',), ('up', 'down')])
        s = rng.uniform(1, 4)
        self.network(s, self.proxy.hold, *ways)
        return '%s, %.1f s' % ('+'.join(ways), s)

    def delayed(self, rng):
        self.network(3, self.proxy.slow, delay=0.2)

    def throttled(self, rng):
        self.network(3, self.proxy.slow, rate=20000)

    def cut_mid_frame(self, rng):
        way = rng.choice(['up', 'down', 'down'])
        self.meets('cut mid-frame', self.proxy.cut_within, way)
        return way

    def answer_dropped(self, rng):
        api = rng.choice(['Fetch', 'Fetch', 'Metadata', 'ListOffsets'] if self.kind == 'source' else
                         ['EndTxn', 'EndTxn', 'EndTxn', 'Produce', 'Produce', 'AddPartitionsToTxn', 'InitProducerId'])
        starts = api in ('Metadata', 'ListOffsets', 'InitProducerId')      # what a worker asks that starts
        self.meets(api, self.proxy.drop_answers, api, meanwhile=(lambda: self.send(rng, signal.SIGTERM)) if starts else None)
        return api

    # -- failpoints ----------------------------------------------------------
    def arm(self, point, action):
        arm(self.c, point, action)

    def fired(self, point):
        return fired(self.c, point)

    def failpoint(self, rng):
        point = rng.choice(SOURCE_POINTS if self.kind == 'source' else OUTBOX_POINTS)
        action = rng.choice(['error', 'sleep 3000', 'kill', 'kill', 'stop', 'stop'])
        if self.at_point('%s.%s' % (self.kind, point), action, rng):
            return '%s %s' % (point, action)
        self.at_point('%s.%s' % (self.kind, 'before_claim'), action, rng)       # which every worker passes
        return 'before_claim %s, nobody came by %s' % (action, point)

    def at_point(self, name, action, rng):
        """Have whoever reaches the place do this, and see to it that somebody does; False: nobody did."""
        mark = self.c.log_mark()
        point = name.split('.')[1]
        self.arm(name, action)
        if point in AT_START:
            self.send(rng, signal.SIGTERM)
        if point == 'redrive':
            self.up()
            self.c.psql("SELECT millrace.redrive_dead_letters('%s')" % self.source)
        try:
            pid = eventually('somebody reaches ' + name, lambda: self.fired(name), 20)
        except AssertionError:
            self.missed.append(name)
            with contextlib.suppress(FileNotFoundError):
                (points(self.c) / name).unlink()
            return False
        if action == 'kill':
            self.killed.add(pid)
            eventually('the server noticed', lambda: 'PID %d) was terminated by signal 9' % pid in self.c.logs_since(mark), 30)
            self.up()
        elif action == 'stop':
            takeover = self.kind == 'source' and rng.random() < 0.5
            if takeover:
                self.set_workers(4)
            time.sleep(rng.uniform(1, 3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            if takeover:
                self.set_workers(3)
        elif action.startswith('sleep'):
            time.sleep(1)
        return True

    def inject(self, kind, rng):
        """Do one fault; what it was, in words."""
        detail = getattr(self, kind.replace(' ', '_'))(rng)
        return '%s (%s)' % (kind, detail) if detail else kind


# How often each kind comes, relative to the others.
WEIGHTS = {
    'worker killed': 40, 'backend killed': 8, 'supervisor killed': 6, 'launcher killed': 5, 'worker terminated': 12, 'worker cancelled': 6,
    'worker stopped': 6, 'supervisor stopped': 4, 'immediate stop': 20, 'fast stop': 5, 'postmaster killed': 8,
    'broker killed': 10, 'broker frozen': 16, 'cut': 14, 'refused': 10, 'black hole': 12, 'held': 8, 'delayed': 5, 'throttled': 5, 'cut mid frame': 10,
    'answer dropped': 12, 'failpoint': 45, 'paused': 6,
}
SOURCE_WEIGHTS = {**WEIGHTS, 'zombie': 14, 'resized': 5, 'disk full': 10}
OUTBOX_WEIGHTS = {**WEIGHTS, 'answer dropped': 30, 'broker killed': 10}


def plan(world, n, rng):
    """n kinds of faults in their proportions (by highest averages), in random order."""
    weights = dict(SOURCE_WEIGHTS if world.kind == 'source' else OUTBOX_WEIGHTS)
    if world.disk is None:
        weights.pop('disk full', None)
    weights = {k: w * rng.uniform(0.7, 1.4) for k, w in sorted(weights.items())}
    seats = dict.fromkeys(weights, 0)
    for _ in range(n):
        seats[max(weights, key=lambda k: weights[k] / (seats[k] + 0.5))] += 1
    kinds = [k for k, s in seats.items() for _ in range(s)]
    rng.shuffle(kinds)
    return kinds
