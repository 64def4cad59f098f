"""One executor, two roles: nothing of a request is left for the next one, whatever its function does; and what ends requests."""
# timeout: 300
# takes: 40
import contextlib
import http.client
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.web import Web, gateway, routes, token

SETUP = r"""
    CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE mallory;
    GRANT CREATE ON SCHEMA public TO mallory;
    CREATE TABLE rows (owner name DEFAULT current_user, v text);
    INSERT INTO rows VALUES ('alice', 'of alice'), ('bob', 'of bob');
    ALTER TABLE rows ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON rows USING (owner = current_user);
    GRANT ALL ON rows TO alice, bob;
    CREATE SEQUENCE numbers; GRANT ALL ON numbers TO alice, bob;
    CREATE FUNCTION read() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT v FROM public.rows';
    CREATE FUNCTION slow_read() RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT v FROM public.rows; END';
    -- runs any statement; the first value of its result
    CREATE FUNCTION run(q text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE r text; BEGIN IF q ~* '^(select|fetch|show|execute)' THEN EXECUTE q INTO r; ELSE EXECUTE q; END IF; RETURN r; END $$;
    CREATE FUNCTION run_caught(q text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END $$;
    CREATE FUNCTION run_and_fail(q text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.run(q); RAISE USING ERRCODE = '22000'; END $$;
    CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
    CREATE FUNCTION endless() RETURNS int LANGUAGE plpgsql AS 'BEGIN LOOP END LOOP; END';
    CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS
        'BEGIN LOOP BEGIN LOOP PERFORM 1; END LOOP; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END';
    CREATE FUNCTION who() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';
    CREATE FUNCTION asked_by() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT millrace.request_role()::text';
    CREATE FUNCTION pid() RETURNS int LANGUAGE sql AS 'SELECT pg_backend_pid()';
    CREATE FUNCTION hungry() RETURNS int LANGUAGE sql AS $$ SELECT octet_length(repeat(repeat('x', 1000000), 200)) $$;
    -- buffers of temporary tables are kept by a process until it ends
    CREATE FUNCTION grow() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN SET LOCAL temp_buffers = '700MB'; CREATE TEMP TABLE large (v text); ALTER TABLE large ALTER v SET STORAGE plain; INSERT INTO large SELECT repeat('x', 8000) FROM generate_series(1, 75000); END $$;
    -- a table of mallory's, whose trigger runs at the end of whoever writes to it
    SET ROLE mallory;
    CREATE TABLE trap (v text);
    CREATE TABLE caught (who name, what text);
    GRANT INSERT ON trap, caught TO PUBLIC;
    CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE told text;
        BEGIN
            BEGIN SET ROLE NONE; told := 'role'; EXCEPTION WHEN OTHERS THEN told := sqlstate; END;
            INSERT INTO public.caught VALUES (current_user, told);
            PERFORM set_config('work_mem', '13MB', false), set_config('search_path', 'public', false);
            SET CONSTRAINTS ALL DEFERRED;
            IF NEW.v <> 'again' THEN INSERT INTO public.trap VALUES ('again'); END IF;
            RETURN NULL;
        END $$;
    CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spring();
    CREATE FUNCTION late_setting() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('work_mem', '14MB', false); RETURN 1; END $$;
    RESET ROLE;
    CREATE FUNCTION spring_it() RETURNS void LANGUAGE sql AS $$ INSERT INTO public.trap VALUES ('x') $$;
    CREATE TABLE parents (id int PRIMARY KEY);
    CREATE TABLE children (id int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
    GRANT ALL ON parents, children TO alice;
    CREATE FUNCTION orphan() RETURNS int LANGUAGE sql AS 'INSERT INTO public.children VALUES (1) RETURNING id';
    ALTER ROLE alice SET work_mem = '9MB';
    ALTER ROLE alice SET role = 'bob';
    ALTER ROLE mallory SET statement_timeout = '400ms';
"""


class People:
    def __init__(self, c, port):
        self.alice, self.bob, self.mallory = (Web(port, token(c, who)) for who in ('alice', 'bob', 'mallory'))


