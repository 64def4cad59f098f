-- tune_model(): searches, trials as rows, the best as a version.
CREATE SCHEMA tune;
SET search_path = tune, public;
CREATE TABLE points AS
SELECT i AS id, x, y, i % 40 AS batch, CASE WHEN x * x + y * y > 36 THEN 'far' WHEN x < 0 THEN 'left' ELSE 'right' END AS side, x * y AS product,
	CASE WHEN i % 50 = 0 THEN 3 ELSE 1 END AS weight
FROM (SELECT i, ((i * 7919) % 2003) / 100.0 - 10 AS x, ((i * 104729) % 1999) / 100.0 - 10 AS y
	FROM generate_series(1, 900) i) s;
\set query 'SELECT x, y, side FROM points'

-- A grid: every combination, each with the score of each fold.
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1, 2, null], "n_estimators": {"min": 4, "max": 8, "step": 4, "int": true}}',
	'{"search": "grid", "cv": 3, "seed": 7}') AS version;
SELECT id AS grid FROM millrace.tunings ORDER BY id DESC LIMIT 1 \gset
SELECT trial, parameters, state, cardinality(scores) AS folds, mean BETWEEN 0.3 AND 1 AS sane, seed, error FROM millrace.trials WHERE tuning = :grid ORDER BY trial;
SELECT t.version, t.search, t.metric, t.rows, t.folds, t.trials, t.failed, b.parameters, t.best_score = b.mean AND b.mean = (SELECT max(mean) FROM millrace.trials WHERE tuning = t.id) AS best
FROM millrace.tunings t JOIN millrace.trials b ON b.tuning = t.id AND b.trial = t.best_trial WHERE t.id = :grid;
SELECT training->>'tuning' = :'grid' AS lineage, training->'options' AS options, metrics->>'tuned_for' AS tuned_for FROM millrace.models WHERE name = 'tu' AND version = 1;
-- The version is what train_model() makes of its options.
SELECT millrace.train_model('tu_again', 'random_forest', :'query', 'side', (SELECT training->'options' FROM millrace.models WHERE name = 'tu' AND version = 1));
SELECT (SELECT sha256 FROM millrace.models WHERE name = 'tu') = (SELECT sha256 FROM millrace.models WHERE name = 'tu_again') AS same_bytes;
-- Workers change nothing.
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1, 2, null], "n_estimators": [4, 8]}', '{"search": "grid", "cv": 3, "seed": 7, "workers": 2}') AS version;
SELECT count(*) AS equal_with_workers FROM millrace.trials a JOIN millrace.trials b USING (trial)
WHERE a.tuning = :grid AND b.tuning = :grid + 1 AND a.parameters = b.parameters AND a.scores = b.scores;

-- Random: drawn with the seed, ranges kept, no combination twice.
SELECT millrace.tune_model('tu', 'logistic_regression', :'query', 'side', '{"C": {"min": 0.001, "max": 100, "log": true}, "max_iter": {"min": 5, "max": 9, "int": true}, "standardize": true}',
	'{"n_trials": 12, "cv": 2, "metric": "log_loss", "seed": 1}') > 0 AS tuned;
SELECT id AS random FROM millrace.tunings ORDER BY id DESC LIMIT 1 \gset
SELECT count(*) AS trials, count(DISTINCT parameters) AS different, bool_and((parameters->>'C')::float8 BETWEEN 0.001 AND 100) AS c_in_range,
	bool_and((parameters->>'max_iter')::numeric IN (5, 6, 7, 8, 9)) AS iter_in_range, count(DISTINCT floor(log((parameters->>'C')::numeric))) > 2 AS spread
FROM millrace.trials WHERE tuning = :random;
SELECT metric, best_score = (SELECT min(mean) FROM millrace.trials WHERE tuning = id) AS least_loss_is_best FROM millrace.tunings WHERE id = :random;
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1, 2]}', '{"n_trials": 50, "cv": 2}') > 0 AS tuned;
SELECT trials AS all_there_are FROM millrace.tunings ORDER BY id DESC LIMIT 1;

