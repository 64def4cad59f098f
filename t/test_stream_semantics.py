"""What Kafka may do to a topic under a reader: transactions, compaction, retention, topics made anew, other clusters, logs
that lose their end.  Gaps in offsets are no loss; where messages are lost, or others stand in their place, the source
halts and says so, whether its worker runs at that time, waits or is paused."""
# lane: waits
# timeout: 900
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.kafka import Kafka, free_port
from lib.stream import caught_up, cluster, create, folder, gone, prepare, reason, worker_pids

SETTINGS = {'log.retention.check.interval.ms': '300', 'log.cleaner.backoff.ms': '200', 'log.segment.delete.delay.ms': '100',
            'transaction.remove.expired.transaction.cleanup.interval.ms': '10000'}


def numbered(ids, partition=0):
    return [(partition, None, b'{"id": %d}' % i) for i in ids]


def table(c, name, columns='id int'):
    c.psql(f'SET ROLE app; CREATE TABLE {name} ({columns})')


def ids(c, name):
    return [int(r[0]) for r in c.psql(f'SELECT id FROM {name} ORDER BY id')]


def halted(c, name, part):
    """The source halts, for a reason with this in it; the reason."""
    reason(c, name, part, 90)
    c.wait_for(f"SELECT state FROM millrace.sources WHERE name = '{name}'", 'halted')
    return c.value(f"SELECT reason FROM millrace.sources WHERE name = '{name}'")


def halted_or_not(c, name, part):
    try:
        return halted(c, name, part)
    except AssertionError:
        tap.note(c.psql(f"SELECT state, reason FROM millrace.source_status WHERE name = '{name}'"))
        tap.note(ids(c, name)[-100:])


def pause(c, name):
    pids = worker_pids(c, name)
    c.psql(f"SELECT millrace.pause_source('{name}')")
    gone(c, pids)


# ---- transactions

def transactions(c, kafka):
    """Two transactional producers and one without transactions, interleaved in one partition."""
    kafka.create_topic('txn', 1)
    c.psql(f"CREATE SERVER dirty FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}', isolation_level 'read_uncommitted'); GRANT USAGE ON FOREIGN SERVER dirty TO app")
    table(c, 'clean', 'id int, source_offset bigint')
    table(c, 'dirty', 'id int, source_offset bigint')
    create(c, 'clean', 'txn', 'clean')
    c.psql("SELECT millrace.create_source('dirty', 'dirty', 'txn', 'dirty', '{\"owner\": \"app\"}')")
    plain = kafka.producer()
    pair = [kafka.producer(**{'transactional.id': 'pair-%d' % i, 'linger.ms': 0}) for i in range(2)]
    for p in pair:
        p.init_transactions(30)
    n, committed = 0, []
    for turn in range(12):
        for p in pair:
            p.begin_transaction()
        mine = ([], [])
        for k in range(30):
            if k % 3 == 2:
                plain.produce('txn', b'{"id": %d}' % n, partition=0)
                plain.flush()
                committed.append(n)
            else:
                pair[k % 3].produce('txn', b'{"id": %d}' % n, partition=0)
                pair[k % 3].flush()
                mine[k % 3].append(n)
            n += 1
        for i, p in enumerate(pair):
            if (turn >> i) & 1:
                p.commit_transaction(30)
                committed += mine[i]
            else:
                p.abort_transaction(30)
    end = n + 24                                    # a marker for each transaction
    caught_up(c, 'clean', end)
    caught_up(c, 'dirty', end)
    tap.same(ids(c, 'clean'), sorted(committed), 'read_committed: what was committed, and what was in no transaction')
    tap.same(ids(c, 'dirty'), list(range(n)), 'read_uncommitted: every message')
    for name, isolation in (('clean', 'read_committed'), ('dirty', 'read_uncommitted')):
        tap.same([int(r[0]) for r in c.psql(f'SELECT source_offset FROM {name} ORDER BY 1')], sorted(m[1] for m in kafka.read_all('txn', isolation)), f'{name}: the offsets that another reader sees')
    tap.same(c.psql("SELECT name, messages_behind FROM millrace.source_status WHERE name IN ('clean', 'dirty') ORDER BY 1"), [('clean', '0'), ('dirty', '0')], 'markers are no lag')

    # An open transaction holds back everything behind it.
    before = len(committed)
    pair[0].begin_transaction()
    pair[0].produce('txn', b'{"id": 1000}', partition=0)
    pair[0].flush()
    kafka.produce('txn', numbered(range(1001, 1101)), plain)
    c.wait_for("SELECT count(*) FROM dirty WHERE id >= 1000", '101')
    tap.same(c.value('SELECT count(*) FROM clean'), str(before), 'read_committed waits for an open transaction')
    c.wait_for("SELECT messages_behind FROM millrace.source_status WHERE name = 'clean'", '101', 20)
    tap.ok(True, 'and shows what it is behind')
    c.wait_for("SELECT reason LIKE '%a Kafka transaction that is open' FROM millrace.source_status WHERE name = 'clean'", 't', 40)
    tap.ok(True, 'and why')
    pids = worker_pids(c, 'clean')
    os.kill(pids[0], signal.SIGTERM)
    gone(c, pids)
    pair[0].abort_transaction(30)
    caught_up(c, 'clean', end + 102)
    tap.same([i for i in ids(c, 'clean') if i >= 1000], list(range(1001, 1101)), 'goes on when it ends, a restart in between')
    c.wait_for("SELECT reason IS NULL AND state = 'running' FROM millrace.source_workers WHERE source = 'clean'")

    # One whose producer died: the broker ends it after its timeout.
    dead = kafka.producer(**{'transactional.id': 'dead', 'transaction.timeout.ms': 5000, 'linger.ms': 0})
    dead.init_transactions(30)
    dead.begin_transaction()
    dead.produce('txn', b'{"id": 2000}', partition=0)
    dead.flush()
    kafka.produce('txn', numbered([2001]), plain)
    c.wait_for('SELECT count(*) FROM clean WHERE id >= 2000', '1', 60)
    tap.same([i for i in ids(c, 'clean') if i >= 2000], [2001], 'a transaction nobody ends is ended by the broker')


