-- Support vector machines and calibrated probabilities in SQL.
CREATE SCHEMA learn_svm;
SET search_path = learn_svm, public;
-- An island in a sea: no line parts them, a radial kernel does.  And three stripes, which lines do.
CREATE TABLE t AS SELECT i AS id, x, y, CASE WHEN x * x + y * y < 4 THEN 'island' ELSE 'sea' END AS place,
	CASE WHEN x + y < -1 THEN 'low' WHEN x + y < 2 THEN 'middle' ELSE 'high' END AS stripe, (i % 17 = 0) AS odd
FROM (SELECT i, ((i * 7919) % 601) / 100.0 - 3 AS x, ((i * 104729) % 599) / 100.0 - 3 AS y FROM generate_series(1, 900) i) s;

SELECT millrace.train_model('sv_island', 'rbf_svm', 'SELECT x, y, place FROM t WHERE id % 3 > 0', 'place');
SELECT millrace.train_model('sv_stripe', 'linear_svm', 'SELECT x, y, stripe FROM t WHERE id % 3 > 0', 'stripe', '{"C": 10}');
SELECT name, labels, n_inputs, n_outputs, training -> 'parameters' ->> 'calibration' AS calibration, training -> 'parameters' ->> 'cv' AS cv
FROM millrace.models WHERE name LIKE 'sv\_%' ORDER BY name;
SELECT avg(((classify(ARRAY[x, y]::real[], 'sv_island')).label = place)::int) > 0.97 AS island,
	avg(((classify(ARRAY[x, y]::real[], 'sv_stripe')).label = stripe)::int) BETWEEN 0.6 AND 1 AS stripe FROM t WHERE id % 3 = 0;

-- Probabilities mean what they say: they sum to 1, and infer() has the scores before them.
SELECT bool_and(abs(total - 1) < 1e-5) AS distributions FROM (SELECT sum(p.probability) AS total FROM t, LATERAL class_probabilities(ARRAY[x, y]::real[], 'sv_stripe') p WHERE id <= 50 GROUP BY id) s;
SELECT millrace.calibration_error(place = 'island', p.probability) < 0.1 AS calibrated
FROM t, LATERAL class_probabilities(ARRAY[x, y]::real[], 'sv_island') p WHERE id % 3 = 0 AND p.label = 'island';
SELECT array_length(infer('sv_stripe', '{0, 0}'), 1) AS scores, array_length(infer('sv_island', '{0, 0}'), 1) AS of_two,
	(infer('sv_stripe', '{3, 3}'))[1] > (infer('sv_stripe', '{-3, -3}'))[1] AS high_is_first;
SELECT (m.metrics ->> 'train_accuracy')::float > 0.95 AS learned FROM millrace.models m WHERE name = 'sv_island';

-- None, isotonic, fewer folds; class weights move the border; hinge loss; the same bytes again.
SELECT millrace.train_model('sv_plain', 'rbf_svm', 'SELECT x, y, place FROM t', 'place', '{"calibration": null, "gamma": 0.5, "C": 100}');
SELECT millrace.train_model('sv_steps', 'linear_svm', 'SELECT x, y, stripe FROM t', 'stripe', '{"calibration": "isotonic", "cv": 3, "loss": "hinge"}');
SELECT millrace.train_model('sv_steps', 'linear_svm', 'SELECT x, y, stripe FROM t', 'stripe', '{"calibration": "isotonic", "cv": 3, "loss": "hinge"}') AS again;
SELECT count(DISTINCT sha256) AS one FROM millrace.models WHERE name = 'sv_steps';
SELECT millrace.train_model('sv_weighted', 'linear_svm', 'SELECT x, y, odd FROM t', 'odd', '{"class_weight": "balanced", "calibration": null}');
SELECT millrace.train_model('sv_rows', 'rbf_svm', 'SELECT x, y, place, CASE WHEN y > 0 THEN 0 ELSE 1 END AS w FROM t', 'place', '{"sample_weight": "w"}');
SELECT (classify('{0, -1}', 'sv_rows')).label AS seen, (classify('{2.9, -2.9}', 'sv_rows')).label AS also_seen;
-- Any classifier can be calibrated.
SELECT millrace.train_model('sv_forest', 'random_forest', 'SELECT x, y, place FROM t', 'place', '{"n_estimators": 10, "calibration": "sigmoid", "cv": 2}');
SELECT bool_and(probability BETWEEN 0 AND 1) AS probabilities FROM class_probabilities('{0, 0}', 'sv_forest');

-- What cannot be.
SELECT millrace.train_model('sv_bad', 'rbf_svm', 'SELECT x, y, place FROM t', 'place', '{"gamma": -1}');
SELECT millrace.train_model('sv_bad', 'rbf_svm', 'SELECT x, y, place FROM t', 'place', '{"calibration": "guess"}');
SELECT millrace.train_model('sv_bad', 'linear_svm', 'SELECT x, NULL::real AS y, place FROM t', 'place');
SELECT millrace.train_model('sv_bad', 'linear_svm', $$SELECT x, y, CASE id WHEN 1 THEN 'once' ELSE place END AS place FROM t$$, 'place');
SELECT millrace.train_model('sv_bad', 'rbf_svm', 'SELECT i AS x, i % 200 AS c FROM generate_series(1, 1000) i', 'c');
SELECT millrace.train_model('sv_bad', 'random_forest', 'SELECT x, y FROM t', 'y', '{"task": "regression", "calibration": "sigmoid"}');
SELECT count(*) AS stored FROM millrace.models WHERE name = 'sv_bad';

SELECT count(millrace.drop_model(name)) FROM (SELECT DISTINCT name FROM millrace.models WHERE name LIKE 'sv\_%') m;
DROP SCHEMA learn_svm CASCADE;
