-- Pipeline answers without an encoder, a worker and a provider: what workers would call is called by hand.
SET client_min_messages = warning;
SET timezone = 'UTC';
\set VERBOSITY terse
\pset null -
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user;
CREATE ROLE regress_reader LOGIN;
CREATE ROLE regress_anna LOGIN;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO regress_mill', pg_catalog.current_database()) \gexec
CREATE SERVER regress_llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url 'http://127.0.0.1:9', model 'm');
GRANT USAGE ON FOREIGN SERVER regress_llm TO regress_mill;
SET ROLE regress_mill;

-- options
SELECT millrace.create_pipeline('answers', 'regress_a', '{"provider": "regress_llm", "colour": 1}');
SELECT millrace.create_pipeline('answers', 'regress_a', '{"provider": "regress_llm", "encoder": ""}');
SELECT millrace.create_pipeline('answers', 'regress_a', '{"provider": "regress_llm", "encoder": "", "judge": "no_such_function"}');
SELECT millrace.create_pipeline('answers', 'regress_a', '{"provider": "regress_llm", "encoder": "", "judge": "token_f1", "gate": 1.5}');
SELECT millrace.create_pipeline('answers', 'regress_a', '{"provider": "regress_llm", "encoder": "", "judge": "token_f1", "regenerations": 2, "generation": {"temperature": 0.5}}');

