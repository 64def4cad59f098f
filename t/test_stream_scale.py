"""A source gets more workers while work is left and fewer when there is none, without a message lost, twice or out of order, whatever is killed
meanwhile; where the server has no room for more it goes on with those there are; what it says of itself is what the tables say."""
# lane: waits
# timeout: 900
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.stream import caught_up, create, run

PARTITIONS = 12
MOST = min(4, 2 * os.cpu_count())       # what a machine with so few cores is given


def slow_table(c, name, ms):
    """A table into which a batch takes so long."""
    c.psql(f"""SET ROLE app; CREATE TABLE {name} (i bigint, source_partition int, source_offset bigint, at bigserial);
        CREATE FUNCTION {name}_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({ms} / 1000.0); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER INSERT ON {name} EXECUTE FUNCTION {name}_slow();""")


def backlog(kafka, topic, n, start=0):
    kafka.produce(topic, [(i % PARTITIONS, None, b'{"i": %d}' % i) for i in range(start, start + n)])


def workers(c, name):
    return c.psql(f"SELECT workers_now, workers_reason FROM millrace.sources WHERE name = '{name}'")[0]


def exact(c, name, n, what):
    """Every message once, and those of a partition in its order."""
    tap.same(c.psql(f"SELECT count(*), count(DISTINCT i), max(i) FROM {name}")[0], (str(n), str(n), str(n - 1)), f'{what}: {n} rows, each once')
    tap.same(c.value(f"SELECT count(*) FROM (SELECT source_offset < lag(source_offset) OVER (PARTITION BY source_partition ORDER BY at) AS back FROM {name}) x WHERE back"),
             '0', f'{what}: in the order of each partition')


class Pace(threading.Thread):
    """The longest time in which nothing was committed, and all numbers of workers, until stopped."""

    def __init__(self, c, name):
        super().__init__(daemon=True)
        self.c, self.name, self.stop = c, name, False
        self.gap, self.numbers = 0, []

    def run(self):
        before, since = -1, time.monotonic()
        with_ = self.c.session()
        while not self.stop:
            done, number = with_.run(f"SELECT coalesce(sum(o.next_offset), 0) || ' ' || min(s.workers_now) FROM millrace.sources s "
                                     f"LEFT JOIN millrace.source_offsets o ON o.source = s.name WHERE s.name = '{self.name}'").split()
            now = time.monotonic()
            if done != before:
                if before not in (-1, '0'):
                    self.gap = max(self.gap, now - since)
                before, since = done, now
            if self.numbers[-1:] != [number]:
                self.numbers.append(number)
            time.sleep(0.02)
        with_.close()


def grows(c, kafka):
    """A backlog of a minute for one worker."""
    n = 240000
    slow_table(c, 'grows', 50)
    kafka.create_topic('grows', PARTITIONS)
    backlog(kafka, 'grows', n)
    create(c, 'grows', 'grows', 'grows', '{"workers_min": 1, "workers_max": 4, "batch_rows": 200}')
    c.wait_for("SELECT workers_now FROM millrace.sources WHERE name = 'grows'", '1')
    pace = Pace(c, 'grows')
    pace.start()
    c.wait_for("SELECT workers_now FROM millrace.sources WHERE name = 'grows'", str(MOST), 60)
    tap.ok('s of work were left' in workers(c, 'grows')[1], f'grows to {MOST}: {workers(c, "grows")[1]}')
    caught_up(c, 'grows', n, 120)
    pace.stop = True
    pace.join()
    tap.ok(pace.numbers in (['1', '2', '4'][:MOST], ['1', '2']), f'by doubling: {pace.numbers}')
    tap.ok(pace.gap < 1.5, f'nothing was committed for {pace.gap:.2f} s at the longest')
    exact(c, 'grows', n, 'while growing')
    c.wait_for("SELECT workers_now FROM millrace.sources WHERE name = 'grows'", '1', 90)
    tap.ok('there was work for' in workers(c, 'grows')[1], f'down to one: {workers(c, "grows")[1]}')
    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source'", '1', 10)
    tap.same(c.psql("SELECT state, reason, workers, cardinality(pids) FROM millrace.source_status WHERE name = 'grows'"), [('running', None, '1', '1')], 'source_status')
    backlog(kafka, 'grows', 1000, n)
    caught_up(c, 'grows', n + 1000)
    exact(c, 'grows', n + 1000, 'after it')
    c.psql("SELECT millrace.drop_source('grows')")


