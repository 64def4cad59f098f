-- Pipeline "answers", history: answers that are known already; what others are scored against, and what provider `local` says.
--
-- Run behind answers.sql, and again by upgrade_pipeline().

CREATE OR REPLACE FUNCTION @schema@.nearest_stored(question text, tenant text, at_least real, at_most int, as_answer boolean DEFAULT false, loose boolean DEFAULT false)
	RETURNS TABLE (history_id bigint, stored text, answer text, truth text, score real, similarity real)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	s @schema@.settings;
	key CONSTANT uuid := millrace.question_key($1);
	v real[];
	found_exact int;
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	RETURN QUERY SELECT h.history_id, h.question, h.answer, COALESCE(h.reference, h.answer), h.score, 1::real
		FROM @schema@.history h
		WHERE h.question_key = key AND h.tenant = ANY (ARRAY[$2, s.shared_tenant])
			AND (h.score IS NULL OR h.score > s.gate OR (h.reference IS NOT NULL AND NOT $5))
		ORDER BY COALESCE(h.score, 1) DESC, h.history_id DESC LIMIT $4;
	GET DIAGNOSTICS found_exact = ROW_COUNT;
	-- To be given out, an answer to the same question is enough; provider local (loose) may have given that already.
	IF found_exact >= $4 OR s.encoder = '' OR (found_exact > 0 AND $5 AND NOT $6) THEN
		RETURN;
	END IF;
	v := @extschema@.embed($1, s.encoder);
	RETURN QUERY SELECT n.history_id, n.question, n.answer, COALESCE(n.reference, n.answer), n.score, (1 - n.distance)::real
		FROM (SELECT h.*, h.embedding OPERATOR(millrace.<=>) v AS distance FROM @schema@.history h
			  WHERE h.tenant = ANY (ARRAY[$2, s.shared_tenant]) AND h.question_key <> key
				AND (h.score IS NULL OR h.score > s.gate OR (h.reference IS NOT NULL AND NOT $5))
			  ORDER BY h.embedding OPERATOR(millrace.<=>) v LIMIT 4 * $4) n, LATERAL (SELECT millrace.meaning_conflict($1, n.question) AS it) conflict_of
		WHERE 1 - n.distance >= $3 AND (conflict_of.it IS NULL OR ($6 AND starts_with(conflict_of.it, 'word:')))
		ORDER BY n.distance, COALESCE(n.score, 1) DESC LIMIT $4 - found_exact;
END $$;
COMMENT ON FUNCTION @schema@.nearest_stored(text, text, real, int, boolean, boolean) IS
	'stored answers to a question and to similar ones of no opposite meaning, best first; truth: its reference, else the answer; as_answer: only those that may be given out; loose: the questions may differ in words, if not in numbers, names, negations';
REVOKE EXECUTE ON FUNCTION @schema@.nearest_stored(text, text, real, int, boolean, boolean) FROM PUBLIC;

-- Embeddings of rows that came without, in one go; and the cache may hold answers that these rows contradict.
CREATE OR REPLACE FUNCTION @schema@.history_changed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	s @schema@.settings;
	ids bigint[];
	texts text[];
	touched text[];
