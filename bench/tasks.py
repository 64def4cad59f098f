"""The task queue: submit_task() by many clients, and workers that carry tasks out, with and without a snapshot held.

    bench/tasks.py [--seconds 10] [--clients 8] [--tasks 20000] [--hold 60] [--rest 0] [submit|work|idle …]

submit: pgbench, one submit_task() a transaction, fsync on, beside the same INSERT by hand into the same table: what the function costs over
its row.  work: lane sql, tasks of a function that does nothing, in rounds; between them rounds with a REPEATABLE READ snapshot held, which
was there before the first of them; the clock of tasks goes on by a leaf's turn a round, so that leaves are emptied as they are in hours.
idle: CPU of all of Millrace's processes while nothing waits.
"""
import argparse
import os
import re
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib.stream import cluster

TASK = """'{"function": "public.f", "text": "what it is about"}'"""
SUBMIT = f"SELECT millrace.submit_task('sql', {TASK});\n"
BY_HAND = f"""INSERT INTO millrace.task_queue_0 (leaf, id, queue, kind, base, payload)
    SELECT 0, gen_random_uuid(), id, 'sql', 'sql', {TASK} FROM millrace.task_queues WHERE owner = 'app' AND lane = 'sql' AND name = 'sql';\n"""


def cpu_of(pid):
    """Seconds of CPU of a process; 0 when it is gone."""
    try:
        with open('/proc/%d/schedstat' % pid) as f:
            return int(f.read().split()[0]) / 1e9
    except FileNotFoundError:
        return 0


