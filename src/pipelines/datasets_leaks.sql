-- Pipeline "datasets": the same image twice, within a split and, worse, in two.
--
-- compare_images() compares what was not compared yet with everything and keeps the pairs in leaks, and in leak_states who was
-- compared: a second audit costs what came in between.  Images with equal pixels are found by their digest and stand for each other (one of each split, its
-- representative); near duplicates are found by hash_pairs() in all eight positions and confirmed by the thumbnails; where images have
-- descriptors of a network, what these find alike is noted, too.  check_leaks() makes findings of all that.
-- Per image only the nearest few in its split and elsewhere are kept, so that thousands of nearly equal images stay linear.

CREATE TABLE IF NOT EXISTS @schema@.leaks (
	a bigint NOT NULL REFERENCES @schema@.images ON DELETE CASCADE,
	b bigint NOT NULL REFERENCES @schema@.images ON DELETE CASCADE,
	reason text NOT NULL CHECK (reason IN ('near', 'similar')),
	distance int NOT NULL,
	cosine real NOT NULL,
	turn int NOT NULL,
	PRIMARY KEY (a, b),
	CHECK (a < b)
);
CREATE INDEX IF NOT EXISTS leaks_b ON @schema@.leaks (b);
COMMENT ON TABLE @schema@.leaks IS 'pairs of images that look alike, of all that were compared';
COMMENT ON COLUMN @schema@.leaks.reason IS 'near: hashes and thumbnails say so; similar: only the descriptors do';
COMMENT ON COLUMN @schema@.leaks.distance IS 'bits of 64 in which the hashes differ, at the best turn';
COMMENT ON COLUMN @schema@.leaks.cosine IS 'near: correlation of the thumbnails at that turn; similar: cosine of the descriptors';
COMMENT ON COLUMN @schema@.leaks.turn IS 'what was done to b: 0 nothing, 1 mirrored, 2 upside down, 3 by 180 degrees, 4 transposed, 5 right, 6 left, 7 transposed the other way';

DROP TABLE IF EXISTS @schema@.leaks_compared;
CREATE TABLE IF NOT EXISTS @schema@.leak_states (
	dataset text PRIMARY KEY REFERENCES @schema@.datasets ON DELETE CASCADE,
	version int NOT NULL,
	rule uuid NOT NULL,
	embedded_by text NOT NULL,
	seen bigint NOT NULL,
	decoded bigint[] NOT NULL,
	twins bigint[] NOT NULL,
	followers bigint[] NOT NULL,
	images bigint[] NOT NULL,
	hashes bigint[] NOT NULL
);
ALTER TABLE @schema@.leak_states ALTER decoded SET STORAGE EXTERNAL, ALTER images SET STORAGE EXTERNAL, ALTER hashes SET STORAGE EXTERNAL;
COMMENT ON TABLE @schema@.leak_states IS 'which images of a data set were compared with each other: an audit compares the others with them';
COMMENT ON COLUMN @schema@.leak_states.rule IS 'digest of the thresholds: after a change everything is compared again';
COMMENT ON COLUMN @schema@.leak_states.seen IS 'the latest facts.seen_by of them: what has a later one has changed since';
COMMENT ON COLUMN @schema@.leak_states.decoded IS 'those that could be decoded, ascending';
COMMENT ON COLUMN @schema@.leak_states.twins IS 'those whose pixels another one has, too';
COMMENT ON COLUMN @schema@.leak_states.followers IS 'twins that another of their split stood for';
COMMENT ON COLUMN @schema@.leak_states.images IS 'those whose hashes were compared, ascending';
COMMENT ON COLUMN @schema@.leak_states.hashes IS 'of images, a row of eight each';

