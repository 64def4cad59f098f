"""Calls to providers: what servers of language models answer, or do not, and what becomes of each task.  As many calls as
the policies allow and none before its time, one result whatever happens, no transaction open while a server is waited for."""
# timeout: 900
# takes: 80
# lane: waits
import base64
import datetime
import email.utils
import http.server
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import httpstub, tap
from lib.cluster import SqlError
from lib.llmstub import Stub, Vectors, tokens
from lib.providers import KEY, ended, history, left, prepare, server, settled, submit, submit_many, task, worker
from lib.stream import clean_log, cluster, literal


def dialects(c, stub):
    """Both dialects, in one piece and as a stream; vectors; what a result says."""
    for api in ('ollama', 'openai'):
        for stream in ('false', 'true'):
            name = f'{api}_{stream}'
            server(c, name, stub.url, api, stream=stream, embedding_model='e', cost_per_1k='0.5')
            one = submit(c, 'llm', {'prompt': 'Which city?\nstub: ok: París, d\'accord', 'system': 'Be brief.'}, provider=name)
            two = submit(c, 'llm', {'messages': [{'role': 'user', 'content': 'Hello\nstub: ok: hi'}], 'model': 'other'}, provider=name)
            state, result, *_ = ended(c, one)
            tap.same((state, result and result['text'], result and result['provider'], result and result['finish']), ('succeeded', "París, d'accord", name, 'stop'),
                     f'{name}: a text came back as it was said')
            used = result['tokens_in'] + result['tokens_out']
            tap.ok(result['tokens_out'] == tokens("París, d'accord") and abs(result['cost'] - used * 0.5 / 1000) < 1e-9 and 0 <= result['latency_ms'] < 5000,
                   f"{name}: {used} tokens cost {result['cost']}")
            tap.same(ended(c, two)[1]['text'], 'hi', f'{name}: messages are answered, too')
            calls = stub.calls(task=one) + stub.calls(task=two)
            tap.same([(k['model'], k['stream'], k['attempt']) for k in calls], [('m', stream == 'true', 1), ('other', stream == 'true', 1)],
                     f'{name}: each was called once, by its model')
        id = submit(c, 'embed', {'input': ['red fox', 'grün', 'red fox']}, provider=f'{api}_false')
        result = ended(c, id)[1]
        want = [Vectors(64).of(t) for t in ('red fox', 'grün', 'red fox')]
        tap.ok(result and max(abs(a - b) for u, v in zip(result['embeddings'], want) for a, b in zip(u, v)) < 1e-6 and len(result['embeddings']) == 3,
               f'{api}: vectors in the order of their texts')
        tap.same((result['model'], stub.calls(task=id)[0]['model']), ('e', 'e'), f'{api}: by the model for them')
    c.psql("""SELECT millrace.create_task_kind('capital', 'llm', '{"prompt": "Capital of {{country}}?\\nstub: ok: {{ answer }}", "provider": "openai_false"}')""")
    id = submit(c, 'capital', {'country': '{{answer}}', 'answer': {'of': 'it'}})
    tap.same(ended(c, id)[1]['text'], '{"of": "it"}', "a kind's prompt is filled in, once")
    tap.ok('{{answer}}' in c.value(f"SELECT payload FROM millrace.tasks WHERE id = '{id}'"), 'and its payload kept')
    id = submit(c, 'capital', {'country': 'France'})
    tap.same(ended(c, id)[0::5], ('failed', 1), 'a payload that lacks a value fails, uncalled')
    tap.same((stub.calls(task=id), c.value("SELECT count(*) FROM app.ended")), ([], '0'), 'and nobody is told who did not ask')