# ---- gaps

def compaction(c, kafka):
    kafka.create_topic('compact', 1, {'cleanup.policy': 'compact', 'segment.bytes': '1000', 'min.cleanable.dirty.ratio': '0.01', 'delete.retention.ms': '100', 'max.compaction.lag.ms': '500'})
    producer = kafka.producer(**{'linger.ms': 0, 'batch.size': 1})
    table(c, 'compact', 'k text PRIMARY KEY, v int, source_offset bigint')
    create(c, 'compact', 'compact', 'compact', '{"on_conflict": "update", "key_format": "text", "tombstones": "delete", "columns": {"$key": "k"}}')
    state = {}

    def write(first, n):
        messages = []
        for i in range(first, first + n):
            k = b'key-%d' % (i % 7)
            value = None if i % 11 == 3 else b'{"v": %d}' % i
            state[k.decode()] = None if value is None else i
            messages.append((0, k, value))
        kafka.produce('compact', messages, producer)

    def compacted(less_than):
        end = time.monotonic() + 60
        while len(kafka.read_all('compact')) >= less_than:
            if time.monotonic() > end:
                raise AssertionError('the cleaner did nothing within 60 s')
            time.sleep(0.5)

    def now():
        return {k: int(v) for k, v in c.psql('SELECT k, v FROM compact')}

    write(0, 300)
    caught_up(c, 'compact', 300)
    tap.same(now(), {k: v for k, v in state.items() if v is not None}, 'keys with their last values')
    pause(c, 'compact')
    last = int(c.value("SELECT last_offset FROM millrace.source_offsets WHERE source = 'compact'"))
    write(300, 300)
    compacted(150)
    tap.ok(last not in {m[1] for m in kafka.read_all('compact')}, 'the message that was read last was compacted away')
    c.psql("SELECT millrace.resume_source('compact')")
    caught_up(c, 'compact', 600)
    tap.same(now(), {k: v for k, v in state.items() if v is not None}, 'and reading goes on behind it, over the gaps')

    # A new source over what the cleaner left.
    table(c, 'left_over', 'v int, source_key text, source_offset bigint')
    create(c, 'left_over', 'compact', 'left_over')
    caught_up(c, 'left_over', 600)
    kept = [m for m in kafka.read_all('compact') if m[3] is not None]
    tap.same(c.psql('SELECT source_offset, source_key, v FROM left_over ORDER BY 1'), [(str(m[1]), m[2].decode(), m[3].decode().split(':')[1].strip(' }')) for m in kept], 'gaps in offsets are no loss')
    tap.same(c.psql("SELECT next_offset, high_watermark FROM millrace.source_offsets WHERE source = 'left_over'"), [('600', '600')], 'and no lag')


