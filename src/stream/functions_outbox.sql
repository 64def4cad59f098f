-- stream: publishing

CREATE FUNCTION millrace.create_outbox(server text, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_create_outbox';
COMMENT ON FUNCTION millrace.create_outbox(text, jsonb) IS
	'lets messages leave for a Kafka server from now on; options: owner, progress_topic, batch_rows, batch_bytes';

CREATE FUNCTION millrace.pause_outbox(server text, reason text DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_pause_outbox';
COMMENT ON FUNCTION millrace.pause_outbox(text, text) IS
	'nothing leaves from now on, but for the batch in progress; messages are kept';

CREATE FUNCTION millrace.resume_outbox(server text, accept_duplicates boolean DEFAULT false, discard boolean DEFAULT false) RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_resume_outbox';
COMMENT ON FUNCTION millrace.resume_outbox(text, boolean, boolean) IS
	'messages leave again: after a pause, a halt, a restore; accept_duplicates: even where it cannot be known whether some have left; discard: only what is published from now on';

CREATE FUNCTION millrace.drop_outbox(server text, discard boolean DEFAULT false) RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_drop_outbox';
COMMENT ON FUNCTION millrace.drop_outbox(text, boolean) IS
	'ends an outbox; refused while messages wait in it, unless they are to be discarded';

REVOKE EXECUTE ON FUNCTION millrace.create_outbox(text, jsonb), millrace.pause_outbox(text, text), millrace.resume_outbox(text, boolean, boolean),
	millrace.drop_outbox(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_outbox(text, jsonb), millrace.pause_outbox(text, text), millrace.resume_outbox(text, boolean, boolean),
	millrace.drop_outbox(text, boolean) TO millrace_admin;

-- Who may publish: roles with USAGE on the server, whom its owner lets.
CREATE FUNCTION millrace.publish(server text, topic text, value text, key text DEFAULT NULL, headers jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_publish';
COMMENT ON FUNCTION millrace.publish(text, text, text, text, jsonb) IS
	'a message leaves for a Kafka topic if and when this transaction commits; needs USAGE on the server; headers {"name": "value"}; returns its number';

CREATE FUNCTION millrace.publish(server text, topic text, value bytea, key bytea DEFAULT NULL, headers jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_publish';
COMMENT ON FUNCTION millrace.publish(text, text, bytea, bytea, jsonb) IS 'the same, of raw bytes';

CREATE FUNCTION millrace.publish_rows() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_publish_rows';
COMMENT ON FUNCTION millrace.publish_rows() IS
	'statement trigger with transition tables that publishes what a statement changed; arguments: server, topic, value (row or change), key columns; made by publish_changes()';

REVOKE EXECUTE ON FUNCTION millrace.publish(text, text, text, text, jsonb), millrace.publish(text, text, bytea, bytea, jsonb),
	millrace.publish_rows() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.publish(text, text, text, text, jsonb), millrace.publish(text, text, bytea, bytea, jsonb)
	TO millrace_admin, millrace_user;
GRANT EXECUTE ON FUNCTION millrace.publish_rows() TO millrace_admin;

CREATE FUNCTION millrace.publish_changes(tbl regclass, server text, topic text, key text[] DEFAULT NULL, value text DEFAULT 'row') RETURNS void
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns text[] := key;
	arguments text;
BEGIN
	IF tbl IS NULL OR server IS NULL OR topic IS NULL THEN
		RAISE EXCEPTION 'publish_changes needs a table, a server and a topic' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF value IS NULL OR value NOT IN ('row', 'change') THEN
		RAISE EXCEPTION 'invalid value "%" of argument "value"', value USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use row (the row as JSON; a deleted one is a tombstone) or change ({"op", "before", "after"}).';
	END IF;
	IF columns IS NULL THEN
		SELECT array_agg(a.attname ORDER BY k.place) INTO columns
		  FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
		  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		 WHERE i.indrelid = tbl AND i.indisprimary;
	END IF;
	IF columns IS NULL OR columns = '{}' OR EXISTS (SELECT FROM unnest(columns) c WHERE NOT EXISTS
			(SELECT FROM pg_attribute a WHERE a.attrelid = tbl AND a.attname = c AND a.attnum > 0 AND NOT a.attisdropped)) THEN
		RAISE EXCEPTION 'table % has no such key to publish by', tbl USING ERRCODE = 'undefined_column',
			HINT = 'Give it a primary key, or name columns: key => ''{id}''.';
	END IF;
	SELECT format('%L, %L, %L, ', server, topic, value) || string_agg(quote_literal(c.name), ', ' ORDER BY c.place)
	  INTO arguments FROM unnest(columns) WITH ORDINALITY AS c(name, place);
	EXECUTE format('CREATE TRIGGER millrace_publish_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION millrace.publish_rows(%s)', tbl, arguments);
	EXECUTE format('CREATE TRIGGER millrace_publish_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
		FOR EACH STATEMENT EXECUTE FUNCTION millrace.publish_rows(%s)', tbl, arguments);
	EXECUTE format('CREATE TRIGGER millrace_publish_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows
		FOR EACH STATEMENT EXECUTE FUNCTION millrace.publish_rows(%s)', tbl, arguments);
END $$;
COMMENT ON FUNCTION millrace.publish_changes(regclass, text, text, text[], text) IS
	'makes triggers on a table: what commits in it leaves for a Kafka topic, keyed by its primary key (or key columns); value row: the row, or a tombstone; change: {"op", "before", "after"}';

CREATE FUNCTION millrace.unpublish_changes(tbl regclass) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('DROP TRIGGER millrace_publish_insert ON %s', tbl);
	EXECUTE format('DROP TRIGGER millrace_publish_update ON %s', tbl);
	EXECUTE format('DROP TRIGGER millrace_publish_delete ON %s', tbl);
END $$;
COMMENT ON FUNCTION millrace.unpublish_changes(regclass) IS 'takes back publish_changes()';

REVOKE EXECUTE ON FUNCTION millrace.publish_changes(regclass, text, text, text[], text), millrace.unpublish_changes(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.publish_changes(regclass, text, text, text[], text), millrace.unpublish_changes(regclass) TO millrace_admin;

CREATE TRIGGER outboxes_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.outboxes
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.outboxes ENABLE ALWAYS TRIGGER outboxes_changed;
COMMENT ON TRIGGER outboxes_changed ON millrace.outboxes IS 'wakes supervisor and workers';
