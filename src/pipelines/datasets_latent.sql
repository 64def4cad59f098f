-- Pipeline "datasets": latent space.  Which images and objects look like no others, which classes look alike, and maps of it all.
--
-- Images have their embedding in facts, objects in object_facts: of the crop of their box, one decoding an image.  find_neighbours() keeps the
-- nearest of each item of a data set, exactly: what is new is compared with everything, what was there only with what is new;
-- items that are gone or changed leave the lists, and lists that named them are made again.  check_latent() makes findings of the lists.
-- The lists are arrays in one row (neighbour_lists), the vectors that were compared lie side by side in vector_blocks: an audit reads these, and not
-- the wide rows of facts.  What is out of date is told by seen_by of the facts, a number that only grows.
-- Of each class silhouettes are kept (class_space), until a tenth of it is other items.  Maps are kept with the state that they show.

CREATE TABLE IF NOT EXISTS @schema@.object_facts (
	annotation_id bigint PRIMARY KEY REFERENCES @schema@.annotations ON DELETE CASCADE,
	image_id bigint NOT NULL,
	x1 real NOT NULL, y1 real NOT NULL, x2 real NOT NULL, y2 real NOT NULL,
	content_sha256 bytea NOT NULL,
	embedding real[],
	embedded_by text NOT NULL
);
CREATE INDEX IF NOT EXISTS object_facts_image ON @schema@.object_facts (image_id);
COMMENT ON TABLE @schema@.object_facts IS 'what the object in a box looks like, measured once';
COMMENT ON COLUMN @schema@.object_facts.x1 IS 'the box that was measured: after a change it is measured again';
COMMENT ON COLUMN @schema@.object_facts.content_sha256 IS 'of the image';
COMMENT ON COLUMN @schema@.object_facts.embedding IS 'of unit length, by the model embedded_by, or ''thumbnail''; NULL: the box touches no pixel';

ALTER TABLE @schema@.object_facts ADD COLUMN IF NOT EXISTS seen_by bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN @schema@.object_facts.seen_by IS 'a number later than that of all audits that did not see it';
CREATE OR REPLACE TRIGGER date_facts BEFORE UPDATE ON @schema@.object_facts FOR EACH ROW
	WHEN (NEW.seen_by = OLD.seen_by AND (OLD.embedding, OLD.embedded_by) IS DISTINCT FROM (NEW.embedding, NEW.embedded_by))
	EXECUTE FUNCTION @schema@.date_facts();

DO $$ BEGIN
	-- a table with a row an item in pipelines that were made before: the next audit makes the lists anew
	IF EXISTS (SELECT FROM pg_class t WHERE t.oid = to_regclass('@schema@.neighbours') AND t.relkind = 'r') THEN
		DROP TABLE @schema@.neighbours;
	END IF;
END $$;
CREATE TABLE IF NOT EXISTS @schema@.neighbour_lists (
	dataset text NOT NULL REFERENCES @schema@.datasets ON DELETE CASCADE,
	what text NOT NULL CHECK (what IN ('images', 'objects')),
	embedded_by text NOT NULL,
	k int NOT NULL,
	seen bigint NOT NULL,
	items bigint[] NOT NULL,
	neighbours bigint[] NOT NULL,
	distances real[] NOT NULL,
	PRIMARY KEY (dataset, what)
);
ALTER TABLE @schema@.neighbour_lists ALTER items SET STORAGE EXTERNAL, ALTER neighbours SET STORAGE EXTERNAL, ALTER distances SET STORAGE EXTERNAL;
COMMENT ON TABLE @schema@.neighbour_lists IS 'the k items that look most like each: view neighbours shows them';
COMMENT ON COLUMN @schema@.neighbour_lists.seen IS 'the latest seen_by of the items'' facts: what has a later one has changed since';
COMMENT ON COLUMN @schema@.neighbour_lists.items IS 'image_id or annotation_id, ascending';
COMMENT ON COLUMN @schema@.neighbour_lists.neighbours IS 'k for each, nearest first; 0: there are not so many';
COMMENT ON COLUMN @schema@.neighbour_lists.distances IS 'of neighbours';

CREATE TABLE IF NOT EXISTS @schema@.vector_blocks (
	block_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	dataset text NOT NULL REFERENCES @schema@.datasets ON DELETE CASCADE,
	what text NOT NULL,
	items bigint[] NOT NULL,
	vectors real[] NOT NULL
);
CREATE INDEX IF NOT EXISTS vector_blocks_dataset ON @schema@.vector_blocks (dataset, what);
ALTER TABLE @schema@.vector_blocks ALTER items SET STORAGE EXTERNAL, ALTER vectors SET STORAGE EXTERNAL;
COMMENT ON TABLE @schema@.vector_blocks IS 'embeddings of the items of neighbour_lists, each once';

CREATE OR REPLACE VIEW @schema@.neighbours AS
	SELECT l.dataset, l.what, r.item, l.embedded_by, r.neighbours, r.distances
	FROM @schema@.neighbour_lists l CROSS JOIN LATERAL millrace.neighbour_rows(l.items, l.neighbours, l.distances, l.k) r;
