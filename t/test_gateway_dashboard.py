#!/usr/bin/env python3
# timeout: 900
# takes: 120
"""The dashboard in a real Chromium: what it shows is what SQL says, within five seconds; who sees what; its buttons; names that are markup; phones,
light and dark; a server that goes away.  Messages come from the embedded broker.  Prints TAP.

    test_gateway_dashboard.py [sql | token | panels | looks | buttons | names | state | anonymous]
"""
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap, web
import psycopg
from lib.browser import Browser, why_not
from lib.cluster import REPO, SqlError
from lib.stream import clean_log, folder

NAME = 'test_gateway_dashboard'
EVIL = '<img src=x onerror="window.hit=1">'
PHOTO = "image_resize((SELECT content FROM images.images WHERE image_id = 'first'), {}, {}, 'stretch')"
ROLES = """
    SELECT millrace.install_models();
    CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user, millrace_monitor;
    CREATE ROLE watch IN ROLE millrace_monitor;
    CREATE ROLE guest;
    GRANT CREATE ON DATABASE postgres TO mill;
    CREATE SERVER kafka FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{broker}');
    CREATE SERVER llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'demo.answer');
    GRANT USAGE ON FOREIGN SERVER kafka, llm TO mill;
"""
PIPELINES = """
    CREATE SCHEMA demo;
    CREATE FUNCTION demo.answer(request jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('text', 'The capital of Chile is Santiago.', 'model', 'demo', 'cost', 0.002) $$;
    SELECT millrace.create_pipeline('images', options => '{"server": "kafka", "images_topic": "photos"}');
    SELECT millrace.create_pipeline('answers', options => '{"provider": "llm", "encoder": "", "judge": "rouge_l"}');
    SELECT millrace.create_pipeline('events', options => '{"tasks": ["keywords"]}');
    SELECT millrace.create_pipeline('datasets');
    SELECT datasets.create_dataset('boxes', class_names => '{cat,dog}');
    CREATE TABLE demo.points AS SELECT i AS id, '2026-01-01'::timestamptz + i * interval '1 hour' AS seen, sin(i)::float8 + CASE WHEN i > 1400 THEN 1.5 ELSE 0 END AS x,
        cos(i * 1.7)::float8 AS y, CASE WHEN sin(i) > cos(i * 1.7) THEN 'up' ELSE 'down' END AS label FROM generate_series(1, 1680) i;
    SELECT millrace.train_model('points', 'logistic_regression', 'SELECT x, y, label FROM demo.points WHERE id % 4 < 2', 'label', '{"random_state": 1}');
    SELECT millrace.train_model('points', 'random_forest', 'SELECT x, y, label FROM demo.points WHERE id % 4 < 2', 'label', '{"n_estimators": 5, "random_state": 1}');
    SELECT millrace.promote_model('points', 1);
    SELECT millrace.evaluate_model('points:2', 'SELECT x, y, label FROM demo.points WHERE id % 4 = 2', 'label');
    SELECT millrace.challenge_model('points', 2, 'SELECT x, y, label FROM demo.points WHERE id % 4 > 1', 'label');
    SELECT millrace.create_monitor('points', 'SELECT seen, x, y FROM demo.points', '{"time": "seen", "window": "1 week", "start": "2026-01-29",
        "reference": {"from": "2026-01-01", "to": "2026-01-29"}, "scheduled": false}');
    SELECT millrace.run_monitor('points', '2026-03-12');
"""
# data-k of the page: the same in SQL
FIGURES = {
    'images.images': 'SELECT count(*) FROM images.images',
    'images.descriptors': 'SELECT count(*) FROM images.descriptors',
    'images.predictions': 'SELECT count(*) FROM images.predictions',
    'images.failures': 'SELECT count(*) FROM images.failures',
    'images.extract.p95': 'SELECT p95_ms FROM images.latency_by_stage WHERE stage = \'extract\'',
    'images.classify.fast.p50': 'SELECT p50_ms FROM images.latency_by_stage WHERE stage = \'classify fast\'',
    'answers.questions': 'SELECT count(*) FROM answers.questions',
    'answers.responses': 'SELECT count(*) FROM answers.responses',
    'answers.validated': "SELECT count(*) FROM answers.questions WHERE status = 'validated'",
    'answers.low-quality': "SELECT count(*) FROM answers.questions WHERE status = 'low-quality'",
    'answers.total.p50': "SELECT p50_ms FROM answers.latency_by_stage WHERE stage = 'total'",
    'events.events': 'SELECT count(*) FROM events.events',
    'events.results': 'SELECT count(*) FROM events.results',
    'events.work.keywords.p50': "SELECT p50_ms FROM events.latency WHERE type = 'keywords' AND stage = 'work, local'",
    'datasets.images': 'SELECT count(*) FROM datasets.images',
    'datasets.boxes.blocking': "SELECT coalesce(sum(findings), 0) FROM datasets.findings_summary WHERE dataset = 'boxes' AND severity = 'blocking'",
    'datasets.boxes.warning': "SELECT coalesce(sum(findings), 0) FROM datasets.findings_summary WHERE dataset = 'boxes' AND severity = 'warning'",
    'source.images_images.rows': "SELECT rows FROM millrace.source_status WHERE name = 'images_images'",
    'source.images_images.dead': "SELECT dead FROM millrace.source_status WHERE name = 'images_images'",
    'source.images_images.state': "SELECT state FROM millrace.source_status WHERE name = 'images_images'",
    'task.events.work.sql.succeeded': "SELECT succeeded FROM millrace.stat_tasks WHERE kind = 'events.work'",
    'provider.llm.succeeded': "SELECT succeeded FROM millrace.stat_providers WHERE provider = 'llm' AND tenant IS NULL",
    'cache.answers.misses': "SELECT misses FROM millrace.stat_caches WHERE name = 'answers'",
    'model.cifar10_fast:1.rows': "SELECT rows FROM millrace.stat_models WHERE name = 'cifar10_fast'",
    'evaluation.1.accuracy': 'SELECT accuracy FROM millrace.evaluations WHERE id = 1',
}
# those that the inserts of panels() change
MOVING = [k for k in FIGURES if not k.startswith(('evaluation', 'datasets.boxes.warning', 'answers.low', 'source.images_images.state'))]


