"""Rows leave for Kafka: each committed one once, in order per key, none that was rolled back.  Faults: test_stream_outbox_faults.py."""
# timeout: 600
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.kafka import Kafka
from lib.stream import cluster, folder, literal, prepare

FULL = bool(os.environ.get('MILLRACE_FULL'))


def drained(c, timeout=90):
    c.wait_for("SELECT waiting = 0 AND confirmed FROM millrace.outbox_status s JOIN millrace.outbox_progress p USING (server) WHERE server = 'k'", 't', timeout)


def values(kafka, topic):
    return [(k and k.decode(), v and v.decode()) for _, _, k, v in kafka.read_all(topic)]


def worker(c):
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'outbox' AND state = 'running'", '1', 60)
    return int(c.value("SELECT pid FROM millrace.worker_slots() WHERE kind = 'outbox'") or 0)


def refused(c, sql, state, role='postgres'):
    """A statement fails with this SQLSTATE."""
    out = c.psql(f"""SET ROLE {role}; DO $t$ BEGIN EXECUTE {literal(sql)}; PERFORM set_config('t.state', 'passed', false); EXCEPTION
        WHEN OTHERS THEN PERFORM set_config('t.state', SQLSTATE, false); END $t$; SELECT current_setting('t.state')""")
    tap.same(out[-1][0], state, 'refused: ' + sql)


def basics(c, kafka):
    kafka.create_topic('plain', 3)
    refused(c, "SELECT millrace.publish('k', 'plain', 'too early')", '55000')
    c.psql("SELECT millrace.create_outbox('k', '{\"owner\": \"app\"}')")
    refused(c, "SELECT millrace.create_outbox('k', '{\"owner\": \"app\"}')", '42710')
    refused(c, "SELECT millrace.create_outbox('k', '{\"batch_rows\": 0}')", '22023')
    refused(c, "SELECT millrace.create_outbox('k', '{\"rows\": 5}')", '22023')
    refused(c, "SELECT millrace.publish('k', '', 'x')", '22023')
    refused(c, "SELECT millrace.publish('nowhere', 't', 'x')", '42704')
    refused(c, "SELECT millrace.publish('k', NULL, 'x')", '22004')
    c.psql("CREATE ROLE stranger; GRANT millrace_user TO stranger")
    refused(c, "SELECT millrace.publish('k', 'plain', 'x')", '42501', 'stranger')
    c.psql("""SELECT millrace.publish('k', 'plain', 'café', 'key', '{"trace": "17", "none": null, "n": 3}');
        BEGIN; SELECT millrace.publish('k', 'plain', 'rolled back'); ROLLBACK;
        BEGIN; SELECT millrace.publish('k', 'plain', 'kept', 'key'); SAVEPOINT s; SELECT millrace.publish('k', 'plain', 'undone', 'key'); ROLLBACK TO s;
        SELECT millrace.publish('k', 'plain', NULL::text, 'key'); COMMIT;
        SELECT millrace.publish('k', 'plain', '\\x00ff'::bytea, '\\x01'::bytea);""")
    drained(c)
    got = kafka.read_all('plain')
    tap.same([v for _, _, k, v in got if k == b'key'], ['café'.encode(), b'kept', None], 'committed messages of a key, in order; what was rolled back is not there')
    tap.same([v for _, _, k, v in got if k == b'\x01'], [b'\x00\xff'], 'raw bytes')
    from confluent_kafka import Consumer, TopicPartition
    consumer = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'h', 'log_level': 0})
    place = next((p, o) for p, o, k, v in got if v == 'café'.encode())
    consumer.assign([TopicPartition('plain', *place)])
    m = consumer.consume(1, 20)[0]
    consumer.close()
    tap.same(sorted(m.headers(), key=str), sorted([('trace', b'17'), ('none', None), ('n', b'3')], key=str), 'headers')
    tap.same(abs(m.timestamp()[1] / 1000 - time.time()) < 60, True, 'the time of publishing is the time of the message')
    tap.same(c.psql("SELECT state, waiting, messages, dead FROM millrace.outbox_status"), [('running', '0', '4', '0')], 'outbox_status')


