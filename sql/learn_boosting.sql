-- Gradient boosting in SQL: categories and missing values as they are, early stopping, weights, regression.
CREATE SCHEMA learn_boosting;
SET search_path = learn_boosting, public;
-- The wind decides where it blows from the north; y is missing where it would not be small.
CREATE TYPE wind AS ENUM ('north', 'east', 'south', 'west');
CREATE TABLE t AS SELECT i AS id, x, CASE WHEN y < 1 THEN y END AS y, (ARRAY['north', 'east', 'south', 'west'])[1 + i % 4]::wind AS wind,
	CASE WHEN i % 4 = 0 THEN 'cold' WHEN x * y > 0 THEN 'warm' ELSE 'mild' END AS weather, 3 * x + CASE WHEN y < 1 THEN 0 ELSE 10 END AS degrees
FROM (SELECT i, ((i * 7919) % 601) / 100.0 - 3 AS x, ((i * 104729) % 599) / 100.0 - 3 AS y FROM generate_series(1, 2000) i) s;

SELECT millrace.train_model('bo_weather', 'gradient_boosting', 'SELECT x, y, wind, weather FROM t WHERE id % 3 > 0', 'weather', '{"max_iter": 50}');
SELECT labels, n_inputs, n_outputs, spec -> 'features' AS features FROM millrace.models WHERE name = 'bo_weather';
SELECT avg(((classify(millrace.model_features('bo_weather', t), 'bo_weather')).label = weather)::int) > 0.95 AS right_on_new_rows FROM t WHERE id % 3 = 0;
-- A missing value tells something; a category that is new is a missing one; categories are numbered as the specification lists them.
SELECT (classify('{2, NULL, 0}', 'bo_weather')).label AS missing, (classify('{2, NaN, 0}', 'bo_weather')).label AS nan,
	classify('{1, -1, 1}', 'bo_weather') = classify(millrace.model_features('bo_weather', s), 'bo_weather') AS by_number
FROM (SELECT 1 AS x, -1 AS y, 'north' AS wind) s;
SELECT millrace.model_features('bo_weather', s) FROM (SELECT 1 AS x, NULL::int AS y, 'calm' AS wind) s;
SELECT feature FROM millrace.feature_importances('bo_weather') ORDER BY importance DESC;

-- The same rows and seed: the same bytes; early stopping keeps fewer rounds than there might be.
SELECT millrace.train_model('bo_weather', 'gradient_boosting', 'SELECT x, y, wind, weather FROM t WHERE id % 3 > 0', 'weather', '{"n_estimators": 50}') AS another_name;
SELECT count(DISTINCT sha256) AS one FROM millrace.models WHERE name = 'bo_weather';
SELECT millrace.train_model('bo_early', 'gradient_boosting', 'SELECT x, y, wind, weather FROM t', 'weather',
	'{"max_iter": 1000, "early_stopping": true, "n_iter_no_change": 5, "validation_fraction": 0.2, "subsample": 0.7, "colsample_bytree": 0.7, "random_state": 3}');
SELECT (metrics ->> 'nodes')::int BETWEEN 10 AND 60000 AS stopped FROM millrace.models WHERE name = 'bo_early';

-- Two classes, a number, weights of rows and classes.
SELECT millrace.train_model('bo_two', 'gradient_boosting', $$SELECT x, y, weather = 'cold' AS cold, wind FROM t$$, 'cold', '{"max_leaf_nodes": 4, "max_depth": 2, "max_iter": 20}');
SELECT label, probability > 0.9 AS sure FROM class_probabilities('{0, 0, 1}', 'bo_two') ORDER BY label DESC LIMIT 1;
SELECT millrace.train_model('bo_degrees', 'gradient_boosting', 'SELECT x, y, degrees FROM t', 'degrees', '{"task": "regression"}');
SELECT abs(predict('{1, 0}', 'bo_degrees') - 3) < 0.5 AS small, abs(predict('{1, NULL}', 'bo_degrees') - 13) < 0.5 AS and_with_ten_more;
SELECT millrace.train_model('bo_heavy', 'gradient_boosting', $$SELECT 1 AS x, i % 2 AS c, CASE i % 2 WHEN 0 THEN 3 ELSE 1 END AS w FROM generate_series(1, 400) i$$, 'c', '{"sample_weight": "w"}');
SELECT label, round(probability::numeric, 3) AS probability FROM class_probabilities('{1}', 'bo_heavy') ORDER BY label;
SELECT millrace.train_model('bo_heavy', 'gradient_boosting', $$SELECT 1 AS x, (i % 4 = 0) AS c FROM generate_series(1, 400) i$$, 'c', '{"class_weight": "balanced"}');
SELECT label, round(probability::numeric, 3) AS probability FROM class_probabilities('{1}', 'bo_heavy') ORDER BY label;

-- What cannot be.
SELECT millrace.train_model('bo_bad', 'gradient_boosting', 'SELECT x, weather FROM t', 'weather', '{"learning_rate": 0}');
SELECT millrace.train_model('bo_bad', 'gradient_boosting', 'SELECT x, weather FROM t', 'weather', '{"max_bins": 300}');
SELECT millrace.train_model('bo_bad', 'gradient_boosting', 'SELECT x, degrees FROM t', 'degrees', '{"task": "ranking"}');
SELECT millrace.train_model('bo_bad', 'gradient_boosting', 'SELECT x, weather FROM t LIMIT 2', 'weather', '{"early_stopping": true}');
SELECT count(*) AS stored FROM millrace.models WHERE name = 'bo_bad';

SELECT count(millrace.drop_model(name)) FROM (SELECT DISTINCT name FROM millrace.models WHERE name LIKE 'bo\_%') m;
DROP SCHEMA learn_boosting CASCADE;
