-- Replays of pipeline images: the shadow, its models, the views beside it.  What a worker would insert is inserted by hand.
SET client_min_messages = warning;
\pset null -
\set SHOW_CONTEXT never
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin, millrace_modeler;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO regress_mill', pg_catalog.current_database()) \gexec
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://127.0.0.1:9');
GRANT USAGE ON FOREIGN SERVER regress_k, regress_s3 TO regress_mill;
GRANT CREATE ON SCHEMA public TO regress_mill;
SET ROLE regress_mill;
CREATE TABLE regress_points AS
	SELECT ARRAY[x, y]::real[] AS d, CASE WHEN x + y > 10 THEN 'far' ELSE 'near' END AS label, CASE WHEN x + y > 6 THEN 'far' ELSE 'near' END AS other
	FROM pg_catalog.generate_series(0, 10) x, pg_catalog.generate_series(0, 10) y;
SELECT millrace.train_model('regress_say', 'logistic_regression', 'SELECT d, label FROM regress_points ORDER BY d', 'label', '{"C": 100}');
SELECT millrace.train_model('regress_say', 'logistic_regression', 'SELECT d, other FROM regress_points ORDER BY d', 'other', '{"C": 100}');
SELECT millrace.create_pipeline('images', 'regress_p', '{"server": "regress_k", "features_topic": "features", "source": {"on_conflict": "update"}}');
DELETE FROM regress_p.profiles;
INSERT INTO regress_p.profiles (profile, model) VALUES ('line', 'regress_say:1'), ('same', 'regress_say:1');

-- What cannot be.
SELECT regress_p.replay('0', '10', '{"line": "regress_none"}');
SELECT regress_p.replay('0', '10', '{"line": "regress_say:7"}');
SELECT regress_p.replay('0', '10', source => 'elsewhere');
SELECT regress_p.replay('0', '10', name => 'regress_p');
SELECT regress_p.replay('0', '10');
RESET ROLE;
SELECT regress_p.replay('0', '10');
INSERT INTO millrace.source_offsets (source, partition, next_offset) VALUES ('regress_p_descriptors', 0, 100);
SET ROLE regress_mill;
SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname LIKE 'regress_p_replay%';

-- Every form; the shadow has the models that were asked for, by version.
SELECT regress_p.replay(0, 10, '{"line": "regress_say", "new": "regress_say:1"}');
SELECT regress_p.replay(now() - interval '1 day', now(), name => 'regress shadow');
SELECT regress_p.replay('{"0": 3}');
SELECT 'regress_p_replay_1' AS shadow, profile, model FROM regress_p_replay_1.profiles UNION ALL SELECT 'regress shadow', profile, model FROM "regress shadow".profiles ORDER BY 1, 2;
SELECT name, replay_of, target, options FROM millrace.sources ORDER BY name;

-- Live rows and those of two shadows; d is newer in one, f is there only.
INSERT INTO regress_p.descriptors (image_id, descriptors, source_topic, source_partition, source_offset) VALUES
	('a', '{9,9}', 'features', 0, 1), ('b', '{1,1}', 'features', 0, 2), ('c', '{4,4}', 'features', 0, 3), ('d', '{5,4}', 'features', 0, 99);
INSERT INTO regress_p_replay_1.descriptors (image_id, descriptors, source_topic, source_partition, source_offset) VALUES
	('a', '{9,9}', 'features', 0, 1), ('b', '{1,1}', 'features', 0, 2), ('c', '{4,4}', 'features', 0, 3), ('d', '{1,0}', 'features', 0, 4), ('f', '{1,0}', 'features', 0, 5);
INSERT INTO "regress shadow".descriptors (image_id, descriptors, source_topic, source_partition, source_offset) VALUES ('a', '{9,9}', 'features', 0, 1);
SELECT replay, image_id, profile, live_label, live_model, replayed_label, replayed_model, changed, same_message FROM regress_p.replay_diff ORDER BY 1, 2, 3;
SELECT replay, profile, live_model, replayed_model, images, compared, changed, agreement_percent FROM regress_p.replay_agreement ORDER BY 1, 2, 3;
SELECT * FROM regress_p.replay_confusion WHERE profile = 'line' ORDER BY 1, 3, 4;
SELECT difference, key, columns FROM millrace.replay_diff('regress_p_replay_1', ignore => '{created_at,source,run_id}') ORDER BY 2;
SELECT stage, profile, model_name, model_version, source_topic, source_offsets, rows FROM regress_p_replay_1.runs ORDER BY run_id;
-- The live tables know nothing of it.
SELECT (SELECT count(*) FROM regress_p.predictions), (SELECT count(*) FROM regress_p.failures), (SELECT count(*) FROM ONLY regress_p.replayed_predictions);

-- Upgrades leave shadows in place; dropped ones are gone from the views; a pipeline takes its shadows with it.
SELECT millrace.upgrade_pipeline('regress_p');
SELECT millrace.drop_pipeline('regress shadow');
SELECT replay, images FROM regress_p.replay_agreement ORDER BY 1, 2;
SELECT name FROM millrace.sources ORDER BY name;
SELECT millrace.drop_pipeline('regress_p');
SELECT name FROM millrace.sources;
SELECT name FROM millrace.pipelines;

-- Photos: two sources, of which one is chosen; their objects are fetched for the shadow, too, and nothing is announced.
SELECT millrace.create_pipeline('images', 'regress_o', '{"server": "regress_k", "images_topic": "photos", "features_topic": "features", "object_server": "regress_s3", "bucket": "bucket"}');
INSERT INTO regress_o.profiles (profile, model) VALUES ('line', 'regress_say') ON CONFLICT DO NOTHING;
RESET ROLE;
INSERT INTO millrace.source_offsets (source, partition, next_offset) VALUES ('regress_o_images', 0, 100);
SET ROLE regress_mill;
SELECT regress_o.replay(0, 10);
SELECT regress_o.replay(0, 10, source => 'regress_o_images', name => 'regress_shadow', options => '{"batch_rows": 7}');
SELECT target, options FROM millrace.sources WHERE name = 'regress_shadow';
SELECT server, bucket, topic FROM regress_shadow.object_store;
INSERT INTO regress_shadow.images (image_id, object_path) VALUES ('a', 'bucket/a.jpg');
SELECT method, path, deliver, tag FROM millrace.http_requests;
SELECT count(*) FROM regress_shadow.profiles;
SELECT millrace.drop_pipeline('regress_o');
SELECT name FROM millrace.pipelines;
SELECT millrace.drop_model('regress_say');
DROP TABLE regress_points;
RESET ROLE;
DROP SERVER regress_k, regress_s3 CASCADE;
REVOKE CREATE ON SCHEMA public FROM regress_mill;
SELECT pg_catalog.format('REVOKE CREATE ON DATABASE %I FROM regress_mill', pg_catalog.current_database()) \gexec
DROP ROLE regress_mill;
