-- stream: several database servers share a topic by partitions (docs/sharing.md)

CREATE FUNCTION millrace.take_partitions(source text, partitions int[], next_offsets bigint[] DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_take_partitions';
COMMENT ON FUNCTION millrace.take_partitions(text, int[], bigint[]) IS
	'has a source with option partitions read these too: with a control topic as soon as their owner has released them, where he stopped; without one from next_offsets, or where option start says';
REVOKE EXECUTE ON FUNCTION millrace.take_partitions(text, int[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.take_partitions(text, int[], bigint[]) TO millrace_admin;

CREATE FUNCTION millrace.release_partitions(source text, partitions int[], OUT partition int, OUT next_offset bigint) RETURNS SETOF record
	LANGUAGE c VOLATILE ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_release_partitions';
COMMENT ON FUNCTION millrace.release_partitions(text, int[]) IS
	'has a source with option partitions read these no longer: waits for the batch in progress and tells where each stands, NULL where it was never read';
REVOKE EXECUTE ON FUNCTION millrace.release_partitions(text, int[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.release_partitions(text, int[]) TO millrace_admin;

CREATE FUNCTION millrace.take_over(source text, partitions int[], next_offsets bigint[] DEFAULT NULL, accept_duplicates boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_take_over';
COMMENT ON FUNCTION millrace.take_over(text, int[], bigint[], boolean) IS
	'has a source read partitions whose owner is gone, once he has been silent for his lease: from next_offsets, which his disk or standby told (partition_offsets), or with accept_duplicates from his last word in the control topic';
REVOKE EXECUTE ON FUNCTION millrace.take_over(text, int[], bigint[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.take_over(text, int[], bigint[], boolean) TO millrace_admin;

CREATE FUNCTION millrace.partition_offsets(source text, OUT partition int, OUT next_offset bigint, OUT state text, OUT epoch bigint)
		RETURNS SETOF record
	LANGUAGE sql STABLE ROWS 10
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT o.partition, o.next_offset, s.state, s.epoch
	  FROM millrace.source_offsets o LEFT JOIN millrace.source_shares s USING (source, partition)
	 WHERE o.source = $1 ORDER BY 1
$$;
COMMENT ON FUNCTION millrace.partition_offsets(text) IS
	'where each partition of a source stands here; also on a standby, or a restarted copy of a dead server, for take_over elsewhere';
REVOKE EXECUTE ON FUNCTION millrace.partition_offsets(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.partition_offsets(text) TO millrace_admin, millrace_monitor;
