-- quality: pairs of items that are near each other

CREATE FUNCTION millrace.hash_pairs(hashes bigint[], max_distance int, queries bigint[] DEFAULT NULL, first int DEFAULT 1,
		per_item int DEFAULT NULL, sets int[] DEFAULT NULL, max_pairs bigint DEFAULT 10000000)
	RETURNS TABLE (a int, b int, distance int)
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000000 ROWS 1000
	AS 'MODULE_PATHNAME', 'millrace_hash_pairs';
COMMENT ON FUNCTION millrace.hash_pairs(bigint[], int, bigint[], int, int, int[], bigint) IS
	'all pairs of hashes that differ in at most max_distance of 64 bits, a before b, by their places from 1 on; of an array of two dimensions a row is an item, whose first hash is compared with all of others; queries: b is the place of one of these; first: only pairs with a place from there on; per_item: only pairs that are among this many nearest of one of their items, in its own of sets and in others';

CREATE FUNCTION millrace.embedding_pairs(vectors real[], dims int, min_cosine double precision, first int DEFAULT 1,
		per_item int DEFAULT NULL, sets int[] DEFAULT NULL, max_pairs bigint DEFAULT 10000000)
	RETURNS TABLE (a int, b int, cosine real)
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000000 ROWS 1000
	AS 'MODULE_PATHNAME', 'millrace_embedding_pairs';
COMMENT ON FUNCTION millrace.embedding_pairs(real[], int, double precision, int, int, int[], bigint) IS
	'all pairs of vectors, one behind the other in an array, whose cosine is at least min_cosine, a before b, by their places from 1 on; first, per_item, sets: as of hash_pairs()';

CREATE FUNCTION millrace.hash_groups(hashes bigint[], max_distance int) RETURNS int[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_hash_groups';
COMMENT ON FUNCTION millrace.hash_groups(bigint[], int) IS
	'for each hash the first place that chains of pairs, which differ in at most max_distance bits, lead to; its own where there is none';

CREATE FUNCTION millrace.pair_groups(a bigint[], b bigint[]) RETURNS TABLE (item bigint, leader bigint)
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 10000 ROWS 1000
	AS 'MODULE_PATHNAME', 'millrace_pair_groups';
COMMENT ON FUNCTION millrace.pair_groups(bigint[], bigint[]) IS
	'the items of pairs (a[i], b[i]), each with the least one of those that pairs connect it to';

CREATE FUNCTION millrace.image_match(a_hashes bigint[], a_thumbnail real[], b_hashes bigint[], b_thumbnail real[],
		OUT distance int, OUT cosine real, OUT turn int)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50
	AS 'MODULE_PATHNAME', 'millrace_image_match';
COMMENT ON FUNCTION millrace.image_match(bigint[], real[], bigint[], real[]) IS
	'how alike two images look, by hashes and thumbnails of millrace.image_facts(), with the second flipped or turned as it is most: bits in which hashes differ, correlation of thumbnails, and the turn (0 as it is, 1 mirrored, 2 upside down, 3 by 180 degrees, 4 transposed, 5 right, 6 left, 7 transposed the other way)';
