-- Pipeline "answers", work: a question's way from its INSERT to its last state.
--
-- Run behind answers_score.sql, and again by upgrade_pipeline().  What is submitted belongs to the pipeline's owner: triggers
-- and ask() are SECURITY DEFINER, so that who asks needs no more than INSERT on questions, or EXECUTE on ask().
--
--   INSERT ─ take_question: cache, stored answers, history ─┬─► validated
--                                                           ├─► pending: the same is on its way (answers_share.sql)
--                                                           └─► pending ─ task llm ─► deliver_answers
--   watch_answers: error-overload, error-quota (a task goes on by itself)                │
--   deliver_answers: success ─ task sql ─► score_answer ─┬─► validated, into the cache   └─► failed_questions
--                        ▲                               ├─► pending: asked again, with feedback
--                        └───────────────────────────────┘   or low-quality, when that was done often enough

CREATE OR REPLACE FUNCTION @schema@.cache_model(s @schema@.settings) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT concat_ws(' ', s.provider::text, s.model) $$;
CREATE OR REPLACE FUNCTION @schema@.cache_prompt(s @schema@.settings) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT s.prompt_version || '#' || s.epoch $$;
COMMENT ON FUNCTION @schema@.cache_model(@schema@.settings) IS 'argument model of the cache''s functions';
COMMENT ON FUNCTION @schema@.cache_prompt(@schema@.settings) IS 'argument prompt_version of the cache''s functions';

CREATE OR REPLACE FUNCTION @schema@.keep(response bigint) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT millrace.cache_put(@schema_literal@, r.question, jsonb_strip_nulls(jsonb_build_object('response_id', r.response_id, 'cost', r.cost, 'latency_ms', r.latency_ms)), r.tenant,
			@schema@.cache_model(s), @schema@.cache_prompt(s), @schema_literal@)
		  FROM @schema@.usable_responses r, @schema@.settings s WHERE r.response_id = response AND s.cache $$;
COMMENT ON FUNCTION @schema@.keep(bigint) IS 'puts a validated answer into the cache';

CREATE OR REPLACE FUNCTION @schema@.submit(q @schema@.questions, previous text DEFAULT NULL, feedback text DEFAULT NULL) RETURNS uuid
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	s @schema@.settings;
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	IF COALESCE(q.options -> 'provider', s.provider) IS NULL THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format('pipeline "%s" has no provider that a question could be sent to', @schema_literal@),
			HINT = 'UPDATE @schema@.settings SET provider = ''"name of a server"''; or give it to create_pipeline().';
	END IF;
	RETURN millrace.submit_task('llm',
		jsonb_strip_nulls(jsonb_build_object(
			'messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', q.question))
				|| CASE WHEN previous IS NULL THEN '[]'::jsonb ELSE jsonb_build_array(
					jsonb_build_object('role', 'assistant', 'content', previous), jsonb_build_object('role', 'user', 'content', feedback)) END,
			'system', NULLIF(s.system, ''), 'model', s.model, 'options', NULLIF(s.generation, '{}'))),
		jsonb_strip_nulls(jsonb_build_object(
			'provider', COALESCE(q.options -> 'provider', s.provider), 'tenant', q.tenant, 'tag', q.question_id,
			'key', format('%s %s %s %s', @schema_literal@, q.question_id, q.round, q.regeneration),
			'deliver', format('%I.deliver_answers', @schema_literal@), 'watch', format('%I.watch_answers', @schema_literal@),
			'priority', COALESCE(q.options -> 'priority', to_jsonb(s.priority)), 'deadline', COALESCE(q.options -> 'deadline', to_jsonb(s.deadline)),
			'timeout_ms', s.timeout_ms)));
