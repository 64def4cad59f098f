"""What one percent of poison of twenty-five kinds costs the healthy messages: the same table, broker and cores, run by run in turns.

    bench/poison.py [--messages 100000] [--rounds 3] [--kinds all|message|table]

Both topics hold the same healthy messages (about 350 bytes, 20 floats; a table with a primary key, a foreign key, a unique and an
exclusion constraint, a check, a generated column, a row trigger); in one of them one in a hundred is poison (t/lib/poison.py).  Healthy
messages per second of wall time and per second of the worker's CPU; the ratio of the medians is the figure.
"""
import argparse
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib import poison
from lib.kafka import Kafka
from lib.stream import cluster, create, folder, prepare, worker_pids


def cpu_of(pid):
    with open('/proc/%d/stat' % pid) as f:
        return sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13]) / os.sysconf('SC_CLK_TCK')


def run(c, topic, messages, healthy):
    """Healthy messages per second, and per second of the worker's CPU."""
    c.psql('TRUNCATE readings; CHECKPOINT')
    create(c, topic, topic, 'readings', '{"tombstones": "dead_letter", "max_message_bytes": %d}' % poison.MAX_MESSAGE)
    c.wait_for(f"SELECT coalesce(sum(next_offset), 0) > 0 FROM millrace.source_offsets WHERE source = '{topic}'", 't', 60, 0.02)
    t, done = time.time(), int(c.value(f"SELECT sum(next_offset) FROM millrace.source_offsets WHERE source = '{topic}'"))
    pid = worker_pids(c, topic)[0]
    cpu = cpu_of(pid)
    c.wait_for(f"SELECT sum(next_offset) >= {messages} FROM millrace.source_offsets WHERE source = '{topic}'", 't', 300, 0.05)
    wall, cpu = time.time() - t, cpu_of(pid) - cpu
    rows, dead = c.psql(f"SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM millrace.dead_letters WHERE source = '{topic}')")[0]
    assert (int(rows), int(dead)) == (healthy, messages - healthy), (rows, dead)
    batches = int(c.value(f"SELECT sum(batches) FROM millrace.source_offsets WHERE source = '{topic}'"))
    c.psql(f"SELECT millrace.drop_source('{topic}'); DELETE FROM millrace.dead_letters")
    share = healthy * (messages - done) / messages
    return share / wall, share / cpu, batches


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--messages', type=int, default=100000)
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--kinds', choices=['all', 'message', 'table'], default='all', help='those that the message alone shows, or that only the table knows')
    a = p.parse_args()
    names = [n for n in poison.NAMES if a.kinds == 'all' or (n in poison.OF_TABLE) == (a.kinds == 'table')]
    with cluster('bench_poison', {'max_wal_size': '8GB', 'shared_buffers': '512MB'}) as c, Kafka(folder('bench_poison')) as kafka:
        prepare(c, kafka)
        c.psql(poison.SETUP)
        for topic in ('clean', 'poisoned'):
            kafka.create_topic(topic)
            kafka.produce(topic, [(0, b'%d' % i, poison.message(i, names if topic == 'poisoned' else ())) for i in range(a.messages)])
        planted = sum(poison.kind_of(i) is not None for i in range(a.messages))
        walls, cpus = {}, {}
        for i in range(a.rounds):
            for topic, healthy in (('clean', a.messages), ('poisoned', a.messages - planted)):
                wall, cpu, batches = run(c, topic, a.messages, healthy)
                walls.setdefault(topic, []).append(wall)
                cpus.setdefault(topic, []).append(cpu)
                print('%-9s %7.0f healthy messages/s, %7.0f per CPU second, %5d transactions' % (topic, wall, cpu, batches), flush=True)
        for name, figures in (('wall', walls), ('CPU', cpus)):
            print('%-4s: %.1f %% of the rate without poison (medians of %d)' % (name, 100 * statistics.median(figures['poisoned']) / statistics.median(figures['clean']), a.rounds))


if __name__ == '__main__':
    main()