def workers(c):
    """Seconds of CPU of each of Millrace's processes."""
    return {int(r[0]): cpu_of(int(r[0])) for r in c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'millrace%'")}


def spent(before, after):
    """Of those that are there after, what they have used since."""
    return sum(cpu - before.get(pid, 0) for pid, cpu in after.items())


def pgbench(c, script, clients, seconds, user):
    with tempfile.NamedTemporaryFile('w', suffix='.sql') as f:
        f.write(script)
        f.flush()
        os.chmod(f.name, 0o644)
        out = c.program('pgbench', '-n', '-M', 'prepared', '-c', str(clients), '-j', '2', '-T', str(seconds), '-f', f.name, '-U', user, 'postgres')
    return float(re.search(r'tps = ([0-9.]+) \(without', out).group(1)), float(re.search(r'latency average = ([0-9.]+)', out).group(1))


def submit(c, a):
    c.psql("SELECT millrace.pause_tasks('app')")
    ours, hand = [], []
    for r in range(3):
        ours.append(pgbench(c, SUBMIT, a.clients, a.seconds, 'app'))
        c.psql('TRUNCATE millrace.task_queue')
        hand.append(pgbench(c, BY_HAND, a.clients, a.seconds, 'postgres'))
        c.psql('TRUNCATE millrace.task_queue')
    with_key = pgbench(c, SUBMIT.replace(');', """, jsonb_build_object('key', gen_random_uuid()));"""), a.clients, a.seconds, 'app')
    c.psql('TRUNCATE millrace.task_queue, millrace.task_keys')
    print('submit_task(), %d clients, fsync on: %s a second, mean latency %s ms; an INSERT by hand %s; with an idempotency key %.0f'
          % (a.clients, ', '.join('%.0f' % x[0] for x in ours), ', '.join('%.2f' % x[1] for x in ours), ', '.join('%.0f' % x[0] for x in hand), with_key[0]), flush=True)
    s = c.session()
    s.send('SELECT pg_backend_pid()')
    pid, us = int(s.collect()), {}
    for r in range(3):
        for what, sql in (('submit_task()', f"SET ROLE app; SELECT count(millrace.submit_task('sql', {TASK})) FROM generate_series(1, 20000); RESET ROLE"),
                          ('INSERT', "DO $$ BEGIN FOR i IN 1 .. 20000 LOOP %s END LOOP; END $$" % BY_HAND)):
            cpu = cpu_of(pid)
            s.send(sql)
            s.collect(600)
            us.setdefault(what, []).append((cpu_of(pid) - cpu) / 20000 * 1e6)
            c.psql('TRUNCATE millrace.task_queue')
    print('within one transaction, us of CPU each: ' + ', '.join('%s %.1f' % (what, min(x)) for what, x in us.items()), flush=True)
    c.psql("SELECT millrace.resume_tasks('app')")


def work_round(c, a, offset):
    """Tasks a second and microseconds of the workers' CPU a task, of one round."""
    c.psql(f'ALTER SYSTEM SET millrace.task_clock_offset_ms = {offset}; SELECT pg_reload_conf()')
    before = int(c.value('SELECT count(*) FROM millrace.task_done'))
    c.psql("SELECT millrace.pause_tasks('app')")
    c.psql(f"SET ROLE app; SELECT count(millrace.submit_task('sql', {TASK})) FROM generate_series(1, {a.tasks})", timeout=600)
    c.psql("SELECT millrace.resume_tasks('app')")
    c.wait_for(f'SELECT count(*) > {before} FROM millrace.task_done', 't', 60, 0.05)
    cpu, t, first = workers(c), time.time(), int(c.value('SELECT count(*) FROM millrace.task_done'))
    c.wait_for("SELECT count(*) FROM millrace.task_queue", '0', 600, 0.25)
    n = before + a.tasks - first
    return n / (time.time() - t), spent(cpu, workers(c)) / n * 1e6


def shown(rounds):
    return '%s tasks a second, %s us of CPU each' % (', '.join('%.0f' % x[0] for x in rounds), ', '.join('%.0f' % x[1] for x in rounds))


def work(c, a):
    c.psql("""SELECT millrace.alter_task_pool('app', '{"workers_min": 1, "workers_max": 2, "max_tasks": 1000000}')""")
    offsets = iter(range(300000, 1 << 31, 300000))      # a leaf's turn a round
    print('lane sql, 2 workers, rounds of %d, fsync on: %s' % (a.tasks, shown([work_round(c, a, next(offsets)) for r in range(2)])), flush=True)
    c.psql('ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf()')       # so that only we count
    free = [work_round(c, a, next(offsets)) for r in range(3)]
    s = c.session()
    s.send('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current(), count(*) FROM pg_class')
    s.collect()
    began, held = time.time(), []
    while time.time() < began + a.hold or len(held) < 4:
        held.append(work_round(c, a, next(offsets)))
        time.sleep(a.rest)
    lasted = time.time() - began
    size = c.value("SELECT pg_size_pretty(sum(pg_total_relation_size(relid))) FROM pg_partition_tree('millrace.task_queue')")
    s.send('COMMIT')
    s.collect()
    again = [work_round(c, a, next(offsets)) for r in range(3)]
    print('fsync off: %s\na snapshot held for %.0f s, %d tasks: %s\nafter it: %s' % (shown(free), lasted, a.tasks * len(held), shown(held), shown(again)), flush=True)
    rate = [statistics.median(x[0] for x in rounds) for rounds in (held[len(held) // 2:], free + again)]
    print('second half of those / without: %.2f of the rate (medians); size of task_queue in the end: %s' % (rate[0] / rate[1], size), flush=True)
    c.psql('ALTER SYSTEM RESET fsync; SELECT pg_reload_conf()')


def idle(c, a):
    c.wait_for('SELECT count(*) FROM millrace.task_queue', '0', 60)
    for what, ready in (('with idle workers', 'true'), ('after they have ended', "NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'millrace tasks')")):
        c.wait_for('SELECT ' + ready, 't', 120, 1)
        idle_for(c, a, what)


def idle_for(c, a, what):
    time.sleep(3)
    cpu = workers(c)
    time.sleep(2 * a.seconds)
    print('idle, %s: %.3f %% of a core, %d processes' % (what, spent(cpu, workers(c)) / (2 * a.seconds) * 100, len(cpu)), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--seconds', type=int, default=10)
    p.add_argument('--clients', type=int, default=8)
    p.add_argument('--tasks', type=int, default=20000)
    p.add_argument('--hold', type=int, default=60)
    p.add_argument('--rest', type=float, default=0, help='seconds between the rounds while a snapshot is held')
    p.add_argument('parts', nargs='*')
    a = p.parse_args()
    with cluster('bench_tasks', {'shared_buffers': '512MB', 'max_wal_size': '4GB', 'checkpoint_timeout': '15min', 'fsync': 'on', 'millrace.task_quota': 0}) as c:
        c.psql("""CREATE EXTENSION millrace; CREATE ROLE app LOGIN IN ROLE millrace_user; SELECT millrace.start();
            CREATE FUNCTION public.f(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
            SET ROLE app; SELECT millrace.cancel_task(millrace.submit_task('sql', '{"function": "public.f"}'))""")
        for part in (submit, work, idle):
            if not a.parts or part.__name__ in a.parts:
                part(c, a)


if __name__ == '__main__':
    main()
