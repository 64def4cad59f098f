-- Networks whose shapes are open, or depend on data: tiny ONNX files made by t/lib/tiny_onnx.py.
\set open '\\x080712086d696c6c726163653aa8020a2a0a05696d6167650a01771201632204436f6e762a150a0c6b65726e656c5f736861706540014001a001070a0e0a016312036d6170220452656c750a1b0a036d61701201702211476c6f62616c41766572616765506f6f6c0a230a0170120866656174757265732207466c617474656e2a0b0a04617869731801a0010212046f70656e2a3f080408030801080110014201774a300000803f0000000000000000000000000000803f0000000000000000000000000000803f000080bf0000003f0000003f5a220a05696d61676512190a17080112130a0312014e0a0208030a031201680a03120177621b0a086665617475726573120f0a0d080112090a0312014e0a02080462200a036d617012190a17080112130a0312014e0a0208040a031201680a0312017742040a00100d'
\set words '\\x080712086d696c6c726163653ad1020a170a05776f7264730a0369647312017722064761746865720a1a0a046d61736b1201662204436173742a090a02746f1801a001020a170a01660a046c61737412016d2209556e73717565657a650a0f0a01770a016d1202776d22034d756c0a2a0a02776d0a03736571120373756d220952656475636553756d2a0f0a086b65657064696d731800a001021205776f7264732a370805080210014205776f7264734a280000803f00002041000000400000a041000040400000f04100008040000020420000a040000048422a140801100742046c6173744a0802000000000000002a130801100742037365714a0801000000000000005a1d0a0369647312160a14080712100a07120562617463680a0512037365715a1e0a046d61736b12160a14080712100a07120562617463680a051203736571621a0a0373756d12130a110801120d0a07120562617463680a02080242040a00100d'
\set where '\\x080712086d696c6c726163653a5b0a100a017812026e7a22074e6f6e5a65726f0a130a026e7a1202617422095472616e73706f7365120577686572655a140a0178120f0a0d080112090a0312014e0a02080462150a026174120f0a0d080712090a0312016b0a02080242040a00100d'
\set red '\\x89504e470d0a1a0a0000000d494844520000000400000004080200000026930929000000104944415478da63fccf80004c0c44710033d10107d28591370000000049454e44ae426082'
SET extra_float_digits = 0;

-- Images of any size: without a word 224 x 224; the size of "input"; the sizes of "shapes", the first for images.
SELECT millrace.import_model('open', :'open');
SELECT millrace.import_model('open', :'open', '{"input": {"width": 6, "height": 2}, "output": "map"}');
SELECT millrace.import_model('open', :'open', '{"shapes": [[1, 3, 4, 4], [null, 3, 2, 3]]}');
SELECT version, n_inputs, n_outputs FROM millrace.model_versions WHERE name = 'open' ORDER BY version;
SELECT array_length(extract_descriptors(:'red'::bytea, 'open:2'), 1) AS of_6_x_2, extract_descriptors(:'red'::bytea, 'open:3') AS of_4_x_4;

-- infer() with a shape: one that was compiled, and any other, several rows at once.
SELECT infer('open:3', array_fill(0.5::real, ARRAY[18]), '{1,3,2,3}') AS listed,
	infer('open:3', array_fill(0.5::real, ARRAY[2*3*5*7]), '{2,3,5,7}') AS any_other,
	array_dims(infer('open:2', array_fill(0.5::real, ARRAY[2*3*5*7]), '{2,3,5,7}')) AS map;
SELECT infer('open:3', array_fill(0.5::real, ARRAY[2*3*5*7]), '{2,3,5,7}') AS again;
SELECT array_length(infer('open:3', array_fill(0.5::real, ARRAY[2*48])), 1) AS without_shape_the_first;
SELECT infer('open:3', array_fill(0.5::real, ARRAY[36]), '{1,4,3,3}');
SELECT infer('open:3', array_fill(0.5::real, ARRAY[36]), '{3,12}');
SELECT infer('open:3', array_fill(0.5::real, ARRAY[36]), '{1,3,4,4}');
SELECT infer('open:3', array_fill(0.5::real, ARRAY[36]));

