-- Networks: tiny ONNX files made by t/lib/tiny_onnx.py, and images of 4 x 4 pixels.
\set net '\\x080712086d696c6c726163653a8e030a2a0a05696d6167650a01771201632204436f6e762a150a0c6b65726e656c5f736861706540014001a001070a0c0a0163120172220452656c750a190a01721201702211476c6f62616c41766572616765506f6f6c0a230a0170120866656174757265732207466c617474656e2a0b0a04617869731801a001020a1e0a0866656174757265730a01670a016212066c6f67697473220447656d6d12036e65742a3f080408030801080110014201774a300000803f0000000000000000000000000000803f0000000000000000000000000000803f000080bf0000003f0000003f2a3b0804080310014201674a300000004000000000000000000000000000000040000000000000000000000000000000400000000000000000000000002a15080310014201624a0c0000003f00000000000000bf5a200a05696d61676512170a15080112110a0312014e0a0208030a0208040a020804621b0a086665617475726573120f0a0d080112090a0312014e0a02080462190a066c6f67697473120f0a0d080112090a0312014e0a02080342040a00100d'
\set two '\\x080712086d696c6c726163653a5b0a100a01610a0162120373756d2203416464120374776f5a140a0161120f0a0d080112090a0312014e0a0208025a140a0162120f0a0d080112090a0312014e0a02080262160a0373756d120f0a0d080112090a0312014e0a02080242040a00100d'
\set odd '\\x080712086d696c6c726163653a4e0a1b0a01611201791a076f6464206f6e65220a46726f626e696361746512036f64645a140a0161120f0a0d080112090a0312014e0a02080262140a0179120f0a0d080112090a0312014e0a02080242040a00100d'
\set pca '\\x4d524c4541524e000100000003000000040000000000000002000000000000009800000000000000c2604ab338fbd77000000000000000000000000000000000030000000200000077770710f36df23fdeddbde26af3fbbf4444747b5432e03f666630bc510be23fe018eeaa083bdbbf3a727517326cec3fc0da0508b756a13fe46d38916dc3c5bf612f0bcd4401c73fec8afc5cb317cc3f5f93f6d16ad7e03f444f1bb59aa6e93f00000000000000000000000000000000ed0bea58518d0c405bf558eab5f5d13f5109c9bae083ed3f785dc74ccd90b23f'
\set red '\\x89504e470d0a1a0a0000000d494844520000000400000004080200000026930929000000104944415478da63fccf80004c0c44710033d10107d28591370000000049454e44ae426082'
\set blues '\\x89504e470d0a1a0a0000000d4948445200000004000000040802000000269309290000001f4944415478da6364606060601084204606061738870599c3c8c07006ce01002b6202288a082f6c0000000049454e44ae426082'
SET extra_float_digits = 0;

-- The answer is the output that the specification names, else the first.
SELECT millrace.import_model('net', :'net');
SELECT millrace.import_model('net', :'net', '{"output": "logits", "labels": ["r", "g", "b"], "input": {"mean": 0.5, "std": 0.5}}');
SELECT reference, kind, n_inputs, n_outputs, classes FROM millrace.model_versions WHERE name = 'net' ORDER BY version;
SELECT extract_descriptors(:'red'::bytea, 'net:1') AS red, extract_descriptors(:'red'::bytea, 'net:2') AS logits_of_signed_red;
SELECT extract_descriptors(:'red'::bytea, 'net:1') = infer('net:1', array_fill(1::real, ARRAY[16]) || array_fill(0::real, ARRAY[32])) AS as_infer;

-- What a specification does to pixels: (p / 255 * (high - low) + low - mean) / std, planes in the order of the channels.
SELECT millrace.import_model('bgr', :'net', '{"input": {"channels": "bgr"}}');
SELECT millrace.import_model('signed', :'net', '{"input": {"range": [-1, 1]}}');
SELECT millrace.import_model('raw', :'net', '{"input": {"range": [0, 255], "mean": [255, 0, 0], "std": [1, 1, 2]}}');
SELECT m, extract_descriptors(:'red'::bytea, m) FROM unnest('{bgr,signed,raw}'::text[]) m;
SELECT extract_descriptors(:'blues'::bytea, 'net:1') AS mean_of_a_ramp;

-- Sets: in order, null for null; an image alone is as in a set.
SELECT d, d = extract_descriptors(i, 'net:1') AS as_alone
FROM ROWS FROM (extract_descriptors(ARRAY[:'red', NULL, :'blues']::bytea[], 'net:1'), unnest(ARRAY[:'red', NULL, :'blues']::bytea[])) x(d, i);

