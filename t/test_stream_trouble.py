"""What happens around a running source: targets altered and dropped, rights revoked, deadlocks, brokers away or frozen,
offsets out of range, topics made anew, partitions added.  Each has a reason in SQL, none loses or doubles a message."""
# timeout: 900
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, gone, reason, run, worker_pids


class Feed:
    """Numbered messages into one topic."""

    def __init__(self, kafka, topic, partitions=1, config=None):
        kafka.create_topic(topic, partitions, config)
        self.kafka, self.topic, self.partitions, self.sent, self.producer = kafka, topic, partitions, 0, kafka.producer()

    def send(self, n, extra=b''):
        self.kafka.produce(self.topic, [(i % self.partitions, None, b'{"id": %d%s}' % (i, extra)) for i in range(self.sent, self.sent + n)], self.producer)
        self.sent += n


def exact(c, table, n, name):
    tap.same(c.psql(f'SELECT count(*), count(DISTINCT id), coalesce(max(id), -1) FROM {table}'), [(str(n), str(n), str(n - 1))], name)


def target(c, kafka):
    feed = Feed(kafka, 'target')
    c.psql('SET ROLE app; CREATE TABLE target (id int)')
    create(c, 'target', 'target', 'target')
    feed.send(100)
    caught_up(c, 'target', feed.sent)
    c.psql('ALTER TABLE target ADD extra text; ALTER TABLE target ADD more int DEFAULT 5')
    feed.send(100, b', "extra": "x"')
    caught_up(c, 'target', feed.sent)
    tap.same(c.psql('SELECT extra, more, count(*) FROM target GROUP BY 1, 2 ORDER BY 3'), [(None, '5', '100'), ('x', '5', '100')], 'a column added while running is filled')
    c.psql('ALTER TABLE target DROP extra; ALTER TABLE target ALTER id TYPE bigint')
    feed.send(100, b', "extra": "x"')
    caught_up(c, 'target', feed.sent)
    exact(c, 'target', 300, 'a column dropped, another retyped: no message lost')
    c.psql('ALTER TABLE target RENAME TO elsewhere')
    feed.send(100)
    reason(c, 'target', 'does not exist')
    c.psql('ALTER TABLE elsewhere RENAME TO target')
    caught_up(c, 'target', feed.sent)
    exact(c, 'target', 400, 'a target that went away is waited for, with the reason in SQL')
    tap.same(c.value("SELECT state FROM millrace.source_workers WHERE source = 'target'"), 'running', 'and the worker says that it runs again')
    c.psql('ALTER TABLE target OWNER TO postgres')
    feed.send(100)
    reason(c, 'target', 'permission denied')
    c.psql('GRANT INSERT ON target TO app')
    caught_up(c, 'target', feed.sent)
    exact(c, 'target', 500, "the owner's right revoked and granted again")
    c.psql('CREATE FUNCTION hostile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE \'ALTER ROLE app SUPERUSER\'; RETURN NULL; END $$; '
           'CREATE TRIGGER hostile AFTER INSERT ON target EXECUTE FUNCTION hostile()')
    feed.send(10)
    reason(c, 'target', 'must be superuser')
    c.psql("DROP TRIGGER hostile ON target; CREATE FUNCTION reset() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; SET SESSION search_path = public; "
           "IF current_user <> 'app' THEN RAISE EXCEPTION 'I am %', current_user; END IF; RETURN NULL; END $$; CREATE TRIGGER reset AFTER INSERT ON target EXECUTE FUNCTION reset()")
    caught_up(c, 'target', feed.sent)
    feed.send(10)
    caught_up(c, 'target', feed.sent)
    exact(c, 'target', 520, 'triggers run as the owner of the source, and cannot become more')
    tap.same(c.value("SELECT count(*) FROM millrace.dead_letters WHERE source = 'target'"), '0', 'none of this made a dead letter')


def deadlock(c, kafka):
    feed = Feed(kafka, 'dead')
    c.psql('SET ROLE app; CREATE TABLE dead (id int); CREATE TABLE other (id int); CREATE FUNCTION second() RETURNS trigger LANGUAGE plpgsql AS '
           '$$ BEGIN PERFORM pg_sleep(0.3); LOCK TABLE other IN ROW EXCLUSIVE MODE; RETURN NULL; END $$; CREATE TRIGGER second AFTER INSERT ON dead EXECUTE FUNCTION second()')
    create(c, 'dead', 'dead', 'dead')
    feed.send(1)
    caught_up(c, 'dead', 1)
    mark = c.log_mark()
    hit = 0
    for _ in range(6):
        s = c.session()
        s.run("BEGIN; SET deadlock_timeout = '20s'; LOCK TABLE other IN ACCESS EXCLUSIVE MODE")
        feed.send(1)
        c.wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'millrace source' AND wait_event IN ('PgSleep', 'relation'))", 't')
        s.run('ALTER TABLE dead ADD COLUMN c%d int' % feed.sent)    # waits for the worker, which waits for other
        s.run('COMMIT')
        s.close()
        caught_up(c, 'dead', feed.sent, 30)
        hit = c.logs_since(mark).count('deadlock detected') + int(c.value("SELECT coalesce(sum(errors), 0) FROM millrace.source_workers WHERE source = 'dead'"))
        if hit:
            break
    exact(c, 'dead', feed.sent, "a deadlock with a user's DDL is tried again")
    tap.same(c.value("SELECT count(*) FROM millrace.dead_letters WHERE source = 'dead'"), '0', 'and no message is blamed for it')


