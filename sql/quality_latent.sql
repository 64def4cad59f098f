-- Latent space: maps, neighbours, agreement, outliers, silhouettes, clusters; parts of images.

CREATE TEMP TABLE points AS
	SELECT i AS id, i % 3 AS label, ARRAY[10 * (i % 3 = 1)::int + sin(i), 10 * (i % 3 = 2)::int + cos(i * 1.3), sin(i * 0.7)]::real[] AS v FROM generate_series(1, 120) i;
CREATE TEMP TABLE flat AS
	SELECT array_agg(v ORDER BY id) AS v, array_agg(label ORDER BY id) AS labels FROM points;

-- Three heaps stay three heaps: every point's nearest on the map are of its own.
SELECT cardinality(map) AS numbers, round(kl_divergence::numeric, 1) AS kl, perplexity, iterations
	FROM flat, millrace.tsne_fit(v, 3, '{"perplexity": 10, "max_iter": 500}');
SELECT min(a) AS agreement FROM flat, unnest(millrace.knn_agreement(millrace.tsne(v, 3, '{"perplexity": 10, "max_iter": 500}'), 2, labels, 5)) a;
SELECT cardinality(millrace.tsne(v, 3, '{"n_components": 3, "max_iter": "20", "init": "random", "random_state": 7}')) AS in_space FROM flat;
-- The same seed, the same map, whatever the instruction set; another seed, another map.
SELECT millrace.tsne(v, 3, '{"max_iter": 50}') AS map INTO TEMP auto FROM flat;
SET millrace.isa = 'portable';
SELECT millrace.tsne(v, 3, '{"max_iter": 50}') = map AS same FROM flat, auto;
RESET millrace.isa;
SELECT millrace.tsne(v, 3, '{"max_iter": 50, "init": "random", "random_state": 1}') = millrace.tsne(v, 3, '{"max_iter": 50, "init": "random", "random_state": 2}') AS same FROM flat;
-- Few points.
SELECT millrace.tsne('{}', 2) AS none, millrace.tsne('{1,2}', 2) AS one, millrace.tsne('{1,2,3,4}', 2) AS two, millrace.tsne('{1,2,1,2}', 2) AS equal;
SELECT bool_and(x = x AND abs(x) < 1000) AS finite FROM unnest(millrace.tsne(array_fill(1::real, ARRAY[30]), 3)) x;
SELECT millrace.tsne(NULL, 2) IS NULL AS nothing;

-- What is refused.
SELECT millrace.tsne('{1,2,3}', 2);
SELECT millrace.tsne('{1,2}', 0);
SELECT millrace.tsne('{1,NULL}', 2);
SELECT millrace.tsne('{1,2,NaN,3}', 2);
SELECT millrace.tsne('{1,2,Infinity,3}', 2);
SELECT millrace.tsne('{1,2}', 2, '[]');
SELECT millrace.tsne('{1,2}', 2, '{"perplexity": 0}');
SELECT millrace.tsne('{1,2}', 2, '{"n_components": 4}');
SELECT millrace.tsne('{1,2}', 2, '{"angle": 0.5}');
SELECT millrace.tsne('{1,2}', 2, '{"init": [1]}');
SET millrace.train_memory = '1MB';
SELECT millrace.tsne(array_fill(1::real, ARRAY[100000]), 2);
RESET millrace.train_memory;
SET statement_timeout = '300ms';
SELECT millrace.tsne((SELECT array_agg(ARRAY[sin(i), cos(i * i)]::real[]) FROM generate_series(1, 5000) i), 2, '{"max_iter": 100000}');
RESET statement_timeout;

-- Neighbours.
SELECT * FROM millrace.nearest_neighbours('{0, 1, 3, 7, 7}', 1, 2);
SELECT * FROM millrace.nearest_neighbours('{0, 1, 3, 7, 7}', 1, 2, first => 5);
SELECT * FROM millrace.nearest_neighbours('{0,0, 3,4}', 2, 5, '{0,1, 9,9}');
SELECT * FROM millrace.nearest_neighbours('{0,0, 3,4}', 2, 5, '{0,1, 9,9, 3,3}', within => '{2, 3, 1.5}');
SELECT * FROM millrace.nearest_neighbours('{0, 1}', 1, 1, '{3}', within => '{1, 2}');
SELECT * FROM millrace.nearest_neighbours('{0}', 1, 2);
SELECT * FROM millrace.nearest_neighbours('{0}', 1, 0);
SELECT millrace.knn_agreement('{0, 1, 2, 10, 11}', 1, '{1, 1, 2, 2, 2}', 2);
SELECT millrace.knn_agreement('{0, 1, 2}', 1, '{1, 1}', 2);
SELECT * FROM millrace.neighbour_confusion('{10,20,30}', '{20,30, 10,30, 10,0}', '{5, 5, 6}', 2);
SELECT * FROM millrace.neighbour_confusion('{10,20,30}', '{20,30, 10,30, 10,99}', '{5, 5, 6}', 2, 1);
SELECT * FROM millrace.neighbour_confusion('{20,10}', '{10,20}', '{5, 5}', 1);
SELECT * FROM millrace.neighbour_confusion('{10}', '{10,20}', '{5}', 1);

