"""Pipeline answers as a whole: a real broker, MiniLM, a server of language models that misbehaves on order, and none at all (provider
local).  Questions and answers are those of QA-Eval.  What workers call is called by hand in sql/pipelines_answers.sql."""
# timeout: 900
# takes: 70
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minilm, tap
from lib.kafka import Kafka
from lib.llmstub import Stub
from lib.stream import clean_log, cluster, folder, literal
from lib.tasks import clock

FULL = bool(os.environ.get('MILLRACE_FULL'))
N = 700 if FULL else 70                 # different questions; 3 of 10 asked are repeats
CROWD, ROUNDS = 50, 40 if FULL else 8   # so many ask the same at once, so many times
BAD = 'I do not know anything about number %d.'
STATES = ('pending', 'success', 'error-overload', 'error-quota', 'validated', 'low-quality')


def mill(c, sql, **more):
    return c.psql(sql, user='mill', **more)


def asked(question, reference=None, tenant=''):
    return 'SELECT (a.ask).* FROM (SELECT answers.ask(%s, %s, %s)) a' % (literal(question), literal(tenant), 'NULL' if reference is None else literal(reference))


def finished(c, n, schema='answers', timeout=300):
    """Wait until n questions have ended, minutes of waiting for quota made short by the clock that tasks go by."""
    end, ahead = time.monotonic() + timeout, 0
    sql = (f"SELECT (SELECT count(*) FROM {schema}.questions WHERE finished_at IS NOT NULL) + (SELECT count(*) FROM {schema}.failed_questions), "
           f"(SELECT count(*) FROM {schema}.questions WHERE status = 'error-quota')")
    while True:
        done, quota = map(int, mill(c, sql)[0])
        if done >= n:
            return tap.same(done, n, f'{n} questions have come to an end')
        if time.monotonic() > end:
            tap.note(mill(c, f"SELECT status, count(*), min(reason) FROM {schema}.questions GROUP BY 1"))
            return tap.ok(False, f'{n} questions have come to an end in {timeout} s: {done}')
        if quota:
            ahead += 20
            clock(c, ahead)
        time.sleep(0.5)


def local(c):
    """No server at all: stored answers by similarity, scored against the best of them."""
    mill(c, "SELECT millrace.create_pipeline('answers', 'local', '{\"provider\": \"here\"}')")
    tap.same(mill(c, "SELECT local.import_history('SELECT * FROM local.sample_questions()')"), [('20',)], 'samples are imported')
    tap.same(mill(c, "SELECT count(*), count(embedding), min(cardinality(embedding)) FROM local.history"), [('20', '20', '384')], 'each with its embedding')
    ask = lambda q, t='': mill(c, "SELECT status, answer, source FROM local.ask(%s, %s)" % (literal(q), literal(t)))[0]
    tap.same(ask('What is the capital of Chile?'), ('validated', 'The capital of Chile is Santiago.', 'history'), 'a stored answer')
    tap.same(ask('What is the capital of Chile?')[2], 'exact', 'from then on the cache has it')
    tap.same(ask("Could you tell me the capital of Chile?")[1:], ('The capital of Chile is Santiago.', 'semantic'), 'in other words, too')
    tap.same(ask('What is the capital of Chile?', 'other')[2], 'queued', 'another tenant does not get it')
    tap.same(ask('In which year did the Berlin Wall not fall?')[2], 'queued', 'nor does who asks the opposite')
    tap.same(mill(c, "SELECT source FROM local.ask('Who was the first person to set foot on the Moon?', reference => 'Neil Armstrong was the first human who walked on the Moon.')"),
             [('queued',)], 'what is not near enough is asked')
    tap.same(ask('Who was the first man to set foot on the Moon?')[2], 'queued', 'without a reference, too')
    c.wait_for("SELECT count(*) FROM local.questions WHERE question LIKE 'Who was the first%' AND finished_at IS NOT NULL", '2', 60)
    tap.same(mill(c, "SELECT status, reason FROM local.questions WHERE question LIKE 'Who was the first man%'"), [('low-quality', 'nothing is known to score the answer against')],
             'an answer that nothing is known to score against is not good enough')
    tap.same(mill(c, "SELECT answer, answered_by, provider FROM local.published WHERE question LIKE 'Who was the first person%'"),
             [('Neil Armstrong was the first human to walk on the Moon, in 1969.', 'generated', 'local')], 'and answered by provider local')
    c.wait_for("SELECT count(*) FROM local.failed_questions WHERE tenant = 'other'", '1', 60)
    tap.ok(True, 'a tenant without history has no answer from it')
    mill(c, "UPDATE local.history SET answer = 'Santiago de Chile.' WHERE question ~ 'Chile'")
    tap.same(ask('What is the capital of Chile?')[1:], ('Santiago de Chile.', 'history'), 'a changed history empties the cache')

    # ---- an import of many, in one statement
    n = 10000 if FULL else 300
    t = time.monotonic()
    tap.same(mill(c, f"SELECT local.import_history((SELECT jsonb_agg(jsonb_build_object('question', 'What is tool ' || i || ' used for?', 'answer', 'It is tool ' || i, "
                  f"'score', (i % 10) / 10.0)) FROM generate_series(1, {n}) i))", timeout=600), [(str(n),)], f'{n} records in one statement')
    tap.note('%.1f s' % (time.monotonic() - t))
    tap.same(mill(c, "SELECT count(*) - count(embedding) FROM local.history"), [('0',)], 'all embedded')