def value(answer):
    status, v = answer
    return v.decode() if isinstance(v, bytes) else (status, v.get('code')) if isinstance(v, dict) else v


def rows(c, p):
    for name in ('read', 'slow_read'):
        tap.same([(p.alice.get('/get/' + name)[1], p.bob.get('/get/' + name)[1]) for i in range(8)], [(['of alice'], ['of bob'])] * 8, 'by turns each sees its own rows: %s()' % name)
    tap.same([value(w.get('/get/who')) for w in (p.alice, p.bob)], ['alice', 'bob'], 'current_user is the token\'s role')
    tap.same([value(w.get('/get/asked_by')) for w in (p.alice, p.bob)], ['alice', 'bob'], 'which a security-definer function knows')
    tap.same(c.value('SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE backend_type = \'millrace executor\''), '1', 'by one process')


def escapes(c, p):
    """Ways to be another."""
    for q in ('RESET ROLE', 'SET ROLE NONE', 'SET ROLE bob', 'SET ROLE millrace_gateway', 'SET SESSION AUTHORIZATION bob', 'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION', 'SET LOCAL ROLE alice',
              "SELECT set_config('role', 'none', false)", "SELECT set_config('session_authorization', 'bob', true)"):
        tap.same((value(p.alice.post('/run', {'q': q})), value(p.alice.post('/run_caught', {'q': q}))), ((403, '42501'), '42501'), 'refused: ' + q)
    for q, answer in (('RESET ALL', None), ('ALTER ROLE alice SUPERUSER', (403, '42501')), ('SELECT passwd FROM pg_shadow', (403, '42501')), ('DISCARD ALL', (500, '25001')),
                      ('SELECT token_sha256 FROM millrace.api_tokens', (403, '42501')), ("SELECT millrace.create_api_token('x', 'alice')", (403, '42501')), ('COMMIT', (400, '0A000')), ('CALL public.commits()', (500, '2D000')),
                      ("DO 'BEGIN COMMIT; END'", (500, '2D000')), ('SAVEPOINT a', (400, '0A000')), ('LISTEN a', (400, '0A000')), ('SET row_security = off; SELECT 1', None),
                      ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'millrace_gateway'", (403, '42501')),
                      ("COPY public.rows TO PROGRAM 'cat'", (403, '42501')), ("PREPARE TRANSACTION 'x'", (400, '0A000'))):
        tap.same(value(p.alice.post('/run', {'q': q})), answer, 'tried: ' + q)
        tap.same(value(p.bob.get('/get/who')), 'bob', 'and bob is bob')
    for q in ('SET TRANSACTION READ WRITE', "SELECT set_config('transaction_read_only', 'off', true)"):
        tap.same(value(p.alice.get('/get/run', {'q': q})), (500, '25001'), 'in a request that only reads: ' + q)
    tap.same(value(p.alice.get('/get/run', {'q': "INSERT INTO public.rows VALUES ('alice', 'x')"})), (405, '25006'), 'nor by INSERT')


