-- int8 versions of a network: calibrated on a query, measured on a part of it; and bfloat16.
\set net '\\x080712086d696c6c726163653a8e030a2a0a05696d6167650a01771201632204436f6e762a150a0c6b65726e656c5f736861706540014001a001070a0c0a0163120172220452656c750a190a01721201702211476c6f62616c41766572616765506f6f6c0a230a0170120866656174757265732207466c617474656e2a0b0a04617869731801a001020a1e0a0866656174757265730a01670a016212066c6f67697473220447656d6d12036e65742a3f080408030801080110014201774a300000803f0000000000000000000000000000803f0000000000000000000000000000803f000080bf0000003f0000003f2a3b0804080310014201674a300000004000000000000000000000000000000040000000000000000000000000000000400000000000000000000000002a15080310014201624a0c0000003f00000000000000bf5a200a05696d61676512170a15080112110a0312014e0a0208030a0208040a020804621b0a086665617475726573120f0a0d080112090a0312014e0a02080462190a066c6f67697473120f0a0d080112090a0312014e0a02080342040a00100d'
\set pca '\\x4d524c4541524e000100000003000000040000000000000002000000000000009800000000000000c2604ab338fbd77000000000000000000000000000000000030000000200000077770710f36df23fdeddbde26af3fbbf4444747b5432e03f666630bc510be23fe018eeaa083bdbbf3a727517326cec3fc0da0508b756a13fe46d38916dc3c5bf612f0bcd4401c73fec8afc5cb317cc3f5f93f6d16ad7e03f444f1bb59aa6e93f00000000000000000000000000000000ed0bea58518d0c405bf558eab5f5d13f5109c9bae083ed3f785dc74ccd90b23f'
\set red '\\x89504e470d0a1a0a0000000d494844520000000400000004080200000026930929000000104944415478da63fccf80004c0c44710033d10107d28591370000000049454e44ae426082'
\set blues '\\x89504e470d0a1a0a0000000d4948445200000004000000040802000000269309290000001f4944415478da6364606060601084204606061738870599c3c8c07006ce01002b6202288a082f6c0000000049454e44ae426082'
CREATE TABLE quantize_rows AS SELECT i, array_agg(((i * 37 + k * 101 + i * k * 7) % 256 / 255.0)::real ORDER BY k) AS x
	FROM generate_series(1, 60) i, generate_series(1, 48) k GROUP BY i;
SELECT millrace.import_model('q', :'net', '{"output": "logits", "labels": ["r", "g", "b"], "input": {"std": 0.5}}');

-- A version beside the original, with the agreement stored and its parent known.
SELECT millrace.quantize_model('q', 'SELECT x FROM quantize_rows ORDER BY i', '{"method": "minmax", "description": "small"}');
SELECT name, version, kind, labels, n_inputs, n_outputs, origin, spec, training - 'snapshot' - 'millrace' AS training
FROM millrace.models WHERE name = 'q' AND version = 2;
SELECT name, version, quantized_from, method, calibration_rows, holdout_rows, cosine BETWEEN 0.999 AND 1 AS cosine,
	worst_cosine BETWEEN 0.99 AND cosine AS worst_cosine, top1_agreement > 0.9 AS top1, max_abs_error < 0.1 AS max_abs_error,
	layers, layers_float32
FROM millrace.quantized_models WHERE name = 'q';
SELECT max(abs(a - b)) BETWEEN 1e-6 AND 0.1 AS close_not_equal
FROM quantize_rows, LATERAL unnest(infer('q:1', x), infer('q:2', x)) u(a, b);
SELECT count(*) > 0 AS runs_in_int8 FROM millrace.model_plan('q:2') WHERE output LIKE '%uint8%' OR layout LIKE '%uint8%';
-- Images, prepared as the specification says; the other methods; layers that stay.
SELECT millrace.quantize_model('q:1', format($$SELECT %L::bytea FROM generate_series(1, 4) UNION ALL SELECT %L::bytea FROM generate_series(1, 4)$$,
	:'red', :'blues'), '{"method": "entropy", "holdout": 0.25, "keep": ["logits"], "min_cosine": 0.9}');
