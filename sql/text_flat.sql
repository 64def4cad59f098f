-- Nearest vectors by the index millrace_flat, against a sequential scan.
CREATE SCHEMA text_flat;
SET search_path = text_flat, millrace, public;

-- n numbers from -1 to 1, different for each seed, the same on every machine
CREATE FUNCTION vec(seed int, n int) RETURNS real[] LANGUAGE sql IMMUTABLE AS
	$$ SELECT array_agg((hashint4(seed * 10007 + j) / 2147483648.0)::real ORDER BY j) FROM generate_series(1, n) j $$;

-- ids of the k nearest of a table, by the index or without it
CREATE FUNCTION nearest(of_table text, op text, q real[], k int, by_index bool, filter text DEFAULT 'true') RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE found int[]; plan text := ''; line text;
	query text := format('SELECT id FROM %I WHERE %s ORDER BY e OPERATOR(millrace.%s) %L::real[] LIMIT %s', of_table, filter, op, q, k);
BEGIN
	PERFORM set_config('enable_seqscan', (NOT by_index)::text, true), set_config('enable_indexscan', by_index::text, true), set_config('enable_sort', (NOT by_index)::text, true);
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP plan := plan || line; END LOOP;
	IF by_index <> (plan LIKE '%Index Scan%') THEN RAISE EXCEPTION '%', plan; END IF;
	EXECUTE 'SELECT array_agg(id) FROM (' || query || ') s' INTO found;
	RETURN found;
END $$;

-- how many of the k nearest the index finds, on the average of 20 searches
CREATE FUNCTION recall(of_table text, op text, n int, k int, filter text DEFAULT 'true') RETURNS numeric LANGUAGE sql AS $$
	SELECT round(avg((SELECT count(*) FROM (SELECT unnest(nearest(of_table, op, vec(-s, n), k, true, filter)) INTERSECT
		SELECT unnest(nearest(of_table, op, vec(-s, n), k, false, filter))) x) / k::numeric), 3) FROM generate_series(1, 20) s $$;

-- A small table is searched exactly.
CREATE TABLE small AS SELECT i AS id, vec(i, 20) AS e FROM generate_series(1, 3000) i;
CREATE INDEX small_cosine ON small USING millrace_flat (e);
SELECT recall('small', '<=>', 20, 10) AS cosine, recall('small', '<=>', 20, 500) AS many;
DROP INDEX small_cosine;
CREATE INDEX small_l2 ON small USING millrace_flat (e flat_l2_ops);
SELECT recall('small', '<->', 20, 10) AS l2, recall('small', '<->', 20, 500) AS many;
CREATE INDEX small_inner ON small USING millrace_flat (e flat_inner_ops);
SELECT recall('small', '<#>', 20, 10) AS inner_product, recall('small', '<#>', 20, 500) AS many;

-- A larger one by signs first; all rows come in the end, each once, and a filter starves nobody.
CREATE TABLE large AS SELECT i AS id, vec(i, 128) AS e FROM generate_series(1, 12000) i;
CREATE INDEX large_e ON large USING millrace_flat (e);
SET millrace.flat_candidates = 300;
SELECT recall('large', '<=>', 128, 10) > 0.95 AS found;
SET enable_seqscan = off; SET enable_sort = off;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM large ORDER BY e <=> vec(-1, 128)) s;
SELECT recall('large', '<=>', 128, 3, 'id % 4000 = 1') AS filtered, nearest('large', '<=>', vec(-1, 128), 2, true, 'id = 77') AS one;
-- memory for 1,024 rows at a time
SET work_mem = '64kB';
SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE d < before) <= 3 AS in_order
FROM (SELECT id, d, lag(d) OVER () AS before FROM (SELECT id, e <=> vec(-2, 128) AS d FROM large ORDER BY e <=> vec(-2, 128)) s) s;
RESET work_mem; RESET millrace.flat_candidates; RESET enable_seqscan; RESET enable_sort;

-- Rows that come, change, go and are rolled back.
CREATE TABLE moving (id int, e real[]);
CREATE INDEX moving_e ON moving USING millrace_flat (e flat_l2_ops) WITH (dimensions = 8);
SELECT nearest('moving', '<->', vec(1, 8), 3, true) AS nothing;
INSERT INTO moving SELECT i, vec(i, 8) FROM generate_series(1, 2000) i;
INSERT INTO moving VALUES (0, NULL);
SELECT recall('moving', '<->', 8, 10) AS inserted;
BEGIN; DELETE FROM moving WHERE id % 2 = 0; INSERT INTO moving SELECT i, vec(-i, 8) FROM generate_series(1, 20) i; ROLLBACK;
SELECT recall('moving', '<->', 8, 10) AS rolled_back;
DELETE FROM moving WHERE id % 3 = 0;
UPDATE moving SET e = vec(id + 100000, 8) WHERE id % 3 = 1;
SELECT recall('moving', '<->', 8, 10) AS updated;
VACUUM moving;
SELECT recall('moving', '<->', 8, 10) AS vacuumed;
INSERT INTO moving SELECT i, vec(i, 8) FROM generate_series(3000, 4200) i;
SELECT recall('moving', '<->', 8, 10) AS refilled;
SELECT rows, missing, doubled, wrong, damaged FROM millrace.flat_check('moving_e');
REINDEX INDEX moving_e;
SELECT recall('moving', '<->', 8, 10) AS reindexed;
CREATE INDEX CONCURRENTLY moving_c ON moving USING millrace_flat (e flat_inner_ops);
SELECT recall('moving', '<#>', 8, 10) AS concurrently;
TRUNCATE moving;
SELECT nearest('moving', '<->', vec(1, 8), 3, true) AS nothing;

