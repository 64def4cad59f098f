"""What the tests of providers share: role app, servers of language models, tasks and what became of them."""
import json

from lib.stream import literal

KEY = 'kanarienvogel-17'
# pauses in hundredths, so that no test waits for minutes
SHORT = "UPDATE millrace.retry_policies SET base_s = base_s / 100 WHERE base_s > 0"


def prepare(c):
    c.psql(f'''CREATE EXTENSION millrace; CREATE ROLE app LOGIN IN ROLE millrace_user; SELECT millrace.start(); {SHORT};
        GRANT millrace_admin TO app; GRANT USAGE ON FOREIGN DATA WRAPPER millrace_http TO app;
        CREATE SCHEMA app AUTHORIZATION app; SET ROLE app;
        CREATE TABLE app.ended (id uuid, tag text, state text, result jsonb, error jsonb, role text DEFAULT current_user);
        CREATE FUNCTION app.done(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void LANGUAGE sql AS
            'INSERT INTO app.ended SELECT * FROM unnest(ids, tags, states, results, errors)';
        RESET ROLE; SELECT millrace.alter_task_pool('app', '{{"slots": 256}}');''')


def server(c, name, url, api='openai', owner=None, key=KEY, **options):
    """A provider that role app may use, with model m unless options say another; owner: else a superuser."""
    options = {'model': 'm', 'timeout_ms': 5000, 'connect_timeout_ms': 1000, **options}
    if api == 's3':
        del options['model']
    said = ', '.join("%s '%s'" % (k, v) for k, v in options.items())
    mapping = f"access_key 'me', secret_key '{KEY}'" if api == 's3' else f"api_key '{key}'"
    c.psql(f"CREATE SERVER {name} FOREIGN DATA WRAPPER millrace_http OPTIONS (api '{api}', url '{url}', {said}); GRANT USAGE ON FOREIGN SERVER {name} TO app;"
           + (f'ALTER SERVER {name} OWNER TO {owner};' if owner else '') + f'CREATE USER MAPPING FOR app SERVER {name} OPTIONS ({mapping});')


def submit(c, kind, payload, **options):
    """Its id."""
    return c.value(f"SELECT millrace.submit_task('{kind}', {literal(json.dumps(payload))}, {literal(json.dumps(options))})", user='app')


def submit_many(c, n, kind, payload, **options):
    """payload and options: with % where the number goes, as in format()."""
    c.psql(f"SELECT count(millrace.submit_task('{kind}', replace({literal(json.dumps(payload))}, '%', g::text)::jsonb, "
           f"{literal(json.dumps(options))})) FROM generate_series(1, {n}) g", user='app')


def left(c, tag):
    return int(c.value(f"SELECT count(*) FROM millrace.task_queue WHERE tag = {literal(tag)}"))


def settled(c, tag, timeout=180):
    """Wait until all tasks of a tag have ended."""
    c.wait_for(f"SELECT count(*) FROM millrace.task_queue WHERE tag = {literal(tag)}", '0', timeout)


def task(c, id):
    """(state, result, class, sqlstate, error, attempts) of a task."""
    state, result, *rest, attempts = c.psql(f"SELECT state, result, class, sqlstate, error, attempts FROM millrace.tasks WHERE id = '{id}'")[0]
    return (state, json.loads(result) if result else None, *rest, int(attempts))


def ended(c, id, timeout=60):
    c.wait_for(f"SELECT state IN ('succeeded', 'failed', 'cancelled', 'expired') FROM millrace.tasks WHERE id = '{id}'", 't', timeout)
    return task(c, id)


def history(c, id):
    """[(attempt, provider, class, status, sqlstate)]"""
    return c.psql(f"SELECT attempt, queue, class, status, sqlstate FROM millrace.task_history WHERE id = '{id}' ORDER BY attempt")


def worker(c):
    """pids of the processes of lane call."""
    return [pid for pid, kind in c.workers() if kind == 'millrace calls']