CREATE TABLE IF NOT EXISTS @schema@.hash_blocks (
	block_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	dataset text NOT NULL REFERENCES @schema@.datasets ON DELETE CASCADE,
	images bigint[] NOT NULL,
	hashes bigint[] NOT NULL
);
CREATE INDEX IF NOT EXISTS hash_blocks_dataset ON @schema@.hash_blocks (dataset);
ALTER TABLE @schema@.hash_blocks ALTER images SET STORAGE EXTERNAL, ALTER hashes SET STORAGE EXTERNAL;
COMMENT ON TABLE @schema@.hash_blocks IS 'hashes of all images side by side, for check_image(): written by a trigger on facts; what is out of date is passed over there';

CREATE INDEX IF NOT EXISTS facts_pixel_sha256 ON @schema@.facts (pixel_sha256);

INSERT INTO @schema@.checks ("check", function, position, description) VALUES
	('leaks', 'check_leaks', 50, 'the same or nearly the same image twice, within a split and in two')
	ON CONFLICT DO NOTHING;
INSERT INTO @schema@.kinds (kind, "check", severity, thresholds, fix, description) VALUES
	('exact_leak', 'leaks', 'blocking', '{}', 'remove_leaks', 'an image''s pixels stand in two splits'),
	('near_leak', 'leaks', 'blocking', '{"distance": 14, "cosine": 0.88, "cosine_per_bit": 0.005, "turned_cosine": 0.96, "entropy": 1.0, "per_image": 10}', 'remove_leaks',
		'nearly the same image, perhaps flipped or turned, stands in two splits: hashes differ in at most distance bits, thumbnails correlate by at least cosine and cosine_per_bit for each of them, flipped ones by turned_cosine; of images with less entropy only equal pixels count'),
	('similar_leak', 'leaks', 'warning', '{"cosine": 0.97}', 'remove_leaks', 'the descriptors of two images in different splits are alike'),
	('exact_duplicate', 'leaks', 'warning', '{}', 'remove_leaks', 'an image''s pixels stand twice in a split'),
	('near_duplicate', 'leaks', 'warning', '{}', 'remove_leaks', 'nearly the same image stands twice in a split, by the thresholds of near_leak'),
	('similar_duplicate', 'leaks', 'info', '{}', 'remove_leaks', 'the descriptors of two images of a split are alike, by the threshold of similar_leak')
	ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION @schema@.compare_images(run bigint) RETURNS void LANGUAGE plpgsql SET work_mem = '64MB' AS $$
DECLARE
	by_rule jsonb := (SELECT jsonb_object_agg(n, @schema@.threshold(run, 'near_leak', n)) FROM unnest('{distance,cosine,cosine_per_bit,turned_cosine,entropy,per_image}'::text[]) n)
		|| jsonb_build_object('similar', @schema@.threshold(run, 'similar_leak', 'cosine'));
	by_digest uuid := md5(by_rule::text);
	least_cosine real := by_rule ->> 'cosine';
	per_bit real := by_rule ->> 'cosine_per_bit';
	turned real := by_rule ->> 'turned_cosine';
	least_entropy real := by_rule ->> 'entropy';
	embedder text := @schema@.embedder();
	state record;
	name text;
	number int;
	seen_now bigint;
	dims int;
	splits text[];
	fresh bigint[];
	ids bigint[];
	hashes bigint[];
	vectors real[];
	sets int[];
	known int;
