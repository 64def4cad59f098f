"""Retry policies that were changed are dumped, and restored in place of the shipped ones; the example of the documentation runs."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import cluster

ROWS = 'SELECT class, position, statuses, sqlstates, retries, backoff, base_s, jitter, max_s, slow_down, pause, built_in FROM millrace.retry_policies ORDER BY position, class'


def main():
    with cluster('task_policies') as c:
        c.psql('''CREATE EXTENSION millrace;
            UPDATE millrace.retry_policies SET retries = 9, base_s = 2 WHERE class = 'overload';
            INSERT INTO millrace.retry_policies (class, position, statuses, retries, backoff, base_s) VALUES ('teapot', 1, '{418}', 2, 'fixed', 5);
            CREATE DATABASE copy;''')
        dump = c.program('pg_dump')
        c.psql(dump, db='copy')
        before, after = c.psql(ROWS), c.psql(ROWS, db='copy')
        tap.same(after, before, 'a restored database has the same policies')
        tap.same([row[0] for row in after if row[-1] == 'f'], ['overload', 'teapot'], 'of which two are its own')
        tap.ok(dump.count('overload') and 'quota' not in dump, 'the others were not dumped')
        tap.same(c.psql("SELECT * FROM millrace.next_attempt('overload', failed => 2, attempts => 2, max_attempts => 11, chance => 0.5, now => '2026-11-22 00:00:00+00')"
                        , db='copy')[0][0], 'again', 'and are gone by')
    tap.done()


main()
