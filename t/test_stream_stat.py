"""What stat_sources and stat_outbox say is what the tables hold: after dead letters, tombstones passed over and deleting, an error waited out,
redriven letters and workers killed; rates are those of the time; lag tells a transaction that a producer left open."""
# timeout: 600
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, run, worker_pids

TOTALS = ('messages', 'rows', 'dead', 'skipped', 'deleted', 'bytes', 'messages_since')


def stat(c, view, key, name, *columns):
    return dict(zip(columns, c.psql(f"SELECT {', '.join(columns)} FROM millrace.{view} WHERE {key} = '{name}'")[0]))


def sources(c, kafka):
    """Counters against tables, and against what was sent."""
    c.psql("""SET ROLE app; CREATE TABLE counted (id text PRIMARY KEY, v int CHECK (v < 1000)); CREATE TABLE closed ();
        CREATE FUNCTION door() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF to_regclass('public.closed') IS NOT NULL THEN RAISE SQLSTATE '55000' USING MESSAGE = 'counted is closed'; END IF; RETURN NULL; END $$;""")
    kafka.create_topic('counted', 4)
    n = 8000
    sent = []
    for i in range(n):
        key = b'k%d' % (i // 2)
        sent.append((i // 2 % 4, key, None if i % 10 == 9 else b'{"v": "x"}' if i % 10 == 5 else b'{"v": %d}' % (2000 if i % 100 == 1 else i % 100)))
    kafka.produce('counted', sent[:n // 2])
    create(c, 'counted', 'counted', 'counted', '{"workers": 2, "key_format": "text", "on_conflict": "update", "tombstones": "delete", "batch_rows": 300}')
    caught_up(c, 'counted', n // 2)
    c.psql("SET ROLE app; CREATE TRIGGER door AFTER INSERT ON counted EXECUTE FUNCTION door()")
    kafka.produce('counted', sent[n // 2:])
    c.wait_for("SELECT errors_since > 0 AND last_error = 'counted is closed' AND last_error_at > now() - interval '1 minute' FROM millrace.stat_sources WHERE name = 'counted'", 't', 30)
    tap.ok(True, 'an error that is waited out is told')
    c.psql("DROP TABLE closed")
    caught_up(c, 'counted', n)
    dead = sum(v is not None and (b'"x"' in v or b'2000' in v) for _, _, v in sent)
    deleted = sum(v is None for _, _, v in sent)
    size = sum(len(k) + len(v or b'') for _, k, v in sent)
    want = dict(zip(TOTALS, map(str, (n, n - dead - deleted, dead, 0, deleted, size, n))))
    tap.same(stat(c, 'stat_sources', 'name', 'counted', *TOTALS), want, 'totals are what was sent')
    tap.same(c.value("SELECT count(*) FROM millrace.dead_letters WHERE source = 'counted'"), str(dead), 'and what dead_letters holds')
    tap.same(c.value("SELECT sum(rows) FROM millrace.worker_slots() WHERE kind = 'source' AND name = 'counted'"), want['rows'], "and what shared memory's counters say")
    rate, size_, load = (float(x) for x in c.psql("SELECT messages_per_s_1m * extract(epoch FROM greatest(least(now() - since, '70 s'), '1 s')), bytes_per_s_1m / messages_per_s_1m, load_1m FROM millrace.stat_sources WHERE name = 'counted'")[0])
    tap.ok(n * 0.7 < rate < n * 1.4 and abs(size_ - size / n) < 1 and 0 < load < 2, f'rates: {rate:.0f} messages in the last minute, {size_:.1f} bytes each, load {load:.3f}')

    c.psql("SET ROLE app; CREATE TABLE passed (v text)")
    create(c, 'passed', 'counted', 'passed')
    caught_up(c, 'passed', n)
    tap.same(stat(c, 'stat_sources', 'name', 'passed', *TOTALS), {**want, 'rows': str(n - deleted), 'dead': '0', 'skipped': str(deleted), 'deleted': '0'}, 'tombstones passed over')
    c.psql("SELECT millrace.drop_source('passed')")

    c.psql("ALTER TABLE counted DROP CONSTRAINT counted_v_check; SELECT millrace.redrive_dead_letters('counted', overwrite => true)")
    c.wait_for("SELECT NOT EXISTS (SELECT FROM millrace.dead_letters WHERE redrive_at IS NOT NULL)", 't', 30)
    bad = sum(v is not None and b'"x"' in v for _, _, v in sent)
    tap.same(stat(c, 'stat_sources', 'name', 'counted', *TOTALS), {**want, 'rows': str(n - bad - deleted), 'dead': str(bad)}, 'after a redrive: messages are the same, the rows more')
    pids = worker_pids(c, 'counted')
    c.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'millrace source'")
    c.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source' AND pid NOT IN ({', '.join(map(str, pids))})", '2', 30)
    kafka.produce('counted', [(0, b'last', b'{"v": 1}')])
    caught_up(c, 'counted', n + 1)
    tap.same(stat(c, 'stat_sources', 'name', 'counted', 'messages', 'messages_since'), {'messages': str(n + 1), 'messages_since': str(n + 1)}, 'after new workers, too')
    c.restart()
    kafka.produce('counted', [(0, b'last', b'{"v": 2}')])
    caught_up(c, 'counted', n + 2)
    tap.same(stat(c, 'stat_sources', 'name', 'counted', 'messages', 'messages_since'), {'messages': str(n + 2), 'messages_since': '1'}, 'after a restart of the server totals stay, what is counted since begins anew')
    tap.same(c.psql("SELECT workers, workers_min, workers_max, memory_limit, resident_bytes BETWEEN 1000000 AND 200000000 FROM millrace.stat_sources WHERE name = 'counted'"),
             [('2', '2', '2', str(512 << 20), 't')], 'workers and memory')
    tap.same(c.psql("SET ROLE millrace_monitor; SELECT count(*) FROM millrace.stat_sources, millrace.stat_outbox")[-1][0], '0', 'for millrace_monitor')


def hanging(c, kafka):
    """A transaction that its producer leaves open."""
    c.psql("SET ROLE app; CREATE TABLE hanging (i int)")
    kafka.create_topic('hanging')
    producer = kafka.producer(**{'transactional.id': 'hanging', 'transaction.timeout.ms': 200000})
    producer.init_transactions()
    kafka.produce('hanging', [(0, None, b'{"i": %d}' % i) for i in range(10)])
    create(c, 'hanging', 'hanging', 'hanging')
    caught_up(c, 'hanging', 10)
    producer.begin_transaction()
    kafka.produce('hanging', [(0, None, b'{"i": 10}')], producer)
    kafka.produce('hanging', [(0, None, b'{"i": %d}' % i) for i in range(11, 31)])
    c.wait_for("SELECT messages_behind || ' ' || messages_behind_stable FROM millrace.stat_sources WHERE name = 'hanging'", '21 0', 30)
    tap.ok(True, '21 messages behind, of which none may be read')
    producer.commit_transaction()
    c.wait_for("SELECT count(*) FROM hanging", '31', 30)
    c.wait_for("SELECT messages_behind || ' ' || messages_behind_stable FROM millrace.stat_sources WHERE name = 'hanging'", '0 0', 30)
    tap.ok(True, 'and none behind when it has ended')


def outbox(c, kafka):
    kafka.create_topic('out', 2)
    c.psql("GRANT SELECT ON millrace.outboxes TO app; SELECT millrace.create_outbox('k', '{\"owner\": \"app\", \"batch_rows\": 500}')")
    n = 5000
    c.psql(f"SELECT count(millrace.publish('k', 'out', i::text::bytea, 'value'::bytea)) FROM generate_series(1, {n}) i")
    c.wait_for(f"SELECT messages FROM millrace.stat_outbox", str(n), 60)
    size = sum(len(str(i)) + 5 for i in range(1, n + 1))
    tap.same(stat(c, 'stat_outbox', 'server', 'k', 'messages', 'bytes', 'waiting', 'oldest_age', 'dead', 'messages_since'),
             {'messages': str(n), 'bytes': str(size), 'waiting': '0', 'oldest_age': None, 'dead': '0', 'messages_since': str(n)}, 'an outbox: what was published')
    tap.same(len(kafka.read_all('out')), n, 'is what the topic holds')
    tap.same(c.psql("SELECT batches_since >= 10, batch_messages <= 500, messages_per_s_1m > 0, bytes_per_s_1m > messages_per_s_1m, resident_bytes > 1000000 FROM millrace.stat_outbox"),
             [('t',) * 5], 'its rates, batches and memory')
    kafka.freeze()
    c.psql("SELECT millrace.publish('k', 'out', 'k'::bytea, 'v'::bytea)")
    c.wait_for("SELECT waiting = 1 AND oldest_age > '1 s' FROM millrace.stat_outbox", 't', 30)
    kafka.thaw()
    c.wait_for("SELECT waiting || ' ' || messages || ' ' || messages_since FROM millrace.stat_outbox", f'0 {n + 1} {n + 1}', 60)
    tap.ok(True, 'what waits, and how long')


def main():
    run('stream_stat', (sources, hanging, outbox), killed=True)


if __name__ == '__main__':
    main()