COMMENT ON VIEW @schema@.neighbours IS 'the items of a data set that look most like each, nearest first';
COMMENT ON COLUMN @schema@.neighbours.item IS 'image_id or annotation_id';
COMMENT ON COLUMN @schema@.neighbours.distances IS 'between embeddings of unit length: 0 alike, 1.41 unrelated, 2 opposite';

CREATE TABLE IF NOT EXISTS @schema@.class_space (
	dataset text NOT NULL REFERENCES @schema@.datasets ON DELETE CASCADE,
	what text NOT NULL CHECK (what IN ('images', 'objects')),
	class_id int NOT NULL,
	embedded_by text NOT NULL,
	items bigint[] NOT NULL,
	silhouette double precision,
	smaller_part double precision,
	part_silhouette double precision,
	run_id bigint NOT NULL,
	PRIMARY KEY (dataset, what, class_id)
);
COMMENT ON TABLE @schema@.class_space IS 'how the items of each class lie, as of the run that measured it';
COMMENT ON COLUMN @schema@.class_space.items IS 'those that were there; it is measured again when a tenth of them are others';
COMMENT ON COLUMN @schema@.class_space.silhouette IS 'mean over the class: 1 apart from all other classes, 0 between them, below 0 within others';
COMMENT ON COLUMN @schema@.class_space.smaller_part IS 'share of the smaller one of two clusters of the class';
COMMENT ON COLUMN @schema@.class_space.part_silhouette IS 'how far the two are apart';