class Page:
    def __init__(self, c, b, port):
        self.c, self.b, self.port, self.url = c, b, port, 'http://127.0.0.1:%d/' % port

    def open(self, token=None, path=''):
        self.b.open(self.url + 'docs')          # of the same origin, and open to all
        self.b.js("sessionStorage.clear(); if (arguments[0]) sessionStorage.setItem('millrace token', arguments[0])", token)
        self.b.open(self.url + path)
        if token:
            self.ready()

    def ready(self):
        self.b.wait("return document.querySelectorAll('main > section').length")

    def value(self, key):
        return self.b.js("const e = document.querySelector('[data-k=\"' + CSS.escape(arguments[0]) + '\"]'); return e && e.dataset.v", key)

    def text(self):
        return self.b.js('return document.body.innerText')

    def equal(self, keys, seconds=5):
        """{key: (page, SQL)} of those that do not come to be the same within the seconds."""
        end, left = time.monotonic() + seconds, list(keys)
        while True:
            told = {k: self.c.value(FIGURES[k]) for k in left}
            seen = self.b.js("return Object.fromEntries(arguments[0].map(k => { const e = document.querySelector('[data-k=\"' + CSS.escape(k) + '\"]'); return [k, e ? e.dataset.v ?? '' : null]; }))", left)
            left = [k for k in left if not alike(seen[k], told[k])]
            if not left or time.monotonic() > end:
                return {k: (seen[k], told[k]) for k in left}
            time.sleep(0.2)


def alike(a, b):
    if a is None or b is None:
        return a == b or (a is None and b in ('0', None))
    try:
        return abs(float(a) - float(b)) <= max(0.00501, 1e-6 * abs(float(b)))       # views of events round to 0.01 ms
    except ValueError:
        return a == b


def insert(c, n=1):
    """Some of everything, as its users would."""
    stamp = str(time.monotonic_ns())
    c.psql("INSERT INTO images.images (image_id, content) SELECT '%s ' || i, %s FROM generate_series(1, %d) i" % (stamp, PHOTO.format('60 + i', '50 + i'), n), user='mill')
    c.psql("INSERT INTO images.images (image_id, content) VALUES ('broken %s', '\\xffd8ff00')" % stamp, user='mill')
    c.psql("INSERT INTO events.events (text) SELECT 'A charming little hotel, close to the station, no. %s ' || i FROM generate_series(1, %d) i" % (stamp, n), user='mill')
    c.psql("SELECT * FROM answers.ask('What is the capital of Chile, number %s?', reference => 'The capital of Chile is Santiago.')" % stamp, user='mill')
    c.psql("INSERT INTO datasets.images (dataset, path, content) SELECT 'boxes', '%s.jpg', content FROM images.images WHERE image_id = 'first'" % stamp, user='mill')
    c.psql("INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2) SELECT max(image_id), 7, 1, 1, 20, 20 FROM datasets.images; SELECT datasets.audit('boxes')", user='mill')


