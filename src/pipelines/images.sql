-- Pipeline "images": photos or descriptors in, predictions of every profile out.
--
-- Run by millrace.create_pipeline() as the caller, with search_path pg_catalog, pg_temp.
-- @schema@ is the pipeline's schema, quoted; @schema_literal@ the same as a literal;
-- @extschema@ the schema of the extension's functions.  What is created here are ordinary
-- objects that belong to the caller.  Everything below the line "-- upgrade" can be run
-- again: millrace.upgrade_pipeline() does.

CREATE SCHEMA @schema@;
COMMENT ON SCHEMA @schema@ IS 'Millrace pipeline of kind images';

CREATE TABLE @schema@.images (
	image_id text PRIMARY KEY,
	object_path text,
	content bytea,
	received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	source text,
	source_topic text,
	source_partition int,
	source_offset bigint,
	source_time timestamptz
);
-- JPEG and PNG are compressed already, and a heap of TOAST pointers looks smaller than it is.
ALTER TABLE @schema@.images ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE @schema@.images SET (parallel_workers = 2);
COMMENT ON TABLE @schema@.images IS 'entry of the pipeline: one photo a row; an INSERT fires extraction and classification';
COMMENT ON COLUMN @schema@.images.content IS 'JPEG or PNG bytes; NULL while the object is still to be fetched';
COMMENT ON COLUMN @schema@.images.source_offset IS 'offset of the Kafka message this row came from';

CREATE TABLE @schema@.runs (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stage text NOT NULL CHECK (stage IN ('extract', 'classify')),
	profile text,
	model_name text NOT NULL,
	model_version int NOT NULL,
	source text,
	source_topic text,
	source_offsets jsonb,
	rows int NOT NULL,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	FOREIGN KEY (model_name, model_version) REFERENCES millrace.models (name, version)
);
COMMENT ON TABLE @schema@.runs IS 'one row per batch and model: the enforced lineage of descriptors and predictions';
COMMENT ON COLUMN @schema@.runs.source_offsets IS 'per partition the first and last offset of the batch: {"0": [17, 42]}';

CREATE TABLE @schema@.descriptors (
	image_id text PRIMARY KEY,
	run_id bigint,
	model text,
	descriptors real[] NOT NULL,
	descriptor_count int,
	content_sha256 bytea,
	extract_ms real,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	source text,
	source_topic text,
	source_partition int,
	source_offset bigint,
	source_time timestamptz
);
CREATE INDEX descriptors_content ON @schema@.descriptors (content_sha256, model) WHERE content_sha256 IS NOT NULL;
COMMENT ON TABLE @schema@.descriptors IS 'what a photo became: short vectors; feature messages from Kafka are inserted here directly';
COMMENT ON COLUMN @schema@.descriptors.model IS 'descriptor model as name:version; NULL when the descriptors came ready-made';

CREATE TABLE @schema@.predictions (
	image_id text NOT NULL,
	profile text NOT NULL,
	run_id bigint NOT NULL,
	model text NOT NULL,
	label text NOT NULL,
	confidence real NOT NULL,
	classify_ms real NOT NULL,
	predicted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	source_topic text,
	source_partition int,
	source_offset bigint,
	PRIMARY KEY (image_id, profile)
);
COMMENT ON TABLE @schema@.predictions IS 'one row per image and profile, with the model version and the message it came from';
COMMENT ON COLUMN @schema@.predictions.classify_ms IS 'the batch''s classification time divided by its rows';

CREATE TABLE @schema@.profiles (
	profile text PRIMARY KEY,
	model text NOT NULL,
	enabled boolean NOT NULL DEFAULT true,
	description text
);
COMMENT ON TABLE @schema@.profiles IS 'the classifiers that run on every descriptor; INSERT adds one, backfill_profile() fills its history';
INSERT INTO @schema@.profiles (profile, model, description) VALUES
	('fast', 'cifar10_fast', 'logistic regression'),
	('balanced', 'cifar10_balanced', 'small forest'),
	('accurate', 'cifar10_accurate', 'large forest');