# ---- what is no longer there

def retention(c, kafka):
    """Segments that the broker drops before they are read, by age; a worker paused and one that runs but does not get to it."""
    kafka.create_topic('aged', 1, {'segment.bytes': '2000', 'retention.ms': '-1'})
    producer = kafka.producer(**{'linger.ms': 0, 'batch.size': 1})
    table(c, 'aged')
    kafka.produce('aged', numbered(range(50)), producer)
    create(c, 'aged', 'aged', 'aged')
    caught_up(c, 'aged', 50)
    pause(c, 'aged')
    kafka.produce('aged', numbered(range(50, 200)), producer)
    set_config(kafka, 'aged', 'retention.ms', '1')
    low = wait_low(kafka, 'aged', 51)
    set_config(kafka, 'aged', 'retention.ms', '-1')
    low = wait_low(kafka, 'aged', low)
    c.psql("SELECT millrace.resume_source('aged')")
    told = halted(c, 'aged', 'keeps only those from')
    tap.ok('offset 50 ' in told and 'partition 0' in told and 'from %d on' % low in told, 'retention past our offset halts the source: ' + told)
    c.psql("SELECT millrace.resume_source('aged')")
    halted(c, 'aged', 'keeps only those from %d on' % low)
    tap.same(ids(c, 'aged'), list(range(50)), 'resume_source alone does not step over it')
    c.psql(f"SELECT millrace.rewind_source('aged', to_offset => {low})")
    kafka.produce('aged', numbered(range(200, 210)), producer)
    caught_up(c, 'aged', 210)
    tap.same(ids(c, 'aged'), list(range(50)) + list(range(low, 210)), 'rewind_source does: the rest, each once')

    # DeleteRecords before our offset takes nothing; behind it, under a worker that cannot keep up, it does.
    kafka.delete_records('aged', 0, 205)
    kafka.produce('aged', numbered([210]), producer)
    caught_up(c, 'aged', 211)
    pid = worker_pids(c, 'aged')[0]
    os.kill(pid, signal.SIGSTOP)
    kafka.produce('aged', numbered(range(211, 251)), producer)
    kafka.delete_records('aged', 0, 241)
    os.kill(pid, signal.SIGCONT)
    told = halted(c, 'aged', 'keeps only those from 241 on')
    read = [i for i in ids(c, 'aged') if i > 210]           # what the broker was about to send
    tap.ok(f'offset {211 + len(read)} ' in told and read == list(range(211, 211 + len(read))), 'DeleteRecords under a worker that runs halts it, too: ' + told)


def set_config(kafka, topic, name, value):
    from confluent_kafka.admin import ConfigResource, ConfigEntry, AlterConfigOpType
    admin = kafka.admin()
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    for f in admin.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])]).values():
        f.result(30)


def wait_low(kafka, topic, at_least, timeout=60):
    """First offset kept, once it is at_least that and has stood still for a second."""
    from confluent_kafka import Consumer, TopicPartition
    reader = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'low', 'log_level': 0})
    end, before, since = time.monotonic() + timeout, -1, 0
    try:
        while time.monotonic() < end:
            low = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[0]
            if low != before:
                before, since = low, time.monotonic()
            if low >= at_least and time.monotonic() - since > 1:
                return low
            time.sleep(0.1)
    finally:
        reader.close()
    raise AssertionError(f'{topic} still begins at {before}, not at {at_least}')


# ---- other messages in their place

