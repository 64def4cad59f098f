# timeout: 900
# takes: 70
# lane: waits
"""Keys of providers: by secret_file one appears nowhere; as a literal in its user mapping, in a superuser's dump and in the DDL's text alone.

A canary is looked for in every table and view of the catalogues and of the database, in dumps, in the log at debug5 with every
statement in it, in what processes show, and in the files of the cluster; while servers repeat it in errors and answers.
"""
import hashlib
import hmac
import os
import pathlib
import pwd
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import httpstub, tap
from lib.cluster import SqlError, unprivileged
from lib.llmstub import Stub
from lib.stream import cluster

CANARY = 'sk-kanarienvogel-0815-4711'
PROMPTS = ('hello', 'stub: echo', 'stub: parrot', 'stub: 500 then ok: well', 'stub: error then ok: well', 'stub: reset then ok: well')


def halves(canary):
    """As SQL that has no canary in its own text."""
    return f"'%{canary[:9]}' || '{canary[9:]}%'"


def own(path, mode):
    if unprivileged():
        user = pwd.getpwnam(unprivileged())
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(mode)


def write(folder, name, text, mode=0o600):
    (folder / name).write_text(text)
    own(folder / name, mode)


def submit(c, server, *prompts, user='app'):
    for prompt in prompts:
        c.psql(f"SELECT millrace.submit_task('llm', jsonb_build_object('prompt', '{prompt}'), '{{\"provider\": \"{server}\"}}')", user=user)


def ended(c, server, n):
    c.wait_for(f"SELECT count(*) FROM millrace.tasks WHERE queue = '{server}' AND state IN ('succeeded', 'failed')", str(n), 120)


def tables_with(c, canary):
    """Names of relations a row of which, as text, has the canary in it."""
    found = c.psql(f"""
        CREATE OR REPLACE FUNCTION pg_temp.find(like_this text) RETURNS SETOF text LANGUAGE plpgsql AS $$
        DECLARE r record; n bigint; BEGIN
            FOR r IN SELECT format('%I.%I', nspname, relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE relkind IN ('r', 'v', 'm') AND nspname NOT LIKE 'pg\\_temp%' AND nspname NOT LIKE 'pg\\_toast%' LOOP
                BEGIN
                    EXECUTE format('SELECT count(*) FROM %s t WHERE t::text LIKE $1', r.name) INTO n USING like_this;
                    IF n > 0 THEN RETURN NEXT r.name; END IF;
                EXCEPTION WHEN OTHERS THEN
                    RAISE NOTICE '%: %', r.name, SQLERRM;
                END;
            END LOOP;
        END $$;
        SELECT find FROM pg_temp.find({halves(canary)}) ORDER BY 1""")
    return [row[0] for row in found]


def files_with(folder, canary):
    return [str(p.relative_to(folder)) for p in sorted(folder.rglob('*')) if p.is_file() and canary.encode() in p.read_bytes()]


def processes_with(c, canary):
    """Command lines and environments of the cluster's processes."""
    pids = [c.postmaster_pid()] + [int(row[0]) for row in c.psql('SELECT pid FROM pg_stat_activity')]
    found = []
    for pid in pids:
        for name in ('cmdline', 'environ'):
            try:
                text = pathlib.Path(f'/proc/{pid}/{name}').read_bytes()
            except OSError:
                continue
            found += [pid] if canary.encode() in text else []
    return found


def by_file(c, stub, folder):
    """The key is in a file: tasks succeed by it, and it is nowhere else."""
    write(folder, 'app.key', CANARY + '\n')
    c.psql(f"""CREATE SERVER filed FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url '{stub.url}', model 'm', timeout_ms '5000');
        GRANT USAGE ON FOREIGN SERVER filed TO app; CREATE USER MAPPING FOR app SERVER filed OPTIONS (secret_file 'app.key')""")
    submit(c, 'filed', *PROMPTS)
    submit(c, 'filed', 'stub: slow-3')
    c.wait_for("SELECT count(*) FROM millrace.tasks WHERE queue = 'filed' AND state = 'running'", '1', 60)
    tap.same(c.value(f'SELECT count(*) FROM pg_stat_activity a WHERE a::text LIKE {halves(CANARY)}'), '0', 'while a call is under way pg_stat_activity shows no key')
    tap.same(processes_with(c, CANARY), [], 'nor do command lines and environments')
    ended(c, 'filed', len(PROMPTS) + 1)
    tap.same(c.value("SELECT string_agg(state, ' ' ORDER BY id) FROM millrace.tasks WHERE queue = 'filed'"),
             'succeeded failed ' + ' '.join(['succeeded'] * 5), 'tasks succeed by it')
    tap.ok(sum(call['status'] == 200 for call in stub.calls()) >= 6 and not stub.calls(status=401), 'by the stub, too')
    tap.ok('*' * len(CANARY) in c.value("SELECT error FROM millrace.tasks WHERE queue = 'filed' AND state = 'failed'"),
           'a server that repeats it in an error is heard without it')
    tap.same(c.value("SELECT result->>'text' FROM millrace.tasks WHERE queue = 'filed' AND payload->>'prompt' = 'stub: parrot'"),
             'Bearer ' + '*' * len(CANARY), 'and so is one that repeats it in an answer')
    tap.same(tables_with(c, CANARY), [], 'no table, view or catalogue has it')
    tap.ok(CANARY not in c.program('pg_dumpall'), 'nor a dump of everything')
    tap.ok(CANARY not in c.logs() and 'DEBUG' in c.logs(), 'nor the log at debug5')
    c.psql('CHECKPOINT')
    tap.same(files_with(c.data, CANARY), [], 'nor any file of the cluster')