# what the stub is told: (state, attempts, classes, statuses, SQLSTATE), on a server with a time limit of 700 ms
FAULTS = {
    '429-0 twice then ok: x': ('succeeded', 3, ['overload', 'overload', None], ['429', '429', '200'], None),
    '429-0': ('failed', 4, ['overload'] * 4, ['429'] * 4, '53000'),
    '503-0': ('failed', 4, ['overload'] * 4, ['503'] * 4, '53000'),
    '402': ('failed', 6, ['quota'] * 6, ['402'] * 6, '08004'),
    '500': ('failed', 6, ['network'] * 6, ['500'] * 6, '58000'),
    '400': ('failed', 1, ['invalid'], ['400'], '08004'),
    '404': ('failed', 1, ['invalid'], ['404'], '58P01'),
    '422': ('failed', 1, ['invalid'], ['422'], '08004'),
    'redirect': ('failed', 1, ['invalid'], ['302'], '08004'),
    'json': ('failed', 3, ['malformed'] * 3, ['200'] * 3, '22032'),
    'json then ok: y': ('succeeded', 2, ['malformed', None], ['200', '200'], None),
    'html': ('failed', 3, ['malformed'] * 3, ['200'] * 3, '22032'),
    'error': ('failed', 3, ['malformed'] * 3, ['200'] * 3, '22032'),
    'empty': ('failed', 3, ['malformed'] * 3, ['200'] * 3, '22032'),
    'tools': ('failed', 3, ['malformed'] * 3, ['200'] * 3, '22032'),
    'cut': ('failed', 3, ['malformed'] * 3, ['200'] * 3, '22032'),
    'hang': ('failed', 4, ['overload'] * 4, [None] * 4, 'HYT00'),
    'hang then ok: z': ('succeeded', 2, ['overload', None], [None, '200'], None),
    'drip-0.2': ('failed', 4, ['overload'] * 4, ['200'] * 4, 'HYT00'),
    'reset': ('failed', 6, ['network'] * 6, ['200'] * 6, '08006'),
    'truncate once then ok: w': ('succeeded', 2, ['network', None], ['200', '200'], None),
    'nohttp': ('failed', 6, ['network'] * 6, [None] * 6, '08P01'),
    'huge-2000000': ('failed', 1, ['invalid'], ['200'], '54000'),
    '500 then 429-0 then json then ok: v': ('succeeded', 4, ['network', 'overload', 'malformed', None], ['500', '429', '200', '200'], None),
}


def faults(c, stub):
    """Every kind of fault, what it comes to, in as many attempts as its policy allows, with a row each."""
    ids = {}
    for i, said in enumerate(FAULTS):
        server(c, f'f{i}', stub.url, stream='true' if said == 'cut' else 'false', timeout_ms=700, max_bytes=1000000)
        ids[said] = submit(c, 'llm', {'prompt': f'stub: {said}'}, provider=f'f{i}', deliver='app.done', tag=said)
    for said, id in ids.items():
        want = FAULTS[said]
        state, result, class_, sqlstate, error, attempts = ended(c, id, 90)
        rows = history(c, id)
        tap.same((state, attempts, [r[2] for r in rows], [r[3] for r in rows], sqlstate), want, f'{said}: {error or result["text"]}')
        tap.same(([int(r[0]) for r in rows], len(stub.calls(task=id)) + ('hang' in said or 'drip' in said)), (list(range(1, attempts + 1)), attempts + ('hang' in said or 'drip' in said)),
                 f'{said}: called {attempts} times, with a row each')
    tap.same(c.psql("SELECT tag, state, error ->> 'class', result ->> 'text', role FROM app.ended WHERE tag IN ('400', '402', 'json then ok: y') ORDER BY tag"),
             [('400', 'failed', 'invalid', None, 'app'), ('402', 'failed', 'quota', None, 'app'), ('json then ok: y', 'succeeded', None, 'y', 'app')],
             'each was told of, as the role that asked')
    tap.same(c.value('SELECT count(*), count(DISTINCT id) FROM app.ended WHERE tag IS NOT NULL'), str(len(FAULTS)), 'once')
    tap.same(c.value("SELECT count(*) FROM millrace.task_attempts WHERE class IS NULL AND kind = 'llm' AND (tokens_out IS NULL OR cost IS NULL)"), '0', 'successes say what they used')
    c.psql('TRUNCATE app.ended')


