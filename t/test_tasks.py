"""Tasks of lane sql, on a running server: kinds, priorities, delays, deadlines, retries by class of error, cancelling, order
by key, providers that are functions, deliveries that fail.  Waits of minutes are made by moving the clock that tasks go by."""
# timeout: 600
# takes: 50
# lane: waits
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import clean_log, cluster, literal
from lib.tasks import call, clock, ended, once, prepare, state, submit, wait_state, workers


def kinds(c):
    """A function in the payload, a kind's own, as the role that submits; a result that is null; functions that are none."""
    a = submit(c, {'n': 'kinds-a'}, tag='kinds-a', deliver='app.done')
    c.psql("SELECT millrace.create_task_kind('chore', 'sql', '{\"function\": \"app.work\", \"priority\": 7}')")
    b = c.value("SELECT millrace.submit_task('chore', '{\"n\": \"kinds-b\"}', '{\"tag\": \"kinds-b\", \"deliver\": \"app.done\"}')", user='app')
    c.psql('CREATE FUNCTION app.missing(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$; CREATE FUNCTION app.nothing(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$', user='app')
    none = submit(c, {}, 'app.missing', delay=1)
    c.psql('DROP FUNCTION app.missing', user='app')
    null = submit(c, {}, 'app.nothing')
    ended(c)
    once(c, tap, 'kinds-', 2, 'two kinds')
    tap.same((state(c, a, 'state, result, attempts'), state(c, b, 'state, priority')),
             (('succeeded', '{"n": "kinds-a", "by": "app"}', '1'), ('succeeded', '7')), 'as the role that submitted them')
    tap.same(state(c, none, 'state, class, sqlstate, error'), ('failed', 'function', '42883', 'function app.missing(jsonb) returns jsonb does not exist'), 'a function that is none')
    tap.same(state(c, null, 'state, result'), ('succeeded', None), 'a result may be null')
    tap.same(c.psql(f"SELECT attempt, owner, queue, class, sqlstate FROM millrace.task_attempts WHERE id = '{none}'"), [('1', 'app', 'sql', 'function', '42883')], 'its attempt is kept')


def priorities(c):
    """9 first, of one priority the oldest; what becomes due is not before what is more urgent."""
    c.psql("SELECT millrace.alter_task_pool('app', '{\"workers_max\": 1}')")
    first = submit(c, {'n': 'priority-first', 's': 1.5})
    wait_state(c, first, 'running')
    c.psql(';'.join(f"SELECT millrace.submit_task('sql', {call({'n': f'priority-{p}-{i}'})}, '{{\"priority\": {p}}}')" for i in range(4) for p in (0, 5, 9)), user='app')
    submit(c, {'n': 'priority-7-due'}, priority=7, delay=0.2)
    ended(c)
    tap.same([w for w, in c.psql("SELECT what FROM app.log WHERE what LIKE 'priority-%' ORDER BY n OFFSET 1")],
             [f'priority-9-{i}' for i in range(4)] + ['priority-7-due'] + [f'priority-{p}-{i}' for p in (5, 0) for i in range(4)], 'the most urgent first')
    c.psql("SELECT millrace.alter_task_pool('app', '{\"workers_max\": 4}')")