-- Bad images: an error, or a row that says so.
SELECT extract_descriptors('not an image'::bytea, 'net:1');
SELECT extract_descriptors(''::bytea, 'net:1');
SELECT x.descriptors, x.model, x.content_sha256 = sha256(i) AS sha, x.extract_ms >= 0 AS timed, x.sqlstate, x.message
FROM unnest(ARRAY[:'red', substr(:'red'::bytea, 1, 40), 'not an image']::bytea[]) i, millrace.try_extract_descriptors(i, 'net:1') x;
SELECT (millrace.try_extract_descriptors(:'red', 'net:1')).descriptors, millrace.try_extract_descriptors(NULL, 'net:1') IS NULL AS null_for_null;

-- A projection with a backbone: 4 x 4 pixels to 4 features to 2 numbers.
SELECT millrace.import_model('small', :'pca', '{"backbone": "net:1"}');
SELECT m.spec, l.parent_name, l.parent_version, l.role FROM millrace.models m JOIN millrace.model_lineage l USING (name, version) WHERE name = 'small';
SELECT extract_descriptors(:'red'::bytea, 'small') = infer('small', extract_descriptors(:'red'::bytea, 'net:1')) AS projected;
SELECT millrace.import_model('alone', :'pca');
SELECT extract_descriptors(:'red'::bytea, 'alone');
SELECT millrace.import_model('small', :'pca', '{"backbone": "net:2"}');
SELECT millrace.drop_model('net', 1);
SET millrace.descriptor_model = 'small';
SELECT array_length(extract_descriptors(:'red'::bytea), 1);

-- Many at once, shapes, several inputs.
SELECT array_dims(infer('net:1', array_fill(0.5::real, ARRAY[96]))) AS two_images,
	array_dims(infer('net:1', array_fill(0.5::real, ARRAY[96]), '{2,3,4,4}')) AS shaped,
	array_dims(infer('net:1', array_fill(0.5::real, ARRAY[1,3,4,4]))) AS one_image;
SELECT infer('net:1', array_fill(0.5::real, ARRAY[48]), '{1,3,4,5}');
SELECT infer('net:1', array_fill(0.5::real, ARRAY[60]), '{1,3,4,5}');
SELECT infer('net:1', array_fill(0.5::real, ARRAY[47]));
SELECT infer_json('net:2', jsonb_build_object('image', array_fill(1, ARRAY[2,3,4,4])));
SELECT millrace.import_model('two', :'two');
SELECT infer('two', '{1,2}');
SELECT infer_json('two', '{"a": [[1, 2], [3, 4]], "b": [10, 20, 30, 40.5]}');
SELECT infer_json('two', '{"a": [[1, 2]], "b": [10, 20, 30, 40]}');
SELECT infer_json('two', '{"a": [[1, 2]]}');
SELECT extract_descriptors(:'red'::bytea, 'two');

-- What an import refuses.
SELECT millrace.import_model('bad', :'odd');
SELECT millrace.import_model('bad', 'no model');
SELECT millrace.import_model('bad', :'net', '{"output": "nothing"}');
SELECT millrace.import_model('bad', :'net', '{"labels": ["a", "b"]}');
SELECT millrace.import_model('bad', :'net', '{"input": {"width": 8}}');
SELECT millrace.import_model('bad', :'net', '{"input": {"channels": "grey"}}');
SELECT millrace.import_model('bad', :'two', '{"input": {"width": 8}}');
SELECT millrace.import_model('bad', :'net', '{"backbone": "net"}');

-- From a large object.
SELECT lo_from_bytea(0, :'net') AS oid \gset
SELECT millrace.import_model_files('net', jsonb_build_object('net.onnx', :oid));
SELECT count(DISTINCT sha256) AS contents FROM millrace.models WHERE name = 'net';
SELECT lo_unlink(:oid);

-- Every instruction set of this machine agrees with portable C.
SET millrace.isa = 'portable';
SELECT extract_descriptors(:'red'::bytea, 'net:1') AS portable;
RESET millrace.isa;
SELECT extract_descriptors(:'red'::bytea, 'net:1') AS best;

SELECT millrace.drop_model(m) FROM unnest('{small,alone,net,bgr,signed,raw,two}'::text[]) m;
SELECT count(*) AS bytes_left FROM millrace.model_files WHERE sha256 IN (sha256(:'net'), sha256(:'two'), sha256(:'pca'));