def auth(c, stub):
    """A key that is not taken pauses the provider; tasks wait, and their attempts do not count."""
    stub.control(key='right')
    server(c, 'locked', stub.url, key='wrong-but-long')
    ids = [submit(c, 'llm', {'prompt': 'stub: ok: in'}, provider='locked') for _ in range(3)]
    c.wait_for("SELECT paused FROM millrace.provider_states WHERE server = 'locked'", 't')
    time.sleep(2)
    calls = sum(len(stub.calls(task=i)) for i in ids)
    tap.ok(1 <= calls <= 3 and {task(c, i)[5] for i in ids} == {0}, f'{calls} calls were refused; no attempt counts')
    tap.ok('wrong-but-long' not in c.value("SELECT reason FROM millrace.provider_states WHERE server = 'locked'"), 'the reason does not say the key')
    c.psql("ALTER USER MAPPING FOR app SERVER locked OPTIONS (SET api_key 'right'); SELECT millrace.resume_provider('locked')")
    tap.same([ended(c, i)[0::5] for i in ids], [('succeeded', 1)] * 3, 'with the right one, and resumed, all are answered')
    stub.control(key=None)


class Later(http.server.BaseHTTPRequestHandler):
    """429 with the header that the prompt says, then well; GET: what the path says."""
    protocol_version = 'HTTP/1.1'
    calls = {}

    def log_message(self, *args):
        pass

    def say(self, status, body, **headers):
        self.send_response(status)
        for name, value in {'Content-Length': len(body), **headers}.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers['Content-Length'])))['messages'][-1]['content']
        self.calls.setdefault(prompt, []).append(time.time())
        if len(self.calls[prompt]) == 1:
            headers = {'ms': {'retry-after-ms': '1300', 'Retry-After': '1'}, 's': {'Retry-After': '2'},
                       'date': {'Retry-After': email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3), usegmt=True)}}[prompt]
            return self.say(429, b'{}', **headers)
        self.say(200, json.dumps({'choices': [{'message': {'content': 'ok'}, 'finish_reason': 'length'}]}).encode())

    def do_GET(self):
        self.calls[self.path] = dict(self.headers)
        if self.path.startswith('/text'):
            return self.say(200, 'grün'.encode(), Content_Type='text/plain; charset=utf-8')
        if self.path.startswith('/bytes'):
            return self.say(200, b'\0\xff\x10', Content_Type='application/octet-stream')
        self.say(404, b'no such thing')