SELECT millrace.quantize_model('q:1', 'SELECT x::float8[] FROM quantize_rows', '{"percentile": 99, "keep_first": true, "min_cosine": 0.9}');
SELECT version, method, calibration_rows, holdout_rows, layers_float32 FROM millrace.quantized_models WHERE name = 'q' AND version > 2 ORDER BY version;
-- An int8 version may be imported elsewhere: it is an ONNX file.
SELECT millrace.import_model('q_copy', millrace.model_bytes('q:2'), '{"output": "logits"}');
SELECT bool_and(infer('q:2', x) = infer('q_copy', x)) AS same FROM quantize_rows;

-- What is refused.
SELECT millrace.quantize_model(NULL, 'SELECT 1');
SELECT millrace.quantize_model('q', NULL);
SELECT millrace.quantize_model('nobody', 'SELECT 1');
SELECT millrace.import_model('q_pca', :'pca');
SELECT millrace.quantize_model('q_pca', 'SELECT x FROM quantize_rows');
SELECT millrace.quantize_model('q:2', 'SELECT x FROM quantize_rows');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', o::jsonb)
FROM unnest(ARRAY['{"method": "magic"}']) o;
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"bits": 4}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"percentile": 20}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"holdout": 0}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"keep": "logits"}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"keep": [1]}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"max_layers_kept": 1.5}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"keep": ["nothing"]}');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '[]');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"keep": ["r", "logits"]}');
\set VERBOSITY sqlstate
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"min_cosine": 1, "max_layers_kept": 1}');
\set VERBOSITY default
SELECT millrace.quantize_model('q:1', 'SELECT x, x FROM quantize_rows');
SELECT millrace.quantize_model('q:1', 'SELECT i FROM quantize_rows');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows WHERE false');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows LIMIT 3');
SELECT millrace.quantize_model('q:1', 'SELECT NULLIF(x, x) FROM quantize_rows');
SELECT millrace.quantize_model('q:1', 'SELECT x[1:47] FROM quantize_rows');
SELECT millrace.quantize_model('q:1', $$SELECT array_replace(x, x[1], 'NaN') FROM quantize_rows ORDER BY i$$);
SELECT millrace.quantize_model('q:1', $$SELECT 'no image'::bytea FROM quantize_rows$$);
SELECT millrace.quantize_model('q:1', 'DELETE FROM quantize_rows RETURNING x');
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows FOR UPDATE');
SELECT millrace.quantize_model('q:1', 'SELECT 1; SELECT 2');
BEGIN READ ONLY;
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows');
ROLLBACK;
SELECT count(*) FROM millrace.models WHERE name = 'q';

-- It reads as its caller, and needs the right to make models.
CREATE ROLE quantize_reader;
CREATE ROLE quantize_maker;
GRANT millrace_user TO quantize_reader;
GRANT millrace_modeler TO quantize_maker;
SET ROLE quantize_reader;
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows');
SELECT count(*) FROM millrace.quantized_models;
RESET ROLE;
SET ROLE quantize_maker;
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows');
RESET ROLE;
GRANT SELECT ON quantize_rows TO quantize_maker;
SET ROLE quantize_maker;
SELECT millrace.quantize_model('q:1', 'SELECT x FROM quantize_rows', '{"min_cosine": 0.9}');
SELECT name, version, created_by FROM millrace.models WHERE name = 'q' ORDER BY version DESC LIMIT 1;
RESET ROLE;

-- bfloat16: the same file, other arithmetic.
SELECT millrace.import_model('q_half', :'net', '{"output": "logits", "input": {"std": 0.5}, "precision": "bfloat16"}');
SELECT max(abs(a - b) / (1 + abs(a))) < 0.02 AS close FROM quantize_rows, LATERAL unnest(infer('q:1', x), infer('q_half', x)) u(a, b);
SELECT millrace.import_model('q_half', :'net', '{"precision": "int8"}');
SELECT millrace.import_model('q_half', :'net', '{"precision": 16}');
SELECT millrace.import_model('q_half', :'pca', '{"precision": "bfloat16"}');

DROP TABLE quantize_rows;
DROP OWNED BY quantize_reader, quantize_maker;
DROP ROLE quantize_reader, quantize_maker;