BEGIN
	SELECT * INTO s FROM @schema@.settings;
	IF TG_OP = 'INSERT' THEN
		SELECT array_agg(n.history_id ORDER BY n.history_id), array_agg(n.question ORDER BY n.history_id) INTO ids, texts FROM new_rows n WHERE n.embedding IS NULL;
		SELECT array_agg(DISTINCT n.tenant) INTO touched FROM new_rows n;
	ELSIF TG_OP = 'UPDATE' THEN
		SELECT array_agg(n.history_id ORDER BY n.history_id), array_agg(n.question ORDER BY n.history_id) INTO ids, texts
		FROM new_rows n JOIN old_rows o ON o.history_id = n.history_id
		WHERE n.question <> o.question OR (n.embedding IS NULL AND o.embedding IS NOT NULL);
		SELECT array_agg(DISTINCT c.tenant) INTO touched
		FROM (SELECT n.tenant, n.history_id, n.question, n.answer, n.reference, n.score FROM new_rows n
			  EXCEPT SELECT o.tenant, o.history_id, o.question, o.answer, o.reference, o.score FROM old_rows o) c;
		SELECT touched || array_agg(DISTINCT o.tenant) INTO touched FROM new_rows n JOIN old_rows o ON o.history_id = n.history_id WHERE n.tenant <> o.tenant;
	ELSIF TG_OP = 'DELETE' THEN
		SELECT array_agg(DISTINCT o.tenant) INTO touched FROM old_rows o;
	ELSE
		touched := ARRAY[s.shared_tenant, ''];
	END IF;
	IF ids IS NOT NULL AND s.encoder IS DISTINCT FROM '' THEN
		UPDATE @schema@.history h SET embedding = e.embedding
		FROM @extschema@.embed(texts, s.encoder) WITH ORDINALITY e(embedding, n) WHERE h.history_id = ids[e.n];
	END IF;
	IF s.cache AND touched IS NOT NULL THEN
		IF TG_OP = 'TRUNCATE' OR s.shared_tenant = ANY (touched) THEN
			PERFORM millrace.cache_clear(@schema_literal@);
		ELSE
			PERFORM millrace.cache_clear(@schema_literal@, t) FROM unnest(touched) t;
		END IF;
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.history_changed() IS 'trigger of history: embeds new questions and empties the cache of their tenants';
REVOKE EXECUTE ON FUNCTION @schema@.history_changed() FROM PUBLIC;
CREATE OR REPLACE TRIGGER history_inserted AFTER INSERT ON @schema@.history
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.history_changed();
CREATE OR REPLACE TRIGGER history_updated AFTER UPDATE ON @schema@.history
	REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.history_changed();
CREATE OR REPLACE TRIGGER history_deleted AFTER DELETE ON @schema@.history
	REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.history_changed();
CREATE OR REPLACE TRIGGER history_truncated AFTER TRUNCATE ON @schema@.history
	FOR EACH STATEMENT EXECUTE FUNCTION @schema@.history_changed();

CREATE OR REPLACE FUNCTION @schema@.import_history(records jsonb, tenant text DEFAULT '') RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	bad bigint;
	stored bigint;
BEGIN
	IF records IS NULL OR jsonb_typeof(records) <> 'array' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'records of a history must be a JSON array',
			HINT = 'For example [{"question": "…", "answer": "…", "reference": "…", "score": 0.9}]; reference and score may be missing.';
	END IF;
	SELECT min(r.n) INTO bad FROM jsonb_array_elements(records) WITH ORDINALITY r(value, n)
	WHERE jsonb_typeof(r.value) <> 'object' OR NOT COALESCE(r.value ->> 'question', '') ~ '\S' OR NOT COALESCE(r.value ->> 'answer', r.value ->> 'reference', '') ~ '\S';
	IF bad IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('record %s of the history has no question or no answer', bad);
	END IF;
	-- One row for equal ones; those that are there already keep their embeddings.
	INSERT INTO @schema@.history AS h (tenant, question, answer, reference, score)
	SELECT DISTINCT ON (millrace.question_key(r.question), COALESCE(r.answer, r.reference))
		import_history.tenant, r.question, COALESCE(r.answer, r.reference), r.reference, r.score
	FROM ROWS FROM (jsonb_to_recordset(records) AS (question text, answer text, reference text, score real)) WITH ORDINALITY r(question, answer, reference, score, n)
	ORDER BY millrace.question_key(r.question), COALESCE(r.answer, r.reference), r.n DESC
	ON CONFLICT ON CONSTRAINT history_tenant_question_key_answer_key_key DO UPDATE
	SET reference = COALESCE(EXCLUDED.reference, h.reference), score = COALESCE(EXCLUDED.score, h.score), imported_at = EXCLUDED.imported_at
	WHERE (COALESCE(EXCLUDED.reference, h.reference), COALESCE(EXCLUDED.score, h.score)) IS DISTINCT FROM (h.reference, h.score);
	GET DIAGNOSTICS stored = ROW_COUNT;
	RETURN stored;
END $$;
COMMENT ON FUNCTION @schema@.import_history(jsonb, text) IS
	'stores answers, [{"question", "answer", "reference", "score"}, …], in one statement; an answer that is there already gets the new reference and score; returns how many are new or changed';

CREATE OR REPLACE FUNCTION @schema@.import_history(query text, tenant text DEFAULT '') RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	records jsonb;
BEGIN
	IF query ~ '^\s*[[{]' THEN
		RETURN @schema@.import_history(query::jsonb, tenant);
	END IF;
	EXECUTE format('SELECT COALESCE(jsonb_agg(to_jsonb(q)), ''[]'') FROM (%s) q', query) INTO records;
	RETURN @schema@.import_history(records, tenant);
