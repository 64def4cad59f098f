"""Tasks of lane sql through everything that happens to their workers: ended, killed, recycled, more and fewer of them, a late
commit, a held snapshot, roles that may not log in, restarts, databases and the extension dropped while tasks run.  Whatever happens, each task
has one end, and what it did is there once."""
# timeout: 900
# takes: 90
# lane: waits
import json
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import clean_log, cluster
from lib.tasks import call, clock, ended, kill, once, prepare, state, submit, wait_state, workers


def pool(c, db='postgres', **options):
    c.psql("SELECT millrace.alter_task_pool('app', '{%s}')" % ', '.join('"%s": %s' % o for o in options.items()), db=db)


def many(c, prefix, n, s=0.0, db='postgres', **options):
    """n tasks in one statement, each told of."""
    more = json.dumps(options)
    c.psql(f"""SELECT count(millrace.submit_task('sql', jsonb_build_object('function', 'app.work', 'args', jsonb_build_object('n', '{prefix}' || g, 's', {s})),
        jsonb_build_object('tag', '{prefix}' || g, 'deliver', 'app.done') || '{more}')) FROM generate_series(1, {n}) g""", db=db, user='app')


def late_commit(c):
    """Transactions that submit and commit later than those that came after them, while workers go on."""
    many(c, 'late-first-', 1)             # which makes the queue: of two first ones the second waits for the first
    slow = [c.session(user='app') for _ in range(4)]
    for k, s in enumerate(slow):
        s.run(f"BEGIN; SELECT millrace.submit_task('sql', {call({'n': f'late-slow{k}'})}, '{{\"tag\": \"late-slow{k}\", \"deliver\": \"app.done\", \"delay\": {k % 2}}}')")
    for k in range(4):
        many(c, f'late-{k}-', 20)
        time.sleep(0.7)
        slow[k].run('COMMIT')
    ended(c)
    once(c, tap, 'late-', 85, 'late commits')


def ended_workers(c):
    """SIGTERM on workers that are at tasks, 40 times and until 5 attempts were lost: found again at once, though the lease has a minute to go."""
    c.psql("UPDATE millrace.retry_policies SET retries = 100, base_s = 0.01 WHERE class = 'lost'")
    pool(c, workers_max=4)
    lost = lambda: int(c.value("SELECT count(*) FROM millrace.task_attempts WHERE class = 'lost'"))
    n, kills, end = 0, 0, time.monotonic() + 120
    while kills < 40 or (lost() < 5 and time.monotonic() < end):
        if int(c.value('SELECT count(*) FROM millrace.task_queue')) < 20:
            many(c, f'term-{n}-', 200, 0.03, max_attempts=100)
            n += 200
        time.sleep(0.1)
        busy = c.psql("SELECT DISTINCT pid FROM millrace.task_queue WHERE lease IS NOT NULL AND pid IN (SELECT pid FROM millrace.worker_slots())")
        if busy:
            kill(c, int(random.choice(busy)[0]))
            kills += 1
        elif time.monotonic() > end:
            break
    ended(c, timeout=120)
    once(c, tap, 'term-', n, f'{kills} workers ended by SIGTERM')
    tap.ok(lost() >= 5, '%d attempts ended with their workers' % lost())
    tap.same(c.value("SELECT count(*) FROM millrace.task_attempts WHERE class = 'lost' AND (sqlstate = 'MR001' AND again_at IS NOT NULL) IS NOT TRUE"), '0', 'and are told of')
    tap.same(c.value("SELECT count(*) FROM (SELECT d.id FROM millrace.task_done d JOIN millrace.task_attempts a USING (id) WHERE d.tag LIKE 'term-%' GROUP BY d.id, d.attempts "
                     "HAVING count(*) <> d.attempts OR count(*) FILTER (WHERE a.class IS NULL) <> 1) x"), '0', 'every attempt has its row, one of them succeeded')


