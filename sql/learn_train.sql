-- Training in SQL: forest, logistic regression and PCA on generated data with a known rule.
-- millrace.train_model() returns versions; classify() then uses them.
CREATE SCHEMA learn_train;
SET search_path = learn_train, public;

-- Two numbers decide: "far" outside a circle of radius 6, else "left" or "right".
CREATE TABLE points AS
SELECT i AS id, x, y, CASE WHEN x * x + y * y > 36 THEN 'far' WHEN x < 0 THEN 'left' ELSE 'right' END AS side
FROM (SELECT i, ((i * 7919) % 2003) / 100.0 - 10 AS x, ((i * 104729) % 1999) / 100.0 - 10 AS y
	FROM generate_series(1, 3000) i) s;

SELECT millrace.train_model('lt_forest', 'random_forest', 'SELECT x, y, side FROM points WHERE id % 3 > 0', 'side',
	'{"n_estimators": 30, "random_state": 7}');
SELECT kind, labels, n_inputs, n_outputs, origin, spec FROM millrace.models WHERE name = 'lt_forest';
SELECT metrics -> 'rows' AS rows, metrics -> 'classes' AS classes, metrics -> 'class_counts' AS counts,
	metrics -> 'features' AS features, (metrics ->> 'train_accuracy')::float > 0.99 AS learned,
	(metrics ->> 'oob_accuracy')::float BETWEEN 0.95 AND 1 AS generalises, metrics ? 'train_seconds' AS timed
FROM millrace.models WHERE name = 'lt_forest';
SELECT training ->> 'query' AS query, training ->> 'target' AS target, training -> 'options' AS options,
	training -> 'parameters' ->> 'max_features' AS max_features, training ->> 'snapshot' ~ '^\d+:\d+:' AS snapshot
FROM millrace.models WHERE name = 'lt_forest';

-- Rows it has not seen.
SELECT count(*) AS rows, avg((c.label = side)::int) > 0.95 AS accurate, min(c.confidence) > 0 AS confident, min(c.model) AS model
FROM points, LATERAL classify(ARRAY[x, y]::real[], 'lt_forest') c WHERE id % 3 = 0;
-- The set-wise form says the same as single rows.
WITH one AS (
	SELECT id, c.label, c.confidence FROM points, LATERAL classify(ARRAY[x, y]::real[], 'lt_forest') c WHERE id <= 200
), many AS (
	SELECT c.* FROM (SELECT array_agg(ARRAY[x, y]::real[] ORDER BY id) AS rows FROM points WHERE id <= 200) r,
		LATERAL millrace.classify_rows(r.rows, 'lt_forest') WITH ORDINALITY AS c(label, confidence, model, n)
)
SELECT count(*) AS rows, bool_and(one.label = many.label AND one.confidence = many.confidence) AS equal
FROM one JOIN many ON many.n = one.id;

-- The same seed gives the same bytes, another seed others; versions count up.
SELECT millrace.train_model('lt_forest', 'random_forest', 'SELECT x, y, side FROM points WHERE id % 3 > 0', 'side',
	'{"n_estimators": 30, "random_state": 7}') AS version;
SELECT millrace.train_model('lt_forest', 'random_forest', 'SELECT x, y, side FROM points WHERE id % 3 > 0', 'side',
	'{"n_estimators": 30, "random_state": 8}') AS version;
SELECT count(*) AS versions, count(DISTINCT sha256) AS different FROM millrace.models WHERE name = 'lt_forest';

-- Every type of feature, NULL as missing, rows without a label left out.
CREATE TABLE mixed AS
SELECT (id % 3)::smallint AS s, id AS i, id::bigint * 1000 AS b, x::numeric AS n, y::real AS r, (id % 2 = 0) AS flag,
	CASE id % 4 WHEN 0 THEN 'north' WHEN 1 THEN 'east' WHEN 2 THEN 'south' END AS wind,
	CASE WHEN id % 10 <> 0 THEN ARRAY[x, y]::float8[] END AS v, NULLIF(id % 5, 0) AS label
FROM points;
SELECT millrace.train_model('lt_mixed', 'random_forest', 'SELECT * FROM mixed', 'label', '{"n_estimators": 10}');
SELECT labels, n_inputs, metrics -> 'rows' AS rows, metrics -> 'rows_without_label' AS without, spec
FROM millrace.models WHERE name = 'lt_mixed';

-- Numbers as labels sort as numbers.
SELECT millrace.train_model('lt_numbers', 'random_forest', 'SELECT x, y, id % 12 AS label FROM points', 'label', '{"n_estimators": 1}');
SELECT labels FROM millrace.models WHERE name = 'lt_numbers';

-- Logistic regression finds a line; class weights move it.
SELECT millrace.train_model('lt_line', 'logistic_regression', $$SELECT x, y, CASE WHEN x + 2 * y > 1 THEN 'up' ELSE 'down' END AS side FROM points$$,
	'side', '{"C": 100, "max_iter": 1000}');
SELECT (metrics ->> 'train_accuracy')::float > 0.99 AS learned, metrics -> 'converged' AS converged FROM millrace.models WHERE name = 'lt_line';
SELECT label, round(probability::numeric, 3) AS probability FROM class_probabilities(ARRAY[10, 10]::real[], 'lt_line') ORDER BY label;
SELECT millrace.train_model('lt_line', 'logistic_regression', $$SELECT x, CASE WHEN id % 2 = 0 THEN 'a' ELSE 'b' END AS side FROM points$$,
	'side', '{"class_weight": {"a": 3}}');
SELECT label, round(probability::numeric, 2) AS probability FROM class_probabilities(ARRAY[0]::real[], 'lt_line:2') ORDER BY label;

-- PCA: one direction holds nearly all of two columns that follow each other.
SELECT millrace.train_model('lt_pca', 'pca', 'SELECT ARRAY[x, 2 * x + y / 100]::real[] AS v FROM points', NULL, '{"n_components": 1}');
SELECT n_inputs, n_outputs, labels, round((metrics ->> 'variance_kept')::numeric, 2) AS kept FROM millrace.models WHERE name = 'lt_pca';
SELECT round((b.p[1] - a.p[1])::numeric, 2) AS length_of_1_2
FROM (SELECT infer('lt_pca', ARRAY[0, 0]::real[]) AS p) a, (SELECT infer('lt_pca', ARRAY[1, 2]::real[]) AS p) b;
-- A classifier on its descriptors remembers whose they are.
SELECT millrace.train_model('lt_small', 'logistic_regression', 'SELECT x, side FROM points', 'side', '{"descriptors_of": "lt_pca"}');
SELECT name, version, parent_name, parent_version, role FROM millrace.model_lineage WHERE name LIKE 'lt\_%';

SELECT millrace.drop_model(name) FROM (VALUES ('lt_forest'), ('lt_mixed'), ('lt_numbers'), ('lt_line'), ('lt_small'), ('lt_pca')) v(name);
DROP SCHEMA learn_train CASCADE;
