"""Several database servers read one topic, each some of its partitions, and together every message once."""
# lane: waits
# timeout: 900
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster
from lib.stream import caught_up, create, folder, prepare, reason, run

FULL = bool(os.environ.get('MILLRACE_FULL'))


def alone(c, kafka):
    """Option partitions without a control topic: the workers divide what is listed, and wait for what is not there yet."""
    c.psql('SET ROLE app; CREATE TABLE alone (id int, source_partition int, source_offset bigint)')
    kafka.create_topic('alone', 6)
    kafka.produce('alone', [(p, None, b'{"id": %d}' % i) for i in range(10) for p in range(6)])
    create(c, 'alone', 'alone', 'alone', '{"partitions": "4, 0-1, 7", "workers": 2}')
    caught_up(c, 'alone', 30)
    tap.same(c.psql('SELECT source_partition, count(*) FROM alone GROUP BY 1 ORDER BY 1'), [('0', '10'), ('1', '10'), ('4', '10')], 'listed partitions, and no other')
    tap.same(c.value("SELECT count(DISTINCT owner_pid) FROM millrace.source_offsets WHERE source = 'alone'"), '2', 'divided between two workers')
    reason_of = "SELECT string_agg(reason, ';') FROM millrace.source_workers WHERE source = 'alone'"
    tap.ok('partition 7 does not exist yet' in c.value(reason_of), 'a partition that is not there is told')
    tap.same(c.psql("SELECT * FROM millrace.release_partitions('alone', '{1, 7}')"), [('1', '10'), ('7', None)], 'release_partitions tells where they stand')
    kafka.produce('alone', [(p, None, b'{"id": 10}') for p in range(6)])
    caught_up(c, 'alone', 32)
    time.sleep(2)
    tap.same(c.psql('SELECT source_partition, count(*) FROM alone GROUP BY 1 ORDER BY 1'), [('0', '11'), ('1', '10'), ('4', '11')], 'released partitions are read no longer')
    c.psql("SELECT millrace.take_partitions('alone', '{1, 2}', '{10, 8}')")
    caught_up(c, 'alone', 44)
    tap.same(c.psql('SELECT source_partition, count(*) FROM alone GROUP BY 1 ORDER BY 1'), [('0', '11'), ('1', '11'), ('2', '3'), ('4', '11')],
             'partitions taken are read from where it was said')
    tap.same(c.value('SELECT count(*) - count(DISTINCT (source_partition, source_offset)) FROM alone'), '0', 'nothing twice')


def shares(c, name):
    """partition -> (state, epoch) of a source."""
    return {int(p): (state, int(epoch)) for p, state, epoch in c.psql(f"SELECT partition, state, epoch FROM millrace.source_shares WHERE source = '{name}'")}


def holds(c, name, partitions, timeout=30):
    """Wait until these partitions are the source's."""
    c.wait_for(f"SELECT count(*) FROM millrace.source_shares WHERE source = '{name}' AND state = 'owned' AND partition IN ({','.join(map(str, partitions))})",
               str(len(partitions)), timeout)


def told(c, name, part, timeout=30):
    """Wait until a share of the source gives a reason that contains part."""
    c.wait_for(f"SELECT EXISTS (SELECT FROM millrace.source_shares WHERE source = '{name}' AND reason LIKE '%{part}%')", 't', timeout)


