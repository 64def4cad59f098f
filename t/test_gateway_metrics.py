"""Metrics: what a real Prometheus scrapes equals what SQL counts; rules, dashboards and statements of contrib/; millrace.status() and health().

    test_gateway_metrics.py [scraped | counting | status | contributed]
"""
# timeout: 900
# takes: 120
import io
import json
import os
import re
import sys
import time

import yaml
from PIL import Image

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import providers, stream, tap
from lib.cluster import REPO, SqlError
from lib.kafka import Kafka
from lib.llmstub import Stub
from lib.prometheus import Prometheus, promtool
from lib.web import Web, gateway, token

NAME = 'test_gateway_metrics'
SECONDS = 300 if os.environ.get('MILLRACE_FULL') else 30
CONTRIB = REPO / 'contrib'


def photo(i):
    """A small JPEG; every number another."""
    out = io.BytesIO()
    image = Image.new('RGB', (64, 48), (i * 7 % 256, i * 31 % 256, i * 57 % 256))
    image.paste((255 - i % 256, i % 256, 90), (i % 40, i % 30, i % 40 + 20, i % 30 + 15))
    image.save(out, 'JPEG')
    return out.getvalue()


def setup(c, kafka, stub):
    c.psql('SELECT millrace.install_models()')
    providers.server(c, 'stub', stub.url, cost_per_1k='0.5')
    c.psql(f"GRANT CREATE ON SCHEMA public TO app; GRANT CREATE ON DATABASE postgres TO app; GRANT millrace_modeler TO app; CREATE ROLE watcher LOGIN IN ROLE millrace_monitor; "
           f"CREATE SERVER k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); GRANT USAGE ON FOREIGN SERVER k TO app; "
           "CREATE FUNCTION fails_at_times(args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF (args ->> 'n')::int % 20 = 0 THEN RAISE EXCEPTION 'twentieth'; END IF; RETURN args; END $$;")
    kafka.create_topic('rows', 3)
    c.psql('CREATE TABLE public.rows (id int PRIMARY KEY, word text)', user='app')
    stream.create(c, 'rows', 'rows', 'public.rows')
    c.psql("SELECT millrace.create_pipeline('images', 'photos')", user='app')


def send(kafka, first, n):
    kafka.produce('rows', [(i % 3, None, b'broken' if i % 50 == 7 else json.dumps({'id': i, 'word': 'w%d' % i}).encode()) for i in range(first, first + n)])


def work(c, kafka, round):
    """A little of everything."""
    send(kafka, 1000 * round, 100)
    for i in range(3):
        c.psql("INSERT INTO photos.images (image_id, content) VALUES ('r%d-%d', '\\x%s')" % (round, i, photo(10 * round + i).hex()), user='app')
    providers.submit_many(c, 3, 'llm', {'prompt': f'round {round}, question %'}, provider='stub', tag='work')
    providers.submit_many(c, 20, 'sql', {'function': 'public.fails_at_times', 'args': {'n': '%'}}, tag='work')


def same_as_sql(c, p, expr, sql, name):
    return tap.same(p.one(expr), float(c.value(sql) or 0), '%s: %s = %s' % (name, p.one(expr), expr))