def anew(c, kafka):
    """A topic deleted and made again: shorter than we had read, as long, longer; its worker paused, idle, stopped."""
    for size in (0, 20, 50, 80):
        for how in ('paused', 'running', 'stopped'):
            name = f'anew_{how}_{size}'
            kafka.create_topic(name, 1)
            kafka.produce(name, numbered(range(50)))
            table(c, name)
            create(c, name, name, name)
            caught_up(c, name, 50)
            pid = worker_pids(c, name)[0]
            if how == 'paused':
                pause(c, name)
            elif how == 'stopped':
                os.kill(pid, signal.SIGSTOP)
            kafka.delete_topic(name)
            kafka_create_again(kafka, name)
            if size:
                kafka.produce(name, numbered(range(1000, 1000 + size)))
            if how == 'paused':
                c.psql(f"SELECT millrace.resume_source('{name}')")
            elif how == 'stopped':
                os.kill(pid, signal.SIGCONT)
            told = halted_or_not(c, name, 'anew')
            tap.ok(told and ids(c, name) == list(range(50)), f'{size} messages where 50 had been read, worker {how}: {told}')
    c.psql("SELECT millrace.rewind_source('anew_paused_80', to_offset => 0)")
    caught_up(c, 'anew_paused_80', 80)
    tap.same(ids(c, 'anew_paused_80'), list(range(50)) + list(range(1000, 1080)), 'rewind_source reads the new topic')


def kafka_create_again(kafka, name, timeout=30):
    """As soon as the broker lets us."""
    end = time.monotonic() + timeout
    while True:
        try:
            return kafka.create_topic(name, 1)
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def other_cluster(c, kafka):
    """Behind the same address another cluster answers, with a longer topic of the same name."""
    port = (free_port(), free_port())
    where = os.path.join(folder('stream_semantics'), 'other')
    first = Kafka(os.path.join(where, 'first'), heap='256m', port=port[0])
    second = Kafka(os.path.join(where, 'second'), heap='256m', port=port[0], cluster='YW5vdGhlci1jbHVzdGVyMQ')
    with first:
        first.create_topic('moved', 1)
        first.produce('moved', numbered(range(50)))
        c.psql(f"CREATE SERVER moving FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{first.bootstrap}'); GRANT USAGE ON FOREIGN SERVER moving TO app")
        for name in ('live', 'resting'):
            table(c, name)
            c.psql(f"SELECT millrace.create_source('{name}', 'moving', 'moved', '{name}', '{{\"owner\": \"app\"}}')")
            caught_up(c, name, 50)
        pause(c, 'resting')
        first.stop()
        with second:
            second.create_topic('moved', 1)
            second.produce('moved', numbered(range(1000, 1100)))
            c.psql("SELECT millrace.resume_source('resting')")
            for name in ('live', 'resting'):
                told = halted(c, name, 'belong to Kafka cluster')
                tap.ok('YW5vdGhlci1jbHVzdGVyMQ' in told and 'bWlsbHJhY2UtdGVzdC0wMQ' in told and ids(c, name) == list(range(50)), f'{name}: another cluster halts the source, and names both')
        first.start()
        first.produce('moved', numbered(range(50, 60)))
        for name in ('live', 'resting'):
            c.psql(f"SELECT millrace.resume_source('{name}')")
            caught_up(c, name, 60)
            tap.same(ids(c, name), list(range(60)), f'{name}: the right one again, resume_source goes on where it was')


def unclean(c, kafka):
    """A leader dies with messages that the follower, elected uncleanly, never had; that one goes on with others."""
    where = os.path.join(folder('stream_semantics'), 'three')
    vote = free_port()
    common = {'controller.quorum.voters': '1@127.0.0.1:%d' % vote, 'unclean.leader.election.enable': 'true', 'min.insync.replicas': '1',
              'replica.lag.time.max.ms': '2000', 'broker.session.timeout.ms': '3000', 'broker.heartbeat.interval.ms': '500'}
    nodes = [Kafka(os.path.join(where, 'n%d' % i), heap='384m') for i in (1, 2, 3)]
    nodes[0].controller = vote
    for i, n in enumerate(nodes):
        n.settings.update(common)
        if i:
            n.settings.update({'process.roles': 'broker', 'node.id': str(i + 1), 'listeners': 'CLIENT://127.0.0.1:%d' % n.port})
    with nodes[0] as one, nodes[1] as two, nodes[2] as three:
        from confluent_kafka.admin import NewTopic
        admin = one.admin()
        for name in ('short', 'long'):
            admin.create_topics([NewTopic(name, 1, replica_assignment=[[2, 3]])])[name].result(30)
        time.sleep(1)
        brokers = ','.join(n.bootstrap for n in nodes)
        c.psql(f"CREATE SERVER three FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{brokers}'); GRANT USAGE ON FOREIGN SERVER three TO app")
        for name in ('short', 'long'):
            one.produce(name, numbered(range(50)))
            table(c, name)
            c.psql(f"SELECT millrace.create_source('{name}', 'three', '{name}', '{name}', '{{\"owner\": \"app\"}}')")
            caught_up(c, name, 50)
        three.stop()
        for name in ('short', 'long'):
            one.produce(name, numbered(range(50, 100)))
            caught_up(c, name, 100)
        two.kill()
        three.start()
        # `short` now ends at 50; `long` has other messages at 50 .. 149
        end = time.monotonic() + 60
        while True:
            try:
                one.produce('long', numbered(range(1050, 1150)))
                break
            except RuntimeError:
                if time.monotonic() > end:
                    raise
        for name in ('short', 'long'):
            told = halted_or_not(c, name, 'truncated')
            tap.ok(told and ids(c, name) == list(range(100)), f'{name}: an unclean election that lost messages halts the source: {told}')


