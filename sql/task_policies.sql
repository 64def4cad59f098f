-- What a failed attempt means for the next one, by the clock and the chance that are given: nothing here waits.

SELECT class, retries, backoff, base_s, jitter, max_s, slow_down, pause FROM millrace.retry_policies ORDER BY position;

-- The class of every error that has one.
SELECT status, sqlstate, millrace.error_class(status, sqlstate) AS class
FROM (VALUES (429, NULL), (503, NULL), (529, NULL), (NULL, 'HYT00'), (402, NULL), (401, NULL), (403, NULL), (NULL, '28000'), (408, NULL), (409, NULL), (425, NULL),
	(500, NULL), (502, NULL), (504, NULL), (NULL, '08006'), (NULL, '08001'), (200, '22P02'), (NULL, '22030'), (400, NULL), (404, NULL), (413, NULL), (422, NULL),
	(302, NULL), (NULL, '54000'), (NULL, 'MR001'), (NULL, '40001'), (NULL, '40P01'), (NULL, '55P03'), (NULL, '53200'), (NULL, '57P01'), (NULL, '58030'),
	(NULL, '22012'), (NULL, 'P0001'), (NULL, NULL)) AS e(status, sqlstate);

-- Each class until it is exhausted: the nth failure's verdict, its least and its longest pause.
SELECT class, n, low.verdict, low.due_at - now AS at_least, round(extract(epoch FROM high.due_at - now), 3) AS at_most
FROM millrace.retry_policies, generate_series(1, 7) AS n, (VALUES (timestamptz '2026-11-22 00:00:00+00')) AS t(now),
	millrace.next_attempt(class, n, n, 11, 0, now) AS low, millrace.next_attempt(class, n, n, 11, 0.999999, now) AS high
WHERE n <= retries + 1 ORDER BY position, n;

-- The two that the requirements state: uniform in [2^n, 1.25 2^n] s at most three times; 60 s at most five times.
SELECT n, count(*) FILTER (WHERE pause < 2 ^ n OR pause > 1.25 * 2 ^ n) AS outside, abs(avg(pause) / (1.125 * 2 ^ n) - 1) < 0.001 AS uniform
FROM generate_series(1, 3) AS n, generate_series(0, 999) AS k, millrace.next_attempt('overload', n, n, 11, (k + 0.5) / 1000, 'epoch') AS a,
	extract(epoch FROM a.due_at) AS pause
GROUP BY n ORDER BY n;
SELECT DISTINCT verdict, due_at - timestamptz 'epoch' AS pause
FROM generate_series(1, 6) AS n, millrace.next_attempt('quota', n, n, 11, 0.7, 'epoch') ORDER BY 1;

-- Retry-After is a floor; max_s bounds all.
SELECT asked, verdict, due_at - timestamptz 'epoch' AS pause
FROM (VALUES (interval '1 second'), ('7 seconds'), ('45 minutes'), ('1 day')) AS r(asked), millrace.next_attempt('overload', 2, 2, 11, 0, 'epoch', asked);

-- Failures of different classes count apart; all together are capped.
SELECT attempts, a.verdict AS third_overload, b.verdict AS fourth_overload, c.verdict AS auth
FROM (VALUES (4), (10), (11), (12)) AS v(attempts), millrace.next_attempt('overload', 3, attempts, 11, 0, 'epoch') a,
	millrace.next_attempt('overload', 4, attempts, 11, 0, 'epoch') b, millrace.next_attempt('auth', 1, attempts, 11, 0, 'epoch') c;

-- What makes no sense.
SELECT millrace.next_attempt('none', 1, 1, 11, 0, 'epoch');
SELECT millrace.next_attempt('quota', 0, 1, 11, 0, 'epoch');
SELECT millrace.next_attempt('quota', 1, 1, 11, 1, 'epoch');
SELECT millrace.next_attempt('quota', 1, 1, NULL, 0, 'epoch');

-- Classes are for users to edit.
BEGIN;
CREATE ROLE regress_policies IN ROLE millrace_admin;
SET ROLE regress_policies;
UPDATE millrace.retry_policies SET retries = 1, base_s = 10 WHERE class = 'overload';
INSERT INTO millrace.retry_policies (class, position, statuses, retries, backoff, base_s) VALUES ('teapot', 0, '{418,5xx}', 1, 'fixed', 5);
INSERT INTO millrace.retry_policies (class, position, statuses, retries, backoff, base_s) VALUES ('quota', 2, '{402}', 9, 'fixed', 3600);
SELECT millrace.error_class(418), millrace.error_class(502), millrace.error_class(429);
SELECT class, n, verdict, due_at - timestamptz 'epoch' AS pause
FROM (VALUES ('overload', 1), ('overload', 2), ('teapot', 1), ('teapot', 2), ('quota', 9)) AS v(class, n), millrace.next_attempt(class, n, n, 11, 0, 'epoch');
SELECT class FROM millrace.retry_policies WHERE NOT built_in ORDER BY class;
ROLLBACK;

\set VERBOSITY terse
INSERT INTO millrace.retry_policies (class, position, statuses, retries) VALUES ('quota', 2, '{40}', 1);
INSERT INTO millrace.retry_policies (class, position, sqlstates, retries) VALUES ('x', 2, '{4}', 1);
INSERT INTO millrace.retry_policies (class, position, sqlstates, retries) VALUES ('x', 2, '{NULL}', 1);
INSERT INTO millrace.retry_policies (class, position, retries) VALUES (repeat('x', 32), 2, 1);
INSERT INTO millrace.retry_policies (class, position, retries) SELECT 'x' || n, 20, 1 FROM generate_series(1, 23) n;
DELETE FROM millrace.retry_policies;
SELECT count(*), bool_and(built_in) FROM millrace.retry_policies;