def retry_after(c, stub):
    """The server's own wish is kept, in all of its forms, by everybody."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Later) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        for form, least in (('ms', 1.3), ('s', 2), ('date', 1.9)):
            server(c, f'later_{form}', f'http://127.0.0.1:{web.server_address[1]}')
            id = submit(c, 'llm', {'prompt': form}, provider=f'later_{form}')
            state, result, *_ = ended(c, id)
            first, second = Later.calls[form]
            tap.ok(least <= second - first < least + 3, 'Retry-After as %s: again after %.2f s' % (form, second - first))
            tap.same(result['finish'], 'length', 'an answer cut at its most tokens is one, and says so')
        server(c, 'web', f'http://127.0.0.1:{web.server_address[1]}', 'ollama')
        results = [ended(c, submit(c, 'fetch', {'server': 'web', 'path': p})) for p in ('/text?q=1', 'bytes', '/none')]
        web.shutdown()
    tap.same([r[1] and (r[1]['status'], r[1]['content_type'], r[1]['bytes'], r[1].get('text'), r[1].get('base64')) for r in results],
             [(200, 'text/plain; charset=utf-8', 5, 'grün', None), (200, 'application/octet-stream', 3, None, base64.b64encode(b'\0\xff\x10').decode()), None], 'what is fetched')
    tap.same(results[2][:1] + results[2][2:4], ('failed', 'invalid', '58P01'), 'what is missing is told of')
    headers = Later.calls['/text?q=1']
    tap.ok(headers['User-Agent'].startswith('millrace/') and headers['Authorization'] == f'Bearer {KEY}' and len(headers['Idempotency-Key']) == 36, 'who asks is said')
    server(c, 'held', stub.url)
    first = submit(c, 'llm', {'prompt': 'stub: 429-3 then ok: x'}, provider='held')
    c.wait_for(f"SELECT count(*) FROM millrace.task_history WHERE id = '{first}'", '1')
    others = [submit(c, 'llm', {'prompt': 'stub: ok: y'}, provider='held') for _ in range(3)]
    answered = stub.calls(task=first)[0]['answered']
    tap.same([ended(c, i)[0] for i in [first, *others]], ['succeeded'] * 4, 'held back, and then answered')
    again = min(k['received'] for i in [first, *others] for k in stub.calls(task=i) if k['received'] > answered)
    tap.ok(again - answered >= 3, 'nobody called before: %.2f s' % (again - answered))
    with httpstub.Stub() as store:
        server(c, 'store', store.url, 's3')
        result = ended(c, submit(c, 'fetch', {'server': 'store', 'path': 'b-1/ok-10/a b'}))[1]
        tap.same(base64.b64decode(result['base64']) if 'base64' in result else result['text'].encode(), httpstub.content('/b-1/ok-10/a%20b', 10), 'objects of a store are fetched')
        with store.lock:
            tap.ok(store.log[-1][3]['Authorization'].startswith('AWS4-HMAC-SHA256 Credential=me/'), 'by signed requests')


def chains(c, stub):
    """One provider after the other; and by weight."""
    server(c, 'good', stub.url, concurrency=64)
    server(c, 'other', stub.url, concurrency=64)
    with Stub() as bad:
        server(c, 'bad', bad.url, concurrency=8)
        bad.control(faults={'400': 1})
        id = submit(c, 'llm', {'prompt': 'chain'}, provider=['bad', 'good'])
        state, result, *_, attempts = ended(c, id)
        tap.same((state, result['provider'], attempts, [r[1:3] for r in history(c, id)]), ('succeeded', 'good', 2, [('bad', 'invalid'), ('good', None)]),
                 'what one provider refuses goes to the next')
        bad.stop()
        submit_many(c, 12, 'llm', {'prompt': 'alone %'}, provider='bad', tag='alone')
        c.wait_for("SELECT count(*) >= 5 FROM millrace.task_attempts WHERE queue = 'bad' AND class = 'network'", 't')
        time.sleep(0.3)
        begun = time.monotonic()
        submit_many(c, 200, 'llm', {'prompt': 'moved %'}, provider=['bad', 'other'], tag='moved')
        settled(c, 'moved')
        took = time.monotonic() - begun
        rows = c.psql("SELECT count(*) FILTER (WHERE result ->> 'provider' = 'other'), count(*) FILTER (WHERE attempts = 1) FROM millrace.tasks WHERE tag = 'moved'")[0]
        tap.ok(rows[0] == '200' and int(rows[1]) >= 190 and took < 10, f'200 tasks left a provider that is down in {took:.1f} s, {rows[1]} without an attempt there')
        tap.ok(left(c, 'alone') > 0, 'those with no other wait')
        bad.start()
        bad.control(faults={})
        settled(c, 'alone')
        tap.ok(int(c.value("SELECT count(*) FROM millrace.tasks WHERE tag = 'alone' AND state = 'succeeded'")) >= 7, 'and are answered when it is back')
    server(c, 'stuck', stub.url, concurrency=3, timeout_ms=60000)
    for said, n in (('ok: warm', 4), ('hang', 2), ('500', 6), ('hang', 1)):
        submit_many(c, n, 'llm', {'prompt': f'stub: {said}'}, provider='stuck', tag='stuck', max_attempts=1)
    c.wait_for("SELECT count(*) FROM millrace.tasks WHERE tag = 'stuck' AND state = 'running'", '3')
    submit_many(c, 50, 'llm', {'prompt': 'stuck %'}, provider=['stuck', 'other'], tag='unstuck')
    begun = time.monotonic()
    settled(c, 'unstuck')
    tap.ok(time.monotonic() - begun < 5, 'nor do they wait for one whose calls all hang, once it is known to be unwell')
    c.psql("SELECT count(millrace.cancel_task(id)) FROM millrace.tasks WHERE tag = 'stuck' AND state = 'running'", user='app')
    submit_many(c, 2000, 'llm', {'prompt': 'weighed %'}, provider={'good': 3, 'other': 1}, tag='weighed')
    settled(c, 'weighed')
    n = int(c.value("SELECT count(*) FROM millrace.tasks WHERE tag = 'weighed' AND state = 'succeeded' AND result ->> 'provider' = 'good'"))
    # 4 standard deviations of 2,000 draws of 0.75
    tap.ok(abs(n - 1500) < 78, f'3 : 1 of 2,000 made {n} : {2000 - n}')


def clock(c, ms):
    c.psql(f'ALTER SYSTEM SET millrace.task_clock_offset_ms = {ms}')
    c.reload()


def limits(c, stub):
    """Requests a minute of a provider and of a tenant, by the server's own log."""
    server(c, 'limited', stub.url, tenant_requests_per_minute=5, requests_per_minute=12)
    for tenant in ('a', 'b', ''):
        submit_many(c, 10, 'llm', {'prompt': tenant + ' limited %'}, provider='limited', tag='limited', **({'tenant': tenant} if tenant else {}))

    def called():
        ids = dict(c.psql("SELECT id, tenant FROM millrace.tasks WHERE tag = 'limited'"))
        calls = [ids[k['task']] for k in stub.calls() if k['task'] in ids]
        return [calls.count(t) for t in ('a', 'b')], len(calls)

    c.wait_for("SELECT count(*) FROM millrace.task_done WHERE tag = 'limited'", '12')
    time.sleep(2)
    per_tenant, total = called()
    tap.ok(max(per_tenant) <= 5 and total == 12, f'{total} calls in the first minute, {per_tenant} of the tenants')
    for minute in (2, 3):
        clock(c, 66000 * (minute - 1))
        c.wait_for("SELECT count(*) FROM millrace.task_done WHERE tag = 'limited'", str(min(12 * minute, 30)), 30)
    time.sleep(1)
    per_tenant, total = called()
    tap.ok(max(per_tenant) <= 15 and total == 30, f'{total} calls by the third, {per_tenant} of the tenants')
    clock(c, 0)