-- Outliers: one far from a grid.
SELECT item, factor > "limit" AS out FROM millrace.knn_outliers((SELECT array_agg(ARRAY[x, y]::real[] ORDER BY x, y) || ARRAY[ARRAY[40, 40]]::real[]
	FROM generate_series(1, 10) x, generate_series(1, 10) y), 2, 5, at_least => 2);
SELECT round(f::numeric, 3) FROM unnest(millrace.outlier_factors('{2,3, 1,3, 2,1, 3,2}', '{1,2, 1,1, 1,2, 7,8}', 2)) f;
SELECT millrace.outlier_factors('{2,3}', '{1}', 2);
SELECT millrace.outlier_factors('{2,9}', '{1,2}', 2);
WITH n AS (SELECT * FROM millrace.nearest_neighbours(array_cat(array_fill(0::real, ARRAY[10]), '{1, 2, 3, 4, 5, 6, 7, 8, 50}'), 1, 3))
	SELECT item, round(factor::numeric, 2) AS factor FROM millrace.neighbour_outliers((SELECT array_agg(query::bigint * 10 ORDER BY query) FROM n),
		(SELECT array_agg(ARRAY(SELECT x * 10::bigint FROM unnest(neighbours) x) ORDER BY query) FROM n), (SELECT array_agg(distances ORDER BY query) FROM n), 3);

-- Silhouettes and clusters.
SELECT label, points, sampled, round(silhouette::numeric, 3) AS silhouette FROM flat, millrace.silhouettes(v, 3, labels);
SELECT sampled, silhouette > 0.7 AS apart FROM flat, millrace.silhouettes(v, 3, labels, 30) WHERE label IS NULL;
SELECT * FROM millrace.silhouettes('{1,2,3}', 1, '{4,4,4}');
SELECT count(DISTINCT (c, label)) AS groups, count(DISTINCT c) AS clusters FROM flat, unnest(millrace.kmeans_clusters(v, 3, 3), labels) u (c, label);
SELECT millrace.kmeans_clusters('{1,2}', 1, 3);
SELECT millrace.kmeans_clusters('{3e38,-3e38,3e38,-3e38,1}', 1, 2);
SELECT round(x::numeric, 3) AS score FROM unnest(millrace.principal_components('{0,0, 3,4, 6,8}', 2, 1)) x;
SELECT millrace.principal_components('{0,0}', 2, 3);
SELECT millrace.principal_components('{}', 2147483647, 2147483647);

