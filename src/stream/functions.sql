-- stream, lifecycle: workers of this database, and how they hear of changes

CREATE FUNCTION millrace.start() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_start';
COMMENT ON FUNCTION millrace.start() IS 'let this database run workers: sets millrace.enabled for it and starts its supervisor';

CREATE FUNCTION millrace.stop() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_stop';
COMMENT ON FUNCTION millrace.stop() IS 'end the workers of this database and keep them off until millrace.start()';

CREATE FUNCTION millrace.worker_slots(OUT kind text, OUT name text, OUT worker int, OUT pid int, OUT state text,
		OUT reason text, OUT since timestamptz, OUT rows bigint, OUT batches bigint, OUT bytes bigint,
		OUT dead bigint, OUT errors bigint) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_worker_slots';
COMMENT ON FUNCTION millrace.worker_slots() IS 'the launcher and the workers of this database as shared memory knows them, with counters since each started';

CREATE FUNCTION millrace.source_binding() RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_source_binding';
COMMENT ON FUNCTION millrace.source_binding() IS 'names this database and installation; a source whose bound_to is another one counts as paused';

CREATE FUNCTION millrace.sources_changed() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_sources_changed';
COMMENT ON FUNCTION millrace.sources_changed() IS 'wakes supervisor and workers when a change of millrace.sources commits';

CREATE TRIGGER sources_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.sources
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.sources ENABLE ALWAYS TRIGGER sources_changed;
COMMENT ON TRIGGER sources_changed ON millrace.sources IS 'wakes supervisor and workers';

CREATE FUNCTION millrace.worker_status(OUT kind text, OUT name text, OUT pid int, OUT state text, OUT reason text,
		OUT since timestamptz) RETURNS SETOF record
	LANGUAGE sql VOLATILE PARALLEL RESTRICTED ROWS 10
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH slots AS MATERIALIZED (SELECT * FROM millrace.worker_slots()),
	told AS (
		SELECT 1 AS place, s.kind, s.name, 0 AS worker, s.pid, s.state, s.reason, s.since
		  FROM slots s WHERE s.kind = 'launcher'
		UNION ALL
		SELECT 1, 'launcher', NULL, 0, NULL, 'absent',
			   'millrace is not in shared_preload_libraries: after a restart workers need millrace.start()', NULL
		 WHERE NOT EXISTS (SELECT FROM slots s WHERE s.kind = 'launcher')
		UNION ALL
		SELECT 2, s.kind, s.name, 0, s.pid, s.state, s.reason, s.since
		  FROM slots s WHERE s.kind = 'supervisor'
		UNION ALL
		SELECT 2, 'supervisor', current_database(), 0, NULL, 'stopped',
			   CASE WHEN pg_is_in_recovery() THEN 'this server is a standby'
					ELSE 'millrace.start() starts the workers of this database' END, NULL
		 WHERE NOT EXISTS (SELECT FROM slots s WHERE s.kind = 'supervisor')
		UNION ALL
		-- a worker says in source_workers what it is doing; its slot knows that it lives
		SELECT 3, s.kind, format('%s/%s', s.name, s.worker), s.worker, s.pid,
			   CASE WHEN w.pid = s.pid AND s.state <> 'stopping' THEN w.state ELSE s.state END,
			   CASE WHEN w.pid = s.pid THEN w.reason ELSE s.reason END,
			   CASE WHEN w.pid = s.pid THEN greatest(w.since, s.since) ELSE s.since END
		  FROM slots s LEFT JOIN millrace.source_workers w ON w.source = s.name AND w.worker = s.worker
		 WHERE s.kind = 'source'
		UNION ALL
		SELECT 3, 'source', q.name, 0, NULL,
			   CASE WHEN q.state = 'running' AND q.bound_to <> millrace.source_binding() THEN 'paused'
					WHEN q.state = 'running' THEN 'stopped' ELSE q.state END,
			   CASE WHEN q.state = 'running' AND q.bound_to <> millrace.source_binding()
					THEN 'restored or copied from another database: resume_source() starts it here'
					WHEN q.state = 'running' THEN coalesce(w.reason, 'not started')
					ELSE q.reason END,
			   q.state_since
		  FROM millrace.sources q
		  LEFT JOIN LATERAL (SELECT w.reason FROM millrace.source_workers w
							  WHERE w.source = q.name ORDER BY w.worker LIMIT 1) w ON true
		 WHERE NOT EXISTS (SELECT FROM slots s WHERE s.kind = 'source' AND s.name = q.name)
		UNION ALL
		SELECT 4, s.kind, CASE WHEN s.kind IN ('http', 'tasks', 'executor') THEN format('%s/%s', s.name, s.worker) ELSE s.name END, s.worker, s.pid, s.state, s.reason, s.since
		  FROM slots s WHERE s.kind IN ('outbox', 'http', 'tasks', 'calls', 'gateway', 'executor')
	)
	SELECT t.kind, t.name, t.pid, t.state, t.reason, t.since FROM told t ORDER BY t.place, t.name, t.worker