def send(c, broker, lines, topic='photos'):
    subprocess.run([str(REPO / 'build/millrace-send'), '--brokers', broker, '--topic', topic, '--source', 'images_images', '--db', c.dsn(user='mill'), '--lines'],
                   input='\n'.join(lines) + '\n', text=True, check=True, stdout=subprocess.DEVNULL, timeout=120)


def first_photo():
    """A picture with some edges and colours, as hexadecimal of a JPEG."""
    from PIL import Image, ImageDraw
    image = Image.linear_gradient('L').resize((320, 240)).convert('RGB')
    ImageDraw.Draw(image).ellipse((60, 40, 220, 200), fill=(180, 60, 40))
    out = io.BytesIO()
    image.save(out, 'JPEG', quality=85)
    return out.getvalue().hex()


def denied(c, sql, user):
    try:
        c.psql("SET ROLE %s; %s" % (user, sql))
    except SqlError as e:
        return e.sqlstate


def cpu_ms(c, statement, times=15):
    """Milliseconds of a processor that a statement takes in a session that has run it before; the best of five, for neighbours cost time too."""
    with psycopg.connect(c.dsn(), autocommit=True) as session:
        pid = session.execute('SELECT pg_backend_pid()').fetchone()[0]

        def spent():
            fields = pathlib.Path('/proc/%d/stat' % pid).read_text().rsplit(')', 1)[1].split()
            return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
        for _ in range(6):
            session.execute(statement)
        took = []
        for _ in range(5):
            before = spent()
            for _ in range(times):
                session.execute(statement)
            took.append((spent() - before) / times)
        return min(took)


# ---- without a browser

