-- gateway: the page at /
--
-- The page is a file; what it shows is one JSON document, made of existing views and of the pipelines' tables with the rights of
-- whoever asks.  It is asked for every two seconds: nothing here counts or sorts what may be large.  "Recent" is what an index gives
-- first, sums come from counters, and small tables alone are counted.
--
-- Of a pipeline tables are read, never its views or functions: they would run with the reader's rights, and belong to somebody else.

CREATE FUNCTION millrace.gateway_file(name text) RETURNS bytea
	LANGUAGE c STRICT STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_gateway_file';
COMMENT ON FUNCTION millrace.gateway_file(text) IS 'a page that was installed with the extension: dashboard.html or docs.html';

-- Scripts and styles stand in the page, and run for their hashes alone.
CREATE FUNCTION millrace.gateway_page(name text) RETURNS millrace.http_response
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	page constant bytea := millrace.gateway_file(name);
	etag constant text := format('"%s"', left(encode(sha256(page), 'hex'), 32));
	part text;
	first int;
	hashes text[];
	headers jsonb;
BEGIN
	FOREACH part IN ARRAY '{style,script}'::text[] LOOP
		first := position(convert_to('<' || part || '>', 'UTF8') IN page) + length(part) + 2;
		hashes := hashes || format('%s-src ''sha256-%s''', part, encode(sha256(substring(page FROM first FOR
			position(convert_to('</' || part || '>', 'UTF8') IN page) - first)), 'base64'));
	END LOOP;
	headers := jsonb_build_object('ETag', etag, 'Cache-Control', 'no-cache', 'Referrer-Policy', 'no-referrer',
		'Content-Security-Policy', format('default-src ''none''; %s; connect-src ''self''; img-src blob:; base-uri ''none''; form-action ''none''; frame-ancestors ''none''',
			array_to_string(hashes, '; ')));
	IF nullif(current_setting('request.headers', true), '')::jsonb ->> 'if-none-match' = etag THEN
		RETURN ROW(304, NULL, NULL, headers, NULL)::millrace.http_response;
	END IF;
	RETURN ROW(200, 'text/html; charset=utf-8', page, headers, NULL)::millrace.http_response;
END
$$;
COMMENT ON FUNCTION millrace.gateway_page(text) IS 'a page of the extension as an answer: with its ETag, and a policy under which only its own script runs';

CREATE FUNCTION millrace.http_dashboard() RETURNS millrace.http_response
	LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT * FROM millrace.gateway_page('dashboard.html') $$;
COMMENT ON FUNCTION millrace.http_dashboard() IS 'the dashboard''s page: what it shows it asks for at /dashboard/data';

CREATE FUNCTION millrace.http_docs() RETURNS millrace.http_response
	LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT * FROM millrace.gateway_page('docs.html') $$;
COMMENT ON FUNCTION millrace.http_docs() IS 'a page that shows /openapi.json, with forms to try it';