CREATE TABLE IF NOT EXISTS @schema@.maps (
	map_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	dataset text NOT NULL,
	version int NOT NULL,
	state bytea NOT NULL,
	what text NOT NULL CHECK (what IN ('images', 'objects')),
	method text NOT NULL CHECK (method IN ('tsne', 'pca')),
	options jsonb NOT NULL,
	embedded_by text NOT NULL,
	items bigint NOT NULL,
	points bigint NOT NULL,
	kl_divergence double precision,
	seconds real NOT NULL,
	made_at timestamptz NOT NULL DEFAULT now(),
	FOREIGN KEY (dataset, version) REFERENCES @schema@.versions (dataset, version) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS maps_dataset ON @schema@.maps (dataset, version);
COMMENT ON TABLE @schema@.maps IS 'latent space on a plane, or in space: latent_map() makes and reads them';
COMMENT ON COLUMN @schema@.maps.state IS 'digest of what is shown: dataset_state()';
COMMENT ON COLUMN @schema@.maps.items IS 'that have an embedding; points is less where a sample was taken';
COMMENT ON COLUMN @schema@.maps.kl_divergence IS 'of t-SNE: what the map loses, less is better';

CREATE TABLE IF NOT EXISTS @schema@.map_points (
	map_id bigint NOT NULL REFERENCES @schema@.maps ON DELETE CASCADE,
	image_id bigint NOT NULL,
	annotation_id bigint,
	class_id int,
	split text NOT NULL,
	x real NOT NULL, y real NOT NULL, z real
);
CREATE INDEX IF NOT EXISTS map_points_map ON @schema@.map_points (map_id);
COMMENT ON TABLE @schema@.map_points IS 'the points of maps';
COMMENT ON COLUMN @schema@.map_points.annotation_id IS 'of a map of objects, and of images that have one label';

INSERT INTO @schema@.checks ("check", function, position, description) VALUES
	('latent', 'check_latent', 80, 'what images and objects look like: outliers, classes that cannot be told apart, classes in two parts')
	ON CONFLICT DO NOTHING;
INSERT INTO @schema@.kinds (kind, "check", severity, thresholds, fix, description) VALUES
	('latent_outlier', 'latent', 'info', '{"factor": 1.5, "deviations": 5, "neighbours": 20, "items": 50}', 'drop_images',
		'an image, or the object in a box, looks like no other: the neighbours (so many) of its neighbours are nearer by factor, and it stands out by deviations'),
	('class_inseparable', 'latent', 'info', '{"separability": 0.1, "neighbours": 10, "items": 20}', NULL,
		'two classes look alike: their items have each other as neighbours nearly as often as chance would have it (separability 0: as often, 1: never)'),
	('class_split', 'latent', 'info', '{"silhouette": 0.4, "share": 0.1, "items": 50}', NULL,
		'a class lies in two parts far from each other, the smaller of which has at least a share of its items: two things under one label')
	ON CONFLICT DO NOTHING;

-- ---- objects ----

-- Objects whose box, image or embedder has changed since, or that are new.  Crowds are no objects.
CREATE OR REPLACE FUNCTION @schema@.objects_to_measure(reference text, embedder text) RETURNS TABLE (image_id bigint, annotation_id bigint) LANGUAGE sql STABLE AS $$
	SELECT a.image_id, a.annotation_id FROM @schema@.annotations_of(reference) a JOIN @schema@.facts f USING (image_id) LEFT JOIN @schema@.object_facts o USING (annotation_id)
	WHERE a.x1 IS NOT NULL AND NOT a.crowd AND f.sqlstate IS NULL
		AND (o.annotation_id IS NULL OR o.embedded_by <> embedder OR o.content_sha256 <> f.content_sha256 OR (o.x1, o.y1, o.x2, o.y2) <> (a.x1, a.y1, a.x2, a.y2))
$$;
COMMENT ON FUNCTION @schema@.objects_to_measure(text, text) IS 'objects of a version whose looks are not known';

CREATE OR REPLACE FUNCTION @schema@.measure_objects(reference text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	batch CONSTANT int := 64;
	embedder text := @schema@.embedder();
	todo bigint[] := ARRAY(SELECT t.annotation_id FROM @schema@.objects_to_measure(reference, embedder) t ORDER BY t.image_id, t.annotation_id);
	chunk bigint[];
	done int := 0;
	seer bigint;
BEGIN
	IF cardinality(todo) > 0 THEN
		seer := nextval(pg_get_serial_sequence('@schema@.runs', 'run_id'));
	END IF;
	WHILE done < cardinality(todo) LOOP
		chunk := todo[done + 1 : done + batch];
		WITH boxes AS (
			SELECT a.image_id, array_agg(a.annotation_id ORDER BY a.annotation_id) AS ids, array_agg(ARRAY[a.x1, a.y1, a.x2, a.y2] ORDER BY a.annotation_id) AS boxes
			FROM @schema@.annotations a WHERE a.annotation_id = ANY (chunk) GROUP BY a.image_id),
		thumbnails AS (
			SELECT b.ids[t.box] AS annotation_id, t.thumbnail AS v FROM boxes b JOIN @schema@.images i USING (image_id), millrace.image_thumbnails(i.content, b.boxes) t
			WHERE embedder = 'thumbnail'),
		crops AS (
			SELECT array_agg(b.ids[c.box] ORDER BY b.ids[c.box]) AS ids, array_agg(c.crop ORDER BY b.ids[c.box]) AS crops
			FROM boxes b JOIN @schema@.images i USING (image_id), @extschema@.image_crops(i.content, b.boxes) c
			WHERE embedder <> 'thumbnail' AND c.crop IS NOT NULL),
		seen AS (
			SELECT t.annotation_id, t.v FROM thumbnails t
			UNION ALL
			SELECT c.ids[e.n], @schema@.unit_vector(e.v) FROM crops c, @extschema@.extract_descriptors(c.crops, embedder) WITH ORDINALITY AS e (v, n))
		INSERT INTO @schema@.object_facts (annotation_id, image_id, x1, y1, x2, y2, content_sha256, embedding, embedded_by, seen_by)
			SELECT a.annotation_id, a.image_id, a.x1, a.y1, a.x2, a.y2, f.content_sha256, CASE WHEN array_position(s.v, NULL) IS NULL THEN s.v END, embedder, seer
			FROM @schema@.annotations a JOIN @schema@.facts f USING (image_id) LEFT JOIN seen s USING (annotation_id)
			WHERE a.annotation_id = ANY (chunk)
			ON CONFLICT (annotation_id) DO UPDATE SET image_id = excluded.image_id, x1 = excluded.x1, y1 = excluded.y1, x2 = excluded.x2, y2 = excluded.y2,
				content_sha256 = excluded.content_sha256, embedding = excluded.embedding, embedded_by = excluded.embedded_by, seen_by = excluded.seen_by;
		done := done + cardinality(chunk);
	END LOOP;
	RETURN done;
END $$;
COMMENT ON FUNCTION @schema@.measure_objects(text) IS 'object_facts for the objects of a version that have none; returns how many there were';

-- ---- items and their neighbours ----

-- Images by their only label (< 2: what = 1 leaves is estimated at next to nothing), objects by theirs; what has no embedding is nowhere.
CREATE OR REPLACE FUNCTION @schema@.latent_items(dataset text, version int, what text)
	RETURNS TABLE (item bigint, image_id bigint, annotation_id bigint, class_id int, split text, embedding real[], embedded_by text) LANGUAGE sql STABLE AS $$
	SELECT i.image_id, i.image_id, l.annotation_id, l.class_id, i.split, f.embedding, f.embedded_by
	FROM @schema@.images_in(latent_items.dataset, latent_items.version) i JOIN @schema@.facts f USING (image_id)
		LEFT JOIN (SELECT a.image_id, min(a.class_id) AS class_id, min(a.annotation_id) AS annotation_id
			FROM @schema@.annotations_in(latent_items.dataset, latent_items.version) a WHERE a.x1 IS NULL GROUP BY a.image_id HAVING count(*) < 2) l USING (image_id)
	WHERE what = 'images' AND f.embedding IS NOT NULL
	UNION ALL
	SELECT a.annotation_id, a.image_id, a.annotation_id, a.class_id, i.split, o.embedding, o.embedded_by
	FROM @schema@.annotations_in(latent_items.dataset, latent_items.version) a JOIN @schema@.images i USING (image_id) JOIN @schema@.object_facts o USING (annotation_id)
	WHERE what = 'objects' AND o.embedding IS NOT NULL
$$;
COMMENT ON FUNCTION @schema@.latent_items(text, int, text) IS 'images or objects of a version with their embeddings';

CREATE OR REPLACE FUNCTION @schema@.latent_vectors(what text) RETURNS TABLE (item bigint, embedding real[]) LANGUAGE sql STABLE AS $$
	SELECT f.image_id, f.embedding FROM @schema@.facts f WHERE what = 'images'
	UNION ALL
	SELECT o.annotation_id, o.embedding FROM @schema@.object_facts o WHERE what = 'objects'
$$;
COMMENT ON FUNCTION @schema@.latent_vectors(text) IS 'embeddings of all images or objects: what the items of millrace_latent are joined with';

DROP FUNCTION IF EXISTS @schema@.compare_items(text, text, int);
CREATE OR REPLACE FUNCTION @schema@.list_items(version int, what text) RETURNS void LANGUAGE plpgsql SET work_mem = '64MB' SET default_statistics_target = 10 AS $$
DECLARE
	embedder text := @schema@.embedder();
BEGIN
	IF to_regclass('pg_temp.millrace_latent') IS NULL THEN
		CREATE TEMP TABLE millrace_latent (item bigint, image_id bigint, annotation_id bigint, class_id int, split text, seen_by bigint) ON COMMIT DROP;
	END IF;
	TRUNCATE pg_temp.millrace_latent;
	-- Images by their only label, objects by theirs; what has no embedding is nowhere.
	IF what = 'images' THEN
		INSERT INTO pg_temp.millrace_latent
			SELECT t.image_id, t.image_id, CASE WHEN t.whole = 1 THEN t.annotation_id END, CASE WHEN t.whole = 1 THEN t.class_id END, t.split, t.seen_by
			FROM pg_temp.millrace_items t WHERE t.embedded_by = embedder;
	ELSIF EXISTS (SELECT FROM pg_temp.millrace_items t WHERE t.labels > t.whole) THEN
		INSERT INTO pg_temp.millrace_latent
			SELECT a.annotation_id, t.image_id, a.annotation_id, a.class_id, t.split, o.seen_by
			FROM pg_temp.millrace_items t JOIN @schema@.annotations a ON a.image_id = t.image_id AND a.since <= list_items.version AND (a.until IS NULL OR a.until > list_items.version)
				JOIN @schema@.object_facts o ON o.annotation_id = a.annotation_id
			WHERE t.labels > t.whole AND o.embedding IS NOT NULL AND o.embedded_by = embedder;
	END IF;
	ANALYZE pg_temp.millrace_latent;
END $$;
COMMENT ON FUNCTION @schema@.list_items(int, text) IS 'the images or objects of the version in millrace_items that have an embedding, into the temporary table millrace_latent';

CREATE OR REPLACE FUNCTION @schema@.store_vectors(dataset text, what text, items bigint[]) RETURNS void LANGUAGE sql AS $$
	INSERT INTO @schema@.vector_blocks (dataset, what, items, vectors)
		SELECT store_vectors.dataset, store_vectors.what, array_agg(o.item), array_agg(o.embedding)
		FROM (SELECT v.item, v.embedding, (u.n - 1) / 8192 AS block FROM unnest(items) WITH ORDINALITY AS u (item, n) JOIN @schema@.latent_vectors(store_vectors.what) v USING (item)) o
		GROUP BY o.block
$$;
COMMENT ON FUNCTION @schema@.store_vectors(text, text, bigint[]) IS 'rows of vector_blocks for these items';

-- Lists are right for their items as long as none is gone and none has changed: those lists leave that name such a one, or belong to it.  What has no
-- list then is compared with all.
CREATE OR REPLACE FUNCTION @schema@.update_neighbours(dataset text, version int, what text, k int) RETURNS bigint LANGUAGE plpgsql SET work_mem = '256MB' AS $$
#variable_conflict use_column
DECLARE
	embedder text := @schema@.embedder();
	name text := update_neighbours.dataset;
	kind text := update_neighbours.what;
	lists record;
	kept record;
	near record;
	block record;
	old bigint[];
	seen_now bigint;
	fresh bigint[];
	vectors real[];
	of bigint[] := '{}';
	others bigint[] := '{}';
	distances real[] := '{}';
	small bigint[];
BEGIN
	PERFORM @schema@.list_items(update_neighbours.version, kind);
	SELECT l.seen, l.items, l.neighbours, l.distances INTO lists
		FROM @schema@.neighbour_lists l WHERE l.dataset = name AND l.what = kind AND l.embedded_by = embedder AND l.k = update_neighbours.k;
	IF NOT FOUND THEN
		SELECT -1::bigint AS seen, '{}'::bigint[] AS items, '{}'::bigint[] AS neighbours, '{}'::real[] AS distances INTO lists;
		DELETE FROM @schema@.vector_blocks v WHERE v.dataset = name AND v.what = kind;
	END IF;
	old := ARRAY(SELECT t.item FROM pg_temp.millrace_latent t WHERE t.seen_by <= lists.seen ORDER BY t.item);
	seen_now := (SELECT coalesce(max(t.seen_by), -1) FROM pg_temp.millrace_latent t);
	IF old = lists.items AND seen_now = lists.seen THEN
		RETURN 0;
	END IF;
	SELECT c.* INTO kept FROM millrace.kept_neighbours(lists.items, lists.neighbours, lists.distances, update_neighbours.k, old) c;
	IF kept.items <> lists.items THEN
		DELETE FROM @schema@.vector_blocks v WHERE v.dataset = name AND v.what = kind;
		PERFORM @schema@.store_vectors(name, kind, kept.items);
	END IF;
	fresh := ARRAY(SELECT t.item FROM pg_temp.millrace_latent t LEFT JOIN unnest(kept.items) AS u (item) ON u.item = t.item WHERE u.item IS NULL ORDER BY t.item);
	vectors := (SELECT array_agg(v.embedding ORDER BY v.item) FROM @schema@.latent_vectors(kind) v WHERE v.item = ANY (fresh));
	IF cardinality(fresh) > 0 THEN
		FOR block IN SELECT v.items, v.vectors FROM @schema@.vector_blocks v WHERE v.dataset = name AND v.what = kind ORDER BY v.block_id LOOP
			SELECT n.* INTO near FROM millrace.near_items(block.items, block.vectors, fresh, vectors, update_neighbours.k, kept.items, kept.distances) n;
			of := of || near.item;
			others := others || near.neighbour;
			distances := distances || near.distance;
		END LOOP;
		SELECT n.* INTO near FROM millrace.near_items(fresh, vectors, k => update_neighbours.k) n;
		SELECT g.* INTO kept FROM millrace.grown_neighbours(kept.items, kept.neighbours, kept.distances, update_neighbours.k, fresh,
			of || near.item, others || near.neighbour, distances || near.distance) g;
		PERFORM @schema@.store_vectors(name, kind, fresh);
		small := (SELECT array_agg(v.block_id) FROM @schema@.vector_blocks v WHERE v.dataset = name AND v.what = kind AND cardinality(v.items) < 4096 HAVING count(*) > 16);
		IF small IS NOT NULL THEN
			WITH gone AS (DELETE FROM @schema@.vector_blocks v WHERE v.block_id = ANY (small) RETURNING v.items)
			SELECT array_agg(u.item ORDER BY u.item) INTO small FROM gone g, unnest(g.items) AS u (item);
			PERFORM @schema@.store_vectors(name, kind, small);
		END IF;
	END IF;
	INSERT INTO @schema@.neighbour_lists AS l (dataset, what, embedded_by, k, seen, items, neighbours, distances)
		VALUES (name, kind, embedder, update_neighbours.k, seen_now, kept.items, kept.neighbours, kept.distances)
		ON CONFLICT ON CONSTRAINT neighbour_lists_pkey DO UPDATE SET embedded_by = excluded.embedded_by, k = excluded.k, seen = excluded.seen,
			items = excluded.items, neighbours = excluded.neighbours, distances = excluded.distances;
	RETURN cardinality(fresh);
END $$;
COMMENT ON FUNCTION @schema@.update_neighbours(text, int, text, int) IS 'find_neighbours() of the version that is in the temporary table millrace_items';

CREATE OR REPLACE FUNCTION @schema@.find_neighbours(reference text, what text, k int DEFAULT 20) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	place record;
BEGIN
	SELECT r.* INTO place FROM @schema@.resolve(reference) r;
	PERFORM @schema@.read_items(place.dataset, place.version);
	RETURN @schema@.update_neighbours(place.dataset, place.version, find_neighbours.what, find_neighbours.k);
END $$;
COMMENT ON FUNCTION @schema@.find_neighbours(text, text, int) IS 'the nearest k of each image or object of a version, into neighbour_lists; returns how many were compared with all';

-- ---- the check ----

-- Silhouettes of classes of which a tenth is others than when they were measured.
CREATE OR REPLACE FUNCTION @schema@.measure_classes(run bigint, what text) RETURNS void LANGUAGE plpgsql SET work_mem = '256MB' AS $$
DECLARE
	sample CONSTANT int := 1000;
	name text := (SELECT r.dataset FROM @schema@.runs r WHERE r.run_id = run);
	reference text := (SELECT r.dataset || ':' || r.version FROM @schema@.runs r WHERE r.run_id = run);
	embedder text := @schema@.embedder();
	at_least int := least(@schema@.threshold(run, 'class_split', 'items'), @schema@.threshold(run, 'class_inseparable', 'items'));
	changed int[];
	vectors real[];
	labels int[];
	dims int;
	c int;
BEGIN
	DELETE FROM @schema@.class_space s WHERE s.dataset = name AND s.what = measure_classes.what AND NOT EXISTS (SELECT FROM pg_temp.millrace_latent t WHERE t.class_id = s.class_id);
	SELECT array_agg(t.class_id) INTO changed
		FROM (SELECT l.class_id, count(*) AS n FROM pg_temp.millrace_latent l WHERE l.class_id IS NOT NULL GROUP BY l.class_id) t
			LEFT JOIN @schema@.class_space s ON s.dataset = name AND s.what = measure_classes.what AND s.class_id = t.class_id AND s.embedded_by = embedder
			LEFT JOIN (SELECT c.class_id, count(*) AS n FROM @schema@.class_space c, unnest(c.items) AS u (item) JOIN pg_temp.millrace_latent l ON l.item = u.item
				WHERE c.dataset = name AND c.what = measure_classes.what AND l.class_id = c.class_id GROUP BY c.class_id) same ON same.class_id = t.class_id
		WHERE t.n >= at_least AND (s.class_id IS NULL OR coalesce(same.n, 0) < 0.9 * greatest(t.n, cardinality(s.items)));
	IF changed IS NULL THEN
		RETURN;
	END IF;
	SELECT array_agg(o.embedding), array_agg(o.class_id), max(cardinality(o.embedding)) INTO vectors, labels, dims
		FROM (SELECT l.embedding, t.class_id FROM pg_temp.millrace_latent t JOIN @schema@.latent_vectors(measure_classes.what) l USING (item)
			WHERE t.class_id IS NOT NULL ORDER BY t.item) o;
	INSERT INTO @schema@.class_space AS s (dataset, what, class_id, embedded_by, items, silhouette, run_id)
		SELECT name, measure_classes.what, h.label, embedder, (SELECT array_agg(l.item ORDER BY l.item) FROM pg_temp.millrace_latent l WHERE l.class_id = h.label), h.silhouette, run
		FROM millrace.silhouettes(vectors, dims, labels, sample) h
		WHERE h.label = ANY (changed)
		ON CONFLICT ON CONSTRAINT class_space_pkey DO UPDATE SET embedded_by = excluded.embedded_by, items = excluded.items, silhouette = excluded.silhouette, run_id = excluded.run_id;
	FOREACH c IN ARRAY changed LOOP
		SELECT array_agg(o.embedding) INTO vectors
			FROM (SELECT l.embedding FROM pg_temp.millrace_latent t JOIN @schema@.latent_vectors(measure_classes.what) l USING (item) WHERE t.class_id = c ORDER BY t.item) o;
		CONTINUE WHEN array_length(vectors, 1) < 2;
		UPDATE @schema@.class_space s SET smaller_part = p.share, part_silhouette = p.silhouette
			FROM (SELECT min(h.points) FILTER (WHERE h.label IS NOT NULL) / max(h.points)::double precision AS share, max(h.silhouette) FILTER (WHERE h.label IS NULL) AS silhouette
				FROM millrace.silhouettes(vectors, dims, millrace.kmeans_clusters(vectors, dims, 2), sample) h) p
			WHERE s.dataset = name AND s.what = measure_classes.what AND s.class_id = c;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.measure_classes(bigint, text) IS 'rows of class_space for the classes of a run that have changed: of 1,000 drawn items where there are more';

CREATE OR REPLACE FUNCTION @schema@.check_latent(run bigint) RETURNS void LANGUAGE plpgsql SET work_mem = '256MB' AS $$
DECLARE
	reference text := (SELECT r.dataset || ':' || r.version FROM @schema@.runs r WHERE r.run_id = run);
	name text := split_part(reference, ':', 1);
	kept_of int := @schema@.threshold(run, 'latent_outlier', 'neighbours');
	of_class int := @schema@.threshold(run, 'class_inseparable', 'neighbours');
	k int := greatest(kept_of, of_class);
	embedder text := @schema@.embedder();
	w text;
	kept record;
	labels int[];
BEGIN
	IF NOT EXISTS (SELECT FROM @schema@.kinds x WHERE x."check" = 'latent' AND @schema@.severity(run, x.kind) IS NOT NULL) THEN
		RETURN;
	END IF;
	PERFORM @schema@.need_items(run);
	PERFORM @schema@.measure_objects(reference);
	FOREACH w IN ARRAY ARRAY['images', 'objects'] LOOP
		PERFORM @schema@.update_neighbours(name, split_part(reference, ':', 2)::int, w, k);
		SELECT l.items, l.neighbours, l.distances INTO kept FROM @schema@.neighbour_lists l WHERE l.dataset = name AND l.what = w;
		CONTINUE WHEN cardinality(kept.items) IS NULL OR cardinality(kept.items) < 3;
		labels := ARRAY(SELECT coalesce(t.class_id, -1) FROM pg_temp.millrace_latent t ORDER BY t.item);

		INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, annotation_id, other_image_id, class_id, score, evidence, suggestion)
			SELECT run, 'latent_outlier', s.severity, t.split, t.image_id, CASE WHEN w = 'objects' THEN t.annotation_id END,
				a.image_id, t.class_id, o.factor,
				jsonb_build_object('what', w, 'factor', round(o.factor::numeric, 3), 'limit', round(o."limit"::numeric, 3), 'nearest', o.nearest,
					'distance', round(o.distance::numeric, 4), 'embedded_by', embedder),
				'look at it: does it belong here?'
			FROM (SELECT @schema@.severity(run, 'latent_outlier')) AS s (severity),
				millrace.neighbour_outliers(kept.items, kept.neighbours, kept.distances, k, @schema@.threshold(run, 'latent_outlier', 'deviations')::real, @schema@.threshold(run, 'latent_outlier', 'factor')::real) o
				JOIN pg_temp.millrace_latent t USING (item) LEFT JOIN pg_temp.millrace_latent a ON a.item = o.nearest
			WHERE s.severity IS NOT NULL AND cardinality(kept.items) >= @schema@.threshold(run, 'latent_outlier', 'items');

		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_temp.millrace_latent t WHERE t.class_id IS NOT NULL);
		PERFORM @schema@.measure_classes(run, w);

		-- Agreement of neighbours beyond chance, of two classes taken alone.
		INSERT INTO @schema@.findings (run_id, kind, severity, class_id, score, evidence, suggestion)
			WITH pairs AS (SELECT * FROM millrace.neighbour_confusion(kept.items, kept.neighbours, labels, k, of_class) WHERE label >= 0 AND neighbour_label >= 0),
				size AS (SELECT t.class_id, count(*)::double precision AS n FROM pg_temp.millrace_latent t WHERE t.class_id IS NOT NULL GROUP BY t.class_id),
				couples AS (
					SELECT a.class_id AS a, b.class_id AS b,
						sum(p.pairs) FILTER (WHERE p.label = p.neighbour_label) / sum(p.pairs)::double precision AS agreement,
						(a.n * a.n + b.n * b.n) / (a.n + b.n) ^ 2 AS chance
					FROM size a JOIN size b ON a.class_id < b.class_id JOIN pairs p ON p.label IN (a.class_id, b.class_id) AND p.neighbour_label IN (a.class_id, b.class_id)
					WHERE least(a.n, b.n) >= @schema@.threshold(run, 'class_inseparable', 'items')
						AND EXISTS (SELECT FROM pairs c WHERE c.label = a.class_id AND c.neighbour_label = b.class_id OR c.label = b.class_id AND c.neighbour_label = a.class_id)
					GROUP BY a.class_id, b.class_id, a.n, b.n)
			SELECT run, 'class_inseparable', s.severity, x.a, x.separability,
				jsonb_build_object('what', w, 'other_class_id', x.b, 'classes', jsonb_build_array(ca.class_name, cb.class_name), 'separability', round(x.separability::numeric, 3),
					'agreement', round(x.agreement::numeric, 3), 'chance', round(x.chance::numeric, 3),
					'silhouettes', jsonb_build_array(round(sa.silhouette::numeric, 3), round(sb.silhouette::numeric, 3)),
					'embedded_by', embedder),
				format('compare %s with %s: are the labels consistent, does the embedder see what tells them apart?', coalesce(ca.class_name, '#' || x.a), coalesce(cb.class_name, '#' || x.b))
			FROM (SELECT b.*, (coalesce(b.agreement, 0) - b.chance) / nullif(1 - b.chance, 0) AS separability FROM couples b) x
				CROSS JOIN (SELECT @schema@.severity(run, 'class_inseparable')) AS s (severity)
				LEFT JOIN @schema@.classes ca ON ca.dataset = name AND ca.class_id = x.a LEFT JOIN @schema@.classes cb ON cb.dataset = name AND cb.class_id = x.b
				LEFT JOIN @schema@.class_space sa ON sa.dataset = name AND sa.what = w AND sa.class_id = x.a
				LEFT JOIN @schema@.class_space sb ON sb.dataset = name AND sb.what = w AND sb.class_id = x.b
			WHERE s.severity IS NOT NULL AND x.separability < @schema@.threshold(run, 'class_inseparable', 'separability');

		INSERT INTO @schema@.findings (run_id, kind, severity, class_id, score, evidence, suggestion)
			SELECT run, 'class_split', s.severity, x.class_id, x.part_silhouette,
				jsonb_build_object('what', w, 'class', c.class_name, 'silhouette', round(x.part_silhouette::numeric, 3), 'smaller_part', round(x.smaller_part::numeric, 3), 'items', cardinality(x.items),
					'embedded_by', x.embedded_by, 'measured_by', x.run_id),
				'look at its map: two classes under one name?'
			FROM @schema@.class_space x CROSS JOIN (SELECT @schema@.severity(run, 'class_split')) AS s (severity) LEFT JOIN @schema@.classes c ON c.dataset = name AND c.class_id = x.class_id
			WHERE x.dataset = name AND x.what = w AND s.severity IS NOT NULL AND cardinality(x.items) >= @schema@.threshold(run, 'class_split', 'items')
				AND x.smaller_part >= @schema@.threshold(run, 'class_split', 'share') AND x.part_silhouette >= @schema@.threshold(run, 'class_split', 'silhouette');
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.check_latent(bigint) IS 'findings latent_outlier, class_inseparable and class_split of an audit';