def triggers(c, kafka):
    kafka.create_topic('rows', 1)
    kafka.create_topic('changes', 1)
    c.psql("""SET ROLE app; CREATE TABLE item (id int PRIMARY KEY, name text);
        CREATE TABLE pair (a int, b text, n int, PRIMARY KEY (a, b));""")
    c.psql("GRANT millrace_admin TO app; SET ROLE app; SELECT millrace.publish_changes('item', 'k', 'rows'); SELECT millrace.publish_changes('pair', 'k', 'changes', value => 'change');")
    c.psql("CREATE ROLE writer; GRANT INSERT, UPDATE, DELETE, SELECT ON item TO writer")
    c.psql("SET ROLE writer; INSERT INTO item VALUES (1, 'one'), (2, 'two'); UPDATE item SET name = 'zwei' WHERE id = 2; UPDATE item SET id = 3 WHERE id = 1; DELETE FROM item WHERE id = 2;")
    c.psql("SET ROLE app; INSERT INTO pair VALUES (1, 'x', 1); UPDATE pair SET n = 2, b = 'y'; DELETE FROM pair;")
    drained(c)
    tap.same([(k, v and json.loads(v)) for k, v in values(kafka, 'rows')],
             [('1', {'id': 1, 'name': 'one'}), ('2', {'id': 2, 'name': 'two'}), ('2', {'id': 2, 'name': 'zwei'}), ('1', None), ('3', {'id': 3, 'name': 'one'}), ('2', None)],
             'rows: what changed, a tombstone for a key that went; those who write need no right on the server')
    tap.same([(json.loads(k), json.loads(v)) for k, v in values(kafka, 'changes')],
             [([1, 'x'], {'op': 'c', 'before': None, 'after': {'a': 1, 'b': 'x', 'n': 1}}),
              ([1, 'y'], {'op': 'u', 'before': {'a': 1, 'b': 'x', 'n': 1}, 'after': {'a': 1, 'b': 'y', 'n': 2}}),
              ([1, 'y'], {'op': 'd', 'before': {'a': 1, 'b': 'y', 'n': 2}, 'after': None})], 'changes, of a key of two columns')
    refused(c, "SELECT millrace.publish_changes('item', 'k', 'rows', key => '{nothing}')", '42703')
    refused(c, "SELECT millrace.publish_changes('item', 'k', 'rows', value => 'all')", '22023')
    c.psql("SET ROLE app; SELECT millrace.unpublish_changes('item'); INSERT INTO item VALUES (9, 'silent')")
    drained(c)
    tap.same(len(values(kafka, 'rows')), 6, 'unpublish_changes')


def late_commit(c, kafka):
    """A transaction that commits late has lower ids than what has left: it is not lost."""
    kafka.create_topic('late', 1)
    import psycopg
    with psycopg.connect(c.dsn(), autocommit=False) as slow:
        slow.execute("SELECT millrace.publish('k', 'late', 'slow', 'a')")
        for i in range(5):
            c.psql(f"SELECT millrace.publish('k', 'late', 'quick {i}', 'b')")
            drained(c)
        slow.commit()
    drained(c)
    tap.same([v for k, v in values(kafka, 'late')], ['quick %d' % i for i in range(5)] + ['slow'], 'a late commit leaves late, and once')


