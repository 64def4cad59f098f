-- Near pairs: hash_pairs(), embedding_pairs(), hash_groups(), pair_groups().  Exact against plain SQL; numbers of
-- big ones are in unit/test_quality_pairs.c and bench/pairs.py.

CREATE TEMP TABLE item AS
	SELECT i, (('x' || substr(md5((i / 5)::text), 1, 16))::bit(64)::bigint) # (1::bigint << (i % 5 * 7)) # (i % 5)::bigint AS hash
	FROM generate_series(1, 1000) i;

SELECT count(*) AS pairs, sum(a), sum(b), sum(distance), min(distance), max(distance)
	FROM (SELECT (millrace.hash_pairs(array_agg(hash ORDER BY i), 6)).* FROM item) s;
SELECT count(*) AS pairs, sum(a), sum(b), sum(d), min(d), max(d)
	FROM (SELECT x.i AS a, y.i AS b, bit_count((x.hash # y.hash)::bit(64)) AS d FROM item x JOIN item y ON x.i < y.i) s WHERE d <= 6;

-- What is new: pairs with at least one place from 900 on.
SELECT count(*) AS pairs, min(b) FROM (SELECT (millrace.hash_pairs(array_agg(hash ORDER BY i), 6, first => 900)).* FROM item) s;
-- A few hashes among many.
SELECT * FROM (SELECT (millrace.hash_pairs(array_agg(hash ORDER BY i), 4, queries => array_agg(hash ORDER BY i) FILTER (WHERE i IN (7, 77)))).* FROM item) s ORDER BY 2, 1;
-- Rows: the first hash of one with all of the other.
SELECT * FROM millrace.hash_pairs(ARRAY[[1, 1000, 2000], [123456789, 3, 8191], [8191, 8191, 8191]], 2);
-- The nearest of each, within its set and outside.
SELECT * FROM millrace.hash_pairs(ARRAY[0, 0, 0, 0, 1, 3], 10, per_item => 1) ORDER BY 1, 2;
SELECT * FROM millrace.hash_pairs(ARRAY[0, 0, 0, 0, 1, 3], 10, per_item => 1, sets => ARRAY[1, 1, 1, 2, 2, 2]) ORDER BY 1, 2;
-- Groups: chains of pairs.
SELECT millrace.hash_groups(ARRAY[0, 255, 65535, -1, 15, 0], 8), millrace.hash_groups(ARRAY[0, 255, 65535, -1, 15, 0], 4), millrace.hash_groups('{}', 4);
SELECT * FROM millrace.pair_groups(ARRAY[5, 7, 20, 9], ARRAY[7, 3, 21, 9]) ORDER BY 1;
SELECT * FROM millrace.pair_groups('{}', '{}');

SELECT a, b, round(cosine::numeric, 5) AS cosine FROM millrace.embedding_pairs(ARRAY[1, 0, 0, 0, 1, 0, 2, 0.1, 0, 0, 0, 0, -1, 0, 0], 3, 0.9);
SELECT a, b, round(cosine::numeric, 5) AS cosine FROM millrace.embedding_pairs(ARRAY[[1, 0, 0], [0, 1, 0], [2, 0.1, 0], [0, 3, 0.1]], 3, 0.9, first => 4);
SELECT * FROM millrace.embedding_pairs('{}', 3, 0.9);

-- Bounded: a result that would be too big says so, and nothing is taken without asking.
SELECT count(*) FROM (SELECT (millrace.hash_pairs(array_agg(0::bigint), 10, max_pairs => 1000)).* FROM generate_series(1, 5000)) s;
SELECT count(*) FROM (SELECT (millrace.hash_pairs(array_agg(0::bigint), 10, per_item => 2)).* FROM generate_series(1, 5000)) s;
SET millrace.max_model_memory = '32MB';
SELECT count(*) FROM (SELECT (millrace.hash_pairs(array_agg(i::bigint), 10)).* FROM generate_series(1, 1000000) i) s;
RESET millrace.max_model_memory;
SELECT millrace.hash_pairs(ARRAY[1, NULL], 10);
SELECT millrace.hash_pairs(ARRAY[1, 2], 64);
SELECT millrace.hash_pairs(ARRAY[1, 2], 10, first => 0);
SELECT millrace.hash_pairs(ARRAY[1, 2], 10, per_item => 0);
SELECT millrace.hash_pairs(ARRAY[1, 2], 10, per_item => 1, sets => ARRAY[1]);
SELECT millrace.hash_pairs(ARRAY[1, 2], 10, queries => ARRAY[1], per_item => 1);
SELECT millrace.hash_pairs(ARRAY[[[1]]], 10);
SELECT millrace.hash_pairs(ARRAY[1, 2], NULL);
SELECT millrace.embedding_pairs(ARRAY[1, 2, 3], 2, 0.9);
SELECT millrace.embedding_pairs(ARRAY[[1, 2, 3, 4]], 2, 0.9);
SELECT millrace.embedding_pairs('{1, 2, NaN, 4}', 2, 0.9);
SELECT millrace.embedding_pairs(ARRAY[1, 2, 3, 4], 2, 1.1);
SELECT millrace.pair_groups(ARRAY[1], ARRAY[1, 2]);

-- The same from every instruction set.
SET millrace.isa = 'portable';
SELECT count(*) AS pairs, sum(a), sum(b), sum(distance) FROM (SELECT (millrace.hash_pairs(array_agg(hash ORDER BY i), 6)).* FROM item) s;
