-- What train_model() refuses, each with a reason; nothing is stored by a failure.
CREATE SCHEMA learn_refuse;
SET search_path = learn_refuse, public;
CREATE TABLE t AS SELECT i AS id, (i % 10)::real AS x, CASE WHEN i % 10 < 5 THEN 'a' ELSE 'b' END AS c FROM generate_series(1, 100) i;
SELECT count(*) AS models FROM millrace.models WHERE name = 'lr_bad' \gset before_

-- Names.
SELECT millrace.train_model('lr_bad', 'forest', 'SELECT x, c FROM t', 'c');
SELECT millrace.train_model('lr@bad', 'random_forest', 'SELECT x, c FROM t', 'c');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'd');
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', NULL);
SELECT millrace.train_model('lr_bad', 'pca', 'SELECT x FROM t', 'x');
SELECT millrace.train_model(NULL, 'pca', 'SELECT x FROM t', NULL);

-- Parameters.
SELECT millrace.train_model('lr_bad', 'random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimator": 10}');
SELECT millrace.train_model('lr_bad', 'logistic_regression', 'SELECT x, c FROM t', 'c', '{"max_depth": 3}');
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
DROP SCHEMA learn_refuse CASCADE;
DROP ROLE learn_refuse_user;
