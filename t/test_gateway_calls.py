"""Functions of routes: what becomes of arguments, results and errors, through HTTP and a real executor."""
# timeout: 300
# takes: 35
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import free_port
from lib.web import Web, gateway, routes, token

JPEG = b'\xff\xd8\xff\xe0' + bytes(range(256))

SETUP = r"""
    CREATE ROLE app;
    CREATE TYPE pair AS (a int, b text);
    CREATE TYPE mood AS ENUM ('calm', 'busy');
    CREATE DOMAIN small AS int CHECK (VALUE < 10);
    CREATE DOMAIN few AS int[] CHECK (cardinality(VALUE) < 3);
    CREATE DOMAIN "application/x-thing" AS bytea;
    CREATE FUNCTION add(a int, b int DEFAULT 5) RETURNS int LANGUAGE sql AS 'SELECT a + b';
    CREATE FUNCTION add(a text) RETURNS text LANGUAGE sql AS 'SELECT a || ''!''';
    CREATE FUNCTION typed(i int DEFAULT NULL, big bigint DEFAULT NULL, r real DEFAULT NULL, d float8 DEFAULT NULL, n numeric DEFAULT NULL, t text DEFAULT NULL,
            b boolean DEFAULT NULL, u uuid DEFAULT NULL, at timestamptz DEFAULT NULL, j json DEFAULT NULL, jb jsonb DEFAULT NULL, ra real[] DEFAULT NULL, da float8[] DEFAULT NULL,
            ia int[] DEFAULT NULL, ta text[] DEFAULT NULL, m mood DEFAULT NULL, p pair DEFAULT NULL, ps pair[] DEFAULT NULL, s small DEFAULT NULL, f few DEFAULT NULL,
            by bytea DEFAULT NULL, rg int4range DEFAULT NULL, iaa int[][] DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
        SELECT jsonb_strip_nulls(jsonb_build_object('i', i, 'big', big, 'r', r, 'd', d, 'n', n, 't', t, 'b', b, 'u', u, 'at', at AT TIME ZONE 'UTC', 'j', j, 'jb', jb, 'ra', ra, 'da', da, 'ia', ia,
            'ta', to_jsonb(ta), 'm', m, 'p', p, 'ps', ps, 's', s, 'f', f, 'by', by, 'rg', rg, 'iaa', iaa)) $$;
    CREATE FUNCTION many(VARIADIC words text[]) RETURNS int LANGUAGE sql AS 'SELECT cardinality(words)';
    CREATE FUNCTION whole(body jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT body';
    CREATE FUNCTION unnamed(json) RETURNS text LANGUAGE sql AS 'SELECT json_typeof($1)';
    CREATE FUNCTION raw(body bytea, note text DEFAULT 'none') RETURNS text LANGUAGE sql AS $$ SELECT length(body) || ' ' || note $$;
    CREATE FUNCTION words(body text) RETURNS text LANGUAGE sql AS 'SELECT body || ''!''';
    CREATE FUNCTION photo(file bytea, file_name text, file_type text, n int DEFAULT 0) RETURNS jsonb LANGUAGE sql AS
        $$ SELECT jsonb_build_object('n', n, 'length', length(file), 'name', file_name, 'type', file_type, 'md5', md5(file)) $$;
    CREATE FUNCTION photos(files bytea[]) RETURNS int[] LANGUAGE sql AS 'SELECT array_agg(length(f)) FROM unnest(files) f';
    CREATE FUNCTION told(kind text) RETURNS text LANGUAGE sql AS $$ SELECT current_setting('request.' || kind) $$;
    CREATE FUNCTION inner_default(n int DEFAULT length(current_user::text)) RETURNS int LANGUAGE sql AS 'SELECT n';

    CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS '';
    CREATE FUNCTION number() RETURNS numeric LANGUAGE sql AS 'SELECT 1.50';
    CREATE FUNCTION truth() RETURNS boolean LANGUAGE sql AS 'SELECT true';
    CREATE FUNCTION absent() RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
    CREATE FUNCTION row_of() RETURNS pair LANGUAGE sql AS $$ SELECT 1, 'x' $$;
    CREATE FUNCTION outs(OUT a int, OUT b json) LANGUAGE sql AS $$ SELECT 1, '{"c": [1]}'::json $$;
    CREATE FUNCTION listed(n int) RETURNS TABLE (a int, b text) LANGUAGE sql AS $$ SELECT i, 'v' || i FROM generate_series(1, n) i $$;
    CREATE FUNCTION numbers(n int) RETURNS SETOF int LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. n LOOP RETURN NEXT i; END LOOP; END $$;
    CREATE FUNCTION texts() RETURNS SETOF text LANGUAGE sql AS $$ VALUES ('a"b'), (NULL) $$;
    CREATE FUNCTION jsons() RETURNS SETOF jsonb LANGUAGE sql AS $$ VALUES ('{"a": 1}'::jsonb), ('2') $$;
    CREATE FUNCTION page() RETURNS millrace."text/html" LANGUAGE sql AS $$ SELECT '<p>ä</p>' $$;
    CREATE FUNCTION lines() RETURNS SETOF millrace."text/csv" LANGUAGE sql AS $$ VALUES (E'a,b\n'), (E'1,2\n') $$;
    CREATE FUNCTION thing() RETURNS "application/x-thing" LANGUAGE sql AS $$ SELECT '\x0001ff'::bytea $$;
    CREATE FUNCTION picture(kind text) RETURNS bytea LANGUAGE sql AS $$ SELECT decode(CASE kind WHEN 'jpeg' THEN 'ffd8ffe0' WHEN 'png' THEN '89504e470d0a1a0a' WHEN 'gif' THEN '474946383961'
        WHEN 'webp' THEN '524946460000000057454250' WHEN 'pdf' THEN '255044462d' ELSE '00' END, 'hex') $$;
    CREATE FUNCTION reply(s int, h jsonb DEFAULT NULL, t text DEFAULT 'text/plain') RETURNS millrace.http_response LANGUAGE sql AS $$ SELECT millrace.respond_bytes(s, t, 'hi', h) $$;
    CREATE FUNCTION bare(s int) RETURNS millrace.http_response LANGUAGE sql AS $$ SELECT ROW(s, NULL, NULL, NULL, NULL)::millrace.http_response $$;
    CREATE FUNCTION large(n int) RETURNS text LANGUAGE sql AS $$ SELECT repeat('x', n) $$;
    CREATE FUNCTION large_set(n int) RETURNS SETOF text LANGUAGE sql AS $$ SELECT repeat('x', 1000) FROM generate_series(1, n) $$;
    CREATE FUNCTION large_bytes(n int) RETURNS bytea LANGUAGE sql AS $$ SELECT repeat('x', n)::bytea $$;

    CREATE TABLE answers (id int PRIMARY KEY, v jsonb);
    GRANT SELECT ON answers TO app;
    CREATE FUNCTION question(id int, within_ms int) RETURNS millrace.http_response LANGUAGE sql AS
        $$ SELECT millrace.respond_later(202, '{"status": "pending"}', jsonb_build_object('id', id, 'since', now()), within_ms, 20, '{"X-Later": "yes"}') $$;
    CREATE FUNCTION ready(jsonb) RETURNS millrace.http_response LANGUAGE plpgsql AS $$
        DECLARE found jsonb := (SELECT v FROM public.answers WHERE id = ($1 ->> 'id')::int);
        BEGIN IF found = '"fail"' THEN RAISE division_by_zero; END IF; RETURN millrace.respond(200, found || jsonb_build_object('as', current_user)) FROM (SELECT) x WHERE found IS NOT NULL; END $$;
    CREATE FUNCTION size(body jsonb) RETURNS int LANGUAGE sql AS 'SELECT pg_column_size(body)';

    CREATE FUNCTION fail(state text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'm "%"', state USING ERRCODE = state, DETAIL = 'd', HINT = 'h'; END $$;
    CREATE FUNCTION broken() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN public.no_such(); END $$;
    CREATE FUNCTION recurse() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN public.recurse(); END $$;
    CREATE FUNCTION divide(a int) RETURNS int LANGUAGE sql AS 'SELECT 1 / a';
    CREATE FUNCTION secret() RETURNS int LANGUAGE sql AS 'SELECT 1';
    REVOKE EXECUTE ON FUNCTION secret() FROM PUBLIC;
    CREATE TABLE items (id int PRIMARY KEY, amount int CHECK (amount > 0), note text NOT NULL);
    GRANT ALL ON items TO app;
    CREATE FUNCTION put(id int, amount int, note text DEFAULT NULL) RETURNS void LANGUAGE sql AS 'INSERT INTO public.items VALUES (id, amount, note)';
    CREATE SEQUENCE tries;
    GRANT USAGE ON SEQUENCE tries TO app;
    CREATE FUNCTION contended(until int) RETURNS bigint LANGUAGE plpgsql AS $$
        DECLARE n bigint := nextval('public.tries'); BEGIN IF n < until THEN RAISE 'again' USING ERRCODE = 'serialization_failure'; END IF; RETURN n; END $$;
"""


