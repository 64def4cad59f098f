#!/usr/bin/env python3
# timeout: 900
"""/openapi.json of all five pipelines: schemathesis makes requests of it, good and bad ones, and no answer is a 5xx or other than the document says.

Needs schemathesis; ../shared/data for the detector (without it its pipeline is left out).
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import folder
from lib.web import Web, gateway, token

NAME = 'test_gateway_openapi'
FULL = bool(os.environ.get('MILLRACE_FULL'))
CHECKS = 'not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance,ignored_auth'

SETUP = """
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


def main():
    with gateway(NAME, SETUP, {'fsync': 'off'}) as (pg, port):
        web = Web(port)
        pg.psql(PIPELINES, user='mill')
        net = tap.data('models/yolov8n_dequant_fp32.onnx')
        if net:
            with open(net, 'rb') as f:
                pg.psql("SELECT millrace.import_model('yolo', '\\x%s')" % f.read().hex(), user='mill')
            pg.psql("SELECT millrace.create_pipeline('datasets', options => '{\"detector\": \"yolo\"}')", user='mill')
        else:
            tap.note('no ../shared/data: pipeline datasets is left out')
        status, document = web.until('/openapi.json')
        wanted = pg.psql("SELECT lower(method), prefix || path FROM millrace.routes")
        tap.same((status, sorted((m, p) for p, o in document['paths'].items() for m in o)), (200, sorted(wanted)), 'the document has every route')
        tap.same(web.get('/docs')[0], 200, '/docs answers')
        run = subprocess.run([sys.executable, '-m', 'schemathesis.cli', 'run', 'http://127.0.0.1:%d/openapi.json' % port, '-H', 'Authorization: Bearer ' + token(pg, 'mill'), '--checks', CHECKS,
                              '--max-examples', '100' if FULL else '12', '--phases', 'examples,coverage,fuzzing', '--seed', '7', '--continue-on-failure',
                              '--exclude-path-regex', '/events$|^/dashboard/events', '--request-timeout', '30', '--suppress-health-check', 'all', '--warnings', 'off',
                              '--max-failures', '40'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder(NAME), timeout=850)
        tested = re.search(r'(\d+) (?:generated|test cases?)', run.stdout)
        if not tap.ok(run.returncode == 0, 'schemathesis finds nothing (%s)' % (tested.group(0) if tested else 'exit %d' % run.returncode)):
            tap.note(run.stdout[-20000:])
        else:
            tap.note(run.stdout[-600:])
        tap.ok(web.get('/health')[0] in (200, 503), 'the gateway still answers')
        tap.ok('terminated by signal' not in pg.logs(), 'no process crashed')
    tap.done()


if __name__ == '__main__':
    main()
