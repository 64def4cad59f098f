-- Metrics as aggregates; the numbers beside them are scikit-learn's.
CREATE SCHEMA learn_metrics;
SET search_path = learn_metrics, public;
CREATE FUNCTION near(double precision, double precision) RETURNS boolean
	LANGUAGE sql AS 'SELECT coalesce(abs($1 - $2) < 1e-12 * greatest(abs($2), 1), $1 IS NULL AND $2 IS NULL)';

-- Labels.
CREATE TABLE l (truth text, predicted text);
INSERT INTO l SELECT t, p FROM unnest('{a,a,a,a,b,b,b,c,c,c}'::text[], '{a,a,b,c,b,b,a,c,c,d}'::text[]) u(t, p);
INSERT INTO l VALUES (NULL, 'a'), ('a', NULL);
SELECT millrace.accuracy(truth, predicted), near(millrace.balanced_accuracy(truth, predicted), 0.6111111111111112) AS balanced,
	near(millrace.cohen_kappa(truth, predicted), 0.4285714285714286) AS kappa, near(millrace.mcc(truth, predicted), 0.4351941398892446) AS mcc
FROM l;
SELECT near(millrace.precision(truth, predicted), 0.5) AS macro, near(millrace.precision(truth, predicted, 'macro'), 0.5) AS macro_too,
	near(millrace.precision(truth, predicted, 'micro'), 0.6) AS micro, near(millrace.precision(truth, predicted, 'weighted'), 2 / 3.0) AS weighted,
	near(millrace.precision(truth, predicted, 'binary', 'a'), 2 / 3.0) AS a, millrace.precision(truth, predicted, 'binary', 'd') AS d
FROM l;
SELECT near(millrace.recall(truth, predicted), 0.4583333333333333) AS macro, near(millrace.recall(truth, predicted, 'weighted'), 0.6) AS weighted,
	millrace.recall(truth, predicted, 'binary', 'a') AS a,
	near(millrace.f1(truth, predicted), 0.47619047619047616) AS f1, near(millrace.f1(truth, predicted, 'weighted'), 0.6285714285714286) AS f1_weighted,
	near(millrace.f1(truth, predicted, 'binary', 'a'), 0.5714285714285714) AS f1_a, millrace.f1(truth, predicted, 'binary', 'none') AS none
FROM l;
SELECT millrace.confusion_matrix(truth, predicted) FROM l;
SELECT * FROM millrace.class_report((SELECT millrace.confusion_matrix(truth, predicted) FROM l));
SELECT truth, string_agg(count::text, ' ' ORDER BY predicted) FROM millrace.confusion_cells((SELECT millrace.confusion_matrix(truth, predicted) FROM l)) GROUP BY 1 ORDER BY 1;
-- By group, and as a window.
SELECT truth, millrace.accuracy(truth, predicted), millrace.cohen_kappa(truth, predicted) AS kappa FROM l GROUP BY 1 ORDER BY 1;
SELECT DISTINCT truth, millrace.accuracy(truth, predicted) OVER (PARTITION BY truth) FROM l ORDER BY 1;
-- No rows, one class, a thousand classes, a name that is JSON's.
SELECT millrace.accuracy(truth, predicted), millrace.f1(truth, predicted), millrace.confusion_matrix(truth, predicted) FROM l WHERE false;
SELECT millrace.accuracy('x', 'x'), millrace.balanced_accuracy('x', 'x'), millrace.mcc('x', 'x'), millrace.cohen_kappa('x', 'x') FROM generate_series(1, 3);
SELECT millrace.accuracy(k, p), near(millrace.f1(k, p), 0.5) AS f1,
	jsonb_array_length(millrace.confusion_matrix(k, p) -> 'labels') AS labels