-- Parts of an image.
SELECT box, (image_info(crop)).width, (image_info(crop)).height
	FROM image_crops(image_resize(decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==', 'base64'), 20, 10, 'stretch', 'png'),
		'{0,0,20,10, 2.5,1,9,9, -4,-4,4,4, 30,1,40,2, 5,5,5,9, NaN,0,9,9}');
SELECT image_crop(image_resize(decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==', 'base64'), 20, 10, 'stretch', 'png'), 20, 0, 30, 5) IS NULL AS outside;
SELECT box, cardinality(thumbnail) FROM millrace.image_thumbnails(image_resize(decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==', 'base64'), 20, 10, 'stretch', 'png'),
	'{0,0,20,10, 30,1,40,2}');
SELECT * FROM image_crops('', '{1,2,3}');
SELECT * FROM image_crops('\x00', '{1,2,3,4}');
SELECT image_crop('\x00', 1, 2, 3, 4, 'gif');

-- Rows.
SELECT millrace.vector_digest('{1, 2}') = millrace.vector_digest('{1, 2}') AS same, millrace.vector_digest('{1, 2}') = millrace.vector_digest('{2, 1}') AS turned,
	millrace.vector_digest('{}') IS NOT NULL AS empty;
SELECT millrace.largest_of('{0.2, 0.5, 0.5}') AS largest, millrace.largest_of('{0.2, 0.5, 0.3}', '{0.1, 0.6, 0.3}') AS within, millrace.largest_of('{0.2}', '{0.3}') AS none,
	millrace.largest_of('{NaN, 0.1}') AS number, millrace.largest_of('{}') AS empty, millrace.largest_of(NULL) AS missing;
SELECT millrace.largest_of('{0.2, 0.5}', '{0.1}');
SELECT millrace.largest_of('{0.2, NULL}');

-- Lists that are kept: grown in parts they are those of all at once.  Every third point stands twice.
CREATE TEMP TABLE spots AS
	SELECT 10 * i AS item, ARRAY(SELECT sin((i - i % 3 / 2) * 7.1 * d + d)::real FROM generate_series(1, 5) d) AS v FROM generate_series(1, 300) i;
CREATE FUNCTION pg_temp.vectors(items bigint[]) RETURNS real[] LANGUAGE sql AS $$ SELECT array_agg(p.v ORDER BY p.item) FROM spots p WHERE p.item = ANY (items) $$;
CREATE FUNCTION pg_temp.rows(items bigint[], neighbours bigint[], distances real[]) RETURNS text LANGUAGE sql AS $$
	SELECT md5(string_agg(r::text, E'\n' ORDER BY r.item)) FROM millrace.neighbour_rows(items, neighbours, distances, 4) r
$$;
CREATE FUNCTION pg_temp.grow(VARIADIC ends int[]) RETURNS TABLE (items bigint[], neighbours bigint[], distances real[]) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	lists record;
	fresh bigint[];
	a record;
	b record;
	done int := 0;
	upto int;
BEGIN
	SELECT '{}'::bigint[] AS items, '{}'::bigint[] AS neighbours, '{}'::real[] AS distances INTO lists;
	FOREACH upto IN ARRAY ends LOOP
		fresh := ARRAY(SELECT p.item FROM spots p WHERE p.item > 10 * done AND p.item <= 10 * upto ORDER BY 1);
		SELECT n.* INTO a FROM millrace.near_items(fresh, pg_temp.vectors(fresh), k => 4) n;
		SELECT n.* INTO b FROM millrace.near_items(lists.items, coalesce(pg_temp.vectors(lists.items), '{}'), fresh, pg_temp.vectors(fresh), 4, lists.items, lists.distances) n;
		SELECT g.* INTO lists FROM millrace.grown_neighbours(lists.items, lists.neighbours, lists.distances, 4, fresh, a.item || b.item, a.neighbour || b.neighbour, a.distance || b.distance) g;
		done := upto;
	END LOOP;
	RETURN QUERY SELECT lists.items, lists.neighbours, lists.distances;
END $$;
SELECT cardinality(w.items) AS items, pg_temp.rows(w.items, w.neighbours, w.distances) = pg_temp.rows(p.items, p.neighbours, p.distances) AS same,
		pg_temp.rows(w.items, w.neighbours, w.distances) = pg_temp.rows(s.items, s.neighbours, s.distances) AS short_ones_same
	FROM pg_temp.grow(300) w, pg_temp.grow(200, 299, 300) p, pg_temp.grow(2, 3, 300) s;
SELECT bool_and(r.neighbours = ARRAY(SELECT u.place * 10::bigint FROM unnest(n.neighbours) WITH ORDINALITY u (place, o) ORDER BY o) AND r.distances = n.distances) AS as_nearest_neighbours
	FROM pg_temp.grow(100, 300) g, millrace.neighbour_rows(g.items, g.neighbours, g.distances, 4) r, millrace.nearest_neighbours(pg_temp.vectors(g.items), 5, 4) n
	WHERE n.query * 10 = r.item;
-- What is gone takes the lists with it that name it.
SELECT count(*) FILTER (WHERE 500 = ANY (r.neighbours)) + 1 AS named, cardinality(g.items) - cardinality(k.items) AS gone
	FROM pg_temp.grow(300) g, millrace.kept_neighbours(g.items, g.neighbours, g.distances, 4, array_remove(g.items, 500)) k, millrace.neighbour_rows(g.items, g.neighbours, g.distances, 4) r
	GROUP BY g.items, k.items;
SELECT * FROM millrace.neighbour_rows('{3,5}', '{5,0,3,0}', '{1,Infinity,1,Infinity}', 2);
SELECT * FROM millrace.near_items('{3,5}', '{0,4}', '{7}', '{1}', 1, '{3,5}', '{4,4}');
SELECT * FROM millrace.near_items('{3,5}', '{0,4,5}');
SELECT * FROM millrace.near_items('{3,5}', '{0,4}', '{7}', '{1,1}');
SELECT * FROM millrace.near_items('{3,5}', '{0,NaN}');
SELECT * FROM millrace.kept_neighbours('{5,3}', '{0,0}', '{1,1}', 1, '{3}');
SELECT * FROM millrace.grown_neighbours('{3}', '{0}', '{1}', 1, '{3}', '{}', '{}', '{}');
SELECT * FROM millrace.grown_neighbours('{3}', '{0,0}', '{1}', 1, '{5}', '{}', '{}', '{}');
SELECT * FROM millrace.neighbour_rows('{3}', '{0}', '{1}', 0);