BEGIN
	PERFORM @schema@.need_items(run);
	SELECT r.dataset, r.version INTO name, number FROM @schema@.runs r WHERE r.run_id = run;
	SELECT s.version, s.seen, s.decoded, s.twins, s.followers, s.images, s.hashes, cardinality(s.images) AS n INTO state
		FROM @schema@.leak_states s WHERE s.dataset = name AND s.rule = by_digest AND s.embedded_by = embedder;
	IF NOT FOUND THEN
		SELECT 0 AS version, -1::bigint AS seen, '{}'::bigint[] AS decoded, '{}'::bigint[] AS twins, '{}'::bigint[] AS followers, '{}'::bigint[] AS images, '{}'::bigint[] AS hashes, 0 AS n INTO state;
	END IF;
	SELECT array_agg(DISTINCT t.split), max(t.seen_by) INTO splits, seen_now FROM pg_temp.millrace_items t;

	-- What was not looked at, or has changed since.
	IF state.decoded = ARRAY(SELECT t.image_id FROM pg_temp.millrace_items t WHERE t.entropy IS NOT NULL AND t.seen_by <= state.seen ORDER BY t.image_id) THEN
		fresh := ARRAY(SELECT t.image_id FROM pg_temp.millrace_items t WHERE t.entropy IS NOT NULL AND t.seen_by > state.seen);
	ELSE
		fresh := ARRAY(SELECT t.image_id FROM pg_temp.millrace_items t LEFT JOIN unnest(state.decoded) AS d (image_id) USING (image_id)
			WHERE t.entropy IS NOT NULL AND (d.image_id IS NULL OR t.seen_by > state.seen));
	END IF;
	-- Images with equal pixels: of a split's the first represents them.
	IF to_regclass('pg_temp.millrace_twins') IS NULL THEN
		CREATE TEMP TABLE millrace_twins (image_id bigint, split text, pixel_sha256 bytea, content_sha256 bytea, representative bigint) ON COMMIT DROP;
	END IF;
	TRUNCATE pg_temp.millrace_twins;
	INSERT INTO pg_temp.millrace_twins
		SELECT g.image_id, g.split, g.pixel_sha256, g.content_sha256, g.representative
		FROM (SELECT t.image_id, t.split, f.pixel_sha256, f.content_sha256, min(t.image_id) OVER (PARTITION BY f.pixel_sha256, t.split) AS representative,
				count(*) OVER (PARTITION BY f.pixel_sha256) AS n
			FROM (SELECT DISTINCT o.pixel_sha256 FROM unnest(fresh || state.twins) AS u (image_id) JOIN @schema@.facts o USING (image_id)) w
				JOIN @schema@.facts f USING (pixel_sha256) JOIN pg_temp.millrace_items t USING (image_id)) g
		WHERE g.n > 1;
	ANALYZE pg_temp.millrace_twins;
	DELETE FROM @schema@.leaks l USING unnest(fresh) AS o (image_id) WHERE l.a = o.image_id;
	DELETE FROM @schema@.leaks l USING unnest(fresh) AS o (image_id) WHERE l.b = o.image_id;

	-- Those that are known come first; pairs among them are not looked for again.  Mostly they are as they were, and the rest is behind them.
	SELECT array_agg(o.image_id), array_agg(o.set) INTO ids, sets
		FROM (SELECT t.image_id, least(array_position(splits, t.split), 255) AS set FROM pg_temp.millrace_items t
			WHERE t.entropy >= least_entropy AND NOT EXISTS (SELECT FROM pg_temp.millrace_twins w WHERE w.image_id = t.image_id AND w.representative <> t.image_id) ORDER BY t.image_id) o;
	IF state.n > 0 AND state.images = ids[: state.n] AND NOT EXISTS (SELECT FROM unnest(fresh) AS u (image_id) WHERE u.image_id <= ids[state.n]) THEN
		known := state.n;
		hashes := state.hashes;
		IF known < cardinality(ids) THEN
			hashes := hashes || (SELECT array_agg(f.hashes ORDER BY f.image_id) FROM @schema@.facts f WHERE f.image_id = ANY (ids[known + 1 :]));
		END IF;
	ELSE
		SELECT array_agg(o.image_id), array_agg(o.hashes), array_agg(o.set), count(*) FILTER (WHERE o.known) INTO ids, hashes, sets, known
			FROM (SELECT u.image_id, f.hashes, u.set, k.image_id IS NOT NULL AND f.seen_by <= state.seen AS known
				FROM unnest(ids, sets) AS u (image_id, set) JOIN @schema@.facts f USING (image_id) LEFT JOIN unnest(state.images) AS k (image_id) USING (image_id)
				ORDER BY known DESC, u.image_id) o;
	END IF;
	IF known < cardinality(ids) THEN
		INSERT INTO @schema@.leaks (a, b, reason, distance, cosine, turn)
			SELECT p.a, p.b, 'near', x.distance, x.cosine, x.turn
			FROM (SELECT least(ids[h.a], ids[h.b]) AS a, greatest(ids[h.a], ids[h.b]) AS b
					FROM millrace.hash_pairs(hashes, (by_rule ->> 'distance')::int, first => known + 1, per_item => (by_rule ->> 'per_image')::int, sets => sets) h) p
				JOIN @schema@.facts fa ON fa.image_id = p.a JOIN @schema@.facts fb ON fb.image_id = p.b
				CROSS JOIN LATERAL millrace.image_match(fa.hashes, fa.thumbnail, fb.hashes, fb.thumbnail) x
			WHERE x.distance <= (by_rule ->> 'distance')::int AND x.cosine >= least_cosine + per_bit * x.distance AND (x.turn = 0 OR x.cosine >= turned)
				AND fa.pixel_sha256 <> fb.pixel_sha256
			ON CONFLICT DO NOTHING;
	END IF;
	-- What is audited besides, an older version say, does not take the place of what the next audit goes on from.
	IF number >= state.version AND (cardinality(fresh) > 0 OR known < state.n OR known < coalesce(cardinality(ids), 0)) THEN
		IF known > 0 AND ids[known] > (SELECT min(u.image_id) FROM unnest(ids[known + 1 :]) AS u (image_id)) THEN
			SELECT array_agg(f.image_id ORDER BY f.image_id), array_agg(f.hashes ORDER BY f.image_id) INTO ids, hashes
				FROM unnest(ids) AS u (image_id) JOIN @schema@.facts f USING (image_id);
		END IF;
		INSERT INTO @schema@.leak_states AS s (dataset, version, rule, embedded_by, seen, decoded, twins, followers, images, hashes)
			SELECT name, number, by_digest, embedder, seen_now, ARRAY(SELECT t.image_id FROM pg_temp.millrace_items t WHERE t.entropy IS NOT NULL ORDER BY t.image_id),
				ARRAY(SELECT w.image_id FROM pg_temp.millrace_twins w), ARRAY(SELECT w.image_id FROM pg_temp.millrace_twins w WHERE w.image_id <> w.representative),
				coalesce(ids, '{}'), coalesce(hashes, '{}')
			ON CONFLICT ON CONSTRAINT leak_states_pkey DO UPDATE SET version = excluded.version, rule = excluded.rule, embedded_by = excluded.embedded_by, seen = excluded.seen,
				decoded = excluded.decoded, twins = excluded.twins, followers = excluded.followers, images = excluded.images, hashes = excluded.hashes;
	END IF;

	-- Descriptors of a network, where there are any: the thumbnail alone sees no more than the hash.
	IF embedder <> 'thumbnail' THEN
		SELECT array_agg(o.image_id), array_agg(o.embedding), array_agg(o.set), count(*) FILTER (WHERE o.known), max(cardinality(o.embedding)) INTO ids, vectors, sets, known, dims
			FROM (SELECT t.image_id, f.embedding, least(array_position(splits, t.split), 255) AS set, d.image_id IS NOT NULL AND t.seen_by <= state.seen AND p.image_id IS NULL AS known
				FROM pg_temp.millrace_items t JOIN @schema@.facts f USING (image_id) LEFT JOIN unnest(state.decoded) AS d (image_id) USING (image_id)
					LEFT JOIN unnest(state.followers) AS p (image_id) USING (image_id)
				WHERE t.embedded_by = embedder AND NOT EXISTS (SELECT FROM pg_temp.millrace_twins w WHERE w.image_id = t.image_id AND w.representative <> t.image_id)
				ORDER BY known DESC, t.image_id) o;
		IF known < cardinality(ids) THEN
			INSERT INTO @schema@.leaks (a, b, reason, distance, cosine, turn)
				SELECT p.a, p.b, 'similar', @extschema@.hash_distance(fa.hashes[1], fb.hashes[1]), p.cosine, 0
				FROM (SELECT least(ids[e.a], ids[e.b]) AS a, greatest(ids[e.a], ids[e.b]) AS b, e.cosine
						FROM millrace.embedding_pairs(vectors, dims, (by_rule ->> 'similar')::double precision, first => known + 1, per_item => (by_rule ->> 'per_image')::int, sets => sets) e) p
					JOIN @schema@.facts fa ON fa.image_id = p.a JOIN @schema@.facts fb ON fb.image_id = p.b
				WHERE fa.pixel_sha256 <> fb.pixel_sha256
				ON CONFLICT DO NOTHING;
		END IF;
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.compare_images(bigint) IS 'compares the images of a run that were not compared yet with all others, into leaks; leaves the temporary table millrace_twins of those that have equal pixels';

