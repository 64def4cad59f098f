-- registry: inference, where people type queries
--
-- Costs are high enough to be put last in a WHERE and to be worth a parallel
-- plan, and some hundred times below the truth for a network: with the truth,
-- a few hundred rows would pass jit_above_cost, and loading LLVM costs a
-- connection some 30 ms for nothing, since our time is not in expressions.

CREATE FUNCTION @extschema@.extract_descriptors(image bytea, model text DEFAULT NULL) RETURNS real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_extract_descriptors';
COMMENT ON FUNCTION @extschema@.extract_descriptors(bytea, text) IS
	'descriptors of a JPEG or PNG: prepared as the model''s specification says, run through the network, projected if the model is a PCA';

CREATE FUNCTION @extschema@.extract_descriptors(images bytea[], model text DEFAULT NULL) RETURNS SETOF real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_extract_descriptors_set';
COMMENT ON FUNCTION @extschema@.extract_descriptors(bytea[], text) IS
	'descriptors of each image, in order; null for null';

CREATE FUNCTION @extschema@.classify(descriptors real[], model text DEFAULT NULL) RETURNS millrace.classification
	LANGUAGE c STABLE PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_classify';
COMMENT ON FUNCTION @extschema@.classify(real[], text) IS
	'likeliest class of one row; for many rows at once see millrace.classify_rows';

CREATE FUNCTION @extschema@.class_probabilities(descriptors real[], model text DEFAULT NULL)
	RETURNS TABLE (label text, probability real)
	LANGUAGE c STABLE PARALLEL SAFE COST 100 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_class_probabilities';
COMMENT ON FUNCTION @extschema@.class_probabilities(real[], text) IS
	'probability of each class, in the order of the model''s labels';

CREATE FUNCTION @extschema@.predict(features real[], model text DEFAULT NULL) RETURNS real
	LANGUAGE c STABLE PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_predict';
COMMENT ON FUNCTION @extschema@.predict(real[], text) IS
	'value that a regression model gives for one row, or the number of the nearest centre of a clustering';

CREATE FUNCTION @extschema@.infer(model text, input real[], shape integer[] DEFAULT NULL) RETURNS real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_infer';
COMMENT ON FUNCTION @extschema@.infer(text, real[], integer[]) IS
	'numbers in, numbers out: the output named by the specification (else the first), probabilities of a classifier, projection of a PCA; with shape, the answer has the output''s dimensions';

CREATE FUNCTION @extschema@.infer_json(model text, inputs jsonb) RETURNS jsonb
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_infer_json';
COMMENT ON FUNCTION @extschema@.infer_json(text, jsonb) IS
	'all inputs by name to all outputs by name, as nested arrays';

-- registry: inference for triggers and scripts

CREATE FUNCTION millrace.resolve_model(model text, task text DEFAULT 'descriptors') RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_resolve_model';
COMMENT ON FUNCTION millrace.resolve_model(text, text) IS
	'what a model reference means now, as name:version; null: the default of the task: descriptors, classifier, encoder or detector';

CREATE FUNCTION millrace.try_extract_descriptors(image bytea, model text DEFAULT NULL) RETURNS millrace.extraction
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_try_extract_descriptors';
COMMENT ON FUNCTION millrace.try_extract_descriptors(bytea, text) IS
	'extract_descriptors that answers a bad image with sqlstate and message instead of an error; a missing model is an error';

CREATE FUNCTION millrace.classify_rows(descriptors real[], model text DEFAULT NULL) RETURNS SETOF millrace.classification
	LANGUAGE c STABLE PARALLEL SAFE COST 5000 ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_classify_rows';
COMMENT ON FUNCTION millrace.classify_rows(real[], text) IS
	'likeliest class of each row of a two-dimensional array, in order';

CREATE FUNCTION millrace.model_plan(model text, "analyze" boolean DEFAULT false)
	RETURNS TABLE (step integer, node text, kernel text, detail text, output text, layout text,
		weight_bytes bigint, data_bytes bigint, flops bigint, ms double precision, gflops double precision)
	LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_model_plan';