def killed_workers(c):
    """SIGKILL, which resets the server."""
    many(c, 'kill-', 60, 0.05, max_attempts=100)
    for _ in range(3):
        c.wait_for("SELECT count(*) > 0 FROM millrace.task_queue WHERE lease IS NOT NULL AND pid IN (SELECT pid FROM millrace.worker_slots())")
        kill(c, workers(c)[0], signal.SIGKILL)
        c.wait_for('SELECT true')
        time.sleep(0.5)
    ended(c, timeout=120)
    once(c, tap, 'kill-', 60, 'workers killed')


def restarts(c):
    """Fast and immediate stops while tasks run."""
    many(c, 'stop-', 100, 0.05, max_attempts=100)
    for mode in ('fast', 'immediate', 'fast'):
        c.wait_for("SELECT count(*) > 0 FROM millrace.task_queue WHERE lease IS NOT NULL AND pid IN (SELECT pid FROM millrace.worker_slots())")
        took = c.stop(mode)
        tap.ok(took < 5, 'a stop (%s) took %.1f s' % (mode, took))
        c.start()
    ended(c, timeout=120)
    once(c, tap, 'stop-', 100, 'restarts')
    c.psql("UPDATE millrace.retry_policies SET retries = 3, base_s = 0.5 WHERE class = 'lost'")


def expired_lease(c):
    """A task that runs longer than its lease stays its worker's, whose hold on its row says so; others look at it now and then."""
    pool(c, workers_max=2, lease_s=5)
    long = submit(c, {'n': 'lease-1', 's': 12}, tag='lease-1', deliver='app.done')
    stopped = submit(c, {'n': 'lease-2', 's': 60})
    wait_state(c, stopped, 'running')
    clock(c, 60)
    time.sleep(6)
    tap.same((state(c, long, 'state, attempts'), state(c, stopped, 'state, attempts')), (('running', '1'), ('running', '1')), 'what runs longer than its lease is nobody else\'s')
    pids = workers(c)
    c.psql(f"SELECT millrace.cancel_task('{stopped}')", user='app')
    wait_state(c, stopped, 'cancelled')
    wait_state(c, long, 'succeeded')
    tap.same(workers(c), pids, 'a worker that is interrupted goes on')
    clock(c, 0)
    once(c, tap, 'lease-', 1, 'leases')
    pool(c, workers_max=4, lease_s=60)


def recycled(c):
    """After max_tasks, and past its memory, a worker makes room for a new one; nothing waits for that."""
    pool(c, workers_max=1, max_tasks=5)
    t = time.monotonic()
    many(c, 'recycled-', 30)
    ended(c)
    tap.ok(time.monotonic() - t < 20, '30 tasks by workers that end after 5 each took %.1f s' % (time.monotonic() - t))
    once(c, tap, 'recycled-', 30, 'recycled workers')
    tap.same(c.value("SELECT count(DISTINCT pid) >= 6 AND max(n) <= 5 FROM (SELECT pid, count(*) AS n FROM app.log WHERE what LIKE 'recycled-%' GROUP BY pid) x"), 't', 'at most 5 by one process')
    c.psql("CREATE FUNCTION app.grows(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN t := repeat(md5(random()::text), 3000000); PERFORM set_config('app.kept', t, false);"
           "RETURN app.work(a); END $$", user='app')
    pool(c, max_tasks=1000, memory='"64MB"')
    for i in range(3):
        submit(c, {'n': f'grown-{i}'}, tag=f'grown-{i}', deliver='app.done')
    ended(c)
    once(c, tap, 'grown-', 3, 'small ones')
    pool(c, memory='"512MB"', workers_max=4)


