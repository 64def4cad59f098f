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