END $$;
COMMENT ON FUNCTION @schema@.import_history(text, text) IS
	'the same of the rows of a query, with columns question, answer, and reference and score if there are; names in it need their schema';
REVOKE EXECUTE ON FUNCTION @schema@.import_history(jsonb, text), @schema@.import_history(text, text) FROM PUBLIC;

-- A guess by its nature, hence loose: what it is worth its score says.  CREATE SERVER here FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function '<schema>.local_answer').
CREATE OR REPLACE FUNCTION @schema@.local_answer(request jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	began CONSTANT timestamptz := clock_timestamp();
	messages CONSTANT jsonb := COALESCE(request -> 'messages', '[]');
	asked CONSTANT text := COALESCE((SELECT m ->> 'content' FROM jsonb_array_elements(messages) m WHERE m ->> 'role' = 'user' LIMIT 1), request ->> 'prompt');
	-- Each answer that was not good enough is in the messages: the next best is due.
	given CONSTANT text[] := ARRAY(SELECT m ->> 'content' FROM jsonb_array_elements(messages) m WHERE m ->> 'role' = 'assistant');
	best record;
BEGIN
	SELECT n.answer, n.similarity INTO best
	FROM @schema@.nearest_stored(asked, COALESCE(request ->> 'tenant', ''), 0.5, 1 + cardinality(given), true, true) n
	WHERE n.answer <> ALL (given) ORDER BY n.similarity DESC, COALESCE(n.score, 1) DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE no_data_found USING MESSAGE = 'no stored answer is near enough';
	END IF;
	RETURN jsonb_build_object('text', best.answer, 'provider', 'local', 'model', 'history', 'tokens_in', 0, 'tokens_out', 0, 'cost', 0,
		'latency_ms', round(1000 * extract(epoch FROM clock_timestamp() - began), 3), 'finish', 'stop', 'similarity', best.similarity);
END $$;
COMMENT ON FUNCTION @schema@.local_answer(jsonb) IS
	'option function of a server with api local: the best stored answer by similarity of the questions, in place of a language model';
REVOKE EXECUTE ON FUNCTION @schema@.local_answer(jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.sample_questions() RETURNS TABLE (question text, answer text)
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$ VALUES
	('What is the capital of Chile?', 'The capital of Chile is Santiago.'),
	('Who wrote the novel Don Quixote?', 'Don Quixote was written by Miguel de Cervantes.'),
	('At what temperature does water boil at sea level?', 'At sea level water boils at 100 degrees Celsius.'),
	('Which planet of the solar system is the largest?', 'Jupiter is the largest planet of the solar system.'),
	('What does photosynthesis produce?', 'Photosynthesis turns carbon dioxide and water into sugar and oxygen, with the energy of light.'),
	('How many bones does an adult human have?', 'An adult human has 206 bones.'),
	('What is the speed of light in a vacuum?', 'In a vacuum light travels about 299,792 kilometres per second.'),
	('Who painted the ceiling of the Sistine Chapel?', 'Michelangelo painted the ceiling of the Sistine Chapel.'),
	('In which year did the Berlin Wall fall?', 'The Berlin Wall fell in 1989.'),
	('What is the chemical symbol of gold?', 'The chemical symbol of gold is Au.'),
	('Which organ pumps blood through the body?', 'The heart pumps blood through the body.'),
	('Why is the sky blue?', 'Air scatters the short waves of blue light more than the long waves of red light.'),
	('What is the longest river of South America?', 'The Amazon is the longest river of South America.'),
	('Who developed the theory of general relativity?', 'Albert Einstein developed the theory of general relativity.'),
	('What is a prime number?', 'A prime number is a natural number greater than 1 that only 1 and itself divide.'),
	('Which gas do plants take from the air?', 'Plants take carbon dioxide from the air.'),
	('How long does the Earth take to orbit the Sun?', 'The Earth takes about 365 days to orbit the Sun.'),
	('What is the largest ocean?', 'The Pacific is the largest ocean.'),
	('What does DNA stand for?', 'DNA stands for deoxyribonucleic acid.'),
	('Who was the first human to walk on the Moon?', 'Neil Armstrong was the first human to walk on the Moon, in 1969.') $$;
COMMENT ON FUNCTION @schema@.sample_questions() IS 'questions and their answers, to begin with: import_history(''SELECT * FROM answers.sample_questions()'')';
REVOKE EXECUTE ON FUNCTION @schema@.sample_questions() FROM PUBLIC;
