-- Similarity of vectors: function, operators, what they refuse.
SET extra_float_digits = 0;
SELECT cosine_similarity('{1,2,3}', '{2,4,6}') AS same, cosine_similarity('{1,0}', '{0,5}') AS right_angle,
	cosine_similarity('{1,2}', '{-1,-2}') AS opposite, cosine_similarity('{3,4}', '{4,3}') AS some, pg_typeof(cosine_similarity('{1}', '{1}'));
SELECT '{1,2,3}'::real[] OPERATOR(millrace.<=>) '{3,2,1}'::real[] AS cosine, '{1,2,3}'::real[] OPERATOR(millrace.<->) '{4,6,3}'::real[] AS l2,
	'{1,2,3}'::real[] OPERATOR(millrace.<#>) '{4,5,6}'::real[] AS inner;
SELECT pg_typeof('{1}'::real[] OPERATOR(millrace.<=>) '{1}'), pg_typeof('{1}'::real[] OPERATOR(millrace.<->) '{1}'), pg_typeof('{1}'::real[] OPERATOR(millrace.<#>) '{1}');
-- Rounding never carries a distance below 0 or beyond 2, and a vector is at 0 from itself.
SELECT count(*), count(*) FILTER (WHERE v OPERATOR(millrace.<->) v <> 0) AS l2_off,
	count(*) FILTER (WHERE v OPERATOR(millrace.<=>) v NOT BETWEEN 0 AND 1e-15) AS cosine_off,
	count(*) FILTER (WHERE v OPERATOR(millrace.<=>) w NOT BETWEEN 2 - 1e-15 AND 2) AS opposite_off
FROM generate_series(1, 300) n, LATERAL (SELECT array_agg(sin(i * n)::real) AS v, array_agg(-sin(i * n)::real) AS w FROM generate_series(1, n) i) x;
-- All lengths: as SQL computes them.
SELECT count(*) FILTER (WHERE abs((v OPERATOR(millrace.<->) w) - l2) > 1e-13 * l2) AS l2_off,
	count(*) FILTER (WHERE abs((v OPERATOR(millrace.<#>) w) - i) > 1e-12) AS inner_off,
	count(*) FILTER (WHERE abs((v OPERATOR(millrace.<=>) w) - (1 + i / sqrt(vv * ww))) > 1e-13) AS cosine_off
FROM generate_series(1, 200) n, LATERAL (
	SELECT array_agg(a) AS v, array_agg(b) AS w, sqrt(sum((a::float8 - b) * (a::float8 - b))) AS l2, -sum(a::float8 * b) AS i, sum(a::float8 * a) AS vv, sum(b::float8 * b) AS ww
	FROM generate_series(1, n) i, LATERAL (SELECT sin(i * n)::real AS a, cos(i + n)::real AS b) e) x;
-- Ordering; NULL in, NULL out.
SELECT id, v OPERATOR(millrace.<->) '{0,0}' AS distance FROM (VALUES (1, '{3,4}'::real[]), (2, '{1,1}'), (3, NULL), (4, '{0,0}')) t(id, v)
ORDER BY v OPERATOR(millrace.<->) '{0,0}';
-- A vector of length 0 has no direction: NaN, which sorts last.
SELECT cosine_similarity('{0,0}', '{1,2}'), '{1,2}'::real[] OPERATOR(millrace.<=>) '{0,0}' AS distance, '{0,0}'::real[] OPERATOR(millrace.<->) '{0,0}' AS l2;
-- The least and the greatest numbers of a real.
SELECT cosine_similarity('{1e-45,0}', '{1e-45,0}') AS least, cosine_similarity('{3.4e38,3.4e38}', '{-3.4e38,-3.4e38}') AS greatest,
	'{3.4e38}'::real[] OPERATOR(millrace.<->) '{-3.4e38}' AS l2, '{3.4e38,3.4e38}'::real[] OPERATOR(millrace.<#>) '{3.4e38,3.4e38}' AS inner;
-- Lower bounds of an array are of no consequence.
SELECT cosine_similarity('[5:6]={1,2}', '{1,2}');
-- Refused.
SELECT cosine_similarity('{1,2,3}', '{1,2}');
SELECT '{}'::real[] OPERATOR(millrace.<->) '{1}';
SELECT '{1}'::real[] OPERATOR(millrace.<#>) '{}';
SELECT cosine_similarity('{1,NULL}', '{1,2}');
SELECT cosine_similarity('{{1,2}}', '{1,2}');
SELECT cosine_similarity('{1,NaN,2}', '{1,2,3}');
SELECT '{1,2,3}'::real[] OPERATOR(millrace.<->) '{1,2,Infinity}';
SELECT '{1,Infinity}'::real[] OPERATOR(millrace.<->) '{1,Infinity}';
SELECT '{-Infinity,1}'::real[] OPERATOR(millrace.<#>) '{0,2}';
SELECT '{1,NaN}'::real[] OPERATOR(millrace.<=>) '{0,0}';
-- The mean of vectors: NULLs do not count, none have none, groups and parallel states, what is refused.
SELECT millrace.vector_avg(v), millrace.vector_avg(v) FILTER (WHERE false) AS none FROM (VALUES ('{1,2}'::real[]), (NULL), ('{3,5}')) t(v);
SELECT k, millrace.vector_avg(ARRAY[i, -i, 3e38]::real[]) FROM generate_series(1, 10) i, LATERAL (SELECT i % 2 AS k) g GROUP BY k ORDER BY k;
SELECT i, millrace.vector_avg(ARRAY[i]::real[]) OVER (ORDER BY i ROWS 1 PRECEDING) FROM generate_series(1, 3) i;
CREATE TABLE means AS SELECT ARRAY[i, i % 7]::real[] AS v FROM generate_series(1, 3000) i;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
SELECT millrace.vector_avg(v) FROM means;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size; RESET max_parallel_workers_per_gather;
DROP TABLE means;
SELECT millrace.vector_avg(v) FROM (VALUES ('{1,2}'::real[]), ('{3}')) t(v);
SELECT millrace.vector_avg(v) FROM (VALUES ('{1,NaN}'::real[])) t(v);
SELECT millrace.vector_avg_final('{}');
SELECT millrace.vector_avg_accum('{1,NULL}', '{1}');
SELECT millrace.vector_avg_combine('{2,6,8}', '{1,3,4}');
-- Commutators, and nothing in the way of pgvector's: names there are its own.
SELECT o.oprname, o.oprnamespace::regnamespace, o.oprcom = o.oid AS commutes, p.proname, p.provolatile, p.proisstrict, p.proparallel
FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode WHERE o.oprleft = 'real[]'::regtype AND o.oprright = 'real[]'::regtype ORDER BY 1;