CREATE TABLE @schema@.failures (
	failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	image_id text,
	stage text NOT NULL,
	profile text,
	model text,
	rows int NOT NULL DEFAULT 1,
	sqlstate text NOT NULL,
	message text NOT NULL,
	source_topic text,
	source_partition int,
	source_offset bigint,
	failed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE @schema@.failures IS 'what could not be fetched, stored, decoded or classified; image_id is NULL where a whole batch of one profile failed';

-- upgrade

ALTER TABLE @schema@.failures DROP CONSTRAINT IF EXISTS failures_stage_check;
ALTER TABLE @schema@.failures ADD CONSTRAINT failures_stage_check CHECK (stage IN ('fetch', 'upload', 'extract', 'classify'));
CREATE INDEX IF NOT EXISTS failures_image ON @schema@.failures (image_id) WHERE image_id IS NOT NULL;
-- the latest first: what the dashboard shows
CREATE INDEX IF NOT EXISTS descriptors_created ON @schema@.descriptors (created_at);

CREATE OR REPLACE TRIGGER extract_inserted AFTER INSERT ON @schema@.images
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION millrace.images_extract();
CREATE OR REPLACE TRIGGER extract_updated AFTER UPDATE ON @schema@.images
	REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION millrace.images_extract();
CREATE OR REPLACE TRIGGER classify_inserted AFTER INSERT ON @schema@.descriptors
	REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION millrace.images_classify();
CREATE OR REPLACE TRIGGER classify_updated AFTER UPDATE ON @schema@.descriptors
	REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION millrace.images_classify();

-- Descriptors that this pipeline extracted leave for Kafka; ready-made ones, which came from there, do not.
CREATE OR REPLACE FUNCTION @schema@.publish_rows() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		PERFORM millrace.publish(TG_ARGV[0], TG_ARGV[1],
			pg_catalog.jsonb_build_object('image_id', n.image_id, 'descriptors', n.descriptors, 'descriptor_count', n.descriptor_count)::text, n.image_id)
		   FROM new_rows n WHERE n.model IS NOT NULL;
		RETURN NULL;
	END $$;
COMMENT ON FUNCTION @schema@.publish_rows() IS 'statement trigger made by publish_descriptors(); arguments: server, topic';
REVOKE EXECUTE ON FUNCTION @schema@.publish_rows() FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.publish_descriptors(server text, topic text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER publish_inserted AFTER INSERT ON @schema@.descriptors
			REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.publish_rows(%L, %L)', server, topic);
		EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER publish_updated AFTER UPDATE ON @schema@.descriptors
			REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.publish_rows(%L, %L)', server, topic);
	END $$;
COMMENT ON FUNCTION @schema@.publish_descriptors(text, text) IS
	'from now on extracted descriptors leave for a Kafka topic, through the server''s outbox: {"image_id", "descriptors", "descriptor_count"}';

CREATE OR REPLACE FUNCTION @schema@.backfill_profile(profile text) RETURNS bigint
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT millrace.images_backfill(@schema_literal@, 'predictions', profile) $$;
COMMENT ON FUNCTION @schema@.backfill_profile(text) IS 'classifies every descriptor that has no prediction of this profile yet; returns how many';

CREATE OR REPLACE VIEW @schema@.latency_by_stage AS
	SELECT s.stage, pg_catalog.count(*) AS rows,
		   pg_catalog.round(pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY s.ms)::numeric, 3) AS p50_ms,
		   pg_catalog.round(pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY s.ms)::numeric, 3) AS p95_ms,
		   pg_catalog.round(pg_catalog.percentile_cont(0.99) WITHIN GROUP (ORDER BY s.ms)::numeric, 3) AS p99_ms
	FROM (SELECT 'extract' AS stage, d.extract_ms::float8 AS ms FROM @schema@.descriptors d WHERE d.extract_ms IS NOT NULL
		  UNION ALL
		  SELECT 'classify ' || p.profile, p.classify_ms::float8 FROM @schema@.predictions p
		  UNION ALL
		  SELECT 'message to prediction', 1000 * EXTRACT(epoch FROM p.predicted_at - d.source_time)::float8
		  FROM @schema@.predictions p JOIN @schema@.descriptors d USING (image_id) WHERE d.source_time IS NOT NULL) s
	GROUP BY s.stage;
COMMENT ON VIEW @schema@.latency_by_stage IS 'milliseconds per image and stage; "message to prediction" starts at the Kafka message''s timestamp';

CREATE OR REPLACE VIEW @schema@.throughput AS
	SELECT pg_catalog.date_trunc('minute', p.predicted_at) AS minute, p.profile, pg_catalog.count(*) AS predictions,
		   pg_catalog.round(pg_catalog.count(*) / GREATEST(EXTRACT(epoch FROM pg_catalog.max(p.predicted_at) - pg_catalog.min(p.predicted_at)), 1), 1) AS per_second
	FROM @schema@.predictions p GROUP BY 1, 2;