def endings(c, stub):
    """Cancelled, timed out, too late; and no transaction open meanwhile."""
    server(c, 'slow', stub.url, timeout_ms=60000, concurrency=256)
    running = submit(c, 'llm', {'prompt': 'stub: hang'}, provider='slow', deliver='app.done', tag='cancelled')
    late = submit(c, 'llm', {'prompt': 'stub: hang'}, provider='slow', deadline='2 seconds')
    timed = submit(c, 'llm', {'prompt': 'stub: hang once then ok: after'}, provider='slow', timeout_ms=400)
    c.wait_for(f"SELECT state FROM millrace.tasks WHERE id = '{running}'", 'running')
    begun = time.monotonic()
    tap.same(c.value(f"SELECT millrace.cancel_task('{running}')", user='app'), 't', 'a running task can be cancelled')
    state = ended(c, running)[0]
    tap.ok(state == 'cancelled' and time.monotonic() - begun < 3, 'its call was given up in %.1f s' % (time.monotonic() - begun))
    tap.same(c.psql("SELECT state FROM app.ended WHERE tag = 'cancelled'"), [('cancelled',)], 'and told of')
    tap.ok(stub.calls(task=running)[0]['left'], 'the server saw it go')
    tap.same((ended(c, timed)[0], [r[2] for r in history(c, timed)]), ('succeeded', ['overload', None]), "a task's own limit of time is kept")
    tap.same(ended(c, late)[0], 'expired', 'and its deadline')
    # a provider of which nothing is known yet gets two calls at once, and one more for each that ended well
    submit_many(c, 256, 'llm', {'prompt': 'held %'}, provider='slow', tag='held')
    settled(c, 'held')
    stub.control(hold=True)
    submit_many(c, 300, 'llm', {'prompt': 'held %'}, provider='slow', tag='held')
    deadline = time.monotonic() + 30
    while stub.control()['calls'] < 256 and time.monotonic() < deadline:
        time.sleep(0.2)
    tap.same((stub.control()['calls'], len(worker(c))), (256, 1), 'one process has 256 calls under way')
    time.sleep(2)
    # those in which it looks for more, once a second, are over in no time
    tap.same(c.psql("SELECT count(*), count(*) FILTER (WHERE clock_timestamp() - xact_start > '1 s') FROM pg_stat_activity WHERE backend_type = 'millrace calls'"),
             [('1', '0')], 'and no transaction for long')
    waiting = c.value("SELECT id FROM millrace.tasks WHERE tag = 'held' AND state = 'waiting' LIMIT 1")
    c.psql(f"SELECT millrace.cancel_task('{waiting}')", user='app')
    tap.same(ended(c, waiting)[0], 'cancelled', 'one that waits can be cancelled meanwhile')
    stub.control(hold=False)
    settled(c, 'held')
    tap.same(c.psql("SELECT state, count(*) FROM millrace.tasks WHERE tag = 'held' GROUP BY 1 ORDER BY 1"), [('cancelled', '1'), ('succeeded', '555')], 'all were answered in the end')


