-- Pipeline "images", replays: messages read again into a shadow, a pipeline of its own beside this one, with models of
-- your choice; and how its predictions differ from the live ones.
--
-- Run behind images.sql, and again by upgrade_pipeline().  The predictions of all shadows are children of one table here, so
-- that the views see a shadow as long as it is there.

CREATE TABLE IF NOT EXISTS @schema@.replayed_predictions (LIKE @schema@.predictions);
COMMENT ON TABLE @schema@.replayed_predictions IS 'predictions of all shadows that replay() made; their tables are its children, nothing is stored here';

CREATE OR REPLACE FUNCTION @schema@.replay("from" text DEFAULT NULL, "to" text DEFAULT NULL, models jsonb DEFAULT NULL, name text DEFAULT NULL,
		source text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	here CONSTANT text := @schema_literal@;
	found text[];
	entry text;
	descriptor_model text;
BEGIN
	IF current_user <> (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = here) THEN
		RAISE insufficient_privilege USING MESSAGE = format('must be owner of pipeline "%s" to replay its messages', here);
	END IF;
	SELECT array_agg(s.name ORDER BY s.name), max((parse_ident(s.target))[2]) INTO found, entry FROM millrace.sources s
	WHERE s.replay_of IS NULL AND (replay.source IS NULL OR s.name = replay.source)
		AND s.target IN (format('%I.images', here), format('%I.descriptors', here));
	IF found IS NULL THEN
		RAISE undefined_object USING MESSAGE = format('pipeline "%s" has no %s', here, CASE WHEN source IS NULL THEN 'source' ELSE format('source "%s"', source) END);
	ELSIF cardinality(found) > 1 THEN
		RAISE ambiguous_parameter USING MESSAGE = format('pipeline "%s" has more than one source', here),
			HINT = format('Say which one is replayed: source => %L.', found[1]);
	END IF;

	IF name IS NULL THEN
		SELECT format('%s_replay_%s', here, i) INTO name FROM generate_series(1, 10000) i
		WHERE to_regnamespace(quote_ident(format('%s_replay_%s', here, i))) IS NULL
			AND NOT EXISTS (SELECT FROM millrace.sources s WHERE s.name = format('%s_replay_%s', here, i)) ORDER BY i LIMIT 1;
	END IF;
	SELECT p.options ->> 'descriptor_model' INTO descriptor_model FROM millrace.pipelines p WHERE p.name = here;
	IF models ? 'descriptors' THEN
		descriptor_model := millrace.resolve_model(models ->> 'descriptors', 'descriptors');
	END IF;
	PERFORM millrace.create_pipeline('images', name, jsonb_strip_nulls(jsonb_build_object('descriptor_model', descriptor_model)));
	EXECUTE format('DELETE FROM %I.profiles', name);
	IF models - 'descriptors' IS NULL OR models - 'descriptors' = '{}' THEN
		EXECUTE format('INSERT INTO %I.profiles (profile, model, enabled, description)
			SELECT p.profile, p.model, p.enabled, p.description FROM @schema@.profiles p', name);
	ELSE
		EXECUTE format('INSERT INTO %I.profiles (profile, model, description)
			SELECT m.key, millrace.resolve_model(m.value, ''classifier''), format(''asked for as %%s'', m.value) FROM jsonb_each_text($1) m', name)
			USING models - 'descriptors';
	END IF;
	EXECUTE format('ALTER TABLE %I.predictions INHERIT @schema@.replayed_predictions', name);
	IF entry = 'images' THEN
		EXECUTE format('SELECT %I.fetch_from(o.server, o.bucket) FROM @schema@.object_store o', name);
	END IF;
	RETURN millrace.replay(found[1], "from", "to", format('%I.%I', name, entry), options || jsonb_build_object('name', name));
END $$;
COMMENT ON FUNCTION @schema@.replay(text, text, jsonb, text, text, jsonb) IS
	'reads messages again as millrace.replay() does, into a shadow pipeline of that name (default: made up and returned), with a model per profile: {"fast": "name:version"}, "descriptors" the one for photos; default: the profiles as they are';

CREATE OR REPLACE FUNCTION @schema@.replay("from" bigint, "to" bigint, models jsonb DEFAULT NULL, name text DEFAULT NULL,
		source text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT @schema@.replay("from"::text, "to"::text, models, name, source, options) $$;
COMMENT ON FUNCTION @schema@.replay(bigint, bigint, jsonb, text, text, jsonb) IS 'the same, by offsets';

CREATE OR REPLACE FUNCTION @schema@.replay("from" timestamptz, "to" timestamptz, models jsonb DEFAULT NULL, name text DEFAULT NULL,
		source text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT @schema@.replay("from"::text, "to"::text, models, name, source, options) $$;
COMMENT ON FUNCTION @schema@.replay(timestamptz, timestamptz, jsonb, text, text, jsonb) IS 'the same, by times';

REVOKE EXECUTE ON FUNCTION @schema@.replay(text, text, jsonb, text, text, jsonb), @schema@.replay(bigint, bigint, jsonb, text, text, jsonb),
	@schema@.replay(timestamptz, timestamptz, jsonb, text, text, jsonb) FROM PUBLIC;

CREATE OR REPLACE VIEW @schema@.replay_diff AS
	SELECT n.nspname::text AS replay, r.image_id, r.profile,
		   l.label AS live_label, l.confidence AS live_confidence, l.model AS live_model,
		   r.label AS replayed_label, r.confidence AS replayed_confidence, r.model AS replayed_model,
		   l.label <> r.label AS changed,
		   (l.source_topic, l.source_partition, l.source_offset) IS NOT DISTINCT FROM (r.source_topic, r.source_partition, r.source_offset) AS same_message
	FROM @schema@.replayed_predictions r
	JOIN pg_catalog.pg_class c ON c.oid = r.tableoid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN @schema@.predictions l ON l.image_id = r.image_id AND l.profile = r.profile;
COMMENT ON VIEW @schema@.replay_diff IS 'each prediction of each replay beside the live one; changed is null where there is none; same_message is false where it came from another message';

CREATE OR REPLACE VIEW @schema@.replay_agreement AS
	SELECT d.replay, d.profile, d.live_model, d.replayed_model, pg_catalog.count(*) AS images,
		   pg_catalog.count(d.changed) AS compared, pg_catalog.count(*) FILTER (WHERE d.changed) AS changed,
		   pg_catalog.round(100.0 * pg_catalog.count(*) FILTER (WHERE NOT d.changed) / NULLIF(pg_catalog.count(d.changed), 0), 2) AS agreement_percent,
		   pg_catalog.round(pg_catalog.avg(d.live_confidence)::numeric, 3) AS live_confidence,
		   pg_catalog.round(pg_catalog.avg(d.replayed_confidence)::numeric, 3) AS replayed_confidence
	FROM @schema@.replay_diff d GROUP BY d.replay, d.profile, d.live_model, d.replayed_model;
COMMENT ON VIEW @schema@.replay_agreement IS 'how often a replay and the live predictions agree, by profile and pair of models';

CREATE OR REPLACE VIEW @schema@.replay_confusion AS
	SELECT d.replay, d.profile, d.live_label, d.replayed_label, pg_catalog.count(*) AS images
	FROM @schema@.replay_diff d GROUP BY d.replay, d.profile, d.live_label, d.replayed_label;
COMMENT ON VIEW @schema@.replay_confusion IS 'live label against replayed label, counted';