COMMENT ON FUNCTION millrace.model_plan(text, boolean) IS
	'the steps a network is run in, after fusion: kernel, shape of the result, bytes, floating point operations; with analyze it is run a few times and ms is each step''s least time';

CREATE FUNCTION millrace.operators()
	RETURNS TABLE (domain text, operator text, since_opset integer, until_opset integer, kernel text)
	LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 200
	AS 'MODULE_PATHNAME', 'millrace_operators';
COMMENT ON FUNCTION millrace.operators() IS 'the engine''s table of ONNX operators; see the view millrace.supported_operators';

CREATE FUNCTION millrace.prewarm(model text) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000
	AS 'MODULE_PATHNAME', 'millrace_prewarm';
COMMENT ON FUNCTION millrace.prewarm(text) IS
	'compile a model if need be, map it and read its file into memory; returns the bytes of the file';

CREATE FUNCTION millrace.model_statistics()
	RETURNS TABLE (name text, version integer, calls bigint, "rows" bigint, seconds double precision, loads bigint,
		builds bigint, file_bytes bigint, work_bytes bigint, errors bigint, cpu_seconds double precision, peak_bytes bigint, last_used timestamptz, since timestamptz)
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
	AS 'MODULE_PATHNAME', 'millrace_stat_models';
COMMENT ON FUNCTION millrace.model_statistics() IS 'counters of this database''s models; see the view millrace.stat_models';

CREATE FUNCTION millrace.stat_models_reset() RETURNS void
	LANGUAGE c VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'millrace_stat_models_reset';
COMMENT ON FUNCTION millrace.stat_models_reset() IS 'set millrace.stat_models of this database to zero';

-- registry: administration

CREATE FUNCTION millrace.import_model(name text, content bytea, spec jsonb DEFAULT '{}') RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_import_model';
COMMENT ON FUNCTION millrace.import_model(text, bytea, jsonb) IS
	'register an ONNX file, or what millrace.model_bytes() gave in another database, as a new version; returns its number. Labels and task of a classifier or regressor are found in the graph, unless the specification has them';

CREATE FUNCTION millrace.import_model_files(name text, files jsonb, spec jsonb DEFAULT '{}') RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_import_model_files';
COMMENT ON FUNCTION millrace.import_model_files(text, jsonb, jsonb) IS
	'import_model from large objects: {"model.onnx": oid}, or all files of a language model''s folder, by their names within it: {"config.json": oid, "model.safetensors": oid, "tokenizer.json": oid, "1_Pooling/config.json": oid}';

CREATE FUNCTION millrace.model_bytes(model text) RETURNS bytea
	LANGUAGE c STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_model_bytes';
COMMENT ON FUNCTION millrace.model_bytes(text) IS
	'the bytes of a model version: what was imported, or what training made; import_model takes them in another database';