def timeouts(c, kafka):
    feed = Feed(kafka, 'timed')
    c.psql("SET ROLE app; CREATE TABLE timed (id int); CREATE TABLE pace (s float); INSERT INTO pace VALUES (30); CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
           "$$ BEGIN PERFORM pg_sleep(s) FROM pace; RETURN NULL; END $$; CREATE TRIGGER wait AFTER INSERT ON timed EXECUTE FUNCTION wait()")
    feed.send(20)
    create(c, 'timed', 'timed', 'timed', '{"batch_timeout_ms": 1000}')
    reason(c, 'timed', 'canceling statement')
    c.psql('UPDATE pace SET s = 0')
    caught_up(c, 'timed', 20)
    exact(c, 'timed', 20, 'a batch that takes longer than batch_timeout_ms is cancelled and tried again')


def partitions(c, kafka):
    feed = Feed(kafka, 'grow', 2)
    c.psql('SET ROLE app; CREATE TABLE grow (id int, source_partition int)')
    feed.send(10)
    create(c, 'grow', 'grow', 'grow', '{"start": "latest"}')
    caught_up(c, 'grow', 10)
    tap.same(c.value('SELECT count(*) FROM grow'), '0', 'start latest leaves what was there')
    kafka.add_partitions('grow', 4)
    feed.partitions = 4
    time.sleep(1)
    feed.producer = kafka.producer()
    feed.send(20)
    caught_up(c, 'grow', 30, 60)
    tap.same(c.psql('SELECT count(*), count(DISTINCT id), count(DISTINCT source_partition) FROM grow'), [('20', '20', '4')], 'new partitions are read from their beginning')


def transactions(c, kafka):
    kafka.create_topic('txn')
    c.psql('SET ROLE app; CREATE TABLE txn (id int, by bytea)')
    p = kafka.producer(**{'transactional.id': 'test'})
    p.init_transactions(30)
    for i, commit in enumerate((True, False, True, False)):
        p.begin_transaction()
        for k in range(10):
            p.produce('txn', b'{"id": %d}' % (10 * i + k), partition=0)
        p.flush()
        (p.commit_transaction if commit else p.abort_transaction)(30)
    create(c, 'txn', 'txn', 'txn', '{"tombstones": "dead_letter"}')
    c.wait_for("SELECT next_offset = 44 AND high_watermark = 44 FROM millrace.source_offsets WHERE source = 'txn'")
    tap.same(c.value('SELECT array_agg(id / 10) = array_fill(0, ARRAY[10]) || array_fill(2, ARRAY[10]) FROM (SELECT id FROM txn ORDER BY id) s'), 't',
             'rows of committed Kafka transactions only, and no lag behind their markers')
    tap.same(c.value("SELECT count(*) FROM millrace.dead_letters WHERE source = 'txn'"), '0', 'markers are no messages')

    kafka.create_topic('large')
    c.psql('SET ROLE app; CREATE TABLE large (id int, by bytea)')
    import base64
    blobs = [os.urandom(n) for n in (5000000, 10, 9000000, 0)]
    kafka.produce('large', [(0, None, b'{"id": %d, "by": "%s"}' % (i, base64.b64encode(b))) for i, b in enumerate(blobs)])
    create(c, 'large', 'large', 'large')
    caught_up(c, 'large', 4)
    import hashlib
    tap.same(c.psql('SELECT id, md5(by) FROM large ORDER BY 1'), [(str(i), hashlib.md5(b).hexdigest()) for i, b in enumerate(blobs)], 'messages of megabytes arrive whole')