def delays(c):
    """Delays and deadlines of an hour, by the clock that tasks go by."""
    late = submit(c, {'n': 'delay-hour'}, delay=3600)
    soon = submit(c, {'n': 'delay-soon'}, delay=0.5)
    dead = submit(c, {'n': 'delay-dead'}, delay=1800, deadline='10 minutes', deliver='app.done', tag='delay-dead')
    wait_state(c, soon, 'succeeded')
    tap.same((state(c, late), state(c, dead)), ('delayed', 'delayed'), 'what is due in an hour waits')
    clock(c, 1900)
    wait_state(c, dead, 'expired')
    tap.same(c.psql("SELECT state, error->>'message' FROM app.told WHERE tag = 'delay-dead'"), [('expired', 'its deadline came before it began')], 'a deadline that passed is told of')
    tap.same(c.value(f"SELECT count(*) FROM millrace.task_attempts WHERE id = '{dead}'"), '0', 'and was no attempt')
    tap.same(state(c, late), 'delayed', 'half an hour later it still waits')
    clock(c, 3700)
    wait_state(c, late, 'succeeded')
    clock(c, 0)
    long = submit(c, {'n': 'delay-long', 's': 60}, deadline=1)
    slow = submit(c, {'n': 'delay-slow', 's': 60}, timeout_ms=300, max_attempts=1)
    wait_state(c, long, 'expired')
    wait_state(c, slow, 'failed')
    tap.same((state(c, long, 'sqlstate, attempts'), state(c, slow, 'class, sqlstate')), (('HYT00', '1'), ('overload', 'HYT00')), 'one that runs into its deadline, or its limit, is stopped')
    tap.same(c.value("SELECT count(*) FROM app.log WHERE what IN ('delay-long', 'delay-slow', 'delay-dead')"), '0', 'none of them did anything')


def retries(c):
    """Each class as its row says, by the clock; changed rows count at once; the cap of all classes."""
    ids = {s: submit(c, {'n': 'retry-' + s, 'fail': s}, tag='retry-' + s, deliver='app.done', watch='app.seen') for s in ('22012', '40001', '53000')}
    capped = submit(c, {'n': 'retry-cap', 'fail': '53000'}, max_attempts=2)
    own = submit(c, {'n': 'retry-own', 'fail': '57014'}, max_attempts=1)
    wait_state(c, ids['22012'], 'failed')
    for step in range(1, 40):
        if c.value("SELECT count(*) FROM millrace.task_queue") == '0':
            break
        clock(c, 100 * step)
        time.sleep(0.3)
    clock(c, 0)
    tap.same({s: state(c, i, 'state, class, attempts, tries') for s, i in ids.items()},
             {'22012': ('failed', 'function', '1', '{"function": 1}'), '40001': ('failed', 'conflict', '6', '{"conflict": 6}'),
              '53000': ('failed', 'resources', '6', '{"resources": 6}')}, 'retries are those of the class')
    tap.same(state(c, capped, 'state, attempts, tries'), ('failed', '2', '{"resources": 2}'), 'and never more than max_attempts')
    tap.same(state(c, own, 'state, attempts, tries'), ('failed', '1', '{"resources": 1}'), 'nor of a function that raises query_canceled by itself')
    tap.same(c.psql("SELECT tag, count(*), count(again_at), min(error->>'message') FROM app.watched GROUP BY 1 ORDER BY 1"),
             [('retry-40001', '5', '5', 'no luck with retry-40001'), ('retry-53000', '5', '5', 'no luck with retry-53000')], 'watch is told of each that is followed by another')
    tap.same(c.psql("SELECT tag, state, error->>'class', error->'tries', error->>'sqlstate' FROM app.told WHERE tag LIKE 'retry-%' ORDER BY 1"),
             [('retry-22012', 'failed', 'function', '{"function": 1}', '22012'), ('retry-40001', 'failed', 'conflict', '{"conflict": 6}', '40001'),
              ('retry-53000', 'failed', 'resources', '{"resources": 6}', '53000')], 'deliver of the end')
    tap.same(c.psql(f"SELECT count(*), count(*) FILTER (WHERE again_at - finished_at BETWEEN interval '2 s' * 2 ^ (attempt - 1) AND interval '2.6 s' * 2 ^ (attempt - 1)) "
                    f"FROM millrace.task_attempts WHERE id = '{ids['53000']}'"), [('6', '5')], 'pauses are in [2^n, 1.25 * 2^n] s')
    c.psql("UPDATE millrace.retry_policies SET retries = 0 WHERE class = 'conflict'")
    time.sleep(1.2)
    changed = submit(c, {'fail': '40001'})
    wait_state(c, changed, 'failed')
    tap.same(state(c, changed, 'attempts'), '1', 'a changed row counts at once')
    c.psql("UPDATE millrace.retry_policies SET retries = 50, max_s = 0.1 WHERE class = 'conflict'")
    time.sleep(1.2)
    c.psql("CREATE FUNCTION app.flaky(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF nextval('app.begun') % 3 <> 0 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;"
           "RETURN app.work(a); END $$", user='app')
    many = [submit(c, {'n': f'flaky-{i}'}, 'app.flaky', tag=f'flaky-{i}', deliver='app.done', max_attempts=50) for i in range(10)]
    ended(c)
    once(c, tap, 'flaky-', len(many), 'functions that fail twice of three times')
    c.psql("UPDATE millrace.retry_policies SET retries = 5, max_s = 3600 WHERE class = 'conflict'")


