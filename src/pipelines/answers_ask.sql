-- Pipeline "answers", what people call: to ask, to look, to ask again, to give up, to forget.
--
-- Run behind answers_work.sql, and again by upgrade_pipeline().  ask() and status() run as the owner, so that who may call them needs
-- nothing else; the others are the owner's.

CREATE OR REPLACE FUNCTION @schema@.ask(question text, tenant text DEFAULT '', reference text DEFAULT NULL, options jsonb DEFAULT '{}',
		OUT question_id uuid, OUT status text, OUT answer text, OUT source text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	INSERT INTO @schema@.questions AS q (question, tenant, reference, options) VALUES ($1, COALESCE($2, ''), $3, COALESCE($4, '{}'))
	RETURNING q.question_id, q.status, COALESCE(q.answered_by, 'queued') INTO question_id, status, source;
	IF status = 'validated' THEN
		SELECT p.answer INTO answer FROM @schema@.published p WHERE p.question_id = ask.question_id;
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.ask(text, text, text, jsonb) IS
	'asks a question; answered at once where an answer is there (source: exact, semantic, stored, history), shared: when the same question, which is on its way, is; else queued: see status(); reference: what a right answer says; options: refresh, provider, priority, deadline';

CREATE OR REPLACE FUNCTION @schema@.status(INOUT question_id uuid, OUT status text, OUT answer text, OUT source text, OUT score real,
		OUT regenerations int, OUT error text, OUT asked_at timestamptz, OUT finished_at timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	SELECT v.* INTO status, answer, source, score, regenerations, error, asked_at, finished_at
	FROM @schema@.settings s, LATERAL (
		SELECT q.tenant, q.status, p.answer, COALESCE(q.answered_by, 'queued') AS source, p.score, q.regeneration::int AS regenerations,
			   CASE WHEN q.status <> 'validated' THEN q.reason END AS error,
			   q.asked_at, q.finished_at
		FROM @schema@.questions q LEFT JOIN @schema@.published p ON p.question_id = q.question_id WHERE q.question_id = $1
		UNION ALL
		SELECT f.tenant, 'failed', NULL, 'queued', NULL, 0, concat_ws(': ', f.class, f.error), f.asked_at, f.failed_at
		FROM @schema@.failed_questions f WHERE f.question_id = $1) o,
		LATERAL (SELECT o.status, o.answer, o.source, o.score, o.regenerations, o.error, o.asked_at, o.finished_at) v
	WHERE s.tenants <> 'role' OR millrace.request_role() IN (o.tenant, current_user);
	IF NOT FOUND THEN
		RAISE no_data_found USING MESSAGE = format('there is no question %s', $1);
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.status(uuid) IS
	'what has become of a question: one of the six states, or failed; answer and score only of a validated one; error: why it is in its state';

CREATE OR REPLACE FUNCTION @schema@.retry_failed(question_id uuid DEFAULT NULL) RETURNS bigint
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ WITH again AS (DELETE FROM @schema@.failed_questions f WHERE retry_failed.question_id IS NULL OR f.question_id = retry_failed.question_id RETURNING f.*),
		asked AS (INSERT INTO @schema@.questions (question_id, tenant, question, reference, options, round, asked_at)
			SELECT a.question_id, a.tenant, a.question, a.reference, a.options, a.round + 1, a.asked_at FROM again a RETURNING 1)
		SELECT count(*) FROM asked $$;
COMMENT ON FUNCTION @schema@.retry_failed(uuid) IS 'asks a failed question again, or all of them, under its old id; returns how many';

CREATE OR REPLACE FUNCTION @schema@.resubmit() RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	q @schema@.questions;
	n bigint := 0;
BEGIN
	FOR q IN SELECT o.* FROM @schema@.questions o WHERE o.finished_at IS NULL
		AND NOT EXISTS (SELECT FROM millrace.tasks t WHERE t.id = o.task_id AND t.state NOT IN ('succeeded', 'failed', 'cancelled', 'expired'))
		ORDER BY o.asked_at FOR UPDATE SKIP LOCKED
	LOOP
		CONTINUE WHEN q.task_id IS NULL AND @schema@.asking(q.leader) IS NOT NULL;		-- it waits for one that is asked again, or is still asked
		n := n + 1;
		IF q.status = 'success' THEN
			PERFORM @schema@.score_answer(jsonb_build_object('question_id', q.question_id, 'response_id', q.last_response_id));
		ELSE
			q.round := q.round + 1;
			q.regeneration := 0;
			UPDATE @schema@.questions o SET status = 'pending', transition = o.transition + 1, round = q.round, regeneration = 0, reason = NULL, answered_by = NULL, task_id = @schema@.submit(q)
			WHERE o.question_id = q.question_id;
		END IF;
	END LOOP;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.resubmit() IS 'asks again what waits for a task that there is no more: in a restored copy, whose dump had no tasks; returns how many';

CREATE OR REPLACE FUNCTION @schema@.forget(before timestamptz) RETURNS bigint
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		WITH old AS MATERIALIZED (
			SELECT q.question_id, q.response_id FROM @schema@.questions q WHERE q.finished_at < before AND (q.status = 'low-quality' OR q.answered_by IN ('exact', 'semantic', 'stored', 'shared'))
		), measured AS (DELETE FROM @schema@.processing_metrics m WHERE m.measured_at < before
		), scored AS (DELETE FROM @schema@.score_history h WHERE h.scored_at < before
		), failed AS (DELETE FROM @schema@.failed_questions f WHERE f.failed_at < before RETURNING 1
		), answers AS (DELETE FROM @schema@.responses r USING old o WHERE r.question_id = o.question_id
		), gone AS (DELETE FROM @schema@.questions q USING old o WHERE q.question_id = o.question_id RETURNING 1)
		SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM failed) $$;
COMMENT ON FUNCTION @schema@.forget(timestamptz) IS
	'deletes questions that ended before a time but for those whose answers others may be given, failed ones, measurements and scores; returns how many questions';

CREATE OR REPLACE FUNCTION @schema@.cancel(question_id uuid) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	task uuid;
BEGIN
	SELECT q.task_id INTO task FROM @schema@.questions q WHERE q.question_id = $1 AND q.finished_at IS NULL;
	IF NOT FOUND THEN
		RETURN false;
	ELSIF task IS NULL THEN			-- it waits for another
		PERFORM FROM @schema@.questions q WHERE q.question_id = $1 AND q.finished_at IS NULL AND q.task_id IS NULL FOR UPDATE;
		IF FOUND THEN
			PERFORM @schema@.put_away(ARRAY[$1], '{cancelled}', '{NULL}', '{NULL}');
			RETURN true;
		END IF;
		SELECT q.task_id INTO task FROM @schema@.questions q WHERE q.question_id = $1;
	END IF;
	RETURN COALESCE(millrace.cancel_task(task), false);
END $$;
COMMENT ON FUNCTION @schema@.cancel(uuid) IS 'gives a question up that waits for its answer; false: it does not wait';
REVOKE EXECUTE ON FUNCTION @schema@.ask(text, text, text, jsonb), @schema@.status(uuid), @schema@.retry_failed(uuid), @schema@.cancel(uuid),
	@schema@.resubmit(), @schema@.forget(timestamptz) FROM PUBLIC;

-- The first time this runs the options are carried out.
DO $do$ BEGIN
	IF (SELECT s.epoch FROM @schema@.settings s) = 0 THEN
		PERFORM @schema@.define((SELECT s.options FROM @schema@.settings s));
	END IF;
END $do$;
