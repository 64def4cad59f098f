-- learn: metrics as aggregates over any table
--
-- Rows with a NULL do not count; no rows at all give NULL.  The aggregates of a
-- family share one state, so that any number of them over the same columns
-- computes once.  They have no side effect: everybody may call them.

-- Labels: the true one and the predicted one.

CREATE FUNCTION millrace.labels_accum(internal, text, text) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_accum';
COMMENT ON FUNCTION millrace.labels_accum(internal, text, text) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.labels_accum(internal, text, text, text) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_accum';
COMMENT ON FUNCTION millrace.labels_accum(internal, text, text, text) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.labels_accum(internal, text, text, text, text) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_accum';
COMMENT ON FUNCTION millrace.labels_accum(internal, text, text, text, text) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.labels_combine(internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_combine';
COMMENT ON FUNCTION millrace.labels_combine(internal, internal) IS 'support function of aggregates: two partial states';

CREATE FUNCTION millrace.labels_serialize(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_serialize';
COMMENT ON FUNCTION millrace.labels_serialize(internal) IS 'support function of aggregates: to another process';

CREATE FUNCTION millrace.labels_deserialize(bytea, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_deserialize';
COMMENT ON FUNCTION millrace.labels_deserialize(bytea, internal) IS 'support function of aggregates: from another process';

CREATE FUNCTION millrace.labels_accuracy(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_accuracy';
COMMENT ON FUNCTION millrace.labels_accuracy(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_balanced_accuracy(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_balanced_accuracy';
COMMENT ON FUNCTION millrace.labels_balanced_accuracy(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_cohen_kappa(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_cohen_kappa';
COMMENT ON FUNCTION millrace.labels_cohen_kappa(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_mcc(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_mcc';
COMMENT ON FUNCTION millrace.labels_mcc(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_precision(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_precision';
COMMENT ON FUNCTION millrace.labels_precision(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_recall(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_recall';
COMMENT ON FUNCTION millrace.labels_recall(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_f1(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_labels_f1';
COMMENT ON FUNCTION millrace.labels_f1(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.labels_confusion(internal) RETURNS jsonb
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_confusion_matrix';
COMMENT ON FUNCTION millrace.labels_confusion(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.accuracy(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_accuracy,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.accuracy(text, text) IS
	'share of rows whose label was predicted right';

CREATE AGGREGATE millrace.balanced_accuracy(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_balanced_accuracy,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.balanced_accuracy(text, text) IS
	'mean over the classes of the share of their rows that were predicted right';

CREATE AGGREGATE millrace.cohen_kappa(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_cohen_kappa,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.cohen_kappa(text, text) IS
	'agreement beyond chance, -1 to 1; null when truth and prediction are the same single class';

CREATE AGGREGATE millrace.mcc(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_mcc,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.mcc(text, text) IS
	'Matthews correlation coefficient, also of many classes, -1 to 1; 0 where one side is constant';

CREATE AGGREGATE millrace.precision(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_precision,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.precision(text, text) IS
	'share of the rows predicted as a class that are of it: mean of the classes (macro)';

CREATE AGGREGATE millrace.precision(truth text, predicted text, average text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_precision,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.precision(text, text, text) IS
	'share of the rows predicted as a class that are of it; average: macro, micro, or weighted (by rows)';

CREATE AGGREGATE millrace.precision(truth text, predicted text, average text, label text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_precision,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.precision(text, text, text, text) IS
	'share of the rows predicted as a class that are of it; average binary: of the one class label';

CREATE AGGREGATE millrace.recall(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_recall,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.recall(text, text) IS
	'share of a class''s rows that were predicted as it: mean of the classes (macro)';

CREATE AGGREGATE millrace.recall(truth text, predicted text, average text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_recall,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.recall(text, text, text) IS
	'share of a class''s rows that were predicted as it; average: macro, micro, or weighted (by rows)';

CREATE AGGREGATE millrace.recall(truth text, predicted text, average text, label text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_recall,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.recall(text, text, text, text) IS
	'share of a class''s rows that were predicted as it; average binary: of the one class label';

CREATE AGGREGATE millrace.f1(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_f1,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.f1(text, text) IS
	'harmonic mean of precision and recall: mean of the classes (macro)';

CREATE AGGREGATE millrace.f1(truth text, predicted text, average text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_f1,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.f1(text, text, text) IS
	'harmonic mean of precision and recall; average: macro, micro, or weighted (by rows)';

CREATE AGGREGATE millrace.f1(truth text, predicted text, average text, label text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_f1,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.f1(text, text, text, text) IS
	'harmonic mean of precision and recall; average binary: of the one class label';

CREATE AGGREGATE millrace.confusion_matrix(truth text, predicted text) (
	SFUNC = millrace.labels_accum, STYPE = internal, SSPACE = 4096, FINALFUNC = millrace.labels_confusion,
	COMBINEFUNC = millrace.labels_combine, SERIALFUNC = millrace.labels_serialize, DESERIALFUNC = millrace.labels_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.confusion_matrix(text, text) IS
	'labels, and counts by true label (row) and predicted label (column), at most 1,000 labels; see millrace.confusion_cells and millrace.class_report';

CREATE FUNCTION millrace.confusion_cells(confusion jsonb)
	RETURNS TABLE (truth text, predicted text, count bigint)
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 100 SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT t.label, p.label, (confusion -> 'counts' -> (t.n - 1)::int ->> (p.n - 1)::int)::bigint
		FROM jsonb_array_elements_text(confusion -> 'labels') WITH ORDINALITY AS t(label, n),
			jsonb_array_elements_text(confusion -> 'labels') WITH ORDINALITY AS p(label, n)
		ORDER BY t.n, p.n
	$$;
COMMENT ON FUNCTION millrace.confusion_cells(jsonb) IS 'the cells of a confusion matrix as rows, those of no row too';

CREATE FUNCTION millrace.class_report(confusion jsonb)
	RETURNS TABLE (label text, "precision" double precision, recall double precision, f1 double precision,
		support bigint, predicted bigint)
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 10 SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT l.label, coalesce(hits::float8 / nullif(column_sum, 0), 0), coalesce(hits::float8 / nullif(row_sum, 0), 0),
			coalesce(2 * hits::float8 / nullif(row_sum + column_sum, 0), 0), row_sum::bigint, column_sum::bigint
		FROM jsonb_array_elements_text(confusion -> 'labels') WITH ORDINALITY AS l(label, n),
			LATERAL (SELECT (confusion -> 'counts' -> (l.n - 1)::int ->> (l.n - 1)::int)::bigint AS hits) h,
			LATERAL (SELECT sum(v::bigint) AS row_sum FROM jsonb_array_elements_text(confusion -> 'counts' -> (l.n - 1)::int) v) r,
			LATERAL (SELECT sum((c ->> (l.n - 1)::int)::bigint) AS column_sum FROM jsonb_array_elements(confusion -> 'counts') c) s
		ORDER BY l.n
	$$;
COMMENT ON FUNCTION millrace.class_report(jsonb) IS
	'precision, recall, F1, rows and predicted rows of each class of a confusion matrix';

-- Scores: whether a row is positive, and a number that is high where it should be.

CREATE FUNCTION millrace.scores_accum(internal, boolean, double precision) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_scores_accum';
COMMENT ON FUNCTION millrace.scores_accum(internal, boolean, double precision) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.scores_accum(internal, boolean, double precision, integer) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_scores_accum';
COMMENT ON FUNCTION millrace.scores_accum(internal, boolean, double precision, integer) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.scores_combine(internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_scores_combine';
COMMENT ON FUNCTION millrace.scores_combine(internal, internal) IS 'support function of aggregates: two partial states';

CREATE FUNCTION millrace.scores_serialize(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_scores_serialize';
COMMENT ON FUNCTION millrace.scores_serialize(internal) IS 'support function of aggregates: to another process';

CREATE FUNCTION millrace.scores_deserialize(bytea, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_scores_deserialize';
COMMENT ON FUNCTION millrace.scores_deserialize(bytea, internal) IS 'support function of aggregates: from another process';

CREATE FUNCTION millrace.scores_roc_auc(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_roc_auc';
COMMENT ON FUNCTION millrace.scores_roc_auc(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.scores_average_precision(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_average_precision';
COMMENT ON FUNCTION millrace.scores_average_precision(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.scores_roc_curve(internal) RETURNS millrace.roc_point[]
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_roc_curve';
COMMENT ON FUNCTION millrace.scores_roc_curve(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.scores_pr_curve(internal) RETURNS millrace.pr_point[]
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_pr_curve';
COMMENT ON FUNCTION millrace.scores_pr_curve(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.roc_auc(is_positive boolean, score double precision) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_roc_auc,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.roc_auc(boolean, double precision) IS
	'area under the ROC curve, ties count half; null unless there are positive and negative rows';

CREATE AGGREGATE millrace.average_precision(is_positive boolean, score double precision) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_average_precision,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.average_precision(boolean, double precision) IS
	'area under the precision-recall curve as a sum of steps; null without positive rows';

CREATE AGGREGATE millrace.pr_auc(is_positive boolean, score double precision) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_average_precision,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.pr_auc(boolean, double precision) IS
	'the same as millrace.average_precision';

CREATE AGGREGATE millrace.roc_curve(is_positive boolean, score double precision) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_roc_curve,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.roc_curve(boolean, double precision) IS
	'points of the ROC curve by falling threshold, without those on a straight line; null unless there are positive and negative rows';

CREATE AGGREGATE millrace.roc_curve(is_positive boolean, score double precision, points integer) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_roc_curve,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.roc_curve(boolean, double precision, integer) IS
	'the same with at most so many points';

CREATE AGGREGATE millrace.pr_curve(is_positive boolean, score double precision) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_pr_curve,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.pr_curve(boolean, double precision) IS
	'points of the precision-recall curve by falling threshold; null without positive rows';

CREATE AGGREGATE millrace.pr_curve(is_positive boolean, score double precision, points integer) (
	SFUNC = millrace.scores_accum, STYPE = internal, SSPACE = 65536, FINALFUNC = millrace.scores_pr_curve,
	COMBINEFUNC = millrace.scores_combine, SERIALFUNC = millrace.scores_serialize, DESERIALFUNC = millrace.scores_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.pr_curve(boolean, double precision, integer) IS
	'the same with at most so many points';

-- Probabilities: of one class against the rest, or of all classes.

CREATE FUNCTION millrace.probabilities_accum(internal, boolean, double precision) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_probabilities_accum';
COMMENT ON FUNCTION millrace.probabilities_accum(internal, boolean, double precision) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.probabilities_accum(internal, boolean, double precision, integer) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_probabilities_accum';
COMMENT ON FUNCTION millrace.probabilities_accum(internal, boolean, double precision, integer) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.probabilities_combine(internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_probabilities_combine';
COMMENT ON FUNCTION millrace.probabilities_combine(internal, internal) IS 'support function of aggregates: two partial states';

CREATE FUNCTION millrace.probabilities_serialize(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_probabilities_serialize';
COMMENT ON FUNCTION millrace.probabilities_serialize(internal) IS 'support function of aggregates: to another process';

CREATE FUNCTION millrace.distribution_accum(internal, text, double precision[], text[]) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_distribution_accum';
COMMENT ON FUNCTION millrace.distribution_accum(internal, text, double precision[], text[]) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.state_deserialize(bytea, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_state_deserialize';
COMMENT ON FUNCTION millrace.state_deserialize(bytea, internal) IS 'support function of aggregates: from another process';

CREATE FUNCTION millrace.probabilities_log_loss(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_log_loss';
COMMENT ON FUNCTION millrace.probabilities_log_loss(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.probabilities_brier_score(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_brier_score';
COMMENT ON FUNCTION millrace.probabilities_brier_score(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.probabilities_calibration_error(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_calibration_error';
COMMENT ON FUNCTION millrace.probabilities_calibration_error(internal) IS 'support function of aggregates: the figure';

CREATE FUNCTION millrace.probabilities_calibration_curve(internal) RETURNS millrace.calibration_bin[]
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_calibration_curve';
COMMENT ON FUNCTION millrace.probabilities_calibration_curve(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.log_loss(is_positive boolean, probability double precision) (
	SFUNC = millrace.probabilities_accum, STYPE = internal, FINALFUNC = millrace.probabilities_log_loss,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.log_loss(boolean, double precision) IS
	'mean of -ln of the probability given to what was true, at least 2.2e-16';

CREATE AGGREGATE millrace.log_loss(truth text, probabilities double precision[], labels text[]) (
	SFUNC = millrace.distribution_accum, STYPE = internal, FINALFUNC = millrace.probabilities_log_loss,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.log_loss(text, double precision[], text[]) IS
	'mean of -ln of the probability given to the true label, at least 2.2e-16; 0 is given to a label that is not among labels';

CREATE AGGREGATE millrace.brier_score(is_positive boolean, probability double precision) (
	SFUNC = millrace.probabilities_accum, STYPE = internal, FINALFUNC = millrace.probabilities_brier_score,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.brier_score(boolean, double precision) IS
	'mean squared distance of the probability from the truth, 0 to 1';

CREATE AGGREGATE millrace.brier_score(truth text, probabilities double precision[], labels text[]) (
	SFUNC = millrace.distribution_accum, STYPE = internal, FINALFUNC = millrace.probabilities_brier_score,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.brier_score(text, double precision[], text[]) IS
	'mean squared distance of the probabilities of all labels from the truth, 0 to 2';

CREATE AGGREGATE millrace.calibration_error(is_positive boolean, probability double precision) (
	SFUNC = millrace.probabilities_accum, STYPE = internal, FINALFUNC = millrace.probabilities_calibration_error,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.calibration_error(boolean, double precision) IS
	'expected calibration error: mean distance of probability and frequency in ten bins; for many classes pass truth = predicted and the highest probability';

CREATE AGGREGATE millrace.calibration_error(is_positive boolean, probability double precision, bins integer) (
	SFUNC = millrace.probabilities_accum, STYPE = internal, FINALFUNC = millrace.probabilities_calibration_error,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.calibration_error(boolean, double precision, integer) IS
	'the same in so many bins';

CREATE AGGREGATE millrace.calibration_curve(is_positive boolean, probability double precision) (
	SFUNC = millrace.probabilities_accum, STYPE = internal, FINALFUNC = millrace.probabilities_calibration_curve,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.calibration_curve(boolean, double precision) IS
	'mean probability and frequency in ten bins, those that have rows';

CREATE AGGREGATE millrace.calibration_curve(is_positive boolean, probability double precision, bins integer) (
	SFUNC = millrace.probabilities_accum, STYPE = internal, FINALFUNC = millrace.probabilities_calibration_curve,
	COMBINEFUNC = millrace.probabilities_combine, SERIALFUNC = millrace.probabilities_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.calibration_curve(boolean, double precision, integer) IS
	'the same in so many bins';

-- Values.

CREATE FUNCTION millrace.residuals_accum(internal, double precision, double precision) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_residuals_accum';
COMMENT ON FUNCTION millrace.residuals_accum(internal, double precision, double precision) IS 'support function of aggregates: a row';

CREATE FUNCTION millrace.residuals_combine(internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_residuals_combine';
COMMENT ON FUNCTION millrace.residuals_combine(internal, internal) IS 'support function of aggregates: two partial states';

CREATE FUNCTION millrace.residuals_serialize(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_residuals_serialize';
COMMENT ON FUNCTION millrace.residuals_serialize(internal) IS 'support function of aggregates: to another process';

CREATE FUNCTION millrace.residuals_mean_absolute_error(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_mean_absolute_error';
COMMENT ON FUNCTION millrace.residuals_mean_absolute_error(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.mean_absolute_error(truth double precision, predicted double precision) (
	SFUNC = millrace.residuals_accum, STYPE = internal, FINALFUNC = millrace.residuals_mean_absolute_error,
	COMBINEFUNC = millrace.residuals_combine, SERIALFUNC = millrace.residuals_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.mean_absolute_error(double precision, double precision) IS
	'mean of |predicted - truth|';

CREATE FUNCTION millrace.residuals_mean_squared_error(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_mean_squared_error';
COMMENT ON FUNCTION millrace.residuals_mean_squared_error(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.mean_squared_error(truth double precision, predicted double precision) (
	SFUNC = millrace.residuals_accum, STYPE = internal, FINALFUNC = millrace.residuals_mean_squared_error,
	COMBINEFUNC = millrace.residuals_combine, SERIALFUNC = millrace.residuals_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.mean_squared_error(double precision, double precision) IS
	'mean of (predicted - truth) squared';

CREATE FUNCTION millrace.residuals_root_mean_squared_error(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_root_mean_squared_error';
COMMENT ON FUNCTION millrace.residuals_root_mean_squared_error(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.root_mean_squared_error(truth double precision, predicted double precision) (
	SFUNC = millrace.residuals_accum, STYPE = internal, FINALFUNC = millrace.residuals_root_mean_squared_error,
	COMBINEFUNC = millrace.residuals_combine, SERIALFUNC = millrace.residuals_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.root_mean_squared_error(double precision, double precision) IS
	'square root of the mean of (predicted - truth) squared';

CREATE FUNCTION millrace.residuals_r2(internal) RETURNS double precision
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_r2';
COMMENT ON FUNCTION millrace.residuals_r2(internal) IS 'support function of aggregates: the figure';

CREATE AGGREGATE millrace.r2(truth double precision, predicted double precision) (
	SFUNC = millrace.residuals_accum, STYPE = internal, FINALFUNC = millrace.residuals_r2,
	COMBINEFUNC = millrace.residuals_combine, SERIALFUNC = millrace.residuals_serialize, DESERIALFUNC = millrace.state_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.r2(double precision, double precision) IS
	'share of the truth''s variance that is explained, at most 1; null for fewer than two rows, and of a constant truth 1 if all is right, else 0';

-- Splits.

CREATE FUNCTION millrace.split_of(key text, seed bigint DEFAULT 0, shares double precision[] DEFAULT '{0.8,0.2}',
	names text[] DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_split_of';
COMMENT ON FUNCTION millrace.split_of(text, bigint, double precision[], text[]) IS
	'the split that a hash of the key falls into: train or test, or by your shares and names; the same key is always in the same, whatever rows come or go; null beyond the shares';