def killed(c, kafka):
    """SIGKILL right when the number changes: the server starts anew each time."""
    n = 300000
    slow_table(c, 'killed', 50)
    kafka.create_topic('killed', PARTITIONS)
    backlog(kafka, 'killed', n)
    create(c, 'killed', 'killed', 'killed', '{"workers_min": 1, "workers_max": 4, "batch_rows": 200}')
    kills, before, end = 0, '1', time.monotonic() + 300
    while time.monotonic() < end:
        try:
            number, done = c.psql("SELECT s.workers_now, (SELECT sum(next_offset) FROM millrace.source_offsets WHERE source = s.name) FROM millrace.sources s WHERE name = 'killed'")[0]
            if done == str(n):
                break
            if number != before and kills < 6:
                pid = c.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace source' ORDER BY random() LIMIT 1")
                before = number
                if pid:
                    time.sleep(kills * 0.03)
                    os.kill(int(pid), signal.SIGKILL)
                    kills += 1
                    before = None if kills % 2 else number     # also when the number is found as it was
                    time.sleep(1)
        except (SqlError, ProcessLookupError):
            time.sleep(0.2)
    tap.ok(kills >= 3, f'{kills} workers killed, at changes of their number and after the restart')
    exact(c, 'killed', n, 'after kills')
    c.psql("SELECT millrace.drop_source('killed')")


def cramped(c, kafka):
    """max_worker_processes leaves room for two."""
    n = 60000
    c.conf['max_worker_processes'] = 5      # launcher, supervisor, logical replication launcher
    c.write_conf()
    c.restart()
    slow_table(c, 'cramped', 50)
    kafka.create_topic('cramped', PARTITIONS)
    backlog(kafka, 'cramped', n)
    create(c, 'cramped', 'cramped', 'cramped', '{"workers_min": 1, "workers_max": 4, "batch_rows": 100}')
    c.wait_for("SELECT workers_now = 2 AND workers_reason LIKE '%max_worker_processes = 5%' FROM millrace.sources WHERE name = 'cramped'", 't', 60)
    tap.ok(True, f'goes on with two: {workers(c, "cramped")[1]}')
    slow_table(c, 'second', 0)
    kafka.create_topic('second')
    kafka.produce('second', [(0, None, b'{"i": 0}')])
    create(c, 'second', 'second', 'second')
    caught_up(c, 'second', 1, 30)
    tap.same(workers(c, 'cramped'), ('1', 'its background worker is needed elsewhere'), 'and gives one up for another source')
    c.psql("SELECT millrace.drop_source('second')")
    caught_up(c, 'cramped', n, 120)
    exact(c, 'cramped', n, 'without room')
    c.psql("SELECT millrace.drop_source('cramped')")

    # a fixed number that cannot be had: no partition is left unread
    slow_table(c, 'fixed', 0)
    kafka.create_topic('fixed', PARTITIONS)
    backlog(kafka, 'fixed', 5000)
    create(c, 'fixed', 'fixed', 'fixed', '{"workers": 6}')
    caught_up(c, 'fixed', 5000, 60)
    exact(c, 'fixed', 5000, 'six workers of which two find room')
    tap.same(workers(c, 'fixed')[0], '2', workers(c, 'fixed')[1])


def refused(c, kafka):
    c.psql('SET ROLE app; CREATE TABLE refused (i bigint)')
    for options, part in (('{"workers": 2, "workers_max": 4}', 'excludes workers_min and workers_max'), ('{"workers_min": 5, "workers_max": 4}', 'is more than workers_max (4)')):
        try:
            create(c, 'refused', 'refused', 'refused', options)
            tap.ok(False, part)
        except SqlError as e:
            tap.ok(part in str(e), part)


def main():
    run('stream_scale', (refused, grows, killed, cramped), conf={'millrace.max_load': 0}, killed=True)


if __name__ == '__main__':
    main()