CREATE OR REPLACE FUNCTION @schema@.leak_reason(reason text, turn int DEFAULT 0) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE reason WHEN 'near' THEN 'near duplicate' || (ARRAY['', ', mirrored', ', upside down', ', turned by 180 degrees', ', transposed', ', turned right', ', turned left',
			', transposed the other way'])[turn + 1]
		WHEN 'similar' THEN 'similar content' ELSE reason END
$$;
COMMENT ON FUNCTION @schema@.leak_reason(text, int) IS 'why two images are held for one, in words';

CREATE OR REPLACE FUNCTION @schema@.check_leaks(run bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM @schema@.compare_images(run);
	PERFORM @schema@.pack_hashes((SELECT dataset FROM @schema@.runs WHERE run_id = run));
	WITH k AS MATERIALIZED (
		SELECT kind, @schema@.severity(run, kind) AS severity FROM @schema@.kinds WHERE "check" = 'leaks'
	), alike AS MATERIALIZED (
		SELECT l.*, a.split AS split_a, b.split AS split_b
		FROM @schema@.leaks l JOIN pg_temp.millrace_items a ON a.image_id = l.a JOIN pg_temp.millrace_items b ON b.image_id = l.b
		WHERE NOT EXISTS (SELECT FROM pg_temp.millrace_twins m WHERE m.image_id = l.a AND m.representative <> l.a)
			AND NOT EXISTS (SELECT FROM pg_temp.millrace_twins m WHERE m.image_id = l.b AND m.representative <> l.b)
	), pairs AS (
		-- Equal pixels: each image with the first of its split, and with the first of every other.
		SELECT 'exact_duplicate' AS kind, m.image_id, m.split, m.representative AS other, 0 AS score, m.content_sha256, m.split AS other_split, jsonb_build_object('distance', 0) AS evidence
		FROM pg_temp.millrace_twins m WHERE m.image_id <> m.representative
		UNION ALL
		SELECT 'exact_leak', m.image_id, m.split, o.image_id, 0, m.content_sha256, o.split, jsonb_build_object('distance', 0)
		FROM pg_temp.millrace_twins m JOIN pg_temp.millrace_twins o ON o.pixel_sha256 = m.pixel_sha256 AND o.split <> m.split AND o.image_id = o.representative
		WHERE m.image_id <> m.representative OR m.split > o.split
		UNION ALL
		SELECT n.reason || CASE WHEN n.split_a = n.split_b THEN '_duplicate' ELSE '_leak' END, n.b, n.split_b, n.a,
			CASE n.reason WHEN 'near' THEN n.distance ELSE n.cosine END, NULL, n.split_a,
			jsonb_build_object('distance', n.distance, 'cosine', round(n.cosine::numeric, 4), 'turn', n.turn, 'reason', @schema@.leak_reason(n.reason, n.turn))
		FROM alike n
		-- Across splits a pair holds for all that have the same pixels.
		UNION ALL
		SELECT n.reason || '_leak', m.image_id, n.split_b, n.a, CASE n.reason WHEN 'near' THEN n.distance ELSE n.cosine END, NULL, n.split_a,
			jsonb_build_object('distance', n.distance, 'cosine', round(n.cosine::numeric, 4), 'turn', n.turn, 'reason', @schema@.leak_reason(n.reason, n.turn))
		FROM alike n JOIN pg_temp.millrace_twins m ON m.representative = n.b AND m.image_id <> n.b WHERE n.split_a <> n.split_b
		UNION ALL
		SELECT n.reason || '_leak', n.b, n.split_b, m.image_id, CASE n.reason WHEN 'near' THEN n.distance ELSE n.cosine END, NULL, n.split_a,
			jsonb_build_object('distance', n.distance, 'cosine', round(n.cosine::numeric, 4), 'turn', n.turn, 'reason', @schema@.leak_reason(n.reason, n.turn))
		FROM alike n JOIN pg_temp.millrace_twins m ON m.representative = n.a AND m.image_id <> n.a WHERE n.split_a <> n.split_b
	)
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, other_image_id, score, evidence, suggestion)
		SELECT run, p.kind, k.severity, p.split, p.image_id, p.other, p.score,
			CASE WHEN p.content_sha256 IS NULL THEN p.evidence
				ELSE p.evidence || jsonb_build_object('reason', CASE WHEN o.content_sha256 = p.content_sha256 THEN 'same file' ELSE 'same pixels' END) END,
			CASE WHEN p.split = p.other_split THEN format('keep one of them: @schema@.remove_leaks(%L, within_splits => true)', r.dataset)
				ELSE format('keep it in one split: @schema@.remove_leaks(%L)', r.dataset) END
		FROM pairs p JOIN k ON k.kind = p.kind AND k.severity IS NOT NULL LEFT JOIN pg_temp.millrace_twins o ON o.image_id = p.other JOIN @schema@.runs r ON r.run_id = run;
