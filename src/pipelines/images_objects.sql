-- Pipeline "images", objects: a row that names one is fetched by the HTTP worker and delivered here; an upload goes the
-- other way.
--
-- Run behind images.sql, and again by upgrade_pipeline().  What these functions ask of the worker it does as whom they run
-- as, so they run as the pipeline's owner.

CREATE TABLE IF NOT EXISTS @schema@.object_store (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	server text NOT NULL,
	bucket text NOT NULL,
	topic_server text,
	topic text
);
COMMENT ON TABLE @schema@.object_store IS 'where objects are fetched from and uploaded to: fetch_from(); and the topic that learns of uploads: announce_uploads()';

CREATE OR REPLACE FUNCTION @schema@.request_objects(ids text[], paths text[]) RETURNS bigint
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$ SELECT count(millrace.fetch_object(s.server, r.path, format('%I.deliver_objects', @schema_literal@), r.id))
		  FROM @schema@.object_store s, unnest(ids, paths) r(id, path) $$;
COMMENT ON FUNCTION @schema@.request_objects(text[], text[]) IS 'asks the HTTP worker for the objects of some images; returns how many';
REVOKE EXECUTE ON FUNCTION @schema@.request_objects(text[], text[]) FROM PUBLIC;

-- The path is compared with the row's, so that an answer that was overtaken changes nothing.
CREATE OR REPLACE FUNCTION @schema@.deliver_objects(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		WITH latest AS MATERIALIZED (
			SELECT DISTINCT ON (i.image_id) i.image_id, d.n, d.sqlstate, d.error, i.source_topic, i.source_partition, i.source_offset
			FROM unnest(tags, paths, sqlstates, errors) WITH ORDINALITY d(tag, path, sqlstate, error, n)
			JOIN @schema@.images i ON i.image_id = d.tag AND i.object_path IN (d.path, 's3://' || d.path)
			ORDER BY i.image_id, d.n DESC
		), forgotten AS (
			DELETE FROM @schema@.failures f USING latest l WHERE f.image_id = l.image_id AND f.stage = 'fetch'
		), failed AS (
			INSERT INTO @schema@.failures (image_id, stage, sqlstate, message, source_topic, source_partition, source_offset)
			SELECT l.image_id, 'fetch', l.sqlstate, l.error, l.source_topic, l.source_partition, l.source_offset
			FROM latest l WHERE l.sqlstate IS NOT NULL
		)
		UPDATE @schema@.images i SET content = contents[l.n] FROM latest l WHERE i.image_id = l.image_id AND l.sqlstate IS NULL;
	END $$;
COMMENT ON FUNCTION @schema@.deliver_objects(text[], text[], bytea[], text[], text[]) IS
	'called by the HTTP worker: fetched bytes become content, which fires extraction; what could not be fetched becomes a row of failures';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_objects(text[], text[], bytea[], text[], text[]) FROM PUBLIC;

-- New images whose bytes are elsewhere, and known ones whose object is another one now or was announced again.
CREATE OR REPLACE FUNCTION @schema@.fetch_rows() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	ids text[];
	paths text[];
BEGIN
	IF TG_OP = 'INSERT' THEN
		SELECT array_agg(n.image_id), array_agg(n.object_path) INTO ids, paths
		FROM new_rows n WHERE n.object_path IS NOT NULL AND n.content IS NULL;
	ELSE
		SELECT array_agg(n.image_id), array_agg(n.object_path) INTO ids, paths
		FROM new_rows n LEFT JOIN old_rows o ON o.image_id = n.image_id
		WHERE n.object_path IS NOT NULL
			AND (n.object_path IS DISTINCT FROM o.object_path OR n.content IS NULL AND o.content IS NOT NULL
				OR (n.source_topic, n.source_partition, n.source_offset) IS DISTINCT FROM (o.source_topic, o.source_partition, o.source_offset))
			AND (n.content IS NULL OR n.content IS NOT DISTINCT FROM o.content);
	END IF;
	IF ids IS NOT NULL THEN
		PERFORM @schema@.request_objects(ids, paths);
	END IF;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.fetch_rows() IS 'statement trigger made by fetch_from()';
REVOKE EXECUTE ON FUNCTION @schema@.fetch_rows() FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.fetch_from(server text, bucket text DEFAULT 'raw-images') RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
			WHERE s.srvname = fetch_from.server AND w.fdwname = 'millrace_http') THEN
			RAISE undefined_object USING MESSAGE = format('object server "%s" does not exist', server),
				HINT = 'CREATE SERVER … FOREIGN DATA WRAPPER millrace_http OPTIONS (api ''s3'', url …).';
		END IF;
		INSERT INTO @schema@.object_store AS o (server, bucket) VALUES (server, bucket)
		ON CONFLICT (only_row) DO UPDATE SET server = excluded.server, bucket = excluded.bucket;
		CREATE OR REPLACE TRIGGER fetch_inserted AFTER INSERT ON @schema@.images
			REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.fetch_rows();
		CREATE OR REPLACE TRIGGER fetch_updated AFTER UPDATE ON @schema@.images
			REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.fetch_rows();
	END $$;