-- ---- maps ----

CREATE OR REPLACE FUNCTION @schema@.make_map(reference text, what text DEFAULT 'images', method text DEFAULT 'tsne', options jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	began timestamptz := clock_timestamp();
	embedder text := @schema@.embedder();
	sample int := coalesce(options ->> 'sample', '50000');
	v record;
	map bigint;
	all_items bigint;
	ids bigint[];
	vectors real[];
	dims int;
	components int;
	coordinates real[];
	divergence double precision;
BEGIN
	IF what NOT IN ('images', 'objects') OR method NOT IN ('tsne', 'pca') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('cannot make a map of "%s" by "%s"', what, method), HINT = 'Maps are of images or objects, by tsne or pca.';
	END IF;
	IF sample < 1 OR method = 'pca' AND options - '{sample,n_components}'::text[] <> '{}' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid options of a map: %s', options),
			HINT = 'sample is how many items it shows at most, 50000; n_components of pca is 2 or 3; t-SNE has those of millrace.tsne().';
	END IF;
	SELECT r.dataset, r.version, @schema@.dataset_state(reference) AS state INTO v FROM @schema@.resolve(reference) r;
	SELECT m.map_id INTO map FROM @schema@.maps m WHERE m.dataset = v.dataset AND m.version = v.version AND m.state = v.state AND m.what = make_map.what
		AND m.method = make_map.method AND m.options = make_map.options AND m.embedded_by = embedder ORDER BY m.map_id DESC LIMIT 1;
	IF map IS NOT NULL THEN
		RETURN map;
	END IF;
	PERFORM @schema@.measure(reference);
	IF what = 'objects' THEN
		PERFORM @schema@.measure_objects(reference);
	END IF;
	-- A sample is the same ones every time.
	SELECT count(*), max(cardinality(t.embedding)) INTO all_items, dims FROM @schema@.latent_items(v.dataset, v.version, what) t WHERE t.embedded_by = embedder;
	SELECT array_agg(t.item ORDER BY t.item), array_agg(t.embedding ORDER BY t.item) INTO ids, vectors
		FROM (SELECT l.item, l.embedding FROM @schema@.latent_items(v.dataset, v.version, what) l WHERE l.embedded_by = embedder ORDER BY hashint8(l.item), l.item LIMIT sample) t;
	IF ids IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('data set "%s" has no %s with an embedding', reference, what),
			HINT = CASE what WHEN 'objects' THEN 'Objects are annotations with a box.' ELSE 'Are there images that can be decoded?' END;
	END IF;
	components := coalesce(options ->> 'n_components', CASE method WHEN 'pca' THEN '3' ELSE '2' END);
	IF method = 'pca' THEN
		IF components NOT IN (2, 3) THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('n_components must be 2 or 3, not %s', components);
		END IF;
		coordinates := millrace.principal_components(vectors, dims, components);
	ELSE
		SELECT t.map, t.kl_divergence INTO coordinates, divergence FROM millrace.tsne_fit(vectors, dims, options - 'sample') t;
	END IF;
	INSERT INTO @schema@.maps (dataset, version, state, what, method, options, embedded_by, items, points, kl_divergence, seconds)
		VALUES (v.dataset, v.version, v.state, what, method, options, embedder, all_items, cardinality(ids), divergence, extract(epoch FROM clock_timestamp() - began)) RETURNING map_id INTO map;
	INSERT INTO @schema@.map_points (map_id, image_id, annotation_id, class_id, split, x, y, z)
		SELECT map, t.image_id, t.annotation_id, t.class_id, t.split, coordinates[(u.n - 1) * components + 1], coordinates[(u.n - 1) * components + 2],
			CASE WHEN components = 3 THEN coordinates[u.n * components] END
		FROM unnest(ids) WITH ORDINALITY AS u (item, n) JOIN @schema@.latent_items(v.dataset, v.version, what) t USING (item);
	RETURN map;
END $$;
COMMENT ON FUNCTION @schema@.make_map(text, text, text, jsonb) IS
	'a map of the images or objects of a version by tsne or pca, stored in maps; one that is there already is not made again. Options: sample (50000) and those of millrace.tsne(), or n_components of pca (3)';

CREATE OR REPLACE FUNCTION @schema@.latent_map(reference text, what text DEFAULT 'images', method text DEFAULT 'tsne', options jsonb DEFAULT '{}')
	RETURNS TABLE (image_id bigint, annotation_id bigint, class_id int, split text, x real, y real, z real) LANGUAGE plpgsql AS $$
DECLARE
	map bigint := @schema@.make_map(reference, what, method, options);
BEGIN
	RETURN QUERY SELECT p.image_id, p.annotation_id, p.class_id, p.split, p.x, p.y, p.z FROM @schema@.map_points p WHERE p.map_id = map;
END $$;
COMMENT ON FUNCTION @schema@.latent_map(text, text, text, jsonb) IS 'the points of make_map()';
