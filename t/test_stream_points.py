"""One fault at one place each, and what must hold after it: the places where mistakes have been made in other systems.

    python t/test_stream_points.py [part …]
    MILLRACE_WORKER_LIBRARY=path      # another workers' library: t/mutants.py has them fail here
"""
# lane: waits
# timeout: 600
import contextlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.faults import World, eventually, library
from lib.httpstub import Stub
from lib.kafka import Kafka
from lib.oracle import read_partition
from lib.stream import caught_up, cluster, create, folder, prepare

PARTS = []


def part(f):
    PARTS.append(f)
    return f


def source(c, kafka, name, partitions=1, options='{}'):
    kafka.create_topic(name, partitions)
    c.psql(f"""SET ROLE app; CREATE TABLE {name} (n int, source_partition int, source_offset bigint);""")
    create(c, name, name, name, options)
    return World(c, kafka, None, 'source', name)


def send(kafka, topic, numbers, partition=0):
    kafka.produce(topic, [(partition, None, b'{"n": %d}' % n) for n in numbers])


def numbers(c, table):
    return [int(n) for n, in c.psql(f'SELECT n FROM {table} ORDER BY 1')]


@part
def places(c, kafka):
    """A worker is killed at each place of a batch."""
    w = source(c, kafka, 'places')
    sent = 0
    caught_up(c, 'places', 0)
    for point in ('before_fence', 'after_fence', 'before_insert', 'after_insert', 'before_commit', 'after_commit'):
        eventually('there is a worker', lambda: w.pids('source'))
        mark = c.log_mark()
        w.arm('source.' + point, 'kill')
        send(kafka, 'places', range(sent, sent + 50))
        sent += 50
        w.killed.add(eventually('somebody reaches ' + point, lambda: w.fired('source.' + point), 30))
        eventually('the server noticed', lambda: 'was terminated by signal 9' in c.logs_since(mark), 30)
        w.up()
        caught_up(c, 'places', sent)
    tap.same(numbers(c, 'places'), list(range(sent)), 'killed at each place of a batch: every message once')
    tap.same(w.unplanned_deaths(), [], 'and nobody else died')


@part
def restarts(c, kafka):
    """A worker that starts looks at the message read last, which must not become a row again."""
    w = source(c, kafka, 'restarts')
    for i in range(4):
        send(kafka, 'restarts', range(20 * i, 20 * i + 20))
        caught_up(c, 'restarts', 20 * i + 20)
        pid = eventually('there is a worker', lambda: w.pids('source'))[0]
        os.kill(pid, signal.SIGTERM)
        eventually('it is gone', lambda: pid not in w.pids('source'))
    send(kafka, 'restarts', [80])
    caught_up(c, 'restarts', 81)
    tap.same(numbers(c, 'restarts'), list(range(81)), 'restarted between messages: every message once')


@part
def aborted(c, kafka):
    """Messages of a Kafka transaction that was aborted never arrive, those behind it do."""
    source(c, kafka, 'aborted')
    producer = kafka.producer(**{'transactional.id': 'aborted'})
    producer.init_transactions(30)
    for keep in (True, False, True, False):
        producer.begin_transaction()
        for n in range(10):
            producer.produce('aborted', b'{"n": %d}' % (n if keep else 100 + n), partition=0)
        producer.flush(30)
        time.sleep(0.5)             # an uncommitted reader would have them by now
        producer.commit_transaction(30) if keep else producer.abort_transaction(30)
    send(kafka, 'aborted', [99])
    eventually('the last is there', lambda: c.value('SELECT count(*) FROM aborted WHERE n = 99') == '1')
    tap.same(numbers(c, 'aborted'), sorted(list(range(10)) * 2 + [99]), 'nothing of an aborted Kafka transaction')


@part
def paused(c, kafka):
    """When pause_source has answered nothing more is committed, even by a worker that hears of it late."""
    w = source(c, kafka, 'paused')
    send(kafka, 'paused', range(10))
    caught_up(c, 'paused', 10)
    supervisor = w.pids('supervisor')[0]
    w.arm('source.before_fence', 'sleep 4000')
    send(kafka, 'paused', range(10, 20))
    eventually('a batch stands before its fence', lambda: w.fired('source.before_fence'))
    os.kill(supervisor, signal.SIGSTOP)         # nobody tells the worker
    try:
        c.psql("SELECT millrace.pause_source('paused')")
        before = numbers(c, 'paused')
        time.sleep(5)
        tap.same(numbers(c, 'paused'), before, 'nothing is committed after pause_source has answered')
    finally:
        os.kill(supervisor, signal.SIGCONT)
    c.psql("SELECT millrace.resume_source('paused')")
    caught_up(c, 'paused', 20)
    tap.same(numbers(c, 'paused'), list(range(20)), 'resumed: every message once')


