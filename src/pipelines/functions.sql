CREATE FUNCTION millrace.create_pipeline(kind text, name text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_create_pipeline';
COMMENT ON FUNCTION millrace.create_pipeline(text, text, jsonb) IS
	'creates a ready-made pipeline as a schema of its own (name, default the kind), owned by the caller';
REVOKE EXECUTE ON FUNCTION millrace.create_pipeline(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_pipeline(text, text, jsonb) TO millrace_admin;

CREATE FUNCTION millrace.drop_pipeline(name text) RETURNS void
	LANGUAGE c VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'millrace_drop_pipeline';
COMMENT ON FUNCTION millrace.drop_pipeline(text) IS
	'drops a pipeline: its sources, then its schema with everything in it';
REVOKE EXECUTE ON FUNCTION millrace.drop_pipeline(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.drop_pipeline(text) TO millrace_admin;

CREATE FUNCTION millrace.upgrade_pipeline(name text) RETURNS void
	LANGUAGE c VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'millrace_upgrade_pipeline';
COMMENT ON FUNCTION millrace.upgrade_pipeline(text) IS
	'replaces a pipeline''s triggers, functions and views by those of the installed version; tables stay';
REVOKE EXECUTE ON FUNCTION millrace.upgrade_pipeline(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.upgrade_pipeline(text) TO millrace_admin;

CREATE FUNCTION millrace.images_extract() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_images_extract';
COMMENT ON FUNCTION millrace.images_extract() IS
	'statement trigger of pipeline images: turns new photos into descriptors, as the owner of the table';
REVOKE EXECUTE ON FUNCTION millrace.images_extract() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.images_extract() TO millrace_admin;

CREATE FUNCTION millrace.images_classify() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_images_classify';
COMMENT ON FUNCTION millrace.images_classify() IS
	'statement trigger of pipeline images: turns new descriptors into one prediction per profile, as the owner of the table';
REVOKE EXECUTE ON FUNCTION millrace.images_classify() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.images_classify() TO millrace_admin;

CREATE FUNCTION millrace.images_backfill(pipeline text, stage text, profile text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_images_backfill';
COMMENT ON FUNCTION millrace.images_backfill(text, text, text) IS
	'does what the triggers of pipeline images would have done: stage descriptors or predictions (of one profile, or of all)';

CREATE FUNCTION millrace.backfill(pipeline text) RETURNS bigint
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT millrace.images_backfill(pipeline, 'descriptors') + millrace.images_backfill(pipeline, 'predictions') $$;
COMMENT ON FUNCTION millrace.backfill(text) IS
	'finds rows that fired no trigger (logical replication, direct inserts into a partition) and processes them';

CREATE FUNCTION millrace.csv_rows(target regclass, content bytea, options jsonb DEFAULT '{}') RETURNS TABLE (line bigint, fields text[])
	LANGUAGE c STABLE STRICT
	AS 'MODULE_PATHNAME', 'millrace_csv_rows';
COMMENT ON FUNCTION millrace.csv_rows(regclass, bytea, jsonb) IS
	'what COPY target FROM … CSV would read from these bytes, unconverted; options delimiter, quote, escape, null, encoding (UTF8) as in COPY; line: where the row ends';
REVOKE EXECUTE ON FUNCTION millrace.csv_rows(regclass, bytea, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.csv_rows(regclass, bytea, jsonb) TO millrace_admin;

-- For everybody: the owner of the pipeline alone is heard, whose functions call it wherever they run.
CREATE FUNCTION millrace.observe(pipeline text, stage text, seconds double precision, times bigint DEFAULT 1) RETURNS boolean
	LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'millrace_observe';
COMMENT ON FUNCTION millrace.observe(text, text, double precision, bigint) IS
	'counts, when the transaction commits, that a stage of a pipeline took so long (times over): metric millrace_stage_seconds; false: it is not the caller''s pipeline';