# ---- size

def large(c, kafka):
    kafka.create_topic('big', 1)
    table(c, 'big', 'id int, body text')
    body = 'x' * 5_001_000
    kafka.produce('big', [(0, b'the key', b'{"id": %d, "body": "%s"}' % (i, body[:n].encode()), [('h', b'v')]) for i, n in enumerate((5_000_000, 10, 4_999_000, 5_000_100, 10))])
    create(c, 'big', 'big', 'big', '{"max_message_bytes": 5000100}')
    caught_up(c, 'big', 5)
    tap.same(c.psql('SELECT id, length(body) FROM big ORDER BY 1'), [('0', '5000000'), ('1', '10'), ('2', '4999000'), ('4', '10')], 'messages of 5 MB')
    tap.same(c.psql("SELECT \"offset\", convert_from(key, 'UTF8'), headers::text, value, ts IS NOT NULL, sqlstate, error LIKE 'message of 5000121 bytes%' FROM millrace.dead_letters WHERE source = 'big'"),
             [('3', 'the key', '[{"key": "h", "value": "v"}]', None, 't', '54000', 't')], 'one above max_message_bytes is a dead letter: place, key, headers, time, size, and no bytes')


# ---- more partitions

BACKLOG = 6000


def grow_begin(c, kafka):
    """A source that never gets to the end of what is there.  Messages are taken as they arrive: 10 kB each, so that one fetch of the
    first partition, which those of new ones may come behind, is a hundred of them."""
    kafka.create_topic('grow', 1)
    table(c, 'grow', 'id int, source_partition int')
    c.psql('CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$; CREATE TRIGGER slow AFTER INSERT ON grow EXECUTE FUNCTION slow()')
    kafka.produce('grow', [(0, None, b'{"id": %d, "rest": "%s"}' % (i, b'x' * 10000)) for i in range(BACKLOG)])
    create(c, 'grow', 'grow', 'grow', '{"batch_rows": 10}')
    caught_up(c, 'grow', 10)
    kafka.add_partitions('grow', 3)
    time.sleep(1)
    kafka.produce('grow', numbered(range(200000, 200010), 1) + numbered(range(200010, 200020), 2), kafka.producer())


def grow_end(c, kafka):
    c.wait_for('SELECT count(*) FROM grow WHERE source_partition > 0', '20', 60)
    tap.ok(int(c.value('SELECT count(*) FROM grow WHERE source_partition = 0')) < BACKLOG, 'partitions added are picked up by a worker that is never idle')
    tap.same(c.value('SELECT count(*) - count(DISTINCT id) FROM grow'), '0', 'and nothing comes twice for it')


def main():
    tests = (transactions, compaction, retention, anew, large, other_cluster, unclean)
    chosen = [t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
    with cluster('stream_semantics', {'max_worker_processes': 64}) as c, Kafka(folder('stream_semantics'), settings=SETTINGS) as kafka:
        prepare(c, kafka)
        grows = len(sys.argv) < 2 or 'grow' in sys.argv[1:]
        if grows:
            grow_begin(c, kafka)
        for test in chosen:
            test(c, kafka)
        if grows:
            grow_end(c, kafka)
        bad = [l for l in c.logs().splitlines() if 'terminated by signal' in l or 'PANIC' in l or 'WARNING' in l]
        tap.same(bad[:3], [], 'no warning, no crash in the log')
    tap.done()


if __name__ == '__main__':
    main()
