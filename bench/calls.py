"""Calls to providers: one process of lane call against the usual asyncio worker, same stub, same texts, CPU time of each.

    bench/calls.py [--calls 10000] [--latency 0.05] [--rounds 3]

Both have up to 256 calls under way and each task's result in a table, with fsync on.  Ours: submit_task(), claim, call, end, with its row of
task_attempts.  The peer: a table, SELECT ... FOR UPDATE SKIP LOCKED LIMIT 256, aiohttp, one transaction of
UPDATEs for all that has finished meanwhile; without limits, leases or retries.  Ours runs its statements itself; the peer's backend is not counted.  The stub answers in JSON after --latency seconds, at 45 us of its own CPU time a call.
"""
import argparse
import asyncio
import json
import os
import statistics
import sys
import time

import aiohttp
import psycopg

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib.llmstub import Stub
from lib.providers import prepare, server, settled, submit_many, worker
from lib.stream import cluster

SLOTS = 256


def cpu_of(pid):
    """Seconds of a process's only thread."""
    with open(f'/proc/{pid}/schedstat') as f:
        return int(f.read().split()[0]) / 1e9


def ours(c, calls, round):
    """(calls/s, CPU seconds a call)"""
    c.psql("SELECT millrace.pause_tasks('app')")
    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace calls'", '0')
    submit_many(c, calls, 'llm', {'prompt': f'round {round}, question %'}, provider='stub', tag=f'r{round}')
    c.psql("SELECT millrace.resume_tasks('app')")
    c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace calls'", '1', every=0.02)
    pid = worker(c)[0]
    settled(c, f'r{round}', 600)
    used = cpu_of(pid)
    seconds, good = c.psql("SELECT extract(epoch FROM max(finished_at) - min(started_at)), count(*) FILTER (WHERE state = 'succeeded') "
                           f"FROM millrace.tasks WHERE tag = 'r{round}'")[0]
    assert int(good) == calls, good
    return calls / float(seconds), used / calls


async def relay(dsn, url, calls, round):
    connector = aiohttp.TCPConnector(limit=SLOTS)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db, aiohttp.ClientSession(connector=connector) as http:
        await db.execute('CREATE TABLE IF NOT EXISTS app.asked (id bigint PRIMARY KEY, prompt text, state text, result jsonb)')
        await db.execute('TRUNCATE app.asked')
        await db.execute("INSERT INTO app.asked SELECT g, format('round %%s, question %%s', %s::int, g), 'waiting' FROM generate_series(1, %s) g", (round, calls))
        await db.execute("CREATE INDEX IF NOT EXISTS asked_idx ON app.asked (id) WHERE state = 'waiting'")
        running, finished, done, begun, used = set(), [], 0, time.monotonic(), time.process_time()

        async def call(id, prompt):
            async with http.post(url + '/v1/chat/completions', json={'model': 'm', 'messages': [{'role': 'user', 'content': prompt}]}) as answer:
                said = await answer.json()
            finished.append((json.dumps({'text': said['choices'][0]['message']['content'], **said['usage']}), id))

        while done < calls:
            rows = []
            if len(running) <= SLOTS * 3 // 4:
                rows = await (await db.execute("UPDATE app.asked SET state = 'running' WHERE id IN (SELECT id FROM app.asked WHERE state = 'waiting' "
                                               'ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING id, prompt', (SLOTS - len(running),))).fetchall()
            for row in rows:
                task = asyncio.create_task(call(*row))
                running.add(task)
                task.add_done_callback(running.discard)
            if finished:
                batch, finished[:] = list(finished), []
                async with db.transaction(), db.cursor() as cursor:
                    await cursor.executemany("UPDATE app.asked SET state = 'succeeded', result = %s WHERE id = %s", batch)
                done += len(batch)
            elif running:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        return calls / (time.monotonic() - begun), (time.process_time() - used) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--calls', type=int, default=10000)
    parser.add_argument('--latency', default='0.05')
    parser.add_argument('--rounds', type=int, default=3)
    o = parser.parse_args()
    with cluster('calls') as c, Stub(latency=o.latency) as stub:
        prepare(c)
        c.psql(f"SELECT millrace.alter_task_pool('app', '{{\"slots\": {SLOTS}, \"max_tasks\": 1000000000}}')")
        server(c, 'stub', stub.url, concurrency=SLOTS)
        ours(c, 1000, 0)                        # slow start is over
        rows = [(ours(c, o.calls, r), asyncio.run(relay(c.dsn(user='app'), stub.url, o.calls, r))) for r in range(1, o.rounds + 1)]
    for r, (a, b) in enumerate(rows, 1):
        print('round %d: ours %5.0f calls/s, %4.0f us of CPU each; asyncio %5.0f calls/s, %4.0f us' % (r, a[0], a[1] * 1e6, b[0], b[1] * 1e6))
    print('CPU of the peer to ours: %.1f' % statistics.median(b[1] / a[1] for a, b in rows))


if __name__ == '__main__':
    main()