def scraped(c, kafka, port):
    """Prometheus beside the work, and then the comparison."""
    web = Web(port, token(c, 'watcher'))
    status, text, told = web.raw('GET', '/metrics')
    tap.same((status, told['Content-Type']), (200, 'text/plain; version=0.0.4; charset=utf-8'), 'GET /metrics')
    tap.same(Web(port).raw('GET', '/metrics')[0], 401, 'not without a token')
    tap.same(Web(port, token(c, 'app_only')).raw('GET', '/metrics')[0] if c.psql('CREATE ROLE app_only LOGIN') is not None else None, 403, 'nor for other roles')
    with Prometheus(stream.folder(NAME) / 'prometheus', '127.0.0.1:%d' % port, token(c, 'watcher'), rules=CONTRIB / 'prometheus' / 'alerts.yml') as p:
        end, round, asked = time.monotonic() + SECONDS, 0, 0
        while time.monotonic() < end:
            round += 1
            work(c, kafka, round)
            for path, expected in (('/openapi.json', 200), ('/nowhere', 404)):
                asked += 1
                assert web.raw('GET', path)[0] == expected
            time.sleep(max(0, min(2, end - time.monotonic())))
        providers.settled(c, 'work', 120)
        stream.caught_up(c, 'rows', 100 * round)
        time.sleep(3.5)         # what a worker told when it committed is scraped once more
        rows = 100 * round

        up = p.one('min_over_time(up{job="millrace"}[%ds])' % (SECONDS + 3))
        tap.same((up, [t['lastError'] for t in p.get('targets')['activeTargets']]), (1.0, ['']), '%d s of scraping, none failed' % SECONDS)
        tap.ok(p.one('count_over_time(up[%ds])' % SECONDS) > 0.7 * SECONDS, 'one a second: %d scrapes' % p.one('count_over_time(up[%ds])' % SECONDS))
        tap.note('scrape_duration_seconds: %s s; %d samples' % (p.one('max_over_time(scrape_duration_seconds[20s])'), p.one('scrape_samples_scraped')))
        for expr, sql, name in (
                ('sum(millrace_partition_rows_total{source="rows"})', 'SELECT count(*) FROM rows', 'rows of Kafka'),
                ('sum(millrace_partition_dead_total{source="rows"})', 'SELECT count(*) FROM millrace.dead_letters', 'dead letters in all'),
                ('millrace_source_dead_letters{source="rows"}', 'SELECT count(*) FROM millrace.dead_letters', 'and waiting'),
                ('sum(millrace_partition_messages_behind)', 'SELECT 0', 'nothing behind'),
                ('millrace_stage_seconds_count{pipeline="photos",stage="total"}', 'SELECT count(*) FROM photos.images', 'photos'),
                ('millrace_stage_seconds_count{pipeline="photos",stage="extract"}', 'SELECT count(*) FROM photos.descriptors WHERE extract_ms IS NOT NULL', 'extractions'),
                ('millrace_stage_seconds_count{pipeline="photos",stage="classify"}', 'SELECT count(*) FROM photos.predictions', 'predictions'),
                ('sum(millrace_task_ended_total{kind="llm",state="succeeded"})', "SELECT count(*) FROM millrace.task_done WHERE kind = 'llm' AND state = 'succeeded'", 'tasks of providers'),
                ('sum(millrace_task_ended_total{kind="sql",state="succeeded"})', "SELECT count(*) FROM millrace.task_done WHERE kind = 'sql' AND state = 'succeeded'", 'tasks of SQL'),
                ('sum(millrace_task_ended_total{kind="sql",state="failed"})', "SELECT count(*) FROM millrace.task_done WHERE kind = 'sql' AND state = 'failed'", 'those that failed'),
                ('sum(millrace_task_attempt_seconds_count)', 'SELECT count(*) FROM millrace.task_attempts', 'attempts'),
                ('sum(millrace_task_wait_seconds_count)', 'SELECT count(*) FROM millrace.task_done WHERE attempts > 0', 'waits'),
                ('sum(millrace_provider_call_seconds_count{provider="stub"})', "SELECT count(*) FROM millrace.task_attempts WHERE queue = 'stub'", 'calls'),
                ('millrace_provider_tokens_total{provider="stub",direction="in"}', "SELECT sum(tokens_in) FROM millrace.task_attempts WHERE queue = 'stub'", 'tokens sent'),
                ('millrace_provider_tokens_total{provider="stub",direction="out"}', "SELECT sum(tokens_out) FROM millrace.task_attempts WHERE queue = 'stub'", 'tokens received'),
                ('sum(millrace_model_calls_total)', 'SELECT sum(calls) FROM millrace.stat_models', 'calls of models'),
                ('sum(millrace_model_rows_total)', 'SELECT sum(rows) FROM millrace.stat_models', 'their rows'),
                ('sum(millrace_model_run_seconds_total)', 'SELECT sum(seconds) FROM millrace.stat_models', 'their seconds'),
                ('sum(millrace_task_waiting) or vector(0)', 'SELECT 0', 'no task waits'),
                ('sum(millrace_worker_up{kind="source"})', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source'", 'workers of sources'),
                ('millrace_source_up{source="rows"}', 'SELECT 1', 'the source is up'),
                ('millrace_series_room_lost_total', 'SELECT 0', 'nothing found no room')):
            same_as_sql(c, p, expr, sql, name)
        tap.same(int(c.value('SELECT count(*) FROM rows')) + int(c.value('SELECT count(*) FROM millrace.dead_letters')), rows, 'every message is one of them')
        tap.same(p.query('sum by (status) (millrace_http_request_seconds_count{route="/openapi.json"})'), {(('status', '2xx'),): asked / 2}, 'requests of a route')
        tap.same(p.query('sum by (route, status) (millrace_http_request_seconds_count{route="(none)"})'), {(('route', '(none)'), ('status', '4xx')): asked / 2},
                 'what no route matches has no path of its own')
        sums = p.one('millrace_stage_seconds_sum{pipeline="photos",stage="extract"}'), float(c.value('SELECT sum(extract_ms) / 1000 FROM photos.descriptors'))
        tap.ok(abs(sums[0] - sums[1]) < 0.001 + 0.001 * sums[1], 'seconds of extractions: %s, and in the table %s' % sums)
        cost = p.one('millrace_provider_cost_total{provider="stub"}'), float(c.value('SELECT sum(cost) FROM millrace.task_attempts'))
        tap.ok(abs(cost[0] - cost[1]) < 1e-4, 'cost: %s, %s' % cost)
        alerts = sorted({a['labels']['alertname'] for a in p.get('alerts')['alerts'] if a['state'] == 'firing'})
        tap.same(alerts, ['MillraceDeadLetters'], 'of the rules the one about dead letters fires')
        groups = p.get('rules')['groups']
        tap.same({r['health'] for g in groups for r in g['rules']}, {'ok'}, 'and all rules can be evaluated')

    # the text itself
    text = web.raw('GET', '/metrics')[1].decode()
    code, said = promtool('check', 'metrics', stdin=text)
    tap.same((code, said), (0, ''), 'promtool check metrics has nothing to say about %d lines' % text.count('\n'))
    status, told = web.ask('GET', '/metrics', headers={'Accept': 'application/json'})[:2]
    tap.same((status, told['tasks_processed'], told['stages']['photos']['extract']['count']),
             (200, int(c.value('SELECT count(*) FROM photos.images')), int(c.value('SELECT count(*) FROM photos.descriptors WHERE extract_ms IS NOT NULL'))), 'as JSON')
    tap.ok({'cache_hit_rate', 'average_latency_ms'} <= told.keys() and told['average_latency_ms'] > 0, 'with cache_hit_rate and average_latency_ms')
    tap.same(web.get('/photos/metrics')[0], 403, 'a monitor that may not look into a schema')
    c.psql('GRANT USAGE ON SCHEMA photos TO watcher')
    tap.same((web.get('/photos/metrics')[0], Web(port, token(c, 'app_only')).get('/photos/metrics')[0]), (200, 403), 'and one that may')
    status, text = Web(port, token(c, 'app')).get('/photos/metrics')
    tap.ok(status == 200 and b'millrace_stage_seconds_count{pipeline="photos",stage="total"}' in text and b'millrace_source_up' not in text, 'those of one pipeline, for its owner')


def counting(c, kafka, port):
    """What is counted, and for whom."""
    def stages(pipeline='photos'):
        return {s: int(n) for s, n in c.psql(f"SELECT stage, count FROM millrace.stat_stages WHERE pipeline = '{pipeline}' AND stage LIKE 'mine%'")}

    def observe(stage, user='app', pipeline='photos'):
        return f"SELECT millrace.observe('{pipeline}', '{stage}', 0.2)"
    c.psql('BEGIN; %s; ROLLBACK' % observe('mine'), user='app')
    tap.same(stages(), {}, 'work that is rolled back is not counted')
    c.psql('BEGIN; %s; SAVEPOINT a; %s; ROLLBACK TO a; %s; SAVEPOINT b; %s; SAVEPOINT c; %s; RELEASE b; COMMIT'
           % tuple(map(observe, ('mine', 'mine_undone', 'mine', 'mine', 'mine_kept'))), user='app')
    tap.same(stages(), {'mine': 3, 'mine_kept': 1}, 'nor what a savepoint took back; what was released is')
    tap.same(c.value("SELECT millrace.observe('photos', 'mine_many', 'NaN', 1000)", user='app'), 't', 'many at once, whatever the number')
    c.psql("SELECT millrace.observe('photos', 'mine_many', x) FROM unnest('{-1,Infinity,1e300}'::float8[]) x", user='app')
    tap.same(stages().get('mine_many'), 1003, 'are counted')
    before = c.value("SELECT lost FROM millrace.metric_room()")
    c.psql('CREATE ROLE stranger LOGIN')
    for user, pipeline in (('stranger', 'photos'), ('watcher', 'photos'), ('app', 'nothing'), ('app', 'public')):
        tap.same(c.value(observe('mine_not', pipeline=pipeline), user=user), 'f', f'{user} cannot count for {pipeline}')
    tap.same('mine_not' in stages(), False, 'and did not')
    for f in ('metrics()', 'metric_series()', 'status()', 'pipeline_figures()', 'http_metrics()', "http_metrics('photos')", 'metrics_json()'):
        try:
            c.psql(f'SELECT millrace.{f}', user='stranger')
            tap.ok(False, f'{f} is not for everybody')
        except SqlError as e:
            tap.same(e.sqlstate, '42501', f'{f} is not for everybody')
    c.psql("SELECT millrace.observe('photos', 'mine_' || i, 0.1) FROM generate_series(1, 100) i", user='app')
    n = int(c.value("SELECT count(*) FROM millrace.stat_stages WHERE pipeline = 'photos'"))
    tap.same((n, int(c.value('SELECT lost FROM millrace.metric_room()')) - int(before) > 0), (64, True), 'a pipeline has 64 stages at most; more are lost, and counted so')
    c.psql("""SELECT millrace.create_pipeline('datasets', 'odd "name" {}')""", user='app')
    c.psql(r"""SELECT millrace.observe('odd "name" {}', E'a "quoted" \\ stage\nin two lines {}', 0.1), millrace.observe('odd "name" {}', repeat('ä', 200), 0.1)""", user='app')
    text = c.value('SELECT millrace.metrics()')
    tap.same(promtool('check', 'metrics', stdin=text), (0, ''), 'labels of any characters are escaped')
    tap.ok(r'stage="a \"quoted\" \\ stage\nin two lines {}"' in text, 'as Prometheus reads them')

    # a locked table costs its own metrics alone
    s = c.session()
    s.run('BEGIN; LOCK TABLE millrace.sources, photos.failures IN ACCESS EXCLUSIVE MODE')
    began = time.monotonic()
    text = c.value('SELECT millrace.metrics()', user='watcher')
    took = time.monotonic() - began
    s.run('ROLLBACK')
    s.close()
    failed = sorted(re.findall(r'millrace_scrape_failed\{part="(\w+)"\} 1', text))
    tap.same((failed, 'millrace_source_up' in text, 'millrace_pipeline_unreadable{pipeline="photos",kind="images"} 1' in text, 'millrace_stage_seconds_count' in text),
             (['partition', 'source'], False, True, True), 'what is locked is left out, and named')
    tap.ok(took < 3, 'after %.2f s' % took)
    tap.same(promtool('check', 'metrics', stdin=text), (0, ''), 'and the rest is well formed')

    # 1,000 series
    c.psql("SELECT millrace.observe(p, 'stage' || i, 0.001 * i) FROM unnest(ARRAY['photos', 'odd \"name\" {}']) p, generate_series(1, 64) i", user='app')
    s = c.session()
    for _ in range(10):
        lines = int(s.run("SELECT count(*) FROM regexp_split_to_table(millrace.metrics(), E'\\n') l WHERE l !~ '^(#|$)'"))
    times = []
    for _ in range(20):
        times.append(1000 * float(s.run("SELECT substring(millrace.metrics() FROM 'millrace_scrape_seconds ([0-9.]+)\\n$')")))
    s.close()
    tap.ok(lines >= 1000 and min(times) < 10, '%d samples in %.1f ms (median %.1f)' % (lines, min(times), sorted(times)[10]))


def status(c, kafka, port):
    """The screen: what is said when, and whether its advice can be typed."""
    def screen(**where):
        return {(k, n): (s, r, ok, a) for k, n, s, r, ok, a in c.psql('SELECT kind, name, state, reason, ok, advice FROM millrace.status()', **where)}

    def well(timeout=30):
        """Wait for it; what is left to say."""
        end = time.monotonic() + timeout
        while (left := [(k, v) for k, v in screen().items() if v[2] == 'f' and k[0] != 'millrace']) and time.monotonic() < end:
            time.sleep(0.2)
        return left
    c.psql("DELETE FROM millrace.dead_letters; DELETE FROM millrace.task_done WHERE state = 'failed'")
    tap.same(well(), [], 'nothing to complain of')
    now = screen(user='watcher')
    tap.same(now[('millrace', 'postgres')][0], 'all is well', 'all is well')
    tap.ok(all(v[2] == 't' and v[3] is None for v in now.values()), 'no advice')
    tap.ok({'launcher', 'supervisor', 'source', 'task pool', 'provider', 'pipeline', 'gateway', 'executor'} <= {k for k, _ in now}, 'and every kind of thing has its line')
    tap.ok(len(now) <= 24, '%d lines' % len(now))
    tap.same(json.loads(c.value('SELECT millrace.health()')), {'status': 'healthy', 'reasons': []}, 'health()')

    send(kafka, 900000, 20)
    c.wait_for('SELECT count(*) FROM millrace.dead_letters', '1')
    c.psql("SELECT millrace.pause_source('rows', 'for lunch'); SELECT millrace.pause_provider('stub', 'no money'); SELECT millrace.pause_tasks('app', 'tired')")
    c.psql("INSERT INTO photos.images (image_id, content) VALUES ('bad', 'no photo')", user='app')
    for i in range(14):         # brokers that are not there
        c.psql(f'CREATE TABLE public.many{i} (id int)', user='app')
        stream.create(c, f'many{i}', 'rows', f'public.many{i}')
        c.psql(f"SELECT millrace.pause_source('many{i}')")
    c.wait_for("SELECT count(*) FROM millrace.status() WHERE kind = 'source' AND state = 'paused'", '11')
    now = screen()
    bad = {k: v for k, v in now.items() if v[2] == 'f'}
    tap.ok(re.fullmatch(r'\d+ things need attention', now[('millrace', 'postgres')][0]), now[('millrace', 'postgres')][0])
    tap.same([now.get(k, ())[:2] for k in (('provider', 'stub'), ('task pool', 'app'), ('dead letters', 'rows'), ('pipeline', 'photos'))],
             [('paused', 'no money'), ('paused', 'tired'), ('1 wait', None), ('1 failed in an hour', None)], 'troubles, each with its reason')
    tap.ok(('source', '5 more') in bad, 'of many ten are named and the others counted')
    tap.ok(len(now) <= 30, '%d lines' % len(now))
    tap.same([k for k, v in bad.items() if not v[3] and k[1] and not k[1].endswith(' more')], [], 'all that is not ok has advice')
    health = json.loads(c.value('SELECT millrace.health()'))
    tap.ok(health['status'] == 'degraded' and any('no money' in r for r in health['reasons']), 'health(): degraded, and why')
    code, told = Web(port).get('/health')
    tap.ok(code == 200 and told['status'] == 'degraded' and told['reasons'] and 'stub' not in json.dumps(told) and 'photos' not in json.dumps(told),
           'GET /health without a token: the same without names')
    done = 0
    for (kind, name), (_, _, _, advice) in list(bad.items()):
        for statement in re.findall(r'SELECT [^;]*;', advice or ''):
            try:
                c.psql(statement)
                done += 1
            except SqlError as e:
                tap.ok(False, 'advice on %s %s: %s: %s' % (kind, name, statement, e))
    tap.ok(done >= 12, '%d statements of advice can be typed' % done)
    c.psql("SELECT millrace.resume_source('rows'); DELETE FROM millrace.dead_letters; DELETE FROM photos.failures; " + ''.join(f"SELECT millrace.drop_source('many{i}');" for i in range(14)))
    tap.same(well(), [], 'and following it made all well')
    c.psql("SELECT millrace.stop()")
    tap.same((screen()[('supervisor', 'postgres')][3], json.loads(c.value('SELECT millrace.health()'))['status']), ('SELECT millrace.start();', 'unhealthy'), 'without workers')
    c.psql("SELECT millrace.start()")


def contributed(c, kafka, port):
    """contrib/: rules, statements, dashboards."""
    folder = CONTRIB / 'prometheus'
    code, said = promtool('check', 'rules', 'alerts.yml', cwd=folder)
    tap.ok(code == 0, 'promtool check rules: ' + said.strip().splitlines()[-1])
    code, said = promtool('test', 'rules', 'alerts_test.yml', cwd=folder)
    tap.ok(code == 0, 'promtool test rules' + ('' if code == 0 else ': ' + said))
    rules = yaml.safe_load((folder / 'alerts.yml').read_text())['groups'][0]['rules']
    tests = yaml.safe_load((folder / 'alerts_test.yml').read_text())['tests']
    tap.same({t['name'].split()[0] for t in tests if t['promql_expr_test'][0]['exp_samples']}, {r['alert'] for r in rules}, 'every rule is seen to fire')

    text = c.value('SELECT millrace.metrics()')
    known = {m for m, kind in re.findall(r'^# TYPE (\w+) (\w+)$', text, re.M)}
    # what has no rows in this database is not in the text
    views = {'millrace_%s_%s' % (v[7:], a): a for v, a, t in c.psql(
        "SELECT c.relname, a.attname, a.atttypid::regtype FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relname LIKE 'metric\\_%' AND c.relkind = 'v' "
        "AND c.relnamespace = 'millrace'::regnamespace AND a.attnum > 0") if t != 'text'}
    families = set(re.findall(r'"(millrace_\w+)", "', (REPO / 'src/core/series_pg.c').read_text()))
    own = {'millrace_scrape_seconds', 'millrace_scrape_failed'}
    tap.same(known - set(views) - families - own, set(), 'metrics are the columns of views metric_* and the families of series')
    tap.same([v for v in views if not c.value("SELECT col_description(('millrace.metric_' || $$%s$$)::regclass, a.attnum) FROM pg_attribute a WHERE a.attrelid = ('millrace.metric_' || $$%s$$)::regclass "
                                              "AND a.attname = $$%s$$" % (2 * (v[9:-len(views[v]) - 1],) + (views[v],)))], [], 'each column has a comment, which is its help')
    documented = set(re.findall(r'`(millrace_\w+)', (REPO / 'docs/metrics.md').read_text())) - {'millrace_monitor', 'millrace_admin'}
    tap.same((set(views) | families | own) ^ documented, set(), 'docs/metrics.md names each metric, and no other')

    queries = yaml.safe_load((folder / 'queries.yaml').read_text())
    names = set()
    for namespace, q in queries.items():
        c.psql(q['query'], user='watcher')
        usage = {name: m['usage'] for column in q['metrics'] for name, m in column.items()}
        names |= {f'{namespace}_{n}' for n, u in usage.items() if u != 'LABEL'}
        wrong = {n: u for n, u in usage.items() if u != 'LABEL' and (u == 'COUNTER') != (n.endswith('total') or n == 'total')}
        if wrong:
            tap.same(wrong, {}, namespace + ': counters end in _total')
    tap.same(names ^ (set(views) | families), set(), 'queries.yaml has the same metrics, and a monitor may run each of its %d statements' % len(queries))

    mentioned = set(re.findall(r'millrace_\w+', (folder / 'alerts.yml').read_text() + (CONTRIB / 'grafana' / 'millrace-prometheus.json').read_text()))
    base = {re.sub(r'_(bucket|sum|count)$', '', m) if re.sub(r'_(bucket|sum|count)$', '', m) in families else m for m in mentioned} - {'millrace_monitor'}
    tap.same(base - set(views) - families - own, set(), 'rules and dashboards speak of metrics that there are')

    with Prometheus(stream.folder(NAME) / 'parse', '127.0.0.1:%d' % port, token(c, 'watcher')) as p:
        for path in sorted((CONTRIB / 'grafana').glob('*.json')):
            dashboard(c, p, path)


def dashboard(c, p, path):
    board = json.loads(path.read_text())
    panels = [x for x in board['panels'] if x['type'] != 'row']
    tap.ok({'title', 'uid', 'schemaVersion', 'panels', 'templating', 'time'} <= board.keys() and board['uid'] and board['schemaVersion'] >= 30, f'{path.name}: a dashboard of {len(panels)} panels')
    ids = [x['id'] for x in board['panels']]
    tap.same(len(ids), len(set(ids)), 'whose numbers are unlike')
    at = [(x['gridPos']['y'] + dy, x['gridPos']['x'] + dx) for x in board['panels'] for dy in range(x['gridPos']['h']) for dx in range(x['gridPos']['w'])]
    tap.ok(len(at) == len(set(at)) and max(x for _, x in at) < 24, 'none lies over another')
    variables = {v['name'] for v in board['templating']['list']}
    used = set(re.findall(r'\$\{?(?!__)(\w+)', path.read_text()))
    tap.same(used, variables, 'and all variables are used')
    failed = []
    for panel in panels:
        assert panel['title'] and panel['description'] and panel['targets'] and panel['datasource']['uid'] == '${datasource}', panel
        for t in panel['targets']:
            try:
                if 'expr' in t:
                    p.get('query', query=t['expr'].replace('$__rate_interval', '1m').replace('$job', '.*').replace('$pipeline', '.*'))
                else:
                    c.psql(re.sub(r'\$__timeFilter\((\w+)\)', r"\1 > now() - interval '1 hour'", t['rawSql']), user='watcher')
            except (ValueError, SqlError) as e:
                failed.append((panel['title'], str(e)))
    tap.same(failed, [], 'every expression and statement of it runs')


def main():
    with Kafka(stream.folder(NAME)) as kafka, Stub(latency='0.01-0.05') as stub, gateway(NAME, '') as (c, port):
        c.psql('DROP EXTENSION millrace')
        providers.prepare(c)
        setup(c, kafka, stub)
        c.wait_for("SELECT count(DISTINCT backend_type) FROM pg_stat_activity WHERE backend_type IN ('millrace gateway', 'millrace executor')", '2')
        for part in (scraped, counting, status, contributed):
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, kafka, port)
        stream.clean_log(c)
    tap.done()


main()
