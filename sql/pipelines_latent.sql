-- Pipeline datasets: latent space of a data set whose embeddings are made up.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT millrace.create_pipeline('datasets', 'latent');
SELECT latent.create_dataset('heaps', 'classification', '{left,right,twin,other twin,parts}');
-- left and right are apart, the twins are one heap, parts are two far from each other; one image is nowhere.
CREATE FUNCTION pg_temp.place(class int, i int) RETURNS real[] LANGUAGE sql AS $$
	SELECT ARRAY[(class = 0)::int * 10, (class = 1)::int * 10, (class IN (2, 3))::int * 10, (class = 4)::int * CASE WHEN i % 3 = 0 THEN 10 ELSE -10 END]::real[]
		|| ARRAY(SELECT sin(i * 7.1 * (d + class * 1.7) + d)::real FROM generate_series(1, 4) d)
$$;
CREATE FUNCTION pg_temp.add(first int, last int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO latent.images (image_id, dataset, path) SELECT i, 'heaps', i || '.png' FROM generate_series(first, last) i;
	INSERT INTO latent.annotations (image_id, class_id) SELECT i, i % 5 FROM generate_series(first, last) i;
	INSERT INTO latent.facts (image_id, content_sha256, seen_by, embedding, embedded_by)
		SELECT i, sha256(i::text::bytea), 0, CASE WHEN i = 7 THEN '{5,5,5,0,0,0,0,9}' ELSE pg_temp.place(i % 5, i) END, 'thumbnail' FROM generate_series(first, last) i;
$$;
CREATE FUNCTION pg_temp.look() RETURNS TABLE (kind text, class_id int, image_id bigint, classes jsonb, part numeric) LANGUAGE plpgsql AS $$
DECLARE
	run bigint := latent.begin_run('heaps', 'audit');
BEGIN
	PERFORM latent.check_latent(run);
	RETURN QUERY SELECT f.kind, f.class_id, f.image_id, f.evidence -> 'classes', (f.evidence ->> 'smaller_part')::numeric FROM latent.findings f WHERE f.run_id = run ORDER BY 1, 2, 3;
END $$;
SELECT pg_temp.add(1, 500);
SELECT * FROM pg_temp.look();
SELECT class_id, cardinality(items) AS items, silhouette > 0.5 AS apart, part_silhouette > 0.5 AS parted FROM latent.class_space ORDER BY class_id;

-- What comes later is compared with all, and gives what comparing everything anew gives.
CREATE FUNCTION pg_temp.as_anew() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	grown bigint[];
	anew bigint[];
BEGIN
	grown := ARRAY(SELECT u.n FROM latent.neighbours o, unnest(o.item || o.neighbours) AS u (n) ORDER BY o.item, array_position(o.item || o.neighbours, u.n));
	DELETE FROM latent.neighbour_lists;
	PERFORM latent.find_neighbours('heaps', 'images');
	anew := ARRAY(SELECT u.n FROM latent.neighbours o, unnest(o.item || o.neighbours) AS u (n) ORDER BY o.item, array_position(o.item || o.neighbours, u.n));
	RETURN grown = anew;
END $$;
SELECT latent.find_neighbours('heaps', 'images') AS fresh;
SELECT pg_temp.add(501, 520);
SELECT latent.find_neighbours('heaps', 'images') AS fresh;
SELECT pg_temp.as_anew();
-- An image that goes and one that changes.
DELETE FROM latent.images WHERE image_id = 11;
UPDATE latent.facts SET embedding = pg_temp.place(0, 1000) WHERE image_id = 12;
SELECT latent.find_neighbours('heaps', 'images') > 2 AS fresh;
SELECT pg_temp.as_anew();
SELECT DISTINCT kind FROM pg_temp.look() ORDER BY 1;

-- Maps are kept as long as nothing changes.
SELECT count(*) AS points, count(z) AS z, count(DISTINCT class_id) AS classes FROM latent.latent_map('heaps', 'images', 'pca');
SELECT count(*) AS points, count(z) AS z FROM latent.latent_map('heaps', options => '{"max_iter": 100, "sample": 100}');
SELECT count(*) FROM latent.latent_map('heaps', options => '{"max_iter": 100, "sample": 100}');
SELECT map_id, what, method, items, points, kl_divergence > 0 AS kl FROM latent.maps ORDER BY map_id;
DELETE FROM latent.images WHERE image_id = 13;
SELECT latent.make_map('heaps', 'images', 'pca');
SELECT latent.make_map('heaps', 'words');
SELECT latent.make_map('heaps', 'images', 'pca', '{"perplexity": 3}');
SELECT latent.make_map('heaps', 'images', 'tsne', '{"angle": 3}');
SELECT latent.make_map('heaps', 'objects');
SELECT latent.make_map('nothing');

-- Objects: the crops of their boxes.  One is odd; a box outside the image is nowhere.
SELECT latent.create_dataset('boxes', 'detection', '{light,dark}');
INSERT INTO latent.images (image_id, dataset, path, content)
	SELECT 1000 + i, 'boxes', i || '.png', image_resize(decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==', 'base64'), 40 + i, 30, 'stretch', 'png') FROM generate_series(1, 5) i;
INSERT INTO latent.annotations (annotation_id, image_id, class_id, x1, y1, x2, y2)
	SELECT 1000 * i + j, 1000 + i, j % 2, j, j, 20 + j, 20 + j % 3 FROM generate_series(1, 5) i, generate_series(1, 6) j;
INSERT INTO latent.annotations (annotation_id, image_id, class_id, x1, y1, x2, y2) VALUES (99999, 1001, 0, 100, 100, 120, 120);
SELECT latent.measure('boxes');
SELECT latent.measure_objects('boxes'), latent.measure_objects('boxes') AS again;
SELECT count(*), count(embedding) FROM latent.object_facts;
UPDATE latent.annotations SET x2 = x2 + 3 WHERE annotation_id = 1001;
SELECT latent.measure_objects('boxes') AS changed, latent.find_neighbours('boxes', 'objects') AS fresh;
SELECT count(*) AS points, count(annotation_id) AS objects FROM latent.latent_map('boxes', 'objects', 'pca', '{"n_components": 2}');
SELECT millrace.drop_pipeline('latent');
