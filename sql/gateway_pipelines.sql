-- What the routes of pipelines call, called by hand: answers, faults, rights.  Over HTTP: t/test_gateway_pipelines.py.
-- In a database of its own: it takes the models that come with Millrace.
\set back :DBNAME
CREATE DATABASE regression_routes TEMPLATE template0;
\c regression_routes
SET client_min_messages = warning;
CREATE EXTENSION millrace;
SET timezone = 'UTC';
\pset null -
\set VERBOSITY terse
CREATE ROLE regress_routes_owner LOGIN IN ROLE millrace_admin, millrace_modeler;
CREATE ROLE regress_routes_web LOGIN;
CREATE ROLE regress_routes_other LOGIN;
GRANT CREATE ON DATABASE regression_routes TO regress_routes_owner;
CREATE SERVER regress_store FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://127.0.0.1:9');
CREATE SERVER regress_llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'openai', url 'http://127.0.0.1:9', model 'm');
GRANT USAGE ON FOREIGN SERVER regress_store, regress_llm TO regress_routes_owner;
SET ROLE regress_routes_owner;
-- an answer as a client sees it; ids are another each time
CREATE FUNCTION pg_temp.seen(r millrace.http_response, OUT status int, OUT body text, OUT headers text, OUT later boolean) LANGUAGE sql AS
	$$ SELECT r.status, pg_catalog.regexp_replace(pg_catalog.convert_from(r.body, 'UTF8'), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g'),
		pg_catalog.regexp_replace(r.headers::text, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>'), r.poll IS NOT NULL $$;
CREATE FUNCTION pg_temp.without(j json, VARIADIC keys text[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT j::jsonb - keys $$;

-- images
CREATE TABLE pg_temp.points AS SELECT ARRAY[x, y]::real[] AS v, CASE WHEN x < 5 THEN 'near' ELSE 'far' END AS label FROM generate_series(0, 9) x, generate_series(0, 9) y;
SELECT millrace.train_model('regress_near', 'logistic_regression', 'SELECT v, label FROM pg_temp.points', 'label');
SELECT millrace.create_pipeline('images', 'regress I', '{"http_prefix": "/photos", "descriptor_model": "regress_gone"}');
SELECT method, prefix || path AS path, function, poll_function, scope, body, open, read_only, interval_ms FROM millrace.routes WHERE pipeline = 'regress I' ORDER BY path, method;
INSERT INTO "regress I".descriptors (image_id, descriptors) VALUES ('early', '{1,2}');
SELECT "regress I".http_predictions('early');
TRUNCATE "regress I".profiles;
SELECT "regress I".http_predict('{1,1}');
INSERT INTO "regress I".profiles VALUES ('zeta', 'regress_near'), ('eta', 'regress_near:1'), ('gone', 'regress_gone');
SELECT pg_temp.without("regress I".http_predict('{1,1}'), 'latency_ms'), "regress I".http_predict('{1,1}') -> 'latency_ms' IS NOT NULL;
SELECT pg_temp.without("regress I".http_predict('{8,1}', 'zeta'), 'latency_ms');
SELECT "regress I".http_predict('{1,1}', 'theta');
SELECT "regress I".http_predict('{1,1}', 'gone');
SELECT "regress I".http_predict('{1,1,1}');
SELECT "regress I".http_predict('{}');
SELECT "regress I".http_predict('{1,NULL}');
SELECT "regress I".http_predict('{1,NaN}');
SELECT "regress I".http_predict('{1,Infinity}');
SELECT "regress I".http_predict('{{1,1}}');
SELECT "regress I".http_predict(NULL);
-- what a session keeps it forgets when the profiles change
UPDATE "regress I".profiles SET enabled = false WHERE profile = 'eta';
SELECT "regress I".http_predict('{1,1}', 'eta');
INSERT INTO "regress I".profiles VALUES ('balanced', 'regress_near');
SELECT pg_temp.without("regress I".http_predict('{1,1}'), 'latency_ms');
EXPLAIN (verbose, costs off) SELECT "regress I".http_predict(descriptors => '{1,1}');
-- and what a transaction changed that is undone
BEGIN;
DELETE FROM "regress I".profiles WHERE profile = 'zeta';
SELECT "regress I".http_predict('{1,1}', 'zeta');
ROLLBACK;
SELECT pg_temp.without("regress I".http_predict('{1,1}', 'zeta'), 'latency_ms');
SELECT status, body::jsonb - 'failures_last_hour' AS body, headers FROM pg_temp.seen("regress I".http_health());
DELETE FROM "regress I".profiles WHERE profile = 'gone';

-- ready-made descriptors have predictions, too
INSERT INTO "regress I".descriptors (image_id, descriptors) VALUES ('ready', '{1,2}'), ('torn', '{1}');
SELECT pg_catalog.regexp_replace("regress I".http_predictions('ready')::text, '"latency_ms" : [0-9.e-]+', '"latency_ms": n', 'g');
SELECT "regress I".http_predictions('torn');
SELECT "regress I".http_predictions('nobody');
INSERT INTO "regress I".images (image_id, object_path) VALUES ('announced', 'raw-images/a.jpg');
SELECT "regress I".http_predictions('announced');

-- uploads: no model, no photo is an answer; another photo of the id is one
SELECT "regress I".http_upload('GIF89a', 'gif');
SELECT millrace.drop_pipeline('regress I');
SELECT millrace.install_models() IS NOT NULL AS installed LIMIT 1;
SELECT millrace.create_pipeline('images', 'regress_i');
SELECT * FROM pg_temp.seen(regress_i.http_upload('GIF89a', 'gif'));
SELECT * FROM pg_temp.seen(regress_i.http_upload('GIF89a', 'gif'));
SELECT * FROM pg_temp.seen(regress_i.http_upload('GIF87a', 'gif'));
SELECT status, body FROM pg_temp.seen(regress_i.http_upload('\xffd8ff'));
SELECT regress_i.http_predictions('gif');
SELECT source, count(*) FROM regress_i.images GROUP BY source;
SELECT regress_i.http_extract('GIF89a');
SELECT regress_i.http_extract();
SELECT regress_i.http_extract('GIF89a', minio_path => 'raw-images/a.jpg');
SELECT regress_i.http_extract(image_id => 'a', minio_path => 'raw-images/a.jpg');
SELECT regress_i.fetch_from('regress_store');
SELECT regress_i.http_extract(image_id => 'a', minio_path => 'secrets/a.jpg');
SELECT * FROM pg_temp.seen(regress_i.http_extract(image_id => 'a', minio_path => 's3://raw-images/a.jpg'));
SELECT * FROM pg_temp.seen(regress_i.http_extract(minio_path => 'raw-images/b.jpg'));
SELECT * FROM pg_temp.seen(regress_i.http_extract(minio_path => 'raw-images/c.jpg'));
SELECT method, path, deliver FROM millrace.http_requests ORDER BY id;
SELECT x.object_path, s.* FROM regress_i.extractions x, pg_temp.seen(regress_i.http_extract_poll(to_jsonb(x.task_id))) s ORDER BY 1;
SELECT x.object_path, s.* FROM regress_i.extractions x, pg_temp.seen(regress_i.http_extraction(x.task_id)) s ORDER BY 1;
SELECT regress_i.deliver_extractions(array_agg(task_id::text ORDER BY object_path), array_agg(object_path ORDER BY object_path), '{"GIF89a",NULL,NULL}', '{NULL,58P01,08001}', '{NULL,there is none,no connection}')
	FROM regress_i.extractions;
SELECT x.object_path, s.* FROM regress_i.extractions x, pg_temp.seen(regress_i.http_extraction(x.task_id)) s ORDER BY 1;
SELECT x.object_path, s.* FROM regress_i.extractions x, pg_temp.seen(regress_i.http_extract_poll(to_jsonb(x.task_id))) s ORDER BY 1;
SELECT regress_i.http_extraction('00000000-0000-0000-0000-000000000000');
SELECT regress_i.http_extract_poll('7');
-- with a store a photo is put there, too; what the store did not take has no path
SELECT regexp_replace(body, '\d{4}/\d\d/\d\d', 'yyyy/mm/dd') FROM pg_temp.seen(regress_i.http_upload('\xffd8ffe0', 'a.1'));
SELECT regexp_replace(regexp_replace(body, '\d{4}/\d\d/\d\d', 'yyyy/mm/dd'), '[0-9a-f]{64}', 'digest') FROM pg_temp.seen(regress_i.http_upload('\xffd8ffe1', '../a'));
SELECT method, content_type, deliver, tag FROM millrace.http_requests WHERE method = 'PUT' ORDER BY id;
SELECT regress_i.deliver_stored('{a.1,../a}', (SELECT array_agg(object_path ORDER BY image_id DESC) FROM regress_i.images WHERE object_path IS NOT NULL), '{NULL,NULL}', '{NULL,08001}', '{NULL,no connection}');
SELECT image_id, object_path IS NOT NULL AS stored, (SELECT count(*) FROM regress_i.failures f WHERE f.image_id = i.image_id AND f.stage = 'upload') AS failures FROM regress_i.images i WHERE image_id IN ('a.1', '../a') ORDER BY 1;

-- rights: USAGE is enough to predict; whoever is to do more is granted EXECUTE, to see rows is granted SELECT
SET ROLE regress_routes_web;
SELECT regress_i.http_predict('{1,1}');
SELECT millrace.predict_with_profile('regress_i', '{1,1}');
RESET ROLE; SET ROLE regress_routes_owner;
GRANT USAGE ON SCHEMA regress_i TO regress_routes_web;
SET ROLE regress_routes_web;
SELECT regress_i.http_predict('{1,1}');
SELECT status FROM regress_i.http_health();
SELECT regress_i.http_upload('x');
SELECT regress_i.http_extract('x');
SELECT regress_i.http_extraction('00000000-0000-0000-0000-000000000000');
SELECT regress_i.http_predictions('gif');
RESET ROLE; SET ROLE regress_routes_owner;
GRANT SELECT ON regress_i.predictions, regress_i.failures, regress_i.descriptors, regress_i.images TO regress_routes_web;
ALTER TABLE regress_i.images ENABLE ROW LEVEL SECURITY;
ALTER TABLE regress_i.failures ENABLE ROW LEVEL SECURITY;
SET ROLE regress_routes_web;
SELECT regress_i.http_predictions('gif');
RESET ROLE; SET ROLE regress_routes_owner;

-- answers
SELECT millrace.create_pipeline('answers', 'regress_a', '{"encoder": "", "judge": "token_f1", "provider": "regress_llm", "cache": false}');
SELECT * FROM pg_temp.seen(regress_a.http_query('What is a mill?'));
SELECT pg_temp.without(regress_a.http_status(question_id), 'question_id', 'asked_at', 'history'), regress_a.http_status(question_id) -> 'history' -> 0 ->> 'state' FROM regress_a.questions;
INSERT INTO regress_a.history (question, answer) VALUES ('What is a mill?', 'A machine that grinds.');
SELECT * FROM pg_temp.seen(regress_a.http_query('what is a mill'));
SELECT pg_temp.without(regress_a.http_status(question_id), 'question_id', 'asked_at', 'finished_at', 'history') FROM regress_a.questions WHERE status = 'validated';
SELECT regress_a.http_query('');
SELECT regress_a.http_query(NULL);
SELECT regress_a.http_query('x', reference => ' ');
SELECT regress_a.http_query('x', options => '[]');
SELECT regress_a.http_query('x', options => '{"provider": "regress_store"}');
SELECT regress_a.http_status('00000000-0000-0000-0000-000000000000');
SELECT status, body::jsonb -> 'reasons' AS reasons FROM pg_temp.seen(regress_a.http_health());
UPDATE regress_a.settings SET provider = NULL, tenants = 'role';
SELECT status, body::jsonb -> 'reasons' AS reasons FROM pg_temp.seen(regress_a.http_health());
SELECT regress_a.http_query('another');
UPDATE regress_a.settings SET provider = '"regress_llm"';
GRANT USAGE ON SCHEMA regress_a TO regress_routes_web, regress_routes_other;
GRANT EXECUTE ON FUNCTION regress_a.http_query, regress_a.http_status TO regress_routes_web, regress_routes_other;
-- a role is its own tenant, whatever it says
SET SESSION AUTHORIZATION regress_routes_web;
SELECT status FROM regress_a.http_query('whose?', 'regress_routes_other');
SELECT (pg_catalog.convert_from(body, 'UTF8')::jsonb ->> 'question_id') AS id FROM regress_a.http_query('whose?') \gset
SELECT regress_a.http_status(:'id') ->> 'status';
SET SESSION AUTHORIZATION regress_routes_other;
SELECT pg_catalog.regexp_replace(pg_catalog.current_setting('session_authorization'), 'x', ''), millrace.request_role();
\set VERBOSITY sqlstate
SELECT regress_a.http_status(:'id');
\set VERBOSITY terse
RESET SESSION AUTHORIZATION;
SET ROLE regress_routes_owner;
SELECT DISTINCT tenant FROM regress_a.questions WHERE question = 'whose?';

-- events
SELECT millrace.create_pipeline('events', 'regress_e', '{"tasks": ["keywords"], "provider": "regress_llm"}');
SELECT regress_e.add_type('summary', 'In short: {{text}}', condition => 'length(text) > 20');
SELECT * FROM pg_temp.seen(regress_e.http_process('The mill grinds grain slowly.', 'keywords', '{"tenant": "t", "tasks": ["summary"]}'));
SELECT regress_e.http_process('The mill', 'mood');
SELECT regress_e.http_process('The mill', 'summary');
SELECT regress_e.http_process(NULL, 'keywords');
SELECT regress_e.http_process('The mill', 'keywords', '[]');
SELECT * FROM pg_temp.seen(regress_e.http_process('The mill grinds grain slowly.', 'summary'));
SELECT text, metadata, source FROM regress_e.events ORDER BY event_id;
SELECT regress_e.http_task(task_id) - 'task_id' FROM regress_e.requests ORDER BY event_id;
SELECT regress_e.work(t.payload) FROM millrace.tasks t WHERE t.kind = 'regress_e.work' AND t.payload -> 'types' ? 'keywords';
INSERT INTO regress_e.results (event_id, type, result, origin, hit, similarity) SELECT event_id, type, '{"text": "It grinds.", "nothing": null}', 'cache', 'exact', 1 FROM regress_e.requests WHERE type = 'summary';
SELECT regress_e.http_task(task_id) - '{task_id,finished_at,latency_ms}'::text[] FROM regress_e.requests ORDER BY event_id;
SELECT regress_e.http_task('00000000-0000-0000-0000-000000000000');
SELECT status FROM regress_e.http_health();
SELECT regress_e.forget(now() + interval '1 hour'), (SELECT count(*) FROM regress_e.requests);
SELECT count(*) FROM regress_e.requests;

-- datasets
SELECT millrace.create_pipeline('datasets', 'regress_d', '{"detector": "regress_gone"}');
SELECT regress_d.http_detections('x');
SELECT regress_d.http_detections('x', model => 'nobody');
SELECT regress_d.http_annotated('x', model => 'regress_near');
SELECT status, body::jsonb -> 'reasons' AS reasons FROM pg_temp.seen(regress_d.http_health());

-- tabular: what is classified goes the way of what was learnt from
SELECT millrace.create_pipeline('tabular', 'regress_t', '{"columns": "id bigint, seen timestamptz, x real, y real, colour text, kind text", "key": "id", "time": "seen", "target": "kind",
	"features": ["x", "y", "x - y AS x_y", "colour"], "normalise": "standard", "missing": [-9999], "limits": {"x": [-100, 100]}, "min_rows": 50, "window": "1 week", "start": "2026-01-05 00:00+00",
	"candidates": [{"algorithm": "gradient_boosting"}], "monitor": false, "schedule": false}');
SELECT regress_t.http_classify('{"x": 1}');
SELECT regress_t.http_model();
SELECT status, body::jsonb -> 'reasons' AS reasons FROM pg_temp.seen(regress_t.http_health());
INSERT INTO regress_t.raw (id, seen, x, y, colour, kind) SELECT i, timestamptz '2026-01-05 00:00+00' + i * interval '1 minute', i % 7, i % 5,
	CASE WHEN i % 3 = 0 THEN 'red' ELSE 'blue' END, CASE WHEN i % 7 > i % 5 THEN 'wide' ELSE 'high' END FROM generate_series(1, 600) i;
SELECT state, rows_features, champion_after FROM regress_t.catch_up('2026-01-12 00:00+00');
SELECT j -> 'label', j -> 'model', round((j -> 'confidence')::numeric, 2), (SELECT round(sum(v::numeric), 3) FROM jsonb_each_text(j -> 'probabilities') p(k, v)) FROM CAST(regress_t.http_classify('{"x": 6, "y": 1, "colour": "red"}') AS jsonb) j;
-- the same of the table's rows one by one, whole rows as good as features
SELECT count(*), count(*) FILTER (WHERE s.v -> 'label' = to_jsonb(c.label) AND s.v -> 'confidence' = to_jsonb(c.confidence)) AS same
FROM jsonb_array_elements(regress_t.http_classify((SELECT jsonb_agg(to_jsonb(r) - '{row_id,received_at,source,source_topic,source_partition,source_offset}'::text[] ORDER BY r.row_id) FROM regress_t.raw r))::jsonb) WITH ORDINALITY s(v, n)
JOIN regress_t.features f ON f.row_id = s.n, LATERAL classify(millrace.model_features('regress_t', f), 'regress_t') c;
-- a marker of missing values, one out of its limits, null and nothing are one; a derived feature may be given
SELECT count(DISTINCT e::text) FROM json_array_elements(regress_t.http_classify('[{"y": 1}, {"x": null, "y": 1}, {"x": -9999, "y": 1}, {"x": 1000, "y": 1}]')) e;
SELECT j ->> 'label' FROM json_array_elements(regress_t.http_classify('[{"x_y": 3}, {"x_y": -3}]')) j;
SELECT regress_t.http_classify('[]');
SELECT regress_t.http_classify('{"x": 1, "z": 2, "row_id": 3}');
SELECT regress_t.http_classify('{"x": "wide"}');
SELECT regress_t.http_classify('[1]');
SELECT regress_t.http_classify('null');
SELECT regress_t.http_classify((SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 10001)));
SELECT j ->> 'model', j ->> 'algorithm', j -> 'features', j -> 'labels', j -> 'lineage' -> 'trained_by' -> 'decision' ->> 'reason', jsonb_array_length(j -> 'lineage' -> 'champions')
	FROM CAST(regress_t.http_model() AS jsonb) j;
SELECT j ->> 'model', (j -> 'holdout' ->> 'rows')::int > 50, (j -> 'holdout' ->> 'accuracy')::float8 > 0.9, j -> 'periods' FROM CAST(regress_t.http_model_metrics() AS jsonb) j;
SELECT status FROM regress_t.http_health();

-- two names that would be one path
SELECT millrace.create_pipeline('images', 'regress-i%');
SELECT millrace.create_pipeline('images', 'regress i');
SELECT millrace.create_pipeline('images', 'regress*i');
SELECT DISTINCT pipeline, prefix, scope FROM millrace.routes WHERE pipeline ~ '^regress.i$' ORDER BY 1;
SELECT millrace.upgrade_pipeline('regress*i');
SELECT count(*) FROM millrace.routes WHERE pipeline = 'regress*i' AND prefix = '/regress_i__';
SELECT millrace.create_pipeline('images', 'regress_k', '{"http_prefix": "/regress_i"}');
SELECT millrace.create_pipeline('images', 'regress_k', '{"http_prefix": "no/path"}');

SELECT millrace.drop_pipeline(name) FROM millrace.pipelines WHERE name ~ '^regress' ORDER BY name;
SELECT count(*) FROM millrace.routes WHERE pipeline ~ '^regress';
\c :back
SELECT millrace.clear_detection_cache();	-- the server's, which other tests count by
DROP DATABASE regression_routes;
DROP ROLE regress_routes_owner, regress_routes_web, regress_routes_other;
