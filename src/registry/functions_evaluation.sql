-- registry: measuring models and algorithms; nothing of this is stored

CREATE FUNCTION millrace.cross_validate(algorithm text, query text, target text, options jsonb DEFAULT '{}')
	RETURNS TABLE (fold integer, train_rows bigint, test_rows bigint, metrics jsonb, per_class jsonb,
		train_seconds double precision, predict_us double precision)
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT COST 100000 ROWS 5
	AS 'MODULE_PATHNAME', 'millrace_cross_validate';
COMMENT ON FUNCTION millrace.cross_validate(text, text, text, jsonb) IS
	'train an algorithm on the folds of a query''s rows, read once as the caller, and measure it on the rest of each: stratified, by group, or by time with order_by; test_share makes one hold-out';
REVOKE EXECUTE ON FUNCTION millrace.cross_validate(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.cross_validate(text, text, text, jsonb) TO millrace_modeler;

CREATE FUNCTION millrace.permutation_importance(model text, query text, target text, options jsonb DEFAULT '{}')
	RETURNS TABLE (feature text, importance double precision, deviation double precision, baseline double precision)
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT COST 100000 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_permutation_importance';
COMMENT ON FUNCTION millrace.permutation_importance(text, text, text, jsonb) IS
	'by how much a metric (baseline) worsens when one feature''s values are shuffled among the rows: mean and standard deviation of n_repeats, the most important first';

CREATE FUNCTION millrace.partial_dependence(model text, query text, feature text, options jsonb DEFAULT '{}')
	RETURNS TABLE (value real, category text, label text, average double precision)
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT COST 100000 ROWS 60
	AS 'MODULE_PATHNAME', 'millrace_partial_dependence';
COMMENT ON FUNCTION millrace.partial_dependence(text, text, text, jsonb) IS
	'mean answer of a model over the rows when one feature has the same value in all of them: a probability for each label, or the predicted value; at quantiles of the feature, or all its categories';

REVOKE EXECUTE ON FUNCTION
	millrace.permutation_importance(text, text, text, jsonb),
	millrace.partial_dependence(text, text, text, jsonb)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	millrace.permutation_importance(text, text, text, jsonb),
	millrace.partial_dependence(text, text, text, jsonb)
	TO millrace_modeler;