def dead(c, kafka):
    kafka.create_topic('small', 1, {'max.message.bytes': '1000'})
    c.psql("""SELECT millrace.publish('k', 'small', 'before', 'a'); SELECT millrace.publish('k', 'small', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i), 'big');
        SELECT millrace.publish('k', 'small', 'after', 'a');""")
    drained(c)
    tap.same([v for k, v in values(kafka, 'small')], ['before', 'after'], 'a message too large for its topic stops nobody')
    tap.same(c.psql("SELECT topic, convert_from(key, 'UTF8'), length(value), error ILIKE '%too large%' FROM millrace.outbox_dead_letters"), [('small', 'big', '32000', 't')], 'it is a dead letter')
    c.psql("SELECT millrace.publish('k', 'none_such', 'waits')")
    c.wait_for("SELECT reason LIKE '%nknown topic%' OR last_error LIKE '%nknown topic%' FROM millrace.outbox_status", 't', 90)
    kafka.create_topic('none_such', 1)
    drained(c)
    tap.same(values(kafka, 'none_such'), [(None, 'waits')], 'a missing topic is waited for')


def lifecycle(c, kafka):
    kafka.create_topic('life', 1)
    pid = worker(c)
    c.psql("SELECT millrace.pause_outbox('k')")
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'outbox'", '0', 20)
    c.psql("SELECT millrace.publish('k', 'life', 'while paused')")
    tap.same(c.psql("SELECT state, reason, waiting FROM millrace.outbox_status"), [('paused', 'paused by a user', '1')], 'paused: messages are kept')
    refused(c, "SELECT millrace.drop_outbox('k')", '55000')
    c.psql("SELECT millrace.resume_outbox('k')")
    drained(c)
    tap.same(values(kafka, 'life'), [(None, 'while paused')], 'resumed')
    tap.same(worker(c) != pid, True, 'by another worker')
    # another server went on under our name: what the topic says does not fit
    c.psql("SELECT millrace.pause_outbox('k')")
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'outbox'", '0', 20)
    c.psql("UPDATE millrace.outbox_progress SET batch = batch - 3")
    c.psql("SELECT millrace.resume_outbox('k')")
    c.wait_for("SELECT state FROM millrace.outbox_status", 'halted', 30)
    tap.same(c.psql("SELECT reason LIKE '%was restored%' FROM millrace.outbox_status"), [('t',)], 'a database behind its progress topic halts')
    c.psql("SELECT millrace.resume_outbox('k', accept_duplicates => true); SELECT millrace.publish('k', 'life', 'again')")
    drained(c)
    tap.same([v for k, v in values(kafka, 'life')], ['while paused', 'again'], 'and goes on when told so')
    c.stop('immediate')
    c.start()
    c.psql("SELECT millrace.publish('k', 'life', 'after a crash')")
    drained(c)
    tap.same([v for k, v in values(kafka, 'life')][-1], 'after a crash', 'after a crash of the server')


def rotation(c, kafka):
    """What has left is emptied, what waits is not, and nobody who publishes waits for it."""
    kafka.create_topic('turn', 1)
    for leaf in (0, 1, 2):
        c.psql(f"INSERT INTO millrace.outbox_{leaf} (leaf, server, topic, value) VALUES ({leaf}, 'k', 'turn', 'x')")
    c.psql("SELECT millrace.publish('k', 'turn', 'wake')")
    drained(c)
    minute = int(time.time() // 60)
    leaf = (minute + 1) % 3
    c.wait_for("SELECT EXISTS (SELECT FROM generate_series(0, 2) g WHERE pg_relation_size('millrace.outbox_' || g) = 0)", 't', 70)
    tap.same(len(values(kafka, 'turn')), 4, 'all left, and a leaf is empty')


def main():
    with Kafka(folder('stream_outbox')) as kafka, cluster('stream_outbox') as c:
        prepare(c, kafka)
        for part in (basics, triggers, late_commit, dead, lifecycle, rotation):
            if part is rotation and not FULL and 'rotation' not in sys.argv:
                continue            # waits for a minute to pass
            if len(sys.argv) < 2 or part is basics or part.__name__ in sys.argv[1:]:
                part(c, kafka)
    tap.done()


if __name__ == '__main__':
    main()
