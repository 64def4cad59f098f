"""Tasks of two roles at a provider that refuses, hangs, breaks and lies, while their workers and the server are killed.

By the server's own log and the tables: each task ends once and is delivered once, is called no more often than its policies allow and
never before its Retry-After, and in no minute is the provider called more often than its limit allows, whoever was killed.

A part of it here; MILLRACE_FULL=1: 20,000 tasks and 50 kills.  MILLRACE_SEED repeats a run's order of faults.
"""
# timeout: 3600
# takes: 90
# lane: waits
import bisect
import collections
import contextlib
import datetime
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.faults import arm, eventually, library, points
from lib.llmstub import Stub
from lib.providers import ended, history, prepare, server, submit as one
from lib.stream import clean_log, cluster, folder

FULL = bool(os.environ.get('MILLRACE_FULL'))
TASKS = int(os.environ.get('MILLRACE_TASKS', 20000 if FULL else 160))          # a multiple of 16
KILLS = 50 if FULL else 7
LIMIT = 4500 if FULL else 150               # requests a minute: more than one minute is needed
CONCURRENCY = 128 if FULL else 8
SEED = int(os.environ.get('MILLRACE_SEED', time.time_ns() % 100000))

SHARES = {'429': .2, '5xx': .05, 'hang': .02, 'reset': .01, 'json': .01, 'drip': .01, 'huge': .005}
POINTS = ['tasks.claim', 'tasks.claimed', 'call.claimed', 'call.started', 'call.finished', 'tasks.moved', 'tasks.told', 'tasks.commit', 'tasks.committed', 'call.ended']
ROLES = ['app', 'bob']


class Faults:
    """What is done to workers and server; each returns when the server answers again."""

    def __init__(self, c, rng):
        self.c, self.rng, self.done, self.kills, self.missed = c, rng, collections.Counter(), 0, []

    def up(self):
        eventually('the server is up', lambda: self.c.value('SELECT 1') == '1')

    def victim(self):
        found = eventually('there is a worker', lambda: [pid for pid, kind in self.c.workers() if kind == 'millrace calls'], 60)
        return self.rng.choice(found)

    def terminated(self):
        os.kill(self.victim(), signal.SIGTERM)

    def killed(self):
        os.kill(self.victim(), signal.SIGKILL)

    def restarted(self):
        self.c.restart('immediate')

    def stopped(self):
        pid = self.victim()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(.5, 2))
        os.kill(pid, signal.SIGCONT)

    def failpoint(self):
        """The worker fails, or dies, where it is least convenient."""
        name, action = self.rng.choice(POINTS), self.rng.choice(['error', 'kill', 'kill'])
        arm(self.c, name, action)
        armed = points(self.c) / name
        end = time.monotonic() + 10
        while armed.exists() and time.monotonic() < end:
            time.sleep(.05)
        with contextlib.suppress(FileNotFoundError):
            armed.unlink()
            self.missed.append(name)
        return name + ' ' + action

    def inject(self):
        kind = self.rng.choice([self.terminated, self.killed, self.restarted, self.stopped, self.failpoint, self.failpoint, self.failpoint])
        missed, what = len(self.missed), 'nobody'
        with contextlib.suppress(ProcessLookupError):
            what = kind() or kind.__name__
            self.done[kind.__name__] += 1
            self.kills += kind != self.stopped and len(self.missed) == missed
        time.sleep(.2)
        self.up()
        return what