def remains(c, p):
    """What a session keeps beyond a transaction."""
    run = lambda who, q: value(who.post('/run', {'q': q}))
    for q in ('SET work_mem = \'77MB\'', "SELECT set_config('work_mem', '77MB', false)", 'SET search_path = public', "SELECT set_config('my.secret', 'of alice', false)", 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
              'SET statement_timeout = 1', 'CREATE TEMP TABLE mine AS SELECT 1 AS x', 'CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS \'SELECT 1\'', 'CREATE TEMP SEQUENCE serial',
              "SELECT pg_advisory_lock(7)", "SELECT nextval('public.numbers')", 'PREPARE mine AS SELECT 1', 'DECLARE mine CURSOR WITH HOLD FOR SELECT v FROM public.rows', 'SET client_encoding = latin1',
              'SET DateStyle = german', 'LOCK TABLE public.rows', 'SELECT pg_export_snapshot()', 'CREATE TEMP TABLE mine2 (x int) ON COMMIT DELETE ROWS'):
        for failed in (False, True):
            answer = p.alice.post('/run_and_fail' if failed else '/run', {'q': q})
            tap.same(answer[0], 400 if failed else 200, 'alice%s: %s' % (', and fails' if failed else '', q))
    tap.same([run(p.bob, q) for q in ('SHOW work_mem', 'SHOW search_path', 'SHOW default_transaction_read_only', 'SHOW statement_timeout', 'SHOW client_encoding', 'SHOW DateStyle')],
             ['4MB', 'pg_catalog, pg_temp', 'off', '0', 'UTF8', 'ISO, MDY'], 'bob has his own settings')
    tap.ok(run(p.bob, "SELECT current_setting('my.secret', true)") in (None, ''), 'and not hers')
    tap.same([run(p.bob, 'SELECT count(*) FROM ' + q) for q in ('pg_prepared_statements', 'pg_cursors', "pg_locks WHERE locktype = 'advisory'", "pg_class WHERE relname IN ('mine', 'mine2', 'serial')",
              "pg_proc WHERE proname = 'f'")], ['0'] * 5, 'no statement, cursor, lock, table or function of hers')
    tap.same([run(p.bob, q)[1] for q in ("SELECT currval('public.numbers')", 'SELECT lastval()', 'FETCH mine', 'EXECUTE mine', 'SELECT x FROM mine')], ['55000', '55000', '34000', '26000', '42P01'],
             'nor does he get at one by name')
    tap.same(run(p.alice, 'SHOW work_mem'), '9MB', 'alice has what ALTER ROLE says')
    tap.same(value(p.mallory.post('/run', {'q': 'SELECT pg_sleep(5)'})), (503, '57014'), 'statement_timeout of a role cuts its functions')
    c.psql("ALTER ROLE alice SET work_mem = '10MB'")
    time.sleep(5.2)
    tap.same(run(p.alice, 'SHOW work_mem'), '10MB', 'within seconds when that changes')


def triggers(c, p):
    """Deferred triggers of another run before the answer, as the role of the request."""
    tap.same(p.alice.post('/spring_it', {})[0], 204, 'a row with a trap')
    tap.same(c.psql('SELECT who, what FROM caught'), [('alice', '42501')] * 2, 'which sprang as alice, twice, and could be nobody else')
    tap.same([value(p.bob.post('/run', {'q': q})) for q in ('SHOW work_mem', 'SHOW search_path')], ['4MB', 'pg_catalog, pg_temp'], 'and left no setting')
    tap.same(p.alice.post('/run', {'q': 'DECLARE late CURSOR WITH HOLD FOR SELECT public.late_setting()'})[0], 200, 'a cursor WITH HOLD whose query would run at the commit')
    tap.same(value(p.bob.post('/run', {'q': 'SHOW work_mem'})), '4MB', 'does not')
    tap.same((value(p.alice.post('/orphan', {})), c.value('SELECT count(*) FROM children')), ((409, '23503'), '0'), 'a deferred constraint fails the request')


