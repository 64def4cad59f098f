-- Pipeline "answers", scores: how good an answer is, what is wrong with it, and who may be seen.
--
-- Run behind answers_history.sql, and again by upgrade_pipeline().
--
-- The gate.  responses.validated is generated from score and gate, so it cannot be written.  score, gate and reference are
-- written by trigger judge_response alone: whoever inserts or updates a row gets what the judge says about this answer and the
-- reference that the question, or the history, has.  Question and answer of a row never change.  questions.response_id is
-- taken from the lookup at INSERT, and UPDATE takes only a validated answer of the same question (guard_question in
-- answers_work.sql).  View published asks for all of it again, and for the gate as it is now.

CREATE OR REPLACE FUNCTION @schema@.judge(answer text, reference text) RETURNS real
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	s @schema@.settings;
	score real;
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	IF s.judge = 'calibrated' THEN
		IF s.encoder = '' THEN
			RAISE invalid_parameter_value USING MESSAGE = 'judge "calibrated" needs an encoder', HINT = 'Choose judge token_f1, rouge_l or a function of your own, or an encoder.';
		END IF;
		score := millrace.calibrated_score(answer, reference, s.encoder);
	ELSIF s.judge = 'rouge_l' THEN
		score := @extschema@.rouge_l(answer, reference);
	ELSIF s.judge = 'token_f1' THEN
		score := @extschema@.token_f1(answer, reference);
	ELSIF s.judge = 'token_recall' THEN
		score := @extschema@.token_recall(answer, reference);
	ELSIF to_regprocedure(s.judge || '(text, text)') IS NULL THEN
		RAISE undefined_function USING MESSAGE = format('judge "%s" does not exist', s.judge),
			HINT = 'It is calibrated, rouge_l, token_f1, token_recall, or a function(text, text) with its schema.';
	ELSE
		EXECUTE format('SELECT %s($1, $2)::real', to_regprocedure(s.judge || '(text, text)')::oid::regproc) INTO score USING answer, reference;
	END IF;
	RETURN CASE WHEN score = 'NaN' THEN 0 ELSE LEAST(GREATEST(score, 0), 1) END;