-- Tables of a schema that the caller may know of; readable: their rows, too.
CREATE FUNCTION millrace.dashboard_tables(pipeline text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found record;
	n bigint;
	inserted bigint;
	tables jsonb := '{}';
	counts boolean;
	-- columns that the functions of functions_dashboard_pipelines.sql read
	shown constant name[] := '{activity,answer,answered_by,asked_at,attempts,candidates,challenge,champion_after,champion_before,class,classify_ms,confidence,content,created_at,dataset,description,descriptor_count,drift,ended_at,error,event_id,extract_ms,failed_at,failure_id,feedback,figures,finished_at,fix,gate,hit,image_id,kind,label,last_response_id,latency_ms,message,metric_id,model,ms,origin,period,predicted_at,profile,provider,question,question_id,reason,received_at,regeneration,response_id,result,round,rows_features,rows_predicted,rows_raw,rows_rejected,run_id,score,score_id,seconds,severity,similarity,source_time,sqlstate,stage,started_at,state,status,task,tenant,text,tokens_in,tokens_out,took_ms,type,validated,version}';
BEGIN
	FOR found IN SELECT c.oid, c.relname, c.relkind, c.reltuples::bigint AS estimate, pg_relation_size(c.oid) AS bytes,
					has_schema_privilege(s.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
						-- what is read of it is of the types it was made with: somebody's own may come with casts, which are functions
						AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
										 WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attname = ANY (shown)
										   AND t.typnamespace NOT IN ('pg_catalog'::regnamespace, 'millrace'::regnamespace)) AS readable
			   FROM pg_namespace s JOIN pg_class c ON c.relnamespace = s.oid
			  WHERE s.nspname = pipeline AND c.relkind IN ('r', 'p')
				AND c.relname = ANY ('{images,descriptors,predictions,failures,events,results,questions,responses,failed_questions,score_history,processing_metrics,raw,features,runs,datasets,kinds,waivers,annotations,facts,findings,detections}')
	LOOP
		CONTINUE WHEN NOT found.readable AND NOT pg_has_role('millrace_monitor', 'USAGE');
		counts := found.readable AND found.relkind = 'r' AND found.bytes <= 1048576;
		inserted := pg_stat_get_tuples_inserted(found.oid);
		IF counts THEN
			EXECUTE format('SELECT count(*) FROM %I.%I', pipeline, found.relname) INTO n;
		ELSIF found.relkind = 'p' THEN
			SELECT sum(greatest(pg_stat_get_live_tuples(l.relid), c.reltuples::bigint, 0)), sum(pg_stat_get_tuples_inserted(l.relid)) INTO n, inserted
			  FROM pg_partition_tree(found.oid) l JOIN pg_class c ON c.oid = l.relid WHERE l.isleaf;
		ELSE
			n := greatest(pg_stat_get_live_tuples(found.oid), found.estimate, 0);
		END IF;
		tables := tables || jsonb_build_object(found.relname, jsonb_build_object('rows', n, 'counted', counts, 'readable', found.readable, 'inserted', inserted));
	END LOOP;
	RETURN tables;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_tables(text) IS
	'tables of a pipeline that the caller may know of: rows (counted where the table is small, else as statistics have it), rows inserted so far, and whether the caller may read them';

CREATE FUNCTION millrace.dashboard_pipeline(name text, kind text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tables constant jsonb := millrace.dashboard_tables(name);
	needed constant text[] := CASE kind
		WHEN 'images' THEN '{images,descriptors,predictions,failures}' WHEN 'answers' THEN '{questions,responses,processing_metrics,score_history,failed_questions}'
		WHEN 'events' THEN '{events,results,failures}' WHEN 'datasets' THEN '{datasets,runs,findings,kinds,waivers}' WHEN 'tabular' THEN '{runs}' END::text[];
	shown jsonb := '{}';
BEGIN
	-- a pipeline whose tables were altered is told as such, and the others are shown
	IF needed IS NOT NULL AND NOT EXISTS (SELECT FROM unnest(needed) t WHERE (tables #>> ARRAY[t, 'readable'])::boolean IS NOT TRUE) THEN
		BEGIN
			shown := CASE kind WHEN 'images' THEN millrace.dashboard_images(name) WHEN 'answers' THEN millrace.dashboard_answers(name)
				WHEN 'events' THEN millrace.dashboard_events(name) WHEN 'datasets' THEN millrace.dashboard_datasets(name)
				ELSE millrace.dashboard_tabular(name) END;
		EXCEPTION WHEN OTHERS THEN
			shown := jsonb_build_object('error', SQLERRM);
		END;
	END IF;
	RETURN jsonb_build_object('tables', tables, 'readable', shown <> '{}') || shown;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_pipeline(text, text) IS 'what the dashboard shows of one pipeline';

CREATE FUNCTION millrace.dashboard() RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	admin constant boolean := pg_has_role('millrace_admin', 'USAGE');
	staff constant boolean := admin OR pg_has_role('millrace_monitor', 'USAGE');
	models constant boolean := staff OR pg_has_role('millrace_user', 'USAGE') OR pg_has_role('millrace_modeler', 'USAGE');
	watches constant boolean := staff OR pg_has_role('millrace_modeler', 'USAGE');
	queued bigint;
	ended bigint;
	pipelines jsonb;
	shown jsonb;
BEGIN
	shown := jsonb_build_object('at', clock_timestamp(), 'database', current_database(), 'role', current_user,
		'version', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'millrace'), 'standby', pg_is_in_recovery(),
		'may', jsonb_build_object('state', staff, 'letters', admin, 'tasks', models, 'models', models, 'drift', watches));
	-- the largest part, put together with the others last: each time a document is added to it is copied
	pipelines := coalesce((
			SELECT jsonb_agg(jsonb_build_object('name', p.name, 'kind', p.kind, 'owner', p.owner) || millrace.dashboard_pipeline(p.name, p.kind) ORDER BY p.name)
			  FROM (SELECT p.* FROM millrace.pipelines p JOIN pg_namespace n ON n.nspname = p.name
					 WHERE staff OR has_schema_privilege(n.oid, 'USAGE') ORDER BY p.name LIMIT 20) p), '[]');

	IF staff THEN
		shown := shown || jsonb_build_object(
			'workers', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM millrace.worker_status() s),
			'todo', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.severity DESC, x.rank, x.name), '[]') FROM (
					SELECT s.rank, s.kind, s.name, s.state, left(s.reason, 300) AS reason, s.since, s.severity, s.advice FROM millrace.status_things() s WHERE s.severity > 0 LIMIT 50) x),
			'gateway', jsonb_build_object('routes', (
					SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.requests DESC, x.route, x.method, x.status), '[]') FROM (SELECT * FROM millrace.stat_gateway g ORDER BY g.requests DESC LIMIT 100) x),
				'events', (SELECT coalesce(jsonb_object_agg(e.event, e.count), '{}') FROM millrace.stat_gateway_events e)),
			'stages', (SELECT coalesce(jsonb_object_agg(x.pipeline, x.stages), '{}') FROM (
				SELECT s.pipeline, jsonb_object_agg(s.stage, jsonb_build_object('n', s.count, 'p50', s.p50_ms, 'p95', s.p95_ms, 'p99', s.p99_ms)) AS stages
				  FROM millrace.stat_stages s JOIN millrace.pipelines p ON p.name = s.pipeline JOIN pg_namespace n ON n.nspname = p.name
				 WHERE p.kind IN ('datasets', 'tabular') OR NOT has_schema_privilege(n.oid, 'USAGE') GROUP BY s.pipeline) x),
			'sources', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.name), '[]') FROM (
					SELECT t.name, t.topic, t.target, t.owner, t.state, t.reason, t.messages_behind AS behind, t.rows, t.dead, t.skipped, t.last_batch_at,
						   t.last_error, s.server, s.replay_of, s.messages_per_s, s.batch_ms, s.batch_messages,
						   (parse_ident(t.target))[1] AS pipeline,
						   -- whom pause_source() and redrive_dead_letters() obey
						   has_function_privilege('millrace.pause_source(text, text)', 'EXECUTE') AND coalesce(pg_has_role(r.oid, 'USAGE'), false) AS may
					  FROM millrace.source_status t
					  JOIN (SELECT q.name, q.server, q.replay_of, m.messages_per_s, m.batch_ms, m.batch_messages
							  FROM millrace.sources q LEFT JOIN millrace.meters() m ON m.kind = 'source' AND m.name = q.name) s ON s.name = t.name
					  LEFT JOIN pg_roles r ON r.rolname = t.owner
					 ORDER BY t.name LIMIT 100) x),
			'outboxes', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.server), '[]') FROM (
					SELECT p.server, CASE WHEN o.state <> 'running' THEN o.state ELSE p.state END AS state, coalesce(o.reason, p.reason) AS reason,
						   p.messages, p.dead, p.last_batch_at, p.last_error, m.messages_per_s, m.batch_ms
					  FROM millrace.outboxes o JOIN millrace.outbox_progress p ON p.server = o.server LEFT JOIN millrace.meters() m ON m.kind = 'outbox' AND m.name = p.server
					 ORDER BY p.server LIMIT 50) x),
			'providers', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.provider), '[]') FROM (
					SELECT p.provider, p.api, p.state, p.reason, p.until, p.calls, p.concurrency, p.requests, p.requests_per_minute, p.tokens, p.tokens_per_minute,
						   p.attempts, p.succeeded, p.failed, p.cost_1h, p.p50_ms, p.p95_ms, p.p99_ms
					  FROM millrace.stat_providers p WHERE p.tenant IS NULL AND millrace.dashboard_few('task_attempts', 20000) LIMIT 50) x),
			'caches', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.name), '[]') FROM (
					SELECT c.name, c.entries, c.exact_hits, c.semantic_hits, c.misses, c.hit_rate, c.cost_saved, c.seconds_saved, c.mean_lookup_ms
					  FROM millrace.stat_caches c WHERE millrace.dashboard_few('cache_entries', 100000) LIMIT 50) x));
	END IF;

	IF admin THEN
		shown := shown || jsonb_build_object('letters', (
			SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.id DESC), '[]') FROM (
				SELECT d.id, d.source, d.topic, d.partition, d."offset", d.stage, d.sqlstate, left(d.error, 300) AS error, left(d.detail, 300) AS detail, d.at, d.attempts,
					   d.redrive_at, d.value_bytes, left(encode(substring(d.value FROM 1 FOR 160), 'escape'), 400) AS value
				  FROM millrace.dead_letters d ORDER BY d.id DESC LIMIT 12) x));
	END IF;

	IF models THEN
		queued := millrace.dashboard_rows('task_queue');
		ended := millrace.dashboard_rows('task_done');
		shown := shown || jsonb_build_object('tasks', jsonb_build_object('queued', queued, 'ended', ended));
		-- these look at every task that waits and at all of the last hour's
		IF queued + ended <= 20000 THEN
			shown := jsonb_set(shown, '{tasks,queues}', (
				SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.kind, s.queue, s.owner), '[]') FROM (SELECT * FROM millrace.stat_tasks s LIMIT 100) s));
			shown := jsonb_set(shown, '{tasks,failures}', (
				SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.last_at DESC), '[]') FROM (SELECT * FROM millrace.stat_task_failures f ORDER BY f.last_at DESC LIMIT 20) f));
		END IF;
		IF ended <= 5000 THEN
			shown := jsonb_set(shown, '{tasks,latency}', (
				SELECT coalesce(jsonb_agg(to_jsonb(l) ORDER BY l.kind, l.stage), '[]') FROM (SELECT * FROM millrace.stat_task_latency l LIMIT 100) l));
		END IF;
		shown := shown || jsonb_build_object(
			'models', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.name, x.version DESC), '[]') FROM (
					SELECT v.name, v.version, v.kind, v.aliases, v.is_default, v.size, v.created_at, v.origin,
						   coalesce(v.accuracy, (m.metrics ->> 'test_accuracy')::real) AS accuracy, s.calls, s.rows, s.ms_per_row, s.errors, s.last_used
					  FROM millrace.model_versions v
					  JOIN millrace.models m ON m.name = v.name AND m.version = v.version
					  LEFT JOIN millrace.stat_models s ON s.name = v.name AND s.version = v.version
					 WHERE v.retired_at IS NULL ORDER BY v.created_at DESC LIMIT 60) x),
			'history', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.set_at DESC), '[]') FROM (
					SELECT h.name, h.alias, h.version, h.set_at, h.set_by, h.reason FROM millrace.alias_history h ORDER BY h.id DESC LIMIT 12) x),
			'challenges', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.id DESC), '[]') FROM (
					SELECT c.id, c.name, c.champion, c.challenger, c.metric, c.rows, c.champion_score, c.challenger_score, c.gain, c.gain_low, c.gain_high, c.test, c.p_value,
						   c.better, c.promoted, c.reason, c.decided_at FROM millrace.challenges c ORDER BY c.id DESC LIMIT 12) x),
			'evaluations', (
				SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.id DESC), '[]') FROM (
					SELECT e.id, e.name, e.version, e.rows, e.task, e.accuracy, e.f1_macro, e.log_loss, e.predict_us, e.evaluated_at
					  FROM millrace.evaluations e ORDER BY e.id DESC LIMIT 12) x),
			'training', (SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]') FROM millrace.training_progress t));
	END IF;
	IF staff THEN
		shown := jsonb_set(shown, '{tasks,workers}', (SELECT coalesce(jsonb_agg(to_jsonb(w) ORDER BY w.owner, w.lane, w.worker), '[]') FROM millrace.stat_task_workers w));
	END IF;

	IF watches THEN
		shown := shown || jsonb_build_object('drift', (
			SELECT coalesce(jsonb_agg(jsonb_build_object('monitor', m.name, 'windows', m.windows, 'last_run', m.last_run, 'columns', d.columns, 'alarms', d.alarms,
						'performance', p.performance) ORDER BY m.name), '[]')
			  FROM (SELECT * FROM millrace.monitors m ORDER BY m.last_run DESC NULLS LAST LIMIT 8) m
			 CROSS JOIN LATERAL (
				SELECT jsonb_agg(jsonb_build_object('column', c.column_name, 'role', c.role, 'psi', c.psi) ORDER BY c.largest DESC NULLS LAST, c.column_name) AS columns,
					   sum(c.alarms) AS alarms
				  FROM (SELECT d.column_name, d.role, jsonb_agg(jsonb_build_array(d.window_end, d.psi, d.alarm) ORDER BY d.window_no) AS psi,
							   max(d.psi) AS largest, count(*) FILTER (WHERE d.alarm AND d.window_no = m.newest) AS alarms
						  FROM (SELECT d.*, max(d.window_no) OVER () AS newest FROM millrace.drift d WHERE d.monitor = m.name AND d.window_no > m.windows - 30 AND d.window_no <= m.windows) d
						 CROSS JOIN LATERAL (SELECT d.newest) m
						 GROUP BY d.column_name, d.role ORDER BY 4 DESC NULLS LAST, 1 LIMIT 12) c) d
			 CROSS JOIN LATERAL (
				SELECT jsonb_agg(jsonb_build_array(p.window_end, p.accuracy, p.alarm) ORDER BY p.window_no) AS performance
				  FROM millrace.monitor_performance p WHERE p.monitor = m.name AND p.window_no > m.windows - 30 AND p.accuracy IS NOT NULL) p));
	END IF;
	RETURN shown || jsonb_build_object('pipelines', pipelines, 'took_ms', round(1000 * extract(epoch FROM clock_timestamp() - (shown ->> 'at')::timestamptz), 1));
