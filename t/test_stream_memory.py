"""Workers keep to option memory: a backlog of messages of 1 to 5 MB in 12 partitions, and of small ones, with a slow target."""
# timeout: 600
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.stream import caught_up, create, run

MB = 1 << 20
PROCESS = 24 * MB       # what a worker takes that has nothing to do, and what malloc keeps


class Scales(threading.Thread):
    """The most memory that each worker process took, without what is shared, until stopped."""

    def __init__(self, c):
        super().__init__(daemon=True)
        self.c, self.most, self.queued, self.shown, self.stop = c, {}, 0, 0, False

    def run(self):
        s = self.c.session()
        while not self.stop:
            for line in s.run("SELECT pid, coalesce(queued_bytes, 0), coalesce(resident_bytes, 0) FROM millrace.gauges() WHERE kind = 'source'").splitlines():
                pid, queued, shown = (int(x) for x in line.split('|'))
                self.queued, self.shown = max(self.queued, queued), max(self.shown, shown)
                try:
                    with open(f'/proc/{pid}/status') as f:
                        self.most[pid] = max(self.most.get(pid, 0), next(int(x.split()[1]) * 1024 for x in f if x.startswith('RssAnon')))
                except (FileNotFoundError, StopIteration):
                    pass
            time.sleep(0.05)
        s.close()


def weigh(c, name, n, timeout=240):
    scales = Scales(c)
    scales.start()
    caught_up(c, name, n, timeout)
    time.sleep(1)
    scales.stop = True
    scales.join()
    return max(scales.most.values()), scales


def large(c, kafka):
    """450 MB of messages of 1 to 5 MB; one above what a worker may hold."""
    noise = random.Random(1).randbytes(5 * MB)
    kafka.create_topic('large', 12, {'max.message.bytes': '20000000'})
    sizes = [MB + (i * 7919 % 1024) * 4096 for i in range(150)]
    producer = kafka.producer(**{'queue.buffering.max.kbytes': 65536})
    for i, size in enumerate(sizes):
        kafka.produce('large', [(i % 12, None, noise[:size])], producer)
    kafka.produce('large', [(0, None, noise * 3)], producer)
    c.psql("""SET ROLE app; CREATE TABLE large (value bytea, source_partition int, source_offset bigint); ALTER TABLE large ALTER value SET STORAGE EXTERNAL;
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER INSERT ON large EXECUTE FUNCTION slow();""")
    for memory, workers in ((64, 1), (128, 2)):
        create(c, f'large{workers}', 'large', 'large', f'{{"format": "bytes", "memory": "{memory}MB", "workers": {workers}}}')
        most, scales = weigh(c, f'large{workers}', len(sizes) + 1)
        tap.ok(most < 64 * MB + PROCESS, f'{workers} workers with {memory} MB: at most {most / MB:.0f} MB in a process')
        # The queue is seen every two seconds: between two answers of few large messages it is often empty.
        tap.ok(scales.queued < 32 * MB and scales.shown > most / 4, f'shown: {scales.queued / MB:.0f} MB in the queue, {scales.shown / MB:.0f} MB in all')
        tap.same(c.psql(f"SELECT count(*), sum(length(value)) FROM large"), [(str(len(sizes)), str(sum(sizes)))], 'every message is there')
        tap.same(c.psql(f"SELECT sqlstate, value FROM millrace.dead_letters WHERE source = 'large{workers}'"), [('54000', None)], 'but the one of 15 MB, a dead letter')
        c.psql(f"SELECT millrace.drop_source('large{workers}'); TRUNCATE large")


def backlog(c, kafka, name, n, message, slow):
    """So many small messages in 12 partitions, which compression makes a twelfth, for one worker whose target is slow, so that all its queues are full."""
    kafka.create_topic(name, 12)
    kafka.produce(name, [(i % 12, None, message(i)) for i in range(n)], kafka.producer(**{'compression.type': 'lz4'}))
    c.psql(f"SET ROLE app; CREATE TABLE {name} (i int, t text)")
    if slow:
        c.psql(f"""SET ROLE app; CREATE FUNCTION {name}_delay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({slow}); RETURN NULL; END $$;
            CREATE TRIGGER slow AFTER INSERT ON {name} EXECUTE FUNCTION {name}_delay();""")
    create(c, name, name, name, '{"memory": "64MB"}')
    most, scales = weigh(c, name, n)
    tap.ok(most < 64 * MB + PROCESS, f'{name} messages: at most {most / MB:.0f} MB, {scales.queued / MB:.0f} MB in the queue')
    tap.same(c.value(f'SELECT count(DISTINCT i) FROM {name}'), str(n), 'every message is there')
    c.psql(f"SELECT millrace.drop_source('{name}')")


def small(c, kafka):
    """200 MB of them, as fast as can be, and slowly; then some of a few bytes, of which the library keeps more than they are."""
    noise = random.Random(2).randbytes(100000).hex().encode()
    message = lambda i: b'{"i": %d, "t": "%s"}' % (i, noise[i % 190000:][:96] * 5)
    backlog(c, kafka, 'small', 400000, message, 0)
    backlog(c, kafka, 'slow', 400000, message, 0.05)
    backlog(c, kafka, 'tiny', 400000, lambda i: b'{"i": %d}' % i, 0.05)


def refused(c, kafka):
    c.psql('SET ROLE app; CREATE TABLE refused (i bigint)')
    for options, part in (('{"memory": "16MB"}', 'Allowed are 32 MB'), ('{"memory": "64MB", "workers_max": 4}', 'for each of its 4 workers'), ('{"memory": "much"}', 'invalid size'),
                          ('{"memory": "64MB", "batch_bytes": 16777216}', 'does not fit into option "memory"'), ('{"memory": true}', 'an amount of memory')):
        try:
            create(c, 'refused', 'refused', 'refused', options)
            tap.ok(False, part)
        except SqlError as e:
            tap.ok(part in str(e), f'{options}: {part}')


def main():
    run('stream_memory', (refused, large, small))


if __name__ == '__main__':
    main()
