-- task: the semantic cache: exact hits, scopes, clearing, options; the guard of meanings.  With a real encoder: t/test_cache.py.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, message, nullif(hint, ''));
END $$;
CREATE ROLE regress_cache_owner IN ROLE millrace_user;
CREATE ROLE regress_cache_other IN ROLE millrace_user;
SET ROLE regress_cache_owner;

-- options
SELECT pg_temp.try(format('SELECT millrace.create_cache(%L, %L)', 'c', o)) FROM unnest(ARRAY['{"thresold": 0.9}', '{"threshold": 1.1}', '{"threshold": null}', '{"ttl_s": "1 hour"}',
	'{"ttl_s": -1}', '{"capacity": 0.5}', '{"sample": 2}', '{"guard": "yes"}', '{"roles": "all"}', '{"roles": [1]}', '{"encoder": 3}', '[1]']) o;
SELECT pg_temp.try($$SELECT millrace.create_cache('', '{"encoder": null}')$$);
SELECT millrace.create_cache('c', '{"encoder": null, "ttl_s": 100, "capacity": 3}');
SELECT pg_temp.try($$SELECT millrace.create_cache('c', '{"encoder": null}')$$);

-- what the same question is
SELECT hit IS NULL AND id IS NULL AND NOT sampled AS nothing FROM millrace.cache_get('c', 'Where is it?');
SELECT millrace.cache_put('c', 'Where is it?', '{"text": "here", "cost": 0.5}') IS NOT NULL;
SELECT q, g.hit, g.answer, g.similarity FROM unnest(ARRAY['Where is it?', '  where is   it', E'Where\nis it?!', 'Where is IT?', 'Where was it?', '']) q, LATERAL millrace.cache_get('c', q) g;
SELECT millrace.question_key('US') = millrace.question_key('us') AS capitals, millrace.question_key('What is 5!') = millrace.question_key('What is 5') AS factorial,
	millrace.question_key(' ?! ') = millrace.question_key('') AS nothing;

-- scopes
SELECT millrace.cache_put('c', 'Where is it?', '"there"', tenant => 't') IS NOT NULL;
SELECT s.tenant, s.model, g.hit, g.answer FROM (VALUES ('', ''), ('t', ''), ('u', ''), ('t', 'm')) s(tenant, model), LATERAL millrace.cache_get('c', 'Where is it?', s.tenant, s.model) g;

-- emptied by generations, and back with the transaction
BEGIN;
SELECT millrace.cache_clear('c', tenant => 't'), millrace.cache_clear('c', tenant => 't'), millrace.cache_clear('c', source => 's');
SELECT hit FROM millrace.cache_get('c', 'Where is it?', 't');
SELECT hit FROM millrace.cache_get('c', 'Where is it?');
ROLLBACK;
SELECT hit FROM millrace.cache_get('c', 'Where is it?', 't');
SELECT millrace.cache_generation('c') AS before \gset
SELECT millrace.cache_clear('c');
SELECT hit IS NULL FROM millrace.cache_get('c', 'Where is it?', 't');
SELECT millrace.cache_put('c', 'Where is it?', '1', generation => :before) IS NULL AS too_late, millrace.cache_put('c', 'Where is it?', '1', generation => millrace.cache_generation('c')) IS NULL AS again;
SELECT millrace.cache_sweep('c'), millrace.cache_sweep('c');

-- the oldest make room
SELECT count(millrace.cache_put('c', 'question ' || i, '1')) FROM generate_series(1, 5) i;
SELECT string_agg(coalesce(hit, '-'), ' ' ORDER BY i) FROM generate_series(1, 5) i, LATERAL millrace.cache_get('c', 'question ' || i);

-- rights
SET ROLE regress_cache_other;
SELECT pg_temp.try('SELECT millrace.' || f) FROM unnest(ARRAY['cache_get(''c'', ''q'')', 'cache_put(''c'', ''q'', ''1'')', 'drop_cache(''c'')', 'alter_cache(''none'', ''{}'')']) f;
SELECT pg_temp.try('TABLE millrace.cache_entries');
SET ROLE regress_cache_owner;
SELECT millrace.alter_cache('c', '{"roles": ["regress_cache_other"]}');
SET ROLE regress_cache_other;
SELECT hit FROM millrace.cache_get('c', 'question 5');
SELECT pg_temp.try($$SELECT millrace.alter_cache('c', '{"roles": []}')$$);
RESET ROLE;
SELECT name, owner, entries, put, evicted, cleared, sampled, judged, cost_saved FROM millrace.stat_caches WHERE name = 'c';

-- the guard
SELECT coalesce(millrace.meaning_conflict(a, b), '-') || ' | ' || a || ' | ' || b FROM (VALUES
	('How do I reset my password?', 'what is the best way to reset a password'),
	('What is 15% of 80?', '15 percent of 80 is how much?'),
	('What is 15% of 80?', 'What is 50% of 80?'),
	('What changed in version 3.11.2?', 'What changed in version 3.12.1?'),
	('two million people', '2,000,000 people'),
	('Why does it start?', 'Why doesn''t it start?'),
	('How do I make it with sugar?', 'How do I make it without sugar?'),
	('Is the plant edible?', 'Is the plant inedible?'),
	('How do I raise the volume?', 'How do I lower the volume?'),
	('Who is the CEO of Apple?', 'Who is the CEO of Amazon?'),
	('who is the ceo of apple', 'who is the ceo of amazon'),
	('When was the wall built?', 'Why was the wall built?'),
	('flights from Paris', 'flights to Paris'),
	('Did Brazil beat Germany?', 'Did Germany beat Brazil?'),
	('Did Brazil beat Germany?', 'Was Germany beaten by Brazil?'),
	('', '')) p(a, b);
SELECT millrace.meaning_conflict(NULL, 'a') IS NULL;

SELECT millrace.drop_cache('c');
SELECT pg_temp.try($$SELECT millrace.cache_get('c', 'q')$$);
SELECT count(*) FROM millrace.cache_entries;
DROP ROLE regress_cache_owner, regress_cache_other;
