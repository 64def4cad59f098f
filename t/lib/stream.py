"""What the stream tests share: a cluster with the extension, a broker, and a source's life in a few words."""
import contextlib
import os
import pathlib
import sys
import time

from lib import tap
from lib.cluster import Cluster, REPO, SqlError, install, relocate
from lib.faults import use_library
from lib.kafka import Kafka


def folder(name):
    """Where a test keeps its files."""
    return pathlib.Path(os.environ.get('MILLRACE_TMP') or REPO / 'tmp' / name)


@contextlib.contextmanager
def cluster(name, conf=None, at='pg'):
    """A running cluster; at: its folder, where a test has more than one."""
    if os.environ.get('MILLRACE_BIN'):          # t/run.py: built and installed already
        pg = os.environ['MILLRACE_BIN'] + '/pg_config'
    else:
        pg = relocate(REPO / 'tmp' / 'pg')
        install(pg)
    other = os.environ.get('MILLRACE_WORKER_LIBRARY')      # t/mutants.py: the workers are to run this one
    workers = use_library(other, folder(name)) if other else {}
    with Cluster(pg, folder(name) / at, conf={'shared_preload_libraries': 'millrace', 'max_worker_processes': 24,
                                                'checkpoint_timeout': '60s', **(conf or {}), **workers}) as c:
        yield c


def prepare(c, kafka):
    c.psql('CREATE EXTENSION millrace; CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app;')
    c.psql('SELECT millrace.start()')
    c.psql(f"CREATE SERVER k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); GRANT USAGE ON FOREIGN SERVER k TO app;")


def clean_log(c, killed=False):
    """Nothing in the server's log that should not be there; killed: the test killed processes itself."""
    def is_bad(line):
        if 'terminated by signal' in line:
            return not (killed and 'signal 9' in line)
        return 'PANIC' in line or ('WARNING' in line and not killed)
    tap.same([line for line in c.logs().splitlines() if is_bad(line)][:3], [], 'no crash%s in the log' % ('' if killed else ', no warning'))


def run(name, parts, conf=None, kafka=None, extra=(), setup=None, killed=False):
    """A test's main(): each part (or those the command line names) with a cluster, a broker and extra."""
    with cluster(name, conf) as c, kafka or Kafka(folder(name)) as kafka:
        prepare(c, kafka)
        if setup:
            setup(c, kafka)
        for part in parts:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, kafka, *extra)
        clean_log(c, killed)
    tap.done()


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def create(c, name, topic, target, options='{}'):
    """create_source as role app."""
    c.psql(f"SELECT millrace.create_source({literal(name)}, 'k', {literal(topic)}, {literal(target)}::regclass, "
           f"{literal(options)}::jsonb || '{{\"owner\": \"app\"}}')")


def caught_up(c, name, total, timeout=60):
    """Wait until the offsets of a source add up to total."""
    c.wait_for(f"SELECT coalesce(sum(next_offset), 0) >= {total} FROM millrace.source_offsets WHERE source = {literal(name)}", 't', timeout)


def reason(c, name, part, timeout=30):
    """Wait until a worker or the source itself gives a reason that contains part."""
    c.wait_for(f"SELECT EXISTS (SELECT FROM millrace.source_workers WHERE source = {literal(name)} AND state = 'waiting' AND reason LIKE {literal('%' + part + '%')}) "
               f"OR EXISTS (SELECT FROM millrace.sources WHERE name = {literal(name)} AND reason LIKE {literal('%' + part + '%')})", 't', timeout)


def worker_pids(c, name):
    return [int(r[0]) for r in c.psql("SELECT DISTINCT a.pid FROM pg_stat_activity a JOIN millrace.source_workers w USING (pid) "
                                      f"WHERE w.source = {literal(name)} AND a.backend_type = 'millrace source' ORDER BY 1")]


def gone(c, pids, timeout=10):
    """Wait until these processes are no longer backends; seconds it took."""
    t = time.monotonic()
    c.wait_for('SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid IN (%s))' % ','.join(map(str, pids or [0])), 't', timeout)
    return time.monotonic() - t


def wait_up(c):
    """SIGKILL restarts the server: until it answers."""
    time.sleep(0.1)
    end = time.monotonic() + 60
    while True:
        try:
            return c.value('SELECT 1')
        except SqlError:
            assert time.monotonic() < end, 'the server did not come back'
            time.sleep(0.1)