def arguments(c, w):
    same = lambda got, want, name: tap.same(got, (200, want), name)
    same(w.get('/get/add', {'a': 1}), 6, 'an argument of the query, another by its default')
    same(w.post('/add', {'a': 1, 'b': 2}), 3, 'members of a JSON object are arguments')
    same(w.post('/add', {'b': '2', 'a': '7'}), 9, 'texts in it go through the type\'s input function')
    same(w.get('/get/typed', {'i': -5, 'r': '1e3', 'd': 0.1, 't': 'ä ö', 'b': 'on', 'm': 'busy', 'ta': '{a,b}', 'ia': '[1,2]', 'p': '(3,x)', 'jb': '{"x": [1]}', 's': 9, 'by': '\\x6162'}),
         {'i': -5, 'r': 1000, 'd': 0.1, 't': 'ä ö', 'b': True, 'm': 'busy', 'ta': ['a', 'b'], 'ia': [1, 2], 'p': {'a': 3, 'b': 'x'}, 'jb': {'x': [1]}, 's': 9, 'by': '\\x6162'},
         'texts become what the arguments are')
    given = {'i': -5, 'big': 9007199254740993, 'r': 1.5, 'd': 0.1, 'n': 1.50, 't': 'ä"\n\\ \U0001f600', 'b': False, 'u': '0a0b0c0d-0000-4000-8000-000000000001', 'at': '2026-01-02T03:04:05',
             'j': {'a': [1, {'b': 'c'}]}, 'jb': [1, 'x'], 'ra': [1, 2.5, -1e-3], 'da': [0.1, 0.25, 'Infinity'], 'ia': [1, 2], 'ta': ['a', 'b,c', '"'], 'm': 'calm',
             'p': {'a': 1, 'b': 'x'}, 'ps': [{'a': 1, 'b': 'x'}, {'a': 2, 'b': '}'}], 's': 3, 'f': [1, 2], 'by': '\\x6162', 'rg': '[1,5)', 'iaa': [[1, 2], [3, 4]]}
    same(w.post('/typed', given), given, 'JSON values of every kind')
    same(w.post('/typed', {'t': 5, 'ta': [1, None, True]}), {'t': '5', 'ta': ['1', None, 'true']}, 'numbers where texts are wanted, and null in an array')
    same(w.post('/typed', {'t': None, 'jb': None}), {}, 'null is null')
    same(w.post('/typed', {'ra': [], 'f': []}), {'ra': [], 'f': []}, 'empty arrays')
    tap.same(w.post('/typed', {'ra': [3.5e38]})[0], 400, 'a number that real cannot hold')
    same(w.post('/typed', '{"ra": [0.1, 16777217]}'), {'ra': [0.1, 16777216]}, 'reals are rounded once')
    same(w.get('/get/typed', [('ia', 1), ('ia', 2), ('ta', '')]), {'ia': [1, 2], 'ta': ['']}, 'a parameter that comes again is an array')
    same(w.get('/get/many', [('words', 'a'), ('words', 'b')]), 2, 'variadic')
    same(w.get('/get/many'), 0, 'variadic of none')
    same(w.get('/get/inner_default'), 3, 'a default is worked out as the role')
    same(w.post('/whole', [1, {'a': None}]), [1, {'a': None}], 'argument body takes the whole')
    same(w.post('/unnamed', '"x"'), b'string', 'and so does a single one without a name')
    tap.same(w.ask('POST', '/raw?note=n', b'\x00\xff' * 500, {'Content-Type': 'application/octet-stream'})[:2], (200, b'1000 n'), 'bytes, and a parameter of the query beside them')
    tap.same(w.ask('POST', '/words', 'ä'.encode(), {'Content-Type': 'text/plain'})[:2], (200, 'ä!'.encode()), 'text')
    tap.same(w.ask('POST', '/words', b'\xff\xfe', {'Content-Type': 'text/plain'})[0], 400, 'that is no UTF-8')
    tap.same(w.ask('POST', '/words', b'a\x00b', {'Content-Type': 'text/plain'})[0], 400, 'that has a NUL')
    status, v = w.form('/photo', [('file', 'ä.jpg', 'image/jpeg', JPEG), ('n', None, None, b'7')])
    tap.same((status, v.get('n'), v.get('length'), v.get('name'), v.get('type')), (200, 7, len(JPEG), 'ä.jpg', 'image/jpeg'), 'a file, its name and type, and a field')
    same(w.form('/photos', [('files', 'a', None, b'1'), ('files', 'b', None, b'22')]), [1, 2], 'several files')
    tap.same((w.get('/get/told', {'kind': 'method'})[1], w.get('/get/told', {'kind': 'path'})[1]), (b'GET', b'/get/told'), 'request.method and request.path')
    headers = json.loads(w.raw('GET', '/get/told?kind=headers', headers={'X-Some': 'thing', 'Cookie': 'a=b'})[1])
    tap.same((headers.get('x-some'), 'authorization' in headers, 'cookie' in headers), ('thing', False, False), 'request.headers, without secrets')


