#!/usr/bin/env python3
# timeout: 900
"""/openapi.json of all five pipelines: schemathesis makes requests of it, good and bad ones, and no answer is a 5xx or other than the document says.

Needs schemathesis; ../shared/data for the detector (without it its pipeline is left out).
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config, free_port

TMP = pathlib.Path(os.environ.get('MILLRACE_TMP', 'tmp/test_gateway_openapi')).resolve()
FULL = bool(os.environ.get('MILLRACE_FULL'))
CHECKS = 'not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth'

SETUP = """
    CREATE EXTENSION millrace;
    SELECT * FROM millrace.install_models();
    CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user, millrace_monitor;
    GRANT CREATE ON DATABASE postgres TO mill;
    CREATE SERVER llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url 'http://127.0.0.1:9', model 'm');
    GRANT USAGE ON FOREIGN SERVER llm TO mill;
    CREATE TABLE shapes AS SELECT i AS id, now() - i * interval '1 hour' AS seen, random() AS x, random() AS y FROM generate_series(1, 400) i;
    GRANT SELECT ON shapes TO mill;
    CREATE FUNCTION add_note(name text, n int DEFAULT 1, tags text[] DEFAULT '{}', at timestamptz DEFAULT now()) RETURNS TABLE (name text, n int, tags text[])
        LANGUAGE sql STABLE AS 'SELECT $1, $2, $3';
    SELECT millrace.create_route('POST', '/notes/{name}', 'add_note(text, int, text[], timestamptz)', '{"body": ["json", "form", "multipart"]}');
    SELECT millrace.create_route('GET', '/notes/{name}', 'add_note(text, int, text[], timestamptz)');
"""
PIPELINES = """
    SELECT millrace.create_pipeline('images');
    SELECT millrace.create_pipeline('events', options => '{"tasks": ["keywords"]}');
    SELECT millrace.create_pipeline('answers', options => '{"provider": "llm", "encoder": "", "judge": "token_f1"}');
"""


def get(url, token=None):
    request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + token} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def main():
    port = free_port()
    url = 'http://127.0.0.1:%d' % port
    conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 16, 'millrace.http_listen': '127.0.0.1:%d' % port, 'fsync': 'off'}
    with Cluster(find_pg_config(), TMP / 'cluster', conf=conf) as pg:
        pg.psql(SETUP)
        pg.psql(PIPELINES, user='mill')
        net = tap.data('models/yolov8n_dequant_fp32.onnx')
        if net:
            with open(net, 'rb') as f:
                pg.psql("SELECT millrace.import_model('yolo', '\\x%s')" % f.read().hex(), user='mill')
            pg.psql("SELECT millrace.create_pipeline('datasets', options => '{\"detector\": \"yolo\"}')", user='mill')
        else:
            tap.note('no ../shared/data: pipeline datasets is left out')
        pg.psql('SELECT millrace.start()')
        token = pg.value("SELECT millrace.create_api_token('all', 'mill')")
        end = time.time() + 30
        while time.time() < end:
            try:
                if get(url + '/health')[0] in (200, 503):
                    break
            except OSError:
                time.sleep(.2)
        status, body = get(url + '/openapi.json')
        document = json.loads(body)
        wanted = pg.psql("SELECT lower(method), prefix || path FROM millrace.routes")
        tap.same((status, sorted((m, p) for p, o in document['paths'].items() for m in o)), (200, sorted(wanted)), 'the document has every route')
        tap.same(get(url + '/docs')[0], 200, '/docs answers')
        run = subprocess.run([sys.executable, '-m', 'schemathesis.cli', 'run', url + '/openapi.json', '-H', 'Authorization: Bearer ' + token, '--checks', CHECKS,
                              '--max-examples', '100' if FULL else '12', '--phases', 'examples,coverage,fuzzing', '--seed', '7', '--continue-on-failure',
                              '--exclude-path-regex', '/events$|^/dashboard/events', '--request-timeout', '30', '--suppress-health-check', 'all', '--warnings', 'off',
                              '--max-failures', '40'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TMP, timeout=850)
        tested = re.search(r'(\d+) (?:generated|test cases?)', run.stdout)
        if not tap.ok(run.returncode == 0, 'schemathesis finds nothing (%s)' % (tested.group(0) if tested else 'exit %d' % run.returncode)):
            tap.note(run.stdout[-20000:])
        else:
            tap.note(run.stdout[-600:])
        tap.ok(get(url + '/health')[0] in (200, 503), 'the gateway still answers')
        tap.ok('terminated by signal' not in pg.logs(), 'no process crashed')
    tap.done()


if __name__ == '__main__':
    main()
