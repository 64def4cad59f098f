-- registry: finding parameters, and champions against challengers

CREATE FUNCTION millrace.challenge_model(name text, version integer, query text, target text, options jsonb DEFAULT '{}')
	RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_challenge_model';
COMMENT ON FUNCTION millrace.challenge_model(text, integer, text, text, jsonb) IS
	'compare a version (null: the newest) with the champion on the rows of a query, by a paired test, and promote it if it is better by the rule in the options; returns the row of millrace.challenges';
REVOKE EXECUTE ON FUNCTION millrace.challenge_model(text, integer, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.challenge_model(text, integer, text, text, jsonb) TO millrace_modeler;