def late(c, stub):
    """While it is at a task its worker loses it to another: what it got is dropped, and told nobody."""
    stub.control(hold=True)
    server(c, 'slow', stub.url, timeout_ms=60000)
    id = one(c, 'llm', {'prompt': 'x'}, provider='slow', deliver='app.done')
    c.wait_for(f"SELECT state FROM millrace.tasks WHERE id = '{id}'", 'running')
    c.psql(f"UPDATE millrace.task_queue SET lease = nextval('millrace.task_lease_seq'), due_at = millrace.task_now() + interval '3 s' WHERE id = '{id}'")
    stub.control(hold=False)
    time.sleep(1)
    tap.same(c.psql(f"SELECT state, attempts, (SELECT count(*) FROM app.ended), (SELECT count(*) FROM millrace.task_attempts) FROM millrace.tasks WHERE id = '{id}'"),
             [('running', '1', '0', '0')], 'what comes late is dropped')
    tap.same((ended(c, id)[0::5], [h[2] for h in history(c, id)], c.value('SELECT count(*) FROM app.ended')), (('succeeded', 2), ['lost', None], '1'),
             'and called for again, and delivered once')
    c.psql('TRUNCATE app.ended, millrace.task_attempts, millrace.task_done')


def submit(c):
    """One in eight asks a provider first that knows nothing; bob's and app's tasks are alike."""
    for role in ROLES:
        for provider, n in (('"shared"', TASKS // len(ROLES) * 7 // 8), ('["wrong", "shared"]', TASKS // len(ROLES) // 8)):
            c.psql(f"""SELECT count(millrace.submit_task('llm', jsonb_build_object('prompt', format('What is %s of {role}{len(provider)}?', i)),
                '{{"provider": {provider}, "deliver": "app.done"}}')) FROM generate_series(1, {n}) i""", user=role)


def most_in(times, seconds):
    """Most of the (sorted) times within so many seconds."""
    return max((i + 1 - bisect.bisect_left(times, t - seconds) for i, t in enumerate(times)), default=0)


def moment(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def judge(c, calls, n):
    """calls: of all servers, {provider: what its log says}."""
    states = dict(c.psql('SELECT state, count(*) FROM millrace.task_done GROUP BY 1'))
    tap.note('states: %s' % states)
    tap.same(c.psql('SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM millrace.task_queue) FROM millrace.task_done'), [(str(n), str(n), '0')],
             'each of %d tasks is in one final state' % n)
    tap.same(set(states) - {'succeeded', 'failed'}, set(), 'which is succeeded or failed')
    tap.same(c.psql('''SELECT count(*), count(DISTINCT e.id), count(*) FILTER (WHERE e.state = d.state AND e.result IS NOT DISTINCT FROM d.result AND e.role = d.owner)
        FROM app.ended e LEFT JOIN millrace.task_done d USING (id)'''), [(str(n),) * 3], 'and was delivered once, as it ended')
    tap.same(c.value("SELECT count(*) FROM millrace.task_done WHERE (state = 'succeeded') <> (result IS NOT NULL) OR (state = 'failed') <> (class IS NOT NULL)"), '0',
             'with its result or its error')

    log = collections.defaultdict(list)
    for provider, said in calls.items():
        for k in said:
            log[k['task']].append((provider, k))
    attempts = collections.defaultdict(list)
    for id, queue, cls, began, finished, after in c.psql(
            "SELECT id, queue, class, started_at, finished_at, extract(epoch FROM retry_after) FROM millrace.task_attempts ORDER BY id, attempt"):
        attempts[id].append((queue, cls, moment(began), moment(finished), float(after or 0)))
    counted = {id: int(a) for id, a in c.psql('SELECT id, attempts FROM millrace.task_done')}
    tap.same([(id, a, attempts[id], [(p, k['received'], k['status']) for p, k in log[id]]) for id, a in counted.items() if a != len(attempts[id])][:5], [], 'every attempt is in the history')
    tap.same([(id, len(log[id]), a) for id, a in counted.items() if len(log[id]) > a][:5], [], 'no task was called more often than it was attempted')
    tap.same(set(log) - set(counted), set(), 'nor anything else')
    allowed = {cls: int(r) + 1 for cls, r in c.psql('SELECT class, retries FROM millrace.retry_policies')}
    over = [(id, counts) for id, done in attempts.items()
            for counts in [collections.Counter((queue, cls) for queue, cls, *_ in done if cls)]
            if len(done) > 11 or any(k > allowed[cls] for (_, cls), k in counts.items())]
    tap.same(over[:5], [], 'nor more often than its policies allow')
    tap.note('calls: %s; attempts a task: %s' % ({p: len(k) for p, k in calls.items()}, dict(sorted(collections.Counter(counted.values()).items()))))
    tap.note('attempts by class: %s' % dict(collections.Counter(cls for done in attempts.values() for _, cls, *_ in done)))

    early, unknown, floors = [], 0, 0
    for id, made in log.items():
        made.sort(key=lambda k: k[1]['received'])
        for (provider, k), (following, then) in zip(made, made[1:]):
            if not k['retry_after'] or provider != following:
                continue
            # a worker that died with the answer in its hands told nobody of it
            if not any(q == provider and r > 0 and b - .5 <= k['received'] <= f + .5 for q, _, b, f, r in attempts[id]):
                unknown += 1
                continue
            floors += 1
            if then['received'] < k['answered'] + k['retry_after'] - .002:
                early.append((id, k, then))
    tap.same(early[:3], [], 'no task was called before its Retry-After (%d of them; %d answers died with their worker)' % (floors, unknown))
    times = sorted(k['received'] for k in calls['shared'])
    tap.ok(most_in(times, 60) <= LIMIT, 'no minute had more than %d calls: at most %d in 60 s, %d in 65 s' % (LIMIT, most_in(times, 60), most_in(times, 65)))
    tap.ok(most_in(times, 60) > LIMIT * .7, 'but as many, or nearly')     # claims that died before their call count, too
    tap.note('the provider was called for %.0f s, %.1f calls/s' % (times[-1] - times[0], len(times) / max(times[-1] - times[0], 1)))


def main():
    rng = random.Random(SEED)
    tap.note('seed %d' % SEED)
    settings = {**library(folder('task_faults')), 'max_connections': 40}
    with cluster('task_faults', settings) as c, Stub(faults=SHARES, retry_after=1, latency=0 if FULL else '0.1-0.6', seed=SEED) as one, Stub(faults={'404': 1}) as two, Stub() as three:
        prepare(c)
        # a rate that overload has lowered would hide whether the limit itself is kept
        c.psql('''UPDATE millrace.retry_policies SET slow_down = false; CREATE ROLE bob LOGIN IN ROLE millrace_user;
            GRANT USAGE ON SCHEMA app TO bob; GRANT INSERT ON app.ended TO bob; SELECT millrace.alter_task_pool('bob', '{"slots": 256}')''')
        server(c, 'shared', one.url, 'ollama', timeout_ms=1500, max_bytes=1000000, concurrency=CONCURRENCY, requests_per_minute=LIMIT)
        server(c, 'wrong', two.url, 'openai')
        c.psql('GRANT USAGE ON FOREIGN SERVER shared, wrong TO bob; CREATE USER MAPPING FOR bob SERVER shared; CREATE USER MAPPING FOR bob SERVER wrong')
        late(c, three)
        faults = Faults(c, rng)
        begun = time.monotonic()
        submit(c)
        while faults.kills < KILLS:
            time.sleep(rng.uniform(1, 3))
            tap.note('%5.1f s: %s, %s tasks left' % (time.monotonic() - begun, faults.inject(), c.value('SELECT count(*) FROM millrace.task_queue')))
        eventually('all tasks have ended', lambda: c.value('SELECT count(*) = 0 FROM millrace.task_queue') == 't', 3000 if FULL else 300, .5)
        tap.note('%d tasks and %d kills took %.0f s: %s; not met: %s' % (TASKS, faults.kills, time.monotonic() - begun, dict(faults.done), faults.missed))
        time.sleep(2)               # calls that hang are logged when they are left
        judge(c, {'shared': one.calls(), 'wrong': two.calls()}, TASKS)
        clean_log(c, killed=True)
    tap.done()


main()
