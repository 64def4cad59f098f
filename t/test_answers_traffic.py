#!/usr/bin/env python3
# timeout: 600
# takes: 65
# lane: waits
"""Clients of pipeline answers, simulated: what simulate_traffic() asks and sees, and the same questions with and without a queue,
against a stub that fails 15 % of the calls.  Prints TAP.

8 clients, 8 slots.  MILLRACE_FULL: a stub of 0.8 to 5 s, perceived latency at least 100 times shorter, throughput at least twice, success 10 points
more; else one that is four times as fast, and less is asked of a machine that is busy with other tests.
"""
import os
import pathlib
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minilm, tap
from lib.cluster import Cluster, REPO, SqlError
from lib.llmstub import Stub

FULL = bool(os.environ.get('MILLRACE_FULL'))
# Stub's latency, how often clients poll, and what is at least to come out: times in latency and throughput, points of success.
REQUESTS, LATENCY, POLL_MS, SHORTER, FASTER, SURER = (240, '0.8-5', 500, 100, 2, 10) if FULL else (160, '0.2-1.25', 125, 10, 0.7, 5)
SUBJECTS = ('harbour', 'library', 'railway', 'market', 'theatre', 'museum', 'factory', 'hospital', 'school', 'stadium')
TOWNS = ('Lima', 'Oslo', 'Porto', 'Riga', 'Bern', 'Turin', 'Ghent', 'Malmo')
# Questions that mean different things, and their answers.
KNOWN = {'Who designed the %s of %s?' % (s, t): 'The %s of %s was designed by %s %s in the year %d.' % (s, t, ('Anna', 'Boris', 'Clara')[i % 3], t[::-1].title(), 1800 + i)
         for i, (s, t) in enumerate((s, t) for t in TOWNS for s in SUBJECTS)}


def metrics(c, schema):
    return {m: (float(s or 'nan'), float(a or 'nan')) for m, s, a in
            c.psql("SELECT metric, synchronous, asynchronous FROM %s.comparisons" % schema, user='mill')}