END $$;
COMMENT ON FUNCTION @schema@.check_leaks(bigint) IS 'findings of images that stand twice in a data set';

-- ---- reports ----

CREATE OR REPLACE VIEW @schema@.resumen_fugas AS
	SELECT a.split AS split_a, a.path AS file_a, b.split AS split_b, b.path AS file_b, (f.evidence ->> 'distance')::int AS distance, f.evidence ->> 'reason' AS reason,
		r.dataset, f.severity, f.kind, f.run_id, a.image_id AS image_a, b.image_id AS image_b
	FROM @schema@.runs r JOIN @schema@.findings f USING (run_id) JOIN @schema@.kinds k USING (kind)
		JOIN @schema@.images a ON a.image_id = f.other_image_id JOIN @schema@.images b ON b.image_id = f.image_id
	WHERE k."check" = 'leaks'
		AND r.run_id = (SELECT max(x.run_id) FROM @schema@.runs x WHERE x.dataset = r.dataset AND x.activity = 'audit' AND x.ended_at IS NOT NULL);
COMMENT ON VIEW @schema@.resumen_fugas IS 'images that stand twice, as the last audit of each data set found them: in different splits (leaks) and within one';

CREATE OR REPLACE VIEW @schema@.leak_groups AS
	SELECT r.dataset, g.leader AS group_id, count(*) AS images, count(DISTINCT i.split) AS splits,
		string_agg(i.split || '/' || i.path, ', ' ORDER BY i.split, i.path) AS files, array_agg(i.image_id ORDER BY i.image_id) AS image_ids
	FROM (SELECT dataset, array_agg(image_a) AS a, array_agg(image_b) AS b FROM @schema@.resumen_fugas WHERE kind NOT LIKE 'similar%' GROUP BY dataset) r
		CROSS JOIN LATERAL millrace.pair_groups(r.a, r.b) g JOIN @schema@.images i ON i.image_id = g.item
	GROUP BY r.dataset, g.leader;