def refusals(c, w):
    def refused(answer, status, code, part, name):
        got, v = answer
        told = v if isinstance(v, dict) else {}
        text = '%s %s' % (told.get('message'), told.get('hint'))
        if not tap.ok((got, told.get('code')) == (status, code) and part in text, name):
            tap.note((answer, 'expected', status, code, part))

    refused(w.get('/get/add', {'a': 'x'}), 400, '22P02', 'argument "a": invalid input syntax', 'text that is no number')
    refused(w.get('/get/add', {'a': '99999999999'}), 400, '22003', 'argument "a"', 'a number out of range')
    refused(w.post('/add', '{"a": 1e999}'), 400, '22P02', 'argument "a"', 'a number that no integer is')
    refused(w.post('/typed', '{"d": 1e999}'), 400, '22003', 'argument "d"', 'a number out of range of floats')
    refused(w.post('/typed', {'s': 11}), 400, '23514', 'argument "s"', 'a value that a domain does not take')
    refused(w.post('/typed', {'f': [1, 2, 3]}), 400, '23514', 'argument "f"', 'an array that a domain does not take')
    refused(w.post('/typed', {'ps': [{'a': 'x'}]}), 400, '22P02', 'argument "ps"', 'a wrong value within')
    refused(w.post('/typed', {'m': 'sad'}), 400, '22P02', 'argument "m"', 'a word that an enum does not have')
    refused(w.get('/get/add', {}), 400, '22023', 'argument "a" is missing Arguments are a, b (optional).', 'an argument is missing')
    refused(w.get('/get/add', {'a': 1, 'c': 2}), 400, '22023', '"c" is no argument of function public.add Arguments are a, b (optional).', 'one too many')
    refused(w.get('/get/add', [('a', 1), ('a', 2)]), 400, '22023', 'argument "a": it was given 2 times', 'one twice')
    refused(w.post('/add?a=1', {'a': 2}), 400, '22023', 'argument "a": it was given twice', 'one in the query and the body')
    refused(w.post('/add', '{"a": 1, "a": 2}'), 400, '22023', 'given twice', 'a member twice')
    refused(w.post('/add', [1]), 400, '22023', 'no JSON object', 'an array for members')
    for text in ('{', '{"a"}', '{"a": 1', '{"a": 1} x', '{"a": 01}', "{'a': 1}", '{"a": tru}', '', '{"a": "\\ud800"}', '{"a": 1,}', 'NaN'):
        refused(w.post('/add', text), 400, '22032' if text else '22023', '', 'no JSON: %r' % text)
    tap.same(w.post('/typed', b'{"t": "\xff"}')[0], 400, 'JSON that is no UTF-8')
    refused(w.post('/typed', '{"t": "a\\u0000b"}'), 400, '22032', '\\u0000', 'a text with \\u0000')
    refused(w.post('/typed', '{"jb": "a\\u0000b"}'), 400, '22032', '\\u0000', 'a jsonb with \\u0000')
    refused(w.post('/whole', '{"jb": "a\\u0000b"}'), 400, '22P05', 'argument "body"', 'a body with \\u0000')
    refused(w.post('/typed', '{"jb": ' + '[' * 300 + ']' * 300 + '}'), 413, '54000', 'levels deep', 'JSON that is nested too deep')
    refused(w.post('/whole', '[' * 4000000), 413, '54001', 'stack', 'a body that is nested far too deep')
    refused(w.ask('POST', '/raw', b'')[:2], 400, '22023', 'no body', 'no body where one is wanted')


