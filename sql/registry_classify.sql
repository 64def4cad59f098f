-- Classifiers and projections: one row, many rows, in parallel, through plpgsql.
\set lr '\\x4d524c4541524e00010000000200000003000000030000000300000000000000680000000000000019c25630ebb4605a0000000000000000000000000000000000000000030000007d4901db1897f2bf779e63d886a901403c2ca3cb701ebabf0aa342e8fa8ba33f53de9dddc241893f0e231fb628f6b33f6734bf03b9faf13f563c419bc8c201c0e325105620a1983f5edbbf5b2d3e114087de6db214affc3f01535b88f26918c0'
\set rf '\\x4d524c4541524e000100000001000000030000000300000003000000000000006f00000000000000a3610c6d1954915900000000000000000000000000000000030504606030c03c091904787838bf23051001130708e7e6e63e3c08a9a8a83d1c0b015555553f02abaa2a3e060f00e9a28b3e01e9a20b3e02d145173f1600b8b7373f2001100b010000503f020000403e100508c1c0403c3c0903009a00273f3901130b0187f21a3f02f31aca3e26'
\set pca '\\x4d524c4541524e0001000000030000000300000000000000020000000000000080000000000000000dbf8a6e7550486100000000000000000000000000000000030000000200000077770710f36df23fdeddbde26af3fbbf4444747b5432e03f18c9470dd577dbbfd28f5425e4dfec3f48ea6e043875a43fbf807ed07b84da3f3abebe261925c43f31ed757a6aafec3f00000000000000000000000000000000e133b9e5abc50b40a08a2b3a4da2bb3fc4e53a8ff408ef3f8c47a3186ee19e3f'
SELECT millrace.import_model('lr', :'lr', '{"labels": ["red", "green", "blue"]}');
SELECT millrace.import_model('rf', :'rf', '{"labels": ["red", "green", "blue"]}');
SELECT millrace.import_model('pca', :'pca');
SET millrace.classifier = 'lr';

-- One row; null for null; the default model.
SELECT c.label, round(c.confidence::numeric, 3) AS confidence, c.model FROM classify('{0.1, -0.1, 0.5}') c;
SELECT (classify('{2.1, -3.9, 0.5}', 'rf')).label, classify(NULL, 'rf') IS NULL AS null_for_null;
SELECT label, round(probability::numeric, 3) AS probability FROM class_probabilities('{1.1, -1.9, 0.5}', 'lr');
SELECT round(sum(probability)::numeric, 5) AS total FROM class_probabilities('{1.1, -1.9, 0.5}', 'rf');

-- Many rows: in order, and each as if alone.
CREATE TEMP TABLE rows AS
SELECT i, ARRAY[i % 3 + random() * 0.3, -2 * (i % 3) + random() * 0.5, random()]::real[] AS d, i % 3 AS class
FROM generate_series(1, 2000) i;
SELECT m.reference, count(*) AS rows, bool_and(c = classify(r.d, m.reference)) AS as_if_alone,
	avg((c.label = (ARRAY['red', 'green', 'blue'])[class + 1])::int) > 0.95 AS right
FROM (VALUES ('lr:1'), ('rf:1')) m(reference),
	LATERAL ROWS FROM (millrace.classify_rows((SELECT array_agg(d ORDER BY i) FROM rows), m.reference)) WITH ORDINALITY c(label, confidence, model, i)
	JOIN rows r USING (i), LATERAL (SELECT (c.label, c.confidence, c.model)::millrace.classification) x(c)
GROUP BY 1 ORDER BY 1;
SELECT * FROM millrace.classify_rows('{}', 'lr');
SELECT * FROM millrace.classify_rows(NULL, 'lr');
SELECT label FROM millrace.classify_rows('{0.1, -0.1, 0.5}', 'lr');

-- Probabilities of all rows at once, a projection, shapes.
SELECT array_dims(infer('lr', '{0.1, -0.1, 0.5}')) AS flat, array_dims(infer('lr', '{0.1, -0.1, 0.5}', '{1, 3}')) AS shaped,
	array_dims(infer('pca', '{{0.1, -0.1, 0.5}, {1, 2, 3}}')) AS rows;
SELECT (infer('pca', '{1, 2, 3}'))[1] = ((infer_json('pca', '{"input": [[1, 2, 3]]}') -> 'output' -> 0 ->> 0)::real) AS json_is_exact;
SELECT infer(NULL, NULL) IS NULL AS null_for_null;
-- A forest knows missing values, a linear model does not.
SELECT array_length(infer('rf', '{0.1, NaN, 0.5}'), 1);
SELECT classify('{0.1, NULL, 0.5}', 'rf') = classify('{0.1, NaN, 0.5}', 'rf') AS null_is_missing,
	(SELECT array_agg(c) FROM millrace.classify_rows('{{0.1, NULL, 0.5}, {NULL, -4, NULL}}', 'rf') c) =
	ARRAY[classify('{0.1, NaN, 0.5}', 'rf'), classify('{NaN, -4, NaN}', 'rf')] AS in_many_rows,
	infer('rf', '{NULL, NULL, NULL}') = infer('rf', '{NaN, NaN, NaN}') AS and_in_numbers;
SELECT infer('lr', '{0.1, NaN, 0.5}');

-- Parallel workers give what the leader gives.
CREATE TABLE registry_rows AS SELECT i, d FROM rows;
ALTER TABLE registry_rows SET (parallel_workers = 2);
ANALYZE registry_rows;
CREATE TEMP TABLE serial AS SELECT i, classify(d, 'rf') AS c FROM registry_rows;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT i, classify(d, 'rf') AS c FROM registry_rows;
CREATE TABLE registry_parallel AS SELECT i, classify(d, 'rf') AS c FROM registry_rows;
SELECT count(*) AS rows, bool_and(s.c = p.c) AS equal FROM serial s JOIN registry_parallel p USING (i);
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- In expressions, constraints and plpgsql.
SELECT count(*) AS blue FROM rows WHERE class = 2 AND (classify(d)).label = 'blue' HAVING count(*) > 600;
DO $$
DECLARE
	c millrace.classification;
BEGIN
	c := classify('{2.1, -3.9, 0.5}');
	RAISE NOTICE '% by %', c.label, c.model;
END
$$;

-- A model dropped and gone from a session that used it.
SELECT millrace.drop_model(m) FROM unnest(ARRAY['lr', 'rf', 'pca']) m;
\set VERBOSITY terse
SELECT classify('{2.1, -3.9, 0.5}');
DROP TABLE registry_rows, registry_parallel;
