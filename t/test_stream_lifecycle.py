"""Workers and the life of servers, databases and extensions: who starts, who stops, who stays away, and what SQL says about it."""
# lane: waits
# timeout: 600
import contextlib
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, REPO, SqlError, install, relocate
from lib.kafka import Kafka
import psycopg

PRELOAD = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 24}
STATUS = "SELECT state FROM millrace.status() WHERE kind = '%s' LIMIT 1"


def equip(c, kafka, db='postgres', start=True, source='s', topic='life', options='{}'):
    """Extension, table app.t of role app, server k, and a source running in it."""
    if not c.psql("SELECT 1 FROM pg_roles WHERE rolname = 'app'"):
        c.psql('CREATE ROLE app LOGIN')
    c.psql('CREATE EXTENSION millrace; CREATE SCHEMA app AUTHORIZATION app; SET ROLE app; CREATE TABLE app.t (id int PRIMARY KEY);', db=db)
    c.psql(f"CREATE SERVER k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); GRANT USAGE ON FOREIGN SERVER k TO app;", db=db)
    if start:
        c.psql('SELECT millrace.start()', db=db)
    c.psql(f"SELECT millrace.create_source('{source}', 'k', '{topic}', 'app.t', '{options}')", db=db)


def rows(c, n, db='postgres', timeout=40):
    c.wait_for('SELECT count(*) FROM app.t', str(n), timeout, db=db)


def send(kafka, first, last, topic='life'):
    kafka.produce(topic, [(i % 2, None, b'{"id": %d}' % i) for i in range(first, last)])


def kinds(c):
    return sorted({t for _, t in c.workers()})


def refused(c, sql, **where):
    try:
        c.psql(sql, **where)
    except SqlError as e:
        return e.sqlstate
    return None


def by_hand(pg, kafka):
    """Without preload: start, stop, status, restart."""
    kafka.create_topic('hand', 2)
    send(kafka, 0, 10, 'hand')
    with Cluster(pg, REPO / 'tmp' / 'life_hand') as c:
        equip(c, kafka, start=False, topic='hand')
        tap.same([r[:1] + r[2:4] for r in c.psql('SELECT * FROM millrace.worker_status()')],
                 [('launcher', None, 'absent'), ('supervisor', None, 'stopped'), ('source', None, 'stopped')], 'nothing runs before start()')
        tap.same(kinds(c), [], 'and no process is there')
        c.psql('BEGIN; SELECT millrace.start(); ROLLBACK')
        time.sleep(1)
        tap.same(kinds(c), [], 'start() rolled back starts nothing')
        c.psql('SELECT millrace.start()')
        rows(c, 10)
        tap.same(kinds(c), ['millrace source', 'millrace supervisor'], 'start() without preload runs supervisor and source')
        c.psql('SELECT millrace.start()')
        tap.same(len(c.workers()), 2, 'a second start() doubles nobody')
        for _ in range(3):      # a dead worker comes back
            pid = [p for p, t in c.workers() if t == 'millrace source'][0]
            c.psql(f'SELECT pg_terminate_backend({pid})')
            c.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source' AND pid <> {pid}", '1')
        tap.ok(True, 'a worker that ends is started again')
        t = time.monotonic()
        c.psql('SELECT millrace.stop()')
        tap.ok(time.monotonic() - t < 5 and kinds(c) == [], 'stop() returns when all are gone')
        tap.same(c.value("SELECT reason FROM millrace.status() WHERE kind = 'supervisor'"), 'millrace.start() starts the workers of this database',
                 'status() says how to start')
        c.psql('SELECT millrace.start()')
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source'", '1')
        c.restart()
        time.sleep(1)
        tap.same(kinds(c), [], 'after a restart without preload nothing runs')
        tap.ok('shared_preload_libraries' in c.value("SELECT reason FROM millrace.status() WHERE kind = 'launcher'"), 'and status() says why')
        c.psql('SELECT millrace.start()')
        c.wait_for(STATUS % 'source', 'running')
        # no hook in this session: the documented ways
        c.psql('CREATE DATABASE other')
        tap.same(refused(c, 'ALTER DATABASE postgres RENAME TO renamed', db='other'), '55006', 'without preload running workers are in the way of RENAME')
        c.psql('CREATE EXTENSION millrace; SELECT millrace.start()', db='other')
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE datname = 'other' AND backend_type = 'millrace supervisor'", '1')
        c.psql('DROP DATABASE other WITH (FORCE)')
        tap.ok(True, 'DROP DATABASE WITH (FORCE) is not stopped by them')
        # locks alone make room
        t = time.monotonic()
        c.psql('DROP EXTENSION millrace CASCADE')
        tap.ok(time.monotonic() - t < 5, 'DROP EXTENSION without the hook, %.1f s' % (time.monotonic() - t))
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'millrace %'", '0', 10)
        tap.ok(True, 'workers end by themselves')
        bad_words(c)