def results(c, w):
    def result(answer, status, kind, body, name):
        got, v, headers = answer
        tap.same((got, headers.get('Content-Type'), v), (status, kind, body), name)

    get = lambda path: w.ask('GET', '/get/' + path)
    result(get('nothing'), 204, None, b'', 'void is 204')
    result(get('number'), 200, 'application/json', 1.5, 'a number')
    result(get('truth'), 200, 'application/json', True, 'a truth')
    result(get('absent'), 200, 'application/json', None, 'NULL is null')
    result(get('row_of'), 200, 'application/json', {'a': 1, 'b': 'x'}, 'a composite type is an object')
    result(get('outs'), 200, 'application/json', {'a': 1, 'b': {'c': [1]}}, 'OUT parameters too')
    result(get('listed?n=2'), 200, 'application/json', [{'a': 1, 'b': 'v1'}, {'a': 2, 'b': 'v2'}], 'a table is an array of objects')
    result(get('listed?n=0'), 200, 'application/json', [], 'none is an empty one')
    result(get('numbers?n=3'), 200, 'application/json', [1, 2, 3], 'a set of numbers')
    result(get('texts'), 200, 'application/json', ['a"b', None], 'a set of texts')
    result(get('jsons'), 200, 'application/json', [{'a': 1}, 2], 'a set of JSON')
    result(get('page'), 200, 'text/html; charset=utf-8', '<p>ä</p>'.encode(), 'a domain named by a media type')
    result(get('lines'), 200, 'text/csv; charset=utf-8', b'a,b\n1,2\n', 'a set of one is the lines of it')
    result(get('thing'), 200, 'application/x-thing', b'\x00\x01\xff', 'a domain of a user\'s own')
    for kind, media in (('jpeg', 'image/jpeg'), ('png', 'image/png'), ('gif', 'image/gif'), ('webp', 'image/webp'), ('pdf', 'application/pdf'), ('x', 'application/octet-stream')):
        tap.same(get('picture?kind=' + kind)[2].get('Content-Type'), media, 'bytes of %s' % media)
    status, v, headers = w.ask('POST', '/reply', json.dumps({'s': 418, 'h': {'X-A': 'b', 'Link': ['<1>', '<2>'], 'X-N': 3}, 't': 'application/x-tea'}), {'Content-Type': 'application/json'})
    tap.same((status, v, headers['Content-Type'], headers['X-A'], headers.get_all('Link'), headers['X-N']), (418, b'hi', 'application/x-tea', 'b', ['<1>', '<2>'], '3'), 'http_response says all itself')
    tap.same(get('bare?s=304')[:2], (304, b''), 'one without a body')
    for wrong in ({'s': 99}, {'s': 200, 'h': {'Content-Length': '3'}}, {'s': 200, 'h': {'Transfer-Encoding': 'chunked'}}, {'s': 200, 'h': {'a b': 'c'}}, {'s': 200, 'h': {'a': {'b': {}}}},
                  {'s': 200, 't': 'a\r\nb: c'}, {'s': 200, 'h': {'a\r\nb': 'c'}}, {'s': 200, 'h': [1]}):
        status, v = w.post('/reply', wrong)
        tap.same((status, v['message']), (500, "internal error; the server's log says more"), 'a wrong http_response: %s' % wrong)
    tap.same(w.post('/reply', {'s': 200, 'h': {'X-A': 'b\r\nX-Evil: c'}})[0], 400, 'a header with a line break')
    tap.same((w.get('/get/large', {'n': 1048576})[0], len(w.get('/get/large', {'n': 1048576})[1])), (200, 1048576), 'a result of the largest size')
    for path in ('large', 'large_bytes'):
        status, v = w.get('/get/' + path, {'n': 1048577})
        tap.same((status, v['code']), (500, '54000'), 'one byte more, of %s' % path)
    tap.same(w.get('/get/large_set', {'n': 100000})[1]['code'], '54000', 'a set is cut where it gets too large')
    tap.same(len(w.get('/get/large_set', {'n': 1000})[1]), 1000, 'and not before')