CREATE FUNCTION millrace.quantize_model(model text, calibration text, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_quantize_model';
COMMENT ON FUNCTION millrace.quantize_model(text, text, jsonb) IS
	'register an int8 version of a network, calibrated on the images or numbers of a query, and measured against the original on a part of them: see millrace.quantized_models; returns name:version';

CREATE FUNCTION millrace.promote_model(name text, version integer, alias text DEFAULT 'champion', reason text DEFAULT NULL)
	RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_promote_model';
COMMENT ON FUNCTION millrace.promote_model(text, integer, text, text) IS
	'point an alias at a version; millrace.alias_history keeps when, who and why';

CREATE FUNCTION millrace.rollback_model(name text, alias text DEFAULT 'champion', reason text DEFAULT NULL) RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_rollback_model';
COMMENT ON FUNCTION millrace.rollback_model(text, text, text) IS
	'point an alias at the live version it stood for before; again: one further back; returns that version';

CREATE FUNCTION millrace.model_at(name text, at timestamptz, alias text DEFAULT NULL) RETURNS integer
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN COALESCE(
		(SELECT h.version FROM millrace.alias_history h
			WHERE h.name = model_at.name AND h.alias = COALESCE(model_at.alias, 'champion') AND h.set_at <= model_at.at
			ORDER BY h.id DESC LIMIT 1),
		CASE WHEN model_at.alias IS NULL THEN
			(SELECT pg_catalog.max(m.version) FROM millrace.models m
				WHERE m.name = model_at.name AND m.created_at <= model_at.at AND (m.retired_at IS NULL OR m.retired_at > model_at.at))
		END);
COMMENT ON FUNCTION millrace.model_at(text, timestamptz, text) IS
	'version that an alias stood for at a time; without an alias, what the bare name meant: the champion, else the newest live version';

CREATE FUNCTION millrace.drop_alias(name text, alias text, reason text DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_drop_alias';
COMMENT ON FUNCTION millrace.drop_alias(text, text, text) IS 'remove an alias of a model; its history stays';

CREATE FUNCTION millrace.drop_model(name text, version integer DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_drop_model';
COMMENT ON FUNCTION millrace.drop_model(text, integer) IS
	'retire a version, or the model with all its versions and aliases: bytes go, the rows stay as the origin of what was predicted';

CREATE FUNCTION millrace.install_models(include_dropped boolean DEFAULT false)
	RETURNS TABLE (model text, action text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_install_models';
COMMENT ON FUNCTION millrace.install_models(boolean) IS
	'register the models that come with Millrace; again after an upgrade; what is there stays, aliases are not touched';

REVOKE EXECUTE ON FUNCTION
	@extschema@.extract_descriptors(bytea, text),
	@extschema@.extract_descriptors(bytea[], text),
	@extschema@.classify(real[], text),
	@extschema@.class_probabilities(real[], text),
	@extschema@.predict(real[], text),
	@extschema@.infer(text, real[], integer[]),
	@extschema@.infer_json(text, jsonb),
	millrace.resolve_model(text, text),
	millrace.try_extract_descriptors(bytea, text),
	millrace.classify_rows(real[], text),
	millrace.model_at(text, timestamptz, text),
	millrace.model_plan(text, boolean),
	millrace.prewarm(text),
	millrace.model_statistics(),
	millrace.stat_models_reset(),
	millrace.import_model(text, bytea, jsonb),
	millrace.import_model_files(text, jsonb, jsonb),
	millrace.model_bytes(text),
	millrace.quantize_model(text, text, jsonb),
	millrace.promote_model(text, integer, text, text),
	millrace.rollback_model(text, text, text),
	millrace.drop_alias(text, text, text),
	millrace.drop_model(text, integer),
	millrace.install_models(boolean)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.extract_descriptors(bytea, text),
	@extschema@.extract_descriptors(bytea[], text),
	@extschema@.classify(real[], text),
	@extschema@.class_probabilities(real[], text),
	@extschema@.predict(real[], text),
	@extschema@.infer(text, real[], integer[]),
	@extschema@.infer_json(text, jsonb),
	millrace.resolve_model(text, text),
	millrace.try_extract_descriptors(bytea, text),
	millrace.classify_rows(real[], text),
	millrace.model_plan(text, boolean),
	millrace.prewarm(text)
	TO millrace_user;
GRANT EXECUTE ON FUNCTION millrace.model_at(text, timestamptz, text), millrace.model_statistics() TO millrace_user, millrace_monitor;
GRANT EXECUTE ON FUNCTION millrace.stat_models_reset() TO millrace_admin;
GRANT EXECUTE ON FUNCTION
	millrace.import_model(text, bytea, jsonb),
	millrace.import_model_files(text, jsonb, jsonb),
	millrace.model_bytes(text),
	millrace.quantize_model(text, text, jsonb),
	millrace.promote_model(text, integer, text, text),
	millrace.rollback_model(text, text, text),
	millrace.drop_alias(text, text, text),
	millrace.drop_model(text, integer),
	millrace.install_models(boolean)
	TO millrace_modeler;
GRANT EXECUTE ON FUNCTION millrace.install_models(boolean) TO millrace_admin;
