-- registry: finding parameters, and champions against challengers

CREATE FUNCTION millrace.tune_model(name text, algorithm text, query text, target text, space jsonb, options jsonb DEFAULT '{}')
	RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_tune_model';
COMMENT ON FUNCTION millrace.tune_model(text, text, text, text, jsonb, jsonb) IS
	'search for the best parameters of an algorithm by cross-validation on the rows of a query: random, grid or successive halving; every trial is a row of millrace.trials; returns the version that the best one became';
REVOKE EXECUTE ON FUNCTION millrace.tune_model(text, text, text, text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.tune_model(text, text, text, text, jsonb, jsonb) TO millrace_modeler;

CREATE FUNCTION millrace.challenge_model(name text, version integer, query text, target text, options jsonb DEFAULT '{}')
	RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_challenge_model';
COMMENT ON FUNCTION millrace.challenge_model(text, integer, text, text, jsonb) IS
	'compare a version (null: the newest) with the champion on the rows of a query, by a paired test, and promote it if it is better by the rule in the options; returns the row of millrace.challenges';
REVOKE EXECUTE ON FUNCTION millrace.challenge_model(text, integer, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.challenge_model(text, integer, text, text, jsonb) TO millrace_modeler;
