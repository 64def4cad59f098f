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

-- All figures, the curves, the most confident mistakes with their key.
SELECT millrace.evaluate_model('le_tree', 'SELECT x AS key, x, c FROM u', 'c', '{"id": "key", "top_errors": 2, "bins": 4, "points": 5}') AS e \gset
SELECT key, round(value::numeric, 6) AS value FROM millrace.evaluations, jsonb_each_text(metrics) AS f(key, value) WHERE id = :e ORDER BY key;
SELECT rank, row_no, id, truth, predicted, confidence, truth_probability, error FROM millrace.evaluation_errors WHERE evaluation = :e ORDER BY rank;
SELECT label, curve, array_agg(round(threshold::numeric, 4) ORDER BY point) AS threshold, array_agg(round(x::numeric, 4) ORDER BY point) AS x,
	array_agg(round(y::numeric, 4) ORDER BY point) AS y, array_agg(rows ORDER BY point) AS rows
FROM millrace.evaluation_points WHERE evaluation = :e GROUP BY 1, 2 ORDER BY 2, 1;
-- The aggregates over the model's own answers say the same.
SELECT bool_and(abs((e.metrics ->> m.name)::float8 - m.value) < 1e-9) AS same
FROM millrace.evaluations e, (SELECT millrace.accuracy(c, k.label) AS accuracy, millrace.f1(c, k.label) AS f1_macro, millrace.mcc(c, k.label) AS mcc,
		millrace.calibration_error(c = k.label, k.confidence, 4) AS calibration_error
	FROM u, LATERAL classify(ARRAY[x::real], 'le_tree') k) a,
	LATERAL (VALUES ('accuracy', a.accuracy), ('f1_macro', a.f1_macro), ('mcc', a.mcc), ('calibration_error', a.calibration_error)) AS m(name, value)
WHERE e.id = :e;
-- Columns go by name, in any order, others are not read; a sample bounds the memory of curves.
SELECT millrace.evaluate_model('le_tree', 'SELECT c, noise, x FROM t', 'c', '{"points": 0, "top_errors": 0, "sample": 12}') AS e \gset
SELECT metrics ->> 'accuracy' AS accuracy, metrics ->> 'ranked_rows' AS ranked, (SELECT count(*) FROM millrace.evaluation_curves WHERE evaluation = :e) AS curves
FROM millrace.evaluations WHERE id = :e;

-- Rows of one class: no areas under curves.
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t WHERE x < 5', 'c') AS e \gset
SELECT accuracy, metrics ? 'roc_auc' AS roc_auc, metrics ? 'cohen_kappa' AS kappa, jsonb_object_keys(per_class) AS class FROM millrace.evaluations WHERE id = :e;
SELECT count(*), min(curve) FROM millrace.evaluation_curves WHERE evaluation = :e;
-- A thousand labels that the model does not know.
SELECT millrace.evaluate_model('le_tree', 'SELECT i % 20 AS x, i::text AS c FROM generate_series(1, 1000) i', 'c') AS e \gset
SELECT rows, accuracy, brier, confusion IS NULL AS no_confusion, per_class -> '77' AS of_77 FROM millrace.evaluations WHERE id = :e;

-- A regression.
CREATE TABLE r AS SELECT i AS x, CASE WHEN i = 7 THEN NULL ELSE i / 4 * 10.0 END AS y FROM generate_series(0, 19) i;
SELECT millrace.train_model('le_value', 'random_forest', 'SELECT x, y FROM r', 'y', '{"task": "regression", "n_estimators": 1, "bootstrap": false}');
SELECT millrace.evaluate_model('le_value', 'SELECT x, CASE x WHEN 3 THEN y + 8 WHEN 12 THEN y - 4 ELSE y END AS y FROM r', 'y', '{"top_errors": 2, "store_metrics": true}') AS e \gset
SELECT rows, task, accuracy, per_class, confusion, metrics FROM millrace.evaluations WHERE id = :e;
SELECT rank, row_no, truth, predicted, confidence, error FROM millrace.evaluation_errors WHERE evaluation = :e;
SELECT metrics -> 'rmse' AS rmse, metrics -> 'evaluation_rows' AS rows FROM millrace.models WHERE name = 'le_value';

