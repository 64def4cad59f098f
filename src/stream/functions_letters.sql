-- stream: dead letters and options

CREATE FUNCTION millrace.alter_source(name text, options jsonb) RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_alter_source';
COMMENT ON FUNCTION millrace.alter_source(text, jsonb) IS
	'changes options of a source, those given and no others; null takes one away; its workers start anew; not owner, start, partitions, control_topic';

CREATE FUNCTION millrace.purge_dead_letters(source text, before timestamptz DEFAULT NULL, older_than interval DEFAULT NULL,
		OUT letters bigint, OUT bytes bigint)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF source IS NULL OR (before IS NULL) = (older_than IS NULL) THEN
		RAISE EXCEPTION 'purge_dead_letters needs a source and either a time or an age' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'For example millrace.purge_dead_letters(''s'', older_than => ''30 days'').';
	END IF;
	WITH gone AS (
		DELETE FROM millrace.dead_letters d
		 WHERE d.source = purge_dead_letters.source AND d.at < coalesce(before, now() - older_than) AND d.redrive_at IS NULL
		RETURNING coalesce(octet_length(d.key), 0)::bigint + coalesce(octet_length(d.value), 0) AS size)
	SELECT count(*), coalesce(sum(size), 0) INTO letters, bytes FROM gone;
END $$;
COMMENT ON FUNCTION millrace.purge_dead_letters(text, timestamptz, interval) IS
	'deletes the dead letters of a source that were put aside before a time, or are older than an interval, and tells how many and their bytes; those that wait to be redriven stay';

REVOKE EXECUTE ON FUNCTION millrace.alter_source(text, jsonb), millrace.purge_dead_letters(text, timestamptz, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.alter_source(text, jsonb), millrace.purge_dead_letters(text, timestamptz, interval) TO millrace_admin;