END $$;
COMMENT ON FUNCTION @schema@.submit(@schema@.questions, text, text) IS 'submits the task that asks a provider; previous, feedback: the answer that was not good enough, and why';
REVOKE EXECUTE ON FUNCTION @schema@.keep(bigint), @schema@.submit(@schema@.questions, text, text), @schema@.cache_model(@schema@.settings),
	@schema@.cache_prompt(@schema@.settings) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.stored_answer(tenant text, question text, reference text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (SELECT r.response_id FROM @schema@.usable_responses r
			WHERE r.question_key = millrace.question_key($2) AND r.tenant = $1 AND ($3 IS NULL OR r.reference = $3)
			ORDER BY r.score DESC, r.response_id DESC LIMIT 1);
END $$;
COMMENT ON FUNCTION @schema@.stored_answer(text, text, text) IS 'a validated answer to the same question; NULL: there is none';
REVOKE EXECUTE ON FUNCTION @schema@.stored_answer(text, text, text) FROM PUBLIC;

-- An answer that is there already: cache, then stored answers to the same question, then the history.
CREATE OR REPLACE FUNCTION @schema@.find_answer(question_id uuid, tenant text, question text, reference text,
		OUT response_id bigint, OUT answered_by text, OUT similarity real)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	s @schema@.settings;
	hit record;
	best record;
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	IF s.cache THEN
		SELECT * INTO hit FROM millrace.cache_get(@schema_literal@, $3, $2, @schema@.cache_model(s), @schema@.cache_prompt(s));
		IF hit.hit IS NOT NULL THEN
			-- The cache says which answer; whether that may be seen its row says.
			SELECT r.response_id, hit.hit, hit.similarity INTO response_id, answered_by, similarity
			FROM @schema@.usable_responses r
			WHERE r.response_id = (hit.answer ->> 'response_id')::bigint AND r.tenant = $2 AND r.question_key = millrace.question_key(hit.question)
				AND ($4 IS NULL OR r.reference = $4);
			IF FOUND THEN
				RETURN;
			END IF;
		END IF;
	END IF;

	response_id := @schema@.stored_answer($2, $3, $4);
	IF response_id IS NOT NULL THEN
		answered_by := 'stored';
		similarity := 1;
		PERFORM @schema@.keep(response_id);
		RETURN;
	END IF;

	-- Who knows what a right answer says wants an answer that was scored against that.
	IF $4 IS NOT NULL THEN
		RETURN;
	END IF;
	FOR best IN SELECT n.* FROM @schema@.nearest_stored($3, $2, s.stored_similarity, 3, true) n LOOP
		CONTINUE WHEN best.answer <> best.truth AND NOT @schema@.judge(best.answer, best.truth) > s.gate;
		INSERT INTO @schema@.responses (question_id, tenant, question, regeneration, origin, answer, history_id, scored_at)
		VALUES ($1, $2, $3, -1, 'history', best.answer, best.history_id, clock_timestamp())
		RETURNING responses.response_id, 'history', best.similarity INTO response_id, answered_by, similarity;
		PERFORM @schema@.keep(response_id);
		RETURN;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.find_answer(uuid, text, text, text) IS 'a validated answer to a question, without asking anybody; NULL: there is none';
REVOKE EXECUTE ON FUNCTION @schema@.find_answer(uuid, text, text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.provider_names(provider jsonb) RETURNS text[]
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT CASE jsonb_typeof(provider) WHEN 'string' THEN ARRAY[provider #>> '{}'] WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(provider))
			WHEN 'object' THEN ARRAY(SELECT jsonb_object_keys(provider)) ELSE '{}' END $$;
COMMENT ON FUNCTION @schema@.provider_names(jsonb) IS 'servers that an option provider names';
REVOKE EXECUTE ON FUNCTION @schema@.provider_names(jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.take_question() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	began CONSTANT timestamptz := clock_timestamp();
	found record;
	unknown text;
BEGIN
	IF millrace.request_role() <> current_user AND (SELECT s.tenants FROM @schema@.settings s) = 'role' THEN
		NEW.tenant := millrace.request_role();
	END IF;
	IF NEW.options <> '{}' THEN
		SELECT string_agg(k, ', ') INTO unknown FROM jsonb_object_keys(NEW.options) k WHERE k <> ALL ('{refresh,provider,priority,deadline}');
		IF unknown IS NOT NULL THEN
			RAISE invalid_parameter_value USING MESSAGE = format('unknown option of a question: %s', unknown), HINT = 'Options are refresh, provider, priority, deadline.';
		END IF;
		-- Who asks does so with the owner's rights and money: another server than the owner chose is not his to name.
		IF NEW.options ? 'provider' AND NOT @schema@.provider_names(NEW.options -> 'provider') <@
			(SELECT @schema@.provider_names(s.provider) FROM @schema@.settings s) THEN
			RAISE insufficient_privilege USING MESSAGE = format('a question may not choose provider %s', NEW.options ->> 'provider'),
				HINT = 'It may choose among those of the pipeline''s settings.';
		END IF;
	END IF;
	NEW.status := 'pending';
	NEW.response_id := NULL;
	NEW.last_response_id := NULL;
	NEW.answered_by := NULL;
	NEW.similarity := NULL;
	NEW.regeneration := 0;
	NEW.transition := 1;
	NEW.task_id := NULL;
	NEW.leader := NULL;
	NEW.question_key := millrace.question_key(NEW.question);
	NEW.epoch := (SELECT s.epoch FROM @schema@.settings s);
	NEW.reason := NULL;
	NEW.finished_at := NULL;
	IF NOT COALESCE((NEW.options ->> 'refresh')::boolean, false) THEN
		SELECT * INTO found FROM @schema@.find_answer(NEW.question_id, NEW.tenant, NEW.question, NEW.reference);
		IF found.response_id IS NULL THEN
			NEW.leader := @schema@.find_leader(NEW);
			IF NEW.leader IS NULL THEN		-- nor is one on its way: one may have come since we looked
				found.response_id := @schema@.stored_answer(NEW.tenant, NEW.question, NEW.reference);
				IF found.response_id IS NOT NULL THEN
					found.answered_by := 'stored';
					found.similarity := 1;
				END IF;
			ELSE
				found.answered_by := 'shared';
			END IF;
		END IF;
		NEW.response_id := found.response_id;
		NEW.last_response_id := found.response_id;
		NEW.answered_by := found.answered_by;
		NEW.similarity := found.similarity;
	END IF;
	NEW.state_at := clock_timestamp();
	NEW.lookup_ms := 1000 * extract(epoch FROM NEW.state_at - began);
	IF NEW.response_id IS NOT NULL THEN
		NEW.status := 'validated';
		NEW.finished_at := NEW.state_at;
	ELSE
		NEW.queued_at := NEW.state_at;
		IF NEW.leader IS NULL THEN
			NEW.task_id := @schema@.submit(NEW);
		END IF;
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION @schema@.take_question() IS 'trigger of questions: answers a new one with what is there, has it wait for the same one, or submits its task';
REVOKE EXECUTE ON FUNCTION @schema@.take_question() FROM PUBLIC;
CREATE OR REPLACE TRIGGER take_question BEFORE INSERT ON @schema@.questions FOR EACH ROW EXECUTE FUNCTION @schema@.take_question();

CREATE OR REPLACE FUNCTION @schema@.guard_question() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		IF (NEW.question_id, NEW.tenant, NEW.question, NEW.reference) IS DISTINCT FROM (OLD.question_id, OLD.tenant, OLD.question, OLD.reference) THEN
			RAISE check_violation USING MESSAGE = format('question %s cannot be changed', OLD.question_id), HINT = 'Ask the new one.';
		END IF;
		IF NEW.response_id IS NOT NULL AND NEW.response_id IS DISTINCT FROM OLD.response_id
			AND NOT EXISTS (SELECT FROM @schema@.responses r, @schema@.settings s
				WHERE r.response_id = NEW.response_id AND r.question_id = NEW.question_id AND r.question = NEW.question AND r.tenant = NEW.tenant AND r.validated
					AND (NEW.reference IS NULL OR r.reference = NEW.reference OR NOT 'given' = ANY (s."references")))
			-- what another has asked: an answer that whoever asks now would be given
			AND NOT (NEW.answered_by = 'shared' AND EXISTS (SELECT FROM @schema@.usable_responses r
				WHERE r.response_id = NEW.response_id AND r.question_key = millrace.question_key(NEW.question) AND r.tenant = NEW.tenant
					AND (NEW.reference IS NULL OR r.reference = NEW.reference))) THEN
			RAISE check_violation USING MESSAGE = format('answer %s is no validated answer to question %s', NEW.response_id, NEW.question_id);
		END IF;
		IF NEW.status <> OLD.status AND NEW.transition = OLD.transition THEN
			NEW.transition := OLD.transition + 1;
		END IF;
		IF NEW.transition <> OLD.transition THEN
			NEW.state_at := clock_timestamp();
			IF NEW.status = 'pending' THEN
				NEW.queued_at := NEW.state_at;
			ELSIF NEW.status IN ('validated', 'low-quality') THEN
				NEW.finished_at := NEW.state_at;
				NEW.task_id := NULL;
			END IF;
		END IF;
		RETURN NEW;
	END $$;
COMMENT ON FUNCTION @schema@.guard_question() IS 'trigger of questions: only a validated answer to this question may become its answer; times of states';
REVOKE EXECUTE ON FUNCTION @schema@.guard_question() FROM PUBLIC;
CREATE OR REPLACE TRIGGER guard_question BEFORE UPDATE ON @schema@.questions FOR EACH ROW EXECUTE FUNCTION @schema@.guard_question();
ALTER TABLE @schema@.questions ENABLE ALWAYS TRIGGER guard_question;

-- A message for each question that came into a state.  Those that this pipeline reads have no origin: see define().
CREATE OR REPLACE FUNCTION @schema@.publish(ids uuid[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT millrace.publish(s.server, t.topic, jsonb_strip_nulls(jsonb_build_object('origin', @schema_literal@, 'question_id', q.question_id,
			'status', q.status, 'tenant', q.tenant, 'question', q.question, 'answer', CASE WHEN q.status IN ('success', 'validated', 'low-quality') THEN r.answer END,
			'score', CASE WHEN q.status IN ('validated', 'low-quality') THEN r.score END, 'answered_by', q.answered_by, 'regeneration', q.regeneration,
			'reason', q.reason, 'at', q.state_at))::text, q.question_id::text)
		  FROM @schema@.settings s, unnest(ids) WITH ORDINALITY i(id, n)
		  JOIN @schema@.questions q ON q.question_id = i.id LEFT JOIN @schema@.responses r ON r.response_id = q.last_response_id,
		  @schema@.topic_of(q.status) t
		  ORDER BY i.n $$;
COMMENT ON FUNCTION @schema@.publish(uuid[]) IS 'publishes the state of questions to its topic, if and when the transaction commits';
REVOKE EXECUTE ON FUNCTION @schema@.publish(uuid[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.note_questions() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	server CONSTANT text := (SELECT s.server FROM @schema@.settings s);
BEGIN
	IF TG_OP = 'INSERT' THEN
		-- What came by the topic of pending questions was pending, even if there was an answer.
		INSERT INTO @schema@.processing_metrics (question_id, stage, state)
		SELECT n.question_id, 'received', 'pending' FROM new_rows n WHERE n.source_offset IS NOT NULL AND n.status <> 'pending';
		INSERT INTO @schema@.processing_metrics (question_id, stage, state, ms, answered_by)
		SELECT n.question_id, 'lookup', n.status, n.lookup_ms, n.answered_by FROM new_rows n;
		IF server IS NOT NULL THEN
			-- And it stands there.
			PERFORM @schema@.publish(array_agg(n.question_id)) FROM new_rows n WHERE n.status <> 'pending' OR n.source_offset IS NULL HAVING count(*) > 0;
		END IF;
	-- counted, not EXISTS: that is planned as a nested loop, for ever where nothing changed
	ELSIF (SELECT count(*) FROM new_rows n JOIN old_rows o ON o.question_id = n.question_id AND o.transition <> n.transition) > 0 THEN
		INSERT INTO @schema@.processing_metrics (question_id, stage, state, ms, regeneration, answered_by, class, detail)
		SELECT n.question_id, v.stage, v.state, v.ms, n.regeneration, n.answered_by, v.class, v.detail
		FROM new_rows n JOIN old_rows o ON o.question_id = n.question_id AND o.transition <> n.transition,
			 LATERAL (VALUES (
				CASE WHEN o.status = 'success' THEN 'score' WHEN n.status LIKE 'error-%' THEN 'retry' WHEN n.answered_by = 'shared' THEN 'shared' ELSE 'generate' END, n.status,
				1000 * extract(epoch FROM n.state_at - CASE WHEN o.status = 'success' OR n.status LIKE 'error-%' THEN o.state_at ELSE o.queued_at END)::float8,
				CASE n.status WHEN 'error-overload' THEN 'overload' WHEN 'error-quota' THEN 'quota' END, n.reason),
				('total', NULL, 1000 * extract(epoch FROM n.finished_at - n.asked_at)::float8, NULL, NULL)) v(stage, state, ms, class, detail)
		WHERE v.state IS NOT NULL OR n.status IN ('validated', 'low-quality');
		IF server IS NOT NULL THEN
			PERFORM @schema@.publish(array_agg(n.question_id)) FROM new_rows n JOIN old_rows o ON o.question_id = n.question_id AND o.transition <> n.transition HAVING count(*) > 0;
		END IF;
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.note_questions() IS 'trigger of questions: each transition is a row of processing_metrics, and with a Kafka server a message';
REVOKE EXECUTE ON FUNCTION @schema@.note_questions() FROM PUBLIC;
CREATE OR REPLACE TRIGGER note_inserted AFTER INSERT ON @schema@.questions
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.note_questions();
CREATE OR REPLACE TRIGGER note_updated AFTER UPDATE ON @schema@.questions
	REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.note_questions();

-- Metric millrace_stage_seconds.  The provider alone is "call"; before it a question waits in its "queue".  "total" is of all that have
-- ended, those answered at once too.
CREATE OR REPLACE FUNCTION @schema@.observe() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		PERFORM millrace.observe(@schema_literal@, s.stage, s.ms / 1000)
		FROM new_rows n, LATERAL (VALUES (n.stage, n.ms::float8), (CASE WHEN n.stage = 'lookup' AND n.state = 'validated' THEN 'total' END, n.ms::float8),
			(CASE WHEN n.stage = 'call' THEN 'queue' END, (SELECT 1000 * extract(epoch FROM n.measured_at - q.queued_at)::float8 - n.ms FROM @schema@.questions q WHERE q.question_id = n.question_id))) s(stage, ms)
		WHERE s.stage IS NOT NULL AND s.ms IS NOT NULL;
		RETURN NULL;
	END $$;
COMMENT ON FUNCTION @schema@.observe() IS 'trigger of processing_metrics: tells millrace.metrics() how long stages took';
REVOKE EXECUTE ON FUNCTION @schema@.observe() FROM PUBLIC;
CREATE OR REPLACE TRIGGER observe AFTER INSERT ON @schema@.processing_metrics
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.observe();

-- Called by the workers, as the owner, in the transaction that ends the tasks.  A task that is no longer the question's changes nothing.
CREATE OR REPLACE FUNCTION @schema@.deliver_answers(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	WITH came AS (
		INSERT INTO @schema@.responses (question_id, tenant, question, round, regeneration, answer, task_id, provider, model, tokens_in, tokens_out, cost, latency_ms, finish)
		SELECT q.question_id, q.tenant, q.question, q.round, q.regeneration, COALESCE(d.result ->> 'text', ''), d.id, d.result ->> 'provider', d.result ->> 'model',
			   (d.result ->> 'tokens_in')::int, (d.result ->> 'tokens_out')::int, (d.result ->> 'cost')::numeric, (d.result ->> 'latency_ms')::real, d.result ->> 'finish'
		FROM unnest(ids, states, results) d(id, state, result) JOIN @schema@.questions q ON q.task_id = d.id
		WHERE d.state = 'succeeded' AND q.status IN ('pending', 'error-overload', 'error-quota')
		RETURNING response_id, question_id, regeneration, latency_ms
	), measured AS (
		INSERT INTO @schema@.processing_metrics (question_id, stage, ms, regeneration) SELECT c.question_id, 'call', c.latency_ms, c.regeneration FROM came c
	)
	UPDATE @schema@.questions q SET status = 'success', last_response_id = c.response_id, reason = NULL,
		task_id = millrace.submit_task('sql',
			jsonb_build_object('function', format('%I.score_answer', @schema_literal@), 'args', jsonb_build_object('question_id', q.question_id, 'response_id', c.response_id)),
			jsonb_build_object('tenant', q.tenant, 'tag', q.question_id, 'key', format('%s %s score', @schema_literal@, c.response_id) || q.question_id,
				'deliver', format('%I.deliver_scores', @schema_literal@), 'priority', COALESCE(q.options -> 'priority', to_jsonb(s.priority))))
	FROM came c, @schema@.settings s WHERE q.question_id = c.question_id;

	PERFORM @schema@.fail(ids, states, errors);
END $$;
COMMENT ON FUNCTION @schema@.deliver_answers(uuid[], text[], text[], jsonb[], jsonb[]) IS
	'called by the workers: answers become responses and are to be scored; what failed for good is put away';

-- Whom a provider refuses for good it would refuse the others of the group (answers_share.sql) as well; who was cancelled, or too late, was so alone.
CREATE OR REPLACE FUNCTION @schema@.fail(ids uuid[], states text[], errors jsonb[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	left_behind CONSTANT uuid[] := ARRAY(SELECT COALESCE(q.leader, q.question_id) FROM unnest(ids, states) d(id, state) JOIN @schema@.questions q ON q.task_id = d.id
										 WHERE d.state NOT IN ('succeeded', 'failed'));
	a record;
BEGIN
	PERFORM @schema@.lock_group(l.leader)
	FROM (SELECT COALESCE(q.leader, q.question_id) AS leader FROM unnest(ids, states) d(id, state) JOIN @schema@.questions q ON q.task_id = d.id
		  WHERE d.state <> 'succeeded' ORDER BY @schema@.group_lock(COALESCE(q.leader, q.question_id))) l;

	WITH ended AS (
		SELECT q.question_id, COALESCE(q.leader, q.question_id) AS leader, q.last_response_id, d.state, d.error
		FROM unnest(ids, states, errors) d(id, state, error) JOIN @schema@.questions q ON q.task_id = d.id WHERE d.state <> 'succeeded' FOR UPDATE OF q
	)
	SELECT array_agg(u.question_id) AS questions, array_agg(u.state) AS states, array_agg(u.error) AS errors, array_agg(u.last_response_id) AS responses INTO a
	FROM (SELECT e.question_id, e.state, e.error, e.last_response_id FROM ended e
		  UNION ALL
		  SELECT q.question_id, e.state, e.error, e.last_response_id FROM ended e JOIN @schema@.questions q ON q.leader = e.leader AND q.finished_at IS NULL AND q.task_id IS NULL
		  WHERE e.state = 'failed') u;
	IF a.questions IS NOT NULL THEN
		PERFORM @schema@.put_away(a.questions, a.states, a.errors, a.responses);
		PERFORM @schema@.pass_on(left_behind);
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.fail(uuid[], text[], jsonb[]) IS 'puts away the questions of tasks that failed for good, and those that waited for them';

-- A question that never had an answer moves to failed_questions; one that had stays, with an answer that is not good enough.
CREATE OR REPLACE FUNCTION @schema@.put_away(questions uuid[], states text[], errors jsonb[], responses bigint[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	UPDATE @schema@.questions q SET status = 'low-quality', reason = concat_ws(': ', d.state, COALESCE(d.error ->> 'class', ''), d.error ->> 'message'), last_response_id = d.response
	FROM unnest(questions, states, errors, responses) d(id, state, error, response)
	WHERE q.question_id = d.id AND q.finished_at IS NULL AND d.response IS NOT NULL;

	INSERT INTO @schema@.processing_metrics (question_id, stage, ms, regeneration, class, detail)
	SELECT q.question_id, 'total', 1000 * extract(epoch FROM clock_timestamp() - q.asked_at), q.regeneration, COALESCE(d.error ->> 'class', d.state), d.error ->> 'message'
	FROM unnest(questions, states, errors, responses) d(id, state, error, response) JOIN @schema@.questions q ON q.question_id = d.id
	WHERE q.finished_at IS NULL AND d.response IS NULL;

	WITH gone AS (
		DELETE FROM @schema@.questions q USING unnest(questions, states, errors, responses) d(id, state, error, response)
		WHERE q.question_id = d.id AND q.finished_at IS NULL AND d.response IS NULL
		RETURNING q.*, d.state AS task_state, d.error
	)
	INSERT INTO @schema@.failed_questions (question_id, tenant, question, reference, options, round, state, class, sqlstate, error, attempts, history, asked_at)
	SELECT g.question_id, g.tenant, g.question, g.reference, g.options, g.round, g.task_state, g.error ->> 'class', g.error ->> 'sqlstate', g.error ->> 'message',
		   (g.error ->> 'attempts')::int,
		   (SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(m) - '{metric_id,question_id}'::text[]) ORDER BY m.metric_id) FROM @schema@.processing_metrics m WHERE m.question_id = g.question_id),
		   g.asked_at
	FROM gone g;
END $$;
COMMENT ON FUNCTION @schema@.put_away(uuid[], text[], jsonb[], bigint[]) IS 'ends questions without a good answer; responses: the last answer that there was, if any';

CREATE OR REPLACE FUNCTION @schema@.watch_answers(ids uuid[], tags text[], classes text[], errors jsonb[], again_at timestamptz[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		UPDATE @schema@.questions q SET status = 'error-' || d.class, transition = q.transition + 1,
			reason = concat_ws(', ', d.error ->> 'message', 'again at ' || to_char(d.again_at, 'HH24:MI:SS'))
		FROM unnest(ids, classes, errors, again_at) d(id, class, error, again_at)
		WHERE q.task_id = d.id AND d.class IN ('overload', 'quota') AND q.status IN ('pending', 'error-overload', 'error-quota');
		-- Other errors are attempts, not states.
		INSERT INTO @schema@.processing_metrics (question_id, stage, regeneration, class, detail)
		SELECT q.question_id, 'retry', q.regeneration, d.class, d.error ->> 'message'
		FROM unnest(ids, classes, errors) d(id, class, error) JOIN @schema@.questions q ON q.task_id = d.id
		WHERE d.class NOT IN ('overload', 'quota');
	END $$;
COMMENT ON FUNCTION @schema@.watch_answers(uuid[], text[], text[], jsonb[], timestamptz[]) IS
	'called by the workers after an attempt that another follows: overload and quota are states of the question';

CREATE OR REPLACE FUNCTION @schema@.score_answer(args jsonb) RETURNS jsonb
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	s @schema@.settings;
	q @schema@.questions;
	r @schema@.responses;
	verdict text;
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	SELECT * INTO q FROM @schema@.questions o WHERE o.question_id = (args ->> 'question_id')::uuid FOR UPDATE;
	IF NOT FOUND OR q.status <> 'success' OR q.last_response_id <> (args ->> 'response_id')::bigint THEN
		RETURN '{"verdict": "overtaken"}';
	END IF;
	UPDATE @schema@.responses o SET scored_at = clock_timestamp() WHERE o.response_id = q.last_response_id RETURNING * INTO r;
	IF r.validated THEN
		verdict := 'validated';
		UPDATE @schema@.questions o SET status = verdict, response_id = r.response_id, answered_by = 'generated' WHERE o.question_id = q.question_id RETURNING * INTO q;
		PERFORM @schema@.keep(r.response_id);
		PERFORM @schema@.end_group(q);
	ELSIF r.score IS NOT NULL AND q.regeneration < s.regenerations THEN
		verdict := 'pending';
		q.regeneration := q.regeneration + 1;
		UPDATE @schema@.questions o SET status = verdict, regeneration = q.regeneration, reason = r.feedback, task_id = @schema@.submit(q, r.answer, r.feedback)
		WHERE o.question_id = q.question_id;
	ELSE
		verdict := 'low-quality';
		UPDATE @schema@.questions o SET status = verdict, reason = COALESCE(r.feedback, 'nothing is known to score the answer against')
		WHERE o.question_id = q.question_id RETURNING * INTO q;
		PERFORM @schema@.end_group(q);
	END IF;
	RETURN jsonb_build_object('verdict', verdict, 'score', r.score, 'gate', r.gate);
END $$;
COMMENT ON FUNCTION @schema@.score_answer(jsonb) IS 'task: scores an answer, and decides: validated, asked again, or low quality';

CREATE OR REPLACE FUNCTION @schema@.deliver_scores(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT @schema@.fail(ids, states, errors) $$;
COMMENT ON FUNCTION @schema@.deliver_scores(uuid[], text[], text[], jsonb[], jsonb[]) IS
	'called by the workers: an answer that could not be scored is not good enough';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_answers(uuid[], text[], text[], jsonb[], jsonb[]), @schema@.fail(uuid[], text[], jsonb[]),
	@schema@.put_away(uuid[], text[], jsonb[], bigint[]), @schema@.watch_answers(uuid[], text[], text[], jsonb[], timestamptz[]), @schema@.score_answer(jsonb),
	@schema@.deliver_scores(uuid[], text[], text[], jsonb[], jsonb[]) FROM PUBLIC;