-- Successive halving over rows, and over a parameter.
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1, 2, 3, 4, 5, 6, 7, 8, null], "n_estimators": 5}', '{"search": "halving", "n_trials": 9, "cv": 2, "workers": 1}') > 0 AS tuned;
SELECT rung, round(resource::numeric, 4) AS share, state, count(*) FROM millrace.trials WHERE tuning = (SELECT max(id) FROM millrace.tunings) GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT t.rung = 2 AS best_went_all_the_way FROM millrace.tunings u JOIN millrace.trials t ON t.tuning = u.id AND t.trial = u.best_trial ORDER BY u.id DESC LIMIT 1;
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1, 2, 4, null]}', '{"search": "halving", "n_trials": 4, "factor": 2, "resource": "n_estimators", "max_resource": 8, "holdout": 0.3}') > 0 AS tuned;
SELECT rung, resource, state, count(*) FROM millrace.trials WHERE tuning = (SELECT max(id) FROM millrace.tunings) GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT training->'options'->>'n_estimators' AS n_estimators FROM millrace.models WHERE name = 'tu' ORDER BY version DESC LIMIT 1;

-- A bad combination is a row with its error, not the end.
\set VERBOSITY terse
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"n_estimators": [3, -1], "max_features": [1, "half"]}', '{"search": "grid", "cv": 2}') > 0 AS tuned;
\set VERBOSITY default
SELECT parameters, state, scores IS NULL AS no_scores, error FROM millrace.trials WHERE tuning = (SELECT max(id) FROM millrace.tunings) ORDER BY trial;
SELECT count(*) AS tunings FROM millrace.tunings \gset
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"n_estimators": [0, -1]}', '{"search": "grid"}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"n_estimators": 20000}', '{"n_trials": 1, "cv": 2, "timeout": "100 ms"}');

-- Groups stay together, time goes forward; weights and one-hot categories as in train_model().
SELECT millrace.tune_model('tu', 'random_forest', 'SELECT x, y, side, batch FROM points', 'side', '{"n_estimators": 3}', '{"cv": 4, "group": "batch"}') > 0 AS tuned;
SELECT n_inputs AS batch_is_no_feature FROM millrace.models WHERE name = 'tu' ORDER BY version DESC LIMIT 1;
SELECT millrace.tune_model('tu', 'random_forest', 'SELECT x, y, side, id FROM points', 'side', '{"n_estimators": 3}', '{"cv": 4, "order": "id"}') > 0 AS tuned;
SELECT millrace.tune_model('tu', 'random_forest', 'SELECT x, y, product FROM points', 'product', '{"max_depth": [2, null], "n_estimators": 5}',
	'{"search": "grid", "cv": 2, "task": "regression", "metric": "r2"}') > 0 AS tuned;
SELECT parameters->'max_depth' AS max_depth, mean > 0.5 AS good FROM millrace.trials WHERE tuning = (SELECT max(id) FROM millrace.tunings) ORDER BY trial;
SELECT millrace.tune_model('tu', 'logistic_regression', 'SELECT batch::text, x, side FROM points', 'side', '{"C": [0.1, 1], "max_iter": 500}',
	'{"cv": 2, "one_hot": true, "class_weight": {"far": 2}}') > 0 AS tuned;

-- Refused before anything runs.
\set VERBOSITY terse
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_dept": [1]}');
\set VERBOSITY default
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": []}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": {"min": 3, "max": 3}}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": {"low": 3, "max": 5}}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": {"min": 1, "max": 5}}', '{"search": "grid"}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"random_state": [1, 2]}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '[1]');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1]}', '{"metric": "rmse"}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1]}', '{"search": "clever"}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1]}', '{"search": "halving", "resource": "max_depth"}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', 'side', '{"max_depth": [1]}', '{"timeout": "soon"}');
SELECT millrace.tune_model('tu', 'random_forest', :'query', NULL, '{"max_depth": [1]}');
SELECT millrace.tune_model('tu', 'random_forest', 'SELECT x, side FROM points LIMIT 1', 'side', '{"max_depth": [1]}');
SET millrace.train_memory = '1MB';
SELECT millrace.tune_model('tu', 'random_forest', 'SELECT i AS a, i AS b, i AS c, i % 2 AS y FROM generate_series(1, 30000) i', 'y', '{"max_depth": [1]}');
RESET millrace.train_memory;
SELECT count(*) = :tunings + 4 AS only_those FROM millrace.tunings;

SELECT millrace.drop_model('tu'), millrace.drop_model('tu_again');
SET client_min_messages = warning;
DROP SCHEMA tune CASCADE;
