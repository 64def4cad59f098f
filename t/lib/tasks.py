"""What the tests of tasks share: role app with functions that work, are told and watch, tables of what they did, and the
virtual clock."""
import json
import signal
import time

from lib.stream import literal


def prepare(c, db='postgres', start=True):
    """app.work(jsonb): sleeps `s`, fails with SQLSTATE `fail` (as long as attempts of its `n` are fewer than `until`), writes
    app.log.  Sequences survive what is undone: app.begun counts attempts."""
    c.psql('''CREATE EXTENSION IF NOT EXISTS millrace; DO $$ BEGIN CREATE ROLE app LOGIN IN ROLE millrace_user; EXCEPTION WHEN duplicate_object THEN END $$;
        CREATE SCHEMA app AUTHORIZATION app; SET ROLE app;
        CREATE TABLE app.log (n bigint GENERATED ALWAYS AS IDENTITY, what text, pid int DEFAULT pg_backend_pid(), role text DEFAULT current_user,
            at timestamptz DEFAULT clock_timestamp());
        CREATE TABLE app.told (n bigint GENERATED ALWAYS AS IDENTITY, id uuid, tag text, state text, result jsonb, error jsonb, role text DEFAULT current_user);
        CREATE TABLE app.watched (n bigint GENERATED ALWAYS AS IDENTITY, id uuid, tag text, class text, error jsonb, again_at timestamptz);
        CREATE SEQUENCE app.begun;
        CREATE FUNCTION app.work(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
            DECLARE turn bigint := nextval('app.begun'); BEGIN
            IF a ? 's' THEN PERFORM pg_sleep((a->>'s')::float8); END IF;
            IF a ? 'fail' THEN RAISE EXCEPTION 'no luck with %', a->>'n' USING ERRCODE = a->>'fail'; END IF;
            INSERT INTO app.log (what) VALUES (a->>'n');
            RETURN jsonb_build_object('n', a->'n', 'by', current_user); END $$;
        CREATE FUNCTION app.done(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void LANGUAGE sql AS $$
            INSERT INTO app.told (id, tag, state, result, error) SELECT * FROM unnest(ids, tags, states, results, errors) $$;
        CREATE FUNCTION app.seen(ids uuid[], tags text[], classes text[], errors jsonb[], again_at timestamptz[]) RETURNS void LANGUAGE sql AS $$
            INSERT INTO app.watched (id, tag, class, error, again_at) SELECT * FROM unnest(ids, tags, classes, errors, again_at) $$;''', db=db)
    if start:
        c.psql('SELECT millrace.start()', db=db)


def call(args, function='app.work'):
    return literal(json.dumps({'function': function, 'args': args}))


def submit(c, args=None, function='app.work', db='postgres', user='app', **options):
    """submit_task('sql', …) with the function's arguments and options; its id."""
    return c.value(f"SELECT millrace.submit_task('sql', {call(args or {}, function)}, {literal(json.dumps(options))})", db=db, user=user)


def ended(c, n=0, timeout=60, db='postgres'):
    """Wait until at most n tasks wait or run."""
    c.wait_for(f'SELECT count(*) <= {n} FROM millrace.task_queue', 't', timeout, db=db)


def state(c, id_, columns='state', db='postgres'):
    rows = c.psql(f"SELECT {columns} FROM millrace.tasks WHERE id = '{id_}'", db=db)
    return rows[0] if rows and ',' in columns else rows[0][0] if rows else None


def wait_state(c, id_, expect, timeout=30, db='postgres'):
    c.wait_for(f"SELECT state FROM millrace.tasks WHERE id = '{id_}'", expect, timeout, db=db)


def clock(c, seconds):
    """Set the clock that tasks go by so far ahead of the server's."""
    c.psql(f'ALTER SYSTEM SET millrace.task_clock_offset_ms = {int(seconds * 1000)}')
    c.psql('SELECT pg_reload_conf()')
    c.wait_for(f"SELECT abs(extract(epoch FROM millrace.task_now() - clock_timestamp()) - {seconds}) < 1")


def workers(c, owner='app', db='postgres'):
    """Processes of lane sql."""
    return [int(p) for p, in c.psql(f"SELECT pid FROM millrace.worker_slots() WHERE kind = 'tasks' AND name = {literal(owner)} AND pid IS NOT NULL ORDER BY worker", db=db)]


def kill(c, pid, sig=signal.SIGTERM):
    try:
        c.kill(pid, sig)
    except ProcessLookupError:
        pass


def once(c, tap, prefix, n, what):
    """Each of n tasks whose argument n begins with prefix did its work once and was told of once."""
    tap.same(c.psql(f"SELECT count(*), count(DISTINCT what) FROM app.log WHERE what LIKE '{prefix}%'"), [(str(n), str(n))], f'{what}: each of {n} did its work once')
    tap.same(c.psql(f"SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE state = 'succeeded') FROM app.told WHERE tag LIKE '{prefix}%'"),
             [(str(n), str(n), str(n))], f'{what}: and was told of once')


def pause(seconds):
    time.sleep(seconds)
