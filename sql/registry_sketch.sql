-- Sketches of columns on any table, and the figures between two of them.
CREATE SCHEMA registry_sketch;
SET search_path = registry_sketch, public;
CREATE TABLE t AS SELECT i, (i * 7919 % 5003)::float8 / 10 AS x, CASE WHEN i % 10 = 0 THEN NULL ELSE (i % 7)::text END AS c,
	i % 3 = 0 AS b, i % 2 AS half FROM generate_series(1, 10006) i;

-- One column each.
SELECT (millrace.describe(millrace.sketch_agg(x))).* FROM t WHERE i <= 1000;
SELECT d.kind, d.rows, d.missing, d.min, d.max, abs(d.median - 250) < 5 AS median, round(d.mean::numeric, 6) AS mean,
	round(d.sd::numeric, 6) AS sd, d.exact, d.rank_error < 0.002 AS near
FROM (SELECT (millrace.describe(millrace.sketch_agg(x))).* FROM t) d;
SELECT round(avg(x)::numeric, 6) AS mean, round(stddev(x)::numeric, 6) AS sd FROM t;
SELECT (millrace.describe(millrace.sketch_agg(c))).* FROM t;
SELECT * FROM millrace.categories((SELECT millrace.sketch_agg(c) FROM t));
SELECT * FROM millrace.categories((SELECT millrace.sketch_agg(b) FROM t));
SELECT millrace.quantile(millrace.sketch_agg(i), 0) AS least, millrace.quantile(millrace.sketch_agg(i), 1) AS most,
	millrace.quantile(millrace.sketch_agg(i) FILTER (WHERE i <= 999), 0.5) AS exact FROM t;
-- Integer, numeric and real columns are numbers; varchar is text.
SELECT (millrace.describe(millrace.sketch_agg(v::numeric))).kind, (millrace.describe(millrace.sketch_agg(v::real))).kind,
	(millrace.describe(millrace.sketch_agg(v::varchar))).kind FROM generate_series(1, 3) v;

-- Figures.  Nothing differs from itself; half a column shifted does.
SELECT millrace.psi(s, s), (millrace.ks(s, s)).*, millrace.jensen_shannon(s, s) FROM (SELECT millrace.sketch_agg(x) AS s FROM t) q;
SELECT millrace.psi(a, b) > 0.1 AS psi, (millrace.ks(a, b)).p < 1e-9 AS ks, (millrace.mann_whitney(a, b)).statistic > 0.5 AS shift,
	millrace.jensen_shannon(a, b) BETWEEN 0.2 AND 1 AS js
FROM (SELECT millrace.sketch_agg(x) FILTER (WHERE half = 0) AS a, millrace.sketch_agg(x + 100) FILTER (WHERE half = 1) AS b FROM t) q;
SELECT round(psi::numeric, 6) AS psi, round(chi2::numeric, 4) AS chi2, chi2_df, round(chi2_p::numeric, 6) AS p, missing, reference_missing,
	missing_p < 1e-6 AS lost, round(new_share::numeric, 4) AS new_share, new_p < 1e-6 AS new, ks IS NULL AS no_ks
FROM (SELECT (millrace.drift_figures(millrace.sketch_agg(c) FILTER (WHERE half = 0 OR i % 10 = 0),
	millrace.sketch_agg(CASE WHEN i % 11 = 0 THEN 'new' ELSE c END) FILTER (WHERE half = 1))).* FROM t) q;

-- Parts joined are the whole: exactly while small, in counts and moments always.
SELECT millrace.psi(whole, joined) AS psi, (millrace.ks(whole, joined)).statistic AS ks
FROM (SELECT millrace.sketch_agg(x) AS whole FROM t WHERE i <= 900) a,
	(SELECT millrace.sketch_agg(s) AS joined FROM (SELECT millrace.sketch_agg(x) AS s FROM t WHERE i <= 900 GROUP BY i % 7) q) b;
SELECT d.rows, d.min, d.max, round(d.mean::numeric, 6) AS mean, round(d.sd::numeric, 6) AS sd, d.rank_error < 0.002 AS near
FROM (SELECT (millrace.describe(millrace.sketch_agg(s))).* FROM (SELECT millrace.sketch_agg(x) AS s FROM t GROUP BY i % 13) q) d;
SELECT (millrace.describe(millrace.merge(a, b))).rows FROM (SELECT millrace.sketch_agg(c) AS a, millrace.sketch_agg(c) AS b FROM t) q;
-- So are the states of parallel workers.
BEGIN;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT millrace.sketch_agg(x) FROM t;
SELECT d.rows, d.missing, round(d.mean::numeric, 6) AS mean, round(d.sd::numeric, 6) AS sd
FROM (SELECT (millrace.describe(millrace.sketch_agg(x))).* FROM t) d;
SELECT (millrace.describe(millrace.sketch_agg(c))).rows, count(*) FROM t;
COMMIT;

-- Missing, infinite, nothing.
SELECT (millrace.describe(millrace.sketch_agg(v))).* FROM (VALUES (1.0::float8), ('NaN'), (NULL), ('Infinity'), (3)) q(v);
SELECT (millrace.describe(millrace.sketch_agg(NULL::float8))).* FROM generate_series(1, 3);
SELECT (millrace.describe(millrace.sketch_agg(NULL::text))).* FROM generate_series(1, 3);
SELECT millrace.sketch_agg(x) IS NULL AS nothing FROM t WHERE i < 0;
SELECT millrace.psi(millrace.sketch_agg(NULL::float8), millrace.sketch_agg(x)) IS NULL AS nothing FROM t WHERE i < 10;
-- Texts are cut at a character.
SELECT length(category), octet_length(category), rows
FROM millrace.categories((SELECT millrace.sketch_agg(repeat('ä', 200)) FROM generate_series(1, 2)));

-- Text form: checked.
CREATE TABLE kept AS SELECT millrace.sketch_agg(x) AS s FROM t;
SELECT s::text::millrace.sketch::text = s::text AS same FROM kept;
SELECT 'rubbish'::millrace.sketch;
SELECT (left(s::text, 400))::millrace.sketch FROM kept;
SELECT (overlay(s::text PLACING 'ffff' FROM 60))::millrace.sketch FROM kept;

-- Refused.
SELECT millrace.merge(millrace.sketch_agg(x), millrace.sketch_agg(c)) FROM t;
SELECT millrace.psi(millrace.sketch_agg(x), millrace.sketch_agg(c)) FROM t;
SELECT millrace.psi(s, s, 1) FROM kept;
SELECT millrace.quantile(s, 1.5) FROM kept;
SELECT millrace.quantile(millrace.sketch_agg(c), 0.5) FROM t;
DROP SCHEMA registry_sketch CASCADE;