-- Ties, the zero vector, the vector NULL.
CREATE TABLE ties AS SELECT i AS id, CASE WHEN i <= 40 THEN '{1,0}' WHEN i <= 44 THEN '{0,0}' ELSE '{0,2}' END::real[] AS e FROM generate_series(1, 50) i;
CREATE INDEX ties_e ON ties USING millrace_flat (e);
SET enable_seqscan = off; SET enable_sort = off;
SELECT e, e <=> '{3,0.5}' AS d, count(*) FROM (SELECT e FROM ties ORDER BY e <=> '{3,0.5}') s GROUP BY e ORDER BY d;
SELECT count(*) FROM (SELECT id FROM ties ORDER BY e <=> '{0,0}') s;
SELECT count(*) FROM (SELECT id FROM ties ORDER BY e <=> NULL) s;

-- the nodes of a plan, spelled alike by all versions
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; nodes text[];
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ '^[ >-]*(Limit|Sort|Index|Seq|Aggregate)' AND line !~ 'Key' THEN nodes := nodes || btrim(line, ' ->'); END IF;
	END LOOP;
	RETURN array_to_string(nodes, ', ');
END $$;

-- Plans: for ORDER BY alone; joins, prepared statements, cursors.
RESET enable_seqscan; RESET enable_sort;
SELECT plan('SELECT id FROM large ORDER BY e <=> (SELECT vec(-1, 128)) LIMIT 10') AS by_index,
	plan('SELECT id FROM large ORDER BY e <-> (SELECT vec(-1, 128)) LIMIT 10') AS other_operator,
	plan('SELECT count(*) FROM large WHERE e IS NOT NULL') AS no_order;
SELECT q, array_agg(id) = nearest('large', '<=>', vec(-q, 128), 3, false) AS the_same
FROM generate_series(1, 3) q, LATERAL (SELECT id FROM large ORDER BY e <=> vec(-q, 128) LIMIT 3) s GROUP BY q ORDER BY q;
PREPARE near(real[]) AS SELECT id FROM large ORDER BY e <=> $1 LIMIT 1;
EXECUTE near(vec(5, 128)); EXECUTE near(vec(6, 128)); EXECUTE near(NULL);
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM large ORDER BY e <=> vec(7, 128) LIMIT 3;
FETCH 1 FROM c; MOVE LAST FROM c; FETCH FIRST FROM c;
COMMIT;

-- What is refused.
INSERT INTO large VALUES (0, '{1,2,3}');
INSERT INTO large VALUES (0, array_fill(1::real, ARRAY[127]) || 'NaN'::real);
INSERT INTO large VALUES (0, array_fill(1::real, ARRAY[127]) || '-Infinity'::real);
INSERT INTO large VALUES (0, '{}');
INSERT INTO large VALUES (0, '{{1,2},{3,4}}');
INSERT INTO large VALUES (0, '{NULL,1}');
SET enable_seqscan = off;
SELECT id FROM large ORDER BY e <=> '{1,2,3}' LIMIT 1;
RESET enable_seqscan;
CREATE TABLE mixed AS SELECT id, CASE WHEN id = 3 THEN '{1}' ELSE '{1,2}' END::real[] AS e FROM generate_series(1, 3) id;
CREATE INDEX ON mixed USING millrace_flat (e);
CREATE INDEX ON large USING millrace_flat (e) WITH (dimensions = 100);
CREATE INDEX ON large USING millrace_flat (e) WITH (dimensions = 8001);
CREATE INDEX ON large USING millrace_flat (e, id);
CREATE INDEX ON large USING millrace_flat (id);
CREATE UNIQUE INDEX ON large USING millrace_flat (e);
CREATE INDEX ON large USING millrace_flat (e) INCLUDE (id);
CREATE INDEX ON large USING millrace_flat (e DESC);
SET millrace.flat_candidates = 0;
SELECT opcname, amvalidate(c.oid) FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE amname = 'millrace_flat' ORDER BY 1;

-- When signs have no more, bytes find what is left: vectors of length 0 in a table of few rows that had many.
INSERT INTO large SELECT -i, array_fill(0::real, ARRAY[128]) FROM generate_series(1, 5) i;
DELETE FROM large WHERE id % 20 > 0;
VACUUM large;
SET millrace.flat_candidates = 300; SET enable_seqscan = off; SET enable_sort = off;
SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE id < 0) AS without_length FROM (SELECT id FROM large ORDER BY e <=> vec(-1, 128)) s;
RESET millrace.flat_candidates; RESET enable_seqscan; RESET enable_sort;

-- Unlogged and temporary tables; other dimensions, partial and expression indexes.
CREATE UNLOGGED TABLE quick AS SELECT i AS id, vec(i, 100) AS e FROM generate_series(1, 300) i;
CREATE INDEX quick_e ON quick USING millrace_flat (e);
SELECT recall('quick', '<=>', 100, 5) AS unlogged;
CREATE TEMP TABLE brief AS SELECT i AS id, vec(i, 2000) AS e FROM generate_series(1, 200) i;
CREATE INDEX brief_e ON brief USING millrace_flat (e flat_l2_ops);
INSERT INTO brief SELECT i, vec(i, 2000) FROM generate_series(201, 220) i;
DELETE FROM brief WHERE id < 30;
VACUUM brief;
SELECT recall('brief', '<->', 2000, 5) AS temporary;
CREATE TABLE part AS SELECT i AS id, vec(i, 4) AS e FROM generate_series(1, 300) i;
CREATE INDEX part_e ON part USING millrace_flat (e) WHERE id % 2 = 0;
SELECT recall('part', '<=>', 4, 5, 'id % 2 = 0') AS partial;
SET client_min_messages = warning;
DROP SCHEMA text_flat CASCADE;
