-- learn: training in SQL (C in registry/train_pg.c and registry/evaluate_pg.c)

CREATE FUNCTION millrace.train_model(name text, algorithm text, query text, target text, options jsonb DEFAULT '{}')
	RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_train_model';
COMMENT ON FUNCTION millrace.train_model(text, text, text, text, jsonb) IS
	'train an algorithm on the rows of a query, read as the caller; returns the new version';
REVOKE EXECUTE ON FUNCTION millrace.train_model(text, text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.train_model(text, text, text, text, jsonb) TO millrace_modeler;

CREATE FUNCTION millrace.evaluate_model(model text, query text, target text, options jsonb DEFAULT '{}')
	RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_evaluate_model';
COMMENT ON FUNCTION millrace.evaluate_model(text, text, text, jsonb) IS
	'measure a classifier or regressor on the rows of a query, read as the caller; returns the id of a row in millrace.evaluations';
REVOKE EXECUTE ON FUNCTION millrace.evaluate_model(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.evaluate_model(text, text, text, jsonb) TO millrace_modeler;