def errors(c, w):
    tap.same([(state, w.get('/get/fail', {'state': state})[0]) for state in
              ('22000', '22012', '23502', '23514', '23503', '23505', '23P01', 'P0001', 'P0002', '42501', '42P01', '54000', '25006', 'PT402', 'PT200', '44000', '0A000')],
             [('22000', 400), ('22012', 400), ('23502', 400), ('23514', 400), ('23503', 409), ('23505', 409), ('23P01', 409), ('P0001', 400), ('P0002', 404), ('42501', 403),
              ('42P01', 404), ('54000', 413), ('25006', 405), ('PT402', 402), ('PT200', 200), ('44000', 400), ('0A000', 400)], 'statuses of errors')
    for state in ('53200', '55P03', '57014', '08006', '40001', '40P01'):
        status, v, headers = w.ask('GET', '/get/fail?state=' + state)
        tap.same((status, v['code'], v['details'], headers.get('Retry-After')), (503, state, None, '1'), 'of the surroundings: %s' % state)
    tap.same(w.get('/get/fail', {'state': '22012'})[1], {'code': '22012', 'message': 'm "22012"', 'details': 'd', 'hint': 'h'}, 'what is told of one')
    mark = c.log_mark()
    for state in ('XX000', '42883', '42703', 'PT999', 'P0004', '38000'):
        tap.same(w.get('/get/fail', {'state': state}), (500, {'code': state, 'message': "internal error; the server's log says more", 'details': None, 'hint': None}), 'of ours nothing: %s' % state)
    log = c.logs_since(mark)
    tap.ok('m "XX000"' in log and 'GET /get/fail' in log and 'PL/pgSQL function' in log, 'which the log tells')
    tap.same(w.get('/get/broken')[0], 500, 'a function that another lacks is not the client\'s fault')
    tap.same((w.get('/get/secret')[0], w.get('/get/secret')[1]['code']), (403, '42501'), 'a function that the role may not call')
    tap.same(w.get('/get/recurse')[0], 413, 'one that recurses without end')
    tap.same(w.get('/get/divide', {'a': 0})[1]['message'], 'division by zero', 'an error of arithmetic')
    tap.same(w.post('/put', {'id': 1, 'amount': 1, 'note': 'x'})[0], 204, 'a row')
    tap.same([w.post('/put', v)[0] for v in ({'id': 1, 'amount': 1, 'note': 'x'}, {'id': 2, 'amount': -1, 'note': 'x'}, {'id': 3, 'amount': 1})], [409, 400, 400],
             'the same again, one that is checked, one without what it must have')
    tap.same((w.get('/get/put', {'id': 9, 'amount': 1, 'note': 'x'})[0], c.value('SELECT count(*) FROM items')), (405, '1'), 'GET changes nothing')
    tap.same(w.post('/contended', {'until': 3}), (200, 3), 'a transaction that others came in the way of is tried again, twice')
    c.psql("SELECT setval('tries', 10)")
    tap.same((w.post('/contended', {'until': 99})[0], c.value('SELECT last_value FROM tries')), (503, '13'), 'and no more')


