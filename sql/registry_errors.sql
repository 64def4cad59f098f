-- What can be wrong with references, specifications and numbers: one clear error each.
\set lr '\\x4d524c4541524e00010000000200000003000000030000000300000000000000680000000000000019c25630ebb4605a0000000000000000000000000000000000000000030000007d4901db1897f2bf779e63d886a901403c2ca3cb701ebabf0aa342e8fa8ba33f53de9dddc241893f0e231fb628f6b33f6734bf03b9faf13f563c419bc8c201c0e325105620a1983f5edbbf5b2d3e114087de6db214affc3f01535b88f26918c0'
\set pca '\\x4d524c4541524e0001000000030000000300000000000000020000000000000080000000000000000dbf8a6e7550486100000000000000000000000000000000030000000200000077770710f36df23fdeddbde26af3fbbf4444747b5432e03f18c9470dd577dbbfd28f5425e4dfec3f48ea6e043875a43fbf807ed07b84da3f3abebe261925c43f31ed757a6aafec3f00000000000000000000000000000000e133b9e5abc50b40a08a2b3a4da2bb3fc4e53a8ff408ef3f8c47a3186ee19e3f'
\set VERBOSITY verbose
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, message, nullif(detail, ''), nullif(hint, ''));
END
$$;
SELECT millrace.import_model('wrong', :'lr', '{"labels": ["red", "green", "blue"]}');
\a
\t

-- references
SELECT pg_temp.try(format('SELECT classify($a${1,2,3}$a$, %L)', r))
FROM (VALUES ('nobody'), ('wrong:7'), ('wrong@none'), ('wrong:x'), ('wrong:0'), ('wrong:99999999999'), ('a@b:1'), (''), (':1'), (repeat('x', 300))) v(r);
SET millrace.classifier = '';
SELECT pg_temp.try('SELECT classify($a${1,2,3}$a$)');
RESET millrace.classifier;
SELECT pg_temp.try('SELECT classify($a${1,2,3}$a$)');
SELECT pg_temp.try('SELECT millrace.resolve_model($$wrong$$, $$dance$$)');

-- names and aliases
SELECT pg_temp.try(format('SELECT millrace.import_model(%L, %L)', n, :'lr')) FROM (VALUES ('a:b'), ('a@b'), ('a b'), (''), (repeat('n', 129)), (NULL)) v(n);
SELECT pg_temp.try('SELECT millrace.promote_model($$wrong$$, 1, $$a:b$$)');
SELECT pg_temp.try('SELECT millrace.promote_model($$wrong$$, NULL)');
SELECT pg_temp.try('SELECT millrace.promote_model($$wrong$$, 2)');
SELECT pg_temp.try('SELECT millrace.drop_alias($$wrong$$, $$none$$)');
SELECT pg_temp.try('SELECT millrace.drop_model($$nobody$$)');
SELECT pg_temp.try('SELECT millrace.drop_model($$wrong$$, 9)');

-- specifications
SELECT pg_temp.try(format('SELECT millrace.import_model(''wrong'', %L, %L)', :'lr', s))
FROM (VALUES ('[]'), ('{"lables": ["a"]}'), ('{"labels": "a"}'), ('{"labels": [1, 2, 3]}'), ('{"labels": ["a", "b"]}'), ('{}'),
	('{"labels": ["a", "b", "c"], "input": {"width": 1}}'), ('{"labels": ["a", "b", "c"], "output": "x"}'), ('{"labels": ["a", "b", "c"], "backbone": "wrong"}'),
	('{"input": {"size": 1}}'), ('{"input": {"width": 0}}'), ('{"input": {"width": 1.5}}'), ('{"input": {"fit": "squeeze"}}'), ('{"input": {"resize": 8, "fit": "contain"}}'),
	('{"input": {"channels": "cmyk"}}'), ('{"input": {"range": [0]}}'), ('{"input": {"range": [1, 1]}}'), ('{"input": {"mean": [1, 2]}}'),
	('{"input": {"std": [1, 0, 1]}}'), ('{"input": {"mean": ["a"]}}'), ('{"input": {"std": 1e400}}'), ('{"input": []}'), ('{"output": 1}')) v(s);
SELECT pg_temp.try(format('SELECT millrace.import_model(''wrong'', %L, %L)', :'pca', '{"backbone": "wrong"}'));

-- bytes
SELECT pg_temp.try(format('SELECT millrace.import_model(''wrong'', %L)', substr(:'lr'::bytea, 1, 100)));
SELECT pg_temp.try(format('SELECT millrace.import_model(''wrong'', %L)', overlay(:'lr'::bytea placing '\xff' from 100)));
SELECT pg_temp.try('SELECT millrace.import_model($$wrong$$, NULL)');
SELECT pg_temp.try('SELECT millrace.import_model_files($$wrong$$, $${"a": 1, "b": 2}$$)');
SELECT pg_temp.try('SELECT millrace.import_model_files($$wrong$$, $${"a": "b"}$$)');
SELECT pg_temp.try('SELECT millrace.import_model_files($$wrong$$, $${"a": 4000000000}$$)');

-- numbers
SELECT pg_temp.try(format('SELECT classify(%L, $$wrong$$)', d))
FROM (VALUES ('{1,2}'), ('{1,2,3,4}'), ('{}'), ('{1,NULL,3}'), ('{1,NaN,3}'), ('{1,2,-Infinity}'), ('{{1,2,3}}')) v(d);
SELECT pg_temp.try(format('SELECT * FROM millrace.classify_rows(%L, $$wrong$$)', d))
FROM (VALUES ('{{1,2},{1,2}}'), ('{{1,2,3},{1,2,NULL}}'), ('{{{1,2,3}}}')) v(d);
SELECT pg_temp.try('SELECT infer($$wrong$$, $${1,2,3,4}$$)');
SELECT pg_temp.try('SELECT infer($$wrong$$, $${1,2,3}$$, $${1,4}$$)');
SELECT pg_temp.try('SELECT infer($$wrong$$, $${1,2,3}$$, $${{1,3}}$$)');
SELECT pg_temp.try('SELECT infer($$wrong$$, $${1,2,3}$$, $${1,NULL}$$)');
SELECT pg_temp.try(format('SELECT infer_json($$wrong$$, %L)', j))
FROM (VALUES ('[]'), ('{}'), ('{"input": "x"}'), ('{"input": [1, "x", 3]}'), ('{"input": [1, 2]}'), ('{"input": []}')) v(j);
SELECT pg_temp.try('SELECT extract_descriptors($$x$$::bytea, $$wrong$$)');
SELECT pg_temp.try('SELECT (millrace.try_extract_descriptors($$x$$, $$nobody$$)).*');
SELECT pg_temp.try('SELECT millrace.model_bytes($$nobody$$)');

-- triggers' functions are not for calling
SELECT pg_temp.try('SELECT millrace.models_changed()');
\a
\t
SELECT millrace.drop_model('wrong');
