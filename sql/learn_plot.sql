-- plot_*(): valid XML, escaped, small, the same for the same data.
CREATE SCHEMA learn_plot;
SET search_path = learn_plot, public;
-- What a picture consists of.
CREATE FUNCTION parts(svg text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s', n, tag), ', ' ORDER BY tag) || CASE WHEN length(svg) > 60000 THEN ', large' ELSE '' END
	FROM (SELECT m[1] AS tag, count(*) AS n FROM regexp_matches(svg, '<([a-z]+)[ >]', 'g') m GROUP BY 1) t
	WHERE svg ~ '^<svg xmlns="http://www.w3.org/2000/svg" ' AND svg ~ '</svg>\s*$' $$;

CREATE TABLE t AS SELECT i AS x, CASE WHEN i * 7 % 10 < 2 THEN '<b> & "c"' WHEN i < 100 THEN 'low' ELSE 'high' END AS c FROM generate_series(0, 199) i;
SELECT millrace.train_model('lp', 'random_forest', 'SELECT x, c FROM t WHERE x % 2 = 0', 'c', '{"n_estimators": 5}');
SELECT millrace.evaluate_model('lp', 'SELECT x, c FROM t', 'c') AS e \gset
SELECT kind, parts(svg) FROM (VALUES ('roc', millrace.plot_roc(:e)), ('pr', millrace.plot_pr(:e)), ('calibration', millrace.plot_calibration(:e)),
	('confusion', millrace.plot_confusion(:e)), ('titled', millrace.plot_roc(:e, 'a < b'))) v(kind, svg);
SELECT millrace.plot_roc(:e) = millrace.plot_roc(:e) AS same, millrace.plot_roc(:e) ~ '&lt;b&gt; &amp; &quot;c&quot;' AS escaped,
	millrace.plot_roc(:e) ~ '<b>' AS raw, millrace.plot_roc(:e) ~ '<title>lp:1</title>' AS titled;
SELECT parts(millrace.plot_confusion((SELECT millrace.confusion_matrix(c, CASE WHEN x < 100 THEN 'low' ELSE c END) FROM t), 'by hand')),
	parts(millrace.plot_confusion((SELECT millrace.confusion_matrix(i::text, (i / 2)::text) FROM generate_series(1, 150) i))) AS of_150;

-- The whole text of a small one.
SELECT millrace.plot_histogram('{1,2,2,3,3,3,10,NULL,NaN}'::float8[], 3, 'seven numbers');
SELECT parts(millrace.plot_histogram(array_agg(sin(i)))) FROM generate_series(1, 1000) i;
SELECT parts(millrace.plot_histogram('SELECT x FROM t')) AS of_query, parts(millrace.plot_histogram('{5,5,5}'::float8[])) AS constant;
SELECT parts(millrace.plot_lines('SELECT x, x * x AS y FROM t ORDER BY x')) AS one, parts(millrace.plot_lines('SELECT x, sin(x / 20.0) AS a, NULLIF(x, 50) / 100.0 AS b FROM t ORDER BY x', 'two & a gap')) AS two;
SELECT m[1] FROM regexp_matches(millrace.plot_lines($$SELECT date '2026-01-05' + 7 * i AS week, i % 3 AS drift FROM generate_series(0, 11) i$$), '>(2026[^<]*)<', 'g') m;
SELECT m[1] FROM regexp_matches(millrace.plot_lines($$SELECT timestamp '2026-01-05 06:00' + i * interval '1 hour' AS at, i FROM generate_series(0, 5) i$$), '>(01-05[^<]*)<', 'g') m LIMIT 2;
-- Numbers as they come.
SELECT parts(millrace.plot_lines(format('SELECT %s::float8 AS x, %s::float8 AS y UNION ALL SELECT %s, %s', a, b, c, d)))
FROM (VALUES ('1e300', '-1e300', '-1e300', '1e300'), ('1e17', '1', '1e17 + 16', '2'), ('1e-310', '0', '2e-310', '1'), ('''Infinity''', '1', '''NaN''', '2'), ('NULL', 'NULL', '1', 'NULL')) v(a, b, c, d);
SELECT length(millrace.plot_lines('SELECT i, random() FROM generate_series(1, 100000) i')) < 40000 AS bounded;

-- Refusals.
SELECT millrace.plot_roc(0);
SELECT millrace.plot_roc(NULL), millrace.plot_confusion(0), millrace.plot_histogram(NULL::float8[]);
SELECT millrace.evaluate_model('lp', 'SELECT x, c FROM t', 'c', '{"points": 0}') AS e \gset
\set VERBOSITY sqlstate
SELECT millrace.plot_roc(:e);
\set VERBOSITY default
SELECT millrace.plot_confusion('{}'::jsonb);
SELECT millrace.plot_confusion('{"labels": ["a", "b"], "counts": [[1, 2], [3]]}'::jsonb);
SELECT millrace.plot_confusion('{"labels": ["a"], "counts": [["x"]]}'::jsonb);
SELECT millrace.plot_histogram('{}'::float8[]);
SELECT millrace.plot_histogram('{1}'::float8[], 1000);
SELECT millrace.plot_histogram('SELECT x, x FROM t');
SELECT millrace.plot_histogram('SELECT c FROM t');
SELECT millrace.plot_lines('SELECT x FROM t');
SELECT millrace.plot_lines('SELECT x, x FROM t WHERE false');
SELECT millrace.plot_lines('DROP TABLE t');
SET millrace.train_memory = '1MB';
SELECT millrace.plot_histogram('SELECT i FROM generate_series(1, 1000000) i');
RESET millrace.train_memory;
SELECT count(millrace.drop_model('lp')) AS dropped;
DROP SCHEMA learn_plot CASCADE;