def rewinds(c, kafka):
    feed = Feed(kafka, 'again', 2)
    c.psql('SET ROLE app; CREATE TABLE again (id int)')
    create(c, 'again', 'again', 'again', '{"workers": 2}')
    feed.send(100)
    caught_up(c, 'again', 100)
    time.sleep(0.1)
    middle = c.value('SELECT clock_timestamp()')
    time.sleep(0.1)
    feed.send(50)
    caught_up(c, 'again', 150)

    def rewind(how, rows):
        c.psql(f"SELECT millrace.rewind_source('again', {how})")
        c.wait_for(f'SELECT count(*) = {rows} FROM again')
        caught_up(c, 'again', 150)
    rewind('to_offset => 0', 300)
    tap.same(c.value('SELECT count(DISTINCT id) FROM again'), '150', 'rewind_source to an offset reads all again')
    rewind(f"to_time => '{middle}'", 350)
    tap.same(c.psql('SELECT n, count(*) FROM (SELECT id, count(*) AS n FROM again GROUP BY id) s GROUP BY n ORDER BY n'), [('2', '100'), ('3', '50')], 'to a time: what came after it')
    rewind('to_offset => 70, partition => 1', 355)
    tap.same(c.psql('SELECT min(id), max(id), count(*) FROM (SELECT id FROM again GROUP BY id HAVING count(*) = 4) s'), [('141', '149', '5')], 'and one partition alone')


def addresses(c, kafka):
    c.psql(f"GRANT USAGE ON FOREIGN DATA WRAPPER millrace_kafka TO app; SET ROLE app; CREATE SERVER inside FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); "
           "CREATE TABLE inside (id int)")
    feed = Feed(kafka, 'inside')
    feed.send(10)
    c.psql("SELECT millrace.create_source('inside', 'inside', 'inside', 'inside', '{\"owner\": \"app\"}')")
    reason(c, 'inside', 'broker', 60)
    tap.same(c.value('SELECT count(*) FROM inside'), '0', "a server that is no superuser's does not reach private addresses")
    c.psql("ALTER SERVER inside OPTIONS (ADD allow_private 'true')")
    caught_up(c, 'inside', 10)
    exact(c, 'inside', 10, 'until a superuser allows it')


def offsets(c, kafka):
    feed = Feed(kafka, 'kept')
    c.psql('SET ROLE app; CREATE TABLE kept (id int)')
    feed.send(50)
    create(c, 'kept', 'kept', 'kept')
    caught_up(c, 'kept', 50)
    c.psql("SELECT millrace.pause_source('kept')")
    gone(c, worker_pids(c, 'kept'))
    feed.send(50)
    kafka.delete_records('kept', 0, 70)
    c.psql("SELECT millrace.resume_source('kept')")
    reason(c, 'kept', 'keeps only those from 70 on')
    tap.same(c.psql("SELECT state FROM millrace.sources WHERE name = 'kept'"), [('halted',)], 'messages deleted before they were read halt the source')

    feed = Feed(kafka, 'anew')
    c.psql('SET ROLE app; CREATE TABLE anew (id int)')
    feed.send(50)
    create(c, 'anew', 'anew', 'anew')
    caught_up(c, 'anew', 50)
    c.psql("SELECT millrace.pause_source('anew')")
    gone(c, worker_pids(c, 'anew'))
    kafka.delete_topic('anew')
    time.sleep(1)
    feed = Feed(kafka, 'anew')
    feed.send(80)
    c.psql("SELECT millrace.resume_source('anew')")
    reason(c, 'anew', 'is not the one that was read there')
    exact(c, 'anew', 50, 'a topic made anew halts the source, even where its offsets would fit')


def brokers(c, kafka):
    feed = Feed(kafka, 'away', 2)
    c.psql('SET ROLE app; CREATE TABLE away (id int)')
    create(c, 'away', 'away', 'away', '{"workers": 2}')
    feed.send(1000)
    caught_up(c, 'away', 1000)
    kafka.kill()
    reason(c, 'away', 'broker', 60)
    tap.ok(len(worker_pids(c, 'away')) == 2, 'workers outlive their broker, and say that it is away')
    time.sleep(float(os.environ.get('MILLRACE_BROKER_AWAY', '30' if os.environ.get('MILLRACE_FULL') else '5')))
    kafka.start()
    feed.producer = kafka.producer()
    feed.send(1000)
    caught_up(c, 'away', 2000)
    exact(c, 'away', 2000, 'a broker killed and started again')
    c.wait_for("SELECT bool_and(state = 'running') FROM millrace.source_workers WHERE source = 'away'", 't', 60)
    kafka.freeze()
    time.sleep(1)
    took = c.stop('fast')
    kafka.thaw()
    tap.ok(took < 5, 'the server stops within 5 s while the broker is frozen (%.1f s)' % took)
    c.start()
    feed.send(500)
    caught_up(c, 'away', 2500)
    exact(c, 'away', 2500, 'and goes on where it was')


def main():
    run('stream_trouble', (target, deadlock, timeouts, partitions, transactions, rewinds, addresses, offsets, brokers))


if __name__ == '__main__':
    main()