END $$;
COMMENT ON FUNCTION @schema@.judge(text, text) IS 'score of an answer against a reference, 0 to 1, by the judge of the settings';
REVOKE EXECUTE ON FUNCTION @schema@.judge(text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.feedback(answer text, reference text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	language CONSTANT regconfig := (SELECT s.language::regconfig FROM @schema@.settings s);
	answer_words CONSTANT text[] := tsvector_to_array(to_tsvector(language, answer));
	reference_words CONSTANT int := array_length(regexp_split_to_array(btrim(reference), '\s+'), 1);
	n CONSTANT int := COALESCE(array_length(regexp_split_to_array(NULLIF(btrim(answer), ''), '\s+'), 1), 0);
	missing text;
	foreign_numbers text;
	opposite CONSTANT boolean := COALESCE(starts_with(millrace.meaning_conflict(answer, reference), 'negation'), false);
	refusal CONSTANT text := (SELECT t.refusal FROM millrace.text_stats(answer) t);
	complaints text[] := '{}';
BEGIN
	IF n = 0 THEN
		RETURN 'You gave no answer. Answer the question.';
	END IF;
	IF refusal IS NOT NULL THEN
		complaints := complaints || format('It refuses to answer ("%s").', refusal);
	END IF;
	SELECT string_agg(w.word, ', ' ORDER BY w.n) INTO missing
	FROM (SELECT u.word, min(u.n) AS n FROM regexp_split_to_table(lower(reference), '[^[:alnum:]]+') WITH ORDINALITY u(word, n)
		  WHERE u.word <> '' AND cardinality(tsvector_to_array(to_tsvector(language, u.word))) > 0
			AND NOT tsvector_to_array(to_tsvector(language, u.word)) <@ answer_words
		  GROUP BY u.word ORDER BY min(u.n) LIMIT 8) w;
	IF missing IS NOT NULL THEN
		complaints := complaints || format('It does not mention: %s.', missing);
	END IF;
	SELECT string_agg(u.number, ', ') INTO foreign_numbers
	FROM (SELECT DISTINCT (regexp_matches(answer, '\d+(?:[.,]\d+)*', 'g'))[1] AS number
		  EXCEPT SELECT (regexp_matches(reference, '\d+(?:[.,]\d+)*', 'g'))[1]) u WHERE reference ~ '\d';
	IF foreign_numbers IS NOT NULL THEN
		complaints := complaints || format('These numbers are wrong or do not belong there: %s.', foreign_numbers);
	END IF;
	IF opposite AND refusal IS NULL THEN
		complaints := complaints || 'It seems to say the opposite: look at its negations.'::text;
	END IF;
	IF 2 * n < reference_words THEN
		complaints := complaints || format('It is too short: %s words where about %s are needed.', n, reference_words);
	ELSIF n > 20 AND n > 4 * reference_words THEN
		complaints := complaints || format('It is too long: %s words where about %s are enough.', n, reference_words);
	END IF;
	IF cardinality(complaints) = 0 THEN
		complaints := ARRAY['It is not precise enough.'];
	END IF;
	RETURN format('Your answer was not good enough. %s Answer the question again, completely and correctly.', array_to_string(complaints, ' '));
END $$;
COMMENT ON FUNCTION @schema@.feedback(text, text) IS
	'what is wrong with an answer, in words for a language model: refusal, words of the reference it lacks, numbers and contradictions, length';
REVOKE EXECUTE ON FUNCTION @schema@.feedback(text, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.judge_response() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	s @schema@.settings;
	q record;
	truth record;
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	IF TG_OP = 'INSERT' THEN
		NEW.epoch := s.epoch;
	ELSIF (NEW.response_id, NEW.question_id, NEW.tenant, NEW.question, NEW.round, NEW.regeneration, NEW.origin, NEW.answer, NEW.epoch) IS DISTINCT FROM
		  (OLD.response_id, OLD.question_id, OLD.tenant, OLD.question, OLD.round, OLD.regeneration, OLD.origin, OLD.answer, OLD.epoch) THEN
		RAISE check_violation USING MESSAGE = format('answer %s cannot be changed', OLD.response_id), DETAIL = 'Its score is that of these words.',
			HINT = 'Set scored_at to have it scored again.';
	ELSIF (NEW.scored_at, NEW.score, NEW.gate, NEW.judge, NEW.reference, NEW.reference_source, NEW.history_id, NEW.feedback) IS NOT DISTINCT FROM
		  (OLD.scored_at, OLD.score, OLD.gate, OLD.judge, OLD.reference, OLD.reference_source, OLD.history_id, OLD.feedback) THEN
		RETURN NEW;
	END IF;

	-- The lookup stores an answer of the history before its question is there: the foreign key waits for the commit.
	SELECT o.question, o.tenant, o.reference INTO q FROM @schema@.questions o WHERE o.question_id = NEW.question_id;
	IF FOUND THEN
		NEW.question := q.question;
		NEW.tenant := q.tenant;
	END IF;
	NEW.score := NULL;
	NEW.gate := NULL;
	NEW.judge := NULL;
	NEW.reference := NULL;
	NEW.reference_source := NULL;
	NEW.feedback := NULL;
	IF NEW.scored_at IS NULL AND NEW.origin = 'generated' THEN
		NEW.history_id := NULL;
		RETURN NEW;
	END IF;
	NEW.scored_at := clock_timestamp();
	NEW.judge := s.judge;
	NEW.gate := s.gate;

	IF NEW.origin = 'history' THEN
		SELECT n.* INTO truth FROM @schema@.nearest_stored(NEW.question, NEW.tenant, s.stored_similarity, 4, true) n WHERE n.history_id = NEW.history_id AND n.answer = NEW.answer;
		IF NOT FOUND THEN
			RAISE check_violation USING MESSAGE = 'the history has no such answer to this question';
		END IF;
		IF 'given' = ANY (s."references") AND q.reference IS NOT NULL THEN
			truth.truth := q.reference;
			NEW.reference_source := 'given';
		END IF;
	ELSIF 'given' = ANY (s."references") AND q.reference IS NOT NULL THEN
		SELECT NULL::bigint AS history_id, q.reference AS truth, NULL::real AS score INTO truth;
		NEW.reference_source := 'given';
	ELSIF 'stored' = ANY (s."references") THEN
		SELECT n.* INTO truth FROM @schema@.nearest_stored(NEW.question, NEW.tenant, s.reference_similarity, 1) n;
	ELSE
		SELECT NULL::bigint AS history_id, NULL::text AS truth INTO truth;
	END IF;
	NEW.history_id := truth.history_id;
	NEW.reference := truth.truth;
	IF truth.truth IS NOT NULL THEN
		NEW.reference_source := COALESCE(NEW.reference_source, 'stored');
		NEW.score := CASE WHEN NEW.answer = truth.truth THEN 1 ELSE @schema@.judge(NEW.answer, truth.truth) END;
		IF NEW.origin = 'history' THEN
			NEW.score := LEAST(NEW.score, COALESCE(truth.score, 1));
		END IF;
		IF NOT NEW.score > s.gate THEN
			NEW.feedback := @schema@.feedback(NEW.answer, truth.truth);
		END IF;
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION @schema@.judge_response() IS 'trigger of responses: finds reference and score, whatever was written';
REVOKE EXECUTE ON FUNCTION @schema@.judge_response() FROM PUBLIC;
CREATE OR REPLACE TRIGGER judge_response BEFORE INSERT OR UPDATE ON @schema@.responses FOR EACH ROW EXECUTE FUNCTION @schema@.judge_response();
ALTER TABLE @schema@.responses ENABLE ALWAYS TRIGGER judge_response;

CREATE OR REPLACE FUNCTION @schema@.note_score() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		INSERT INTO @schema@.score_history (question_id, response_id, tenant, round, regeneration, score, gate, judge, reference_source, validated, feedback, scored_at)
		VALUES (NEW.question_id, NEW.response_id, NEW.tenant, NEW.round, NEW.regeneration, NEW.score, NEW.gate, NEW.judge, NEW.reference_source, NEW.validated, NEW.feedback, NEW.scored_at);
		RETURN NULL;
	END $$;
COMMENT ON FUNCTION @schema@.note_score() IS 'trigger of responses: each score is a row of score_history';
REVOKE EXECUTE ON FUNCTION @schema@.note_score() FROM PUBLIC;
CREATE OR REPLACE TRIGGER note_score_inserted AFTER INSERT ON @schema@.responses FOR EACH ROW
	WHEN (NEW.scored_at IS NOT NULL) EXECUTE FUNCTION @schema@.note_score();
CREATE OR REPLACE TRIGGER note_score_updated AFTER UPDATE ON @schema@.responses FOR EACH ROW
	WHEN (NEW.scored_at IS DISTINCT FROM OLD.scored_at AND NEW.scored_at IS NOT NULL) EXECUTE FUNCTION @schema@.note_score();

-- Answers that may be given out again: good enough by today's settings, and scored against what the history still says.
CREATE OR REPLACE VIEW @schema@.usable_responses AS
	SELECT r.* FROM @schema@.responses r JOIN @schema@.settings s ON r.score > s.gate AND r.epoch = s.epoch
	WHERE r.validated AND (r.history_id IS NULL OR EXISTS (
		SELECT FROM @schema@.history h WHERE h.history_id = r.history_id AND COALESCE(h.reference, h.answer) = r.reference));
COMMENT ON VIEW @schema@.usable_responses IS 'validated answers that a question may be answered with again';

CREATE OR REPLACE VIEW @schema@.published AS
	SELECT q.question_id, q.tenant, q.question, r.answer, r.score, r.gate, q.answered_by, r.question AS answered_question, r.reference_source,
		   q.regeneration, r.provider, r.model, q.asked_at, q.finished_at
	FROM @schema@.questions q
	JOIN @schema@.responses r ON r.response_id = q.response_id AND r.tenant = q.tenant AND r.validated
	JOIN @schema@.settings s ON r.score > s.gate
	WHERE q.status = 'validated'
	  AND (q.reference IS NULL OR r.reference = q.reference OR (r.question_id = q.question_id AND NOT 'given' = ANY (s."references")));
COMMENT ON VIEW @schema@.published IS 'questions with their validated answers: what others may see';

CREATE OR REPLACE FUNCTION @schema@.gate_report(query text DEFAULT NULL, gates real[] DEFAULT NULL)
	RETURNS TABLE (gate real, examples bigint, correct bigint, accepted bigint, false_accepts bigint, false_rejects bigint,
		false_accept_percent numeric, false_reject_percent numeric)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		WITH scored AS MATERIALIZED (SELECT j.correct, @schema@.judge(j.answer, j.reference) AS score FROM (%s) j WHERE j.correct IS NOT NULL)
		SELECT g.gate, count(*), count(*) FILTER (WHERE s.correct), count(*) FILTER (WHERE s.score > g.gate),
			   count(*) FILTER (WHERE NOT s.correct AND s.score > g.gate), count(*) FILTER (WHERE s.correct AND NOT s.score > g.gate),
			   round(100.0 * count(*) FILTER (WHERE NOT s.correct AND s.score > g.gate) / NULLIF(count(*) FILTER (WHERE NOT s.correct), 0), 1),
			   round(100.0 * count(*) FILTER (WHERE s.correct AND NOT s.score > g.gate) / NULLIF(count(*) FILTER (WHERE s.correct), 0), 1)
		FROM scored s, unnest($1) g(gate) GROUP BY g.gate ORDER BY g.gate $q$,
		COALESCE(query, 'SELECT answer, reference, correct FROM @schema@.judged_answers'))
	USING COALESCE(gates, (SELECT ARRAY[s.gate] FROM @schema@.settings s));
END $$;
COMMENT ON FUNCTION @schema@.gate_report(text, real[]) IS
	'false accepts and false rejects of the gate, or of several, on judged answers: judged_answers, or a query of (answer, reference, correct); percent of the wrong and of the right ones';
REVOKE EXECUTE ON FUNCTION @schema@.gate_report(text, real[]) FROM PUBLIC;