def cancelling(c):
    """One that waits, one that runs, one to be tried again; what others see is stopped within a second."""
    running = submit(c, {'n': 'cancel-running', 's': 60}, tag='cancel-running', deliver='app.done')
    delayed = submit(c, {'n': 'cancel-delayed'}, delay=3600, tag='cancel-delayed', deliver='app.done')
    silent = submit(c, {'n': 'cancel-silent'}, delay=3600)
    retried = submit(c, {'n': 'cancel-retried', 'fail': '53000'}, tag='cancel-retried', deliver='app.done')
    wait_state(c, running, 'running')
    wait_state(c, retried, 'retrying')
    t = time.monotonic()
    tap.same([c.value(f"SELECT millrace.cancel_task('{i}')", user='app') for i in (running, delayed, silent, retried)], ['t'] * 4, 'four tasks are cancelled')
    for i in (running, delayed, silent, retried):
        wait_state(c, i, 'cancelled')
    tap.ok(time.monotonic() - t < 5, 'and end in %.1f s' % (time.monotonic() - t))
    tap.same(c.psql("SELECT tag, state FROM app.told WHERE tag LIKE 'cancel-%' ORDER BY 1"), [(f'cancel-{w}', 'cancelled') for w in ('delayed', 'retried', 'running')], 'told of once each')
    tap.same(c.psql("SELECT count(*) FROM app.log WHERE what LIKE 'cancel-%'") + c.psql('SELECT count(*) FROM millrace.task_cancels'), [('0',), ('0',)], 'nothing of them is left')
    tap.same(c.value(f"SELECT millrace.cancel_task('{running}')", user='app'), 'f', 'what has ended cannot be cancelled')