-- what the workers do: end a question's task, and score
CREATE FUNCTION pg_temp.answer(asked text, words text, state text DEFAULT 'succeeded', error jsonb DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT regress_a.deliver_answers(array_agg(q.task_id), array_agg(q.question_id::text), array_agg(state),
		array_agg(jsonb_build_object('text', words, 'provider', 'regress_llm', 'model', 'm', 'tokens_in', 9, 'tokens_out', 3, 'cost', 0.001, 'latency_ms', 12.5)), array_agg(error))
	FROM regress_a.questions q WHERE q.question = asked AND q.task_id IS NOT NULL HAVING count(*) > 0 $$;
CREATE FUNCTION pg_temp.watch(asked text, class text) RETURNS void LANGUAGE sql AS $$
	SELECT regress_a.watch_answers(array_agg(q.task_id), array_agg(q.question_id::text), array_agg(class),
		array_agg(jsonb_build_object('class', class, 'message', class || ' it was')), array_agg('2026-01-01 12:00+00'::timestamptz))
	FROM regress_a.questions q WHERE q.question = asked AND q.task_id IS NOT NULL $$;
CREATE FUNCTION pg_temp.score() RETURNS TABLE (verdict text, score real) LANGUAGE sql AS $$
	SELECT r ->> 'verdict', (r ->> 'score')::real FROM (SELECT regress_a.score_answer(jsonb_build_object('question_id', q.question_id, 'response_id', q.last_response_id)) AS r
		FROM (SELECT * FROM regress_a.questions WHERE status = 'success' ORDER BY asked_at) q) s $$;
CREATE FUNCTION pg_temp.go(asked text, words text) RETURNS TABLE (verdict text, score real) LANGUAGE sql AS $$
	SELECT pg_temp.answer(asked, words); SELECT * FROM pg_temp.score() $$;
CREATE VIEW pg_temp.states AS SELECT question, tenant, status, answered_by, regeneration, transition, task_id IS NOT NULL AS task, reason FROM regress_a.questions ORDER BY asked_at;
CREATE VIEW pg_temp.seen AS SELECT question, tenant, answer, score, answered_by FROM regress_a.published ORDER BY asked_at;
CREATE FUNCTION pg_temp.ask(question text, tenant text DEFAULT '', reference text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS TABLE (status text, answer text, source text)
	LANGUAGE sql AS $$ SELECT a.status, a.answer, a.source FROM regress_a.ask($1, $2, $3, $4) a $$;

-- asked, answered, scored, and the next who asks gets it from the cache; another tenant does not
SELECT * FROM pg_temp.ask('Capital of Chile?', reference => 'Santiago is the capital of Chile');
SELECT t.kind, t.payload, t.tenant, t.priority, t.deliver, t.watch FROM millrace.task_queue t JOIN regress_a.questions q ON q.task_id = t.id;
SELECT pg_temp.answer('Capital of Chile?', 'The capital of Chile is Santiago');
TABLE pg_temp.states;
TABLE pg_temp.seen;
SELECT t.kind, t.payload #- '{args,question_id}' AS payload, t.deliver FROM millrace.task_queue t JOIN regress_a.questions q ON q.task_id = t.id;
SELECT * FROM pg_temp.score();
TABLE pg_temp.states;
TABLE pg_temp.seen;
SELECT * FROM pg_temp.ask('capital of  Chile', reference => 'Santiago is the capital of Chile');
SELECT * FROM pg_temp.ask('Capital of Chile?');
SELECT * FROM pg_temp.ask('Capital of Chile?', reference => 'Santiago, of course');
SELECT * FROM pg_temp.ask('Capital of Chile?', tenant => 'other');
SELECT * FROM pg_temp.ask('Capital of Chile?', options => '{"refresh": true}');
SELECT * FROM pg_temp.ask('Capital of Chile?', options => '{"color": true}');
SELECT * FROM pg_temp.ask('Who pays?', options => '{"provider": "another"}');
SELECT * FROM pg_temp.ask('  ');
SELECT DISTINCT s.status, s.answer, s.source, s.score FROM regress_a.questions q, LATERAL regress_a.status(q.question_id) s ORDER BY 1, 2, 3;
SELECT regress_a.status('00000000-0000-0000-0000-000000000000');

-- asked again, told what was wrong; good at last, or not
SELECT * FROM pg_temp.ask('How many bones has a man?', reference => 'An adult has 206 bones in the body');
SELECT * FROM pg_temp.ask('Why?', reference => 'Because of the long list of reasons given there');
SELECT pg_temp.answer('How many bones has a man?', 'About 300');
SELECT * FROM pg_temp.score();
SELECT t.payload FROM millrace.task_queue t JOIN regress_a.questions q ON q.task_id = t.id WHERE q.question LIKE 'How%';
SELECT pg_temp.answer('How many bones has a man?', 'An adult has 206 bones in the body');
SELECT * FROM pg_temp.score();
SELECT * FROM pg_temp.go('Why?', 'I cannot answer that.');
SELECT * FROM pg_temp.go('Why?', '');
SELECT * FROM pg_temp.go('Why?', 'Because');
SELECT * FROM pg_temp.states WHERE question ~ '^(How|Why)';
SELECT regeneration, score, gate, judge, reference_source, validated, feedback FROM regress_a.score_history WHERE regeneration > 0 OR feedback IS NOT NULL ORDER BY score_id;
SELECT * FROM pg_temp.ask('Unknown to all?');
SELECT * FROM pg_temp.go('Unknown to all?', 'Nobody knows');
SELECT status, reason FROM pg_temp.states WHERE question = 'Unknown to all?';

-- errors: overload and quota are states, others are not; who fails for good leaves; who had an answer stays
SELECT a.* FROM unnest('{Q1,Q2,Q3,Q4}'::text[], '{r,r,a long reference that is right,r}'::text[]) u(q, r), LATERAL pg_temp.ask(u.q, reference => u.r) a;
SELECT pg_temp.watch('Q1', 'overload');
SELECT pg_temp.watch('Q1', 'overload');
SELECT pg_temp.watch('Q1', 'network');
SELECT pg_temp.watch('Q2', 'quota');
SELECT * FROM pg_temp.states WHERE question ~ '^Q' ORDER BY question;
SELECT pg_temp.answer('Q1', NULL, 'failed', '{"class": "overload", "sqlstate": "53000", "message": "still busy", "attempts": 4}');
SELECT pg_temp.answer('Q2', 'r');
SELECT pg_temp.answer('Q3', 'short');
SELECT * FROM pg_temp.score() ORDER BY verdict;
SELECT pg_temp.answer('Q3', NULL, 'failed', '{"class": "invalid", "message": "no such model"}');
SELECT pg_temp.answer('Q4', NULL, 'expired', '{"class": null, "message": "too late"}');
SELECT * FROM pg_temp.states WHERE question ~ '^Q' ORDER BY question;
SELECT question, state, class, sqlstate, error, attempts, (SELECT string_agg(concat_ws(' ', h ->> 'stage', h ->> 'state', h ->> 'class'), ', ') FROM jsonb_array_elements(history) h) AS history
	FROM regress_a.failed_questions ORDER BY question;
SELECT s.status, s.error FROM regress_a.failed_questions f, LATERAL regress_a.status(f.question_id) s ORDER BY 2;
SELECT regress_a.retry_failed();
SELECT count(*) FROM regress_a.failed_questions;
SELECT * FROM pg_temp.go('Q1', 'r');
-- a task that is no longer the question's changes nothing
SELECT regress_a.deliver_answers('{00000000-0000-8000-8000-000000000000}', '{x}', '{succeeded}', '{"{\"text\": \"late\"}"}', '{NULL}');
SELECT class, attempts, questions, recovered, failed FROM regress_a.error_distribution ORDER BY class;
SELECT regeneration, answers, validated, better, worse FROM regress_a.regeneration_analysis;

-- asked while the same is on its way: one task, and one answer for those of one tenant, reference and options
CREATE VIEW pg_temp.shared AS SELECT question, tenant, reference, options, status, answered_by, transition AS n, task_id IS NOT NULL AS task, leader IS NOT NULL AS follows, regeneration AS again, reason
	FROM regress_a.questions WHERE question ~ '^S\d' ORDER BY asked_at;
SELECT a.* FROM unnest('{S1,S1,"S1  ?"}'::text[]) q, LATERAL pg_temp.ask(q, reference => 'one two') a;
SELECT a.* FROM (VALUES ('other', 'one two', '{}'::jsonb), ('', 'two', '{}'), ('', NULL, '{}'), ('', 'one two', '{"refresh": true}'), ('', 'one two', '{"priority": 9}')) v(t, r, o), LATERAL pg_temp.ask('S1', v.t, v.r, v.o) a;
TABLE pg_temp.shared;
SELECT count(*) FROM millrace.task_queue t JOIN regress_a.questions q ON q.task_id = t.id WHERE q.question ~ '^S1';
DELETE FROM regress_a.questions WHERE question = 'S1' AND (tenant, reference, options) IS DISTINCT FROM ('', 'one two', '{}');
SELECT pg_temp.watch('S1', 'overload');
SELECT * FROM pg_temp.go('S1', 'none');
SELECT status, answered_by, n, task FROM pg_temp.shared;
SELECT * FROM pg_temp.go('S1', 'one two');
SELECT question, status, answered_by, n, task, again, reason FROM pg_temp.shared;
SELECT * FROM pg_temp.seen WHERE question ~* '^S1';
SELECT s.status, s.answer, s.source, s.score, s.regenerations, s.error, s.finished_at IS NOT NULL AS finished FROM regress_a.questions q, LATERAL regress_a.status(q.question_id) s WHERE q.question ~* '^S1' ORDER BY q.asked_at;
SELECT q.leader IS NOT NULL AS follows, m.stage, m.state, m.answered_by, count(*), bool_and(m.ms IS NOT NULL) AS measured FROM regress_a.processing_metrics m JOIN regress_a.questions q USING (question_id)
	WHERE q.question ~* '^S1' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
SELECT * FROM pg_temp.ask('S1', reference => 'one two');
-- several in one statement, or one transaction; what they come to: low quality, failed, failed after an answer
INSERT INTO regress_a.questions (question, reference) SELECT q, r FROM unnest('{S2,S3,S4,S2,S3,S4}'::text[], '{NULL,r,a long reference,NULL,r,a long reference}'::text[]) u(q, r);
BEGIN;
SELECT * FROM pg_temp.ask('S5', reference => 'r');
SELECT * FROM pg_temp.ask('S5', reference => 'r');
COMMIT;
SELECT * FROM pg_temp.go('S2', 'nobody knows');
SELECT pg_temp.answer('S3', NULL, 'failed', '{"class": "invalid", "sqlstate": "08004", "message": "no such model", "attempts": 1}');
SELECT * FROM pg_temp.go('S4', 'short');
SELECT pg_temp.answer('S4', NULL, 'failed', '{"class": "invalid", "message": "no such model"}');
SELECT question, status, answered_by, n, task, follows, again, reason FROM pg_temp.shared WHERE question ~ '^S[2-5]' ORDER BY question, follows;
SELECT question, state, class, error, attempts, (SELECT string_agg(concat_ws(' ', h ->> 'stage', h ->> 'state', h ->> 'class'), ', ') FROM jsonb_array_elements(history) h) AS history
	FROM regress_a.failed_questions WHERE question = 'S3';
SELECT regress_a.retry_failed(question_id) FROM regress_a.failed_questions WHERE question = 'S3';
SELECT status, answered_by, task, follows FROM pg_temp.shared WHERE question = 'S3' ORDER BY follows;
-- cancelled, or too late: the next one asks; who only waits can be cancelled, too
SELECT a.* FROM unnest('{S6,S6,S6,S6}'::text[]) q, LATERAL pg_temp.ask(q, reference => 'r') a;
SELECT regress_a.cancel(question_id) FROM regress_a.questions WHERE question = 'S6' ORDER BY asked_at DESC LIMIT 1;
SELECT pg_temp.answer('S6', NULL, 'cancelled');
SELECT question, status, answered_by, task, follows FROM pg_temp.shared WHERE question = 'S6';
SELECT * FROM pg_temp.ask('S6', reference => 'r');
SELECT pg_temp.answer('S6', NULL, 'expired', '{"message": "too late"}');
SELECT question, status, answered_by, task, follows FROM pg_temp.shared WHERE question = 'S6';
SELECT * FROM pg_temp.go('S6', 'r');
SELECT question, status, answered_by, task, follows FROM pg_temp.shared WHERE question = 'S6';
SELECT question, state, error FROM regress_a.failed_questions WHERE question = 'S6' ORDER BY state, error;
SELECT regress_a.cancel(question_id) FROM regress_a.questions WHERE question = 'S6';
-- the history: answers at once, and what others are scored against
SELECT regress_a.import_history('[{"question": "Who wrote Don Quixote?", "answer": "Miguel de Cervantes"}, {"question": "who wrote Don Quixote", "answer": "Miguel de Cervantes"},
	{"question": "Best?", "answer": "bad", "score": 0.3}, {"question": "Best?", "answer": "good", "score": 0.9}, {"question": "Judged?", "answer": "wrong", "reference": "right one"}]');
SELECT regress_a.import_history('SELECT ''Capital of Peru?'' AS question, ''Lima'' AS answer', 'other');
SELECT regress_a.import_history('[{"question": "q"}]');
SELECT regress_a.import_history('{"question": "q"}');
SELECT regress_a.import_history('[{"question": "q", "answer": "a", "score": 2}]');
SELECT question, answer, reference, score, tenant FROM regress_a.history ORDER BY history_id;
SELECT * FROM pg_temp.ask('who wrote  Don Quixote ?');
SELECT * FROM pg_temp.ask('who wrote  Don Quixote ?');
SELECT * FROM pg_temp.ask('Best?');
SELECT * FROM pg_temp.ask('Judged?');
SELECT a.* FROM unnest('{"",other}'::text[]) t, LATERAL pg_temp.ask('Capital of Peru?', t) a;
SELECT regress_a.local_answer('{"messages": [{"role": "user", "content": "Best?"}]}') - 'latency_ms';
SELECT regress_a.local_answer('{"messages": [{"role": "user", "content": "Best?"}, {"role": "assistant", "content": "good"}]}');
-- what the history no longer says is not given out any more
UPDATE regress_a.history SET answer = 'Cervantes, Miguel de' WHERE question ILIKE 'Who wrote%';
SELECT * FROM pg_temp.ask('who wrote  Don Quixote ?');
DELETE FROM regress_a.history WHERE question = 'Best?';
SELECT * FROM pg_temp.ask('Best?');
-- another prompt: nothing of the old one
SELECT * FROM pg_temp.ask('Capital of Chile?');
UPDATE regress_a.settings SET system = 'Be brief.';
SELECT * FROM pg_temp.ask('Capital of Chile?');
UPDATE regress_a.settings SET encoder = 'other';
-- what has changed on the way: another epoch follows nobody, and its answer is not given to those of another
SELECT a.* FROM unnest('{S7,S7}'::text[]) q, LATERAL pg_temp.ask(q, reference => 'r') a;
SELECT pg_temp.answer('S7', 'r');
UPDATE regress_a.settings SET prompt_version = '2';
SELECT * FROM pg_temp.ask('S7', reference => 'r');
SELECT * FROM pg_temp.score();
SELECT status, answered_by, task, follows FROM pg_temp.shared WHERE question = 'S7';
-- a snapshot of before, and more questions than have a lock
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM pg_temp.ask('S7', reference => 'r');
ROLLBACK;
BEGIN;
INSERT INTO regress_a.questions (question, reference) SELECT 'S8 ' || i % 100, 'r' FROM generate_series(0, 299) i;
SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT count(task_id) AS tasks, count(leader) AS followers FROM regress_a.questions WHERE question ~ '^S8';
ROLLBACK;
UPDATE regress_a.settings SET prompt_version = '1';

-- the gate, attacked by the tables' owner
CREATE VIEW pg_temp.below AS SELECT question, answer FROM regress_a.published WHERE answer ~ 'EVIL' OR score <= 0.75;
CREATE FUNCTION pg_temp.attack(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	outcome text := 'done';
BEGIN
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN OTHERS THEN
		outcome := regexp_replace(sqlerrm, '[0-9a-f]{8}-[0-9a-f-]{27}', 'id');
		outcome := regexp_replace(outcome, '\d+', 'n', 'g');
	END;
	RETURN outcome || CASE WHEN EXISTS (SELECT FROM pg_temp.below) THEN ', VISIBLE' ELSE ', not visible' END;
END $$;
SELECT question_id AS bad, last_response_id AS bad_response FROM regress_a.questions WHERE question = 'Why?' \gset
SELECT question_id AS good, response_id AS good_response FROM regress_a.questions WHERE question LIKE 'How%' \gset
SELECT pg_temp.attack(format('INSERT INTO regress_a.responses (question_id, tenant, question, answer, score, gate, scored_at, regeneration) VALUES (%L, %L, %L, %L, 1, 0, now(), 8)', :'bad', '', 'Why?', 'EVIL 1'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.responses (question_id, tenant, question, answer, score, gate, reference, regeneration) VALUES (%L, %L, %L, %L, 1, 0, %L, 9)', :'bad', '', 'Why?', 'EVIL 2', 'EVIL 2'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.responses (question_id, tenant, question, answer, validated, regeneration) VALUES (%L, %L, %L, %L, true, 10)', :'bad', '', 'Why?', 'EVIL 3'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.responses (question_id, tenant, question, answer, origin, history_id, regeneration) SELECT %L, %L, %L, %L, ''history'', min(history_id), 11 FROM regress_a.history', :'bad', '', 'Why?', 'EVIL 4'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.responses (question_id, tenant, question, answer, origin, history_id, regeneration) SELECT %L, '''', ''Judged?'', h.answer, ''history'', history_id, 12 FROM regress_a.history h WHERE answer = ''wrong''', :'bad'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET score = 1, gate = 0 WHERE response_id = %s', :'bad_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET score = ''NaN'' WHERE response_id = %s', :'bad_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET reference = answer, reference_source = ''given'' WHERE response_id = %s', :'bad_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET validated = true WHERE response_id = %s', :'bad_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET answer = ''EVIL 5'' WHERE response_id = %s', :'good_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET question_id = %L WHERE response_id = %s', :'bad', :'good_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET origin = ''history'' WHERE response_id = %s', :'bad_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET status = ''validated'' WHERE question_id = %L', :'bad'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET status = ''validated'', response_id = last_response_id WHERE question_id = %L', :'bad'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET status = ''validated'', response_id = %s WHERE question_id = %L', :'good_response', :'bad'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET reference = ''EVIL 6'' WHERE question_id = %L', :'bad'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET question = ''EVIL 7'' WHERE question_id = %L', :'good'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET question_id = %L WHERE question_id = %L', '00000000-0000-0000-0000-000000000007', :'good'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.questions (question, status, response_id, last_response_id, answered_by, reference) VALUES (''EVIL 8'', ''validated'', %s, %1$s, ''exact'', ''x'')', :'good_response'));
SELECT pg_temp.attack(format('SELECT millrace.cache_put(''regress_a'', ''EVIL 9'', jsonb_build_object(''response_id'', %s), '''', regress_a.cache_model(s), regress_a.cache_prompt(s)) FROM regress_a.settings s', :'good_response'));
SELECT pg_temp.attack('SELECT regress_a.ask(''EVIL 9'')');
SELECT pg_temp.attack('INSERT INTO regress_a.published (answer) VALUES (''EVIL 10'')');
SELECT pg_temp.attack(format('MERGE INTO regress_a.responses r USING (SELECT %s AS id) i ON r.response_id = i.id WHEN MATCHED THEN UPDATE SET score = 1, gate = 0.1', :'bad_response'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.responses (question_id, tenant, question, answer, round, regeneration) SELECT question_id, tenant, question, answer, round, regeneration FROM regress_a.responses WHERE response_id = %s ON CONFLICT (question_id, round, regeneration) DO UPDATE SET score = 1, gate = 0', :'bad_response'));
SELECT pg_temp.attack('DELETE FROM regress_a.settings');
SELECT pg_temp.attack(format('INSERT INTO regress_a.history (question, answer) VALUES (''Why?'', ''EVIL 11''); INSERT INTO regress_a.responses (question_id, tenant, question, answer, origin, history_id, regeneration) SELECT %L, '''', ''Why?'', ''EVIL 11'', ''history'', max(history_id), 13 FROM regress_a.history; UPDATE regress_a.questions SET status = ''validated'', response_id = lastval() WHERE question_id = %1$L', :'bad'));
SELECT pg_temp.attack('WITH h AS (INSERT INTO regress_a.history (question, answer) VALUES (''Later?'', ''EVIL 12'') RETURNING history_id) SELECT 1 FROM h; INSERT INTO regress_a.responses (question_id, tenant, question, answer, origin, history_id, regeneration) SELECT ''00000000-0000-0000-0000-000000000012'', '''', ''Later?'', ''EVIL 12'', ''history'', max(history_id), 13 FROM regress_a.history; INSERT INTO regress_a.questions (question_id, question, reference) VALUES (''00000000-0000-0000-0000-000000000012'', ''Later?'', ''good''); UPDATE regress_a.questions SET status = ''validated'', response_id = (SELECT max(response_id) FROM regress_a.responses) WHERE question = ''Later?''');
-- and by a question that another is said to have been asked for
SELECT a.* FROM unnest('{How far?,How near?,How near?}'::text[]) q, LATERAL pg_temp.ask(q, reference => 'as far as that') a;
SELECT pg_temp.go('How far?', 'as far as that');
SELECT pg_temp.go('How near?', u) FROM unnest('{EVIL 13,EVIL 14,EVIL 15}'::text[]) u;
SELECT question_id AS far, response_id AS far_response FROM regress_a.questions WHERE question = 'How far?' \gset
SELECT question_id AS near, last_response_id AS near_response FROM regress_a.questions WHERE question = 'How near?' AND leader IS NOT NULL \gset
SELECT question_id AS elsewhere FROM regress_a.ask('How far?', 'other', 'as far as that') \gset
SELECT question_id AS otherwise FROM regress_a.ask('How far?', reference => 'EVIL 16') \gset
SELECT question_id AS again FROM regress_a.ask('How far?', reference => 'as far as that', options => '{"refresh": true}') \gset
SELECT v.who, pg_temp.attack(format('UPDATE regress_a.questions SET answered_by = ''shared'', leader = %L, status = ''validated'', response_id = %s WHERE question_id = %L', :'far', :'far_response', v.id))
	FROM (VALUES ('bad', :'bad'), ('near', :'near'), ('elsewhere', :'elsewhere'), ('otherwise', :'otherwise'), ('again', :'again')) v(who, id);
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET status = ''validated'', response_id = %s WHERE question_id = %L', :'near_response', :'near'));
SELECT pg_temp.attack(format('INSERT INTO regress_a.questions (question, status, answered_by, leader, response_id, reference) VALUES (''EVIL 17'', ''validated'', ''shared'', %L, %s, ''x'')', :'far', :'far_response'));
SELECT pg_temp.attack(format('SELECT regress_a.end_group(jsonb_populate_record(q, jsonb_build_object(''status'', ''validated'', ''response_id'', %s))) FROM regress_a.questions q WHERE question = ''How near?'' AND leader IS NULL', :'near_response'));
SELECT pg_temp.attack(format('SELECT regress_a.ask(''How near?'', reference => ''as far as that''); SELECT regress_a.ask(''How near?'', reference => ''as far as that''); SELECT regress_a.end_group(jsonb_populate_record(q, jsonb_build_object(''status'', ''validated'', ''response_id'', %s))) FROM regress_a.questions q WHERE question = ''How near?'' AND task_id IS NOT NULL', :'far_response'));
DELETE FROM regress_a.history WHERE answer ~ 'EVIL';
RESET ROLE;
SET session_replication_role = replica;
SELECT pg_temp.attack(format('UPDATE regress_a.responses SET score = 1, gate = 0 WHERE response_id = %s', :'bad_response'));
SELECT pg_temp.attack(format('UPDATE regress_a.questions SET status = ''validated'', response_id = last_response_id WHERE question_id = %L', :'bad'));
RESET session_replication_role;
SET ROLE regress_mill;
SELECT score < 0.75 AS score, gate, validated FROM regress_a.responses WHERE response_id = :bad_response;
-- a higher gate hides what is below it
UPDATE regress_a.settings SET gate = 0.99;
SELECT count(*) FROM pg_temp.seen WHERE score < 1;

-- judged answers
INSERT INTO regress_a.judged_answers (answer, reference, correct) VALUES ('one two three four', 'one two three four', true), ('two three four five', 'one two three four', true), ('no way', 'one two three four', false), ('one two three not', 'one two three four', false);
SELECT * FROM regress_a.gate_report(gates => '{0.5,0.75,0.9}');

-- a judge of one's own; what it returns is made a score
CREATE FUNCTION regress_a.strange(answer text, reference text) RETURNS double precision LANGUAGE sql AS $$ SELECT answer::double precision $$;
UPDATE regress_a.settings SET judge = 'regress_a.strange';
SELECT a, regress_a.judge(a, 'r') FROM unnest('{0.5,-3,7,NaN,Infinity,-Infinity}'::text[]) a;
UPDATE regress_a.settings SET judge = 'token_f1';

-- who may do what
SET ROLE regress_reader;
SELECT regress_a.ask('?');
SET ROLE regress_mill;
GRANT USAGE ON SCHEMA regress_a TO regress_reader;
GRANT INSERT (question) ON regress_a.questions TO regress_reader;
SET ROLE regress_reader;
INSERT INTO regress_a.questions (question) VALUES ('May I?'), ('May I?');
SET ROLE regress_mill;
SELECT status, answered_by, task FROM pg_temp.states WHERE question = 'May I?';
UPDATE regress_a.settings SET tenants = 'role';
GRANT USAGE ON SCHEMA regress_a TO regress_anna;
GRANT EXECUTE ON FUNCTION regress_a.ask(text, text, text, jsonb), regress_a.status(uuid) TO regress_anna;
SELECT question_id AS mine FROM regress_a.questions WHERE question = 'Capital of Chile?' LIMIT 1 \gset
RESET ROLE;
SET SESSION AUTHORIZATION regress_anna;
SELECT status, source FROM regress_a.ask('Whose?', tenant => 'other');
\set VERBOSITY sqlstate
SELECT status FROM regress_a.status(:'mine');
\set VERBOSITY terse
SELECT count(*) FROM regress_a.questions;
RESET SESSION AUTHORIZATION;
SET ROLE regress_mill;
SELECT tenant, status FROM regress_a.questions WHERE question = 'Whose?';

-- views; the template twice
SELECT stage, questions > 0 AS some, p50_ms <= p95_ms AND p95_ms <= p99_ms AS ordered FROM regress_a.latency_by_stage;
SELECT answered_by, questions > 0 AS some, calls_saved FROM regress_a.cache_efficiency ORDER BY answered_by;
SELECT bool_or(asked > 0) AS asked, bool_or(validated > 0) AS validated FROM regress_a.throughput;
SELECT status, topic, partitions, transitions = (SELECT count(*) FROM regress_a.processing_metrics m WHERE m.state = t.status) AS counted FROM regress_a.topics t;
SELECT count(*), count(answer) FROM regress_a.sample_questions();
-- a restored copy has no tasks; what is old may go
CREATE TABLE pg_temp.open AS SELECT * FROM regress_a.questions WHERE finished_at IS NULL;
SELECT count(*) > 3 AS some, regress_a.resubmit() FROM pg_temp.open;
RESET ROLE;
DELETE FROM millrace.task_queue WHERE deliver LIKE 'regress_a.%';
SET ROLE regress_mill;
SELECT count(task_id) = regress_a.resubmit() AS all_again, count(*) > count(task_id) AS some_follow FROM pg_temp.open;
SELECT count(*) = count(t.id) AS tasks_again, bool_and(q.round = o.round + 1) AS next_round
FROM pg_temp.open o JOIN regress_a.questions q USING (question_id) LEFT JOIN millrace.tasks t ON t.id = q.task_id AND t.state = 'waiting' WHERE o.task_id IS NOT NULL;
DELETE FROM regress_a.questions WHERE question = 'S5' AND leader IS NULL;
SELECT regress_a.resubmit();
SELECT status, answered_by, task, follows FROM pg_temp.shared WHERE question = 'S5';
SELECT count(*) AS before, (SELECT regress_a.forget(clock_timestamp()) > 5) AS forgotten FROM regress_a.published WHERE answered_by IN ('generated', 'history') \gset
SELECT :'forgotten' AS forgotten, count(*) = :before AS kept, (SELECT count(*) FROM regress_a.processing_metrics) AS metrics FROM regress_a.published;
-- of an older template
ALTER TABLE regress_a.questions DROP leader CASCADE, DROP question_key CASCADE, DROP epoch, DROP CONSTRAINT questions_answered_by_check,
	ADD CONSTRAINT questions_answered_by_check CHECK (answered_by IN ('exact', 'semantic', 'stored', 'history', 'generated')) NOT VALID;
SELECT millrace.upgrade_pipeline('regress_a');
SELECT a.* FROM unnest('{S9,S9}'::text[]) q, LATERAL pg_temp.ask(q, reference => 'r') a;
SELECT * FROM pg_temp.go('S9', 'r');
SELECT question, answer, answered_by FROM regress_a.published WHERE question = 'S9' ORDER BY asked_at;
SELECT indexname FROM pg_indexes WHERE schemaname = 'regress_a' AND indexdef ~ '(leader|question_key).*WHERE' AND tablename = 'questions' ORDER BY 1;
SELECT millrace.drop_pipeline('regress_a');
SELECT count(*) FROM millrace.caches WHERE name = 'regress_a';

RESET ROLE;
DELETE FROM millrace.task_cancels c USING millrace.task_queue t WHERE t.id = c.id AND t.deliver LIKE 'regress_a.%';
DELETE FROM millrace.task_queue WHERE deliver LIKE 'regress_a.%';
DELETE FROM millrace.task_pools WHERE owner = 'regress_mill';
DROP SERVER regress_llm CASCADE;
SELECT pg_catalog.format('REVOKE CREATE ON DATABASE %I FROM regress_mill', pg_catalog.current_database()) \gexec
DROP OWNED BY regress_mill;
DROP ROLE regress_mill, regress_reader, regress_anna;