FROM generate_series(0, 1999) i, LATERAL (SELECT (i % 1000)::text AS k, ((i + i / 1000) % 1000)::text AS p) v;
SELECT millrace.confusion_matrix('"', E'\\');
SELECT millrace.confusion_matrix(i::text, 'a') FROM generate_series(1, 1000) i;
SELECT millrace.f1('a', 'b', 'sum');
SELECT millrace.f1('a', 'b', 'binary');
SELECT millrace.f1('a', 'b', 'macro', 'a');
SELECT millrace.f1(truth, predicted, truth) FROM (VALUES ('macro', 'b'), ('micro', 'b')) v(truth, predicted);
SELECT millrace.accuracy(repeat('x', 300), 'a');

-- Scores, with ties.
CREATE TABLE s (y boolean, score double precision);
INSERT INTO s SELECT * FROM unnest('{t,t,f,t,f,t,f,f,t,f,f,t}'::boolean[], '{.9,.8,.8,.7,.6,.55,.5,.4,.4,.3,.2,.1}'::float8[]);
INSERT INTO s VALUES (NULL, 1), (true, NULL);
SELECT near(millrace.roc_auc(y, score), 0.638888888888889) AS roc_auc, near(millrace.average_precision(y, score), 0.6898148148148148) AS ap,
	millrace.pr_auc(y, score) = millrace.average_precision(y, score) AS same, near(millrace.roc_auc(NOT y, -score), 0.638888888888889) AS mirrored FROM s;
SELECT p.threshold, round(p.false_positive_rate::numeric, 4) AS fpr, round(p.true_positive_rate::numeric, 4) AS tpr
FROM (SELECT millrace.roc_curve(y, score) AS c FROM s) q, unnest(c) p;
SELECT p.threshold, round(p.recall::numeric, 4) AS recall, round(p.precision::numeric, 4) AS precision
FROM (SELECT millrace.pr_curve(y, score) AS c FROM s) q, unnest(c) p;
SELECT cardinality(millrace.roc_curve(i % 3 = 0, sin(i), 20)) AS points, cardinality(millrace.roc_curve(i % 3 = 0, sin(i))) > 300 AS all_points
FROM generate_series(1, 1000) i;
-- One class only: scikit-learn warns, here it is NULL.
SELECT millrace.roc_auc(true, score), millrace.average_precision(true, score), millrace.roc_curve(true, score), millrace.average_precision(false, score) AS no_positive FROM s;
SELECT millrace.roc_auc(true, 'NaN');
SELECT millrace.roc_curve(true, 1, 2);
SELECT millrace.roc_auc(i % 2 = 0, CASE WHEN i % 2 = 0 THEN 'Infinity'::float8 ELSE '-Infinity' END) FROM generate_series(1, 10) i;
SET millrace.train_memory = '1MB';
SELECT millrace.roc_auc(i % 2 = 0, i) FROM generate_series(1, 200000) i;
RESET millrace.train_memory;

-- Probabilities of one class.
SELECT near(millrace.log_loss(y, score), 0.7342843150351436) AS log_loss, near(millrace.brier_score(y, score), 0.254375) AS brier,
	near(millrace.calibration_error(y, score), 0.2708333333333333) AS ece, near(millrace.calibration_error(y, score, 3), 0.0875) AS ece_3 FROM s;
SELECT round(b.low::numeric, 2) AS low, round(b.high::numeric, 2) AS high, rows, round(mean_probability::numeric, 4) AS probability, round(frequency::numeric, 4) AS frequency
FROM (SELECT millrace.calibration_curve(y, score, 4) AS c FROM s) q, unnest(c) b;
SELECT millrace.log_loss(true, 0) < 37 AS clipped, millrace.log_loss(true, 1) AS none, millrace.log_loss(NULL::boolean, 1) AS nothing;
SELECT millrace.log_loss(true, 1.1);
SELECT millrace.brier_score(true, 'NaN');
SELECT millrace.calibration_error(true, 1, 0);
-- Of all classes.
CREATE TABLE m (truth text, p real[]);
INSERT INTO m VALUES ('a', '{0.5,0.25,0.25}'), ('b', '{0.25,0.5,0.25}'), ('c', '{0.125,0.125,0.75}'), ('c', '{1,0,0}'), (NULL, '{1,0,0}');
SELECT near(millrace.log_loss(truth, p, '{a,b,c}'), 9.429407455672207) AS log_loss, near(millrace.brier_score(truth, p, '{a,b,c}'), 0.7109375) AS brier FROM m;
SELECT millrace.brier_score('unknown', '{0.5,0.5}', '{a,b}'), round(millrace.log_loss('unknown', '{0.5,0.5}', '{a,b}')::numeric, 4) AS log_loss;
SELECT millrace.log_loss('a', '{0.5,0.5}', '{a,b,c}');
SELECT millrace.log_loss('a', '{0.5,NULL}', '{a,b}');