-- Networks: of numbers (logits become probabilities), and of images.
\set logits '\\x080712086d696c6c726163653a670a110a01780a017712017922064d61744d756c1201672a230802080310014201774a180000803f00000000000080bf000000000000803f000080bf5a140a0178120f0a0d080112090a0312014e0a02080262140a0179120f0a0d080112090a0312014e0a02080342040a00100d'
\set net '\\x080712086d696c6c726163653a8e030a2a0a05696d6167650a01771201632204436f6e762a150a0c6b65726e656c5f736861706540014001a001070a0c0a0163120172220452656c750a190a01721201702211476c6f62616c41766572616765506f6f6c0a230a0170120866656174757265732207466c617474656e2a0b0a04617869731801a001020a1e0a0866656174757265730a01670a016212066c6f67697473220447656d6d12036e65742a3f080408030801080110014201774a300000803f0000000000000000000000000000803f0000000000000000000000000000803f000080bf0000003f0000003f2a3b0804080310014201674a300000004000000000000000000000000000000040000000000000000000000000000000400000000000000000000000002a15080310014201624a0c0000003f00000000000000bf5a200a05696d61676512170a15080112110a0312014e0a0208030a0208040a020804621b0a086665617475726573120f0a0d080112090a0312014e0a02080462190a066c6f67697473120f0a0d080112090a0312014e0a02080342040a00100d'
\set red '\\x89504e470d0a1a0a0000000d494844520000000400000004080200000026930929000000104944415478da63fccf80004c0c44710033d10107d28591370000000049454e44ae426082'
\set blues '\\x89504e470d0a1a0a0000000d4948445200000004000000040802000000269309290000001f4944415478da6364606060601084204606061738870599c3c8c07006ce01002b6202288a082f6c0000000049454e44ae426082'
SELECT millrace.import_model('le_net', :'logits', '{"labels": ["a", "b", "c"]}');
CREATE TABLE n AS SELECT ARRAY[sin(i), cos(i)]::real[] AS d, (ARRAY['a', 'b', 'c'])[1 + i % 3] AS c FROM generate_series(1, 60) i;
SELECT millrace.evaluate_model('le_net', 'SELECT d, c FROM n', 'c') AS e \gset
SELECT abs(e.accuracy - f.accuracy) < 1e-12 AS accuracy, abs(e.log_loss - f.log_loss) < 1e-6 AS log_loss, f.accuracy > 0.1 AS some
FROM millrace.evaluations e, (SELECT millrace.accuracy(c, CASE greatest(a, b, z) WHEN a THEN 'a' WHEN b THEN 'b' ELSE 'c' END) AS accuracy,
	avg(-ln(exp(CASE c WHEN 'a' THEN a WHEN 'b' THEN b ELSE z END) / (exp(a) + exp(b) + exp(z)))) AS log_loss
	FROM n, LATERAL (SELECT d[1]::float8 AS a, d[2]::float8 AS b, -(d[1] + d[2])::float8 AS z) l) f WHERE e.id = :e;
SELECT millrace.import_model('le_photo', :'net', '{"output": "logits", "labels": ["r", "g", "b"], "input": {"mean": 0.5, "std": 0.5}}');
CREATE TABLE photos AS SELECT i AS id, CASE WHEN i % 2 = 0 THEN :'red'::bytea ELSE :'blues' END AS content, CASE WHEN i % 2 = 0 THEN 'r' ELSE 'b' END AS c FROM generate_series(1, 10) i;
SELECT millrace.evaluate_model('le_photo', 'SELECT id, content, c FROM photos', 'c', '{"id": "id"}') AS e \gset
SELECT rows, accuracy, accuracy = (SELECT avg((c = CASE greatest(d[1], d[2], d[3]) WHEN d[1] THEN 'r' WHEN d[2] THEN 'g' ELSE 'b' END)::int)
	FROM photos, LATERAL extract_descriptors(content, 'le_photo') d) AS as_extracted FROM millrace.evaluations WHERE id = :e;
SELECT millrace.evaluate_model('le_photo', 'SELECT id, content, c FROM photos', 'c');
SELECT millrace.evaluate_model('le_photo', $$SELECT '\x00'::bytea AS content, c FROM photos$$, 'c');

-- Refusals.
SELECT millrace.evaluate_model('le_tree', 'SELECT noise, c FROM t', 'c');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'd');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c', '{"fold": 3}');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c', '{"id": "key"}');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c', '{"id": "c"}');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c', '{"points": 2}');
SELECT millrace.evaluate_model('le_value', $$SELECT x, 'Infinity'::real AS y FROM r$$, 'y');
SELECT millrace.evaluate_model('le_value', 'SELECT x, x::text AS y FROM r', 'y');
SELECT millrace.evaluate_model('le_tree', 'SELECT c AS x, c FROM t', 'c');
SELECT millrace.evaluate_model('le_kind', 'SELECT 1 AS tree, c FROM k', 'c');
SELECT millrace.evaluate_model('le_none', 'SELECT x, c FROM t', 'c');
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t WHERE false', 'c');
SELECT millrace.train_model('le_pca', 'pca', 'SELECT x, noise FROM t', NULL);
SELECT millrace.evaluate_model('le_pca', 'SELECT x, noise, c FROM t', 'c');
BEGIN READ ONLY;
SELECT millrace.evaluate_model('le_tree', 'SELECT x, c FROM t', 'c');
ROLLBACK;

SELECT count(millrace.drop_model(name)) AS dropped FROM (VALUES ('le_tree'), ('le_kind'), ('le_pca'), ('le_value'), ('le_net'), ('le_photo')) v(name);
DROP SCHEMA learn_evaluate CASCADE;
