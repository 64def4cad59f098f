-- Pipeline "answers", sharing: a question asked while the same one is on its way waits for that one's answer.
--
-- Run behind answers_work.sql, and again by upgrade_pipeline().
--
-- The first is the leader; those that follow carry its id in questions.leader, and have no task.  One of this group has: the leader, or
-- who took its place.  When that one's task comes to its end, so do all, in the same transaction (end_group, fail); was it
-- cancelled, or too late, the oldest of the others asks (pass_on).
--
-- Two races.  Who cannot see the leader since that transaction is still open waits for it a moment (find_leader, the lock of
-- the question).  And a group may end between a follower's INSERT and its COMMIT: the end takes the lock of the group before it
-- looks for followers, and a follower takes it, shared, in a deferred trigger, and looks whether its group still has a task
-- (still_asked).  So followers hold it no longer than a COMMIT takes.  Nobody waits for either lock without end: who has waited
-- long enough asks by himself, and resubmit() finds whom a group has left behind.  Nor does anybody hold many, as locks are a
-- table of fixed size: groups share 128, and of the questions of one transaction the first 50 have one.

CREATE OR REPLACE FUNCTION @schema@.group_lock(leader uuid) RETURNS bigint
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT hashtextextended(@schema_literal@, 1) & ~127::bigint | hashtextextended(leader::text, 1) & 127 $$;
COMMENT ON FUNCTION @schema@.group_lock(uuid) IS 'advisory lock of a group, which shares it with others: exclusive for its end, shared for the commit of those that join it';

-- Who asks the provider for a group.  Volatile: it is to see what was committed a moment ago.
CREATE OR REPLACE FUNCTION @schema@.asking(leader uuid) RETURNS uuid
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (SELECT q.question_id FROM @schema@.questions q WHERE q.question_id = $1 AND q.finished_at IS NULL AND q.task_id IS NOT NULL
			UNION ALL
			SELECT q.question_id FROM @schema@.questions q WHERE q.leader = $1 AND q.finished_at IS NULL AND q.task_id IS NOT NULL LIMIT 1);
END $$;
COMMENT ON FUNCTION @schema@.asking(uuid) IS 'the question of a group that has a task; NULL: none';

-- Waits for whoever asks the same in an open transaction, some longer than others so that not all give up at once; and for no more than three
-- of those in a transaction.
CREATE OR REPLACE FUNCTION @schema@.find_leader(q @schema@.questions) RETURNS uuid
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	question_lock CONSTANT bigint := hashtextextended(concat_ws(' ', @schema_literal@, q.question_key, q.tenant), 0);
	enough CONSTANT timestamptz := clock_timestamp() + (2 + random()) * interval '1 s';
	spent int := COALESCE(NULLIF(current_setting('millrace_answers.locks', true), ''), '0')::int;
	locked boolean := spent >= 50;
	leader uuid;
BEGIN
	-- An older snapshot would not show that the other has ended; and what is scored against another reference is no answer.
	IF COALESCE((q.options ->> 'refresh')::boolean, false) OR current_setting('transaction_isolation') <> 'read committed'
		OR q.reference IS NOT NULL AND (SELECT NOT 'given' = ANY (s."references") FROM @schema@.settings s) THEN
		RETURN NULL;
	END IF;
	LOOP
		SELECT COALESCE(o.leader, o.question_id) INTO leader FROM @schema@.questions o
		WHERE o.tenant = q.tenant AND o.question_key = q.question_key AND o.finished_at IS NULL AND o.task_id IS NOT NULL
			AND o.reference IS NOT DISTINCT FROM q.reference AND o.options - 'refresh' = q.options - 'refresh' AND o.epoch = q.epoch
		ORDER BY o.asked_at LIMIT 1;
		EXIT WHEN leader IS NOT NULL OR locked;
		-- Who had the lock may have committed since we looked: look again.
		locked := pg_try_advisory_xact_lock(question_lock);
		IF locked THEN
			spent := spent + 1;
		ELSIF clock_timestamp() > enough THEN
			spent := spent + 20;
			EXIT;
		ELSE
			PERFORM pg_sleep(0.005);
		END IF;
	END LOOP;
	IF spent > 0 THEN
		PERFORM set_config('millrace_answers.locks', spent::text, true);
	END IF;
	RETURN leader;
END $$;
COMMENT ON FUNCTION @schema@.find_leader(@schema@.questions) IS
	'the same question on its way: of the same tenant, reference and options, asked under the same settings; NULL: there is none';