COMMENT ON VIEW @schema@.leak_groups IS 'images that are the same or nearly, in groups: what chains of pairs of resumen_fugas connect';

CREATE OR REPLACE FUNCTION @schema@.leaks_csv(dataset text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT E'split_a,file_a,split_b,file_b,distance,reason\r\n' || coalesce(string_agg(
			@schema@.csv_line(split_a, file_a, split_b, file_b, distance::text, reason) || E'\r\n', ''
			ORDER BY split_a = split_b, distance, split_a, file_a, split_b, file_b), '')
		FROM @schema@.resumen_fugas f WHERE f.run_id = @schema@.last_audit(leaks_csv.dataset));
END $$;
COMMENT ON FUNCTION @schema@.leaks_csv(text) IS 'resumen_fugas of a data set''s last audit as CSV: leaks between splits first';

-- ---- one new image against all ----

CREATE OR REPLACE FUNCTION @schema@.note_hashes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO @schema@.hash_blocks (dataset, images, hashes)
		SELECT s.dataset, array_agg(s.image_id), array_agg(s.hash)
		FROM (SELECT i.dataset, i.image_id, n.hashes[1] AS hash, row_number() OVER (PARTITION BY i.dataset ORDER BY i.image_id) / 8192 AS part
				FROM new_rows n JOIN @schema@.images i USING (image_id) WHERE n.hashes IS NOT NULL) s
		GROUP BY s.dataset, s.part;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.note_hashes() IS 'adds hashes of new facts to hash_blocks';
