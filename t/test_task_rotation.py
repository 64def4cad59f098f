"""Leaves of task_queue emptied under load, with a snapshot held: each task submitted is there once, waiting or ended.

No worker runs here: statements like the workers' (seek by (xid, id), claim by id, end by id and lease) take their place, run as
plans, so that locks come before snapshots.  The clock of tasks is moved on by a leaf's turn again and again.
"""
# timeout: 300
# takes: 50
# lane: waits
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import clean_log, cluster

TURN_MS = 5 * 60 * 1000         # TSK_QUEUE_LEAF_MINUTES
SECONDS = int(os.environ.get('MILLRACE_ROTATE_S', '15'))

# What a worker does; the statements of PL/pgSQL are SPI's, as the workers' are.
WORKER = """
CREATE TABLE ended (id uuid, lease bigint);
CREATE PROCEDURE work(most int) LANGUAGE plpgsql AS $$
DECLARE
	token bigint := nextval('millrace.task_lease_seq');
BEGIN
	UPDATE millrace.task_queue SET lease = token, attempts = attempts + 1
	 WHERE id = ANY (ARRAY(SELECT id FROM millrace.task_queue WHERE lease IS NULL AND due_at IS NULL LIMIT most FOR UPDATE SKIP LOCKED)) AND lease IS NULL;
	COMMIT;
	PERFORM pg_sleep(random() * 0.05);
	WITH gone AS (DELETE FROM millrace.task_queue WHERE lease = token RETURNING id, lease) INSERT INTO ended SELECT * FROM gone;
	COMMIT;
END $$;
"""


class Loop(threading.Thread):
    """Runs one statement again and again in a session of its own, until told to stop."""

    def __init__(self, c, sql, pause=0, first=None, user='postgres'):
        super().__init__(daemon=True)
        self.c, self.sql, self.pause, self.first, self.user = c, sql, pause, first, user
        self.over, self.n, self.said, self.error = threading.Event(), 0, [], None
        self.start()

    def run(self):
        import psycopg
        try:
            with psycopg.connect(self.c.dsn(), autocommit=True) as db:
                if self.first:
                    db.execute(self.first)
                while not self.over.is_set():
                    rows = db.execute(self.sql)
                    self.said += rows.fetchall() if rows.description else []
                    self.n += 1
                    time.sleep(self.pause)
        except Exception as e:      # told below
            self.error = e

    def stop(self):
        self.over.set()
        self.join(60)
        return self.n


def main():
    try:
        import psycopg      # noqa: F401
    except ImportError:
        tap.skip_all('psycopg is not installed')
    with cluster('test_task_rotation', {'millrace.task_retention': '70min', 'millrace.task_key_retention': '70min'}) as c:
        c.psql('CREATE EXTENSION millrace; CREATE ROLE app LOGIN IN ROLE millrace_user')
        c.psql("CREATE FUNCTION f(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'")
        c.psql(WORKER)

        held = c.session()
        held.send('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class')
        held.collect()
        submit = """SELECT millrace.submit_task('sql', jsonb_build_object('function', 'public.f', 'text', repeat('x', 200)),
            CASE WHEN random() < 0.02 THEN '{"delay": "10 days"}' ELSE '{}' END::jsonb) FROM generate_series(1, 10)"""
        submitters = [Loop(c, submit, 0.05, 'SET ROLE app') for _ in range(3)]
        workers = [Loop(c, 'CALL work(100)') for _ in range(3)]
        rotator = Loop(c, 'SELECT millrace.rotate_tasks()', 0.02)
        looker = Loop(c, 'SELECT count(*), count(DISTINCT id) FROM millrace.tasks', 0.05)
        end, offset = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            time.sleep(SECONDS / 15)
            offset += TURN_MS
            c.psql(f'ALTER SYSTEM SET millrace.task_clock_offset_ms = {offset}; SELECT pg_reload_conf()')
        loops = submitters + workers + [rotator, looker]
        for loop in loops:
            loop.stop()
        tap.same([loop.error for loop in loops if loop.error], [], 'nobody was given an error')
        ids = [row[0] for loop in submitters for row in loop.said]
        emptied = sum(row[0] for row in rotator.said)
        tap.ok(len(ids) > 1000 and emptied >= 3, '%d tasks submitted while leaves were emptied %d times, with a snapshot held' % (len(ids), emptied))
        c.psql('CREATE TABLE submitted (id uuid); CREATE INDEX ON ended (id)')
        c.psql("INSERT INTO submitted VALUES " + ', '.join("('%s')" % i for i in ids) + '; ANALYZE submitted, ended, millrace.task_queue')
        tap.same(c.psql("""SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE n <> 1) FROM (
            SELECT s.id, (SELECT count(*) FROM millrace.task_queue q WHERE q.id = s.id) + (SELECT count(*) FROM ended e WHERE e.id = s.id) AS n FROM submitted s) x"""),
                 [(str(len(ids)), str(len(ids)), '0')], 'each is there once, in the queue or ended')
        tap.same([row for row in looker.said if row[0] != row[1]], [], 'nobody saw a task twice')
        tap.same(c.psql('SELECT count(*) FROM millrace.task_queue WHERE tableoid::regclass::text <> \'millrace.task_queue_\' || leaf'), [('0',)],
                 'each lies in the leaf it says')
        held.send('COMMIT')
        held.collect()

        history(c)
        supervised(c)
        clean_log(c)
    tap.done()