END
$$;
COMMENT ON FUNCTION millrace.dashboard() IS 'what the dashboard shows, as one document: all that the caller may see of pipelines, sources, tasks, models, drift and requests';

-- Rows that statistics know of in a partitioned table or a plain one of the extension.
CREATE FUNCTION millrace.dashboard_rows(name text) RETURNS bigint
	LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::bigint, 0)), 0)::bigint
	  FROM (SELECT to_regclass(format('millrace.%I', name))::oid UNION ALL
			SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = to_regclass(format('millrace.%I', name))) t (id)
	  JOIN pg_class c ON c.oid = t.id AND c.relkind = 'r'
$$;
COMMENT ON FUNCTION millrace.dashboard_rows(text) IS 'about how many rows a table of the extension has';

CREATE FUNCTION millrace.dashboard_few(name text, at_most bigint) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$ SELECT millrace.dashboard_rows(name) <= at_most $$;
COMMENT ON FUNCTION millrace.dashboard_few(text, bigint) IS 'whether a table of the extension is small enough to be looked at every two seconds';

CREATE FUNCTION millrace.dashboard_image(pipeline text, image_id text) RETURNS millrace.http_response
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	content bytea;
	info record;
	scale double precision;
BEGIN
	-- a table, not a view: see above
	IF NOT EXISTS (SELECT FROM millrace.pipelines p JOIN pg_namespace n ON n.nspname = p.name JOIN pg_class c ON c.relnamespace = n.oid
					WHERE p.name = dashboard_image.pipeline AND p.kind = 'images' AND c.relname = 'images' AND c.relkind IN ('r', 'p')) THEN
		RAISE EXCEPTION 'there is no pipeline "%" of kind images', pipeline USING ERRCODE = 'no_data_found';
	END IF;
	EXECUTE format('SELECT i.content FROM %I.images i WHERE i.image_id = $1 AND octet_length(i.content) <= 33554432', pipeline) INTO content USING image_id;
	IF content IS NULL THEN
		RAISE EXCEPTION 'pipeline "%" has no photo of image "%"', pipeline, image_id USING ERRCODE = 'no_data_found';
	END IF;
	SELECT * INTO info FROM @extschema@.image_info(content);
	IF info.orientation >= 5 THEN
		SELECT info.height AS width, info.width AS height INTO info;
	END IF;
	scale := least(192.0 / info.width, 192.0 / info.height, 4);
	RETURN ROW(200, 'image/jpeg', @extschema@.image_resize(content, greatest(1, round(info.width * scale)::int), greatest(1, round(info.height * scale)::int), 'stretch', 'jpeg', 80),
		'{"Cache-Control": "private, max-age=60"}', NULL)::millrace.http_response;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_image(text, text) IS 'an image of a pipeline of kind images, made small enough for a list: JPEG, at most 192 pixels wide and high';

