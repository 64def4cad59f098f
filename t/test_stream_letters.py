"""Dead letters beyond the table: their copies in a topic with Kafka Connect's headers, once whatever is killed; quotas and the error rate
at which a source halts, and what it says; values of many megabytes."""
# timeout: 600
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.stream import caught_up, create, reason, run

CONNECT = '__connect.errors.'


def read(kafka, topic, timeout=60):
    """Every committed message of a topic, headers and time too, by a reader that is not ours."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition
    c = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'letters', 'enable.auto.commit': False, 'isolation.level': 'read_committed',
                  'enable.partition.eof': True, 'auto.offset.reset': 'earliest', 'log_level': 0})
    todo = set(c.list_topics(topic, timeout=10).topics[topic].partitions)
    c.assign([TopicPartition(topic, p, 0) for p in todo])
    out, end = [], time.monotonic() + timeout
    while todo and time.monotonic() < end:
        for m in c.consume(1000, 0.5):
            if not m.error():
                out.append(m)
            elif m.error().code() == KafkaError._PARTITION_EOF:
                todo.discard(m.partition())
    c.close()
    return out


def left(c, server='k'):
    """Wait until the outbox is empty."""
    c.wait_for(f"SELECT waiting FROM millrace.outbox_status WHERE server = '{server}'", '0', 60)


def state(c, name):
    return c.psql(f"SELECT state, sqlstate, reason FROM millrace.sources WHERE name = '{name}'")[0]


def number(c, name):
    return int(c.value(f"SELECT count(*) FROM millrace.dead_letters WHERE source = '{name}'"))


def topic(c, kafka):
    """Copies: what they say, what they hold, and that there is one of each."""
    c.psql("GRANT millrace_user TO app; SELECT millrace.create_outbox('k', '{\"owner\": \"app\"}')")
    c.psql("""SET ROLE app; CREATE TABLE tall (id int PRIMARY KEY, v varchar(5), n int CHECK (n > 0));
        CREATE FUNCTION shorten(t tall) RETURNS tall LANGUAGE plpgsql AS $$ BEGIN
            IF t.n = 99 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN t; END $$;""")
    kafka.create_topic('tall')
    kafka.create_topic('tall-dead', 2)
    headers = [('trace', b'17'), ('twice', b'1'), ('twice', b'\x00\xff'), ('none', None), ('empty', b'')]
    sent = [(0, b'k0', b'{"id": 0, "n": 1}', headers), (0, b'\x00\xffk', b'{"id": 1, "v": "much too long"}', headers), (0, b'k2', b'{"id": 2, "n": 0}', headers),
            (0, b'k3', b'{"id": 3, "n": 99}', headers), (0, None, None, headers), (0, b'k5', b'{"id": 5, "n": 1, "v": "%s"}' % (b'x' * 70000), headers), (0, b'k6', b'\xff\xfe', None)]
    kafka.produce('tall', sent)
    create(c, 'tall', 'tall', 'tall', '{"dead_letter_topic": "tall-dead", "tombstones": "dead_letter", "max_message_bytes": 65536, "transform": "shorten"}')
    caught_up(c, 'tall', len(sent))
    left(c)
    got = sorted(read(kafka, 'tall-dead'), key=lambda m: int(dict(m.headers())[CONNECT + 'offset']))
    tap.same([int(dict(m.headers())[CONNECT + 'offset']) for m in got], [1, 2, 3, 4, 5, 6], 'each dead letter has one copy')
    tap.same([(m.key(), m.value()) for m in got], [(s[1], s[2] if len(s[2] or b'') < 65536 else None) for s in sent[1:]], 'key and value byte for byte; one too large to keep without its value')
    names = ['topic', 'partition', 'offset', 'connector.name', 'task.id', 'stage', 'class.name', 'exception.class.name', 'exception.message', 'exception.stacktrace']
    tap.same([n for n, _ in got[0].headers()][:10], [CONNECT + n for n in names], "headers of Kafka Connect's names, in its order")
    tap.same([[v.decode() for _, v in m.headers()[:8]] for m in got],
             [['tall', '0', '1', 'tall', '0', 'VALUE_CONVERTER', 'json', '22001'], ['tall', '0', '2', 'tall', '0', 'TASK_PUT', 'public.tall', '23514'],
              ['tall', '0', '3', 'tall', '0', 'TRANSFORMATION', 'public.shorten(public.tall)', 'P0001'], ['tall', '0', '4', 'tall', '0', 'VALUE_CONVERTER', 'json', '22004'],
              ['tall', '0', '5', 'tall', '0', 'VALUE_CONVERTER', 'json', '54000'], ['tall', '0', '6', 'tall', '0', 'VALUE_CONVERTER', 'json', '22021']], 'with where it came from and what failed')
    tap.same((dict(got[2].headers())[CONNECT + 'exception.message'], b'PL/pgSQL function' in dict(got[2].headers())[CONNECT + 'exception.stacktrace']), (b'not this one', True), 'message and context')
    tap.same([m.headers()[-5:] for m in got[:5]], [headers] * 5, "behind them the message's own, repeated and empty ones too")
    tap.same([dict(m.headers()).get('__millrace.errors.value.omitted') for m in got], [None] * 4 + [b'%d' % len(sent[5][2]), None], 'a value that is left out is told from a tombstone')
    times = dict(c.psql("SELECT \"offset\", (extract(epoch FROM ts) * 1000)::bigint FROM millrace.dead_letters WHERE source = 'tall'"))
    tap.same([str(m.timestamp()[1]) for m in got], [times[str(i)] for i in range(1, 7)], 'and its time')
    c.psql('SET ROLE app; ALTER TABLE tall DROP CONSTRAINT tall_n_check')
    c.psql("SELECT millrace.redrive_dead_letters('tall')")
    c.wait_for("SELECT NOT EXISTS (SELECT FROM millrace.dead_letters WHERE redrive_at IS NOT NULL)")
    left(c)
    tap.same((number(c, 'tall'), len(read(kafka, 'tall-dead'))), (5, 6), 'a letter that is redriven is not withdrawn, one that fails again is not sent again')

    # The topic's own bound: the copy goes without its value.
    c.psql("SELECT millrace.alter_source('tall', '{\"max_message_bytes\": 10000000, \"dead_letter_topic\": \"small-dead\"}')")
    kafka.create_topic('small-dead', 1, {'max.message.bytes': '100000'})
    big = b'{"id": 7, "v": "%s"}' % os.urandom(1000000).hex().encode()       # no compression makes it small
    kafka.produce('tall', [(0, b'big', big), (0, b'next', b'no JSON')])
    caught_up(c, 'tall', len(sent) + 2)
    left(c)
    tap.same([(m.key(), m.value(), dict(m.headers()).get('__millrace.errors.value.omitted')) for m in read(kafka, 'small-dead')], [(b'big', None, b'%d' % len(big)), (b'next', b'no JSON', None)],
             'too large for the topic: it leaves without its value, and says so')
    tap.same(c.psql("SELECT shortened, value, error LIKE '%too large%' FROM millrace.outbox_dead_letters"), [('t', None, 't')], 'which outbox_dead_letters tells')

    # Another server; without the right nothing is lost.
    c.psql(f"""CREATE SERVER k2 FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); GRANT USAGE ON FOREIGN SERVER k2 TO app;
        SELECT millrace.create_outbox('k2', '{{"owner": "app"}}'); SELECT millrace.alter_source('tall', '{{"dead_letter_server": "k2"}}');
        REVOKE USAGE ON FOREIGN SERVER k2 FROM app""")
    kafka.produce('tall', [(0, b'waits', b'no JSON')])
    reason(c, 'tall', 'permission denied for foreign server k2')
    c.psql('GRANT USAGE ON FOREIGN SERVER k2 TO app')
    caught_up(c, 'tall', len(sent) + 3, 90)
    left(c, 'k2')
    tap.same([m.key() for m in read(kafka, 'small-dead')][2:], [b'waits'], 'without the right to publish it waits, with it it goes on')


def up(c):
    """SIGKILL restarts the server: until it answers."""
    time.sleep(0.5)
    end = time.monotonic() + 60
    while True:
        try:
            return c.value('SELECT 1')
        except SqlError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def killed(c, kafka):
    """Workers of source and outbox are killed: each letter's copy is there once."""
    n = 6000
    c.psql('SET ROLE app; CREATE TABLE struck (id int PRIMARY KEY)')
    kafka.create_topic('struck', 2)
    kafka.create_topic('struck-dead')
    create(c, 'struck', 'struck', 'struck', '{"dead_letter_topic": "struck-dead", "batch_rows": 50, "workers": 2, "max_dead_percent": 100}')
    for i in range(4):
        kafka.produce('struck', [(k % 2, b'%d' % k, b'{"id": %d}' % k if k % 3 else b'bad') for k in range(i * n // 4, (i + 1) * n // 4)])
        pids = [int(r[0]) for r in c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type IN ('millrace source', 'millrace outbox') ORDER BY random() LIMIT 1")]
        for pid in pids:
            os.kill(pid, signal.SIGTERM if i % 2 else signal.SIGKILL)
        up(c)
    caught_up(c, 'struck', n, 60)
    left(c)
    keys = [int(m.key()) for m in read(kafka, 'struck-dead')]
    tap.same((len(keys), sorted(set(keys)) == list(range(0, n, 3)), int(c.value('SELECT count(*) FROM struck'))), (n // 3, True, n - n // 3), 'after kills every letter has one copy, every row is there')


def rates(c, kafka):
    """max_dead_percent over dead_window, whatever the batch; then a fresh window."""
    c.psql('SET ROLE app; CREATE TABLE rated (id int)')
    for rows in (1, 7, 500, 100000):
        name = 'rated%d' % rows
        kafka.create_topic(name)
        kafka.produce(name, [(0, None, b'{"id": %d}' % i if i % 4 else b'bad %d' % i) for i in range(600)] + [(0, None, b'worse')] * 400 + [(0, None, b'{"id": 1}')] * 100)
        create(c, name, name, 'rated', '{"max_dead_percent": 50, "dead_window": 100, "batch_rows": %d}' % rows)
        c.wait_for(f"SELECT state FROM millrace.sources WHERE name = '{name}'", 'halted', 60)
        got, sqlstate, why = state(c, name)
        # Of 100 messages 25 are dead, then all: past 50 with the 34th of those, for a quarter of those that leave the window was dead too.
        at = int(c.value(f"SELECT sum(next_offset) FROM millrace.source_offsets WHERE source = '{name}'"))
        window = [i % 4 == 0 if i < 600 else True for i in range(1000)]
        first = next(i for i in range(1000) if sum(window[max(0, i - 99):i + 1]) > 50)
        tap.same((sqlstate, at, number(c, name)), ('53400', first + 1, 150 + first + 1 - 600), f'batches of {rows}: halted by the very message that exceeded the rate')
        if rows == 7:
            tap.ok(all(part in why for part in ('51 of the last 100 messages', 'max_dead_percent (50)', 'dead_window (100)', '22P02: invalid JSON', "dead_letters where source = 'rated7'", 'resume_source')), 'the reason: ' + why)
            c.psql(f"SELECT millrace.resume_source('{name}')")
            c.wait_for(f"SELECT sum(next_offset) FROM millrace.source_offsets WHERE source = '{name}'", str(at + 51), 60)
            tap.ok(state(c, name)[2].startswith('51 of the last 51 messages'), 'resumed with a fresh window, it goes on, and halts again for what comes then')
            c.psql(f"SELECT millrace.alter_source('{name}', '{{\"max_dead_percent\": 100}}'); SELECT millrace.resume_source('{name}')")
            caught_up(c, name, 1100)
            tap.same(number(c, name), 550, 'with 100 it never does')
            c.psql(f"SELECT millrace.alter_source('{name}', '{{\"max_dead_percent\": 10}}'); SELECT millrace.redrive_dead_letters('{name}')")
            c.wait_for(f"SELECT bool_and(attempts = 1) FROM millrace.dead_letters WHERE source = '{name}'")
            tap.same(state(c, name)[0], 'running', 'letters that fail again when they are redriven do not count')


def quotas(c, kafka):
    """max_dead_letters and max_dead_letter_bytes: the letter that would be one too many is neither written nor passed over."""
    c.psql('SET ROLE app; CREATE TABLE quoted (id int, source_offset bigint, CHECK (id >= 0))')
    kafka.create_topic('quoted')
    kafka.produce('quoted', [(0, b'key', b'{"id": %d}' % i if i % 10 else [b'bad', b'{"id": -1}'][i // 10 % 2]) for i in range(1000)])
    create(c, 'quoted', 'quoted', 'quoted', '{"max_dead_letters": 20}')
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'quoted'", 'halted', 60)
    got, sqlstate, why = state(c, 'quoted')
    tap.same((sqlstate, number(c, 'quoted'), c.psql('SELECT count(*), max(source_offset) FROM quoted')[0], c.value("SELECT next_offset FROM millrace.source_offsets WHERE source = 'quoted'")),
             ('53400', 20, ('180', '199'), '200'), 'all before the letter that is too many is done, and nothing behind it')
    tap.ok(all(part in why for part in ('has 20 dead letters', 'max_dead_letters (20)', '22P02', 'redrive', 'purge_dead_letters', 'alter_source', 'resume_source')), 'the reason: ' + why)
    c.psql("SELECT millrace.resume_source('quoted')")
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'quoted'", 'halted', 60)
    tap.same((number(c, 'quoted'), c.value('SELECT count(*) FROM quoted')), (20, '180'), 'resumed as it is, it halts at the same message')
    c.psql("SELECT millrace.alter_source('quoted', '{\"max_dead_letters\": 30}'); SELECT millrace.resume_source('quoted')")
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'quoted'", 'halted', 60)
    tap.same((number(c, 'quoted'), c.value('SELECT count(*) FROM quoted')), (30, '270'), 'raised')
    c.psql("SELECT millrace.purge_dead_letters('quoted', older_than => '0'); SELECT millrace.resume_source('quoted')")
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'quoted'", 'halted', 60)
    tap.same((number(c, 'quoted'), c.value('SELECT count(*) FROM quoted')), (30, '540'), 'purged')
    c.psql("SET ROLE app; ALTER TABLE quoted DROP CONSTRAINT quoted_id_check")
    c.psql("SELECT millrace.alter_source('quoted', '{\"max_dead_letters\": 35}'); SELECT millrace.redrive_dead_letters('quoted'); SELECT millrace.resume_source('quoted')")
    caught_up(c, 'quoted', 1000)
    tap.same((number(c, 'quoted'), c.psql('SELECT count(*), count(DISTINCT source_offset) FROM quoted')), (35, [('935', '935')]), 'mended and redriven: room for the others; nothing lost but what was purged, nothing twice')

    c.psql("SELECT millrace.create_source('sized', 'k', 'quoted', 'quoted', '{\"owner\": \"app\", \"max_dead_letter_bytes\": 100, \"workers\": 2}')")
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'sized'", 'halted', 60)
    tap.same(c.value("SELECT sum(octet_length(key) + octet_length(value)) FROM millrace.dead_letters WHERE source = 'sized'"), '96', 'bytes of keys and values')
    tap.ok('max_dead_letter_bytes (100)' in state(c, 'sized')[2], 'and which quota it was')


def large(c, kafka):
    """Dead letters of 5 to 16 MB: kept and redriven, or as metadata alone."""
    c.psql('SET ROLE app; CREATE TABLE large (id int PRIMARY KEY, body text, CHECK (length(body) < 100))')
    kafka.create_topic('large', 1, {'max.message.bytes': '20000000'})
    sizes = [5 << 20, 9 << 20, 16000000]
    values = [b'{"id": %d, "body": "%s"}' % (i, b'%d' % i * n) for i, n in enumerate(sizes)]
    for v in values:
        kafka.produce('large', [(0, b'k', v)], kafka.producer(**{'message.max.bytes': 20000000}))
    create(c, 'large', 'large', 'large')
    caught_up(c, 'large', 3, 120)
    tap.same(c.psql("SELECT octet_length(value), value_bytes, sqlstate FROM millrace.dead_letters WHERE source = 'large' ORDER BY id"),
             [(str(len(v)), str(len(v)), '23514') for v in values], 'values of 5 to 16 MB are kept')
    import hashlib
    tap.same([r[0] for r in c.psql("SELECT encode(sha256(value), 'hex') FROM millrace.dead_letters WHERE source = 'large' ORDER BY id")], [hashlib.sha256(v).hexdigest() for v in values], 'byte for byte')
    c.psql('SET ROLE app; ALTER TABLE large DROP CONSTRAINT large_body_check')
    c.psql("SELECT millrace.redrive_dead_letters('large')")
    c.wait_for("SELECT count(*) FROM millrace.dead_letters WHERE source = 'large'", '0', 60)
    tap.same(c.psql('SELECT id, length(body) FROM large ORDER BY 1'), [(str(i), str(n)) for i, n in enumerate(sizes)], 'and redriven')
    c.psql('SET ROLE app; TRUNCATE large; ALTER TABLE large ADD CHECK (length(body) < 100)')
    create(c, 'meta', 'large', 'large', '{"dead_letter_value_bytes": 6000000}')
    caught_up(c, 'meta', 3, 120)
    tap.same(c.psql("SELECT octet_length(value), value_bytes, key FROM millrace.dead_letters WHERE source = 'meta' ORDER BY id"),
             [(str(len(values[0])), str(len(values[0])), '\\x6b')] + [(None, str(len(v)), '\\x6b') for v in values[1:]], 'with dead_letter_value_bytes larger values are not kept')
    tap.same(c.value("SELECT millrace.redrive_dead_letters('meta')"), '1', 'and cannot be redriven')


if __name__ == '__main__':
    run('stream_letters', (topic, killed, rates, quotas, large), {'restart_after_crash': 'on'}, killed=True)
