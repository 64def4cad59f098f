-- text: an encoder from its folder, tokens, embeddings; errors.  A very small BERT with made-up weights: the real one is in t/test_text_embed.py.
\set VERBOSITY terse
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', sqlstate, message, nullif(hint, ''));
END $$;
\pset format unaligned
\pset tuples_only on

-- nothing is there yet
SELECT pg_temp.try('SELECT embed($$a$$)');
SELECT pg_temp.try('SELECT embed(ARRAY[$$a$$])');
SELECT pg_temp.try('SELECT * FROM millrace.tokenize($$a$$)');
SELECT pg_temp.try('SELECT embed($$a$$, $$other$$)');
SELECT embed(NULL::text) IS NULL, count(*) FROM embed(NULL::text[]);
SHOW millrace.text_encoder;

-- a folder: config.json, vocab.txt and weights sin(1), sin(2) … in the order of the names
CREATE TEMPORARY TABLE tensor (name text COLLATE "C", shape int[]);
INSERT INTO tensor VALUES ('embeddings.word_embeddings.weight', '{12,8}'), ('embeddings.position_embeddings.weight', '{6,8}'), ('embeddings.token_type_embeddings.weight', '{2,8}'),
	('embeddings.LayerNorm.weight', '{8}'), ('embeddings.LayerNorm.bias', '{8}'),
	('encoder.layer.0.attention.output.LayerNorm.weight', '{8}'), ('encoder.layer.0.attention.output.LayerNorm.bias', '{8}'),
	('encoder.layer.0.output.LayerNorm.weight', '{8}'), ('encoder.layer.0.output.LayerNorm.bias', '{8}'),
	('encoder.layer.0.intermediate.dense.weight', '{16,8}'), ('encoder.layer.0.intermediate.dense.bias', '{16}'),
	('encoder.layer.0.output.dense.weight', '{8,16}'), ('encoder.layer.0.output.dense.bias', '{8}');
INSERT INTO tensor SELECT 'encoder.layer.0.attention.' || n || p, s::int[]
	FROM unnest(ARRAY['self.query', 'self.key', 'self.value', 'output.dense']) n, (VALUES ('.weight', '{8,8}'), ('.bias', '{8}')) v(p, s);