def sql(page, tokens, broker):
    c = page.c
    nobody, mill, watch, guest = (web.Web(page.port, tokens.get(role)) for role in (None, 'mill', 'watch', 'guest'))
    status, body, headers = nobody.raw('GET', '/')
    tap.same((status, headers['Content-Type'], len(body) < 200000), (200, 'text/html; charset=utf-8', True), 'the page: %d bytes, without a token' % len(body))
    policy = headers['Content-Security-Policy']
    tap.ok("default-src 'none'" in policy and 'unsafe' not in policy and "script-src 'sha256-" in policy, 'its policy lets its own script run and nothing else')
    tap.same(nobody.raw('GET', '/', headers={'If-None-Match': headers['ETag']})[:2], (304, b''), 'asked for again, it has not changed')
    tap.ok(not any(host in body.decode() for host in ('https://', 'http://127', '//cdn')), 'it names no other server')
    tap.same(nobody.get('/dashboard/data')[0], 401, 'the data want a token')
    d = mill.get('/dashboard/data')[1]
    tap.same((d['role'], [p['name'] for p in d['pipelines']], {p['name']: p.get('error') for p in d['pipelines'] if p.get('error')}), ('mill', ['answers', 'datasets', 'events', 'images'], {}), 'with one they are of its role')
    status, body, headers = mill.raw('GET', '/dashboard/image/images/first')
    tap.same((status, headers['Content-Type'], body[:3], len(body) < 20000), (200, 'image/jpeg', b'\xff\xd8\xff', True), 'a small picture of an image')
    tap.same(c.psql("SELECT (image_info(body)).width, (image_info(body)).height FROM millrace.dashboard_image('images', 'first')"), [('192', '144')], 'keeps its shape')
    tap.same([mill.get('/dashboard/image/' + p)[0] for p in ('images/none', 'nothing/first', 'events/1', 'pg_catalog/first')], [404, 404, 404, 404], 'there is none of anything else')
    tap.same(watch.get('/dashboard/image/images/first')[0], 403, 'nor for a role that may not read the table')

    # who sees what
    d = watch.get('/dashboard/data')[1]
    tap.same([(p['name'], p['readable'], 'images' in p and p['images']) for p in d['pipelines'] if p['name'] == 'images'], [('images', False, False)], 'millrace_monitor sees how many rows there are, and none of them')
    tap.ok('letters' not in d and not any(s['may'] for s in d['sources']), 'nor dead letters, nor may it pause')
    tap.same(guest.get('/dashboard/data')[1].keys() & {'sources', 'letters', 'models', 'tasks', 'drift', 'workers', 'gateway'}, set(), 'a role without any right sees nothing')
    c.psql("GRANT USAGE ON SCHEMA images TO guest; GRANT SELECT ON ALL TABLES IN SCHEMA images TO guest; ALTER TABLE images.descriptors ENABLE ROW LEVEL SECURITY; "
           "CREATE POLICY one ON images.descriptors TO guest USING (image_id = 'first'); INSERT INTO images.images (image_id, content) SELECT 'second', %s" % PHOTO.format(40, 40))
    d = guest.get('/dashboard/data')[1]
    tap.same([(p['name'], [i['image_id'] for i in p['images']], p['tables']['descriptors']['rows']) for p in d['pipelines']], [('images', ['first'], 1)], 'granted one pipeline, of it those rows that its policies let through')
    c.psql("ALTER TABLE images.descriptors DISABLE ROW LEVEL SECURITY; DROP POLICY one ON images.descriptors; REVOKE ALL ON ALL TABLES IN SCHEMA images FROM guest; REVOKE USAGE ON SCHEMA images FROM guest")
    tap.same(denied(c, "SELECT millrace.dashboard_action('pause_source', 'images_images')", 'watch'), '42501', 'the actions are not for everybody')
    tap.same(watch.post('/dashboard/action', {'action': 'pause_source', 'name': 'images_images'})[0], 403, 'nor over HTTP')
    tap.same(mill.post('/dashboard/action', {'action': 'drop_source', 'name': 'images_images'})[0], 400, 'and there are three of them')

    # what belongs to somebody else is not run with the reader's rights
    c.psql("BEGIN; ALTER TABLE events.failures RENAME TO old; CREATE VIEW events.failures AS SELECT o.*, set_config('test.trap', 'sprung', false) FROM events.old o; "
           "SELECT millrace.dashboard(); SELECT 1 / (coalesce(current_setting('test.trap', true), '') = '')::int; "
           "SELECT 1 / (NOT (millrace.dashboard_pipeline('events', 'events') ->> 'readable')::boolean)::int; ROLLBACK")
    tap.ok(True, 'a view in a table\'s place is not looked at')
    c.psql("BEGIN; CREATE TYPE demo.mood AS ENUM ('x'); CREATE FUNCTION demo.trap(demo.mood) RETURNS json LANGUAGE sql AS $$ SELECT to_json(set_config('test.trap', 'sprung', false)) $$; "
           "CREATE CAST (demo.mood AS json) WITH FUNCTION demo.trap(demo.mood); ALTER TABLE images.failures ALTER sqlstate TYPE demo.mood USING 'x'::demo.mood; "
           "SELECT to_jsonb(f) FROM images.failures f; SELECT 1 / (current_setting('test.trap') = 'sprung')::int; "
           "SELECT set_config('test.trap', '', false); SELECT millrace.dashboard(); SELECT 1 / (current_setting('test.trap') = '')::int; ROLLBACK")
    tap.ok(True, 'nor are columns of a type that brings casts along')
    c.psql("BEGIN; CREATE TABLE demo.many (LIKE images.descriptors INCLUDING DEFAULTS) PARTITION BY RANGE (created_at); CREATE TABLE demo.all PARTITION OF demo.many DEFAULT; "
           "INSERT INTO demo.many SELECT * FROM images.descriptors; ALTER TABLE images.descriptors RENAME TO before; ALTER INDEX images.descriptors_created RENAME TO before_created; "
           "ALTER TABLE demo.many SET SCHEMA images; ALTER TABLE images.many RENAME TO descriptors; CREATE INDEX descriptors_created ON images.descriptors (created_at); ANALYZE images.descriptors; "
           "SELECT 1 / ((d ->> 'readable')::boolean AND jsonb_array_length(d -> 'images') > 0 AND (d #>> '{tables,descriptors,rows}')::int = (SELECT count(*) FROM images.descriptors))::int "
           "FROM millrace.dashboard_pipeline('images', 'images') d; ROLLBACK")
    tap.ok(True, 'partitioned tables are')
    tap.same(c.value("BEGIN; ALTER TABLE images.descriptors DROP COLUMN descriptor_count CASCADE; SELECT millrace.dashboard_pipeline('images', 'images') ->> 'error'; ROLLBACK"),
             'column d.descriptor_count does not exist', 'a pipeline whose tables were altered says so')
    # and it stays cheap
    c.psql("INSERT INTO images.descriptors (image_id, descriptors) SELECT 'd' || i, ARRAY(SELECT random()::real FROM generate_series(1, 20)) FROM generate_series(1, 20000) i; ANALYZE images.descriptors, images.predictions", user='mill')
    c.psql("INSERT INTO answers.processing_metrics (question_id, stage, ms) SELECT gen_random_uuid(), 'lookup', 1 FROM generate_series(1, 200000); ANALYZE answers.processing_metrics")
    took = cpu_ms(c, 'SELECT millrace.dashboard()')
    # 20 where it is alone
    tap.ok(took <= 60, 'with 20,000 images and 200,000 steps it takes %.1f ms of a processor' % took)
    c.psql("DELETE FROM answers.processing_metrics WHERE stage = 'lookup' AND ms = 1; DELETE FROM images.predictions WHERE image_id LIKE 'd%'; DELETE FROM images.descriptors WHERE image_id LIKE 'd%'; "
           "VACUUM ANALYZE images.predictions; VACUUM ANALYZE images.descriptors; VACUUM ANALYZE answers.processing_metrics")