CREATE OR REPLACE TRIGGER note_hashes AFTER INSERT ON @schema@.facts REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @schema@.note_hashes();

-- Facts measured again: the image is a new one.
CREATE OR REPLACE FUNCTION @schema@.note_changed_hashes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	changed bigint[];
BEGIN
	IF TG_OP = 'DELETE' THEN
		changed := (SELECT array_agg(o.image_id) FROM old_rows o);
	ELSE
		changed := (SELECT array_agg(n.image_id) FROM new_rows n JOIN old_rows o USING (image_id)
			WHERE (n.hashes, n.pixel_sha256) IS DISTINCT FROM (o.hashes, o.pixel_sha256));
		INSERT INTO @schema@.hash_blocks (dataset, images, hashes)
			SELECT i.dataset, array_agg(i.image_id), array_agg(n.hashes[1]) FROM new_rows n JOIN @schema@.images i USING (image_id)
			WHERE n.image_id = ANY (changed) AND n.hashes IS NOT NULL GROUP BY i.dataset;
	END IF;
	DELETE FROM @schema@.leaks WHERE a = ANY (changed);
	DELETE FROM @schema@.leaks WHERE b = ANY (changed);
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.note_changed_hashes() IS 'forgets what facts that are no longer true were compared with';
CREATE OR REPLACE TRIGGER note_changed_hashes AFTER UPDATE ON @schema@.facts REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION @schema@.note_changed_hashes();
CREATE OR REPLACE TRIGGER note_deleted_hashes AFTER DELETE ON @schema@.facts REFERENCING OLD TABLE AS old_rows
	FOR EACH STATEMENT EXECUTE FUNCTION @schema@.note_changed_hashes();

INSERT INTO @schema@.hash_blocks (dataset, images, hashes)
	SELECT s.dataset, array_agg(s.image_id), array_agg(s.hash)
	FROM (SELECT i.dataset, i.image_id, f.hashes[1] AS hash, row_number() OVER (PARTITION BY i.dataset ORDER BY i.image_id) / 8192 AS part
			FROM @schema@.facts f JOIN @schema@.images i USING (image_id) WHERE f.hashes IS NOT NULL) s
	WHERE NOT EXISTS (SELECT FROM @schema@.hash_blocks)
	GROUP BY s.dataset, s.part;