def history(c):
    """Leaves of what has ended, and keys: kept for as long as was said, then gone."""
    base = 6000                 # minutes ahead of all that was done above
    for i in range(16):         # one every 10 minutes: a turn each
        at = f'SET millrace.task_clock_offset_ms = {(base + 10 * i) * 60000};'
        c.psql(f"""{at} SET ROLE app;
            SELECT millrace.cancel_task(millrace.submit_task('sql', '{{"function": "public.f"}}', '{{"key": "k{i}"}}'))""")
        c.psql(at + 'SELECT millrace.rotate_tasks();' * 3)
    keys = c.value("SELECT string_agg(key, ' ' ORDER BY id) FROM millrace.task_done WHERE key IS NOT NULL")
    tap.same(keys, 'k9 k10 k11 k12 k13 k14 k15', 'tasks of the last 70 minutes are kept')
    tap.same(c.value("SELECT string_agg(key, ' ' ORDER BY created_at) FROM millrace.task_keys"), 'k9 k10 k11 k12 k13 k14 k15', 'and their keys')


def supervised(c):
    """The supervisor calls it: with workers, and a snapshot held, what they have done leaves nothing behind."""
    c.psql('TRUNCATE millrace.task_queue; ALTER SYSTEM RESET millrace.task_clock_offset_ms; SELECT pg_reload_conf()')
    held = c.session()
    held.send('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class')
    held.collect()
    c.psql('SELECT millrace.start()')
    c.psql("""SET ROLE app; SELECT count(millrace.submit_task('sql', '{"function": "public.f"}')) FROM generate_series(1, 2000);
        SELECT millrace.submit_task('sql', '{"function": "public.f"}', '{"delay": "1 day", "tag": "later"}')""")
    c.wait_for('SELECT count(*) FROM millrace.task_queue', '1', 120)
    size = "SELECT sum(pg_relation_size(relid) / 8192) FROM pg_partition_tree('millrace.task_queue')"
    before = int(c.value(size))
    c.psql(f'ALTER SYSTEM SET millrace.task_clock_offset_ms = {2 * TURN_MS}; SELECT pg_reload_conf()')
    c.wait_for(size.replace('SELECT', 'SELECT 1 =', 1), 't', 60)
    tap.ok(before > 64, '2000 tasks were done in %d pages, and then there was one, with the task that waits' % before)
    tap.same(c.psql("SELECT state, count(*) FROM millrace.tasks WHERE state <> 'cancelled' GROUP BY 1 ORDER BY 1"),
             [('delayed', '1'), ('succeeded', '2000')], 'each of them succeeded')
    held.send('COMMIT')
    held.collect()


if __name__ == '__main__':
    main()