@part
def full(c, kafka):
    """A full disk is waited out and makes no dead letters; among messages that are refused, too, which are inserted in pieces."""
    source(c, kafka, 'filled', options='{"max_dead_percent": 100}')
    c.psql("""SET ROLE app; ALTER TABLE filled ADD CHECK (n < 50 OR n % 10 <> 3);
        CREATE TABLE disk (space bool); INSERT INTO disk VALUES (false);
        CREATE FUNCTION write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NOT (SELECT space FROM disk) THEN
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END IF; RETURN NULL; END $$;
        CREATE TRIGGER write AFTER INSERT ON filled EXECUTE FUNCTION write()""")
    good, sent = [], 0
    for n in (50, 500, 500):
        c.psql('UPDATE disk SET space = false', user='app')
        send(kafka, 'filled', range(sent, sent + n))
        good += [i for i in range(sent, sent + n) if i < 50 or i % 10 != 3]
        sent += n
        time.sleep(3)
        c.psql('UPDATE disk SET space = true', user='app')
        caught_up(c, 'filled', sent, 20)
    tap.same((numbers(c, 'filled'), c.value("SELECT count(*) FROM millrace.dead_letters WHERE source = 'filled'")), (good, str(sent - len(good))), 'a full disk makes no dead letters')
    tap.same([line for line in c.logs().splitlines() if 'unexpected state' in line], [], 'and leaves no transaction half done')


# ---- the outbox

def outbox(c):
    if c.value("SELECT count(*) FROM millrace.outboxes") == '0':
        c.psql("SELECT millrace.create_outbox('k', '{\"owner\": \"app\"}')")
    return World(c, None, None, 'outbox')


def drained(c, timeout=90):
    c.wait_for("SELECT waiting = 0 AND confirmed FROM millrace.outbox_status s JOIN millrace.outbox_progress p USING (server) WHERE server = 'k'", 't', timeout)


def values(kafka, topic):
    return [v.decode() for _, _, v in read_partition(kafka, topic, 0)]


@part
def late(c, kafka):
    """A transaction that commits late has lower ids than what has left."""
    import psycopg
    kafka.create_topic('late', 1)
    outbox(c)
    with psycopg.connect(c.dsn()) as slow:
        slow.execute("SELECT millrace.publish('k', 'late', 'slow')")
        c.psql("SELECT millrace.publish('k', 'late', 'quick')")
        drained(c)
        slow.commit()
    with contextlib.suppress(AssertionError):
        eventually('it has left', lambda: len(values(kafka, 'late')) >= 2, 20)
    tap.same(values(kafka, 'late'), ['quick', 'slow'], 'what is committed late leaves late, and is not forgotten')


@part
def killed(c, kafka):
    """The outbox's worker is killed at each place of a batch."""
    kafka.create_topic('killed', 1)
    w = outbox(c)
    sent = 0
    for point in ('claimed', 'after_claim', 'begin', 'half', 'produced', 'after_commit'):
        eventually('there is a worker', lambda: w.pids('outbox'))
        mark = c.log_mark()
        w.arm('outbox.' + point, 'kill')
        with contextlib.suppress(SqlError):     # it is committed when the worker hears of it, and may not have been told so
            c.psql(f"SELECT millrace.publish('k', 'killed', g::text) FROM generate_series({sent}, {sent + 9}) g")
        sent += 10
        w.killed.add(eventually('somebody reaches ' + point, lambda: w.fired('outbox.' + point), 30))
        eventually('the server noticed', lambda: 'was terminated by signal 9' in c.logs_since(mark), 30)
        w.up()
        drained(c)
    tap.same(values(kafka, 'killed'), [str(n) for n in range(sent)], 'killed at each place of a batch: every message once, in order')


