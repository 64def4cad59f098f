"""What the tests of requests over HTTP share: role app with a table of results, servers, and waiting for an end."""
from lib.stream import literal

# short limits, so that what is slow is slow soon
FAST = {'backoff_ms': 50, 'max_attempts': 4, 'timeout_ms': 2000, 'connect_timeout_ms': 1000, 'low_speed_bytes': 100, 'low_speed_ms': 500,
        'max_bytes': 100000, 'concurrency': 16}
SECRET = 'kanarienvogel-17'


def prepare(c, db='postgres'):
    c.psql('''CREATE EXTENSION millrace; DO $$ BEGIN CREATE ROLE app LOGIN IN ROLE millrace_user; EXCEPTION WHEN duplicate_object THEN END $$;
        SELECT millrace.start();
        CREATE SCHEMA app AUTHORIZATION app; SET ROLE app;
        CREATE TABLE app.results (n bigint GENERATED ALWAYS AS IDENTITY, tag text, path text, bytes int, md5 text, sqlstate text, error text,
            xid xid8 DEFAULT pg_current_xact_id(), role text DEFAULT current_user);
        CREATE FUNCTION app.done(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void LANGUAGE sql AS $$
            INSERT INTO app.results (tag, path, bytes, md5, sqlstate, error)
            SELECT t, p, length(c), md5(c), s, e FROM unnest(tags, paths, contents, sqlstates, errors) u(t, p, c, s, e) $$;''', db=db)


def server(c, name, stub, mapping=f"access_key 'me', secret_key '{SECRET}'", owner=None, db='postgres', **options):
    """A server for a stub (or a URL), which role app may use; owner: else a superuser."""
    options = ', '.join("%s '%s'" % (k, v) for k, v in {'url': stub if isinstance(stub, str) else stub.url, **FAST, **options}.items())
    c.psql(f"CREATE SERVER {name} FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', {options}); GRANT USAGE ON FOREIGN SERVER {name} TO app;"
           + (f'ALTER SERVER {name} OWNER TO {owner};' if owner else '')
           + (f'CREATE USER MAPPING FOR app SERVER {name} OPTIONS ({mapping});' if mapping else ''), db=db)


def fetch(c, name, *paths, deliver='app.done', db='postgres'):
    """Each path is its own tag."""
    c.psql(f"SELECT count(millrace.fetch_object('{name}', p, '{deliver}', p)) FROM unnest(ARRAY[{', '.join(map(literal, paths))}]) p", user='app', db=db)


def result(c, tag):
    """(bytes, sqlstate, error) of the one result of a tag."""
    rows = c.psql(f'SELECT bytes, sqlstate, error FROM app.results WHERE tag = {literal(tag)}')
    assert len(rows) <= 1, rows
    return rows[0] if rows else None


def stat(c, name, column, db='postgres'):
    return c.value(f"SELECT {column} FROM millrace.stat_http WHERE server = '{name}'", db=db)


def settled(c, name, timeout=60):
    """Wait until nothing of a server's requests is left."""
    c.wait_for(f"SELECT count(*) FROM millrace.http_requests r JOIN millrace.http_queues q ON q.id = r.queue WHERE q.server = '{name}'", '0', timeout)


def worker(c):
    """pids of the http workers."""
    return [pid for pid, kind in c.workers() if kind == 'millrace http']