COMMENT ON FUNCTION @schema@.fetch_from(text, text) IS
	'from now on images with object_path and without content are fetched from this server; uploads go into the bucket';

CREATE OR REPLACE FUNCTION @schema@.refetch(image_id text DEFAULT NULL) RETURNS bigint
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT @schema@.request_objects(array_agg(i.image_id ORDER BY i.received_at), array_agg(i.object_path ORDER BY i.received_at))
		FROM @schema@.images i
		WHERE i.object_path IS NOT NULL AND CASE WHEN refetch.image_id IS NULL THEN i.content IS NULL ELSE i.image_id = refetch.image_id END
			AND NOT EXISTS (SELECT FROM millrace.http_requests q WHERE q.method = 'GET' AND q.deliver = format('%I.deliver_objects', @schema_literal@) AND q.tag = i.image_id)
	$$;
COMMENT ON FUNCTION @schema@.refetch(text) IS
	'asks again for the object of one image, or of all whose content is missing and not on its way; returns how many';
REVOKE EXECUTE ON FUNCTION @schema@.refetch(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.announce_uploads(server text, topic text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		UPDATE @schema@.object_store o SET topic_server = announce_uploads.server, topic = announce_uploads.topic;
		IF NOT FOUND THEN
			RAISE object_not_in_prerequisite_state USING MESSAGE = format('pipeline "%s" has no object server', @schema_literal@),
				HINT = format('SELECT %I.fetch_from(…) names one.', @schema_literal@);
		END IF;
	END $$;
COMMENT ON FUNCTION @schema@.announce_uploads(text, text) IS
	'uploads are announced as {"image_id", "minio_path"} through the server''s outbox; without a topic (NULL) they become rows of images at once';

CREATE OR REPLACE FUNCTION @schema@.upload(content bytea, image_id text DEFAULT gen_random_uuid()::text) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	store @schema@.object_store;
	suffix text := CASE WHEN substr(content, 1, 3) = '\xffd8ff' THEN 'jpg' WHEN substr(content, 1, 8) = '\x89504e470d0a1a0a' THEN 'png' END;
	path text;
BEGIN
	SELECT o.* INTO store FROM @schema@.object_store o;
	IF NOT FOUND THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format('pipeline "%s" has no object server', @schema_literal@),
			HINT = format('SELECT %I.fetch_from(…) names one.', @schema_literal@);
	END IF;
	IF suffix IS NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('image "%s" is neither a JPEG nor a PNG', image_id);
	END IF;
	path := format('%s/%s/%s.%s', store.bucket, to_char(now() AT TIME ZONE 'UTC', 'YYYY/MM/DD'), image_id, suffix);
	PERFORM millrace.put_object(store.server, path, content, CASE suffix WHEN 'jpg' THEN 'image/jpeg' ELSE 'image/png' END,
		format('%I.deliver_uploads', @schema_literal@), image_id);
	RETURN path;
END $$;
COMMENT ON FUNCTION @schema@.upload(bytea, text) IS
	'stores a JPEG or PNG as object <bucket>/yyyy/mm/dd/<image_id>.jpg and announces it; returns the path.  GRANT EXECUTE to those who may';
REVOKE EXECUTE ON FUNCTION @schema@.upload(bytea, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.deliver_uploads(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	store @schema@.object_store;
BEGIN
	SELECT o.* INTO store FROM @schema@.object_store o;
	IF store.topic IS NULL THEN
		INSERT INTO @schema@.images AS i (image_id, object_path)
		SELECT DISTINCT ON (d.tag) d.tag, d.path FROM unnest(tags, paths, sqlstates) WITH ORDINALITY d(tag, path, sqlstate, n)
		WHERE d.sqlstate IS NULL ORDER BY d.tag, d.n DESC
		ON CONFLICT (image_id) DO UPDATE SET object_path = excluded.object_path, content = NULL;
	ELSE
		PERFORM millrace.publish(store.topic_server, store.topic, jsonb_build_object('image_id', d.tag, 'minio_path', d.path)::text, d.tag)
		FROM unnest(tags, paths, sqlstates) d(tag, path, sqlstate) WHERE d.sqlstate IS NULL;
	END IF;
	-- What the store did not take is not lost: it becomes a photo without an object.
	INSERT INTO @schema@.failures (image_id, stage, sqlstate, message)
	SELECT d.tag, 'upload', d.sqlstate, d.error FROM unnest(tags, sqlstates, errors) d(tag, sqlstate, error) WHERE d.sqlstate IS NOT NULL;
	INSERT INTO @schema@.images (image_id, content)
	SELECT d.tag, contents[d.n] FROM unnest(tags, sqlstates) WITH ORDINALITY d(tag, sqlstate, n)
	WHERE d.sqlstate IS NOT NULL AND contents[d.n] IS NOT NULL
	ON CONFLICT (image_id) DO NOTHING;
END $$;
COMMENT ON FUNCTION @schema@.deliver_uploads(text[], text[], bytea[], text[], text[]) IS
	'called by the HTTP worker: stored photos are announced; one that could not be stored is kept in images, with its reason in failures';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_uploads(text[], text[], bytea[], text[], text[]) FROM PUBLIC;
