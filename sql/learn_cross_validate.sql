-- cross_validate(): which rows train and which test, and what comes out.
CREATE SCHEMA learn_cross_validate;
SET search_path = learn_cross_validate, public;

-- Two classes, 60 and 40 rows, that x tells apart; visits of 20 persons; days.
CREATE TABLE t AS SELECT i AS x, i * 31 % 17 AS noise, CASE WHEN i < 60 THEN 'low' ELSE 'high' END AS c,
	'person ' || i * 7 % 20 AS person, date '2026-01-01' + i * 37 % 100 AS day FROM generate_series(0, 99) i;

SELECT fold, train_rows, test_rows, metrics -> 'rows' AS rows, (metrics ->> 'accuracy')::float8 >= 0.9 AS accurate,
	per_class -> 'low' -> 'support' AS low, per_class -> 'high' -> 'support' AS high, train_seconds > 0 AS timed, predict_us > 0 AS predicted
FROM millrace.cross_validate('random_forest', 'SELECT x, noise, c FROM t', 'c', '{"n_estimators": 10}');
SELECT array_agg(key ORDER BY key) AS figures FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimators": 2, "test_share": 0.25}'), jsonb_object_keys(metrics) key;
-- The same seed gives the same, another seed another split.
CREATE FUNCTION accuracies(seed int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(metrics ->> 'log_loss', ' ' ORDER BY fold) FROM millrace.cross_validate('logistic_regression', 'SELECT x, noise, c FROM t', 'c',
		format('{"standardize": true, "folds": 3, "random_state": %s}', seed)::jsonb) $$;
SELECT accuracies(1) = accuracies(1) AS same, accuracies(1) <> accuracies(2) AS another;
-- A hold-out of a fifth, stratified or not.
SELECT fold, train_rows, test_rows, per_class -> 'low' -> 'support' AS low FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimators": 2, "test_share": 0.2}');
SELECT count(*), sum(test_rows), count(DISTINCT per_class -> 'low' -> 'support') > 1 AS uneven
FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimators": 2, "stratified": false, "folds": 10, "random_state": 3}');
-- Groups: one that tells persons apart cannot be right about persons it never saw.
SELECT sum(test_rows) AS rows, min(test_rows) >= 15 AS balanced, max((metrics ->> 'accuracy')::float8) AS right_by_chance
FROM millrace.cross_validate('random_forest', 'SELECT x % 20 AS who, person AS c, person AS g FROM t', 'c', '{"group": "g", "n_estimators": 5}');
SELECT max((metrics ->> 'accuracy')::float8) > 0.9 AS right_when_leaked
FROM millrace.cross_validate('random_forest', 'SELECT x % 20 AS who, person AS c FROM t', 'c', '{"n_estimators": 5}');
-- By time: the window grows, what is tested lies behind it; a later class is unknown until then.
SELECT fold, train_rows, test_rows FROM millrace.cross_validate('random_forest', 'SELECT x, c, day FROM t', 'c', '{"order_by": "day", "folds": 4, "n_estimators": 5}');
SELECT fold, train_rows, test_rows, (metrics ->> 'accuracy')::float8 AS accuracy, per_class -> 'c' IS NOT NULL AS has_c
FROM millrace.cross_validate('random_forest', $$SELECT i % 2 AS x, CASE WHEN i >= 75 THEN 'c' WHEN i % 2 = 0 THEN 'a' ELSE 'b' END AS c, i AS at FROM generate_series(0, 99) i$$, 'c',
	'{"order_by": "at", "folds": 3, "n_estimators": 5, "class_weight": {"a": 2, "c": 3}}');
-- A regression.
SELECT fold, train_rows, test_rows, (metrics ->> 'r2')::float8 > 0.9 AS good, metrics ? 'accuracy' AS accuracy, per_class IS NULL AS no_classes
FROM millrace.cross_validate('random_forest', 'SELECT x, noise, 2.5 * x AS y FROM t', 'y', '{"task": "regression", "folds": 3, "n_estimators": 20}');
-- NULL targets do not count; text is a category; a thousand classes, two rows each.
SELECT sum(train_rows + test_rows)::int / 2 AS rows FROM millrace.cross_validate('random_forest', $$SELECT person, CASE WHEN x > 9 THEN c END AS c FROM t$$, 'c', '{"n_estimators": 2, "folds": 2}');
SELECT fold, test_rows, (metrics ->> 'accuracy')::float8 > 0.25 AS accurate
FROM millrace.cross_validate('random_forest', 'SELECT i AS x, (i / 2)::text AS c FROM generate_series(0, 1999) i', 'c', '{"n_estimators": 1, "folds": 2, "bootstrap": false}');
-- Nothing is stored, so a read-only transaction will do.
BEGIN READ ONLY;
SELECT count(*) FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimators": 2}');
ROLLBACK;

-- Refusals.
\set VERBOSITY terse
SELECT * FROM millrace.cross_validate('random_tree', 'SELECT x, c FROM t', 'c');
\set VERBOSITY default
SELECT * FROM millrace.cross_validate('pca', 'SELECT x, c FROM t', 'c');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', NULL);
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"folds": 1}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"folds": 3, "test_share": 0.5}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"test_share": 1.5}');
\set VERBOSITY terse
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"fold": 3}');
\set VERBOSITY default
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t', 'c', '{"group": "person"}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c, person, day FROM t', 'c', '{"group": "person", "order_by": "day"}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c, person FROM t', 'c', '{"order_by": "person"}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c, day FROM t', 'c', '{"order_by": "day", "stratified": true}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c, NULLIF(person, ''person 0'') AS g FROM t', 'c', '{"group": "g"}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t LIMIT 3', 'c');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t WHERE x < 50', 'c');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c FROM t WHERE false', 'c');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c, 1 AS at FROM t', 'c', '{"order_by": "at"}');
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT x, c, x % 2 AS g FROM t', 'c', '{"group": "g", "folds": 3}');
SELECT * FROM millrace.cross_validate('random_forest', 'DELETE FROM t RETURNING x, c', 'c');
SET millrace.train_memory = '1MB';
SELECT * FROM millrace.cross_validate('random_forest', 'SELECT i AS x, i % 2 AS c FROM generate_series(1, 50000) i', 'c');
RESET millrace.train_memory;
DROP SCHEMA learn_cross_validate CASCADE;