def later(c, w):
    """Answers that are not there yet: no executor is held, the poll function gives them."""
    c.psql("""SELECT millrace.create_route('POST', '/ask', 'public.question(int, int)', '{"poll_function": "public.ready(jsonb)"}'); INSERT INTO answers VALUES (1, '{"n": 1}'), (3, '"fail"')""")
    tap.same(w.until('/ask', post={'id': 1, 'within_ms': 2000}), (200, {'n': 1, 'as': 'app'}), 'an answer that the poll function finds at once')
    begun = time.monotonic()
    status, v, headers = w.ask('POST', '/ask', json.dumps({'id': 9, 'within_ms': 400}), {'Content-Type': 'application/json'})
    took = time.monotonic() - begun
    tap.same((status, v, headers['X-Later'], 0.35 < took < 2), (202, {'status': 'pending'}, 'yes', True), 'one that does not come: the first answer, after %.2f s' % took)
    got = []
    other = Web(w.port, w.token)
    t = threading.Thread(target=lambda: got.append(other.post('/ask', {'id': 2, 'within_ms': 20000})))
    t.start()
    time.sleep(0.3)
    tap.same(w.get('/get/truth'), (200, True), 'meanwhile the one executor answers others')
    c.psql("""INSERT INTO answers VALUES (2, '{"n": 2}')""")
    t.join(10)
    tap.same(got, [(200, {'n': 2, 'as': 'app'})], 'one that comes later')
    tap.same(w.post('/ask', {'id': 3, 'within_ms': 2000})[0], 400, 'an error of the poll function is the answer')


