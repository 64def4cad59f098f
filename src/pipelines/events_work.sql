-- Pipeline "events", work: what tasks of kind "<schema>.work" do in the database, and what becomes of the answers of providers.
--
-- Run behind events.sql, and again by upgrade_pipeline().  All of it runs as the pipeline's owner, in the process of the
-- sql lane: a task's results and its end are one transaction.

-- Short texts without function words have no guess, and count as English.
CREATE OR REPLACE FUNCTION @schema@.is_foreign(language text, confidence real, words bigint) RETURNS boolean
	LANGUAGE sql IMMUTABLE
	RETURN COALESCE(language <> 'en' AND confidence >= 0.37 AND words >= 4, false);
COMMENT ON FUNCTION @schema@.is_foreign(text, real, bigint) IS
	'is a text surely not English?  By language, its confidence and the number of words, see millrace.text_stats()';

CREATE OR REPLACE FUNCTION @schema@.stop_words(language text) RETURNS regdictionary
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT COALESCE((SELECT d.oid::regdictionary FROM pg_ts_dict d WHERE d.dictnamespace = 'pg_catalog'::regnamespace
				AND d.dictname = format('%s_stem', CASE language WHEN 'es' THEN 'spanish' WHEN 'ca' THEN 'spanish' WHEN 'fr' THEN 'french' WHEN 'de' THEN 'german'
					WHEN 'it' THEN 'italian' WHEN 'pt' THEN 'portuguese' WHEN 'nl' THEN 'dutch' WHEN 'sv' THEN 'swedish' WHEN 'da' THEN 'danish'
					WHEN 'nb' THEN 'norwegian' WHEN 'fi' THEN 'finnish' WHEN 'hu' THEN 'hungarian' WHEN 'ru' THEN 'russian' WHEN 'tr' THEN 'turkish' END)),
			'english_stem'::regdictionary)
	$$;
COMMENT ON FUNCTION @schema@.stop_words(text) IS 'the dictionary of text search that knows a language''s stop words; English where there is none';

-- RAKE (Rose et al., 2010): runs of words between stop words and punctuation; a word weighs the lengths of its runs divided by their
-- number, a run the sum of its words.  Runs of more than three words are cut.
CREATE OR REPLACE FUNCTION @schema@.keywords_of(ids bigint[], texts text[], languages text[]) RETURNS TABLE (event_id bigint, result jsonb)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
		WITH dictionary AS MATERIALIZED (
			SELECT l.language, @schema@.stop_words(l.language) AS stop FROM (SELECT DISTINCT u.language FROM unnest(languages) u(language)) l
		), token AS (
			SELECT t.id, p.n, lower(p.token) AS word,
				p.type IN (1, 2, 3, 15, 16, 17) AND ts_lexize(d.stop, lower(p.token)) IS DISTINCT FROM '{}' AS is_word,
				-- parts of hyphenated words, and what stands between them and between words
				p.type IN (9, 10, 11) OR p.type = 12 AND p.token ~ '^[\s-]*$' AS is_nothing
			FROM unnest(ids, texts, languages) t(id, text, language)
			JOIN dictionary d ON d.language IS NOT DISTINCT FROM t.language,
				LATERAL ts_parse('default', t.text) WITH ORDINALITY p(type, token, n)
		), run AS (
			SELECT t.id, t.n, t.word, t.is_word, count(*) FILTER (WHERE NOT t.is_word) OVER (PARTITION BY t.id ORDER BY t.n) AS run
			FROM token t WHERE NOT t.is_nothing
		), word AS (
			SELECT r.*, (row_number() OVER (PARTITION BY r.id, r.run ORDER BY r.n) - 1) / 3 AS part FROM run r WHERE r.is_word
		), weighed AS (
			SELECT w.*, avg(w.words) OVER (PARTITION BY w.id, w.word) AS weight
			FROM (SELECT w.*, count(*) OVER (PARTITION BY w.id, w.run, w.part) AS words FROM word w) w
		), phrase AS (
			SELECT w.id, string_agg(w.word, ' ' ORDER BY w.n) AS phrase, sum(w.weight) AS score, min(w.n) AS first
			FROM weighed w GROUP BY w.id, w.run, w.part
		), best AS (
			SELECT p.id, p.phrase, round(max(p.score), 2) AS score, row_number() OVER (PARTITION BY p.id ORDER BY max(p.score) DESC, min(p.first)) AS rank
			FROM phrase p WHERE length(p.phrase) > 1 GROUP BY p.id, p.phrase
		)
		SELECT i.id, jsonb_build_object('keywords', COALESCE(jsonb_agg(b.phrase ORDER BY b.rank) FILTER (WHERE b.rank IS NOT NULL), '[]'),
			'scores', COALESCE(jsonb_agg(b.score ORDER BY b.rank) FILTER (WHERE b.rank IS NOT NULL), '[]'))
		FROM unnest(ids) i(id) LEFT JOIN best b ON b.id = i.id AND b.rank <= 5
		GROUP BY i.id
	$$;
