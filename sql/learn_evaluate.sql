-- evaluate_model(): figures of a classifier on rows whose answers are known by hand.
CREATE SCHEMA learn_evaluate;
SET search_path = learn_evaluate, public;

-- x below 10 is "low", else "high": a forest of one full tree learns it exactly.
CREATE TABLE t AS SELECT i AS x, i * 31 % 17 AS noise, CASE WHEN i < 10 THEN 'low' ELSE 'high' END AS c FROM generate_series(0, 19) i;
SELECT millrace.train_model('le_tree', 'random_forest', 'SELECT x, c FROM t', 'c', '{"n_estimators": 1, "bootstrap": false}');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c') IS NOT NULL AS evaluated;
SELECT name, version, rows, accuracy, balanced_accuracy, f1_macro, log_loss = 0 AS no_loss, brier, confusion, per_class
FROM millrace.evaluations WHERE name = 'le_tree' ORDER BY id DESC LIMIT 1;

-- Three rows with another truth: two "low" above 10, and a label the model does not know.
CREATE TABLE u AS SELECT x, CASE WHEN x IN (12, 13) THEN 'low' WHEN x = 5 THEN 'odd' ELSE c END AS c FROM t;
SELECT millrace.evaluate_model('le_tree:1', 'SELECT x, c FROM u', 'c', '{"store_metrics": true}') IS NOT NULL AS evaluated;
SELECT rows, accuracy, round(balanced_accuracy::numeric, 6) AS balanced, round(f1_macro::numeric, 6) AS f1_macro,
	round(f1_weighted::numeric, 6) AS f1_weighted, round(log_loss::numeric, 4) AS log_loss, brier, confusion
FROM millrace.evaluations WHERE name = 'le_tree' ORDER BY id DESC LIMIT 1;
SELECT jsonb_pretty(per_class) AS per_class FROM millrace.evaluations WHERE name = 'le_tree' ORDER BY id DESC LIMIT 1;
SELECT metrics -> 'accuracy' AS accuracy, metrics -> 'evaluation_rows' AS rows FROM millrace.models WHERE name = 'le_tree';

-- Categories keep the numbers of the training, whatever this query's rows hold.
CREATE TABLE k AS SELECT (ARRAY['ash', 'birch', 'cedar'])[1 + i % 3] AS tree, i % 3 = 1 AS c FROM generate_series(1, 30) i;
SELECT millrace.train_model('le_kind', 'random_forest', 'SELECT tree, c FROM k', 'c', '{"n_estimators": 5}');
SELECT millrace.evaluate_model('le_kind', $$SELECT tree, c FROM k WHERE tree <> 'ash'$$, 'c') IS NOT NULL AS evaluated;
SELECT rows, accuracy, evaluated_by = CURRENT_USER AS by_me, snapshot ~ '^\d+:\d+:' AS snapshot, predict_us > 0 AS timed
FROM millrace.evaluations WHERE name = 'le_kind';

-- Refusals.
SELECT millrace.evaluate_model('le_tree', 'SELECT x, noise, c FROM t', 'c');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'd');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c', '{"fold": 3}');
SELECT millrace.evaluate_model('le_tree', 'SELECT c AS x, c FROM t', 'c');
SELECT millrace.evaluate_model('le_kind', 'SELECT 1 AS tree, c FROM k', 'c');
SELECT millrace.evaluate_model('le_none', 'SELECT x, c FROM t', 'c');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t WHERE false', 'c');
SELECT millrace.train_model('le_pca', 'pca', 'SELECT x, noise FROM t', NULL);
SELECT millrace.evaluate_model('le_pca', 'SELECT x, noise, c FROM t', 'c');
BEGIN READ ONLY;
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c');
ROLLBACK;

SELECT count(millrace.drop_model(name)) AS dropped FROM (VALUES ('le_tree'), ('le_kind'), ('le_pca')) v(name);
DROP SCHEMA learn_evaluate CASCADE;
