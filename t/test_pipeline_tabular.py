#!/usr/bin/env python3
# timeout: 900
"""Pipeline tabular on SDSS17: the twelve weeks of docs/stars.sql, twice, and what may go wrong around them.  Prints TAP."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import REPO, Cluster, SqlError
from lib.tap import data, done, note, ok, same, skip_all

table = data('sdss17/star_classification.csv')
if not table:
    skip_all('no real data (sdss17)')
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_pipeline_tabular')

# Everything that a run leaves behind, without times and without what the clock gives.
DIGEST = """
SELECT md5(string_agg(x.line, '\n' ORDER BY x.line)) FROM (
    SELECT format('features %s', f) FROM stars.features f
    UNION ALL SELECT format('prediction %s %s %s %s %s', row_id, run_id, model_version, label, confidence) FROM stars.predictions
    UNION ALL SELECT format('run %s %s %s %s %s %s %s', period, rows_raw, rows_rejected, champion_before, champion_after,
        (SELECT jsonb_agg(c.value - 'evaluation' ORDER BY c.ordinality) FROM jsonb_array_elements(candidates) WITH ORDINALITY c), drift) FROM stars.runs
    UNION ALL SELECT format('model %s %s', version, encode(sha256, 'hex')) FROM millrace.models WHERE name = 'stars'
    UNION ALL SELECT format('drift %s %s %s', period, column_name, alarm) FROM stars.drift) x(line)"""


def stars(c, db):
    c.psql('CREATE DATABASE %s' % db)
    ran = subprocess.run([c.bin / 'psql', '-X', '-d', c.dsn(db), '-v', 'csv=%s' % table, '-f', str(REPO / 'docs/stars.sql')],
                         capture_output=True, text=True, timeout=600)
    ok(ran.returncode == 0, 'docs/stars.sql runs in database %s' % db)
    if ran.returncode:
        note(ran.stderr[-2000:])
        sys.exit(1)
    return ran.stdout


def test_twelve_weeks(c):
    shown = stars(c, 'survey')
    note(shown[shown.index('Runs: one'):][:4000])
    q = lambda sql: c.psql(sql, db='survey')
    same(q("SELECT count(*), count(DISTINCT period), min(rows_raw), max(rows_raw), bool_and(state = 'done'), max(attempts) FROM stars.runs"),
         [('12', '12', '2000', '2000', 't', '1')], 'one run for each of twelve weeks, the missed one too')
    same(q("SELECT a.started_at < b.started_at, a.finished_at <= b.started_at FROM stars.runs a, stars.runs b "
           "WHERE a.period = '2026-09-28' AND b.period = '2026-10-05'"), [('t', 't')], 'the missed week was caught up before the next')
    same(q("SELECT period::date FROM stars.runs WHERE drift IS NOT NULL AND drift <> '[]'"), [('2026-09-14',)], 'alarms in week 7 and no other')
    alarmed = {r[0] for r in q("SELECT column_name FROM stars.drift WHERE alarm")}
    ok({'r', 'g_r', 'r_i'} <= alarmed, 'the r filter and its colours raise them (%s)' % ', '.join(sorted(alarmed)))
    same(q("SELECT feature, missing FROM stars.missing_values WHERE missing > 0 AND period = '2026-08-24' ORDER BY 1"),
         [('u', '20'), ('u_g', '20')], 'the 20 values of -9999 in week 4 are missing, and what is derived from them')

    # promotions only where the paired test wins
    rows = q("SELECT champion_before, champion_after, challenge::text FROM stars.runs WHERE candidates IS NOT NULL ORDER BY period")
    won = [json.loads(r[2]) for r in rows if r[0] != r[1]]
    lost = [json.loads(r[2]) for r in rows if r[0] == r[1]]
    ok(len(won) >= 2 and len(lost) >= 1, '%d promotions, %d challenges lost' % (len(won), len(lost)))
    first, won = won[0], won[1:]
    ok(first['promoted'] and first['p_value'] is None, 'the first version had nobody to beat')
    ok(all(w['promoted'] and w['better'] and w['p_value'] <= 0.05 and w['gain'] > 0 for w in won), 'the others won their paired test')
    ok(all(not r['promoted'] and (r['p_value'] > 0.05 or r['gain'] <= 0) for r in lost), 'who did not win it was not promoted')

    # live at T, for every T: the moment each run ended, and just before its promotion
    same(q("SELECT count(*) FROM stars.runs r WHERE 'stars:' || millrace.model_at('stars', r.finished_at) IS DISTINCT FROM r.champion_after"), [('0',)],
         'the version live when a run ended is the one the run names')
    same(q("SELECT count(*) FROM stars.runs r WHERE 'stars:' || millrace.model_at('stars', r.started_at) IS DISTINCT FROM r.champion_before"), [('0',)],
         'and so it is when a run began')
    same(q("SELECT count(*) FROM generate_series(0, 999) i, LATERAL (SELECT min(started_at) + i * (max(finished_at) - min(started_at)) / 1000.0 AS t FROM stars.runs) x "
           "WHERE (SELECT count(*) FROM stars.champions h WHERE h.live @> x.t) <> CASE WHEN x.t < (SELECT min(lower(live)) FROM stars.champions) THEN 0 ELSE 1 END"),
         [('0',)], 'at each of 1,000 moments exactly one version is live, none before the first')
    same(q("SELECT count(*) FROM stars.predictions p WHERE NOT (SELECT h.live FROM stars.champions h WHERE h.version = p.model_version) @> p.predicted_at"),
         [('0',)], 'each prediction was made by the version that was live')
    same(q("SELECT count(*), count(DISTINCT row_id) FROM stars.predictions"), [('24000', '24000')], 'each row is predicted once')
    worst = float(q("SELECT min(accuracy_percent) FROM stars.weekly_performance WHERE unseen")[0][0])
    ok(worst > 95, 'at least %.2f %% of the rows of each week are right, before they were learnt from' % worst)
    return q


def test_again(c, q):
    before = q(DIGEST)
    same(q("SELECT count(*) FROM stars.catch_up('2026-10-26')"), [('0',)], 'nothing is due')
    q("SELECT stars.run_period(period) FROM stars.runs")
    same(q(DIGEST), before, 'running every week again changes nothing')
    stars(c, 'again')
    same(c.psql(DIGEST, db='again'), before, 'another database comes to the same features, models, predictions, decisions and alarms')


def test_late_and_broken(q):
    q("INSERT INTO stars.raw (n, seen, alpha, delta, u, g, r, i, z, redshift, class) "
      "SELECT n + 100000, seen, alpha, delta, u, g, r, i, z, redshift, class FROM delivery WHERE week = 2 LIMIT 10")
    q("INSERT INTO stars.raw (n, seen, alpha, delta, u, g, r, i, z, redshift, class) VALUES "
      "(200000, '2026-10-27', 1, 2, 20, 19, 18, 17, 16, NULL, 'STAR'), (200001, '2026-10-27', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 'STAR'), "
      "(200002, '2026-10-27', 'NaN', 'Infinity', 20, 19, 18, 17, 16, 0, NULL)")
    q("SELECT count(*) FROM stars.catch_up('2026-11-02')")
    same(q("SELECT state, rows_raw, rows_features, error LIKE '%infinit%' FROM stars.runs WHERE period = '2026-10-26'"), [('failed', '0', '0', 't')],
         'a week with an infinite value fails as a row, with its reason')
    q("UPDATE stars.raw SET delta = NULL WHERE n = 200002")
    q("SELECT count(*) FROM stars.catch_up('2026-11-02')")
    same(q("SELECT state, attempts, rows_raw, rows_rejected, rows_features, rows_predicted FROM stars.runs WHERE period = '2026-10-26'"),
         [('done', '2', '3', '1', '12', '12')], 'mended, it is tried again: ten late rows and two new ones are learnt from and predicted')
    same(q("SELECT reason FROM stars.rejected"), [('no redshift',)], 'the rejected row has its reason')
    same(q("SELECT count(*) FROM stars.features WHERE period = '2026-08-10'"), [('2010',)], 'late rows keep their period')


def refused(c, options, name='x', kind='tabular'):
    try:
        c.psql("SELECT millrace.create_pipeline('%s', '%s', '%s')" % (kind, name, json.dumps(options)), db='survey')
    except SqlError as e:
        return e.sqlstate
    return None


def test_declarations(c, q):
    good = {'columns': 'id int, x real, kind text', 'key': 'id', 'target': 'kind', 'features': ['x']}
    for what, change in (('no columns', {'columns': None}), ('an unknown option', {'colour': 1}), ('features that are no list', {'features': 'x'}),
                         ('no features', {'features': []}), ('one name twice', {'features': ['x', '2 * x AS x']}),
                         ('a strange normalisation', {'normalise': 'very'}), ('a share of 1', {'test_share': 1})):
        options = {k: v for k, v in dict(good, **change).items() if v is not None}
        same(refused(c, options), '22023', '%s is refused' % what)
    same(refused(c, dict(good, features=['y'])), '42703', 'a feature that is no column is refused')
    same(refused(c, dict(good, target='y')), '42703', 'a target that is no column is refused')
    same(q("SELECT count(*) FROM pg_namespace WHERE nspname = 'x'"), [('0',)], 'and nothing is left behind')
    same(refused(c, good), None, 'the same without a mistake is not')
    q("SELECT count(*) FROM x.catch_up()")
    same(q("SELECT count(*) FROM x.runs"), [('0',)], 'an empty pipeline has nothing to do')
    q("INSERT INTO x.raw (id, x, kind, received_at) SELECT i, i, 'one', '2026-01-05' FROM generate_series(1, 300) i")
    q("SELECT count(*) FROM x.catch_up('2026-01-13')")
    same(q("SELECT state, error FROM x.runs"), [('failed', 'no candidate of pipeline "x" could be trained: all rows have the same class')],
         'one class only: the run fails with a reason')
    q("SELECT millrace.upgrade_pipeline('x')")
    q("SELECT millrace.drop_pipeline('x')")
    same(q("SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'x'), (SELECT count(*) FROM millrace.schedules WHERE name = 'x')"), [('0', '0')],
         'a dropped pipeline is gone with its schedule')
    before = q(DIGEST)
    q("SELECT millrace.upgrade_pipeline('stars')")
    same(q(DIGEST), before, 'an upgrade keeps the rows')


with Cluster(os.environ['PG_CONFIG'], os.path.join(folder, 'pg')) as c:
    q = test_twelve_weeks(c)
    test_again(c, q)
    test_late_and_broken(q)
    test_declarations(c, q)
done()