CREATE FUNCTION pg_temp.reversed(b bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT string_agg(substr(b, i, 1), '' ORDER BY i DESC) FROM generate_series(1, length(b)) i $$;
CREATE TEMPORARY TABLE folder (name text, content bytea, file oid);
INSERT INTO folder VALUES
	('config.json', '{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 12,
		"max_position_embeddings": 6, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}'),
	('vocab.txt', convert_to(concat_ws(E'\n', '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'mill', '##race', 'river', 'runs', '.', 'a', ''), 'UTF8'));
WITH laid AS (SELECT name, shape, n, sum(n) OVER (ORDER BY name) - n AS at FROM tensor, LATERAL (SELECT shape[1] * coalesce(shape[2], 1) AS n) s),
	head AS (SELECT convert_to(json_object_agg(name, json_build_object('dtype', 'F32', 'shape', shape, 'data_offsets', ARRAY[4 * at, 4 * (at + n)]) ORDER BY name)::text, 'UTF8') AS h FROM laid)
INSERT INTO folder SELECT 'model.safetensors', pg_temp.reversed(int8send(length(h))) || h ||
	(SELECT string_agg(pg_temp.reversed(float4send(sin(i)::real)), '' ORDER BY i) FROM generate_series(1, (SELECT sum(n) FROM laid)) i) FROM head;
CREATE FUNCTION pg_temp.import(name text, spec jsonb DEFAULT '{}') RETURNS int LANGUAGE sql AS $$
	UPDATE folder SET file = lo_from_bytea(0, content);
	SELECT millrace.import_model_files(name, (SELECT jsonb_object_agg(f.name, f.file) FROM folder f), spec) $$;
SELECT pg_temp.import('tiny', '{"normalize": true}');
SELECT kind, n_inputs, n_outputs, spec, metrics, labels FROM millrace.models WHERE name = 'tiny';
SET millrace.text_encoder = 'tiny';

-- tokens and their places
SELECT * FROM millrace.tokenize('The millrace  runs, RIVER.');
SELECT substr(t, start, "end" - start), token FROM (VALUES ('The millrace runs.')) v(t), LATERAL millrace.tokenize(t) WHERE start IS NOT NULL;

-- embeddings
CREATE FUNCTION pg_temp.rounded(real[]) RETURNS numeric[] LANGUAGE sql AS 'SELECT array_agg(round(x::numeric, 3) ORDER BY i) FROM unnest($1) WITH ORDINALITY u(x, i)';
SELECT pg_temp.rounded(embed('the river runs'));
SELECT n, e = embed('the river runs') AS same FROM embed(ARRAY['a', NULL, 'the river runs', '']) WITH ORDINALITY u(e, n);
SELECT tokens, truncated, chunks, pg_temp.rounded(embedding) FROM millrace.embed_long('the mill runs the river runs a mill');
SELECT tokens, truncated, chunks, pg_temp.rounded(embedding) FROM millrace.embed_long('the mill runs the river runs a mill', 'tiny', '{"long": "average", "overlap": 1}');
SELECT count(*) FROM embed('{}'::text[]);

-- another specification of the same bytes
SELECT millrace.import_model('tiny', millrace.model_bytes('tiny'), '{"pooling": "cls", "max_tokens": 4, "precision": "bfloat16"}');
SELECT version, spec FROM millrace.models WHERE name = 'tiny' ORDER BY version;
SELECT count(DISTINCT sha256) FROM millrace.models WHERE name = 'tiny';
SELECT tokens, truncated FROM millrace.embed_long('the mill runs');
SELECT millrace.resolve_model(NULL, 'encoder'), millrace.resolve_model('tiny:1');
SELECT millrace.drop_model('tiny', 2);
SELECT tokens, truncated FROM millrace.embed_long('the mill runs');

-- what an encoder is not for, and what is no encoder
SELECT pg_temp.try(q) FROM unnest(ARRAY['SELECT infer($$tiny$$, $${1}$$)', 'SELECT infer_json($$tiny$$, $${"x": [1]}$$)', 'SELECT classify($${1}$$, $$tiny$$)',
	'SELECT extract_descriptors($$x$$::bytea, $$tiny$$)', 'SELECT * FROM millrace.model_plan($$tiny$$)', 'SELECT millrace.export_onnx($$tiny$$)']) q;
SELECT millrace.train_model('numbers', 'pca', 'SELECT ARRAY[i, i * i % 7]::real[] AS x FROM generate_series(1, 20) i', NULL, '{"n_components": 1}');
SELECT pg_temp.try('SELECT embed($$a$$, $$numbers$$)');

-- specifications and folders that cannot be
SELECT pg_temp.try(format('SELECT pg_temp.import(%L, %L)', 'bad', s)) FROM unnest(ARRAY['{"precision": "float16"}', '{"pooling": "last"}', '{"max_tokens": 7}', '{"normalize": 1}',
	'{"labels": ["a"]}', '{"score": {"layers": 1}}', '{"score": {"layer": 2}}', '[]']) s;
DELETE FROM folder WHERE name = 'vocab.txt';
SELECT pg_temp.try('SELECT pg_temp.import($$bad$$)');
UPDATE folder SET content = substr(content, 1, length(content) - 1) WHERE name = 'model.safetensors';
SELECT pg_temp.try('SELECT pg_temp.import($$bad$$)');
DELETE FROM folder WHERE name = 'config.json';
INSERT INTO folder VALUES ('notes.txt', 'x');
SELECT pg_temp.try('SELECT pg_temp.import($$bad$$)');
SELECT pg_temp.try(format('SELECT * FROM millrace.embed_long(%L, options => %L)', 'a', o)) FROM unnest(ARRAY['{"long": "fold"}', '{"fold": 1}', '{"long": "average", "overlap": 4}', '{"max_chunks": 0}']) o;

-- rows embedded as they come
CREATE TABLE notes (id int PRIMARY KEY, body text, embedding real[]);
CREATE TRIGGER embed_new AFTER INSERT ON notes REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION millrace.embed_rows('body', 'embedding');
CREATE TRIGGER embed_changed AFTER UPDATE ON notes REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.embed_rows('body', 'embedding', 'tiny:1');
INSERT INTO notes SELECT i, 'the river ' || CASE i % 2 WHEN 0 THEN 'runs' ELSE 'mill' END FROM generate_series(1, 5) i;
INSERT INTO notes VALUES (6, NULL), (7, 'a');
UPDATE notes SET body = 'a mill' WHERE id = 1;
UPDATE notes SET body = NULL WHERE id = 2;
SELECT id, body, embedding = embed(body) AS right, embedding IS NULL AS none FROM notes ORDER BY id;
DROP TABLE notes;
SELECT millrace.drop_model('tiny'), millrace.drop_model('numbers');
SELECT count(lo_unlink(oid)) > 0 FROM pg_largeobject_metadata;
