-- The task queue as SQL sees it; no worker runs here.
CREATE ROLE regress_mill LOGIN IN ROLE millrace_user;
CREATE ROLE regress_other LOGIN IN ROLE millrace_user;
CREATE ROLE regress_admin LOGIN IN ROLE millrace_admin;
CREATE SCHEMA regress_task AUTHORIZATION regress_mill;
CREATE SERVER regress_llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url 'http://h');
CREATE SERVER regress_llm2 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'http://h');
CREATE SERVER regress_private FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'http://h');
CREATE SERVER regress_local FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'regress_task.f');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h');
GRANT USAGE ON FOREIGN SERVER regress_llm, regress_llm2, regress_local, regress_s3 TO regress_mill, regress_admin;
SET ROLE regress_mill;
CREATE FUNCTION regress_task.f(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION regress_task.hidden(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION regress_task.wrong(jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION regress_task.told(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION regress_task.watch(ids uuid[], tags text[], classes text[], errors jsonb[], again_at timestamptz[]) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION regress_task.hidden FROM PUBLIC;
GRANT USAGE ON SCHEMA regress_task TO PUBLIC;
RESET ROLE;
-- one line for each call: what it said
CREATE FUNCTION regress_task.try(kind text, payload jsonb, options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	RETURN left(millrace.submit_task(kind, payload, options)::text, 10);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;

-- Whose: the current user's, never a superuser's; in a SECURITY DEFINER function the definer's.
SELECT regress_task.try('sql', '{"function": "regress_task.f"}');
CREATE ROLE regress_nobody;
GRANT USAGE ON SCHEMA regress_task TO regress_nobody;
SET ROLE regress_nobody;
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}');
SET ROLE regress_mill;
CREATE FUNCTION regress_task.ask() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS
	$$SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"tag": "definer"}') IS NOT NULL$$;
SET ROLE regress_other;
SELECT regress_task.ask();
SET ROLE regress_mill;
SELECT owner, kind, state, lane, queue, tag FROM millrace.tasks;

-- What is asked for is looked up at once.
\pset tuples_only on
SELECT regress_task.try(NULL, '{}');
SELECT regress_task.try('sql', NULL);
SELECT regress_task.try('regress_none', '{}');
SELECT regress_task.try('sql', '[]');
SELECT regress_task.try('sql', '{"function": "regress_task.none"}');
SELECT regress_task.try('sql', '{"function": "regress_task.wrong"}');
SET search_path = public, regress_task;
SELECT regress_task.try('sql', '{"function": "f"}');
RESET search_path;
SELECT regress_task.try('sql', '{"function": "regress_task.f"}', '{"provider": "regress_llm"}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}');
SELECT regress_task.try('llm', '{"text": "Hi"}', '{"provider": "regress_llm"}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}', '{"provider": "regress_none"}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}', '{"provider": "regress_private"}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}', '{"provider": ["regress_llm", "regress_private"]}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}', '{"provider": "regress_s3"}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}', '{"provider": "regress_llm", "deliver": "regress_task.f"}');
SELECT regress_task.try('llm', '{"prompt": "Hi"}', '{"provider": "regress_llm", "watch": "regress_task.told"}');
SELECT regress_task.try('embed', '{"prompt": "Hi"}', '{"provider": "regress_llm"}');
SELECT regress_task.try('fetch', '{"server": "regress_s3"}');
SELECT regress_task.try('fetch', '{"server": "regress_local", "path": "a"}');
SELECT regress_task.try('llm', jsonb_build_object('prompt', repeat('x', 9000000)), '{"provider": "regress_llm"}');
SET ROLE regress_other;
SELECT regress_task.try('sql', '{"function": "regress_task.hidden"}');
SET ROLE regress_mill;

-- Options are an allow-list, each of a type and within bounds.
SELECT regress_task.try('sql', '{"function": "regress_task.f"}', '[]');
SELECT regress_task.try('sql', '{"function": "regress_task.f"}', '{"prio": 1}');
SELECT o, regress_task.try('sql', '{"function": "regress_task.f"}', o) FROM unnest(ARRAY[
	'{"priority": 10}', '{"priority": -1}', '{"priority": 1.5}', '{"priority": "5"}', '{"max_attempts": 0}', '{"timeout_ms": 1e9}',
	'{"delay": -1}', '{"delay": 1e10}', '{"delay": true}', '{"delay": "tomorrow"}', '{"delay": "-1 hour"}',
	'{"due_at": 5}', '{"due_at": "infinity"}', '{"due_at": "soon"}', '{"delay": 1, "due_at": "2030-01-01"}', '{"deadline": []}',
	'{"key": ""}', '{"key": 1}', '{"tag": {}}', '{"tenant": ["a"]}', '{"deliver": ""}']::jsonb[]) o;
SELECT o, regress_task.try('llm', '{"prompt": "Hi"}', jsonb_build_object('provider', o)) FROM unnest(ARRAY[
	'1', '[]', '{}', '[1]', '[["a"]]', '""', '["regress_llm", "regress_llm"]', '{"regress_llm": 0}', '{"regress_llm": -1}', '{"regress_llm": "1"}',
	'["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]']::jsonb[]) o;
\pset tuples_only off

-- How they stand in the queue.
BEGIN;
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"tag": "gone"}') IS NOT NULL AS asked;
ROLLBACK;
SELECT count(millrace.submit_task(kind, payload::jsonb, options::jsonb)) FROM (VALUES
	('llm', '{"prompt": "a chain"}', '{"provider": ["regress_llm", "regress_llm2"], "tag": "a", "tenant": "t", "priority": 9, "timeout_ms": 500, "max_attempts": 2}'),
	('llm', '{"prompt": "an answer", "options": {"max_tokens": 1000}}', '{"provider": "regress_llm2", "tag": "b", "deliver": "regress_task.told", "watch": "regress_task.watch"}'),
	('llm', '{"messages": []}', '{"provider": "regress_local", "tag": "c", "delay": 3600}'),
	('embed', '{"input": "text"}', '{"provider": "regress_llm", "tag": "d", "delay": "2 days", "deadline": "3 days"}'),
	('fetch', '{"server": "regress_s3", "path": "bucket/key"}', '{"tag": "e", "due_at": "2000-01-01", "deadline": "2030-01-01 00:00+00", "delay": null}'),
	('sql', '{"function": "regress_task.f"}', '{"tag": "f", "due_at": "2100-01-01 00:00+00"}')) v(kind, payload, options);
RESET ROLE;
SELECT tag, q.lane, q.name, priority, tenant, providers, weight, timeout_ms, max_attempts, deliver, watch,
	CASE WHEN tag < 'e' THEN due_at - created_at END AS delay, due_at IS NOT NULL AS later, CASE WHEN tag < 'e' THEN deadline - created_at END AS deadline
	FROM millrace.task_queue t JOIN millrace.task_queues q ON q.id = t.queue WHERE tag <> 'definer' ORDER BY tag;
SELECT owner, state, options FROM millrace.task_pools;
-- ids are UUIDs of version 8, in the order of submission; within the leaf whose turn it is
SELECT bool_and(id::text ~ '^0000[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$') AS version_8,
	array_agg(tag ORDER BY id) = array_agg(tag ORDER BY tag) AS in_order, count(DISTINCT leaf) <= 2 AS one_leaf FROM millrace.task_queue WHERE tag <> 'definer';

-- Weights share tasks out, by the id.
SET ROLE regress_mill;
SELECT count(millrace.submit_task('llm', '{"prompt": "Hi"}', '{"tag": "ab", "provider": {"regress_llm": 3, "regress_llm2": 1, "regress_local": 0}}')) FROM generate_series(1, 2000);
SELECT queue, CASE WHEN count(*) BETWEEN 1400 AND 1600 OR count(*) BETWEEN 400 AND 600 THEN 'about its part' ELSE count(*)::text END FROM millrace.tasks WHERE tag = 'ab' GROUP BY 1 ORDER BY 1;

-- A key stands for one task of its owner.
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"key": "k", "tag": "key"}') AS first \gset
SELECT millrace.submit_task('sql', '{"function": "regress_task.f", "other": 1}', '{"key": "k", "tag": "key"}') = :'first' AS same;
SELECT count(DISTINCT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"key": "l"}')) FROM generate_series(1, 10);
SELECT count(*) FROM millrace.tasks WHERE tag = 'key';
GRANT EXECUTE ON FUNCTION regress_task.hidden TO regress_other;
SET ROLE regress_other;
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"key": "k"}') = :'first' AS same;
RESET ROLE;
SET millrace.task_clock_offset_ms = 700000000;	-- 8 days: the key has had its time
SET ROLE regress_mill;
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"key": "k"}') = :'first' AS same;
RESET ROLE;
RESET millrace.task_clock_offset_ms;