CREATE OR REPLACE FUNCTION @schema@.pass_on(leaders uuid[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	which uuid;
	q @schema@.questions;
BEGIN
	FOREACH which IN ARRAY leaders LOOP
		FOR q IN SELECT o.* FROM @schema@.questions o WHERE o.leader = which AND o.finished_at IS NULL AND o.task_id IS NULL ORDER BY o.asked_at FOR UPDATE LOOP
			PERFORM @schema@.ask_alone(q);
			EXIT;
		END LOOP;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.pass_on(uuid[]) IS 'of groups that have lost who asked for them the oldest asks';

CREATE OR REPLACE FUNCTION @schema@.ask_alone(q @schema@.questions) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ UPDATE @schema@.questions o SET task_id = @schema@.submit(q), answered_by = NULL, queued_at = clock_timestamp() WHERE o.question_id = q.question_id $$;
COMMENT ON FUNCTION @schema@.ask_alone(@schema@.questions) IS 'gives a question that waited for another a task of its own';

-- ended: as it is now.
CREATE OR REPLACE FUNCTION @schema@.end_group(ended @schema@.questions) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	which CONSTANT uuid := COALESCE(ended.leader, ended.question_id);
BEGIN
	PERFORM @schema@.lock_group(which);
	IF ended.status = 'validated' THEN
		-- What is no answer to it any more, since settings or history have changed meanwhile: see guard_question.
		UPDATE @schema@.questions o SET status = 'validated', response_id = r.response_id, last_response_id = r.response_id, regeneration = ended.regeneration
		FROM @schema@.usable_responses r
		WHERE r.response_id = ended.response_id AND o.leader = which AND o.finished_at IS NULL AND o.task_id IS NULL
			AND (o.reference IS NULL OR r.reference = o.reference);
		PERFORM @schema@.pass_on(ARRAY[which]);
	ELSE
		UPDATE @schema@.questions o SET status = ended.status, last_response_id = ended.last_response_id, regeneration = ended.regeneration, reason = ended.reason
		WHERE o.leader = which AND o.finished_at IS NULL AND o.task_id IS NULL;
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.end_group(@schema@.questions) IS 'a question has come to its end, validated or of low quality: so have those that waited for it';

CREATE OR REPLACE FUNCTION @schema@.lock_group(leader uuid, shared boolean DEFAULT false) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	key CONSTANT bigint := @schema@.group_lock(leader);
	enough CONSTANT timestamptz := clock_timestamp() + interval '3 s';
BEGIN
	WHILE NOT CASE WHEN shared THEN pg_try_advisory_xact_lock_shared(key) ELSE pg_try_advisory_xact_lock(key) END LOOP
		IF clock_timestamp() > enough THEN
			RETURN false;
		END IF;
		PERFORM pg_sleep(0.002);
	END LOOP;
	RETURN true;
END $$;
COMMENT ON FUNCTION @schema@.lock_group(uuid, boolean) IS 'takes the lock of a group; false: not to be had in time';

CREATE OR REPLACE FUNCTION @schema@.still_asked() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	q @schema@.questions;
	response bigint;
BEGIN
	IF @schema@.lock_group(NEW.leader, true) AND @schema@.asking(NEW.leader) IS NOT NULL THEN
		RETURN NULL;
	END IF;
	SELECT * INTO q FROM @schema@.questions o WHERE o.question_id = NEW.question_id AND o.finished_at IS NULL AND o.task_id IS NULL FOR UPDATE;
	IF FOUND THEN
		response := @schema@.stored_answer(q.tenant, q.question, q.reference);
		IF response IS NULL THEN
			PERFORM @schema@.ask_alone(q);
		ELSE
			UPDATE @schema@.questions o SET status = 'validated', response_id = response, last_response_id = response WHERE o.question_id = q.question_id;
		END IF;
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.still_asked() IS 'trigger of questions at the commit of one that waits for another: that one may have ended meanwhile';
REVOKE EXECUTE ON FUNCTION @schema@.group_lock(uuid), @schema@.asking(uuid), @schema@.find_leader(@schema@.questions), @schema@.pass_on(uuid[]),
	@schema@.ask_alone(@schema@.questions), @schema@.end_group(@schema@.questions), @schema@.lock_group(uuid, boolean), @schema@.still_asked() FROM PUBLIC;
DROP TRIGGER IF EXISTS still_asked ON @schema@.questions;
CREATE CONSTRAINT TRIGGER still_asked AFTER INSERT ON @schema@.questions DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW WHEN (NEW.leader IS NOT NULL) EXECUTE FUNCTION @schema@.still_asked();
