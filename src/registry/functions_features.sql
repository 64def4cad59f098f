-- registry: a row of any table as a model's numbers

CREATE FUNCTION millrace.model_features(model text, "row" record) RETURNS real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 50 CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_model_features';
COMMENT ON FUNCTION millrace.model_features(text, record) IS
	'the columns of a row that a model was trained with, by name, as the numbers it takes: categories by value, null and unknown ones missing (NaN), arrays unrolled';
REVOKE EXECUTE ON FUNCTION millrace.model_features(text, record) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.model_features(text, record) TO millrace_user;