-- Small blocks into large ones, without what is out of date.
CREATE OR REPLACE FUNCTION @schema@.pack_hashes(name text) RETURNS void LANGUAGE sql AS $$
	WITH gone AS (
		DELETE FROM @schema@.hash_blocks b WHERE b.dataset = name AND cardinality(b.images) < 4096
			AND (SELECT count(*) FROM @schema@.hash_blocks x WHERE x.dataset = name AND cardinality(x.images) < 4096) > 16
		RETURNING b.images, b.hashes
	)
	INSERT INTO @schema@.hash_blocks (dataset, images, hashes)
		SELECT name, array_agg(s.image_id), array_agg(s.hash)
		FROM (SELECT u.image_id, u.hash, row_number() OVER (ORDER BY u.image_id) / 8192 AS part
				FROM (SELECT DISTINCT e.image_id, e.hash FROM gone g, unnest(g.images, g.hashes) AS e (image_id, hash)) u JOIN @schema@.facts f ON f.image_id = u.image_id AND f.hashes[1] = u.hash) s
		GROUP BY s.part
$$;
COMMENT ON FUNCTION @schema@.pack_hashes(text) IS 'joins small blocks of a data set''s hash_blocks: audits do it';

CREATE OR REPLACE FUNCTION @schema@.check_image(dataset text, image bytea, at_most int DEFAULT 100)
	RETURNS TABLE (image_id bigint, split text, path text, distance int, cosine real, reason text) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
	q millrace.image_facts := millrace.image_facts(image);
	name text;
	number int;
	near bigint[];
	rule jsonb := (SELECT thresholds FROM @schema@.kinds WHERE kind = 'near_leak');
BEGIN
	SELECT r.dataset, r.version INTO name, number FROM @schema@.resolve(check_image.dataset) r;
	IF q.sqlstate IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = q.sqlstate, MESSAGE = q.message;
	END IF;
	-- The hashes of the stored ones' turns are not in the blocks: with them a distance may be a step less.
	near := ARRAY(SELECT DISTINCT b.images[p.a]
		FROM @schema@.hash_blocks b CROSS JOIN LATERAL millrace.hash_pairs(b.hashes, least((rule ->> 'distance')::int + 2, 63), q.hashes) p
		WHERE b.dataset = name AND q.entropy >= (rule ->> 'entropy')::real);
	RETURN QUERY
		WITH found AS (
			SELECT f.image_id, 0 AS distance, 1::real AS cosine, CASE WHEN f.content_sha256 = sha256(image) THEN 'same file' ELSE 'same pixels' END AS reason
			FROM @schema@.facts f WHERE f.pixel_sha256 = q.pixel_sha256
			UNION ALL
			SELECT f.image_id, x.distance, x.cosine, @schema@.leak_reason('near', x.turn)
			FROM @schema@.facts f CROSS JOIN LATERAL millrace.image_match(q.hashes, q.thumbnail, f.hashes, f.thumbnail) x
			WHERE f.image_id = ANY (near) AND f.pixel_sha256 <> q.pixel_sha256 AND x.distance <= (rule ->> 'distance')::int
				AND x.cosine >= (rule ->> 'cosine')::real + (rule ->> 'cosine_per_bit')::real * x.distance AND (x.turn = 0 OR x.cosine >= (rule ->> 'turned_cosine')::real)
		)
		SELECT i.image_id, i.split, i.path, s.distance, s.cosine, s.reason
		FROM found s JOIN @schema@.images i USING (image_id)
		WHERE i.dataset = name AND i.since <= number AND (i.until IS NULL OR i.until > number)
		ORDER BY s.distance, s.cosine DESC, i.image_id LIMIT at_most;
END $$;
COMMENT ON FUNCTION @schema@.check_image(text, bytea, int) IS 'images of a data set that are the same as this one or nearly, flipped and turned ones with them: the nearest at_most of them';
