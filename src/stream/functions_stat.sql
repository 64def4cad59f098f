-- stream: what workers of sources, outboxes and HTTP queues have done, and are like now

CREATE FUNCTION millrace.meters(OUT kind text, OUT name text, OUT since timestamptz,
		OUT messages bigint, OUT bytes bigint, OUT batches bigint, OUT errors bigint, OUT busy double precision,
		OUT messages_per_s double precision, OUT bytes_per_s double precision,
		OUT batch_messages double precision, OUT batch_ms double precision, OUT load double precision,
		OUT messages_per_s_1m double precision, OUT bytes_per_s_1m double precision,
		OUT batch_messages_1m double precision, OUT batch_ms_1m double precision, OUT load_1m double precision) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_meters';
COMMENT ON FUNCTION millrace.meters() IS
	'what the workers of each source, outbox and HTTP queue of this database have done since "since" (their first work after the server started), together, and how fast in the last 10 s and the last minute; load: seconds of work in each second';

CREATE FUNCTION millrace.gauges(OUT kind text, OUT name text, OUT worker int, OUT pid int, OUT behind bigint, OUT behind_stable bigint,
		OUT queued_bytes bigint, OUT batch_bytes bigint, OUT resident_bytes bigint) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_gauges';
COMMENT ON FUNCTION millrace.gauges() IS
	'each running worker of this database now: messages it is behind, bytes that its client keeps ready, that its batch takes, and that its process takes without what is shared';

REVOKE EXECUTE ON FUNCTION millrace.meters(), millrace.gauges() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.meters(), millrace.gauges() TO millrace_admin, millrace_monitor;

CREATE FUNCTION millrace.source_budget(options jsonb, OUT low int, OUT high int, OUT memory bigint) RETURNS record
	LANGUAGE sql STABLE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT w.low, w.high, coalesce(pg_size_bytes(options->>'memory'),
		w.high * greatest(268435456, 8 * greatest((options->>'batch_bytes')::bigint, (options->>'max_message_bytes')::bigint)))
	FROM (SELECT coalesce((options->>'workers')::int, (options->>'workers_min')::int, 1) AS low,
				 greatest(coalesce((options->>'workers')::int, (options->>'workers_min')::int, 1), (options->>'workers_max')::int) AS high) w
$$;
COMMENT ON FUNCTION millrace.source_budget(jsonb) IS 'workers at least and at most, and bytes of memory, that options of create_source mean';
REVOKE EXECUTE ON FUNCTION millrace.source_budget(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.source_budget(jsonb) TO millrace_admin, millrace_monitor;