def ordered(c):
    """8 submitters, 4 workers, failures and cancellations: of one key one at a time, in the order of the commits."""
    c.psql('''CREATE TABLE app.turns (n bigint GENERATED ALWAYS AS IDENTITY, key text, i int, what text, begun timestamptz, ended timestamptz);
        CREATE FUNCTION app.turn(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE t timestamptz := clock_timestamp(); BEGIN
            PERFORM pg_sleep(random() * 0.01);
            IF random() < 0.2 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;
            IF random() < 0.05 THEN RAISE EXCEPTION 'never' USING ERRCODE = '22012'; END IF;
            INSERT INTO app.turns (key, i, begun, ended) VALUES (a->>'key', (a->>'i')::int, t, clock_timestamp()); RETURN NULL; END $$;
        CREATE TABLE app.given (key text, i int, id uuid);''', user='app')
    c.psql("UPDATE millrace.retry_policies SET retries = 50, max_s = 0.02 WHERE class = 'conflict'")

    def submitter(k):
        s = c.session(user='app')
        for i in range(40):
            key = f'key-{(i + k) % 5}'
            # numbered under the key's lock, which submit_task() takes: ids and numbers are in the same order
            s.run(f"BEGIN; SELECT millrace.submit_task('sql', jsonb_build_object('function', 'app.turn', 'args', jsonb_build_object('key', '{key}', 'i', {k * 1000 + i})), "
                  f"'{{\"order_key\": \"{key}\", \"max_attempts\": 60}}') AS id \\gset\nINSERT INTO app.given VALUES ('{key}', {k * 1000 + i}, :'id'); "
                  f"{'SELECT pg_sleep(0.02);' if i % 4 == 0 else ''} {'ROLLBACK' if i % 10 == 9 else 'COMMIT'}")
            if i % 8 == 3:
                s.run("SELECT millrace.cancel_task(id) FROM app.given ORDER BY random() LIMIT 1")

    threads = [threading.Thread(target=submitter, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ended(c, timeout=120)
    c.psql("UPDATE millrace.retry_policies SET retries = 5, max_s = 3600 WHERE class = 'conflict'")
    total = c.psql("SELECT count(*), count(*) FILTER (WHERE t.state = 'succeeded'), count(*) FILTER (WHERE t.state = 'failed'), count(*) FILTER (WHERE t.state = 'cancelled') "
                   "FROM app.given g JOIN millrace.task_done t USING (id)")[0]
    tap.ok(total[0] == c.value('SELECT count(*) FROM app.given') and int(total[1]) > 100, '%s tasks of 5 keys: %s succeeded, %s failed, %s cancelled' % total)
    tap.same(c.value('SELECT count(*) FROM app.turns'), total[1], 'each did its work once')
    tap.same(c.value('''SELECT count(*) FROM (SELECT g.id, lag(g.id) OVER (PARTITION BY t.key ORDER BY t.begun) AS before, t.begun,
                      lag(t.ended) OVER (PARTITION BY t.key ORDER BY t.begun) AS ended FROM app.turns t JOIN app.given g USING (key, i)) x
                      WHERE before > id OR ended > begun'''), '0', 'in the order of submission, one after the other')


def handed_on(c):
    """One of a key that is submitted while another transaction ends the one before it: that one does not see it, and does not wake it."""
    first = submit(c, {'n': 'handed-first'}, order_key='handed', delay=3600)
    canceller = c.session(user='app')
    canceller.run(f"BEGIN; SELECT millrace.cancel_task('{first}')")
    second = submit(c, {'n': 'handed-second'}, order_key='handed')
    wait_state(c, submit(c, {'n': 'handed-other'}), 'succeeded')        # by then workers have looked at the second
    tap.same(state(c, second), 'waiting', 'it waits for the one before it')
    canceller.run('COMMIT')
    wait_state(c, second, 'succeeded', 15)
    tap.ok(True, 'and is not forgotten when that one is gone')


def local_providers(c):
    """A provider that is a function; one that has no answer leaves it to the next."""
    c.psql('''CREATE FUNCTION app.answer(r jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
            IF r->>'prompt' LIKE 'known%' THEN RETURN jsonb_build_object('text', 'yes', 'tenant', r->>'tenant', 'tag', r->>'tag'); END IF;
            RAISE no_data_found; END $$;
        CREATE FUNCTION app.fallback(r jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('text', 'perhaps') $$;''', user='app')
    c.psql('''CREATE SERVER stored FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'app.answer');
        CREATE SERVER guess FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'app.fallback');
        GRANT USAGE ON FOREIGN SERVER stored, guess TO app''')
    ids = [c.value(f"SELECT millrace.submit_task('llm', '{{\"prompt\": \"{p}\"}}', {literal(json.dumps({'provider': q, 'tenant': 'acme', 'tag': 't'}))})", user='app')
           for p, q in (('known one', ['stored', 'guess']), ('other', ['stored', 'guess']), ('other', 'stored'))]
    ended(c)
    tap.same([state(c, i, "state, queue, result->>'text'") for i in ids],
             [('succeeded', 'stored', 'yes'), ('succeeded', 'guess', 'perhaps'), ('failed', 'stored', None)], 'the first that has an answer')
    tap.same(state(c, ids[0], "result->>'tenant', result->>'tag', attempts"), ('acme', 't', '1'), 'which knows whose question it is')
    tap.same(state(c, ids[1], 'attempts, tries'), ('2', '{}'), 'tries of classes begin anew with each provider')
    c.psql("SELECT millrace.pause_provider('stored', 'test')")
    time.sleep(1.5)
    held = c.value("SELECT millrace.submit_task('llm', '{\"prompt\": \"known\"}', '{\"provider\": \"stored\"}')", user='app')
    gone = c.value("SELECT millrace.submit_task('llm', '{\"prompt\": \"known\"}', '{\"provider\": \"stored\", \"deliver\": \"app.done\", \"tag\": \"paused\"}')", user='app')
    c.psql(f"SELECT millrace.cancel_task('{gone}')", user='app')
    wait_state(c, gone, 'cancelled')
    tap.same(state(c, held), 'waiting', 'a paused provider is asked nothing; what is cancelled ends')
    c.psql("SELECT millrace.resume_provider('stored')")
    wait_state(c, held, 'succeeded')


def deliveries(c):
    """A function that is told and does not take it: the task fails as `delivery`, its work undone; one that is gone."""
    c.psql('''CREATE FUNCTION app.refuses(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'not this' USING ERRCODE = '22023'; END $$;
        CREATE FUNCTION app.going(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void LANGUAGE sql AS ''
        ''', user='app')
    refused = submit(c, {'n': 'deliver-refused'}, deliver='app.refuses')
    failed = submit(c, {'n': 'deliver-failed', 'fail': '22012'}, deliver='app.refuses')
    gone = submit(c, {'n': 'deliver-gone', 's': 0.5}, deliver='app.going')
    c.psql('DROP FUNCTION app.going', user='app')
    c.psql("CREATE TABLE app.strict (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
           "CREATE FUNCTION app.twice(a jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO app.strict VALUES (1), (1); SELECT NULL::jsonb $$", user='app')
    deferred = submit(c, {}, 'app.twice', tag='deferred', deliver='app.done')
    for i in (refused, failed, gone, deferred):
        wait_state(c, i, 'failed')
    tap.same([state(c, i, 'class, sqlstate') for i in (refused, failed, deferred)], [('delivery', '22023'), ('delivery', '22023'), ('function', '23505')], 'whose fault it was')
    tap.same(state(c, gone, 'sqlstate'), '42883', 'a function that is gone')
    tap.same(c.value("SELECT count(*) FROM app.log WHERE what LIKE 'deliver-%'"), '0', 'what was not delivered is undone')
    tap.same(c.psql("SELECT state, error->>'sqlstate' FROM app.told WHERE tag = 'deferred'"), [('failed', '23505')], 'constraints count before the end')


def session_state(c):
    """What a function sets or locks for its session is gone before the next one runs."""
    c.psql('''CREATE FUNCTION app.litters(a jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
            IF a ? 'look' THEN RETURN jsonb_build_object('path', current_setting('search_path'), 'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())); END IF;
            PERFORM set_config('search_path', 'app', false), pg_advisory_lock(17); SET statement_timeout = 1; RETURN NULL; END $$''', user='app')
    c.psql("SELECT millrace.alter_task_pool('app', '{\"workers_max\": 1}')")
    submit(c, {}, 'app.litters')
    look = submit(c, {'look': 1}, 'app.litters')
    wait_state(c, look, 'succeeded')
    tap.same(state(c, look, "result->>'path', result->>'locks'"), ('"$user", public', '0'), 'settings and advisory locks do not outlive a task')
    c.psql("SELECT millrace.alter_task_pool('app', '{\"workers_max\": 4}')")


PARTS = (kinds, priorities, delays, retries, cancelling, ordered, handed_on, local_providers, deliveries, session_state)


def main():
    with cluster('tasks') as c:
        prepare(c)
        for part in PARTS:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c)
        tap.ok(len(workers(c)) <= 4, 'no more workers than allowed')
        clean_log(c)
    tap.done()


main()