-- A role's quota, and how large a task may be, are superusers' to set.
SET millrace.task_quota = 100;
SET millrace.task_max_bytes = '1kB';
SET ROLE regress_mill;
SELECT regress_task.try('sql', '{"function": "regress_task.f"}');
SELECT regress_task.try('sql', jsonb_build_object('function', 'regress_task.f', 'x', repeat('x', 1000)));
SET millrace.task_quota = 0;
RESET ROLE;
RESET millrace.task_quota;
RESET millrace.task_max_bytes;

-- Everyone sees and cancels one's own; an admin all.
SET ROLE regress_other;
SELECT owner, kind, state FROM millrace.tasks;
-- nor by a condition that is cheaper than the view's own
CREATE FUNCTION pg_temp.peek(owner text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
	IF owner <> current_user THEN RAISE EXCEPTION 'seen: a task of %', owner; END IF;
	RETURN true;
END $$;
SELECT owner FROM millrace.tasks WHERE pg_temp.peek(owner);
SELECT owner FROM millrace.task_ended WHERE pg_temp.peek(owner);
DROP FUNCTION pg_temp.peek(text);
SELECT millrace.cancel_task(:'first');
SELECT millrace.retry_tasks(ARRAY[:'first']::uuid[]);
SELECT millrace.pause_tasks('regress_mill');
SELECT id FROM millrace.task_queue;
SET ROLE regress_mill;
SELECT state, millrace.cancel_task(id) AS cancelled FROM millrace.tasks WHERE tag IN ('a', 'c', 'd') ORDER BY tag;
SELECT tag, state, millrace.cancel_task(id) AS again FROM millrace.tasks WHERE tag IN ('a', 'c', 'd') ORDER BY tag;
SELECT millrace.cancel_task('00000000-0000-8000-8000-000000000000');
-- of whose end somebody is to be told, a worker ends
SELECT state, millrace.cancel_task(id) AS cancelled FROM millrace.tasks WHERE tag = 'b';
SELECT state FROM millrace.tasks WHERE tag = 'b';
-- the next one of its order_key is found anew
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"order_key": "o", "tag": "o1"}') AS o1 \gset
SELECT millrace.submit_task('sql', '{"function": "regress_task.f"}', '{"order_key": "o", "tag": "o2"}') AS o2 \gset
RESET ROLE;
SELECT xid AS was FROM millrace.task_queue WHERE tag = 'o2' \gset
SET ROLE regress_mill;
SELECT millrace.cancel_task(:'o1');
RESET ROLE;
SELECT xid > :'was' AS anew FROM millrace.task_queue WHERE tag = 'o2';
SET ROLE regress_mill;
SELECT millrace.cancel_task(:'o2');
-- one that runs, too, is left to its worker
RESET ROLE;
UPDATE millrace.task_queue SET lease = 1, pid = 0, due_at = now() WHERE tag = 'e';
SELECT count(*) FROM millrace.task_cancels;
SET ROLE regress_admin;
SELECT state, millrace.cancel_task(id) AS cancelled FROM millrace.tasks WHERE tag = 'e';
RESET ROLE;
SELECT t.tag FROM millrace.task_cancels c JOIN millrace.task_queue t USING (id) ORDER BY 1;