COMMENT ON FUNCTION @schema@.keywords_of(bigint[], text[], text[]) IS 'the five best key phrases of each text';

-- The types that need no server, for a batch of events: texts are embedded once, all together.
CREATE OR REPLACE FUNCTION @schema@.compute(ids bigint[], types text[]) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	started timestamptz := clock_timestamp();
	by_provider boolean := @schema@.option('provider') IS NOT NULL;
	classifier_ref text := @schema@.option('classifier', '"sentiment"') #>> '{}';
	min_similarity real := @schema@.option('min_similarity', '0.15');
	encoder_ref text;
	outcome @schema@.results[];
	each_ms real;
	n bigint;
BEGIN
	IF types && '{sentiment_analysis,topic,embedding}' THEN
		encoder_ref := millrace.resolve_model(@schema@.option('encoder') #>> '{}', 'encoder');
	END IF;
	IF 'sentiment_analysis' = ANY (types) THEN
		classifier_ref := millrace.resolve_model(classifier_ref, 'classifier');
	END IF;
	IF 'topic' = ANY (types) THEN
		UPDATE @schema@.topics t SET embedding = @extschema@.embed(t.description, encoder_ref), encoder = encoder_ref
		WHERE t.encoder IS DISTINCT FROM encoder_ref OR t.embedding IS NULL;
	END IF;
	WITH event AS MATERIALIZED (
		SELECT e.event_id, e.text, s.language, @schema@.is_foreign(s.language, s.language_confidence, s.words) AS is_foreign
		FROM @schema@.events e, millrace.text_stats(e.text) s WHERE e.event_id = ANY (ids)
	), batch AS MATERIALIZED (
		SELECT array_agg(e.event_id ORDER BY e.event_id) AS ids, array_agg(e.text ORDER BY e.event_id) AS texts,
			array_agg(e.language ORDER BY e.event_id) AS languages
		FROM event e
	), vector AS MATERIALIZED (
		SELECT v.event_id, v.embedding FROM batch b, LATERAL ROWS FROM (unnest(b.ids), @extschema@.embed(b.texts, encoder_ref)) v(event_id, embedding)
	), result AS (
		SELECT e.event_id, 'sentiment_analysis' AS type, classifier_ref AS model,
			jsonb_build_object('label', c.label, 'confidence', round(c.confidence::numeric, 4), 'language', COALESCE(e.language, 'en')) AS result
		FROM event e JOIN vector v USING (event_id), LATERAL @extschema@.classify(v.embedding, classifier_ref) c
		WHERE 'sentiment_analysis' = ANY (types) AND NOT e.is_foreign
		UNION ALL
		SELECT e.event_id, 'sentiment_analysis', NULL, jsonb_build_object('label', 'unsupported_language', 'language', e.language)
		FROM event e WHERE 'sentiment_analysis' = ANY (types) AND e.is_foreign AND NOT by_provider
		UNION ALL
		SELECT v.event_id, 'topic', encoder_ref,
			jsonb_build_object('topic', CASE WHEN t.similarity >= min_similarity THEN t.topic ELSE 'other' END, 'similarity', round(t.similarity::numeric, 3), 'scores', t.scores)
		FROM vector v, LATERAL (
			SELECT (array_agg(s.topic ORDER BY s.similarity DESC))[1] AS topic, max(s.similarity) AS similarity, jsonb_object_agg(s.topic, round(s.similarity::numeric, 3)) AS scores
			FROM (SELECT p.topic, @extschema@.cosine_similarity(v.embedding, p.embedding) AS similarity FROM @schema@.topics p) s) t
		WHERE 'topic' = ANY (types)
		UNION ALL
		SELECT v.event_id, 'embedding', encoder_ref, jsonb_build_object('dimensions', cardinality(v.embedding)) FROM vector v WHERE 'embedding' = ANY (types)
		UNION ALL
		SELECT k.event_id, 'keywords', NULL, k.result FROM batch b, LATERAL @schema@.keywords_of(b.ids, b.texts, b.languages) k WHERE 'keywords' = ANY (types)
	), stored AS (
		INSERT INTO @schema@.embeddings AS o (event_id, embedding, model)
		SELECT v.event_id, v.embedding, encoder_ref FROM vector v WHERE 'embedding' = ANY (types)
		ON CONFLICT (event_id) DO UPDATE SET embedding = excluded.embedding, model = excluded.model
	)
	SELECT array_agg(ROW (r.event_id, r.type, r.result, 'local', r.model, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::@schema@.results) INTO outcome FROM result r;

	each_ms := 1000 * EXTRACT(epoch FROM clock_timestamp() - started) / cardinality(outcome);
	INSERT INTO @schema@.results AS o (event_id, type, result, origin, model, took_ms)
	SELECT r.event_id, r.type, r.result, r.origin, r.model, each_ms FROM unnest(outcome) r
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.compute(bigint[], text[]) IS 'does the types that need no server for a batch of events, in one pass; returns how many results were new';
REVOKE EXECUTE ON FUNCTION @schema@.compute(bigint[], text[]) FROM PUBLIC;

-- Errors of the surroundings are the lane's, which tries again; others are the event's own.
CREATE OR REPLACE FUNCTION @schema@.is_own_fault(sqlstate text) RETURNS boolean
	LANGUAGE sql IMMUTABLE
	RETURN left(sqlstate, 2) NOT IN ('40', '53', '55', '57', '58', 'XX');
COMMENT ON FUNCTION @schema@.is_own_fault(text) IS 'does an error say something about the event, or the model, rather than about the moment?';

CREATE OR REPLACE FUNCTION @schema@.fail(event_id bigint, type text, sqlstate text, message text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		INSERT INTO @schema@.failures (event_id, type, state, class, sqlstate, message, attempts) VALUES (event_id, type, 'failed', 'function', sqlstate, message, 1)
		ON CONFLICT ON CONSTRAINT failures_pkey DO UPDATE SET sqlstate = excluded.sqlstate, message = excluded.message, failed_at = excluded.failed_at
	$$;
COMMENT ON FUNCTION @schema@.fail(bigint, text, text, text) IS 'notes a failure';
REVOKE EXECUTE ON FUNCTION @schema@.fail(bigint, text, text, text) FROM PUBLIC;

-- One event that cannot be done must not cost the batch it came with: then each is done on its own.
CREATE OR REPLACE FUNCTION @schema@.compute_safely(ids bigint[], types text[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	message text;
	id bigint;
	one text;
BEGIN
	PERFORM @schema@.compute(ids, types);
EXCEPTION WHEN OTHERS THEN
	IF NOT @schema@.is_own_fault(SQLSTATE) THEN
		RAISE;
	END IF;
	IF cardinality(types) > 1 THEN
		FOREACH one IN ARRAY types LOOP
			PERFORM @schema@.compute_safely(ids, ARRAY[one]);
		END LOOP;
	ELSIF cardinality(ids) > 1 THEN
		FOREACH id IN ARRAY ids LOOP
			PERFORM @schema@.compute_safely(ARRAY[id], types);
		END LOOP;
	ELSE
		PERFORM @schema@.fail(ids[1], types[1], SQLSTATE, SQLERRM);
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.compute_safely(bigint[], text[]) IS 'compute(); what cannot be done becomes a row of failures';
REVOKE EXECUTE ON FUNCTION @schema@.compute_safely(bigint[], text[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.asked_of(t @schema@.types) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT COALESCE(t.options -> 'provider', @schema@.option('provider'), '""')::text $$;
COMMENT ON FUNCTION @schema@.asked_of(@schema@.types) IS 'argument model of the cache''s functions: which provider is asked';

-- A type that needs a provider: answered from the cache, or a task of its own.
CREATE OR REPLACE FUNCTION @schema@.ask(ids bigint[], type text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	t @schema@.types := (SELECT t FROM @schema@.types t WHERE t.type = ask.type);
	task_kind text := COALESCE(t.kind, @schema_literal@ || '.sentiment_analysis');
	common jsonb := jsonb_build_object('deliver', format('%I.%I', @schema_literal@, 'deliver'));
	e record;
	c record;
BEGIN
	IF EXISTS (SELECT FROM millrace.task_kinds k WHERE k.kind = task_kind AND k.base IN ('llm', 'embed')) THEN
		common := common || jsonb_strip_nulls(jsonb_build_object('provider', @schema@.option('provider')));
	END IF;
	FOR e IN SELECT v.event_id, v.text, v.metadata, v.tenant FROM @schema@.events v
		WHERE v.event_id = ANY (ids) AND NOT EXISTS (SELECT FROM @schema@.results r WHERE r.event_id = v.event_id AND r.type = ask.type)
		ORDER BY v.event_id
	LOOP
		BEGIN
			IF t.cached THEN
				SELECT * INTO c FROM millrace.cache_get(@schema_literal@, e.text, e.tenant, @schema@.asked_of(t), format('%s:%s', t.type, t.prompt_version)) g;
				IF c.hit IS NOT NULL THEN
					INSERT INTO @schema@.results (event_id, type, result, origin, model, hit, similarity, saved, took_ms)
					VALUES (e.event_id, t.type, c.answer -> 'result', 'cache', c.answer ->> 'model', c.hit, c.similarity, (c.answer ->> 'cost')::numeric, 0)
					ON CONFLICT DO NOTHING;
					CONTINUE;
				END IF;
			END IF;
			PERFORM millrace.submit_task(task_kind, jsonb_build_object('text', e.text),
				common || t.options || jsonb_build_object('tag', format('%s:%s', e.event_id, t.type), 'tenant', e.tenant));
		EXCEPTION WHEN OTHERS THEN
			IF NOT @schema@.is_own_fault(SQLSTATE) THEN
				RAISE;
			END IF;
			PERFORM @schema@.fail(e.event_id, t.type, SQLSTATE, SQLERRM);
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.ask(bigint[], text) IS 'answers a type from the cache where that has an answer, and submits a task where not';
REVOKE EXECUTE ON FUNCTION @schema@.ask(bigint[], text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.work(payload jsonb) RETURNS jsonb
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	ids bigint[] := ARRAY(SELECT e.value::bigint FROM jsonb_array_elements_text(payload -> 'events') e);
	types text[] := ARRAY(SELECT t.type FROM @schema@.types t WHERE payload -> 'types' ? t.type ORDER BY t.type);
	here text[] := ARRAY(SELECT t.type FROM @schema@.types t WHERE t.type = ANY (types) AND t.kind IS NULL ORDER BY t.type);
	one text;
BEGIN
	DELETE FROM @schema@.failures f WHERE f.event_id = ANY (ids) AND f.type = ANY (types);
	IF here <> '{}' THEN
		PERFORM @schema@.compute_safely(ids, here);
	END IF;
	FOREACH one IN ARRAY types LOOP
		IF one <> ALL (here) THEN
			PERFORM @schema@.ask(ids, one);
		ELSIF one = 'sentiment_analysis' AND @schema@.option('provider') IS NOT NULL THEN
			PERFORM @schema@.ask(ARRAY(SELECT e.event_id FROM @schema@.events e, millrace.text_stats(e.text) s
				WHERE e.event_id = ANY (ids) AND @schema@.is_foreign(s.language, s.language_confidence, s.words)), one);
		END IF;
	END LOOP;
	RETURN jsonb_build_object('events', cardinality(ids), 'types', cardinality(types));
END $$;
COMMENT ON FUNCTION @schema@.work(jsonb) IS 'function of kind "<schema>.work": {"events": [ids], "types": [types]}';
REVOKE EXECUTE ON FUNCTION @schema@.work(jsonb) FROM PUBLIC;

-- A batch that could not be done at all: of a batch that was done nothing is left to say.
CREATE OR REPLACE FUNCTION @schema@.deliver_work(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		INSERT INTO @schema@.failures (event_id, type, state, class, sqlstate, message, attempts, task)
		SELECT e.value::bigint, y.value, d.state, d.error ->> 'class', d.error ->> 'sqlstate', d.error ->> 'message', (d.error ->> 'attempts')::int, d.id
		FROM unnest(ids, states, errors) d(id, state, error) JOIN millrace.tasks t ON t.id = d.id AND t.id = ANY (ids),
			jsonb_array_elements_text(t.payload -> 'events') e, jsonb_array_elements_text(t.payload -> 'types') y
		WHERE d.state <> 'succeeded' AND NOT EXISTS (SELECT FROM @schema@.results r WHERE r.event_id = e.value::bigint AND r.type = y.value)
		ON CONFLICT DO NOTHING
	$$;
COMMENT ON FUNCTION @schema@.deliver_work(uuid[], text[], text[], jsonb[], jsonb[]) IS 'told how tasks of kind "<schema>.work" ended';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_work(uuid[], text[], text[], jsonb[], jsonb[]) FROM PUBLIC;

-- What a type's result is, of what its task came to: a model's text, its mood, or whatever another kind of tasks gives.
CREATE OR REPLACE FUNCTION @schema@.read_answer(type text, result jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT CASE
			WHEN type = 'sentiment_analysis' THEN jsonb_build_object('answer', result ->> 'text', 'label',
				CASE (result ->> 'text' ~* 'positiv')::int - (result ->> 'text' ~* 'negativ')::int WHEN 1 THEN 'positive' WHEN -1 THEN 'negative' ELSE 'unclear' END)
			WHEN result ? 'text' THEN jsonb_build_object('text', result -> 'text')
			ELSE result END
	$$;
COMMENT ON FUNCTION @schema@.read_answer(text, jsonb) IS 'a type''s result out of what its task came to';

CREATE OR REPLACE FUNCTION @schema@.deliver(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		WITH ended AS (
			SELECT d.id, split_part(d.tag, ':', 1)::bigint AS event_id, split_part(d.tag, ':', 2) AS type, d.state, d.result, d.error
			FROM unnest(ids, tags, states, results, errors) d(id, tag, state, result, error)
		), failed AS (
			INSERT INTO @schema@.failures (event_id, type, state, class, sqlstate, message, attempts, task)
			SELECT d.event_id, d.type, d.state, d.error ->> 'class', d.error ->> 'sqlstate', d.error ->> 'message', (d.error ->> 'attempts')::int, d.id
			FROM ended d WHERE d.state <> 'succeeded'
			ON CONFLICT DO NOTHING
		), found AS (
			INSERT INTO @schema@.results AS r (event_id, type, result, origin, model, cost, took_ms, task)
			SELECT d.event_id, d.type, @schema@.read_answer(d.type, d.result), 'provider', concat_ws(' ', d.result ->> 'provider', d.result ->> 'model'),
				(d.result ->> 'cost')::numeric, (d.result ->> 'latency_ms')::real, d.id
			FROM ended d WHERE d.state = 'succeeded'
			ON CONFLICT DO NOTHING
			RETURNING r.event_id, r.type, r.result, r.model, r.cost, r.took_ms
		)
		SELECT count(millrace.cache_put(@schema_literal@, e.text, jsonb_build_object('result', f.result, 'model', f.model, 'cost', f.cost, 'latency_ms', f.took_ms), e.tenant, @schema@.asked_of(t),
			format('%s:%s', t.type, t.prompt_version), @schema_literal@))
		FROM found f JOIN @schema@.types t ON t.type = f.type AND t.cached JOIN @schema@.events e ON e.event_id = f.event_id
	$$;
COMMENT ON FUNCTION @schema@.deliver(uuid[], text[], text[], jsonb[], jsonb[]) IS 'told how tasks of providers ended: results, which the cache keeps, or failures';
REVOKE EXECUTE ON FUNCTION @schema@.deliver(uuid[], text[], text[], jsonb[], jsonb[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.similar(content text, n int DEFAULT 10) RETURNS TABLE (event_id bigint, text text, similarity real)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT s.event_id, e.text, (1 - s.distance)::real
		FROM (SELECT m.event_id, m.embedding OPERATOR(millrace.<=>) q.embedding AS distance
			  FROM @schema@.embeddings m, (SELECT @extschema@.embed(content, @schema@.option('encoder') #>> '{}') AS embedding) q
			  ORDER BY 2 LIMIT n) s
		JOIN @schema@.events e USING (event_id) ORDER BY s.distance
	$$;
COMMENT ON FUNCTION @schema@.similar(text, int) IS 'the events whose texts mean most nearly the same, of those with results of type embedding';

-- Metric millrace_stage_seconds: each type is a stage, and "total" what passes from an event's arrival until a result of it.
CREATE OR REPLACE FUNCTION @schema@.observe() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		PERFORM millrace.observe(@schema_literal@, n.type, n.took_ms / 1000) FROM new_rows n WHERE n.took_ms IS NOT NULL;
		PERFORM millrace.observe(@schema_literal@, 'total', extract(epoch FROM n.finished_at - e.received_at)::float8)
		FROM new_rows n JOIN @schema@.events e USING (event_id);
		RETURN NULL;
	END $$;
COMMENT ON FUNCTION @schema@.observe() IS 'trigger of results: tells millrace.metrics() how long they took';
REVOKE EXECUTE ON FUNCTION @schema@.observe() FROM PUBLIC;
CREATE OR REPLACE TRIGGER observe AFTER INSERT ON @schema@.results
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.observe();
