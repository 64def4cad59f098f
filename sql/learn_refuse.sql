-- What train_model() refuses, each with a reason; nothing is stored by a failure.
CREATE SCHEMA learn_refuse;
SET search_path = learn_refuse, public;
CREATE TABLE t AS SELECT i AS id, (i % 10)::real AS x, CASE WHEN i % 10 < 5 THEN 'a' ELSE 'b' END AS c FROM generate_series(1, 100) i;
SELECT count(*) AS models FROM millrace.models WHERE name = 'lr_bad' \gset before_

-- Names.
\set VERBOSITY terse
SELECT millrace.train_model('lr_bad', 'forest', 'SELECT x, c FROM t', 'c');
\set VERBOSITY default
SELECT millrace.train_model('lr@bad', 'random_forest', 'SELECT x, c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'd');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', NULL);
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT x FROM t', 'x');
SELECT millrace.train_model(NULL, 'pca', 'SELECT x FROM t', NULL);

-- Parameters.
\set VERBOSITY terse
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimator": 10}');
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT x, c FROM t', 'c', '{"max_depth": 3}');
\set VERBOSITY default
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimators": 0}');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'c', '{"max_features": "half"}');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'c', '{"class_weight": {"z": 2}}');
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT x, c FROM t', 'c', '{"C": [1]}');
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT x FROM t', NULL, '{"n_components": 2}');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'c', '[]');
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT x FROM t', NULL, '{"backbone": "lr_nothing"}');

-- Queries.
SELECT millrace.train_model('lr_bad', 'random_forest', 'DELETE FROM t RETURNING x, c', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'WITH d AS (DELETE FROM t RETURNING x, c) SELECT * FROM d', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t FOR UPDATE', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT 1; SELECT 2', 'c');
CREATE FUNCTION writes() RETURNS real LANGUAGE plpgsql AS $$ BEGIN DELETE FROM learn_refuse.t; RETURN 1; END $$;
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT writes() AS x, c FROM t', 'c');
SELECT count(*) AS rows_still_there FROM t;
CREATE TEMP TABLE writable_again AS SELECT 1 AS one;
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, x, c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT now() AS d, c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT c AS kind, c FROM t', 'c');

-- Data.
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t WHERE false', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, NULL::text AS c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', $$SELECT x, 'a' AS c FROM t$$, 'c');
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT NULLIF(x, 3) AS x, c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', $$SELECT 'infinity'::float8 AS x, c FROM t$$, 'c');
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT 1 AS x, 2 AS y FROM t', NULL);
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT CASE WHEN id = 7 THEN ARRAY[1, 2, 3] ELSE ARRAY[1, 2] END::real[] AS v FROM t ORDER BY id', NULL);
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT NULL::real[] AS v FROM t', NULL);
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT ARRAY[[1, 2], [3, 4]]::real[] AS v FROM t', NULL);
SELECT millrace.train_model('lr_bad', 'random_forest', $$SELECT x, repeat('z', 300) || c AS c FROM t$$, 'c');

-- Weights and regression.
CREATE TABLE w AS SELECT id, x, c, CASE id WHEN 7 THEN -1 ELSE 1 END AS weight, CASE id WHEN 7 THEN 'infinity' ELSE x END::float8 AS y FROM t;
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT x, id, weight FROM w', NULL, '{"sample_weight": "weight"}');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM w', 'c', '{"sample_weight": 3}');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM w', 'c', '{"one_hot": "yes"}');
\set VERBOSITY terse
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT x, y FROM w', 'y', '{"task": "regression"}');
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT x, id FROM w', NULL, '{"class_weight": {"a": 1}}');
\set VERBOSITY default

-- Much: labels of 1,000 classes are fine, 70,000 are not; so are 10,000 features, and 70,000 not.
SELECT millrace.train_model('lr_wide', 'random_forest', 'SELECT i % 1000 AS c, i % 1000 AS x FROM generate_series(1, 3000) i', 'c',
	'{"n_estimators": 2, "max_features": null, "bootstrap": false}');
SELECT count(*) AS right FROM generate_series(0, 999) i WHERE (classify(ARRAY[i]::real[], 'lr_wide')).label = i::text;
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT i AS c, i AS x FROM generate_series(1, 70000) i', 'c');
CREATE FUNCTION wide(n integer, seed integer) RETURNS real[] LANGUAGE sql IMMUTABLE AS
	'SELECT array_agg(((seed * 31 + k) * 7919 % 1009)::real ORDER BY k) FROM generate_series(1, n) k';
SELECT millrace.train_model('lr_wide', 'random_forest', 'SELECT wide(10000, i) AS v, i % 2 AS c FROM generate_series(1, 60) i', 'c',
	'{"n_estimators": 2}');
SELECT n_inputs FROM millrace.models WHERE name = 'lr_wide' AND version = 2;
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT wide(70000, i) AS v, i % 2 AS c FROM generate_series(1, 2) i', 'c');

-- Little: one row, a column that is all NULL, columns that never change.
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t LIMIT 1', 'c');
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT x, NULL::real AS y, c FROM t', 'c');
SELECT millrace.train_model('lr_none', 'random_forest', 'SELECT NULL::real AS x, NULL::text AS y, 1 AS z, c FROM t', 'c', '{"n_estimators": 3}');
SELECT bool_and(abs(probability - 0.5) < 0.1) AS knows_nothing FROM class_probabilities('{NaN,NaN,1}', 'lr_none');
SELECT millrace.train_model('lr_none', 'logistic_regression', 'SELECT 1 AS x, 2 AS y, c FROM t', 'c');
SELECT bool_and(abs(probability - 0.5) < 0.001) AS knows_nothing FROM class_probabilities('{1,2}', 'lr_none');

-- Categories: as numbers where the learner takes none.
SELECT millrace.train_model('lr_hot', 'logistic_regression', $$SELECT CASE WHEN id % 7 = 0 THEN NULL ELSE c || 'x' END AS kind, x, c FROM t$$, 'c', '{"one_hot": true}');
SELECT spec->'features' AS features, n_inputs FROM millrace.models WHERE name = 'lr_hot';
SET millrace.train_memory = '1MB';
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT (i % 5000)::text AS kind, i % 2 AS c FROM generate_series(1, 20000) i', 'c', '{"one_hot": true}');
RESET millrace.train_memory;

-- Memory and time.
SET millrace.train_memory = '1MB';
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT i AS x, i + 1 AS y, i % 3 AS c FROM generate_series(1, 200000) i', 'c');
RESET millrace.train_memory;
SET statement_timeout = '200ms';
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT i * 7 % 1009 AS x, i * 13 % 997 AS y, i % 3 AS c FROM generate_series(1, 20000) i',
	'c', '{"n_estimators": 10000}');
RESET statement_timeout;

-- Only modelers may; the query runs with their rights.
CREATE ROLE learn_refuse_user;
GRANT USAGE ON SCHEMA learn_refuse TO learn_refuse_user;
SET ROLE learn_refuse_user;
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM learn_refuse.t', 'c');
RESET ROLE;
GRANT millrace_modeler TO learn_refuse_user;
SET ROLE learn_refuse_user;
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM learn_refuse.t', 'c');
RESET ROLE;

SELECT count(*) = :before_models AS nothing_stored FROM millrace.models WHERE name = 'lr_bad';
SELECT millrace.drop_model('lr_wide'), millrace.drop_model('lr_none'), millrace.drop_model('lr_hot');
SET client_min_messages = warning;
DROP SCHEMA learn_refuse CASCADE;
DROP ROLE learn_refuse_user;