@part
def unflushed(c, kafka):
    """With synchronous_commit = off a crash undoes transactions that others have seen: none of them may have left."""
    kafka.create_topic('unflushed', 1)
    outbox(c)
    c.psql("CREATE TABLE said (n int)")
    c.psql("ALTER SYSTEM SET synchronous_commit = off; ALTER SYSTEM SET wal_writer_delay = '10s'; ALTER SYSTEM SET wal_writer_flush_after = '1GB'; SELECT pg_reload_conf()")
    try:
        for n in range(4):
            time.sleep(0.5)
            c.psql(f"INSERT INTO said VALUES ({n}); SELECT millrace.publish('k', 'unflushed', '{n}')")
            with contextlib.suppress(AssertionError):
                eventually('it has left', lambda: str(n) in values(kafka, 'unflushed'), 20)
            c.stop('immediate')
            c.start()
    finally:
        c.psql("ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()")
    told = sorted(values(kafka, 'unflushed'))
    tap.same(told, [str(n) for n in numbers(c, 'said')], 'no message of a transaction that a crash has undone')


@part
def failover(c, kafka):
    """A standby is promoted while the old server's worker stands in the middle of a Kafka transaction, and then goes on."""
    kafka.create_topic('failover', 1)
    w = outbox(c)
    c.psql("SELECT millrace.publish('k', 'failover', 'first')")
    drained(c)
    other = c.standby(folder('stream_points') / 'standby')
    other.start()
    try:
        World(other, None, None, 'outbox').arm('outbox.after_progress', 'sleep 8000')
        w.arm('outbox.half', 'stop')
        c.psql("SELECT millrace.publish('k', 'failover', g::text) FROM generate_series(1, 1000) g")
        old = eventually('the old worker stands', lambda: w.fired('outbox.half'), 30)
        at = c.value('SELECT pg_current_wal_flush_lsn()')
        other.wait_for(f"SELECT pg_last_wal_replay_lsn() >= '{at}'", 't', 30)
        other.promote()
        new = World(other, None, None, 'outbox')
        eventually('the new worker has read the progress', lambda: new.fired('outbox.after_progress'), 60)
        os.kill(old, signal.SIGCONT)            # what it now does must come to nothing
        drained(other, 120)
        time.sleep(2)
        got = values(kafka, 'failover')
        tap.same((len(got), sorted(set(got), key=str) == sorted(['first'] + [str(g) for g in range(1, 1001)], key=str)), (1001, True),
                 'the old server\'s worker is fenced: every message once')
        c.psql("SELECT millrace.pause_outbox('k')")
    finally:
        other.destroy()


# ---- requests over HTTP

@part
def token(c, kafka):
    """A request's answer comes to a worker from whom the queue has been taken: it is dropped, and the request made again."""
    with Stub() as stub:
        w = World(c, None, None, 'http')
        c.psql(f"""CREATE SERVER h FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url '{stub.url}', allow_private 'true');
            GRANT USAGE ON FOREIGN SERVER h TO app; GRANT millrace_user TO app;
            SET ROLE app; CREATE TABLE told (tag text);
            CREATE FUNCTION told(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void LANGUAGE sql
                AS 'INSERT INTO told SELECT unnest(tags)';""")
        w.arm('http.finished', 'sleep 3000')
        c.psql("SELECT millrace.fetch_object('h', 'bucket/ok-10/a', 'public.told', 'a')", user='app')
        eventually('the answer is there', lambda: w.fired('http.finished'), 60)
        # What a worker does that takes over: the rest of it is not to be seen from here.
        c.psql('UPDATE millrace.http_progress SET epoch = epoch + 1; UPDATE millrace.http_requests r SET epoch = p.epoch FROM millrace.http_progress p WHERE p.queue = r.queue')
        c.wait_for('SELECT count(*) FROM millrace.http_requests', '0', 60)
        tap.same((c.value('SELECT count(*) FROM told'), len(stub.calls('/bucket/ok-10/a'))), ('1', 2), 'one result, of the second call: the first answer came to a worker that no longer held the queue')


@part
def recipes(c, kafka):
    """The mutants can still be made."""
    import mutants
    tap.same(mutants.misfits(), [], 'each of t/mutants.py fits its source')


def main():
    place = folder('stream_points')
    conf = {'restart_after_crash': 'on', 'wal_level': 'replica', 'max_wal_senders': 4, **library(place)}
    with cluster('stream_points', conf) as c, Kafka(place) as kafka:
        prepare(c, kafka)
        for f in PARTS:
            if len(sys.argv) < 2 or f.__name__ in sys.argv[1:]:
                f(c, kafka)
    tap.done()


if __name__ == '__main__':
    main()
