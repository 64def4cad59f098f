-- Why a model answers what it answers: explain() and feature_importances().
CREATE SCHEMA learn_explain;
SET search_path = learn_explain, public;
CREATE TABLE points AS
SELECT i AS id, x, y, z, CASE WHEN x * x + y * y > 36 THEN 'far' WHEN x < 0 THEN 'left' ELSE 'right' END AS side,
	(x > 0)::text AS positive, CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END AS parity, 3 * x - y AS number
FROM (SELECT i, ((i * 7919) % 2003) / 100.0 - 10 AS x, ((i * 104729) % 1999) / 100.0 - 10 AS y, (i * 31) % 101 AS z
	FROM generate_series(1, 1000) i) s;

SELECT millrace.train_model('lx_forest', 'random_forest', 'SELECT x, y, z, side FROM points', 'side', '{"n_estimators": 20}');
SELECT millrace.train_model('lx_extra', 'extra_trees', 'SELECT x, y, z, side FROM points', 'side', '{"n_estimators": 20}');
SELECT millrace.train_model('lx_number', 'random_forest', 'SELECT x, y, z, number FROM points', 'number',
	'{"n_estimators": 20, "task": "regression"}');
SELECT millrace.train_model('lx_two', 'logistic_regression', 'SELECT x, y, z, positive FROM points', 'positive', '{"max_iter": 1000}');
SELECT millrace.train_model('lx_ridge', 'ridge', 'SELECT x, y, z, number FROM points', 'number', '{"alpha": 0}');
SELECT millrace.train_model('lx_pca', 'pca', 'SELECT x, y, z FROM points', NULL);

-- One tree that a person can follow: x <= 2 or not, half of the rows on either side.
SELECT millrace.train_model('lx_stump', 'random_forest', $$SELECT v AS x, 7 AS seven, CASE WHEN v > 2 THEN 'high' ELSE 'low' END AS label
	FROM generate_series(1, 4) v$$, 'label', '{"n_estimators": 1, "bootstrap": false}');
SELECT * FROM explain('lx_stump', '{4, 7}');
SELECT * FROM millrace.feature_importances('lx_stump');

-- The contributions of a label sum to its probability, those of a regression to the value.
SELECT count(*) AS rows, max(abs(e.sum - p.probability)) < 1e-6 AS sums
FROM points, LATERAL (VALUES ('lx_forest'), ('lx_extra')) m(name),
	LATERAL (SELECT label, sum(contribution) FROM explain(m.name, ARRAY[x, y, z]::real[]) GROUP BY label) e,
	LATERAL class_probabilities(ARRAY[x, y, z]::real[], m.name) p
WHERE id <= 50 AND p.label = e.label;
SELECT count(*) AS rows, max(abs(e.sum - predict(ARRAY[x, y, z]::real[], m.name))) < 1e-4 AS sums
FROM points, LATERAL (VALUES ('lx_number'), ('lx_ridge')) m(name),
	LATERAL (SELECT sum(contribution) FROM explain(m.name, ARRAY[x, y, z]::real[])) e
WHERE id <= 50;
-- Linear: coefficient times what the value is above the mean, where the model knows the mean; the second class's margin.
SELECT feature, label, value, round(contribution::numeric, 3) AS contribution FROM explain('lx_ridge', '{2, 5, 50}');
SELECT max(abs(1 / (1 + exp(-e.sum)) - p.probability)) < 1e-6 AS sums
FROM points, LATERAL (SELECT label, sum(contribution) FROM explain('lx_two', ARRAY[x, y, z]::real[]) GROUP BY label) e,
	LATERAL class_probabilities(ARRAY[x, y, z]::real[], 'lx_two') p
WHERE id <= 50 AND p.label = e.label;

-- What decides is what matters; shares sum to 1.
SELECT name, round(sum(importance)::numeric, 9) AS sum, (array_agg(feature ORDER BY importance))[1] AS least
FROM (VALUES ('lx_forest'), ('lx_extra'), ('lx_number'), ('lx_two'), ('lx_ridge')) m(name), millrace.feature_importances(m.name)
GROUP BY name ORDER BY name;

-- A missing value is explained as it is classified; names of arrays.
SELECT millrace.train_model('lx_array', 'random_forest', $$SELECT parity, ARRAY[x, CASE WHEN id % 3 > 0 THEN y END]::real[] AS v, side FROM points$$,
	'side', '{"n_estimators": 5}');
SELECT feature, value FROM explain('lx_array', '{0, 1, NULL}') WHERE label = 'far';

-- What cannot be explained, and rows that are none.
SELECT * FROM explain('lx_pca', '{1, 2, 3}');
SELECT * FROM explain('lx_forest', '{1, 2}');
SELECT * FROM explain('lx_ridge', '{1, 2, NULL}');
SELECT * FROM explain('lx_ridge', '{1, 2, NaN}');
SELECT * FROM explain(NULL, '{1, 2, 3}');
SELECT count(*) FROM explain('lx_forest', NULL);
SELECT * FROM explain('lx_none', '{1}');
SELECT * FROM millrace.feature_importances('lx_pca');

SELECT millrace.drop_model(name) FROM (SELECT DISTINCT name FROM millrace.models WHERE name LIKE 'lx\_%') m;
DROP SCHEMA learn_explain CASCADE;
