-- permutation_importance() and partial_dependence().
CREATE SCHEMA learn_importance;
SET search_path = learn_importance, public;
-- c depends on x much, on kind a little, on noise not at all.
CREATE TYPE v AS (x double precision, noise real, kind text);
CREATE TABLE t AS SELECT (i * 7919 % 1000) / 10.0 AS x, (i * 31 % 97)::real AS noise, (ARRAY['ash', 'birch', 'cedar'])[1 + i % 3] AS kind,
	CASE WHEN (i * 7919 % 1000) / 10.0 + CASE i % 3 WHEN 0 THEN 10 ELSE 0 END > 50 THEN 'high' ELSE 'low' END AS c
FROM generate_series(1, 600) i;
SELECT millrace.train_model('li_tree', 'random_forest', 'SELECT x, noise, kind, c FROM t', 'c', '{"n_estimators": 20}');
SELECT millrace.train_model('li_hot', 'random_forest', 'SELECT x, noise, kind, c FROM t', 'c', '{"n_estimators": 20, "one_hot": true}');
SELECT millrace.train_model('li_value', 'ridge', 'SELECT x, noise, ARRAY[x * x, 1]::real[] AS a, 3 * x AS y FROM t', 'y');

SELECT feature, importance > 0.3 AS much, importance > 0.01 AS any, deviation < 0.1 AS steady, baseline FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t', 'c');
SELECT feature, importance > 0.3 AS much FROM millrace.permutation_importance('li_hot', 'SELECT * FROM t', 'c', '{"metric": "log_loss", "n_repeats": 2}');
SELECT feature, importance > 0.2 AS much, baseline FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t', 'c', '{"metric": "roc_auc", "n_repeats": 2, "sample": 200}');
SELECT feature, importance > 5 AS much, abs(importance) < 0.1 AS none FROM millrace.permutation_importance('li_value', 'SELECT x, noise, ARRAY[x * x, 1]::real[] AS a, 3 * x AS y FROM t', 'y', '{"metric": "rmse"}') ORDER BY feature;
CREATE FUNCTION digest(seed int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(feature || importance, ' ') FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t', 'c', format('{"random_state": %s, "sample": 300}', seed)::jsonb) $$;
SELECT digest(1) = digest(1) AS same, digest(1) <> digest(2) AS another;

-- The mean of the model's answers with the value put in everywhere.
SELECT d.value, d.label, abs(d.average - e.average) < 1e-6 AS as_by_hand
FROM millrace.partial_dependence('li_tree', 'SELECT x, noise, kind FROM t', 'x', '{"points": 3}') d,
	LATERAL (SELECT avg(probability) AS average FROM t, LATERAL class_probabilities(millrace.model_features('li_tree', ROW(d.value::float8, noise, kind)::v), 'li_tree') p WHERE p.label = d.label) e;
SELECT count(*) AS rows, count(DISTINCT value) AS points, min(value) AS low, max(value) AS high, bool_and(abs(sum - 1) < 1e-5) AS sum_to_1
FROM (SELECT value, sum(average) OVER (PARTITION BY value) FROM millrace.partial_dependence('li_tree', 'SELECT x, noise, kind FROM t', 'x')) q;
SELECT category, label, rank() OVER (ORDER BY average DESC) = 1 AS highest FROM millrace.partial_dependence('li_tree', 'SELECT x, noise, kind FROM t', 'kind') WHERE label = 'high' ORDER BY category;
SELECT (SELECT average FROM millrace.partial_dependence('li_hot', 'SELECT x, noise, kind FROM t', 'kind') WHERE label = 'high' AND category = 'ash')
	> (SELECT average FROM millrace.partial_dependence('li_hot', 'SELECT x, noise, kind FROM t', 'kind') WHERE label = 'high' AND category = 'birch') AS ash_is_higher;
SELECT value, label, category FROM millrace.partial_dependence('li_value', 'SELECT x, noise, ARRAY[x * x, 1]::real[] AS a FROM t', 'a[2]');

-- Refusals.
SELECT * FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t', 'c', '{"metric": "speed"}');
SELECT * FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t', 'c', '{"repeats": 3}');
SELECT * FROM millrace.permutation_importance('li_tree', 'SELECT x, c FROM t', 'c');
SELECT * FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t', NULL);
SELECT * FROM millrace.permutation_importance('li_none', 'SELECT * FROM t', 'c');
SELECT * FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t WHERE c IS NULL', 'c');
SELECT * FROM millrace.permutation_importance('li_tree', 'SELECT x, noise, kind, NULL AS c FROM t', 'c');
SELECT * FROM millrace.partial_dependence('li_tree', 'SELECT * FROM t', 'colour');
SELECT * FROM millrace.partial_dependence('li_tree', 'SELECT * FROM t', 'x', '{"low": 0.9, "high": 0.1}');
SELECT count(*) AS all_missing FROM millrace.partial_dependence('li_tree', 'SELECT NULL::real AS x, noise, kind FROM t', 'x');
-- One class only: accuracy can still be told, areas cannot.
SELECT feature, importance, baseline FROM millrace.permutation_importance('li_tree', 'SELECT * FROM t WHERE c = ''high''', 'c', '{"metric": "roc_auc"}') LIMIT 1;
SELECT count(millrace.drop_model(name)) AS dropped FROM (VALUES ('li_tree'), ('li_hot'), ('li_value')) v(name);
DROP SCHEMA learn_importance CASCADE;