-- Values.
CREATE TABLE v (truth double precision, predicted double precision);
INSERT INTO v VALUES (3, 2.5), (-0.5, 0), (2, 2), (7, 8), (NULL, 1), (1, NULL);
SELECT near(millrace.mean_absolute_error(truth, predicted), 0.5) AS mae, near(millrace.mean_squared_error(truth, predicted), 0.375) AS mse,
	near(millrace.root_mean_squared_error(truth, predicted), 0.6123724356957945) AS rmse, near(millrace.r2(truth, predicted), 0.9486081370449679) AS r2 FROM v;
SELECT millrace.r2(1, 1) AS one_row, (SELECT millrace.r2(1, i) FROM generate_series(1, 3) i) AS constant_wrong, (SELECT millrace.r2(2, 2) FROM generate_series(1, 3)) AS constant_right;
SELECT millrace.r2('NaN', 1);
SELECT millrace.mean_absolute_error(1, 'Infinity');

-- Parallel workers give the same.
CREATE TABLE big AS SELECT (i * 7919 % 1009) / 1009.0 AS score, (i * 31 % 97) < 30 AS y, 'k' || i * 17 % 5 AS truth, 'k' || i * 13 % 7 AS predicted
FROM generate_series(1, 50000) i;
ALTER TABLE big SET (parallel_workers = 2);
ANALYZE big;
CREATE FUNCTION figures() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s %s %s %s %s', millrace.accuracy(truth, predicted), millrace.f1(truth, predicted, 'weighted'), md5(millrace.confusion_matrix(truth, predicted)::text),
		millrace.roc_auc(y, score), millrace.average_precision(y, score), round(millrace.log_loss(y, score)::numeric, 9), round(millrace.calibration_error(y, score, 7)::numeric, 9),
		round(millrace.r2(score, y::int)::numeric, 9)) FROM big
$$;
SET max_parallel_workers_per_gather = 0;
SELECT figures() AS serial \gset
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
SELECT figures() = :'serial' AS same;
EXPLAIN (COSTS OFF) SELECT millrace.roc_auc(y, score), millrace.f1(truth, predicted), millrace.r2(score, score), millrace.log_loss(y, score) FROM big;

-- A split that stays: keys keep their place when rows are added.
SELECT split, count(*) FROM (SELECT millrace.split_of(i::text) AS split FROM generate_series(1, 10000) i) q GROUP BY 1 ORDER BY 1;
SELECT split, count(*) FROM (SELECT millrace.split_of(i::text, 7, '{0.7,0.2,0.1}') AS split FROM generate_series(1, 10000) i) q GROUP BY 1 ORDER BY 1;
SELECT millrace.split_of('GALAXY-1'), millrace.split_of('GALAXY-1', 1), millrace.split_of('GALAXY-2', 0, '{0.5,0.5}', '{one,two}'), millrace.split_of(NULL);
SELECT count(*) FILTER (WHERE millrace.split_of(i::text, 0, '{0.1}', '{sample}') IS NOT NULL) AS sampled FROM generate_series(1, 10000) i;
SELECT millrace.split_of('a', 0, '{0.8,0.3}');
SELECT millrace.split_of('a', 0, '{0.8,0.2}', '{train}');
SELECT millrace.split_of('a', 0, '{0.4,0.2,0.2,0.2}');

DROP SCHEMA learn_metrics CASCADE;