# ---- with one

def token(page, tokens, broker):
    b = page.b
    page.open()
    tap.ok(b.wait("return document.getElementById('ask').open"), 'without a token the page asks for one')
    b.type('mr_wrong\ue007')
    tap.ok(b.wait("return document.getElementById('ask').open && document.getElementById('ask-why').textContent.includes('does not take')"), 'and again where it is a wrong one')
    b.type(tokens['mill'] + '\ue007')
    page.ready()
    tap.ok(not b.js("return document.getElementById('ask').open") and 'role mill' in page.text(), 'with the right one it shows itself')
    tap.same(b.js('return [Object.keys(localStorage).length, document.cookie]'), [0, ''], 'which is kept in the tab alone')
    b.console()


def panels(page, tokens, broker):
    c, b = page.c, page.b
    page.open(tokens['mill'])
    wrong = page.equal(FIGURES)
    tap.same(wrong, {}, '%d figures of all panels are what SQL says' % len(FIGURES))
    before = {k: page.value(k) for k in MOVING}
    requests = int(page.value('route.GET /dashboard/data 2xx'))
    insert(c, 5)
    send(c, broker, ['{"image_id": "kafka %d", "content": "%s"}' % (time.monotonic_ns(), c.value("SELECT replace(encode(content, 'base64'), E'\\n', '') FROM images.images WHERE image_id = 'first'")), '{"image_id": 7, "content": "zzz'])
    c.wait_for("SELECT (SELECT count(*) FROM answers.questions WHERE finished_at IS NULL) + (SELECT coalesce(sum(waiting + running + retrying), 0) FROM millrace.stat_tasks)", '0', 60)
    wrong = page.equal(FIGURES)
    tap.same(wrong, {}, 'and so they are within five seconds of rows that come')
    tap.same([k for k in MOVING if page.value(k) == before[k]], [], 'all %d that these change have changed' % len(MOVING))
    told, asked = (int(x) for x in (page.value('route.GET /dashboard/data 2xx'), c.value("SELECT requests FROM millrace.stat_gateway WHERE route = '/dashboard/data' AND status = '2xx'")))
    tap.ok(requests < told <= asked <= told + 5, 'requests are counted: %d, %d, %d by SQL a moment later' % (requests, told, asked))
    shown = b.js("return [...document.querySelectorAll('[data-image]')].map(e => [e.dataset.image, [...e.querySelectorAll('.guess')].map(g => [...g.children].map(x => x.textContent))])")
    same = json.loads(c.value("SELECT jsonb_agg(jsonb_build_array(d.image_id, (SELECT jsonb_agg(jsonb_build_array(p.profile, p.label, to_char(p.confidence, 'FM0.00')) ORDER BY p.profile) FROM images.predictions p "
                              "WHERE p.image_id = d.image_id)) ORDER BY d.created_at DESC) FROM (SELECT * FROM images.descriptors ORDER BY created_at DESC LIMIT 12) d"))
    tap.same(shown, same, 'the latest images with the predictions of each profile')
    tap.ok(b.wait("return [...document.querySelectorAll('.thumb')].every(t => t.querySelector('img')?.naturalWidth > 0)"), 'and their pictures')
    tap.same(b.js("const q = document.querySelector('[data-question]'); q.open = true; return q.querySelectorAll('.tries li').length"),
             int(c.value("SELECT count(*) FROM answers.responses WHERE question_id = (SELECT question_id FROM answers.processing_metrics ORDER BY metric_id DESC LIMIT 1)")), 'a question opens into its attempts')
    tap.same(b.js("return [...document.querySelectorAll('[data-letter]')].map(e => e.dataset.letter)"), [r[0] for r in c.psql('SELECT id FROM millrace.dead_letters ORDER BY id DESC LIMIT 12')], 'dead letters')
    tap.same(set(b.js("return [...document.querySelectorAll('#processes tbody tr')].map(e => e.cells[2].textContent)")), {r[0] or '\u2013' for r in c.psql('SELECT pid FROM millrace.worker_status()')}, 'processes')
    champion = c.value("SELECT name || ':' || version FROM millrace.model_aliases WHERE name = 'points' AND alias = 'champion'")
    tap.same(b.js("return [...document.querySelectorAll('[data-model]')].filter(e => e.querySelector('.pill.ok')?.textContent === 'champion').map(e => e.dataset.model)"), [champion], 'the champion')
    psi = float(c.value("SELECT max(psi) FROM millrace.drift WHERE monitor = 'points'"))
    label = b.js("return document.querySelector('#drift svg').getAttribute('aria-label')")
    tap.ok('PSI of 2 columns' in label and 'largest: x' in label and abs(float(label.rsplit(' ', 1)[1]) - psi) < 0.01 * psi, 'drift: %s' % label)
    b.js("document.querySelector('#drift svg').scrollIntoView({block: 'center'})")
    b.hover('#drift svg', 0, 0)
    tap.ok('x: ' in (b.wait("const t = document.getElementById('tip'); return getComputedStyle(t).visibility === 'visible' && t.textContent") or ''), 'values on hover')
    tap.same(b.console(), [], 'no line in the console')