def by_literal(c, stub, folder):
    """The key is an option of the mapping: there, in a superuser's dump, and in the statement's text."""
    key = CANARY[::-1]
    stub.control(key=key)
    c.psql(f"""SET log_statement = 'none'; SET log_min_duration_statement = -1;
        CREATE SERVER written FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url '{stub.url}', model 'm', timeout_ms '5000');
        GRANT USAGE ON FOREIGN SERVER written TO app; CREATE USER MAPPING FOR app SERVER written OPTIONS (api_key '{key}')""")
    submit(c, 'written', *PROMPTS)
    ended(c, 'written', len(PROMPTS))
    tap.same(c.value("SELECT count(*) FROM millrace.tasks WHERE queue = 'written' AND state = 'succeeded'"), str(len(PROMPTS) - 1), 'tasks succeed by a literal')
    tap.same(tables_with(c, key), ['information_schema._pg_user_mappings', 'information_schema.user_mapping_options', 'pg_catalog.pg_user_mapping',
                                   'pg_catalog.pg_user_mappings'], 'it stands in the catalogue of mappings and its views')
    tap.same(c.value("SELECT umoptions FROM pg_user_mappings WHERE srvname = 'written'", user='other'), None, 'which show it to no other role')
    try:
        c.psql('SELECT * FROM pg_user_mapping', user='other')
        tap.ok(False, 'nor does the table')
    except SqlError as e:
        tap.same(e.sqlstate, '42501', 'nor does the table')
    tap.ok(key in c.program('pg_dumpall'), "a superuser's dump has it")
    tap.ok(key not in c.program('pg_dump', '-U', 'reader'), "that of another role has not, may it read all data")
    tap.ok(key not in c.logs(), 'the log has not, where the statement was not logged')
    c.psql(f"SET log_statement = 'ddl'; ALTER USER MAPPING FOR app SERVER written OPTIONS (SET api_key '{key}')")
    lines = [line for line in c.logs().splitlines() if key in line]
    tap.ok(lines and all('ALTER USER MAPPING' in line for line in lines), "else in the statement's text alone")


def bad_files(c, stub, folder):
    """A file that is not safe is not read: the provider is paused, the reason says why, and never what is in it."""
    stub.control(key=CANARY)
    secret = 'not-for-you-at-all'
    write(folder, 'open', secret, 0o644)
    write(folder, 'empty', '')
    write(folder, 'large', 'x' * 9000)
    write(folder, 'lines', secret + '\nX-Other: y')
    (folder / 'link').symlink_to(folder / 'app.key')
    os.mkfifo(folder / 'fifo')
    own(folder / 'fifo', 0o600)
    (folder / 'folder').mkdir()
    own(folder / 'folder', 0o700)
    cases = {'open': 'others may read', 'empty': 'it is empty', 'large': 'too large', 'lines': 'printable ASCII', 'link': 'symbolic link', 'fifo': 'no regular file',
             'folder': 'no regular file', 'none': 'there is none'}
    for name in cases:
        c.psql(f"""CREATE SERVER s_{name} FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url '{stub.url}', model 'm');
            GRANT USAGE ON FOREIGN SERVER s_{name} TO app; CREATE USER MAPPING FOR app SERVER s_{name} OPTIONS (secret_file '{name}')""")
        submit(c, f's_{name}', 'hello')
    before = len(stub.calls())
    for name, why in cases.items():
        c.wait_for(f"SELECT paused FROM millrace.provider_states WHERE server = 's_{name}'", 't', 60)
        reason = c.value(f"SELECT reason FROM millrace.provider_states WHERE server = 's_{name}'")
        tap.ok(why in reason and f'"{name}"' in reason, f'{name}: {reason}')
    tap.same(len(stub.calls()), before, 'nobody was called')
    tap.ok(secret not in c.logs() and not tables_with(c, secret), 'what is in them stands nowhere')
    write(folder, 'none', CANARY)
    c.psql("SELECT millrace.resume_provider('s_none')")
    ended(c, 's_none', 1)
    tap.same(c.value("SELECT state FROM millrace.tasks WHERE queue = 's_none'"), 'succeeded', 'once the file is there, and the provider resumed, the task goes on')
    folder.chmod(0o777)
    c.psql("DROP USER MAPPING FOR app SERVER s_none; CREATE USER MAPPING FOR app SERVER s_none OPTIONS (secret_file 'none')")
    submit(c, 's_none', 'hello again')
    c.wait_for("SELECT paused FROM millrace.provider_states WHERE server = 's_none'", 't', 60)
    tap.ok('others may write there' in c.value("SELECT reason FROM millrace.provider_states WHERE server = 's_none'"), 'a folder that others may write is not safe either')
    folder.chmod(0o700)