def protocol(c, kafka):
    """Two sources of one database share a topic as if they were two servers'."""
    c.psql('SET ROLE app; CREATE TABLE left_half (id int, source_partition int, source_offset bigint); CREATE TABLE right_half (LIKE left_half)')
    kafka.create_topic('halves', 4)
    options = '{"partitions": "%s", "control_topic": "halves-control", "lease_ms": 2000}'
    sent = [0]

    def produce(n):
        kafka.produce('halves', [(i % 4, None, b'{"id": %d}' % (sent[0] + i)) for i in range(n)])
        sent[0] += n

    def last_word(partition):
        """Up to where the control topic says that a partition is committed."""
        return max(json.loads(v)['next'] for _, _, k, v in kafka.read_all('halves-control') if k.startswith(b'halves/%d/' % partition))

    def spoken(partition, offset):
        end = time.monotonic() + 20
        while last_word(partition) < offset:
            assert time.monotonic() < end, 'no word of partition %d up to %d' % (partition, offset)
            time.sleep(0.1)

    def exact(what):
        c.wait_for("SELECT count(*) FROM (TABLE left_half UNION ALL TABLE right_half) u", str(sent[0]), 30)
        tap.same(c.psql("SELECT count(*), count(DISTINCT id) FROM (TABLE left_half UNION ALL TABLE right_half) u"), [(str(sent[0]),) * 2], what)

    produce(400)
    create(c, 'left', 'halves', 'left_half', options % '0-1')
    create(c, 'right', 'halves', 'right_half', options % '2-3')
    exact('each reads its part')
    tap.same((shares(c, 'left'), shares(c, 'right')), ({0: ('owned', 1), 1: ('owned', 1)}, {2: ('owned', 1), 3: ('owned', 1)}), 'partitions that nobody had')
    tap.same({k.decode().rsplit('/', 1)[0].count('/') for _, _, k, _ in kafka.read_all('halves-control')}, {5}, 'the control topic is made, its keys are topic/partition/identity')

    c.psql("SELECT millrace.take_partitions('right', '{1}')")
    told(c, 'right', 'is held by')
    tap.same(shares(c, 'right')[1], ('taking', 0), 'what another holds is waited for')
    produce(400)
    exact('and not read twice')
    c.psql("SELECT millrace.release_partitions('left', '{1}')")
    holds(c, 'right', [1])
    produce(400)
    exact('handed over')
    tap.same((shares(c, 'left')[1], shares(c, 'right')[1]), (('released', 1), ('owned', 2)), 'with epochs')

    # left dies: its offset is 300 and is told wrong, too old, then right
    spoken(0, sent[0] // 4)
    c.psql("SELECT millrace.pause_source('left')")
    offset = int(c.value("SELECT next_offset FROM millrace.partition_offsets('left') WHERE partition = 0"))
    c.psql(f"SELECT millrace.take_over('right', '{{0}}', '{{{offset - 1}}}')")
    told(c, 'right', 'ask the copy again')
    c.psql(f"SELECT millrace.take_over('right', '{{0}}', '{{{offset}}}')")
    holds(c, 'right', [0])
    produce(400)
    exact('taken over')
    c.psql("SELECT millrace.resume_source('left')")
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'left'", 'halted')
    tap.ok('partition 0 was taken over by' in c.value("SELECT reason FROM millrace.sources WHERE name = 'left'"), 'who returns halts with the reason')
    tap.same(c.psql("SELECT state, doubled, missing FROM millrace.source_shares WHERE source = 'left' AND partition = 0"), [('lost', None, None)], 'nothing is doubled or missing')
    c.psql("SELECT millrace.resume_source('left')")
    time.sleep(1)
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'left'", 'halted')
    produce(400)
    exact('and stays fenced')

    # right is alive: nobody takes from it
    c.psql("SELECT millrace.take_over('left', '{0}', accept_duplicates => true)")
    told(c, 'left', 'has not been silent')
    time.sleep(5)
    tap.same((shares(c, 'left')[0][0], shares(c, 'right')[0][0]), ('taking', 'owned'), 'from one that lives nothing is taken')
    c.psql("SELECT millrace.release_partitions('right', '{0}')")
    holds(c, 'left', [0])
    produce(400)
    exact('but what it releases')

    # without its offset: what was committed after its last word is doubled, and told
    sent[0] += 400
    kafka.produce('halves', [(i % 4, None, b'{"id": %d}' % i) for i in range(sent[0] - 400, sent[0])])
    c.wait_for("SELECT count(*) FROM right_half WHERE source_partition = 2", str(sent[0] // 4))
    c.psql("SELECT millrace.pause_source('right')")
    stopped = int(c.value("SELECT next_offset FROM millrace.partition_offsets('right') WHERE partition = 2"))
    start = last_word(2)
    doubled = '[%d,%d)' % (start, stopped) if start < stopped else None
    c.psql("SELECT millrace.take_over('left', '{2}', accept_duplicates => true)")
    holds(c, 'left', [2])
    tap.same(c.psql("SELECT start_offset, doubled FROM millrace.source_shares WHERE source = 'left' AND partition = 2"), [(str(start), '[%d,)' % start)],
             'accept_duplicates begins at the last word, and tells from where on may be doubled')
    c.psql("SELECT millrace.resume_source('right')")
    c.wait_for("SELECT state FROM millrace.source_shares WHERE source = 'right' AND partition = 2", 'lost')
    tap.same(c.value("SELECT doubled FROM millrace.source_shares WHERE source = 'right' AND partition = 2"), doubled, 'who returns tells which are: %s' % doubled)
    c.psql("DELETE FROM right_half USING millrace.source_shares s WHERE s.source = 'right' AND s.partition = source_partition AND source_offset <@ s.doubled")
    produce(400)
    exact('without those nothing is doubled, and nothing missing')

    # what others say: judged by epoch, then by the order of the log; what is no word of the protocol is passed over
    def say(partition, owner, **word):
        key = b'halves/%d/%s' % (partition, owner)
        word = {'epoch': 1, 'claim': -1, 'start': 0, 'next': 0, 'lease_ms': 2000, 'nonce': 1, 'state': 'owned', **word}
        kafka.produce('halves-control', [(0, key, json.dumps(word).encode())])
    mine, epoch = next((o, int(e)) for o, e in c.psql("SELECT identity, epoch FROM millrace.source_shares WHERE source = 'right' AND partition = 3"))
    kafka.produce('halves-control', [(0, b'halves/3/x', b'{"epoch": 99'), (0, b'halves/3/x', None), (0, b'halves/x', b'\xff'), (0, b'halves/3/x', b'\xff\x00')])
    say(3, b'1/2/3/1/other', epoch=epoch)
    say(3, b'1/2/3/1/zombie', epoch=epoch - 1, next=10**12)
    produce(400)
    exact('a second claim of an epoch, a lower one and noise change nothing')
    say(3, b'1/2/3/1/other', epoch=epoch + 1, start=10**6, next=10**6)
    c.wait_for("SELECT state FROM millrace.source_shares WHERE source = 'right' AND partition = 3", 'lost', 10)
    tap.ok(True, 'a higher epoch ends an owner that lives')
    c.psql(f"SELECT millrace.take_over('right', '{{3}}', array_agg(next_offset)) FROM millrace.partition_offsets('right') WHERE partition = 3")
    told(c, 'right', 'too old')
    say(3, b'1/2/3/1/other', epoch=epoch + 2, state='released', start=0, next=int(c.value("SELECT next_offset FROM millrace.partition_offsets('right') WHERE partition = 3")))
    holds(c, 'right', [3])
    produce(400)
    exact('released, it is taken back')

    # two at once
    c.psql("SELECT millrace.release_partitions('right', '{1, 3}')")
    c.psql("SELECT millrace.pause_source('left')")
    at = c.value("SELECT next_offset FROM millrace.partition_offsets('left') WHERE partition = 0")
    c.psql('SET ROLE app; CREATE TABLE third (LIKE left_half)')
    create(c, 'third', 'halves', 'third', options % '1,3')
    holds(c, 'third', [1, 3])
    for name in ('right', 'third'):
        c.psql(f"SELECT millrace.take_over('{name}', '{{0}}', '{{{at}}}')")
    # lost, or, if it came when the other had begun (a slow machine), waiting for that one to be silent
    c.wait_for("SELECT count(*) FROM millrace.source_shares o JOIN millrace.source_shares s USING (partition) WHERE partition = 0 AND o.state = 'owned' AND "
               "o.source <> 'left' AND s.source NOT IN ('left', o.source) AND (s.state = 'lost' OR (s.state = 'taking' AND position(o.identity IN s.reason) > 0))", '1', 30)
    tap.ok(True, 'of two that take the same partition one has it, and the other is told so')

    if not FULL:
        return
    # a topic that forgets is refused; one that was made anew halts
    kafka.create_topic('forgets', 1)
    create(c, 'forgetful', 'halves', 'third', '{"partitions": [], "control_topic": "forgets"}')
    reason(c, 'forgetful', 'cleanup.policy is "delete"')
    c.psql("SELECT millrace.drop_source('forgetful'), millrace.drop_source('left'), millrace.drop_source('right')")
    kafka.delete_topic('halves-control')
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'third'", 'halted', 60)
    tap.ok('knows nothing' in c.value("SELECT reason FROM millrace.sources WHERE name = 'third'"), 'a control topic that was made anew halts')
    c.psql("SELECT millrace.take_over('third', array_agg(partition), array_agg(next_offset)) FROM millrace.partition_offsets('third') WHERE state = 'lost'")
    holds(c, 'third', [1, 3])
    tap.ok(True, 'until its offsets are given again')


def zombie(c, kafka):
    """A worker that is stopped within its transaction, for longer than its lease, commits nothing when it goes on after somebody took over."""
    c.psql("""SET ROLE app; CREATE TABLE slow (id int, source_partition int, source_offset bigint); CREATE TABLE quick (LIKE slow);
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(max(-id)) FROM fresh WHERE id < 0; RETURN NULL; END $$;
        CREATE TRIGGER dawdle AFTER INSERT ON slow REFERENCING NEW TABLE AS fresh EXECUTE FUNCTION dawdle()""")
    kafka.create_topic('zombie', 1)
    options = '{"partitions": "%s", "control_topic": "zombie-control", "lease_ms": 2000}'
    create(c, 'slow', 'zombie', 'slow', options % '0')
    create(c, 'quick', 'zombie', 'quick', options % '')
    holds(c, 'slow', [0])
    kafka.produce('zombie', [(0, None, b'{"id": -4}')])
    c.wait_for('SELECT count(*) FROM slow', '1', 30)
    tap.ok(True, 'a batch that takes longer than the lease is committed when nobody took over')
    kafka.freeze()
    time.sleep(4)
    reason(c, 'slow', 'does not answer')
    kafka.thaw()
    kafka.produce('zombie', [(0, None, b'{"id": 1}')])
    c.wait_for('SELECT count(*) FROM slow', '2', 60)
    tap.ok(True, 'without the control topic the lease runs out, which is told; with it it is taken up again')

    kafka.produce('zombie', [(0, None, b'{"id": -1}'), (0, None, b'{"id": 2}')])
    c.wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'millrace source' AND wait_event = 'PgSleep')", 't', every=0.02)
    pid = int(c.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace source' AND wait_event = 'PgSleep'"))
    os.kill(pid, signal.SIGSTOP)
    c.psql("SELECT millrace.take_over('quick', array_agg(partition), array_agg(next_offset)) FROM millrace.partition_offsets('slow')")
    holds(c, 'quick', [0], 60)
    c.wait_for('SELECT count(*) FROM quick', '2', 30)
    os.kill(pid, signal.SIGCONT)
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'slow'", 'halted')
    tap.same(c.psql('SELECT id FROM slow UNION ALL SELECT id FROM quick ORDER BY 1'), [('-4',), ('-1',), ('1',), ('2',)], 'the zombie commits nothing')
    tap.same(c.psql("SELECT doubled, missing FROM millrace.source_shares WHERE source = 'slow'"), [(None, None)], 'and knows it')

    # the same source made anew on the same server
    c.psql("SELECT millrace.drop_source('quick')")
    create(c, 'quick', 'zombie', 'quick', options % '0')
    told(c, 'quick', 'or the source made anew')
    c.psql("SELECT millrace.take_over('quick', '{0}', '{4}')")
    holds(c, 'quick', [0])
    kafka.produce('zombie', [(0, None, b'{"id": 3}')])
    c.wait_for('SELECT count(*) FROM quick', '3')
    tap.ok(True, 'a source made anew takes over from itself')


# -- three servers ----------------------------------------------------------

class Feed(threading.Thread):
    """Messages with rising ids to all partitions, until it is told to stop; sent is how many brokers have."""

    def __init__(self, kafka, topic, partitions, rate):
        super().__init__(daemon=True)
        self.kafka, self.topic, self.partitions, self.rate = kafka, topic, partitions, rate
        self.over, self.sent, self.failed = threading.Event(), 0, 0
        self.ends = [0] * partitions
        self.start()

    def delivered(self, error, message):
        if error:
            self.failed += 1
        else:
            self.sent += 1
            self.ends[message.partition()] += 1

    def run(self):
        producer, n, rng = self.kafka.producer(), 0, random.Random(6)
        while not self.over.is_set():
            for _ in range(self.rate // 20):
                producer.produce(self.topic, b'{"id": %d}' % n, partition=rng.randrange(self.partitions), on_delivery=self.delivered)
                n += 1
            producer.poll(0)
            time.sleep(0.05)
        producer.flush(60)

    def stop(self):
        self.over.set()
        self.join(90)
        assert not self.failed and not self.is_alive()
        return self.sent


def family(pid):
    """A process and all below it."""
    children = {}
    for d in os.listdir('/proc'):
        if d.isdigit():
            try:
                with open(f'/proc/{d}/stat') as f:
                    children.setdefault(int(f.read().rsplit(')', 1)[1].split()[1]), []).append(int(d))
            except OSError:
                pass
    out = [pid]
    for p in out:
        out += children.get(p, [])
    return out


def signal_all(pids, number):
    for p in pids:
        try:
            os.kill(p, number)
        except ProcessLookupError:
            pass


def copy_of(c, path):
    """The disk of a server that does not run, in a server of its own that reads no topic: to ask it for its offsets."""
    other = Cluster(c.bin / 'pg_config', path, conf={**c.conf, 'millrace.workers': 'off', 'synchronous_standby_names': ''})
    other.destroy()
    other._own(other.path)
    subprocess.run(['cp', '-a', c.data, other.data], check=True)
    (other.data / 'postmaster.pid').unlink(missing_ok=True)
    other.write_conf()
    other.start()
    return other


def foreign(c, name, other, drop=False):
    """Table and offsets of another server, by postgres_fdw."""
    if drop:
        c.psql(f"ALTER SERVER {name} OPTIONS (SET host '{other.sockets}', SET port '{other.port}')")
        return
    c.psql(f"""CREATE EXTENSION IF NOT EXISTS postgres_fdw;
        CREATE SERVER {name} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{other.sockets}', port '{other.port}', dbname 'postgres');
        CREATE USER MAPPING FOR CURRENT_USER SERVER {name} OPTIONS (user 'postgres');
        CREATE FOREIGN TABLE item_{name} (id bigint, source_partition int, source_offset bigint) SERVER {name} OPTIONS (table_name 'item');
        CREATE FOREIGN TABLE offsets_{name} (source text, partition int, next_offset bigint) SERVER {name} OPTIONS (schema_name 'millrace', table_name 'source_offsets');""")


def sources(c):
    return [int(p) for p, in c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace source'")]


def churn(kafka, live, lease, rounds):
    """Partitions go back and forth between servers whose workers are killed and stopped; what they tell as doubled."""
    rng, done, told_of = random.Random(11), collections.Counter(), set()

    def owned(server):
        return [p for p, (state, _) in shares(server, 'items').items() if state == 'owned']

    for i in range(rounds):
        what = rng.choice(['hand', 'hand', 'kill', 'term', 'stop', 'zombie', 'zombie', 'freeze'])
        one, other = rng.sample(live, 2)
        parts = owned(one)
        some = rng.sample(parts, min(len(parts), rng.choice([1, 2, 5])))
        listed = ','.join(map(str, some))
        done[what] += 1
        if what == 'hand' and some:
            one.psql(f"SELECT * FROM millrace.release_partitions('items', '{{{listed}}}')")
            other.psql(f"SELECT millrace.take_partitions('items', '{{{listed}}}')")
            holds(other, 'items', some, 60)
        elif what in ('kill', 'term'):
            signal_all(sources(one)[:1], signal.SIGKILL if what == 'kill' else signal.SIGTERM)
            one.wait_for('SELECT 1', '1', 60)
        elif what == 'stop':
            pids = sources(one)
            signal_all(pids, signal.SIGSTOP)
            time.sleep(lease * 1.7 / 1000)
            signal_all(pids, signal.SIGCONT)
        elif what == 'zombie' and some:
            pids = sources(one)
            signal_all(pids, signal.SIGSTOP)
            other.psql("SELECT millrace.take_over('items', '{%s}', '{%s}')" % tuple(','.join(c) for c in zip(*one.psql(
                f"SELECT partition, next_offset FROM millrace.partition_offsets('items') WHERE partition IN ({listed})"))))
            holds(other, 'items', some, 60)
            signal_all(pids, signal.SIGCONT)
            one.wait_for(f"SELECT count(*) FROM millrace.source_shares WHERE source = 'items' AND state = 'lost' AND partition IN ({listed})", str(len(some)), 60)
            told_of |= {(p, str(o)) for p, low, high in one.psql("SELECT partition, lower(doubled), upper(doubled) FROM millrace.source_shares "
                                                                 f"WHERE source = 'items' AND doubled IS NOT NULL AND partition IN ({listed})") for o in range(int(low), int(high))}
        elif what == 'freeze':
            kafka.freeze()
            time.sleep(rng.uniform(0.2, 2 * lease / 1000))
            kafka.thaw()
    tap.ok(sorted(sum((owned(s) for s in live), [])) == list(range(12)), 'each partition has one owner; faults: %s' % dict(done))
    return told_of


def servers(first, kafka):
    """Twelve partitions, three servers; one hands over, one dies and returns, one is stopped past its lease and goes on."""
    lease = 4000 if FULL else 2000
    where = folder('stream_share')
    kafka.create_topic('items', 12)
    with contextlib.ExitStack() as stack:
        a = first
        b, c = (stack.enter_context(Cluster(a.bin / 'pg_config', where / n, conf=a.conf)) for n in 'bc')
        for server in (b, c):
            prepare(server, kafka)
        a.psql('GRANT CREATE ON SCHEMA public TO app')
        for server, part in ((a, '0-3'), (b, '4-7'), (c, '8-11')):
            server.psql('SET ROLE app; CREATE TABLE item (id bigint, source_partition int, source_offset bigint)')
            create(server, 'items', 'items', 'item', '{"partitions": "%s", "control_topic": "items-control", "lease_ms": %d, "workers": 2}' % (part, lease))
        standby = a.standby(where / 'standby', conf={'hot_standby': 'on'})
        stack.callback(standby.destroy)
        standby.start()
        a.psql("ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()")
        a.wait_for("SELECT sync_state FROM pg_stat_replication", 'sync')
        foreign(b, 'a', a)
        foreign(b, 'c', c)
        b.psql("CREATE VIEW items AS SELECT 'a' AS server, * FROM item_a UNION ALL SELECT 'b', * FROM item UNION ALL SELECT 'c', * FROM item_c")
        holds(a, 'items', range(0, 4))
        holds(b, 'items', range(4, 8))
        holds(c, 'items', range(8, 12))
        feed = Feed(kafka, 'items', 12, 3000 if FULL else 1000)
        time.sleep(2)

        # hand-over under load
        b.psql("SELECT * FROM millrace.release_partitions('items', '{6, 7}')")
        c.psql("SELECT millrace.take_partitions('items', '{6, 7}')")
        holds(c, 'items', range(6, 12))
        tap.ok(True, 'two partitions are handed over under load')
        time.sleep(2)

        # a dies at once, with all its processes
        dead = family(a.postmaster_pid())
        signal_all(dead, signal.SIGSTOP)        # so that none sees another die
        signal_all(dead, signal.SIGKILL)
        standby.wait_for("SELECT coalesce(pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn(), true) AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver)", 't')
        foreign(b, 'a', standby, True)
        b.psql("SELECT millrace.take_over('items', array_agg(partition), array_agg(next_offset)) FROM offsets_a WHERE source = 'items' AND partition = 0")
        offset = standby.value("SELECT next_offset FROM millrace.partition_offsets('items') WHERE partition = 1")
        c.psql(f"SELECT millrace.take_over('items', '{{1}}', '{{{offset}}}')")
        holds(b, 'items', [0], 60)
        holds(c, 'items', [1], 60)
        tap.ok(True, 'two partitions of a dead server are taken over with the offsets of its standby')
        standby.promote()
        standby.wait_for("SELECT count(*) FROM millrace.source_shares WHERE source = 'items' AND state = 'owned' AND epoch = 2", '2', 60)
        standby.wait_for("SELECT count(*) FROM millrace.source_shares WHERE source = 'items' AND state = 'lost'", '2')
        tap.same(standby.psql("SELECT partition, state, epoch FROM millrace.source_shares WHERE source = 'items' ORDER BY 1"), [('0', 'lost', '1'), ('1', 'lost', '1'), ('2', 'owned', '2'), ('3', 'owned', '2')],
                 'its standby, promoted, goes on with the others by itself')

        # a comes back
        a.conf['synchronous_standby_names'] = ''
        (a.data / 'postgresql.auto.conf').write_text('')
        a.start()
        a.wait_for("SELECT state FROM millrace.sources WHERE name = 'items'", 'halted', 60)
        tap.same(a.psql("SELECT DISTINCT state FROM millrace.source_shares WHERE source = 'items'"), [('lost',)], 'the dead server returns, halts with the reason: %s' % a.value("SELECT reason FROM millrace.sources WHERE name = 'items'"))
        starts = {p: int(o) for server, p in ((b, 0), (c, 1), (standby, 2), (standby, 3))
                  for o, in server.psql(f"SELECT start_offset FROM millrace.source_shares WHERE source = 'items' AND partition = {p}")}
        tap.same(a.psql("SELECT partition, doubled, missing FROM millrace.source_shares WHERE source = 'items' ORDER BY 1"),
                 [(p, f'[{starts[int(p)]},{o})' if int(o) > starts[int(p)] else None, None) for p, o in a.psql("SELECT partition, next_offset FROM millrace.partition_offsets('items')")],
                 'and tells what it has that its standby never confirmed')
        rows = a.value('SELECT count(*) FROM item')
        a.psql("SELECT millrace.resume_source('items')")
        time.sleep(2)
        a.wait_for("SELECT state FROM millrace.sources WHERE name = 'items'", 'halted', 60)
        tap.same(a.value('SELECT count(*) FROM item'), rows, 'and stays fenced')

        # c is stopped for longer than its lease, all of it, and what it had is taken by the offsets on its disk
        stopped = family(c.postmaster_pid())
        signal_all(stopped, signal.SIGSTOP)
        disk = copy_of(c, where / 'disk')
        stack.callback(disk.destroy)
        offsets = dict(disk.psql("SELECT partition, next_offset FROM millrace.partition_offsets('items') WHERE state = 'owned'"))
        for server, parts in ((b, (1, 6, 7, 8)), (standby, (9, 10, 11))):
            server.psql("SELECT millrace.take_over('items', '{%s}', '{%s}')" % (','.join(map(str, parts)), ','.join(offsets[str(p)] for p in parts)))
        holds(b, 'items', [1, 6, 7, 8], 60)
        holds(standby, 'items', [9, 10, 11], 60)
        tap.ok(True, 'partitions of a stopped server are taken over with the offsets on its disk')
        time.sleep(1)
        signal_all(stopped, signal.SIGCONT)
        c.wait_for("SELECT state FROM millrace.sources WHERE name = 'items'", 'halted', 60)
        tap.same(c.value("SELECT count(*) FROM millrace.source_shares WHERE source = 'items' AND state = 'lost'"), '7', 'it goes on, and is fenced')

        told_of = c.psql("SELECT i.source_partition, i.source_offset FROM item i JOIN millrace.source_shares s ON s.source = 'items' AND s.partition = i.source_partition AND i.source_offset <@ s.doubled")

        # and gets work again
        b.psql("SELECT * FROM millrace.release_partitions('items', '{4}')")
        c.psql("SELECT millrace.take_partitions('items', '{4}')")
        holds(c, 'items', [4])
        churned = churn(kafka, (standby, b, c), lease, 40 if FULL else 0)
        sent = feed.stop()
        offsets_now = {}
        end = time.monotonic() + 90
        while sum(offsets_now.values()) < sent and time.monotonic() < end:
            offsets_now = {int(p): int(o) for server in (standby, b, c) for p, o in
                           server.psql("SELECT partition, next_offset FROM millrace.partition_offsets('items') WHERE state = 'owned'")}
            time.sleep(0.2)
        tap.same([offsets_now.get(p) for p in range(12)], feed.ends, 'every partition is read to its end')
        doubled = b.psql("SELECT source_partition, source_offset FROM items GROUP BY 1, 2 HAVING count(*) > 1")
        told_of += sorted(churned)
        tap.same(sorted(doubled), sorted(told_of), 'what a stopped server committed after its last look at the clock is told (%d)' % len(told_of))
        tap.same(b.psql("SELECT count(DISTINCT id), count(DISTINCT (source_partition, source_offset)), count(*) FROM items"), [(str(sent), str(sent), str(sent + len(told_of)))],
                 'the union over all servers: %d messages, none lost, none twice' % sent)
        tap.note(b.psql("SELECT server, count(*) FROM items GROUP BY 1 ORDER BY 1"))


def main():
    run('stream_share', (alone, protocol, zombie, servers), killed=True)


if __name__ == '__main__':
    main()