def looks(page, tokens, broker):
    b = page.b
    page.open(tokens['mill'])
    b.console()
    b.size(390, 844)
    b.wait("return document.documentElement.clientWidth === 390")
    time.sleep(2.5)
    tap.same(b.js("return [document.documentElement.scrollWidth, [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, .lat') && e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))]"), [390, []],
             'at 390 pixels nothing sticks out')
    tap.ok(b.js("return [...document.querySelectorAll('button')].every(e => e.textContent.trim())"), 'every button has a name')
    tap.ok(b.js("return [...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label')) && [...document.querySelectorAll('main img')].every(e => e.alt) && document.documentElement.lang === 'en'"), 'and every chart and picture')
    b.size(1280, 900)
    paints = []
    for _ in range(5):
        b.open(page.url)
        page.ready()
        paints.append(b.js("return performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    tap.ok(min(paints) < 500, 'first paint after %d ms (of five: %s)' % (min(paints), ', '.join('%d' % p for p in paints)))
    tap.ok(b.js("return performance.getEntriesByType('resource').every(r => r.name.startsWith(location.origin) || r.name.startsWith('blob:'))"), 'nothing comes from elsewhere')
    back = {}
    for scheme in ('light', 'dark'):
        b.scheme(scheme)
        time.sleep(0.3)
        back[scheme] = b.js('return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]')
    tap.ok(sum(map(int, back['light'][0][4:-1].split(','))) > 600 and sum(map(int, back['dark'][0][4:-1].split(','))) < 150 and back['light'][1] != back['dark'][1], 'light and dark, as the system has it: %s' % back)
    b.click('#theme')
    tap.same(b.js('return getComputedStyle(document.body).backgroundColor'), back['light'][0], 'and by the switch')
    b.click('#theme')
    b.scheme('light')
    tap.same(b.console(), [], 'no line in the console')
    b.open(page.url + 'docs')
    tap.ok(b.wait("return document.querySelector('[data-operation=\"POST /images/predict\"]')"), '/docs lists the routes')
    b.js("const d = document.querySelector('[data-operation=\"POST /images/predict\"]'); d.open = true; const t = d.querySelector('textarea'); t.value = JSON.stringify({descriptors: Array(20).fill(0.1)}); "
         "t.dispatchEvent(new Event('input')); d.querySelector('button').click()")
    tap.ok('confidence' in (b.wait("const p = [...document.querySelectorAll('[data-operation=\"POST /images/predict\"] pre')]; return p.length > 1 && p.at(-1).textContent") or ''), 'and tries one')
    b.size(390, 844)
    tap.same(b.js('return document.documentElement.scrollWidth'), 390, 'on a phone too')
    b.size(1280, 900)
    tap.same(b.console(), [], 'no line in the console')


def buttons(page, tokens, broker):
    c, b = page.c, page.b
    page.open(tokens['watch'])
    tap.same((b.js("return document.querySelectorAll('[data-action]').length"), 'images_images' in page.text()), (0, True), 'who may only look has no buttons')
    page.open(tokens['mill'])
    before = c.value('SELECT count(*) FROM millrace.dead_letters')
    b.click('[data-action="pause_source images_images"]')
    tap.ok(b.wait("return document.querySelector('[data-k=\"source.images_images.state\"]').dataset.v === 'paused'"), 'a click pauses a source')
    tap.same(c.value("SELECT reason FROM millrace.sources WHERE state = 'paused'"), 'paused by mill on the dashboard', 'and says who')
    b.click('[data-action="resume_source images_images"]')
    tap.ok(b.wait("return document.querySelector('[data-k=\"source.images_images.state\"]').dataset.v === 'running'", timeout=40), 'another resumes it')
    # what these letters say does not get better: they are tried once more and stay
    b.click('[data-action="redrive_dead_letters images_images"]')
    c.wait_for('SELECT bool_and(attempts = 1 AND redrive_at IS NULL) FROM millrace.dead_letters', 't', 40)
    tap.ok(b.wait("return [...document.querySelectorAll('[data-letter]')].every(e => e.innerText.includes('1 times again'))", timeout=10), 'a third runs the dead letters again (%s of them)' % before)
    tap.same(b.console(), [], 'no line in the console')


def names(page, tokens, broker):
    c, b = page.c, page.b
    evil = EVIL.replace("'", "''")
    c.psql("INSERT INTO images.profiles (profile, model) VALUES ('__proto__', 'cifar10_fast'); INSERT INTO images.images (image_id, content) SELECT '%s', %s; UPDATE images.predictions SET label = '%s' WHERE image_id = '%s'; INSERT INTO events.events (text) VALUES ('%s'); "
           "SELECT * FROM answers.ask('%s?', reference => '%s'); SELECT datasets.create_dataset('x%s'); SELECT millrace.create_pipeline('events', '<b onclick=alert(1)>', '{\"tasks\": [\"keywords\"]}'); "
           "SELECT millrace.create_source('%s', 'kafka', 'photos', 'demo.points', '{\"start\": \"latest\"}')" % (evil, PHOTO.format(50, 50), evil, evil, evil, evil, evil, evil.replace('/', ''), 'bad<img src=x onerror=window.hit=1>'), user='mill')
    page.open(tokens['mill'])
    time.sleep(5)
    text = page.text()
    tap.same((b.js('return window.hit ?? null'), b.js("return document.querySelectorAll('img[src=x], main b[onclick], main script').length")), (None, 0), 'names that are markup do nothing')
    tap.ok(text.count(EVIL) >= 4 and '__proto__' in text and '<b onclick=alert(1)>' in text and 'bad<img src=x' in text, 'they are shown as they are (%d times)' % text.count(EVIL))
    tap.ok(b.wait("return [...document.querySelectorAll('[data-image]')].find(e => e.dataset.image === arguments[0])?.querySelector('img')?.naturalWidth", EVIL), 'the picture of such a name is found')
    tap.same(b.console(), [], 'no line in the console')
    c.psql("SELECT millrace.drop_source('bad<img src=x onerror=window.hit=1>'); SELECT millrace.drop_pipeline('<b onclick=alert(1)>')", user='mill')


def state(page, tokens, broker):
    c, b = page.c, page.b
    page.open(tokens['mill'])
    b.js("const q = document.querySelector('[data-question]'); q.open = true; window.held = q; window.row = document.querySelector('[data-source]'); const s = document.querySelector('[data-action]'); s.focus(); window.focused = s; scrollTo(0, 700)")
    at = b.js("window.seen = document.querySelector('#who').textContent; return scrollY")
    fresh = b.js("return data.at")
    insert(c, 3)
    b.wait("return data.at > arguments[0]", fresh)
    time.sleep(4.5)
    tap.same(b.js("return [window.held.isConnected && window.held.open, window.row.isConnected, document.activeElement === window.focused]"), [True, True, True], 'refreshed, what was open is open, rows are the same nodes, the focus stays')
    tap.ok(abs(b.js("return scrollY") - at) < 400, 'and the place on the page')
    b.click('#hold')
    held = b.js('return data.at')
    time.sleep(4.5)
    tap.same((b.js('return data.at'), 'held at' in b.js("return document.getElementById('fresh').textContent")), (held, True), 'it can be held')
    b.click('#hold')
    b.wait("return data.at > arguments[0]", held)
    b.console()
    c.stop()
    tap.ok(b.wait("return document.body.classList.contains('stale') && document.getElementById('fresh').textContent.includes('disconnected')", timeout=20), 'a server that is gone is told: %s' % b.js("return document.getElementById('fresh').textContent"))
    tap.ok('Dead letters' in page.text(), 'with what was known last')
    c.start()
    tap.ok(b.wait("return !document.body.classList.contains('stale') && document.getElementById('fresh').textContent === 'live'", timeout=60), 'and it goes on when the server is back')
    tap.same([line for line in b.console() if 'ERR_' not in line and '503' not in line], [], 'nothing but the lost requests in the console')


def anonymous(page, tokens, broker):
    c, b = page.c, page.b
    c.psql("ALTER DATABASE postgres SET millrace.http_anonymous = 'watch'; SELECT millrace.start()")
    web.Web(page.port).until('/dashboard/data', seconds=40)
    page.open()
    page.ready()
    tap.same((b.js("return document.getElementById('ask').open"), 'role watch' in page.text(), b.js("return document.querySelectorAll('[data-action]').length")), (False, True, 0), 'where there is an anonymous role, no token is asked for')
    tap.same(b.console(), [], 'no line in the console')
    c.psql('ALTER DATABASE postgres RESET millrace.http_anonymous')


def main():
    missing = why_not()
    if not (REPO / 'build/millrace-broker').exists():
        subprocess.run(['make', '-s', 'build/millrace-broker', 'build/millrace-send'], cwd=REPO, check=True)
    parts = [sql, token, panels, looks, buttons, names, state, anonymous]
    wanted = [p for p in parts if len(sys.argv) < 2 or p.__name__ in sys.argv[1:]]
    with contextlib.ExitStack() as stack:
        folder(NAME).mkdir(parents=True, exist_ok=True)
        address = folder(NAME) / 'broker'
        address.unlink(missing_ok=True)
        broker = subprocess.Popen([str(REPO / 'build/millrace-broker'), '--topic', 'photos:2', '--file', str(address)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(broker.wait)
        stack.callback(broker.terminate)
        for _ in range(200):
            if address.exists() and address.read_text().strip():
                break
            time.sleep(0.1)
        broker = address.read_text().strip()
        c, port = stack.enter_context(web.gateway(NAME, ROLES.format(broker=broker), {'max_worker_processes': 32, 'fsync': 'off'}))
        page = Page(c, stack.enter_context(Browser(folder(NAME))) if not missing else None, port)
        tokens = {r: web.token(c, r) for r in ('mill', 'watch', 'guest')}
        web.Web(port).until('/')
        if missing:
            tap.note('%s: the parts with a browser are left out' % missing)
        elif len(sys.argv) < 2:
            page.open(tokens['mill'])
            told = page.b.js("return [...document.querySelectorAll('.empty code')].map(e => e.textContent)")
            tap.ok(len(told) >= 4 and any('create_pipeline' in t for t in told), 'an empty database: %d panels tell what to type' % len(told))
            c.psql('GRANT CREATE ON SCHEMA public TO mill')
            for what in ('submit_task', 'create_pipeline'):
                c.psql(next(t for t in told if what in t), user='mill')
            c.wait_for("SELECT result FROM millrace.tasks WHERE payload ->> 'function' = 'public.count_words'", '4')
            c.psql("SELECT millrace.drop_pipeline('images')", user='mill')
            tap.same(page.b.console(), [], 'no line in the console')
        c.psql(PIPELINES, user='mill')
        c.psql("INSERT INTO images.images (image_id, content) VALUES ('first', '\\x%s')" % first_photo(), user='mill')
        insert(c, 2)
        send(c, broker, ['{"image_id": 7, "content": "zzz'])
        c.wait_for("SELECT (SELECT count(*) FROM answers.questions WHERE finished_at IS NULL) + (SELECT coalesce(sum(waiting + running + retrying), 0) FROM millrace.stat_tasks)", '0', 120)
        for part in wanted:
            if part is sql or not missing:
                tap.note(part.__name__)
                part(page, tokens, broker)
        clean_log(c)
    tap.done()


main()