def left_early(pg, kafka):
    """Without preload: who calls start() may be gone before the supervisor's process has got up, and others look at what starts."""
    with Cluster(pg, REPO / 'tmp' / 'life_early', conf={'max_worker_processes': 24}) as c:
        c.psql('CREATE DATABASE other')
        for db in ('postgres', 'other'):
            c.psql('CREATE EXTENSION millrace', db=db)
        c.psql('SELECT millrace.start()')
        done, late = threading.Event(), 0

        def look():
            with psycopg.connect(c.dsn(), autocommit=True) as db:
                while not done.is_set():
                    with contextlib.suppress(psycopg.InternalError):        # they all write the same setting
                        db.execute('SELECT millrace.start()')

        lookers = [threading.Thread(target=look) for _ in range(3)]
        for t in lookers:
            t.start()
        try:
            for _ in range(20):
                c.psql('SELECT millrace.start()', db='other')
                try:
                    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE datname = 'other' AND backend_type = 'millrace supervisor'", '1', timeout=5)
                except AssertionError:
                    late += 1
                c.psql('SELECT millrace.stop()', db='other')
        finally:
            done.set()
            for t in lookers:
                t.join()
        tap.same(late, 0, 'start() in a session that ends at once starts the supervisor, 20 times')


def peek(pg, kafka):
    kafka.create_topic('looks', 3)
    kafka.produce('looks', [(0, b'k1', b'{"a": 1}', [('h', b'x')]), (0, None, b'\xff\x00'), (1, b'k2', None), (1, None, 'ä'.encode())])
    with Cluster(pg, REPO / 'tmp' / 'life_peek') as c:
        c.psql('CREATE EXTENSION millrace; CREATE ROLE app LOGIN IN ROLE millrace_admin; CREATE ROLE other LOGIN;')
        c.psql(f"CREATE SERVER k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); GRANT USAGE ON FOREIGN SERVER k TO app;"
               "CREATE SERVER nobody FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:9'); GRANT USAGE ON FOREIGN SERVER nobody TO app;")
        tap.same(c.psql("SELECT partition, \"offset\", key, value, headers, time > now() - interval '1 hour' FROM millrace.peek('k', 'looks') ORDER BY 1, 2", user='app'),
                 [('0', '0', 'k1', '{"a": 1}', '[{"key": "h", "value": "x"}]', 't'), ('0', '1', None, '\\xff00', None, 't'),
                  ('1', '0', 'k2', None, None, 't'), ('1', '1', None, 'ä', None, 't')], 'peek shows keys, values, headers, tombstones and raw bytes')
        tap.same(c.value("SELECT count(*) FROM millrace.peek('k', 'looks', 2)"), '2', 'peek shows no more than asked for')
        tap.same(refused(c, "SELECT millrace.peek('k', 'looks')", user='other'), '42501', 'peek is for millrace_admin')
        t = time.monotonic()
        tap.same(refused(c, "SELECT millrace.peek('nobody', 'looks', 10, 1000)", user='app'), 'HV00N', 'no broker: an error')
        tap.ok(time.monotonic() - t < 5, 'within the time given')
        t = time.monotonic()
        tap.same(refused(c, "SET statement_timeout = '500ms'; SELECT millrace.peek('nobody', 'looks', 10, 60000)", user='app'), '57014', 'peek can be cancelled')
        tap.ok(time.monotonic() - t < 3, 'at once')
        s = c.session()
        pid = s.pid()
        s.run("SELECT count(*) FROM millrace.peek('k', 'looks')")
        for _ in range(3):
            try:
                s.run("SET statement_timeout = '300ms'; SELECT millrace.peek('nobody', 'looks', 10, 60000)")
            except SqlError:
                pass
        tap.same(len(os.listdir(f'/proc/{pid}/task')), 1, 'and leaves no thread behind')
        bad_words(c)


