-- Pipeline "answers", traffic: clients that ask and poll, and the same questions asked the way without a queue.
--
-- Run behind the other parts, and again by upgrade_pipeline().  One session plays all clients.  It holds no transaction open
-- but while it talks to the database, as they would: procedures that commit.  A requests's row says when it is due, what
-- it asks, and then what its client saw.

CREATE TABLE IF NOT EXISTS @schema@.traffic_runs (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	options jsonb NOT NULL,
	started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz
);
COMMENT ON TABLE @schema@.traffic_runs IS 'runs of simulate_traffic() and compare_sync_async()';

CREATE TABLE IF NOT EXISTS @schema@.traffic_requests (
	run_id bigint NOT NULL,
	way text NOT NULL CHECK (way IN ('asynchronous', 'synchronous')),
	n int NOT NULL,
	due_s double precision NOT NULL,
	question text NOT NULL,
	reference text,
	variant text NOT NULL CHECK (variant IN ('new', 'repeat', 'paraphrase')),
	question_id uuid,
	status text,
	source text,
	asked_at timestamptz,
	perceived_ms double precision,
	finished_at timestamptz,
	next_poll_at timestamptz,
	polls int NOT NULL DEFAULT 0,
	seen_at timestamptz,
	errors int NOT NULL DEFAULT 0,
	error text,
	PRIMARY KEY (run_id, way, n)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS traffic_requests_open ON @schema@.traffic_requests (run_id, way) WHERE asked_at IS NOT NULL AND seen_at IS NULL;
COMMENT ON TABLE @schema@.traffic_requests IS 'requests of the clients that were simulated';
COMMENT ON COLUMN @schema@.traffic_requests.way IS 'asynchronous: ask(), then status() now and then; synchronous: the provider is asked once, and waited for';
COMMENT ON COLUMN @schema@.traffic_requests.due_s IS 'seconds after the run''s beginning at which it is asked, or when a client is free';
COMMENT ON COLUMN @schema@.traffic_requests.variant IS 'new; repeat: an earlier question of the run; paraphrase: one in other words';
COMMENT ON COLUMN @schema@.traffic_requests.perceived_ms IS 'how long the client waited before it could go on: until ask() had committed, or, synchronous, until the answer';
COMMENT ON COLUMN @schema@.traffic_requests.finished_at IS 'when the answer was there';
COMMENT ON COLUMN @schema@.traffic_requests.seen_at IS 'when the client saw that';
COMMENT ON COLUMN @schema@.traffic_requests.errors IS 'failed attempts at the provider';

CREATE OR REPLACE FUNCTION @schema@.chance(seed int, n int, what text) RETURNS double precision
	LANGUAGE sql IMMUTABLE
	RETURN (pg_catalog.hashtextextended(pg_catalog.format('%s %s %s', seed, n, what), 0) & 1099511627775)::double precision / 1099511627776;
COMMENT ON FUNCTION @schema@.chance(int, int, text) IS 'a number within [0, 1) that depends on the arguments alone';

CREATE OR REPLACE FUNCTION @schema@.paraphrase(question text, n int) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT CASE n % 6
			WHEN 0 THEN 'Could you tell me: ' || question
			WHEN 1 THEN 'I would like to know: ' || question
			WHEN 2 THEN question || ' Please answer briefly.'
			WHEN 3 THEN 'A short question: ' || question
			WHEN 4 THEN 'Do you happen to know? ' || question
			ELSE 'Please help me. ' || question END
	$$;
COMMENT ON FUNCTION @schema@.paraphrase(text, int) IS 'a question with other words around it: what a rule can do, people reword more freely';

-- Which question each request asks, and when: drawn from the seed.  Who asks again takes an early question, by Zipf's law more often the earlier.
CREATE OR REPLACE FUNCTION @schema@.draw_traffic(requests int, rate double precision, distribution text, repeats double precision, paraphrases double precision,
		questions text, seed int) RETURNS TABLE (n int, due_s double precision, question text, reference text, variant text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	pool text[];
	truths text[];
	fresh int := 0;
	pick int;
	u double precision;
BEGIN
	IF distribution NOT IN ('uniform', 'zipf', 'burst') THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown distribution "%s"', distribution), HINT = 'Distributions are uniform, zipf and burst.';
	END IF;
	IF NOT (repeats >= 0 AND paraphrases >= 0 AND repeats + paraphrases < 1) THEN
		RAISE invalid_parameter_value USING MESSAGE = 'shares of repeats and paraphrases must be 0 or more, and less than 1 together';
	END IF;
	IF NOT (rate > 0 AND requests BETWEEN 1 AND 1000000) THEN
		RAISE invalid_parameter_value USING MESSAGE = 'a run must have 1 to 1000000 requests, at a rate above 0';
	END IF;
	EXECUTE format('SELECT array_agg(q.question ORDER BY q.place), array_agg(q.reference ORDER BY q.place) FROM (SELECT r.*, '
		'@schema@.chance($1, row_number() OVER ()::int, ''place'') AS place FROM (%s) r(question, reference)) q', questions) INTO pool, truths USING seed;
	IF pool IS NULL THEN
		RAISE no_data_found USING MESSAGE = 'there are no questions to ask', HINT = 'Argument "questions" is a query of questions and what right answers say, or nulls.';
	END IF;
	FOR i IN 1 .. requests LOOP
		n := i;
		u := @schema@.chance(seed, n, 'variant');
		IF fresh < cardinality(pool) AND (fresh = 0 OR u >= repeats + paraphrases) THEN
			variant := 'new';
			fresh := fresh + 1;
			pick := fresh;
		ELSE
			-- A pool that is used up is repeated.
			variant := CASE WHEN paraphrases > 0 AND u >= repeats AND u < repeats + paraphrases THEN 'paraphrase' ELSE 'repeat' END;
			u := @schema@.chance(seed, n, 'pick');
			pick := CASE WHEN distribution = 'zipf' THEN floor((fresh + 1) ^ u) ELSE 1 + floor(u * fresh) END;
		END IF;
		question := CASE WHEN variant = 'paraphrase' THEN @schema@.paraphrase(pool[pick], n) ELSE pool[pick] END;
		reference := truths[pick];
		due_s := (n - 1) / rate;
		IF distribution = 'burst' THEN
			due_s := 5 * floor(due_s / 5) + (due_s - 5 * floor(due_s / 5)) / 5;
		END IF;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.draw_traffic(int, double precision, text, double precision, double precision, text, int) IS
	'the requests of a run; burst: what comes within 5 seconds comes within the first of them';

-- One request: ask() as any client calls it.
CREATE OR REPLACE FUNCTION @schema@.traffic_ask(run bigint, request int, tenant text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	began timestamptz := clock_timestamp();
	r @schema@.traffic_requests;
	a record;
BEGIN
	SELECT t.* INTO r FROM @schema@.traffic_requests t WHERE t.run_id = run AND t.way = 'asynchronous' AND t.n = request;
	BEGIN
		SELECT * INTO a FROM @schema@.ask(r.question, tenant, r.reference);
	EXCEPTION WHEN OTHERS THEN
		UPDATE @schema@.traffic_requests t SET asked_at = began, status = 'failed', error = SQLERRM, finished_at = clock_timestamp(), seen_at = clock_timestamp()
		WHERE t.run_id = run AND t.way = 'asynchronous' AND t.n = request;
		RETURN;
	END;
	UPDATE @schema@.traffic_requests t SET asked_at = began, question_id = a.question_id, status = a.status, source = a.source,
		finished_at = CASE WHEN a.answer IS NOT NULL THEN clock_timestamp() END, seen_at = CASE WHEN a.answer IS NOT NULL THEN clock_timestamp() END
	WHERE t.run_id = run AND t.way = 'asynchronous' AND t.n = request;
END $$;
COMMENT ON FUNCTION @schema@.traffic_ask(bigint, int, text) IS 'a client asks';

-- A client without a queue: one attempt at the provider, which it waits for.
CREATE OR REPLACE FUNCTION @schema@.traffic_call(run bigint, request int, tenant text) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		UPDATE @schema@.traffic_requests t SET asked_at = clock_timestamp(), status = 'pending', source = 'provider', question_id = millrace.submit_task('llm',
			jsonb_strip_nulls(jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', t.question)),
				'system', NULLIF(s.system, ''), 'model', s.model, 'options', NULLIF(s.generation, '{}'))),
			jsonb_strip_nulls(jsonb_build_object('provider', s.provider, 'max_attempts', 1, 'priority', 9, 'tenant', tenant, 'timeout_ms', s.timeout_ms,
				'tag', format('%s:%s', run, request), 'deliver', format('%I.deliver_traffic', @schema_literal@))))
		FROM @schema@.settings s WHERE t.run_id = run AND t.way = 'synchronous' AND t.n = request
	$$;
COMMENT ON FUNCTION @schema@.traffic_call(bigint, int, text) IS 'a synchronous client asks the provider';

CREATE OR REPLACE FUNCTION @schema@.deliver_traffic(ids uuid[], tags text[], states text[], results jsonb[], errors jsonb[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		UPDATE @schema@.traffic_requests t SET status = d.state, finished_at = clock_timestamp(), seen_at = clock_timestamp(), error = d.error ->> 'message',
			errors = (d.state <> 'succeeded')::int
		FROM unnest($2, $3, $5) d(tag, state, error)
		WHERE t.run_id = split_part(d.tag, ':', 1)::bigint AND t.way = 'synchronous' AND t.n = split_part(d.tag, ':', 2)::int
	$$;
COMMENT ON FUNCTION @schema@.deliver_traffic(uuid[], text[], text[], jsonb[], jsonb[]) IS 'told by the workers how calls of synchronous clients ended';

-- A client that calls by itself does not wait for our limits, our pauses or our workers: what counts is the attempt alone.
CREATE OR REPLACE FUNCTION @schema@.traffic_settle(run bigint) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		UPDATE @schema@.traffic_requests t SET asked_at = a.started_at, finished_at = a.finished_at, perceived_ms = 1000 * EXTRACT(epoch FROM a.finished_at - a.started_at)
		FROM millrace.task_history a WHERE t.run_id = run AND t.way = 'synchronous' AND a.id = t.question_id
	$$;
COMMENT ON FUNCTION @schema@.traffic_settle(bigint) IS 'takes the time of synchronous requests from their attempts at the provider';

-- What clients that wait see when they ask for the status again.
CREATE OR REPLACE FUNCTION @schema@.traffic_poll(run bigint, poll_ms int) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		UPDATE @schema@.traffic_requests t SET polls = t.polls + 1, status = s.status, source = COALESCE(s.source, t.source), error = s.error,
			next_poll_at = clock_timestamp() + poll_ms * interval '1 ms',
			finished_at = s.finished_at, seen_at = CASE WHEN s.finished_at IS NOT NULL THEN clock_timestamp() END
		FROM (SELECT o.n, x.status, x.source, x.error, x.finished_at
			  FROM @schema@.traffic_requests o, LATERAL @schema@.status(o.question_id) x
			  WHERE o.run_id = run AND o.way = 'asynchronous' AND o.asked_at IS NOT NULL AND o.seen_at IS NULL AND o.next_poll_at <= clock_timestamp()) s
		WHERE t.run_id = run AND t.way = 'asynchronous' AND t.n = s.n
	$$;
COMMENT ON FUNCTION @schema@.traffic_poll(bigint, int) IS 'every client whose time has come asks for the status of its question';
REVOKE EXECUTE ON FUNCTION @schema@.traffic_ask(bigint, int, text), @schema@.traffic_call(bigint, int, text),
	@schema@.deliver_traffic(uuid[], text[], text[], jsonb[], jsonb[]), @schema@.traffic_poll(bigint, int), @schema@.traffic_settle(bigint) FROM PUBLIC;

-- A procedure that commits may not set its search_path, so all names here have their schema.
CREATE OR REPLACE PROCEDURE @schema@.drive_traffic(run bigint, the_way text, at_once int, poll_ms int, give_up timestamptz)
	LANGUAGE plpgsql
	AS $$
DECLARE
	began timestamptz := pg_catalog.clock_timestamp();
	asking_at timestamptz;
	next_n int := 1;
	next_due double precision;
	waiting int;
	tenant text := (SELECT COALESCE(t.options ->> 'tenant', pg_catalog.format('traffic %s', run)) FROM @schema@.traffic_runs t WHERE t.run_id = run);
BEGIN
	LOOP
		SELECT pg_catalog.count(*) INTO waiting FROM @schema@.traffic_requests t WHERE t.run_id = run AND t.way = the_way AND t.asked_at IS NOT NULL AND t.seen_at IS NULL;
		SELECT t.due_s INTO next_due FROM @schema@.traffic_requests t WHERE t.run_id = run AND t.way = the_way AND t.n = next_n;
		EXIT WHEN pg_catalog.clock_timestamp() >= give_up OR (next_due IS NULL AND waiting = 0);
		IF next_due <= EXTRACT(epoch FROM pg_catalog.clock_timestamp() - began) AND waiting < at_once THEN
			COMMIT;
			asking_at := pg_catalog.clock_timestamp();
			IF the_way = 'asynchronous' THEN
				PERFORM @schema@.traffic_ask(run, next_n, tenant);
				COMMIT;
				UPDATE @schema@.traffic_requests t SET perceived_ms = 1000 * EXTRACT(epoch FROM pg_catalog.clock_timestamp() - asking_at),
					next_poll_at = pg_catalog.clock_timestamp() + poll_ms * interval '1 ms'
				WHERE t.run_id = run AND t.way = the_way AND t.n = next_n;
			ELSE
				PERFORM @schema@.traffic_call(run, next_n, tenant);
			END IF;
			COMMIT;
			next_n := next_n + 1;
		ELSE
			IF the_way = 'asynchronous' THEN
				PERFORM @schema@.traffic_poll(run, poll_ms);
			END IF;
			COMMIT;
			PERFORM pg_catalog.pg_sleep(0.01);
			COMMIT;
		END IF;
	END LOOP;
	UPDATE @schema@.traffic_requests t SET status = 'given up', seen_at = pg_catalog.clock_timestamp()
	WHERE t.run_id = run AND t.way = the_way AND t.asked_at IS NOT NULL AND t.seen_at IS NULL;
	PERFORM @schema@.traffic_settle(run);
	UPDATE @schema@.traffic_runs t SET finished_at = pg_catalog.clock_timestamp() WHERE t.run_id = run;
	COMMIT;
END $$;
COMMENT ON PROCEDURE @schema@.drive_traffic(bigint, text, int, int, timestamptz) IS 'plays the clients of a run, of whom at_once may wait at a time';

CREATE OR REPLACE PROCEDURE @schema@.simulate_traffic(rate double precision DEFAULT 2, duration double precision DEFAULT 30, distribution text DEFAULT 'uniform',
		repeats double precision DEFAULT 0.3, paraphrases double precision DEFAULT 0.1, questions text DEFAULT 'SELECT * FROM @schema@.sample_questions()',
		tenant text DEFAULT NULL, seed int DEFAULT 1, poll_ms int DEFAULT 500, patience double precision DEFAULT 300)
	LANGUAGE plpgsql
	AS $$
DECLARE
	run bigint;
BEGIN
	INSERT INTO @schema@.traffic_runs (options) VALUES (pg_catalog.jsonb_build_object('tenant', tenant, 'simulate', pg_catalog.jsonb_build_object('rate', rate, 'duration', duration,
		'distribution', distribution, 'repeats', repeats, 'paraphrases', paraphrases, 'seed', seed, 'poll_ms', poll_ms)))
	RETURNING run_id INTO run;
	INSERT INTO @schema@.traffic_requests (run_id, way, n, due_s, question, reference, variant)
	SELECT run, 'asynchronous', d.* FROM @schema@.draw_traffic(pg_catalog.ceil(rate * duration)::int, rate, distribution, repeats, paraphrases, questions, seed) d;
	COMMIT;
	CALL @schema@.drive_traffic(run, 'asynchronous', 1000000, poll_ms, pg_catalog.clock_timestamp() + (duration + patience) * interval '1 s');
	RAISE NOTICE 'run % is over: TABLE @schema@.traffic', run;
END $$;
COMMENT ON PROCEDURE @schema@.simulate_traffic(double precision, double precision, text, double precision, double precision, text, text, int, int, double precision) IS
	'asks rate questions a second for duration seconds; distribution uniform, zipf or burst; shares that repeat or paraphrase earlier ones; clients poll every poll_ms; tenant: by default one of its own.  Each request is a row of traffic_requests';

CREATE OR REPLACE FUNCTION @schema@.traffic_metrics(run bigint, the_way text) RETURNS TABLE (metric text, unit text, value double precision)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
		WITH request AS (
			SELECT t.*, t.status IN ('validated', 'succeeded') AS ok, 1000 * EXTRACT(epoch FROM t.finished_at - t.asked_at) AS real_ms
			FROM @schema@.traffic_requests t WHERE t.run_id = run AND t.way = the_way AND t.asked_at IS NOT NULL
		), total AS (
			SELECT count(*) AS n, count(*) FILTER (WHERE r.ok) AS ok,
				-- Clients that do nothing but wait: so many at once for the sum of what they waited.
				count(*) FILTER (WHERE r.ok) / NULLIF(sum(r.perceived_ms) / 1000 / (SELECT (o.options -> 'compare' ->> 'clients')::int FROM @schema@.traffic_runs o WHERE o.run_id = run), 0) AS waiting_rate,
				-- Others: until nine of ten were answered, since the last ones tell how long an answer takes and not how many there are.
				0.9 * count(*) FILTER (WHERE r.ok) / NULLIF(EXTRACT(epoch FROM percentile_disc(0.9) WITHIN GROUP (ORDER BY r.seen_at) - min(r.asked_at)), 0) AS rate,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY r.perceived_ms) AS perceived, percentile_cont(0.95) WITHIN GROUP (ORDER BY r.perceived_ms) AS perceived95,
				percentile_cont(0.5) WITHIN GROUP (ORDER BY r.real_ms) FILTER (WHERE r.ok) AS real,
				percentile_cont(0.95) WITHIN GROUP (ORDER BY r.real_ms) FILTER (WHERE r.ok) AS real95,
				count(*) FILTER (WHERE the_way = 'asynchronous' AND r.status IN ('validated', 'low-quality')) AS judged,
				count(DISTINCT r.question_id) FILTER (WHERE r.ok AND EXISTS (
					SELECT FROM @schema@.processing_metrics m WHERE m.question_id = r.question_id AND m.class IS NOT NULL)) AS handled
			FROM request r
		)
		SELECT v.metric, v.unit, v.value FROM total t, LATERAL (VALUES
			('perceived_ms_p50', 'ms', t.perceived), ('perceived_ms_p95', 'ms', t.perceived95), ('real_ms_p50', 'ms', t.real), ('real_ms_p95', 'ms', t.real95),
			('throughput_per_s', '1/s', CASE the_way WHEN 'asynchronous' THEN t.rate ELSE t.waiting_rate END::double precision), ('success_percent', '%', 100.0 * t.ok / NULLIF(t.n, 0)),
			('errors_handled', 'questions', t.handled), ('quality_percent', '%', 100.0 * t.judged / NULLIF(t.n, 0))) v(metric, unit, value)
	$$;
COMMENT ON FUNCTION @schema@.traffic_metrics(bigint, text) IS
	'a run in figures; throughput: right answers a second (asynchronous: until nine of ten were answered; synchronous: for clients that do nothing but wait); errors_handled: questions answered although an attempt had failed; quality_percent: share whose answer was judged';

CREATE OR REPLACE PROCEDURE @schema@.compare_sync_async(requests int DEFAULT 48, clients int DEFAULT 8, repeats double precision DEFAULT 0.5, paraphrases double precision DEFAULT 0.2,
		distribution text DEFAULT 'zipf', questions text DEFAULT 'SELECT * FROM @schema@.sample_questions()', tenant text DEFAULT NULL, seed int DEFAULT 1,
		poll_ms int DEFAULT 500, ahead int DEFAULT 2, patience double precision DEFAULT 600)
	LANGUAGE plpgsql
	AS $$
DECLARE
	run bigint;
BEGIN
	IF NOT (clients >= 1 AND ahead >= 1) THEN
		RAISE invalid_parameter_value USING MESSAGE = 'a comparison needs at least one client, with at least one question ahead';
	END IF;
	INSERT INTO @schema@.traffic_runs (options) VALUES (pg_catalog.jsonb_build_object('tenant', tenant, 'compare', pg_catalog.jsonb_build_object('requests', requests, 'clients', clients,
		'repeats', repeats, 'paraphrases', paraphrases, 'distribution', distribution, 'seed', seed, 'poll_ms', poll_ms, 'ahead', ahead)))
	RETURNING run_id INTO run;
	INSERT INTO @schema@.traffic_requests (run_id, way, n, due_s, question, reference, variant)
	SELECT run, w.way, d.n, 0, d.question, d.reference, d.variant
	FROM @schema@.draw_traffic(requests, 1, distribution, repeats, paraphrases, questions, seed) d, (VALUES ('asynchronous'), ('synchronous')) w(way);
	COMMIT;
	CALL @schema@.drive_traffic(run, 'synchronous', clients, poll_ms, pg_catalog.clock_timestamp() + patience * interval '1 s');
	CALL @schema@.drive_traffic(run, 'asynchronous', clients * ahead, poll_ms, pg_catalog.clock_timestamp() + patience * interval '1 s');
	INSERT INTO @schema@.comparisons (run_id, metric, unit, synchronous, asynchronous)
	SELECT run, s.metric, s.unit, s.value, a.value
	FROM @schema@.traffic_metrics(run, 'synchronous') s JOIN @schema@.traffic_metrics(run, 'asynchronous') a USING (metric);
	COMMIT;
	RAISE NOTICE 'run % is over: TABLE @schema@.sync_vs_async', run;
END $$;
COMMENT ON PROCEDURE @schema@.compare_sync_async(int, int, double precision, double precision, text, text, text, int, int, int, double precision) IS
	'asks the same questions twice: by clients that call the provider and wait, one question each, and by clients that ask() and poll, with so many questions ahead each; a row of comparisons per metric';

CREATE OR REPLACE VIEW @schema@.traffic AS
	SELECT t.run_id, t.way, count(*) AS requests, count(*) FILTER (WHERE t.status IN ('validated', 'succeeded')) AS answered,
		count(*) FILTER (WHERE t.source IN ('exact', 'semantic', 'stored', 'history')) AS from_store,
		round(percentile_cont(0.5) WITHIN GROUP (ORDER BY t.perceived_ms)::numeric, 2) AS perceived_p50_ms,
		round(percentile_cont(0.99) WITHIN GROUP (ORDER BY t.perceived_ms)::numeric, 2) AS perceived_p99_ms,
		round((1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM t.finished_at - t.asked_at)))::numeric, 1) AS real_p50_ms,
		round((1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM t.finished_at - t.asked_at)))::numeric, 1) AS real_p99_ms,
		round((1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY EXTRACT(epoch FROM t.seen_at - t.asked_at)))::numeric, 1) AS seen_p50_ms,
		sum(t.polls) AS polls
	FROM @schema@.traffic_requests t WHERE t.asked_at IS NOT NULL GROUP BY t.run_id, t.way;
COMMENT ON VIEW @schema@.traffic IS 'runs of traffic: what clients waited for (perceived), when the answer was there (real), when polling showed it (seen)';