def encodings(c, w):
    """A database of another encoding: clients always speak UTF-8."""
    for name, encoding in (('latin', 'LATIN1'), ('ascii', 'SQL_ASCII')):
        port = free_port()
        c.psql("CREATE DATABASE %s ENCODING '%s' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'; ALTER DATABASE %s SET millrace.http_listen = '127.0.0.1:%d'" % (name, encoding, name, port))
        c.psql(r"""SET client_encoding = 'UTF8'; CREATE EXTENSION millrace;
            CREATE FUNCTION said(t text, j jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('t', t, 'n', octet_length(t), 'j', j, 'p', current_setting('request.path')); END $$;
            CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql AS 'SELECT t';
            CREATE FUNCTION wrong(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no %', t; END $$;
            CREATE FUNCTION bad() RETURNS text LANGUAGE sql AS $$ SELECT convert_from('\xe4', 'SQL_ASCII') $$;
            CREATE FUNCTION bad_error() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no %', convert_from('\xe4', 'SQL_ASCII'); END $$""".replace('\\\\', '\\'), db=name)
        c.psql(''.join("SELECT millrace.create_route('POST', '/%s', '%s');" % (f.split('(')[0], f) for f in ('said(text, jsonb)', 'plain(text)', 'wrong(text)', 'bad()', 'bad_error()')), db=name)
        t = c.value("SELECT millrace.create_api_token('t', 'app')", db=name)
        c.psql('SELECT millrace.start()', db=name)
        x = Web(port, t)
        x.until('/plain', post={'t': 'a'})
        n = 1 if name == 'latin' else 2
        tap.same(x.post('/said', '{"t": "\\u00e4", "j": {"ö": "ü"}}'), (200, {'t': 'ä', 'n': n, 'j': {'ö': 'ü'}, 'p': '/said'}), '%s: texts there and back' % encoding)
        tap.same(x.post('/plain', {'t': 'äß'}), (200, 'äß'.encode()), '%s: as text' % encoding)
        tap.same(x.post('/wrong', {'t': 'ä'})[1]['message'], 'no ä', '%s: in an error' % encoding)
        if name == 'latin':
            tap.same((x.post('/plain', {'t': '\u20ac\u4e2d'})[0], x.post('/plain', {'t': 'ä'})[0]), (400, 200), '%s: a character that it does not have' % encoding)
        else:
            tap.same((x.post('/bad', {})[0], x.post('/bad_error', {})[1]['message'], x.post('/plain', {'t': 'ä'})[0]), (500, 'no ?', 200), '%s: what is no UTF-8' % encoding)


