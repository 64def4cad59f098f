-- Pipeline images from the middle: descriptors in, one prediction per profile out, in the same statement.
SET client_min_messages = warning;
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin, millrace_modeler;
CREATE ROLE regress_producer LOGIN;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO regress_mill', pg_catalog.current_database()) \gexec
GRANT CREATE ON SCHEMA public TO regress_mill;
SET ROLE regress_mill;

-- Two classes that a straight line parts, and a model of each kind that knows them.
CREATE TABLE regress_points AS
	SELECT ARRAY[x, y]::real[] AS d, CASE WHEN x + y > 10 THEN 'far' ELSE 'near' END AS label
	FROM pg_catalog.generate_series(0, 10) x, pg_catalog.generate_series(0, 10) y WHERE x + y <> 10;
SELECT millrace.train_model('regress_line', 'logistic_regression', 'SELECT d, label FROM regress_points ORDER BY d', 'label', '{"C": 100}');
SELECT millrace.train_model('regress_forest', 'random_forest', 'SELECT d, label FROM regress_points ORDER BY d', 'label',
	'{"n_estimators": 20, "random_state": 1}');

SELECT millrace.create_pipeline('images', 'regress_p');
SELECT millrace.create_pipeline('images', 'regress_p');
SELECT millrace.create_pipeline('nosuchkind', 'regress_q');
SELECT millrace.create_pipeline('../images', 'regress_q');
SELECT millrace.create_pipeline('images', 'regress_q', '{"topics": 1}');
SELECT name, kind, owner FROM millrace.pipelines;
DELETE FROM regress_p.profiles;
INSERT INTO regress_p.profiles (profile, model) VALUES ('line', 'regress_line'), ('forest', 'regress_forest'), ('lost', 'regress_no_model');

-- A producer needs INSERT on the entry table only.
GRANT USAGE ON SCHEMA regress_p TO regress_producer;
GRANT INSERT ON regress_p.descriptors TO regress_producer;
RESET ROLE;
SET ROLE regress_producer;
INSERT INTO regress_p.descriptors (image_id, descriptors, descriptor_count, source_topic, source_partition, source_offset) VALUES
	('a', '{9,9}', 2, 'topic', 0, 5), ('b', '{1,1}', 2, 'topic', 0, 6), ('c', '{2,9}', 2, 'topic', 1, 1);
SELECT * FROM regress_p.predictions;
RESET ROLE;
SET ROLE regress_mill;
SELECT image_id, profile, label, confidence > 0.5 AS sure, model, source_topic, source_partition, source_offset
	FROM regress_p.predictions ORDER BY 1, 2;
-- The profile without a model left the others alone, and says so once for the batch.
SELECT image_id, stage, profile, model, rows, sqlstate, message FROM regress_p.failures;
SELECT stage, profile, model_name, model_version, source_topic, source_offsets, rows FROM regress_p.runs ORDER BY run_id;

-- Rows no classifier can take are told apart one by one; the good row of the statement is predicted.
INSERT INTO regress_p.descriptors (image_id, descriptors) VALUES
	('d', '{8,8}'), ('null', '{1,NULL}'), ('nan', '{1,NaN}'), ('short', '{1}'), ('empty', '{}'), ('square', '{{1,2},{3,4}}');
SELECT image_id, profile, label FROM regress_p.predictions WHERE image_id NOT IN ('a', 'b', 'c') ORDER BY 1, 2;
SELECT image_id, rows, sqlstate, message FROM regress_p.failures WHERE profile = 'line' ORDER BY 1;

-- A new profile: its past by backfill, its future by the triggers; twice changes nothing.
UPDATE regress_p.profiles SET model = 'regress_forest:1' WHERE profile = 'lost';
SELECT regress_p.backfill_profile('lost');
SELECT regress_p.backfill_profile('lost');
SELECT regress_p.backfill_profile('nobody');
UPDATE regress_p.profiles SET enabled = false WHERE profile = 'forest';
INSERT INTO regress_p.descriptors (image_id, descriptors) VALUES ('e', '{0,1}');
SELECT profile, label FROM regress_p.predictions WHERE image_id = 'e' ORDER BY 1;

-- A changed vector is predicted anew; an unchanged one is not.
UPDATE regress_p.descriptors SET descriptors = '{0,0}' WHERE image_id = 'a';
UPDATE regress_p.descriptors SET descriptor_count = 2 WHERE image_id = 'b';
INSERT INTO regress_p.descriptors (image_id, descriptors) VALUES ('b', '{10,10}')
	ON CONFLICT (image_id) DO UPDATE SET descriptors = excluded.descriptors;
SELECT image_id, profile, label FROM regress_p.predictions WHERE image_id IN ('a', 'b') AND profile = 'line' ORDER BY 1;
SELECT count(*) FROM regress_p.runs WHERE profile = 'line';

-- A promoted version is what the next statement uses.
SELECT millrace.train_model('regress_line', 'logistic_regression',
	'SELECT d, CASE label WHEN ''far'' THEN ''remote'' ELSE label END AS label FROM regress_points ORDER BY d', 'label', '{"C": 100}');
INSERT INTO regress_p.descriptors (image_id, descriptors) VALUES ('f', '{9,9}');
SELECT millrace.promote_model('regress_line', 1);
INSERT INTO regress_p.descriptors (image_id, descriptors) VALUES ('g', '{9,9}');
SELECT image_id, label, model FROM regress_p.predictions WHERE image_id IN ('f', 'g') AND profile = 'line' ORDER BY 1;

-- Rows that fired nothing are found.
RESET ROLE;
SET session_replication_role = replica;
INSERT INTO regress_p.descriptors (image_id, descriptors) SELECT 'r' || i, ARRAY[i, i]::real[] FROM pg_catalog.generate_series(1, 3) i;
RESET session_replication_role;
SET ROLE regress_producer;
SELECT millrace.backfill('regress_p');
RESET ROLE;
SET ROLE regress_mill;
SELECT millrace.backfill('regress_p');
SELECT count(*) FROM regress_p.predictions WHERE image_id LIKE 'r%' AND profile = 'line';

-- The views have rows; what they say adds up.
SELECT stage, rows FROM regress_p.latency_by_stage ORDER BY 1;
SELECT profile, predictions FROM regress_p.classifier_comparison ORDER BY 1, 2;
SELECT profile, sum(images), round(sum(percent)) FROM regress_p.class_distribution GROUP BY 1 ORDER BY 1;

SELECT millrace.upgrade_pipeline('regress_p');
SELECT millrace.drop_pipeline('regress_p');
SELECT count(*) FROM millrace.pipelines;
SELECT millrace.drop_pipeline('regress_p');
DROP TABLE regress_points;
SELECT millrace.drop_model('regress_line');
SELECT millrace.drop_model('regress_forest');
RESET ROLE;
SELECT pg_catalog.format('REVOKE CREATE ON DATABASE %I FROM regress_mill', pg_catalog.current_database()) \gexec
REVOKE CREATE ON SCHEMA public FROM regress_mill;
DROP ROLE regress_mill, regress_producer;