-- Again, under the same id, from the first provider on.
UPDATE millrace.task_done SET attempts = 2, state = 'failed', queue = 'regress_llm2', class = 'overload', sqlstate = '53000', error = 'busy' WHERE tag = 'a';
UPDATE millrace.task_done SET state = 'succeeded' WHERE tag = 'd';
SET ROLE regress_mill;
SELECT millrace.retry_tasks(ARRAY(SELECT id FROM millrace.tasks));
SELECT tag, state, queue, attempts, class, error FROM millrace.tasks WHERE tag IN ('a', 'c', 'd') ORDER BY tag;
RESET ROLE;
SELECT tag, weight, max_attempts, tries, hop, lease, due_at FROM millrace.task_queue WHERE tag = 'a';

-- Kinds.
SET ROLE regress_mill;
SELECT millrace.create_task_kind('regress_kind', 'sql');
SET ROLE regress_admin;
SELECT millrace.create_task_kind('regress_kind', 'odd');
SELECT millrace.create_task_kind('', 'sql');
SELECT millrace.create_task_kind('regress_kind', 'sql', '[]');
SELECT millrace.create_task_kind('regress_kind', 'sql', '{"prompt": "x"}');
SELECT millrace.create_task_kind('regress_kind', 'llm', '{"function": "regress_task.f"}');
SELECT millrace.create_task_kind('regress_kind', 'sql', '{"function": "regress_task.wrong"}');
SELECT millrace.create_task_kind('regress_kind', 'sql', '{"function": "regress_task.hidden"}');
SELECT millrace.create_task_kind('regress_kind', 'sql', '{"key": "x"}');
SELECT millrace.create_task_kind('regress_kind', 'sql', '{"color": "red"}');
SELECT millrace.create_task_kind('regress_kind', 'sql', '{"function": "regress_task.f", "priority": 2, "tenant": "t", "delay": 60}');
SELECT millrace.create_task_kind('regress_kind', 'sql');
SELECT millrace.create_task_kind('regress_ask', 'llm', '{"prompt": "Say {{word}}", "provider": "regress_llm"}');
SELECT kind, base, function, prompt, options, owner FROM millrace.task_kinds WHERE kind LIKE 'regress%' ORDER BY kind;
SET ROLE regress_mill;
SELECT millrace.submit_task('regress_kind', '"any"', '{"tag": "kind", "priority": 8, "delay": null}') IS NOT NULL AS asked;
SELECT millrace.submit_task('regress_ask', '{"word": "hello"}', '{"tag": "kind"}') IS NOT NULL AS asked;
SELECT kind, state, lane, queue, priority, tenant FROM millrace.tasks WHERE tag = 'kind' ORDER BY kind;
SET ROLE regress_admin;
SELECT millrace.drop_task_kind('regress_kind'), millrace.drop_task_kind('regress_ask'), millrace.drop_task_kind('regress_none');
RESET ROLE;
SELECT millrace.drop_task_kind('llm');