def endings(c, p, port):
    executors = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace executor'"
    begun = time.monotonic()
    tap.same(value(p.alice.get('/get/endless')), (503, '57014'), 'a function without end is cancelled')
    tap.ok(2 <= time.monotonic() - begun < 5, 'after its time: %.1f s' % (time.monotonic() - begun))
    tap.same(value(p.bob.get('/get/who')), 'bob', 'and the next request is answered')
    # the client goes away
    s = socket.create_connection(('127.0.0.1', port))
    s.sendall(b'GET /get/run?q=select+pg_sleep(60) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n' % p.alice.token.encode())
    running = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace executor' AND state = 'active' AND query = 'GET /get/run'"
    c.wait_for(running, '1')
    begun = time.monotonic()
    s.close()
    c.wait_for(running, '0')
    tap.ok(time.monotonic() - begun < 1.5, 'a client went away: its function was cancelled in %.2f s' % (time.monotonic() - begun))
    tap.same(value(p.bob.get('/get/who')), 'bob', 'that one alone')
    # by an administrator
    for how, code in (('pg_cancel_backend', '57014'), ('pg_terminate_backend', None)):
        got = []
        t = threading.Thread(target=lambda: got.append(p.alice.ask('GET', '/get/run?q=select+pg_sleep(60)')))
        t.start()
        c.wait_for(running, '1')
        c.psql("SELECT %s(pid) FROM pg_stat_activity WHERE backend_type = 'millrace executor'" % how)
        t.join(10)
        tap.same((got[0][0], code or got[0][1]['code'], got[0][2].get('Retry-After') is not None), (503, got[0][1]['code'], True), 'ended by %s(): 503' % how)
    begun = time.monotonic()
    p.bob.until('/get/who')
    tap.ok(time.monotonic() - begun < 10, 'a new executor answers after %.1f s' % (time.monotonic() - begun))
    # a function that catches its cancellation
    pid = c.value(executors)
    tap.same(p.alice.get('/get/stubborn')[0], 503, 'a function that catches its cancellation: 503')
    c.wait_for("SELECT count(*) FROM (%s) e WHERE pid <> %s" % (executors, pid), '1')
    tap.ok(True, 'and its executor ends a few seconds later')
    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = %s" % pid, '0')
    p.bob.until('/get/who')
    # the I/O worker
    pid = c.value(executors)
    c.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'millrace gateway'")
    tap.same((p.bob.until('/get/who'), c.value(executors)), ((200, b'bob'), pid), 'the I/O worker is another, its executor the same')
    # memory, without haste
    for name in ('hungry', 'grow'):
        c.psql("SELECT millrace.drop_route('POST', '/%s'); SELECT millrace.create_route('POST', '/%s', 'public.%s()', '{\"timeout_ms\": 60000}')" % (name, name, name))
    time.sleep(1)
    tap.same(p.alice.post('/hungry', {}), (200, 200000000), 'a function that takes 200 MB')
    tap.same(p.bob.get('/get/who'), (200, b'bob'), 'is no harm to others')
    if os.environ.get('MILLRACE_FULL'):
        pid = c.value(executors)
        tap.same(p.alice.post('/grow', {})[0], 204, 'a function whose process keeps 700 MB')
        statuses = {p.bob.get('/get/who')[0] for i in range(600)}
        tap.same((statuses, c.value(executors) != pid), ({200}, True), 'an executor that keeps much memory makes room for another, and no request is lost')
    # roles
    c.psql('CREATE ROLE carol; CREATE ROLE dave')
    carol, dave = Web(port, token(c, 'carol')), Web(port, token(c, 'dave'))
    tap.same((carol.until('/get/who'), dave.until('/get/who')), ((200, b'carol'), (200, b'dave')), 'roles')
    c.psql('DROP ROLE carol; ALTER ROLE dave SUPERUSER')
    tap.same((carol.get('/get/who')[0], dave.get('/get/who')[0]), (401, 401), 'one dropped, one made a superuser: 401 at once')
    c.psql('ALTER ROLE dave NOSUPERUSER')
    # the extension, while a request runs
    def left():
        with contextlib.suppress(OSError, http.client.HTTPException):
            p.alice.ask('GET', '/get/run?q=select+pg_sleep(1.5)')

    t = threading.Thread(target=left)
    t.start()
    c.wait_for(running, '1')
    begun = time.monotonic()
    c.psql("SET lock_timeout = '10s'; DROP EXTENSION millrace CASCADE", timeout=60)
    tap.ok(time.monotonic() - begun < 10, 'DROP EXTENSION while a function runs took %.1f s' % (time.monotonic() - begun))
    t.join(10)
    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('millrace gateway', 'millrace executor')", '0')
    tap.ok(True, 'and its processes end')


def main():
    with gateway('gateway_isolation', SETUP, {'millrace.http_executors': 1, 'millrace.http_timeout': '2s'}) as (c, port):
        routes(c, *(row[0] for row in c.psql("SELECT replace(p.oid::regprocedure::text, 'public.', '') FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND prorettype <> 'trigger'::regtype "
                                             "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')")))
        p = People(c, port)
        p.alice.until('/get/who')
        for part in (rows, escapes, remains, triggers):
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, p)
        if len(sys.argv) < 2 or 'endings' in sys.argv[1:]:
            endings(c, p, port)
        tap.ok('PANIC' not in c.logs() and 'terminated by signal' not in c.logs(), 'nothing crashed')
    tap.done()


main()