def main():
    folder = pathlib.Path(os.environ.get('MILLRACE_TMP') or REPO / 'tmp' / 'answers_traffic')
    conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 24}
    with Cluster(os.environ['MILLRACE_BIN'] + '/pg_config', folder / 'pg', conf=conf) as c:
        c.psql("CREATE EXTENSION millrace; CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_user, millrace_monitor; "
               "GRANT CREATE ON DATABASE postgres TO mill; SELECT millrace.start()")
        minilm.install(c)
        q = lambda sql, **more: c.psql(sql, user='mill', **more)
        questions = "SELECT question, answer FROM public.known"
        c.psql("CREATE TABLE known (question text, answer text); GRANT SELECT ON known TO mill; COPY known FROM STDIN;\n%s\\.\n"
               % ''.join('%s\t%s\n' % qa for qa in KNOWN.items()))

        # ---- traffic: history answers, no server
        c.psql("CREATE SERVER here FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'near.local_answer'); GRANT USAGE ON FOREIGN SERVER here TO mill")
        q("""SELECT millrace.create_pipeline('answers', 'near', '{"provider": "here"}'); SELECT near.import_history('SELECT * FROM near.sample_questions()')""")
        for distribution in ('uniform', 'zipf', 'burst'):
            q("CALL near.simulate_traffic(rate => 10, duration => 4, distribution => '%s', tenant => '', questions => 'SELECT question, NULL FROM near.sample_questions()')" % distribution, timeout=120)
        rows = q("SELECT requests, answered, polls, perceived_p50_ms < 100 AND perceived_p99_ms < %d FROM near.traffic ORDER BY run_id" % (500 if FULL else 2000))
        tap.same([(r[0], r[1], r[3]) for r in rows], [('40', '40', 't')] * 3, 'three runs of 40 requests: all answered')
        tap.same(q("SELECT bool_and(asked_at - started_at >= due_s * interval '1 s'), bool_and(seen_at >= asked_at), bool_and(polls = 0) FILTER (WHERE source = 'exact') "
                   "FROM near.traffic_requests JOIN near.traffic_runs USING (run_id)"), [('t', 't', 't')], 'none before its time; a hit is not polled for')
        spread = q("SELECT max(due_s - 5 * floor(due_s / 5)) FROM near.traffic_requests WHERE run_id = 3")[0][0]
        tap.ok(float(spread) < 1, 'bursts come within a second of five (%s s)' % spread)
        shares = dict(q("SELECT variant, count(*) FROM near.draw_traffic(5000, 10, 'zipf', 0.3, 0.1, 'SELECT format(''Question %s'', i), NULL FROM generate_series(1, 5000) i', 7) GROUP BY 1"))
        tap.ok(abs(int(shares['repeat']) - 1500) < 120 and abs(int(shares['paraphrase']) - 500) < 80, 'shares of repeats and paraphrases are as asked for: %s' % shares)
        first, later = (int(v(q, "SELECT count(*) FROM near.draw_traffic(5000, 10, '%s', 0.5, 0, 'SELECT format(''Question %%s'', i), NULL FROM generate_series(1, 5000) i', 7) "
                                 "WHERE variant = 'repeat' AND question IN (SELECT question FROM near.draw_traffic(20, 10, '%s', 0.5, 0, "
                                 "'SELECT format(''Question %%s'', i), NULL FROM generate_series(1, 5000) i', 7))" % (d, d))) for d in ('zipf', 'uniform'))
        tap.ok(first > 3 * later, "by Zipf's law the first questions come again %d times, evenly %d times" % (first, later))
        for bad in ("distribution => 'poisson'", 'repeats => 0.7, paraphrases => 0.4', 'rate => 0', "questions => 'SELECT NULL::text, NULL::text WHERE false'"):
            try:
                q('CALL near.simulate_traffic(%s)' % bad)
                tap.ok(False, bad + ' is refused')
            except SqlError:
                tap.ok(True, bad + ' is refused')

        # ---- both ways
        with Stub(faults={'5xx': 0.1, '429': 0.02, 'reset': 0.02, 'json': 0.01}, retry_after='1-2', latency=LATENCY, seed=5, answers=KNOWN) as stub:
            c.psql("CREATE SERVER far FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url '%s/v1', model 'stub', concurrency '8', requests_per_minute '6000'); GRANT USAGE ON FOREIGN SERVER far TO mill" % stub.url)
            q("""SELECT millrace.create_pipeline('answers', 'ways', '{"provider": "far"}')""")
            q("CALL ways.compare_sync_async(requests => %d, clients => 8, poll_ms => %d, questions => '%s')" % (REQUESTS, POLL_MS, questions), timeout=590)
        m = metrics(c, 'ways')
        for name, (a, b) in sorted(m.items()):
            tap.note('%-18s %10.2f %10.2f' % (name, a, b))
        tap.note(q("SELECT string_agg(format('%s %s %s', variant, source, n), ', ' ORDER BY variant, source) FROM "
                   "(SELECT variant, source, count(*) AS n FROM ways.traffic_requests WHERE way = 'asynchronous' GROUP BY 1, 2) x")[0][0])
        tap.ok(m['perceived_ms_p50'][0] >= SHORTER * m['perceived_ms_p50'][1], 'perceived latency: %.0f times shorter' % (m['perceived_ms_p50'][0] / m['perceived_ms_p50'][1]))
        tap.ok(m['throughput_per_s'][1] >= FASTER * m['throughput_per_s'][0], 'throughput: %.2f times' % (m['throughput_per_s'][1] / m['throughput_per_s'][0]))
        tap.ok(m['success_percent'][1] >= m['success_percent'][0] + SURER, 'success: %.1f %% against %.1f %%' % (m['success_percent'][1], m['success_percent'][0]))
        tap.ok(m['errors_handled'][1] > 0 and m['errors_handled'][0] == 0, 'errors that nobody saw: %d questions' % m['errors_handled'][1])
        tap.ok(m['quality_percent'][1] >= 90 and m['quality_percent'][0] == 0, 'answers with a verdict: %.0f %%' % m['quality_percent'][1])
        tap.same(q("SELECT count(*) FROM ways.sync_vs_async"), [(str(len(m)),)], 'the view shows it')
        most = int(v(q, "SELECT max(n) FROM (SELECT (SELECT count(*) FROM ways.traffic_requests o WHERE o.way = 'synchronous' AND o.asked_at <= r.asked_at AND o.finished_at > r.asked_at) AS n "
                        "FROM ways.traffic_requests r WHERE r.way = 'synchronous') x"))
        tap.ok(most <= 8, 'of the synchronous clients never more than 8 waited')
    tap.done()


def v(q, sql):
    return q(sql)[0][0]


if __name__ == '__main__':
    main()