-- Pools.
SET ROLE regress_mill;
SELECT millrace.pause_tasks(reason => 'tea');
SELECT millrace.alter_task_pool('regress_mill', '{"slots": 2}');
SET ROLE regress_admin;
SELECT millrace.alter_task_pool('regress_mill', '{"slots": 0}');
SELECT millrace.alter_task_pool('regress_mill', '{"memory": "1kB"}');
SELECT millrace.alter_task_pool('regress_mill', '{"threads": 1}');
SELECT millrace.alter_task_pool('regress_mill', '[]');
SELECT millrace.alter_task_pool('regress_none', '{}');
SELECT owner, state, reason FROM millrace.task_pools ORDER BY 1;
SELECT millrace.resume_tasks('regress_mill'), millrace.resume_tasks('regress_admin');
SELECT owner, state, reason FROM millrace.task_pools ORDER BY 1;

-- What monitors see: no payload.
RESET ROLE;
CREATE ROLE regress_monitor IN ROLE millrace_monitor;
INSERT INTO millrace.task_attempts (leaf, id, attempt, owner, queue, kind, tenant, started_at, finished_at, class, status, sqlstate, error, again_at)
	SELECT 0, id, n, 'regress_mill', 'regress_llm', 'llm', 't', millrace.task_now(), millrace.task_now(), 'overload', 429, '53000', 'busy', CASE n WHEN 1 THEN millrace.task_now() END
	FROM millrace.task_queue, generate_series(1, 2) n WHERE tag = 'a';
