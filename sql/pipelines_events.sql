-- Pipeline events: which tasks an event has, what becomes of them.  No encoder and no worker is here: what they do is called by hand.
SET client_min_messages = warning;
\pset null -
\set VERBOSITY terse
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin, millrace_user;
CREATE ROLE regress_writer LOGIN;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO regress_mill', pg_catalog.current_database()) \gexec
CREATE SERVER regress_llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'http://127.0.0.1:9', model 'm');
GRANT USAGE ON FOREIGN SERVER regress_llm TO regress_mill;

-- what cannot be meant
SELECT millrace.create_pipeline('events', 'regress_e', '{"tasks": ["keywords"]}');
SET ROLE regress_mill;
SELECT millrace.create_pipeline('events', 'regress_e', '{"task": ["keywords"]}');
SELECT millrace.create_pipeline('events', 'regress_e', '{"tasks": ["mood"]}');
SELECT millrace.create_pipeline('events', 'regress_e', '{"encoder": "nobody"}');
SELECT millrace.create_pipeline('events', 'regress_e', '{"topics": {}}');
SELECT millrace.create_pipeline('events', 'regress_e', '{"batch": 0}');
SELECT millrace.create_pipeline('events', 'regress_e', '{"tasks": ["keywords"], "provider": "regress_llm", "batch": 2}');
SELECT regress_e.add_type('summary');
SELECT regress_e.add_type('work', 'x');
SELECT regress_e.add_type('summary', 'In short: {{text}}', condition => 'nothing');
SELECT regress_e.add_type('summary', 'In short: {{text}}', condition => 'length(text) > 50');
SELECT type, kind, condition, cached FROM regress_e.types ORDER BY type;
SELECT kind, base, function, prompt, options FROM millrace.task_kinds WHERE kind LIKE 'regress_e.%' ORDER BY kind;
SELECT name, options FROM regress_e.declaration, millrace.caches WHERE name = 'regress_e';

-- events have tasks, in batches of equal types
CREATE VIEW pg_temp.work AS SELECT id, payload FROM millrace.tasks WHERE kind = 'regress_e.work' AND state = 'waiting' ORDER BY id;
INSERT INTO regress_e.events (text, metadata) VALUES
	('The new battery of the electric car charges in ten minutes, and the range of the car is better.', '{"tenant": "a"}'),
	('El coche eléctrico es muy rápido y también silencioso.', NULL),
	('Well-known brands of shoes', '{"tasks": ["keywords"]}'), ('', '{}'), ('nothing is done with this', '{"tasks": []}');
SELECT payload FROM pg_temp.work;
SELECT event_id, type, state, origin FROM regress_e.tasks ORDER BY 1, 2;
SELECT * FROM regress_e.tasks_by_state ORDER BY type;
RESET ROLE;
GRANT USAGE ON SCHEMA regress_e TO regress_writer;
GRANT INSERT (text) ON regress_e.events TO regress_writer;
SET ROLE regress_writer;
INSERT INTO regress_e.events (text) VALUES ('by another role');
INSERT INTO regress_e.results (event_id, type, result, origin) VALUES (1, 'keywords', '{}', 'local');
SELECT regress_e.work('{}');
SET ROLE regress_mill;
SELECT count(*) FROM pg_temp.work;

-- what a worker does
SELECT regress_e.work(payload) FROM pg_temp.work;
SELECT event_id, type, origin, result FROM regress_e.results ORDER BY 1, 2;
SELECT kind, queue, tag, tenant, payload FROM millrace.tasks WHERE deliver = 'regress_e.deliver' ORDER BY id;
-- again changes nothing but that what has no result yet is asked for once more
SELECT count(regress_e.work(payload)) FROM pg_temp.work;
SELECT count(*) FROM regress_e.results;

-- what came of the calls
SELECT regress_e.deliver(array_agg(id), array_agg(tag), array_agg(CASE tag WHEN '1:summary' THEN 'succeeded' ELSE 'expired' END),
	array_agg(CASE tag WHEN '1:summary' THEN '{"text": "A car.", "provider": "regress_llm", "model": "m", "cost": 0.002, "latency_ms": 1200}'::jsonb END),
	array_agg(CASE tag WHEN '1:summary' THEN NULL ELSE '{"class": "overload", "sqlstate": "53000", "message": "too much", "attempts": 4}'::jsonb END))