COMMENT ON VIEW @schema@.throughput IS 'predictions per minute and profile; per_second over the active part of that minute';

CREATE OR REPLACE VIEW @schema@.class_distribution AS
	SELECT p.profile, p.label, pg_catalog.count(*) AS images,
		   pg_catalog.round(100.0 * pg_catalog.count(*) / pg_catalog.sum(pg_catalog.count(*)) OVER (PARTITION BY p.profile), 1) AS percent,
		   pg_catalog.round(pg_catalog.avg(p.confidence)::numeric, 3) AS mean_confidence
	FROM @schema@.predictions p GROUP BY p.profile, p.label;
COMMENT ON VIEW @schema@.class_distribution IS 'how often each profile chose each label';

CREATE OR REPLACE VIEW @schema@.classifier_comparison AS
	SELECT p.profile, p.model, pg_catalog.count(*) AS predictions,
		   pg_catalog.round(pg_catalog.avg(p.confidence)::numeric, 3) AS mean_confidence,
		   pg_catalog.round(1000 * pg_catalog.avg(p.classify_ms)::numeric, 2) AS us_per_row,
		   pg_catalog.round(100.0 * pg_catalog.count(*) FILTER (WHERE p.label = m.majority) / pg_catalog.count(*), 1) AS agrees_with_majority_percent,
		   (SELECT (v.metrics ->> 'test_accuracy')::numeric FROM millrace.models v
			WHERE v.name || ':' || v.version = p.model) AS test_accuracy
	FROM @schema@.predictions p
	JOIN (SELECT q.image_id, pg_catalog.mode() WITHIN GROUP (ORDER BY q.label) AS majority
		  FROM @schema@.predictions q GROUP BY q.image_id) m USING (image_id)
	GROUP BY p.profile, p.model;
COMMENT ON VIEW @schema@.classifier_comparison IS 'the profiles side by side: confidence, time, agreement, and accuracy where the model''s card states it';

CREATE OR REPLACE VIEW @schema@.descriptor_savings AS
	SELECT pg_catalog.count(*) AS images, pg_catalog.sum(pg_catalog.octet_length(i.content)) AS image_bytes,
		   pg_catalog.sum(4 * d.descriptor_count) AS descriptor_bytes,
		   pg_catalog.round(pg_catalog.sum(pg_catalog.octet_length(i.content))::numeric / NULLIF(pg_catalog.sum(4 * d.descriptor_count), 0), 1) AS times_smaller
	FROM @schema@.images i JOIN @schema@.descriptors d USING (image_id) WHERE i.content IS NOT NULL;
COMMENT ON VIEW @schema@.descriptor_savings IS 'bytes of the photos against four bytes per descriptor';

CREATE OR REPLACE VIEW @schema@.descriptor_size_comparison AS
	SELECT p.n_outputs AS descriptors, p.name || ':' || p.version AS descriptor_model,
		   4 * p.n_outputs AS bytes,
		   c.name || ':' || c.version AS classifier,
		   (c.metrics ->> 'test_accuracy')::numeric AS test_accuracy,
		   (c.metrics ->> 'us_per_row')::numeric AS classify_us,
		   (p.metrics ->> 'us_per_row')::numeric AS project_us
	FROM millrace.models p
	JOIN millrace.model_lineage l ON (l.parent_name, l.parent_version) = (p.name, p.version) AND l.role = 'descriptors_of'
	JOIN millrace.models c ON (c.name, c.version) = (l.name, l.version)
	WHERE p.kind = 'pca' AND p.retired_at IS NULL AND c.retired_at IS NULL;
COMMENT ON VIEW @schema@.descriptor_size_comparison IS 'what fewer numbers cost: accuracy, bytes and time of the classifiers fitted on 10, 20 and 50 components';

CREATE OR REPLACE VIEW @schema@.lag AS
	SELECT s.name AS source, s.topic, s.state, s.reason, o.partition, o.next_offset, o.high_watermark,
		   GREATEST(o.high_watermark - o.next_offset, 0) AS messages_behind, o.last_batch_at
	FROM millrace.sources s LEFT JOIN millrace.source_offsets o ON o.source = s.name
	WHERE s.target IN (pg_catalog.format('%I.%I', @schema_literal@, 'images'), pg_catalog.format('%I.%I', @schema_literal@, 'descriptors'));
COMMENT ON VIEW @schema@.lag IS 'how far this pipeline''s sources are behind their topics';
