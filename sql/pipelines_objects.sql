-- Objects in pipelines: what is asked for, and what the answers become.  The worker's calls are made by hand.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
\pset null -
CREATE ROLE regress_store LOGIN IN ROLE millrace_admin, millrace_modeler;
CREATE ROLE regress_uploader LOGIN;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO regress_store', pg_catalog.current_database()) \gexec
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://127.0.0.1:9');
GRANT USAGE ON FOREIGN SERVER regress_s3 TO regress_store;
SET ROLE regress_store;
CREATE VIEW pg_temp.asked AS SELECT method, path, deliver, tag, content_type, sqlstate FROM millrace.http_requests ORDER BY id;

-- photos
SELECT millrace.create_pipeline('images', 'regress_i');
SELECT regress_i.upload('\xffd8ff', 'early');
SELECT regress_i.fetch_from('nowhere');
INSERT INTO regress_i.images (image_id, object_path) VALUES ('old', 'raw-images/old.jpg');
SELECT regress_i.fetch_from('regress_s3');
SELECT count(*) FROM pg_temp.asked;
INSERT INTO regress_i.images (image_id, object_path) VALUES ('a', 'raw-images/a b+%é.jpg'), ('b', 's3://raw-images/b.png'), ('c', 'no path'), ('d', NULL);
TABLE pg_temp.asked;
SELECT regress_i.refetch(), regress_i.refetch('a'), regress_i.refetch('d');
UPDATE regress_i.images SET received_at = received_at;
UPDATE regress_i.images SET object_path = 'raw-images/a2.jpg' WHERE image_id = 'a';
SELECT path, tag FROM pg_temp.asked OFFSET 4;
-- an answer for a path that is no longer the image's changes nothing; of two answers the later counts
SELECT regress_i.deliver_objects('{a,b,c,b,gone}', '{raw-images/a b+%é.jpg,raw-images/b.png,no path,raw-images/b.png,x/y}', '{NULL,NULL,NULL,NULL,NULL}',
	'{58P01,58000,22023,42501,58P01}', '{overtaken,first,bad path,forbidden,nobody}');
SELECT image_id, stage, sqlstate, message FROM regress_i.failures ORDER BY image_id;
SELECT regress_i.deliver_objects('{b}', '{raw-images/b.png}', '{NULL}', '{58P01}', '{missing}');
SELECT image_id, stage, sqlstate, message FROM regress_i.failures ORDER BY image_id;

-- uploads
SELECT pg_catalog.regexp_replace(regress_i.upload('\xffd8ffe0', 'my cat'), '\d{4}/\d\d/\d\d', 'yyyy/mm/dd');
SELECT pg_catalog.regexp_replace(regress_i.upload('\x89504e470d0a1a0a'), '\d{4}/.*\.', 'yyyy/mm/dd/id.');
SELECT regress_i.upload('GIF89a', 'gif');
SELECT regress_i.deliver_uploads('{my cat,lost}', '{raw-images/my cat.jpg,raw-images/lost.jpg}', '{NULL,NULL}', '{NULL,08001}', '{NULL,no connection}');
SELECT object_path, content FROM regress_i.images WHERE image_id IN ('my cat', 'lost');
SELECT path, deliver FROM pg_temp.asked WHERE tag = 'my cat' AND method = 'GET';
SELECT image_id, sqlstate FROM regress_i.failures WHERE stage = 'upload';
SET ROLE regress_uploader;
SELECT regress_i.upload('\xffd8ff', 'mine');
SET ROLE regress_store;
SELECT millrace.upgrade_pipeline('regress_i');

-- tables
SELECT millrace.create_pipeline('tabular', 'regress_t', '{"columns": "n bigint, seen timestamptz, x real, kind text", "key": "n", "time": "seen",
	"target": "kind", "features": ["x"]}');
SELECT regress_t.load_object('regress_s3', 'weeks/1.csv');
SELECT regress_t.load_object('regress_s3', 'weeks/1.json', 'json', '{"columns": {"id": "n"}}');
SELECT regress_t.load_object('regress_s3', 'weeks/bad.csv', 'csv', '{"columns": {"id": "n"}, "max_bad": 1}');
SELECT regress_t.load_object('regress_s3', 'weeks/headless.csv', 'csv', '{"header": false, "delimiter": ";"}');
SELECT regress_t.load_object('regress_s3', 'weeks/keyless.csv');
SELECT regress_t.load_object('regress_s3', 'weeks/named.csv', 'csv', '{"header": ["n", "seen", "x", "kind"], "null": "-9999"}');
SELECT regress_t.load_object('regress_s3', 'weeks/torn.csv');
SELECT regress_t.load_object('regress_s3', 'weeks/empty.csv');
SELECT regress_t.load_object('regress_s3', 'weeks/missing.csv');
SELECT regress_t.load_object('regress_s3', 'weeks/1.xml', 'xml');
SELECT regress_t.load_object('regress_s3', 'weeks/1.json', 'json', '{"delimiter": ","}');
SELECT regress_t.deliver_objects('{1,2,3,4,5,6,7,8,9,1}', pg_catalog.array_fill('x/y'::text, '{10}'), ARRAY[
	E'n,seen,x,kind,more\n1,2026-01-01,1.5,a,\n2,2026-01-01,1.5,a\n3,never,1,b,z\n4,2026-01-01,,,1\n4,2026-01-01,,,1\n5,2026-01-01,2,"a\n""b""",1\n',
	E'{"id": 11, "seen": "2026-01-01", "x": 1, "kind": "q"}\n\n{"id": 12, "seen": "2026-01-01", "x": "no"}\n{broken\n17\n{"id": null}\n{"id":13,"seen":"2026-01-01"}',
	E'id,seen\nx,y\nx,y\n', E'21;2026-01-02;1;a\r\n', E'seen\n2026-01-01\n', E'31,2026-01-02,-9999,a\n', E'n,seen\n41,"2026-01-01\n', '', NULL, 'again']::bytea[],
	'{NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,58P01,NULL}', '{NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,there is none,NULL}');
SELECT path, state, rows_read, rows_loaded, rows_known, rows_bad, sqlstate, error FROM regress_t.loads ORDER BY load_id;
SELECT load_id, line, sqlstate, message FROM regress_t.load_failures ORDER BY 1, 2;
SELECT n, seen, x, kind, source, source_topic, source_offset FROM regress_t.raw ORDER BY n;

-- bytes as COPY would read them
SELECT line, fields FROM millrace.csv_rows('regress_t.raw', pg_catalog.convert_to(E'a,"b ""c"" ",\n"","1\n2",é\n', 'UTF8'));
SELECT fields FROM millrace.csv_rows('regress_t.raw', '\x61b5', '{"encoding": "LATIN1"}');
SELECT fields FROM millrace.csv_rows('regress_t.raw', '\x61ff');
SELECT fields FROM millrace.csv_rows('regress_t.raw', 'a', '{"header": "true"}');

-- what is dropped asks for nothing any more
SELECT count(*) FROM pg_temp.asked;
SELECT millrace.drop_pipeline('regress_i');
SELECT millrace.drop_pipeline('regress_t');
SELECT count(*) FROM pg_temp.asked;

RESET ROLE;
DELETE FROM millrace.http_queues WHERE server = 'regress_s3';
DROP SERVER regress_s3 CASCADE;
DROP VIEW pg_temp.asked;
SELECT pg_catalog.format('REVOKE CREATE ON DATABASE %I FROM regress_store', pg_catalog.current_database()) \gexec
DROP ROLE regress_store, regress_uploader;
