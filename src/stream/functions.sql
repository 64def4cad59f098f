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
	'reads a Kafka topic into a table from now on; options: owner, columns, unknown_keys, tombstones, start, workers, batch_rows, batch_bytes, batch_ms, batch_timeout_ms, max_message_bytes, max_dead_percent';
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