def altered(c, stub):
    """A provider altered, and dropped, while calls run."""
    with Stub() as second:
        server(c, 'moving', stub.url, timeout_ms=60000)
        server(c, 'backup', second.url)
        stub.control(hold=True)
        first = submit(c, 'llm', {'prompt': 'first'}, provider='moving')
        c.wait_for(f"SELECT state FROM millrace.tasks WHERE id = '{first}'", 'running')
        c.psql(f"ALTER SERVER moving OPTIONS (SET url '{second.url}')")
        after = submit(c, 'llm', {'prompt': 'after'}, provider='moving')
        tap.same((ended(c, after)[0], len(second.calls(task=after))), ('succeeded', 1), 'new calls go to the new address')
        tap.same(task(c, first)[0], 'running', 'while old ones run')
        stub.control(hold=False)
        tap.same((ended(c, first)[0], len(stub.calls(task=first))), ('succeeded', 1), 'and end')
        second.control(hold=True)
        last = submit(c, 'llm', {'prompt': 'last'}, provider='moving')
        c.wait_for(f"SELECT state FROM millrace.tasks WHERE id = '{last}'", 'running')
        waiting = [submit(c, 'llm', {'prompt': 'stub: ok: b'}, provider=p, delay=1) for p in ('moving', ['moving', 'backup'])]
        c.psql('DROP SERVER moving CASCADE')
        second.control(hold=False)
        tap.same(ended(c, last)[0], 'succeeded', 'a call ends though its server was dropped')
        state, _, _, sqlstate, error, _ = ended(c, waiting[0])
        tap.same((state, sqlstate, error), ('failed', '42704', 'server "moving" does not exist'), 'those behind it are told')
        tap.same(ended(c, waiting[1])[1]['provider'], 'backup', 'or go to their next provider')


