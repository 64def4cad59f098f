-- Linear models in SQL: logistic regression and ridge, their options and weights; neighbours, clusters, components.
CREATE SCHEMA learn_linear;
SET search_path = learn_linear, public;
CREATE TABLE t AS SELECT i AS id, x, y, 1000 * x AS far, (x + 2 * y > 1) AS up, 5 + 2 * x - y AS z, 1 + i % 3 AS w
FROM (SELECT i, ((i * 7919) % 601) / 100.0 - 3 AS x, ((i * 104729) % 599) / 100.0 - 3 AS y FROM generate_series(1, 900) i) s;

-- Ridge finds the line that is there; a penalty shrinks it, with "standardize" whatever the unit.
SELECT millrace.train_model('ll_ridge', 'ridge', 'SELECT x, y, z FROM t', 'z', '{"alpha": 0.000001}');
SELECT feature, round((b.contribution - a.contribution)::numeric, 3) AS weight FROM explain('ll_ridge', '{0, 0}') a JOIN explain('ll_ridge', '{1, 1}') b USING (feature);
SELECT round(predict('{0, 0}', 'll_ridge')::numeric, 3) AS intercept;
SELECT millrace.train_model('ll_unit', 'ridge', 'SELECT x, y, z FROM t', 'z', '{"alpha": 900, "standardize": true}');
SELECT millrace.train_model('ll_unit', 'ridge', 'SELECT far, y, z FROM t', 'z', '{"alpha": 900, "standardize": true}');
SELECT abs(predict('{1, 1}', 'll_unit:1') - predict('{1000, 1}', 'll_unit:2')) < 1e-4 AS no_matter_the_unit, predict('{3, 0}', 'll_unit:1') < 10 AS shrunk;
SELECT millrace.train_model('ll_zero', 'ridge', 'SELECT x, y, z FROM t', 'z', '{"fit_intercept": false}');
SELECT predict('{0, 0}', 'll_zero') AS through_zero;

-- Logistic regression: a row of weight 3 is three rows; balanced classes are equally likely in the middle.
SELECT millrace.train_model('ll_weight', 'logistic_regression', 'SELECT x, y, up, w FROM t', 'up', '{"sample_weight": "w", "tol": 1e-8, "max_iter": 1000}');
SELECT millrace.train_model('ll_weight', 'logistic_regression', 'SELECT x, y, up FROM t, generate_series(1, w)', 'up', '{"tol": 1e-8, "max_iter": 1000}');
SELECT max(abs((infer('ll_weight:1', ARRAY[x, y]::real[]))[1] - (infer('ll_weight:2', ARRAY[x, y]::real[]))[1])) < 1e-5 AS rows_or_weights FROM t;
SELECT millrace.train_model('ll_few', 'logistic_regression', 'SELECT 1 AS x, (i % 10 = 0) AS few FROM generate_series(1, 500) i', 'few', '{"class_weight": "balanced"}');
SELECT label, round(probability::numeric, 3) AS probability FROM class_probabilities('{1}', 'll_few');
SELECT millrace.train_model('ll_sure', 'logistic_regression', 'SELECT x, y, up FROM t', 'up', '{"C": 1000, "solver": "lbfgs", "max_iter": 2}');

-- Nearest neighbours: one is the row itself; nearer ones weigh more; a class and a number.
SELECT millrace.train_model('ll_near', 'knn', 'SELECT x, y, up FROM t', 'up', '{"n_neighbors": 1}');
SELECT bool_and((classify(ARRAY[x, y]::real[], 'll_near')).label::boolean = up) AS itself FROM t;
SELECT millrace.train_model('ll_near', 'knn', 'SELECT x, y, z FROM t', 'z', '{"task": "regression", "weights": "distance", "metric": "manhattan", "n_neighbors": 10}');
SELECT bool_and(abs(predict(ARRAY[x, y]::real[], 'll_near') - z) < 1e-4) AS itself_by_distance, abs(predict('{0.5, 0.5}', 'll_near') - 5.5) < 0.3 AS between FROM t;
SELECT millrace.train_model('ll_bad', 'knn', 'SELECT x, y, up FROM t LIMIT 4', 'up');

-- Clusters that are there; components, whitened.
SELECT millrace.train_model('ll_group', 'kmeans', 'SELECT x + 100 * (id % 3) AS x, y FROM t', NULL, '{"n_clusters": 3}');
SELECT count(DISTINCT predict(ARRAY[x + 100 * (id % 3), y]::real[], 'll_group')) AS clusters,
	count(DISTINCT (id % 3, predict(ARRAY[x + 100 * (id % 3), y]::real[], 'll_group'))) AS pairs FROM t;
SELECT millrace.train_model('ll_white', 'pca', 'SELECT x, y, far FROM t', NULL, '{"n_components": 2, "whiten": true, "svd_solver": "randomized"}');
SELECT abs(stddev(p[1]) - 1) < 1e-3 AND abs(stddev(p[2]) - 1) < 1e-3 AS of_deviation_1, abs(corr(p[1], p[2])) < 1e-3 AS apart
FROM t, infer('ll_white', ARRAY[x, y, far]::real[]) p;
SELECT millrace.train_model('ll_bad', 'kmeans', 'SELECT x FROM t LIMIT 2', NULL);

SELECT count(*) AS stored FROM millrace.models WHERE name = 'll_bad';
SELECT count(millrace.drop_model(name)) FROM (SELECT DISTINCT name FROM millrace.models WHERE name LIKE 'll\_%') m;
DROP SCHEMA learn_linear CASCADE;
