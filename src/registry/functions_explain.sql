-- registry: why a model answers what it answers

CREATE FUNCTION @extschema@.explain(model text, features real[])
	RETURNS TABLE (feature text, label text, value real, contribution double precision)
	LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 20
	AS 'MODULE_PATHNAME', 'millrace_explain';
COMMENT ON FUNCTION @extschema@.explain(text, real[]) IS
	'what each feature of a row contributed to the model''s answer, by label: SHAP values of trees, coefficient times value of linear models; the row without a feature is the expected value, and a label''s contributions sum to its probability (forests), the predicted value (regression) or its margin (boosting, linear models)';

CREATE FUNCTION millrace.feature_importances(model text)
	RETURNS TABLE (feature text, importance double precision)
	LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 20
	AS 'MODULE_PATHNAME', 'millrace_feature_importances';
COMMENT ON FUNCTION millrace.feature_importances(text) IS
	'share of each feature in what a model learnt: impurity or loss that its splits took away, or its absolute coefficients; the sum is 1';

REVOKE EXECUTE ON FUNCTION @extschema@.explain(text, real[]), millrace.feature_importances(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.explain(text, real[]), millrace.feature_importances(text) TO millrace_user;