def deaths(c, stub):
    """The worker is ended in the middle of calls; the server stops while calls hang."""
    server(c, 'mortal', stub.url, timeout_ms=60000)
    stub.control(hold=True)
    ids = [submit(c, 'llm', {'prompt': f'mortal {i}'}, provider='mortal', deliver='app.done', tag='mortal') for i in range(2)]
    c.wait_for("SELECT count(*) FROM millrace.tasks WHERE tag = 'mortal' AND state = 'running'", '2')
    before = worker(c)
    c.psql(f'SELECT pg_terminate_backend({before[0]})')
    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE pid = %d" % before[0], '0')
    stub.control(hold=False)
    tap.same([ended(c, i)[0::5] for i in ids], [('succeeded', 2)] * 2, 'calls of a worker that was ended are made again')
    tap.same(([[r[2] for r in history(c, i)] for i in ids], c.value("SELECT count(*) FROM app.ended WHERE tag = 'mortal'")), ([['lost', None]] * 2, '2'),
             'with one result each, and the lost attempts kept')
    c.psql("SELECT millrace.alter_task_pool('app', '{\"max_tasks\": 100}')")
    submit_many(c, 500, 'llm', {'prompt': 'warm %'}, provider='mortal', tag='warm')
    settled(c, 'warm')
    rows = c.psql("SELECT count(*), count(DISTINCT h.pid), max(h.attempt) FROM millrace.task_history h JOIN millrace.tasks t USING (id) WHERE t.tag = 'warm'")[0]
    tap.ok(rows[0] == '500' and int(rows[1]) > 1 and rows[2] == '1', f'{rows[1]} processes made room for each other, and no call was made twice')
    c.psql("SELECT millrace.alter_task_pool('app', '{\"max_tasks\": null}')")
    submit_many(c, 32, 'llm', {'prompt': 'stub: hang'}, provider='mortal', tag='hanging', max_attempts=1)
    c.wait_for("SELECT count(*) >= 16 FROM millrace.tasks WHERE tag = 'hanging' AND state = 'running'", 't')
    took = c.stop()
    c.start()
    tap.ok(took < 5, f'the server stopped in {took:.1f} s with calls that hang')
    c.psql("SELECT count(millrace.cancel_task(id)) FROM millrace.tasks WHERE tag = 'hanging'", user='app')
    settled(c, 'hanging')


def encodings(c, stub):
    """A database of another encoding than the servers'."""
    stub.control(answers={'sixty': '日本'})
    c.psql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    c.psql(f'''CREATE EXTENSION millrace; SELECT millrace.start(); CREATE SERVER l FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url '{stub.url}', model 'm');
        GRANT USAGE ON FOREIGN SERVER l TO app; SET ROLE app; SELECT millrace.submit_task('llm', jsonb_build_object('prompt', t), '{{"provider": "l"}}')
          FROM unnest(ARRAY[U&'stub: ok: Par\\00EDs', E'stub: ok: \\u00e9t\\u00e9', 'sixty']) t''', db='latin')
    c.wait_for('SELECT count(*) FROM millrace.task_queue', '0', db='latin')
    tap.same(c.psql("SELECT result ->> 'text' = U&'Par\\00EDs', result ->> 'text' = U&'\\00E9t\\00E9', sqlstate FROM millrace.tasks ORDER BY id", db='latin'),
             [('t', 'f', None), ('f', 't', None), (None, None, '22P05')], 'texts come and go; what it cannot hold fails')
    tap.same([k['question'].split(': ')[-1] for k in stub.calls() if 'Par' in k['question'] and k['task'] in
              [r[0] for r in c.psql('SELECT id FROM millrace.tasks', db='latin')]], ['París'], 'and the server saw UTF-8')
    stub.control(answers=None)


def private(c, stub):
    """Servers that no superuser vouches for do not lead into our own network; who may not use a server does not."""
    server(c, 'inside', stub.url, owner='app')
    id = submit(c, 'llm', {'prompt': 'x'}, provider='inside')
    state, _, _, sqlstate, error, attempts = ended(c, id)
    tap.same((state, sqlstate, attempts, stub.calls(task=id)), ('failed', '42501', 1, []), f'refused: {error}')
    server(c, 'foreign_one', stub.url)
    c.psql('REVOKE USAGE ON FOREIGN SERVER foreign_one FROM app')
    try:
        id = submit(c, 'llm', {'prompt': 'x'}, provider='foreign_one')
        tap.same((ended(c, id)[0], stub.calls(task=id)), ('failed', []), 'who has no USAGE fails')
    except SqlError as e:
        tap.same(e.sqlstate, '42501', 'who has no USAGE is refused')
    tap.same(c.value(f"SELECT count(*) FROM millrace.task_attempts WHERE error LIKE '%{KEY}%'"), '0', 'no error says a key')
    tap.ok(KEY not in c.logs(), 'nor does the log')


PARTS = (dialects, faults, auth, retry_after, chains, limits, endings, altered, deaths, encodings, private)


def main():
    with cluster('providers') as c, Stub() as stub:
        prepare(c)
        for part in PARTS:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, stub)
        clean_log(c)
    tap.done()


main()