def databases(pg, kafka):
    """Preloaded: the launcher finds databases; DROP, RENAME, TEMPLATE, SET TABLESPACE, DROP EXTENSION with running workers."""
    kafka.create_topic('life', 2)
    send(kafka, 0, 20)
    with Cluster(pg, REPO / 'tmp' / 'life_db', conf=PRELOAD) as c:
        tap.same(kinds(c), ['millrace launcher'], 'a launcher, and nobody else, runs after start')
        c.psql('CREATE DATABASE one')
        equip(c, kafka, db='one')
        rows(c, 20, 'one')
        c.restart()
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE datname = 'one' AND backend_type LIKE 'millrace %'", '2')
        tap.ok(True, 'after a restart the workers run without start()')
        t = time.monotonic()
        c.psql('CREATE DATABASE two TEMPLATE one')
        tap.ok(time.monotonic() - t < 8, 'CREATE DATABASE from it as a template, %.1f s' % (time.monotonic() - t))
        time.sleep(3)
        tap.same(c.value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'two'"), '0', 'the copy runs no workers')
        tap.same(c.psql("SELECT state, reason FROM millrace.status() WHERE kind = 'source'", db='two'),
                 [('paused', 'restored or copied from another database: resume_source() starts it here')], 'its source counts as paused')
        c.psql('SELECT millrace.start()', db='two')
        c.wait_for("SELECT state FROM millrace.status() WHERE kind = 'source'", 'waiting', db='two')
        send(kafka, 20, 30)
        rows(c, 30, 'one')
        tap.same(c.value('SELECT count(*) FROM app.t', db='two'), '20', 'start() alone does not make the copy consume')
        c.psql("SELECT millrace.resume_source('s')", db='two')
        rows(c, 30, 'two')
        tap.ok(True, 'resume_source() does')
        t = time.monotonic()
        c.psql('ALTER DATABASE two RENAME TO three')
        c.wait_for("SELECT state FROM millrace.status() WHERE kind = 'source'", 'running', db='three')
        tap.ok(time.monotonic() - t < 15, 'RENAME with running workers, which come back')
        os.makedirs(c.path / 'space')
        os.chown(c.path / 'space', os.stat(c.data).st_uid, os.stat(c.data).st_gid)
        c.psql(f"CREATE TABLESPACE space LOCATION '{c.path / 'space'}'")
        c.psql('ALTER DATABASE three SET TABLESPACE space')
        c.wait_for("SELECT state FROM millrace.status() WHERE kind = 'source'", 'running', db='three')
        tap.ok(True, 'SET TABLESPACE with running workers, which come back')
        t = time.monotonic()
        c.psql('DROP DATABASE three')
        tap.ok(time.monotonic() - t < 8, 'DROP DATABASE with running workers, %.1f s' % (time.monotonic() - t))
        c.psql('CREATE ROLE guest LOGIN')
        tap.same(refused(c, 'DROP DATABASE one', user='guest'), '42501', 'who may not drop it')
        tap.same(c.value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'one' AND backend_type LIKE 'millrace %'"), '2', 'stops nobody')
        mark = c.log_mark()
        t = time.monotonic()
        c.psql('DROP EXTENSION millrace CASCADE', db='one')
        tap.ok(time.monotonic() - t < 6, 'DROP EXTENSION with running workers, %.1f s' % (time.monotonic() - t))
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE datname = 'one' AND backend_type LIKE 'millrace %'", '0', 10)
        for i in range(5):      # and again: installed, started, dropped
            c.psql("DROP SCHEMA app CASCADE", db='one')
            equip(c, kafka, db='one')
            rows(c, 30, 'one')
            c.psql('DROP EXTENSION millrace CASCADE', db='one')
        tap.ok('ERROR:  ' not in c.logs_since(mark).replace('ERROR:  canceling', ''), 'five times created and dropped, no error in the log')
        c.psql('DROP DATABASE postgres', db='one')
        tap.same(c.value("SELECT count(*) FROM pg_database WHERE datname = 'postgres'", db='one'), '0', "even the launcher's own database can be dropped")
        bad_words(c)


def limits(pg, kafka):
    """max_worker_processes exhausted; owner's rights; master switch."""
    kafka.create_topic('tight', 2)
    send(kafka, 0, 10, 'tight')
    with Cluster(pg, REPO / 'tmp' / 'life_limits', conf={**PRELOAD, 'max_worker_processes': 3}) as c:
        # launcher, logical replication launcher, supervisor: no place for a source
        equip(c, kafka, topic='tight')
        c.wait_for("SELECT reason LIKE '%max_worker_processes = 3%' FROM millrace.status() WHERE kind = 'source'")
        tap.ok(True, 'status() says that max_worker_processes is exhausted')
        tap.same(c.psql("SELECT state, sqlstate, reason LIKE '%max_worker_processes%' FROM millrace.source_status"), [('waiting', '53400', 't')], 'and so does source_status')
        c.conf['max_worker_processes'] = 2
        c.write_conf()
        c.restart()
        c.wait_for("SELECT reason LIKE '%max_worker_processes = 2%' FROM millrace.status() WHERE kind = 'supervisor'")
        tap.ok(True, 'of the supervisor too')
        c.conf['max_worker_processes'] = 8
        c.write_conf()
        c.restart()
        rows(c, 10)
        tap.ok(True, 'with more of them it runs')

        for taken, given, part in (
                ('ALTER ROLE app NOLOGIN', 'ALTER ROLE app LOGIN', 'not permitted to log in'),
                ('ALTER ROLE app SUPERUSER', 'ALTER ROLE app NOSUPERUSER', 'is a superuser'),
                ('REVOKE USAGE ON FOREIGN SERVER k FROM app', 'GRANT USAGE ON FOREIGN SERVER k TO app', 'USAGE'),
                ('REVOKE INSERT ON app.t FROM app', 'GRANT INSERT ON app.t TO app', 'may not insert'),
                ('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC', 'may not connect')):
            c.psql(taken)
            c.wait_for(f"SELECT reason LIKE '%{part}%' AND state = 'waiting' FROM millrace.status() WHERE kind = 'source'", timeout=15)
            c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source'", '0')
            c.psql(given)
            c.wait_for(STATUS % 'source', 'running', 15)
            tap.ok(True, f'{taken}: "{part}"; runs again when given back')
        c.psql("ALTER ROLE app CONNECTION LIMIT 0; SELECT millrace.pause_source('s'); SELECT millrace.resume_source('s')")
        c.wait_for(STATUS % 'source', 'running')
        tap.ok(True, 'CONNECTION LIMIT 0 keeps people out, not workers')

        c.conf['millrace.workers'] = 'off'
        c.write_conf()
        c.reload()
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('millrace source', 'millrace supervisor')", '0', 10)
        tap.same(refused(c, 'SELECT millrace.start()'), '55000', 'millrace.workers = off stops all, and start() says so')
        c.conf['millrace.workers'] = 'on'
        c.write_conf()
        c.reload()
        c.wait_for(STATUS % 'source', 'running')
        tap.ok(True, 'on: they come back')
        bad_words(c)


def dumps(pg, kafka):
    """pg_dump and restore: into another database, and over the same one."""
    kafka.create_topic('kept', 2)
    send(kafka, 0, 10, 'kept')
    with Cluster(pg, REPO / 'tmp' / 'life_dump', conf=PRELOAD) as c:
        equip(c, kafka, topic='kept')
        rows(c, 10)
        c.psql("SELECT millrace.create_source('idle', 'k', 'kept', 'app.t'); SELECT millrace.pause_source('idle', 'on purpose')")
        dump = c.path / 'dump.sql'
        os.chmod(c.path, 0o777)
        c.program('pg_dump', '-f', dump)
        send(kafka, 10, 20, 'kept')
        rows(c, 20)
        before = c.psql('SELECT source, partition, next_offset FROM millrace.source_offsets ORDER BY 1, 2')
        c.psql('CREATE DATABASE copy')
        c.psql(dump.read_text(), db='copy')
        tap.same(c.psql('SELECT sum(next_offset) FROM millrace.source_offsets', db='copy'), [('10',)], 'a restore keeps the offsets of the dump')
        c.psql('SELECT millrace.start()', db='copy')
        c.wait_for("SELECT count(*) FROM millrace.status() WHERE kind = 'source' AND reason LIKE 'restored or copied%'", '1', db='copy')
        time.sleep(3)
        tap.same(c.psql("SELECT (SELECT count(*) FROM app.t), (SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'millrace source')",
                        db='copy'), [('10', '0')], 'a restored source starts paused')
        tap.same(c.psql("SELECT state, reason FROM millrace.sources WHERE name = 'idle'", db='copy'), [('paused', 'on purpose')], 'a paused one is paused')
        c.psql("SELECT millrace.resume_source('s')", db='copy')
        rows(c, 20, 'copy')
        tap.ok(True, 'resume_source() reads on from the offset')
        tap.same(c.psql("SELECT source, partition, next_offset FROM millrace.source_offsets WHERE source = 's' ORDER BY 1, 2", db='copy'), before, 'to the same place')
        # the same database: only the extension dropped and the old offsets put back
        c.psql('DROP EXTENSION millrace CASCADE; DROP SCHEMA app CASCADE')
        c.psql(dump.read_text())
        c.psql('SELECT millrace.start()')
        time.sleep(3)
        tap.same(c.psql('SELECT count(*) FROM app.t'), [('10',)], 'restored into the very same database: paused as well')
        tap.ok(c.value("SELECT reason LIKE 'restored or copied%' FROM millrace.status() WHERE kind = 'source' AND name LIKE 's%'") == 't', 'and says why')
        bad_words(c)


def standby(pg, kafka):
    kafka.create_topic('stand', 2)
    send(kafka, 0, 10, 'stand')
    with Cluster(pg, REPO / 'tmp' / 'life_primary', conf=PRELOAD) as c:
        equip(c, kafka, topic='stand')
        rows(c, 10)
        other = c.standby(REPO / 'tmp' / 'life_standby')
        try:
            other.start()
            rows(other, 10)
            time.sleep(3)
            tap.same(kinds(other), [], 'a standby runs no worker of ours, nor a launcher')
            tap.same(other.value("SELECT reason FROM millrace.status() WHERE kind = 'supervisor'"), 'this server is a standby', 'and says so')
            tap.same(refused(other, 'SELECT millrace.start()'), '25006', 'start() is refused there')
            took = c.stop('fast')
            send(kafka, 10, 20, 'stand')
            other.promote()
            rows(other, 20)
            tap.ok(True, 'after promotion it goes on where the primary stopped')
            tap.same(other.value('SELECT sum(next_offset) FROM millrace.source_offsets'), '20', 'no message twice, none lost')
            tap.ok(took < 5, 'fast stop of the primary took %.1f s' % took)
            bad_words(other)
        finally:
            other.destroy()
        bad_words(c)


def frozen(pg, kafka):
    """Fast stop within 5 s while the broker is frozen; DDL against a running source."""
    kafka.create_topic('cold', 2)
    send(kafka, 0, 10, 'cold')
    with Cluster(pg, REPO / 'tmp' / 'life_frozen', conf=PRELOAD) as c:
        equip(c, kafka, topic='cold', options='{"workers": 2}')
        rows(c, 10)
        kafka.freeze()
        try:
            time.sleep(2)
            took = c.stop('fast')
            tap.ok(took < 5, 'fast stop with a frozen broker took %.1f s' % took)
            c.start()           # workers that have not got a single answer yet
            c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source'", '2')
            time.sleep(1)
            took = c.stop('fast')
            tap.ok(took < 5, 'also just after a start, %.1f s' % took)
            c.start()
            c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source'", '2')
            t = time.monotonic()
            c.psql('DROP EXTENSION millrace CASCADE')
            tap.ok(time.monotonic() - t < 6, 'DROP EXTENSION with a frozen broker, %.1f s' % (time.monotonic() - t))
        finally:
            kafka.thaw()
        bad_words(c)


def crash(pg, kafka):
    """A worker killed by SIGKILL resets the server: the launcher brings all back, once."""
    kafka.create_topic('crash', 2)
    send(kafka, 0, 10, 'crash')
    with Cluster(pg, REPO / 'tmp' / 'life_crash', conf={**PRELOAD, 'restart_after_crash': 'on'}) as c:
        equip(c, kafka, topic='crash')
        rows(c, 10)
        for n in range(3):
            pid = dict((t, p) for p, t in c.workers())[('millrace source', 'millrace supervisor', 'millrace launcher')[n]]
            c.kill(pid)
            c.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}", '0')
            c.wait_for(STATUS % 'source', 'running', 40)
            send(kafka, 10 * (n + 1), 10 * (n + 2), 'crash')
            rows(c, 10 * (n + 2))
        tap.same([t for _, t in c.workers()], ['millrace launcher', 'millrace source', 'millrace supervisor'], 'after three crashes each worker is there once')


def hostile(pg, kafka):
    """What messages set off has the owner's rights, never more: trigger, deferred trigger, default."""
    kafka.create_topic('evil', 1)
    with Cluster(pg, REPO / 'tmp' / 'life_hostile', conf=PRELOAD) as c:
        equip(c, kafka, topic='evil')
        c.psql("""SET ROLE app;
            CREATE TABLE app.tries (what text, sqlstate text, who text, session text);
            CREATE FUNCTION app.try(whence text) RETURNS int LANGUAGE plpgsql AS $$
            DECLARE what text;
            BEGIN
                FOREACH what IN ARRAY ARRAY['ALTER ROLE app SUPERUSER', 'RESET ROLE; ALTER ROLE app SUPERUSER', 'SET SESSION AUTHORIZATION postgres',
                        'SET ROLE postgres', $q$UPDATE millrace.sources SET owner = 'postgres'$q$, 'UPDATE millrace.source_offsets SET next_offset = 0',
                        $q$COPY app.tries TO PROGRAM 'true'$q$]
                LOOP
                    BEGIN
                        EXECUTE what;
                        INSERT INTO app.tries VALUES (whence || ': ' || what, 'done', current_user, session_user);
                    EXCEPTION WHEN OTHERS THEN
                        INSERT INTO app.tries VALUES (whence || ': ' || what, SQLSTATE, current_user, session_user);
                    END;
                END LOOP;
                RETURN 1;
            END $$;
            CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM app.try(TG_NAME); RETURN NULL; END';
            CREATE TRIGGER statement_trigger AFTER INSERT ON app.t EXECUTE FUNCTION app.fire();
            CREATE CONSTRAINT TRIGGER deferred_trigger AFTER INSERT ON app.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.fire();
            ALTER TABLE app.t ADD COLUMN d int;
            ALTER TABLE app.t ALTER COLUMN d SET DEFAULT app.try('default');""")
        send(kafka, 0, 1, 'evil')
        rows(c, 1)
        tap.same(c.value("SELECT count(DISTINCT split_part(what, ':', 1)) FROM app.tries"), '3', 'trigger, deferred trigger and default ran')
        tap.same(c.psql("SELECT what, sqlstate, who, session FROM app.tries WHERE sqlstate <> '42501' OR (who, session) <> ('app', 'app')"), [],
                 'each as the owner, in session and role, and each was refused (42501)')
        tap.same(c.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'"), 'f', 'app is no superuser')
        bad_words(c)


def storm(pg, kafka):
    """Sessions that start, stop, pause, resume, create and drop against each other: at the end everything is as asked."""
    kafka.create_topic('storm', 2)
    send(kafka, 0, 10, 'storm')
    with Cluster(pg, REPO / 'tmp' / 'life_storm', conf={**PRELOAD, 'deadlock_timeout': '200ms'}) as c:
        equip(c, kafka, topic='storm')
        c.psql('GRANT millrace_admin TO app')
        c.wait_for("SELECT count(*) FROM millrace.source_offsets WHERE source = 's'", '2')      # what can be rewound
        end = time.monotonic() + 15
        wrong = []

        def play(seed, statements):
            rng = random.Random(seed)
            while time.monotonic() < end:
                try:
                    c.psql(rng.choice(statements), timeout=30)
                except SqlError as e:
                    if e.sqlstate not in ('40P01', '40001', '42710', '42704', '23503', 'XX000') or (e.sqlstate == 'XX000' and 'concurrently updated' not in e.message):
                        wrong.append((e.sqlstate, e.message))

        again = "SELECT millrace.create_source('s%d', 'k', 'storm', 'app.t')"
        players = [threading.Thread(target=play, args=a) for a in (
            (1, ['SELECT millrace.start()', 'SELECT millrace.stop()']),
            (2, ["SELECT millrace.pause_source('s')", "SELECT millrace.resume_source('s')", "SELECT millrace.rewind_source('s', 0)"]),
            (3, [again % 1, again % 2, "SELECT millrace.drop_source('s1')", "SELECT millrace.drop_source('s2')"]),
            (4, ["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'millrace %' ORDER BY random() LIMIT 1",
                 'ALTER TABLE app.t ADD COLUMN IF NOT EXISTS x int', 'ALTER TABLE app.t DROP COLUMN IF EXISTS x', 'TRUNCATE app.t']))]
        for p in players:
            p.start()
        for p in players:
            p.join()
        tap.same(wrong[:3], [], 'only deadlocks, duplicates and what is not there')
        for s in ('s1', 's2'):
            if c.psql(f"SELECT name FROM millrace.sources WHERE name = '{s}'"):
                c.psql(f"SELECT millrace.drop_source('{s}')")
        c.psql('SELECT millrace.start()')
        c.psql("SELECT millrace.pause_source('s')")
        c.psql("TRUNCATE app.t; SELECT millrace.rewind_source('s', 0); SELECT millrace.resume_source('s')")
        rows(c, 10)
        c.wait_for("SELECT string_agg(DISTINCT backend_type, ',') || count(*) FROM pg_stat_activity WHERE backend_type LIKE 'millrace %'",
                   'millrace launcher,millrace source,millrace supervisor3', 70)
        tap.ok(True, 'in the end one of each runs, and all is read')
        c.psql("SELECT millrace.drop_source('s')")
        c.psql('SELECT millrace.stop()')
        tap.same(kinds(c), ['millrace launcher'], 'and none after stop()')
        bad_words(c)


def bad_words(c):
    log = c.logs()
    tap.same([l for l in log.splitlines() if 'terminated by signal' in l or 'PANIC' in l or 'TRAP' in l][:3], [], 'no crash in the log')


def main():
    pg = relocate(os.environ.get('MILLRACE_TEST_PG') or REPO / 'tmp' / 'pg')
    if not os.environ.get('MILLRACE_TEST_INSTALLED'):
        install(pg)
    with Kafka(REPO / 'tmp' / 'life_kafka') as kafka:
        for test in (by_hand, left_early, peek, databases, limits, dumps, standby, frozen, crash, hostile, storm):
            if len(sys.argv) < 2 or test.__name__ in sys.argv[1:]:
                tap.note(test.__name__)
                test(pg, kafka)
    tap.done()


if __name__ == '__main__':
    main()