CREATE FUNCTION millrace.dashboard_action(action text, name text) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	CASE action
		WHEN 'pause_source' THEN PERFORM millrace.pause_source(name, format('paused by %s on the dashboard', current_user));
		WHEN 'resume_source' THEN PERFORM millrace.resume_source(name);
		WHEN 'redrive_dead_letters' THEN n := millrace.redrive_dead_letters(name);
		ELSE
			RAISE EXCEPTION 'unknown action "%"', action
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Actions are pause_source, resume_source and redrive_dead_letters.';
	END CASE;
	RETURN jsonb_strip_nulls(jsonb_build_object('action', action, 'name', name, 'letters', n));
END
$$;
COMMENT ON FUNCTION millrace.dashboard_action(text, text) IS 'a button of the dashboard: pause_source, resume_source or redrive_dead_letters of a source, with the caller''s rights';
REVOKE EXECUTE ON FUNCTION millrace.dashboard_action(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.dashboard_action(text, text) TO millrace_admin;

INSERT INTO millrace.routes (method, path, function, body, open, read_only, concurrency, summary, responses, builtin) VALUES
	('GET', '/', 'millrace.http_dashboard()', '{}', true, true, NULL, 'the dashboard', '{"200": {"description": "a page", "content": {"text/html": {}}}}', true),
	('GET', '/docs', 'millrace.http_docs()', '{}', true, true, NULL, 'the routes, described, with forms to try them', '{"200": {"description": "a page", "content": {"text/html": {}}}}', true),
	('GET', '/dashboard/data', 'millrace.dashboard()', '{}', false, true, 2, 'what the dashboard shows', '{}', true),
	('GET', '/dashboard/image/{pipeline}/{image_id}', 'millrace.dashboard_image(text,text)', '{}', false, true, 2, 'a small picture of an image',
		'{"200": {"description": "a small picture", "content": {"image/jpeg": {}}}}', true),
	('POST', '/dashboard/action', 'millrace.dashboard_action(text,text)', '{json}', false, false, NULL, 'a button of the dashboard', '{}', true);