UPDATE millrace.task_done SET started_at = finished_at - interval '250 ms', created_at = finished_at - interval '1 s';
SET ROLE regress_monitor;
SELECT count(*) FROM millrace.tasks;
SELECT owner, lane, queue, kind, waiting, delayed, retrying, running, oldest IS NOT NULL AS oldest, succeeded, failed, cancelled, expired FROM millrace.stat_tasks WHERE waiting < 100 ORDER BY 1, 2, 3, 4;
SELECT owner, kind, stage, tasks, p50_ms, max_ms FROM millrace.stat_task_latency ORDER BY 1, 2, 3;
SELECT owner, queue, kind, class, status, sqlstate, attempts, last_attempts FROM millrace.stat_task_failures;
SELECT count(*) FROM millrace.stat_task_workers;
SET ROLE regress_other;
SELECT count(*) FROM millrace.stat_task_failures;
SET ROLE regress_mill;
SELECT attempt, queue, class, status, error FROM millrace.task_history ORDER BY attempt;
SELECT count(*) FROM millrace.stat_task_workers;
SELECT millrace.rotate_tasks();
RESET ROLE;

-- Leaves: of the queue those whose turn is over, with what still waits moved on; of the history those that were kept for long enough.
SELECT millrace.rotate_tasks();
SET ROLE regress_other;
SELECT count(millrace.submit_task('sql', '{"function": "regress_task.f"}')) FROM generate_series(1, 4000);
RESET ROLE;
DELETE FROM millrace.task_queue t USING millrace.task_queues q WHERE q.id = t.queue AND q.owner = 'regress_other';
SELECT count(*) AS n, sum(priority) AS s FROM millrace.task_queue \gset
SET millrace.task_clock_offset_ms = 600000;
SELECT millrace.rotate_tasks();
SELECT count(*) = :n AS all_there, sum(priority) = :s AS as_they_were, count(DISTINCT leaf) <= 2 AS in_a_leaf FROM millrace.task_queue;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT millrace.rotate_tasks();
ROLLBACK;
SELECT count(*) > 0 AS kept FROM millrace.task_done;
SET millrace.task_clock_offset_ms = 700000000;
SELECT bool_or(millrace.rotate_tasks()) FROM generate_series(1, 3);
SELECT (SELECT count(*) FROM millrace.task_done) AS ended, (SELECT count(*) FROM millrace.task_attempts) AS attempts, (SELECT count(*) FROM millrace.task_keys) AS keys;
RESET millrace.task_clock_offset_ms;

TRUNCATE millrace.task_queue, millrace.task_keys, millrace.task_cancels;
DELETE FROM millrace.task_pools;
DROP SERVER regress_llm, regress_llm2, regress_private, regress_local, regress_s3;
DROP SCHEMA regress_task CASCADE;
DROP ROLE regress_mill, regress_other, regress_admin, regress_nobody, regress_monitor;