$$;
COMMENT ON FUNCTION millrace.worker_status() IS 'launcher, supervisor and workers of this database: what each is doing, and why one is not';

REVOKE ALL ON FUNCTION millrace.start(), millrace.stop(), millrace.worker_slots(), millrace.worker_status(), millrace.sources_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.start(), millrace.stop() TO millrace_admin;
GRANT EXECUTE ON FUNCTION millrace.worker_slots(), millrace.worker_status() TO millrace_admin, millrace_monitor;

-- stream: the wrapper

CREATE FUNCTION millrace.kafka_validator(options text[], catalog oid) RETURNS void
	LANGUAGE c STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_kafka_validator';
COMMENT ON FUNCTION millrace.kafka_validator(text[], oid) IS
	'checks the options of millrace_kafka servers and user mappings against an allow-list';

CREATE FOREIGN DATA WRAPPER millrace_kafka VALIDATOR millrace.kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER millrace_kafka IS 'names Kafka clusters: servers carry brokers, user mappings secrets';
GRANT USAGE ON FOREIGN DATA WRAPPER millrace_kafka TO millrace_admin;

-- stream: administration

CREATE FUNCTION millrace.create_source(name text, server text, topic text, target regclass, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_create_source';
COMMENT ON FUNCTION millrace.create_source(text, text, text, regclass, jsonb) IS
	'reads a Kafka topic into a table from now on; options: owner, format, columns, transform, message_type, unknown_keys, array, header, delimiter, quote, null, on_conflict, key_format, tombstones, start, workers, workers_min, workers_max, memory, batch_rows, batch_bytes, batch_ms, batch_timeout_ms, max_message_bytes, max_dead_percent, partitions, control_topic, lease_ms, dead_window, max_dead_letters, max_dead_letter_bytes, dead_letter_value_bytes, dead_letter_topic, dead_letter_server';
REVOKE EXECUTE ON FUNCTION millrace.create_source(text, text, text, regclass, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_source(text, text, text, regclass, jsonb) TO millrace_admin;

CREATE FUNCTION millrace.pause_source(name text, reason text DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_pause_source';
COMMENT ON FUNCTION millrace.pause_source(text, text) IS
	'stops reading: waits for the batch in progress, after which nothing moves until resume_source';
REVOKE EXECUTE ON FUNCTION millrace.pause_source(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.pause_source(text, text) TO millrace_admin;

CREATE FUNCTION millrace.resume_source(name text) RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_resume_source';
COMMENT ON FUNCTION millrace.resume_source(text) IS
	'reads on where it stopped: after a pause, after it halted itself, after a restore or a clone of the database';
REVOKE EXECUTE ON FUNCTION millrace.resume_source(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.resume_source(text) TO millrace_admin;

CREATE FUNCTION millrace.rewind_source(name text, to_offset bigint DEFAULT NULL, to_time timestamptz DEFAULT NULL,
		partition integer DEFAULT NULL, other_cluster boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_rewind_source';
COMMENT ON FUNCTION millrace.rewind_source(text, bigint, timestamptz, integer, boolean) IS
	'moves a source (or one partition) to an offset or a time, back or forth; a halted source runs again; other_cluster accepts that the brokers belong to another Kafka cluster';
REVOKE EXECUTE ON FUNCTION millrace.rewind_source(text, bigint, timestamptz, integer, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.rewind_source(text, bigint, timestamptz, integer, boolean) TO millrace_admin;

CREATE FUNCTION millrace.drop_source(name text) RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_drop_source';
COMMENT ON FUNCTION millrace.drop_source(text) IS
	'ends a source and forgets its offsets; its rows and dead letters stay';
REVOKE EXECUTE ON FUNCTION millrace.drop_source(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.drop_source(text) TO millrace_admin;

CREATE FUNCTION millrace.replay(source text, "from" "any" DEFAULT NULL, "to" "any" DEFAULT NULL, "into" text DEFAULT NULL,
		options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_replay';
COMMENT ON FUNCTION millrace.replay(text, "any", "any", text, jsonb) IS
	'reads a range of a source''s topic again, into another table (made like the source''s, if it is not there), while the source goes on; from and to: an offset, {"partition": offset, ...} or a time, default the first message kept and where the source stands; options: name, and those of create_source; returns the name of the replay';
REVOKE EXECUTE ON FUNCTION millrace.replay(text, "any", "any", text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.replay(text, "any", "any", text, jsonb) TO millrace_admin;

CREATE FUNCTION millrace.cancel_replay(replay text) RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_cancel_replay';
COMMENT ON FUNCTION millrace.cancel_replay(text) IS
	'ends a replay where it is; its rows, dead letters and figures stay, and resume_source goes on with it after all';
REVOKE EXECUTE ON FUNCTION millrace.cancel_replay(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.cancel_replay(text) TO millrace_admin;

CREATE FUNCTION millrace.replay_diff(replay text, key text[] DEFAULT NULL, ignore text[] DEFAULT NULL)
		RETURNS TABLE (difference text, "key" jsonb, columns text[], live jsonb, replayed jsonb)
	LANGUAGE c STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'millrace_replay_diff';
COMMENT ON FUNCTION millrace.replay_diff(text, text[], text[]) IS
	'rows in which the table of a replay differs from that of its source, matched by key (default the primary key): missing, extra, changed (columns says which), superseded (changed by a message outside the range); ignore: columns not compared, default those that are never the same twice';
REVOKE EXECUTE ON FUNCTION millrace.replay_diff(text, text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.replay_diff(text, text[], text[]) TO millrace_admin, millrace_monitor;

CREATE FUNCTION millrace.redrive_dead_letters(source text, ids bigint[] DEFAULT NULL, at_most bigint DEFAULT NULL,
		overwrite boolean DEFAULT false) RETURNS bigint
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_redrive_dead_letters';
COMMENT ON FUNCTION millrace.redrive_dead_letters(text, bigint[], bigint, boolean) IS
	'has the workers of a source run its dead letters again (all, or those of ids; the at_most oldest), each once, and tells how many; overwrite: also where a row of the same key may be newer';
REVOKE EXECUTE ON FUNCTION millrace.redrive_dead_letters(text, bigint[], bigint, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.redrive_dead_letters(text, bigint[], bigint, boolean) TO millrace_admin;

-- The worker library, for it alone links librdkafka; ordinary backends load it for this only.
CREATE FUNCTION millrace.peek(server text, topic text, n int DEFAULT 10, timeout_ms int DEFAULT 10000,
		OUT partition int, OUT "offset" bigint, OUT "time" timestamptz, OUT key text, OUT value text, OUT headers jsonb)
		RETURNS SETOF record
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 10
	AS '$libdir/millrace_worker', 'millrace_peek';
COMMENT ON FUNCTION millrace.peek(text, text, int, int) IS
	'shows about the newest n messages of a topic, shared out over its partitions, and consumes nothing; what is no text stands in hexadecimal';
REVOKE EXECUTE ON FUNCTION millrace.peek(text, text, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.peek(text, text, int, int) TO millrace_admin;

-- There too: the worker library has the parser.
CREATE FUNCTION millrace.add_avro_schema(server text, id bigint, schema text) RETURNS void
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS '$libdir/millrace_worker', 'millrace_add_avro_schema';
COMMENT ON FUNCTION millrace.add_avro_schema(text, bigint, text) IS
	'tells the Avro schema that messages of this server''s topics call by this id; a source that waits for it goes on';
REVOKE EXECUTE ON FUNCTION millrace.add_avro_schema(text, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.add_avro_schema(text, bigint, text) TO millrace_admin;