def signature(path, headers, secret):
    """AWS Signature Version 4 of a PUT, by the headers that it says are signed."""
    headers = {name.lower(): value for name, value in headers.items()}
    names = headers['authorization'].partition('SignedHeaders=')[2].partition(',')[0]
    scope = headers['authorization'].partition('Credential=')[2].partition(',')[0].split('/', 1)[1]
    request = '\n'.join(['PUT', path, '', *(f'{n}:{headers[n]}' for n in names.split(';')), '', names, headers['x-amz-content-sha256']])
    key = ('AWS4' + secret).encode()
    for part in scope.split('/'):
        key = hmac.digest(key, part.encode(), 'sha256')
    text = '\n'.join(['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, hashlib.sha256(request.encode()).hexdigest()])
    return hmac.new(key, text.encode(), 'sha256').hexdigest()


def by_store(c, stub, folder):
    """A store's secret key may be in a file, too."""
    write(folder, 'store.key', CANARY)
    with httpstub.Stub() as store:
        c.psql(f"""CREATE SERVER store FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url '{store.url}'); GRANT USAGE ON FOREIGN SERVER store TO app;
            CREATE USER MAPPING FOR app SERVER store OPTIONS (access_key 'me', secret_file 'store.key')""")
        c.psql("SELECT millrace.put_object('store', 'b-1/put/x', 'content')", user='app')
        c.wait_for("SELECT succeeded FROM millrace.stat_http WHERE server = 'store'", '1', 60)
        path, _, _, headers = store.log[0]
    tap.same(headers['Authorization'].rpartition('Signature=')[2], signature(path, headers, CANARY), "a store's requests are signed by the key of a file")
    tap.ok(CANARY not in c.logs() and not tables_with(c, CANARY), 'which stands nowhere else')


def rights(c, stub, folder):
    """Nobody but a superuser says which file, or which folder."""
    for sql, name in (("CREATE USER MAPPING FOR app SERVER own OPTIONS (secret_file 'app.key')", "a role's own mapping names no file"),
                      ("SET millrace.secret_directory = '/etc'", 'nor does it set the folder'),
                      ("ALTER ROLE app SET millrace.secret_directory = '/etc'", 'not even for later')):
        try:
            c.psql(f"CREATE SERVER own FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url '{stub.url}'); {sql}", user='app')
            tap.ok(False, name)
        except SqlError as e:
            tap.ok(e.sqlstate in ('42501', '55P02'), name)
        c.psql('DROP SERVER IF EXISTS own CASCADE')


def main():
    parts = (by_file, by_literal, bad_files, by_store, rights)
    folder = pathlib.Path(tempfile.mkdtemp(prefix='millrace_secrets'))
    own(folder, 0o700)
    folder.parent.chmod(folder.parent.stat().st_mode | 0o001)
    try:
        with cluster('task_secrets', {'millrace.secret_directory': str(folder), 'log_min_messages': 'debug5', 'log_statement': 'all',
                                      'log_min_duration_statement': 0}) as c, Stub(key=CANARY) as stub:
            c.psql('''CREATE EXTENSION millrace; CREATE ROLE app LOGIN IN ROLE millrace_admin, millrace_user; CREATE ROLE other LOGIN IN ROLE millrace_monitor; CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
                SELECT millrace.start(); CREATE SCHEMA app AUTHORIZATION app''')
            for part in parts:
                if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                    part(c, stub, folder)
    finally:
        shutil.rmtree(folder)
    tap.done()


main()