FROM (SELECT DISTINCT ON (tag) id, tag FROM millrace.tasks WHERE deliver = 'regress_e.deliver' ORDER BY tag, id) t;
SELECT event_id, type, origin, model, cost, took_ms, result FROM regress_e.results WHERE type = 'summary';
SELECT event_id, type, state, class, sqlstate, message, attempts FROM regress_e.failures;
SELECT type, state, class, sqlstate, tasks, last_message FROM regress_e.failures_by_class;
SELECT regress_e.deliver('{00000000-0000-0000-0000-000000000000}', '{1:summary}', '{succeeded}', ARRAY['{"text": "Late."}'::jsonb], '{NULL}');
SELECT result FROM regress_e.results WHERE type = 'summary';
SELECT regress_e.read_answer('sentiment_analysis', '{"text": "Positive."}'), regress_e.read_answer('sentiment_analysis', '{"text": "neither positive nor negative"}'),
	regress_e.read_answer('count', '{"n": 1}');

-- the cache: the same text, of the same tenant
INSERT INTO regress_e.events (text, metadata) SELECT text, t::jsonb FROM regress_e.events, (VALUES ('{"tenant": "a"}'), ('{"tenant": "b"}')) v(t) WHERE event_id = 1;
SELECT count(regress_e.work(payload)) FROM pg_temp.work WHERE (payload -> 'events' -> 0)::int > 6;
SELECT e.tenant, r.origin, r.hit, r.saved, r.result FROM regress_e.results r JOIN regress_e.events e USING (event_id) WHERE r.type = 'summary' ORDER BY r.event_id;
SELECT * FROM regress_e.cache_efficiency;

-- a batch that could not be done at all; again
SELECT regress_e.deliver_work(ARRAY[id], '{NULL}', '{failed}', '{NULL}', ARRAY['{"class": "resources", "sqlstate": "53200", "message": "no memory", "attempts": 6}'::jsonb])
FROM (SELECT id FROM pg_temp.work ORDER BY id DESC LIMIT 1) w;
SELECT regress_e.retry('keywords'), regress_e.retry();
SELECT count(*) FROM regress_e.failures;
SELECT regress_e.add_type('length', kind => 'sql', options => '{"priority": 1}', cached => false);
SELECT regress_e.backfill('length'), regress_e.backfill('nothing');
SELECT regress_e.backfill('length');
TABLE regress_e.lag;
SELECT regress_e.forget(now() + interval '1 hour');
SELECT (SELECT count(*) FROM regress_e.results), (SELECT count(*) FROM regress_e.events);

SELECT millrace.upgrade_pipeline('regress_e');
SELECT millrace.drop_pipeline('regress_e');
SELECT count(*) FROM millrace.task_kinds WHERE kind LIKE 'regress_e.%';
SELECT count(*) FROM millrace.caches WHERE name = 'regress_e';

-- A cache of that name which is somebody else's, who could put answers into it, is not taken.
RESET ROLE;
CREATE ROLE regress_thief IN ROLE millrace_admin, millrace_user;
SET ROLE regress_thief;
SELECT millrace.create_cache('regress_e', '{"encoder": null}');
SET ROLE regress_mill;
SELECT millrace.create_pipeline('events', 'regress_e', '{"tasks": ["keywords"]}');
RESET ROLE;
SELECT millrace.drop_cache('regress_e');
DROP ROLE regress_thief;
DROP VIEW pg_temp.work;
DELETE FROM millrace.task_pools WHERE owner = 'regress_mill';
TRUNCATE millrace.task_queue, millrace.task_cancels;
DROP SERVER regress_llm;
SELECT pg_catalog.format('REVOKE CREATE ON DATABASE %I FROM regress_mill', pg_catalog.current_database()) \gexec
DROP ROLE regress_mill, regress_writer;