def script(rows, rng):
    """{question: what the model says, attempt by attempt}, and the questions that never get a good answer."""
    answers, never, twice = {}, set(), set()
    for i, r in enumerate(rows):
        kind = rng.random()
        if kind < 0.05:
            answers[r['question']] = [BAD % i]
            never.add(r['question'])
        elif kind < 0.35:
            answers[r['question']] = [BAD % i, r['answer_chatgpt'], r['answer_gpt4']]
            twice.add(r['question'])
        else:
            answers[r['question']] = [r['answer_gpt4'], r['answer_gpt4'] + ' ']
    return answers, never, twice


def flow(c, kafka, stub, rows, never, twice):
    """Questions from a topic and from SQL, repeats among them; what stands in the topics is what happened."""
    mill(c, "SELECT millrace.create_outbox('k'); SELECT millrace.create_pipeline('answers', options => '%s')" % json.dumps(
        {'provider': 'llm', 'server': 'k', 'topics': 'qa-', 'cache': {'threshold': 0.9}}))
    topics = {s: (t, int(p)) for s, t, p in mill(c, "SELECT status, topic, partitions FROM answers.topics")}
    c.wait_for("SELECT count(*) FROM millrace.topics WHERE state = 'ready' AND made_at IS NOT NULL", '6', 60)
    there = kafka.admin().list_topics(timeout=10).topics
    tap.same([len(there[topics[s][0]].partitions) for s in STATES], [3, 3, 2, 2, 2, 1], 'six topics are made, each with its partitions')
    tap.same(mill(c, "SELECT count(*) FROM answers.topics WHERE state = 'ready' AND found = partitions"), [('6',)], 'and shown')

    half = len(rows) // 2
    stub.control(faults={'429': 0.08, '402': 0.03, '5xx': 0.03, 'json': 0.02})
    kafka.produce(topics['pending'][0], [(i % 3, None, json.dumps({'question': r['question'], 'reference': r['answer_gpt4']}).encode()) for i, r in enumerate(rows[:half])])
    mill(c, ';'.join(asked(r['question'], r['answer_gpt4']) for r in rows[half:]))
    finished(c, len(rows), timeout=600 if FULL else 240)
    failed = {q for q, in mill(c, 'SELECT question FROM answers.failed_questions')}
    tap.same({q for q, in mill(c, "SELECT question FROM answers.questions WHERE status = 'validated' AND answered_by = 'generated'")},
             {r['question'] for r in rows} - never - failed, 'each has an answer but those that were never good, and those that failed: %d' % len(failed))
    low = {q for q, in mill(c, "SELECT question FROM answers.questions WHERE status = 'low-quality'")}
    tap.ok(low <= never, 'low quality: only what was never good')

    good = [r['question'] for r in rows if r['question'] not in never]
    repeats = (good * 7)[:len(rows) * 3 // 7]
    known = {q for q, in mill(c, "SELECT question FROM answers.questions WHERE status = 'validated'")}
    stub.control(faults={})
    calls = stub.control()['requests']
    half = len(repeats) // 2
    references = {r['question']: r['answer_gpt4'] for r in rows}
    kafka.produce(topics['pending'][0], [(i % 3, None, json.dumps({'question': q, 'reference': references[q]}).encode()) for i, q in enumerate(repeats[:half])])
    sources = [r[3] for r in mill(c, ';'.join(asked(q) for q in repeats[half:]))]
    total = len(rows) + len(repeats)
    finished(c, total)
    tap.ok(sum(s == 'exact' for s in sources) >= sum(q in known for q in repeats[half:]), 'what is asked again comes from the cache')
    tap.same(stub.control()['requests'] - calls, sum(q not in known for q in repeats), 'and costs no call') if set(repeats) <= known else \
        tap.note('some repeats had failed before')

    # ---- topics and tables say the same
    c.wait_for("SELECT waiting = 0 AND confirmed FROM millrace.outbox_status s JOIN millrace.outbox_progress p USING (server) WHERE server = 'k'", 't', 90)
    messages = {s: [json.loads(v) for _, _, _, v in kafka.read_all(t)] for s, (t, _) in topics.items()}
    counted = dict(mill(c, "SELECT state, count(*) FROM answers.processing_metrics WHERE state IS NOT NULL GROUP BY 1"))
    tap.same({s: len(m) for s, m in messages.items()}, {s: int(counted.get(s, 0)) for s in STATES}, 'as many messages in each topic as there were transitions')
    tap.note({s: len(m) for s, m in messages.items()})
    tap.ok(all(len(messages[s]) > 0 for s in STATES), 'none of the six topics is empty')
    for state in ('validated', 'low-quality'):
        tap.same(sorted(m['question_id'] for m in messages[state]), sorted(i for i, in mill(c, f"SELECT question_id FROM answers.questions WHERE status = '{state}'")),
                 f'{state}: the questions of the topic are those of the table')
    tap.same(sum('origin' not in m for m in messages['pending']), len(rows) // 2 + len(repeats) // 2, 'what was asked in SQL went out, and was not read again')
    tap.ok(all(m['score'] > 0.75 for m in messages['validated']), 'every message of the validated has a score above the gate')

    # ---- views
    regenerated = {int(r[0]): r for r in mill(c, "SELECT regeneration, answers, validated, mean_score, mean_gain, better, worse FROM answers.regeneration_analysis")}
    tap.note(regenerated)
    tap.ok(float(regenerated[1][4]) > 0 and int(regenerated[1][5]) > 5 * int(regenerated[1][6]), 'asking again raises scores')
    tap.ok(max(regenerated) == 3, 'at most three times')
    second = stub.calls(status=200)
    tap.ok(any('does not mention' in s['question'] or 'refuses' in s['question'] for s in second), 'and the model is told what was wrong')
    latency = mill(c, "SELECT stage, questions, p50_ms, p95_ms, p99_ms FROM answers.latency_by_stage")
    tap.ok({'generate', 'call', 'score', 'total', 'lookup exact', 'lookup miss'} <= {r[0] for r in latency} and
           all(float(r[2]) <= float(r[3]) <= float(r[4]) for r in latency), 'percentiles of each stage')
    for r in latency:
        tap.note('%-16s %5s questions: p50 %s p95 %s p99 %s ms' % r)
    classes = dict((r[0], int(r[1])) for r in mill(c, "SELECT class, attempts FROM answers.error_distribution"))
    tap.ok(classes.get('overload', 0) > 0 and classes.get('quota', 0) > 0, 'errors by class: %s' % classes)
    efficiency = {r[0]: int(r[1]) for r in mill(c, "SELECT answered_by, questions FROM answers.cache_efficiency")}
    tap.same(sum(efficiency.values()), total, 'what questions were answered with: %s' % efficiency)
    tap.same(mill(c, "SELECT sum(asked) FROM answers.throughput"), [(str(total),)], 'throughput counts each question once')


def crowd(c, stub):
    """Many ask the same at once, in sessions of their own: the provider is called once, and all have its answer."""
    c.psql(f"CREATE SERVER asked FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url '{stub.url}', model 'm', allow_private 'true'); GRANT USAGE ON FOREIGN SERVER asked TO mill")
    mill(c, "SELECT millrace.create_pipeline('answers', 'crowd', '{\"provider\": \"asked\", \"cache\": false}')")
    sessions = [c.session(user='mill') for _ in range(CROWD)]
    tally = lambda sql: dict(mill(c, f'SELECT {sql}, count(*) FROM crowd.questions GROUP BY 1'))

    def ask(question, reference, tenant=''):
        for s in sessions:
            s.send("SELECT status, source FROM crowd.ask(%s, %s, %s)" % (literal(question), literal(tenant), literal(reference)))
        return [s.collect(60) for s in sessions]

    said = []
    for i in range(ROUNDS):
        question, answer = f'What is written on door {i} of the old harbour house?', f'On door {i} of the old harbour house somebody has written a date.'
        before = stub.control(answers={question: [BAD % i, answer] if i % 2 else [answer]})['requests']
        said += ask(question, answer)
        c.wait_for("SELECT count(*) FROM crowd.questions WHERE status = 'validated'", str(CROWD * (i + 1)), 60)
        calls = stub.control()['requests'] - before
        if calls != 1 + i % 2 or mill(c, f"SELECT count(*) FROM crowd.published WHERE answer = {literal(answer)}") != [(str(CROWD),)]:
            tap.note((i, calls, tally('answered_by')))
            break
    else:
        i += 1
    tap.same(i, ROUNDS, f'{ROUNDS} times {CROWD} ask the same at once: one call each time, or two where the first answer was not good enough, and all have the good one')
    sources = {s: said.count(s) for s in set(said)}
    tap.ok(sources.pop('pending|queued') == ROUNDS and sources.get('pending|shared', 0) > 0 and set(sources) <= {'pending|shared', 'validated|stored'}, 'one of them was queued: %s' % sources)
    tap.same(mill(c, "SELECT count(*), count(DISTINCT question_id) FROM crowd.processing_metrics WHERE state = 'validated'"), [(str(CROWD * ROUNDS),) * 2], 'each became validated once')

    # ---- who asked is cancelled: another asks; a server that refuses refuses all
    stub.control(hold=True, answers={'Who was that?': 'That was the postman.'})
    ask('Who was that?', 'That was the postman.')
    tap.same(tally('status')['pending'], str(CROWD), 'asked, and not answered yet')
    tap.same(mill(c, "SELECT crowd.cancel(question_id) FROM crowd.questions WHERE task_id IS NOT NULL"), [('t',)], 'the one that was sent is cancelled')
    c.wait_for("SELECT state FROM crowd.failed_questions", 'cancelled', 30)
    stub.control(hold=False)
    c.wait_for("SELECT count(*) FROM crowd.questions WHERE question = 'Who was that?' AND status = 'validated'", str(CROWD - 1), 60)
    tap.same(mill(c, "SELECT count(task_id), count(*) FILTER (WHERE answered_by = 'generated'), count(*) FILTER (WHERE answered_by = 'shared') FROM crowd.questions WHERE question = 'Who was that?'"),
             [('0', '1', str(CROWD - 2))], 'another was sent in its place, whose answer the rest have')
    before = stub.control(hold=True)['requests']
    ask('What now? stub: 400', 'Nothing.')
    stub.control(hold=False)
    c.wait_for("SELECT count(*) FROM crowd.failed_questions WHERE state = 'failed'", str(CROWD), 60)
    tap.same((mill(c, "SELECT DISTINCT class, error IS NOT NULL FROM crowd.failed_questions WHERE state = 'failed'"), stub.control()['requests'] - before), ([('invalid', 't')], 1),
             'what the server refuses is asked once, and all are told')
    for s in sessions:
        s.close()
    c.sessions.clear()
    mill(c, "SELECT millrace.drop_pipeline('crowd')")


def attack(c, never):
    """The owner of the tables tries to show an answer that is not good enough."""
    bad = mill(c, "SELECT question_id, last_response_id, question FROM answers.questions WHERE status = 'low-quality' LIMIT 1")
    if not bad:
        return tap.ok(False, 'there is an answer of low quality to attack with')
    q, r, text = bad[0]
    good = c.value("SELECT response_id FROM answers.questions WHERE status = 'validated' LIMIT 1")
    before = mill(c, "SELECT question_id, answer FROM answers.published ORDER BY 1")
    tries = [f"UPDATE answers.responses SET score = 1, gate = 0 WHERE response_id = {r}",
             f"UPDATE answers.responses SET validated = true WHERE response_id = {r}",
             f"UPDATE answers.responses SET reference = answer, scored_at = now() WHERE response_id = {r}",
             f"UPDATE answers.responses SET answer = 'EVIL' WHERE response_id = {good}",
             f"UPDATE answers.responses SET judge = 'token_f1', score = 0.99, scored_at = now() WHERE response_id = {r}",
             f"UPDATE answers.questions SET status = 'validated', response_id = {r} WHERE question_id = '{q}'",
             f"UPDATE answers.questions SET status = 'validated', response_id = {good} WHERE question_id = '{q}'",
             f"UPDATE answers.questions SET reference = (SELECT answer FROM answers.responses WHERE response_id = {r}) WHERE question_id = '{q}'",
             f"INSERT INTO answers.responses (question_id, tenant, question, answer, regeneration, score, gate, scored_at) VALUES ('{q}', '', 'x', 'EVIL', 9, 1, 0, now()); "
             f"UPDATE answers.questions SET status = 'validated', response_id = lastval() WHERE question_id = '{q}'",
             f"INSERT INTO answers.questions (question, status, response_id) VALUES ({literal(text)}, 'validated', {good})",
             f"SELECT millrace.cache_put('answers', {literal(text)}, '{{\"response_id\": {r}}}', '', answers.cache_model(s), answers.cache_prompt(s)) FROM answers.settings s; {asked(text)}",
             f"SELECT millrace.cache_put('answers', {literal(text)}, '{{\"response_id\": {good}}}', '', answers.cache_model(s), answers.cache_prompt(s)) FROM answers.settings s; {asked(text)}"]
    for sql in tries:
        try:
            mill(c, 'BEGIN; ' + sql + '; COMMIT')
            outcome = 'done'
        except Exception as e:                  # refused: as good
            outcome = getattr(e, 'message', str(e))
        if not tap.same(mill(c, "SELECT question_id, answer FROM answers.published ORDER BY 1"), before, 'nothing more is seen after ' + sql[:90]):
            tap.note(outcome)
    tap.same(mill(c, "SELECT count(*) FROM answers.published p WHERE p.score <= 0.75 OR p.answer LIKE 'I do not know anything about number%' OR p.answer ~ 'EVIL'"),
             [('0',)], 'nothing below the gate is visible')


def restored(c):
    """A dump has tables, triggers and views of the pipeline, its cache's rows, and no tasks."""
    dump = str(folder('test_answers') / 'dump')
    c.psql("SELECT millrace.pause_provider('llm', 'test')")
    mill(c, asked('Is anybody there?', 'Somebody is there.'))
    c.program('pg_dump', '-Fc', '-f', dump, '-d', c.dsn())
    c.psql('CREATE DATABASE copy')
    c.program('pg_restore', '-d', c.dsn('copy'), '--exit-on-error', dump)
    sql = "SELECT count(*), sum(score)::numeric(10, 3), count(DISTINCT answer) FROM answers.published"
    tap.same(mill(c, sql, db='copy'), mill(c, sql), 'a restored copy shows the same')
    question = mill(c, "SELECT question FROM answers.published LIMIT 1")[0][0]
    tap.ok(mill(c, asked(question), db='copy')[0][3] in ('exact', 'stored'), 'and answers from it')
    tap.same(mill(c, "SELECT answers.resubmit(), (SELECT count(*) FROM answers.questions q JOIN millrace.tasks t ON t.id = q.task_id)", db='copy')[0][0], '1', 'what waited is asked again')
    tap.same(mill(c, "SELECT status, round FROM answers.questions WHERE question = 'Is anybody there?'", db='copy'), [('pending', '1')], 'in another round')
    tap.same(mill(c, "SELECT answers.resubmit()"), [('0',)], 'in the original it waits still')
    c.psql("SELECT millrace.resume_provider('llm')")


def judged(c, rows):
    """False accepts and rejects of the gate, on answers that people have judged."""
    values = [(r['answer_' + s], r['golden_answer'], r['judge_' + s]) for r in rows[:40 if not FULL else 400] for s in ('fid', 'chatgpt')
              if r.get('judge_' + s) is not None and r['answer_' + s]]
    mill(c, 'INSERT INTO answers.judged_answers (answer, reference, correct) VALUES ' + ','.join('(%s, %s, %s)' % (literal(a), literal(g), j) for a, g, j in values))
    report = mill(c, "SELECT gate, examples, correct, accepted, false_accepts, false_rejects FROM answers.gate_report(gates => '{0.5,0.75,0.9}')", timeout=300)
    figures = [[float(x) for x in r] for r in report]
    tap.ok(all(f[1] == len(values) and f[3] - f[4] + f[5] == f[2] for f in figures) and figures[0][4] >= figures[1][4] >= figures[2][4]
           and figures[0][5] <= figures[1][5] <= figures[2][5], 'false accepts fall, false rejects rise with the gate')
    for r in report:
        tap.note('gate %s: %s examples, %s correct, %s accepted, %s false accepts, %s false rejects' % r)


def rows_of(n):
    path = tap.data('qa/qa_eval_nq.json')
    if not path:
        tap.skip_all('QA-Eval is not there: qa/qa_eval_nq.json below MILLRACE_DATA')
    with open(path, encoding='utf-8') as f:
        rows = [r for r in json.load(f) if not r['improper'] and all(r.get(k) for k in ('question', 'answer_gpt4', 'answer_chatgpt', 'golden_answer'))
                and r['answer_gpt4'] != r['answer_chatgpt']]
    questions = [r['question'].lower() for r in rows]
    random.Random(8).shuffle(rows)
    alone, seen = [], set()
    for r in rows:                              # none asks what another asks
        key = ' '.join(sorted(set(r['question'].lower().split())))
        if key not in seen and not any(r['question'].lower() in q and r['question'].lower() != q for q in questions):
            seen.add(key)
            alone.append(r)
    return alone[:n]


def main():
    minilm.folder()
    rows = rows_of(N)
    answers, never, twice = script(rows, random.Random(9))
    with cluster('test_answers', {'max_worker_processes': 32}) as c, Kafka(folder('test_answers')) as kafka, \
            Stub(answers=answers, retry_after='0', latency='0.01-0.05') as stub, Stub(latency='0.01-0.05') as second:
        c.psql("CREATE EXTENSION millrace; CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user, millrace_monitor; "
               "GRANT CREATE ON DATABASE postgres TO mill; SELECT millrace.start(); "
               f"CREATE SERVER k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}'); "
               f"CREATE SERVER llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url '{stub.url}', model 'm', allow_private 'true', cost_per_1k '0.01'); "
               "CREATE SERVER here FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'local.local_answer'); "
               "GRANT USAGE ON FOREIGN SERVER k, llm, here TO mill")
        minilm.install(c)
        parts = {'local': lambda: local(c), 'crowd': lambda: crowd(c, second), 'flow': lambda: flow(c, kafka, stub, rows, never, twice), 'attack': lambda: attack(c, never),
                 'restored': lambda: restored(c), 'judged': lambda: judged(c, rows)}
        for name, part in parts.items():
            if len(sys.argv) < 2 or name in sys.argv[1:]:
                part()
        clean_log(c)
    tap.done()


main()