def changes(c, w):
    """Functions that change under the executor's feet."""
    before = w.get('/get/add', {'a': 1})
    c.psql("CREATE OR REPLACE FUNCTION add(a int, b int DEFAULT 7) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN a * b; END'")
    tap.same((before, w.get('/get/add', {'a': 2})), ((200, 6), (200, 14)), 'a function is replaced, with another default')
    c.psql('DROP FUNCTION add(int, int)')
    status, v = w.get('/get/add', {'a': 2})
    tap.same(status, 404, 'dropped: 404')
    c.psql("CREATE FUNCTION add(x int, b int) RETURNS text LANGUAGE sql AS 'SELECT x::text || b'")
    tap.same((w.get('/get/add', {'x': 2, 'b': 3}), w.get('/get/add', {'a': 2})[0]), ((200, b'23'), 400), 'made anew with other names and another type')
    c.psql("ALTER TYPE pair ADD ATTRIBUTE c int; ALTER TYPE mood ADD VALUE 'late'; ALTER DOMAIN small DROP CONSTRAINT small_check")
    tap.same(w.post('/typed', {'p': {'a': 1, 'c': 5}, 'm': 'late', 's': 100}), (200, {'p': {'a': 1, 'c': 5}, 'm': 'late', 's': 100}), 'types change')
    c.psql('REVOKE EXECUTE ON FUNCTION number() FROM PUBLIC')
    tap.same(w.get('/get/number')[0], 403, 'a right is taken')
    c.psql('CREATE ROLE callers; GRANT EXECUTE ON FUNCTION number() TO callers; GRANT callers TO app')
    tap.same(w.get('/get/number')[0], 200, 'and given by a role')
    c.psql('REVOKE callers FROM app')
    tap.same(w.get('/get/number')[0], 403, 'and taken with it')
    c.psql('REVOKE USAGE ON SCHEMA public FROM PUBLIC')
    tap.same(w.get('/get/truth')[0], 403, 'a schema is closed')
    c.psql('GRANT USAGE ON SCHEMA public TO PUBLIC')
    tap.same(w.get('/get/truth')[0], 200, 'and opened')


def main():
    with gateway('gateway_calls', SETUP, {'millrace.http_executors': 1, 'millrace.http_max_response': '1MB'}) as (c, port):
        routes(c, *(row[0] for row in c.psql("SELECT replace(oid::regprocedure::text, 'public.', '') FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
                                             "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = pg_proc.oid AND d.deptype = 'e') AND oid <> 'add(text)'::regprocedure")))
        w = Web(port, token(c, 'app'))
        w.until('/get/truth')
        for part in (arguments, refusals, results, errors, later, encodings, changes):
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, w)
        tap.ok('PANIC' not in c.logs() and 'terminated by signal' not in c.logs(), 'nothing crashed')
    tap.done()


main()
