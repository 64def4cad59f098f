#!/usr/bin/env python3
# timeout: 600
"""How rows come into pipeline tabular, and who runs it: Kafka, a foreign table, run_due(), pg_cron, dump and restore.  Prints TAP."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster
from lib.kafka import Kafka
from lib.tap import done, note, ok, same

folder = pathlib.Path(os.environ.get('MILLRACE_TMP', 'tmp/test_pipeline_feed')).resolve()
WEEK = "'2026-03-02 00:00:00+00'::timestamptz + %d * interval '7 days'"
OPTIONS = {'columns': 'id bigint, seen timestamptz, x real, y real, colour text, kind text', 'key': 'id', 'time': 'seen', 'target': 'kind',
           'start': '2026-03-02 00:00:00+00', 'features': ['x', 'y', 'x - y AS x_y', 'colour'],
           'candidates': [{'algorithm': 'random_forest', 'options': {'n_estimators': 20}}]}


def row(i, week):
    """A row whose kind follows from its numbers and its colour, but for noise."""
    x, y, colour = (i * 7919 % 1000) / 1000, (i * 104729 % 1000) / 1000, ('red', 'green', 'blue')[i % 3]
    return {'id': i, 'seen': '2026-03-%02dT%02d:00:00Z' % (2 + 7 * week + i % 7, i % 24), 'x': x, 'y': y, 'colour': colour,
            'kind': 'up' if (x > y) != (colour == 'blue') else 'down'}


def run(c, kafka, cron):
    c.psql("CREATE EXTENSION millrace; CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user, millrace_monitor; "
           "GRANT CREATE ON DATABASE postgres TO mill; SELECT millrace.start(); "
           "CREATE SERVER k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '%s'); GRANT USAGE ON FOREIGN SERVER k TO mill" % kafka.bootstrap)
    q = lambda sql: c.psql(sql, user='mill')

    # ---- from Kafka
    kafka.create_topic('things', partitions=2)
    q("SELECT millrace.create_pipeline('tabular', 'things', '%s')" % json.dumps(dict(OPTIONS, server='k', topic='things')))
    messages = [row(i, 0) for i in range(1000)]
    messages[500] = {'id': 500, 'seen': 'never'}
    kafka.produce('things', [(i % 2, None, json.dumps(m).encode()) for i, m in enumerate(messages)] + [(0, None, json.dumps(row(7, 0)).encode())])
    c.wait_for('SELECT count(*) FROM things.raw', expect='999', timeout=60)
    c.wait_for('SELECT count(*) FROM millrace.dead_letters', expect='2', timeout=60)
    same(q("SELECT count(*), count(source_offset), min(source_topic) FROM things.raw"), [('999', '999', 'things')],
         'rows from Kafka carry their message; one undecodable and one delivered twice are dead letters')

    # ---- from a foreign table
    path = folder / 'week2.csv'
    path.write_text('\n'.join(','.join(str(v) for v in row(i, 1).values()) for i in range(1000, 2000)) + '\n')
    path.chmod(0o644)
    c.psql("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; "
           "CREATE FOREIGN TABLE delivery (id bigint, seen timestamptz, x real, y real, colour text, kind text) SERVER files "
           "OPTIONS (filename '%s', format 'csv'); GRANT SELECT ON delivery TO mill" % path)
    for _ in range(2):
        q("INSERT INTO things.raw (id, seen, x, y, colour, kind) SELECT * FROM delivery ON CONFLICT (id) DO NOTHING")
    same(q("SELECT count(*) FROM things.raw"), [('1999',)], 'rows of a foreign table, loaded twice, are there once')

    # ---- run_due
    due = c.psql("SELECT kind, name, ok, message FROM millrace.run_due(now())")
    same(due, [('sql', 'things', 't', None)], 'run_due() runs the schedule of the pipeline')
    same(q("SELECT stage, count FROM millrace.stat_stages WHERE pipeline = 'things' AND stage IN ('classify', 'total') ORDER BY 1"),
         q("SELECT 'classify', sum(rows_predicted) FROM things.runs UNION ALL SELECT 'total', count(*) FROM things.runs WHERE state = 'done' ORDER BY 1"), 'metrics count what the runs say')
    same(q("SELECT period::date, state, rows_raw, champion_after FROM things.runs ORDER BY 1 LIMIT 2"),
         [('2026-03-02', 'done', '999', 'things:1'), ('2026-03-09', 'done', '1000', 'things:1')], 'both weeks are done')
    ok(float(q("SELECT avg((truth = predicted)::int) FROM things.scored WHERE unseen")[0][0]) > 0.9, 'and the second was predicted well, its colours too')
    same(c.psql("SELECT count(*) FROM millrace.run_due(now())"), [('0',)], 'then nothing is due')
    empty = int(q("SELECT count(*) FROM things.runs WHERE rows_raw = 0")[0][0])
    ok(empty > 10, 'weeks without rows are runs too (%d)' % empty)

    # ---- pg_cron
    if cron:
        c.psql("CREATE EXTENSION pg_cron; SELECT cron.schedule('millrace', '* * * * *', 'SELECT millrace.run_due()')")
        c.psql("UPDATE millrace.schedules SET next_run = now() - interval '1 minute'")
        q("INSERT INTO things.raw (id, seen, x, y, colour, kind) SELECT 5000 + i, %s + interval '1 hour', 0.5, 0.1, 'red', NULL FROM generate_series(1, 5) i" % (WEEK % 0))
        c.wait_for("SELECT count(*) FROM millrace.schedules WHERE name = 'things' AND next_run > now()", expect='1', timeout=90)
        same(c.psql("SELECT DISTINCT status FROM cron.job_run_details WHERE status NOT IN ('running', 'starting')"), [('succeeded',)], 'pg_cron calls run_due()')
        c.psql("SELECT cron.unschedule('millrace')")
    else:
        note('pg_cron is not installed: not tested')

    # ---- dump and restore
    probe = "SELECT string_agg(c.label || ' ' || c.confidence, ',' ORDER BY f.row_id) FROM (SELECT * FROM things.features ORDER BY row_id LIMIT 50) f, " \
            "LATERAL classify(millrace.model_features('things', f), 'things') c"
    before = q(probe)
    c.psql("SELECT millrace.stop()")
    if cron:
        c.psql("DROP EXTENSION pg_cron")            # it lives in one database only
    c.program('pg_dump', '-Fc', '-f', str(folder / 'dump'), '-d', c.dsn())
    c.psql("CREATE DATABASE copy")
    c.program('pg_restore', '-d', c.dsn('copy'), '--exit-on-error', str(folder / 'dump'))
    same(c.psql(probe, db='copy', user='mill'), before, 'a restored copy predicts the same')
    same(c.psql("SELECT count(*) FROM things.catch_up()", db='copy', user='mill'), [('0',)], 'and knows what was run')
    same(c.psql("SELECT millrace.model_at('things', finished_at) FROM things.runs ORDER BY period LIMIT 1", db='copy', user='mill'), [('1',)], 'and which version was live')


folder.mkdir(parents=True, exist_ok=True)
pg = pathlib.Path(os.environ['PG_CONFIG']).resolve()
share = subprocess.check_output([str(pg), '--sharedir'], text=True).strip()
cron = os.path.exists(share + '/extension/pg_cron.control')
conf = {'shared_preload_libraries': 'millrace,pg_cron' if cron else 'millrace', 'max_worker_processes': 24}
if cron:
    conf.update({'cron.database_name': 'postgres', 'cron.use_background_workers': 'on'})
with Kafka(str(folder)) as kafka, Cluster(pg, folder / 'pg', conf=conf) as c:
    run(c, kafka, cron)
done()