def growth(c):
    """More processes while tasks wait; fewer again.  MILLRACE_FULL=1: none after a minute with nothing to do; one when a delayed task is due."""
    pool(c, workers_min=1, workers_max=4)
    many(c, 'grow-', 120, 0.25)
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'tasks' AND pid IS NOT NULL", '4', 20)
    ended(c, timeout=60)
    once(c, tap, 'grow-', 120, 'four workers')
    tap.same(c.value("SELECT count(DISTINCT pid) >= 4 FROM app.log WHERE what LIKE 'grow-%'"), 't', 'all of them took part')
    t = time.monotonic()
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'tasks' AND pid IS NOT NULL", '1', 40)
    tap.ok(True, 'one is left after %.1f s' % (time.monotonic() - t))
    tap.same(c.psql("SELECT kind, name, state FROM millrace.status() WHERE kind = 'tasks'"), [('tasks', 'app/0', 'idle')], 'status() shows it')
    if not os.environ.get('MILLRACE_FULL'):
        return
    delayed = submit(c, {'n': 'delayed'}, delay=3600)
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'tasks' AND pid IS NOT NULL", '0', 90)
    tap.ok(True, 'none when there is nothing to do, though one is delayed')
    time.sleep(5)
    tap.same(workers(c), [], 'nor is one started')
    clock(c, 3610)
    wait_state(c, delayed, 'succeeded')
    clock(c, 0)
    tap.ok(True, 'when it was due one was')


def held_snapshot(c):
    """A snapshot held over thousands of tasks does not slow them."""
    holder = c.session()
    holder.run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1')
    times = []
    for k in range(4):
        t = time.monotonic()
        many(c, f'held-{k}-', 1000)
        ended(c, timeout=120)
        times.append(time.monotonic() - t)
    holder.run('COMMIT')
    once(c, tap, 'held-', 4000, 'under a held snapshot')
    tap.ok(times[3] < 3 * times[0] + 1, 'the fourth thousand took %.1f s, the first %.1f s' % (times[3], times[0]))


def role(c):
    """A role that may not log in has no workers, status() says why; given back, its tasks go on."""
    c.psql('ALTER ROLE app NOLOGIN')
    c.psql("SET ROLE app; SELECT millrace.submit_task('sql', %s, '{\"tag\": \"role-1\", \"deliver\": \"app.done\"}')" % call({'n': 'role-1'}))
    for pid in workers(c):
        kill(c, pid)
    c.wait_for("SELECT reason FROM millrace.status() WHERE kind = 'tasks'", 'role "app" is not permitted to log in')
    tap.ok(True, 'status() says why')
    c.psql('ALTER ROLE app LOGIN')
    ended(c)
    once(c, tap, 'role-', 1, 'a role that may log in again')
    c.psql("SELECT millrace.pause_tasks('app', 'test')")
    paused = submit(c, {'n': 'paused-1'}, tag='paused-1', deliver='app.done')
    time.sleep(3)
    tap.same((state(c, paused), workers(c)), ('waiting', []), 'a paused pool has no workers')
    c.psql("SELECT millrace.resume_tasks('app')")
    wait_state(c, paused, 'succeeded')


def dropped(c):
    """DROP EXTENSION and DROP DATABASE while tasks run."""
    c.psql('CREATE DATABASE other')
    prepare(c, 'other')
    many(c, 'drop-', 50, 0.2, db='other')
    c.wait_for("SELECT count(*) > 1 FROM millrace.task_queue WHERE lease IS NOT NULL", db='other')
    t = time.monotonic()
    c.psql('DROP EXTENSION millrace CASCADE', db='other')
    tap.ok(time.monotonic() - t < 10, 'DROP EXTENSION took %.1f s' % (time.monotonic() - t))
    c.psql('DROP SCHEMA app CASCADE', db='other')
    prepare(c, 'other')
    many(c, 'again-', 20, 0.2, db='other')
    c.wait_for("SELECT count(*) > 0 FROM millrace.task_queue WHERE lease IS NOT NULL", db='other')
    t = time.monotonic()
    c.psql('DROP DATABASE other')
    tap.ok(time.monotonic() - t < 10, 'DROP DATABASE took %.1f s' % (time.monotonic() - t))
    after = submit(c, {'n': 'after-1'}, tag='after-1', deliver='app.done')
    wait_state(c, after, 'succeeded')


PARTS = (late_commit, ended_workers, killed_workers, restarts, expired_lease, recycled, held_snapshot, role, dropped, growth)


def main():
    with cluster('task_lifecycle') as c:
        prepare(c)
        for part in PARTS:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c)
        clean_log(c, killed=True)
    tap.done()


main()
