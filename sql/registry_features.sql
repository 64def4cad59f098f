-- millrace.model_features(): a row of any table as the numbers of a model.
CREATE SCHEMA features;
SET search_path = features, public;
CREATE TYPE size AS ENUM ('small', 'large');
CREATE TABLE things AS SELECT i AS id, i % 7 AS n, (i % 2 = 0) AS even, (i * 1.5)::numeric AS price, ARRAY[i, i * 2]::real[] AS v,
	CASE i % 3 WHEN 0 THEN 'red' WHEN 1 THEN 'green' ELSE 'blue' END AS colour,
	(CASE i % 5 WHEN 0 THEN 'small' ELSE 'large' END)::size AS size, i % 3 AS class
FROM generate_series(1, 300) i;
SELECT millrace.train_model('fe_wood', 'random_forest', 'SELECT n, even, price, v, colour, size, class FROM things', 'class', '{"n_estimators": 20}');
SELECT spec->'features' AS features FROM millrace.models WHERE name = 'fe_wood';

-- By name, whatever else the row has and in whatever order.
SELECT id, millrace.model_features('fe_wood', t) FROM things t WHERE id IN (1, 2, 3) ORDER BY id;
SELECT millrace.model_features('fe_wood', s) FROM (SELECT colour, size, v, price, n, even FROM things WHERE id = 2) s;
SELECT avg((c.label = t.class::text)::int) > 0.99 AS right FROM things t, classify(millrace.model_features('fe_wood', t), 'fe_wood') c;

-- Missing: null, a category never seen, another type of number.
SELECT millrace.model_features('fe_wood', s) FROM (SELECT 'violet' AS colour, NULL::size AS size, ARRAY[1, NULL]::float8[] AS v, 3::int8 AS price, 2.5::real AS n, NULL::boolean AS even) s;
SELECT (classify(millrace.model_features('fe_wood', s), 'fe_wood')).label IS NOT NULL AS answers
FROM (SELECT 'violet' AS colour, NULL::size AS size, NULL::float8[] AS v, 3::int8 AS price, 2.5::real AS n, NULL::boolean AS even) s;
SELECT millrace.model_features('fe_wood', NULL::things) IS NULL AS null_for_null;

-- What does not fit.
SELECT millrace.model_features('fe_wood', s) FROM (SELECT n, even, price, v, colour FROM things LIMIT 1) s;
SELECT millrace.model_features('fe_wood', s) FROM (SELECT 'x' AS n, even, price, v, colour, size FROM things LIMIT 1) s;
SELECT millrace.model_features('fe_wood', s) FROM (SELECT n, even, price, v, 3 AS colour, size FROM things LIMIT 1) s;
SELECT millrace.model_features('fe_wood', s) FROM (SELECT n, even, price, ARRAY[1]::real[] AS v, colour, size FROM things LIMIT 1) s;
SELECT millrace.model_features('fe_wood', s) FROM (SELECT n, now() AS even, price, v, colour, size FROM things LIMIT 1) s;
SELECT millrace.model_features('fe_wood', ROW(1, 2));
SELECT millrace.model_features('fe_nothing', t) FROM things t LIMIT 1;

-- One hot, and another version under the same name in the next statement.
SELECT millrace.train_model('fe_wood', 'logistic_regression', 'SELECT n, colour, class FROM things', 'class', '{"one_hot": true}');
SELECT id, millrace.model_features('fe_wood', t) FROM things t WHERE id IN (1, 2, 3) ORDER BY id;
PREPARE p AS SELECT millrace.model_features('fe_wood', t) FROM things t ORDER BY price LIMIT 1;
EXECUTE p;
SELECT millrace.promote_model('fe_wood', 1);
EXECUTE p;
ALTER TABLE things DROP COLUMN id, ADD COLUMN id integer DEFAULT 1;
EXECUTE p;
-- Different models and types in one call site.
SELECT m, millrace.model_features(m, t) FROM (SELECT * FROM things LIMIT 1) t, (VALUES ('fe_wood:1'), ('fe_wood:2'), ('fe_wood:1')) s(m);

SELECT millrace.drop_model('fe_wood');
SET client_min_messages = warning;
DROP SCHEMA features CASCADE;