-- More shapes than a session keeps open; each is right whatever was forgotten.
SELECT bool_and(infer('open:3', array_fill(0.5::real, ARRAY[3*h*2]), ARRAY[1,3,h,2]) = '{{0.5,0.5,0.5,0}}') AS forty
FROM generate_series(1, 20) h, generate_series(1, 2);

-- Texts of any length: dimensions of one name agree; nested arrays say the shape, flat ones are one row.
SELECT millrace.import_model('words', :'words', '{"shapes": [{"ids": [1, 2]}, {"ids": [null, 4], "mask": [null, 4]}]}');
SELECT infer_json('words', '{"ids": [[0, 1]], "mask": [[1, 1]]}') AS listed,
	infer_json('words', '{"ids": [[0, 1, 2, 3], [4, 4, 4, 4]], "mask": [[1, 1, 1, 1], [1, 0, 0, 0]]}') AS two_rows,
	infer_json('words', '{"ids": [[4, 3, 2], [1, 1, 1]], "mask": [[1, 1, 1], [0, 1, 1]]}') AS any_length,
	infer_json('words', '{"ids": [4, 3, 2], "mask": [1, 1, 0]}') AS one_row;
SELECT infer_json('words', '{"ids": [[4, 3, 2]], "mask": [[1, 1]]}');
SELECT infer_json('words', '{"ids": [[4, 3, 2]], "mask": [[1, 1, 1], [1, 1, 1]]}');
SELECT infer_json('words', '{"ids": [[4, 9, 2]], "mask": [[1, 1, 1]]}');

-- Sizes that depend on data.
SELECT millrace.import_model('where', :'where');
SELECT infer('where', '{0,5,0,7}') AS flat, infer('where', '{0,5,0,7}', '{1,4}') AS shaped, infer('where', '{0,0,0,0}') AS nothing;
SELECT infer('where', '{0,5,0,7,1,1,1,1}');
SELECT infer_json('where', '{"x": [0, 5, 0, 7]}') AS one, infer_json('where', '{"x": [[0, 5, 0, 7], [0, 0, 0, 0], [0, 0, 1, 0]]}') AS three;

-- What a specification may not say.
SELECT millrace.import_model('bad', :'open', '{"shapes": []}');
SELECT millrace.import_model('bad', :'open', '{"shapes": [[1, 3, 0, 4]]}');
SELECT millrace.import_model('bad', :'open', '{"shapes": [[1, 3, "h", 4]]}');
SELECT millrace.import_model('bad', :'open', '{"shapes": {"image": [1, 3, 4, 4]}}');
SELECT millrace.import_model('bad', :'open', '{"shapes": [{"picture": [1, 3, 4, 4]}]}');
SELECT millrace.import_model('bad', :'open', '{"shapes": [[1, 4, 4, 4]]}');
SELECT millrace.import_model('bad', :'words', '{"shapes": [{"ids": [1, 4], "mask": [1, 5]}]}');
SELECT millrace.import_model('bad', :'open', '{"shapes": [[1, 3, 8, 8]], "input": {"width": 4, "height": 4}}');

-- Compiled files: one for the model and one for each other shape; gone with the model.
SELECT count(*) FILTER (WHERE f LIKE substr(encode(sha256(:'words'), 'hex'), 1, 32) || '%') AS of_words
FROM pg_ls_dir('pgsql_tmp_millrace/' || (SELECT oid FROM pg_database WHERE datname = current_database())) f;
SELECT millrace.drop_model(m) FROM unnest('{open,words,where}'::text[]) m;
SELECT count(*) AS files_left
FROM pg_ls_dir('pgsql_tmp_millrace/' || (SELECT oid FROM pg_database WHERE datname = current_database())) f
WHERE substr(f, 1, 32) = ANY (SELECT substr(encode(sha256(b), 'hex'), 1, 32) FROM unnest(ARRAY[:'open', :'words', :'where']::bytea[]) b);
