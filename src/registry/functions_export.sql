-- registry: models for other runtimes

CREATE FUNCTION millrace.export_onnx(model text) RETURNS bytea
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100000
	AS 'MODULE_PATHNAME', 'millrace_export_onnx';
COMMENT ON FUNCTION millrace.export_onnx(text) IS
	'a model version as an ONNX file (opset 13, ai.onnx.ml 3) that answers as it does here, within 1e-5: input X float [N, features]; outputs of classifiers label and probabilities, of regressions and pca variable, of kmeans label and scores; a network is what was imported';

REVOKE EXECUTE ON FUNCTION millrace.export_onnx(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.export_onnx(text) TO millrace_modeler;
