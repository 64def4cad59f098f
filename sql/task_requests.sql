-- Servers of wrapper millrace_http, and requests to them; no worker runs here.
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_other LOGIN IN ROLE millrace_admin;
CREATE SCHEMA regress_task AUTHORIZATION regress_mill;

-- The options of servers and user mappings are an allow-list, secrets only in mappings.
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http;
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ftp', url 'http://h');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'file:///etc/passwd');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://user:secret@h');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h/path');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url E'http://h\nX: y');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', secret_key 'x');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', proxy 'x');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', addressing 'odd');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', concurrency '0');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', concurrency '257');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', max_bytes '99999999999999999999');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', region 'eu west');
SET ROLE regress_mill;
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', allow_private 'true');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h', ssl_verify 'false');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://127.0.0.1:1', max_bytes '1000');
CREATE USER MAPPING FOR regress_mill SERVER regress_s3 OPTIONS (url 'http://x');
CREATE USER MAPPING FOR regress_mill SERVER regress_s3 OPTIONS (access_key 'x');
CREATE USER MAPPING FOR regress_mill SERVER regress_s3 OPTIONS (access_key E'x\r\nHost: y', secret_key 'y');
CREATE USER MAPPING FOR regress_mill SERVER regress_s3 OPTIONS (access_key 'me', secret_key 'secret');

-- A request needs a server that one may use, a path, and a function that takes what comes of it.
CREATE FUNCTION regress_task.done(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION regress_task.other(text) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION regress_task.done FROM PUBLIC;
SELECT millrace.fetch_object('regress_none', 'raw-images/a', 'regress_task.done');
SELECT millrace.fetch_object(NULL, 'raw-images/a', 'regress_task.done');
SELECT millrace.fetch_object('regress_s3', 'raw-images/a', NULL);
SELECT millrace.fetch_object('regress_s3', 'raw-images/a', 'regress_task.other');
SELECT millrace.fetch_object('regress_s3', 'raw-images/a', 'pg_catalog.count');
SELECT millrace.put_object('regress_s3', 'raw-images/a', NULL);
SELECT millrace.put_object('regress_s3', 'Raw/a', '');
SELECT millrace.put_object('regress_s3', 'raw-images/', '');
SELECT millrace.put_object('regress_s3', E'raw-images/a\nb', '');
SELECT millrace.put_object('regress_s3', 'raw-images/a', '', E'text/plain\r\nX: y');
SET ROLE regress_other;
SELECT millrace.fetch_object('regress_s3', 'raw-images/a', 'regress_task.done');
RESET ROLE;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers 'x');
SELECT millrace.fetch_object('regress_k', 'raw-images/a', 'regress_task.done');
CREATE SERVER regress_super FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://h');
SELECT millrace.fetch_object('regress_super', 'raw-images/a', 'regress_task.done');
GRANT USAGE ON FOREIGN SERVER regress_s3 TO regress_other;
SET ROLE regress_other;
SELECT millrace.fetch_object('regress_s3', 'raw-images/a', 'regress_task.done');
RESET ROLE;

-- Requests are rows of the transaction that makes them; a fault of the path is told like every other.
SET ROLE regress_mill;
BEGIN;
SELECT millrace.fetch_object('regress_s3', 'raw-images/rolled/back', 'regress_task.done') > 0 AS asked;
ROLLBACK;
SELECT millrace.fetch_object('regress_s3', 's3://raw-images/2026/a b.jpg', 'regress_task.done', 'tag') > 0 AS asked;
SELECT millrace.fetch_object('regress_s3', NULL, 'regress_task.done') > 0 AS asked;
SELECT millrace.put_object('regress_s3', 'raw-images/b', '\x00ff', 'image/png') > 0 AS asked;
RESET ROLE;
-- a superuser's belong to the server's owner
SELECT millrace.put_object('regress_s3', 'raw-images/c', '', NULL, 'regress_task.done') > 0 AS asked;
SELECT q.server, q.owner, r.method, r.path, r.content, r.content_type, r.deliver, r.tag, r.attempts, r.sqlstate, r.error
	FROM millrace.http_requests r JOIN millrace.http_queues q ON q.id = r.queue ORDER BY r.id;
SELECT server, owner, state, waiting, in_flight, succeeded, failed, errors, p50_ms FROM millrace.stat_http;

-- Pause, resume, cancel: one's own.
SET ROLE regress_other;
SELECT millrace.pause_requests('regress_s3'), millrace.cancel_requests('regress_s3');
SET ROLE regress_mill;
SELECT millrace.pause_requests('regress_s3', 'tea');
SELECT state, reason FROM millrace.stat_http;
SELECT millrace.resume_requests('regress_s3');
SELECT state, reason FROM millrace.stat_http;
SELECT millrace.cancel_requests('regress_s3', ARRAY(SELECT id FROM millrace.http_requests WHERE method = 'PUT'));
SELECT millrace.cancel_requests('regress_s3');
SELECT waiting FROM millrace.stat_http;

-- Failures go back into their queue.
RESET ROLE;
INSERT INTO millrace.http_failures (id, server, owner, method, path, created_at, attempts, stage, sqlstate, error)
	VALUES (1, 'regress_s3', 'regress_mill', 'GET', 'raw-images/a', now(), 8, 'delivery', '22012', 'division by zero'),
		   (2, 'regress_s3', 'regress_other', 'GET', 'raw-images/a', now(), 8, 'delivery', '22012', 'division by zero');
SET ROLE regress_mill;
SELECT millrace.retry_requests('regress_s3');
SELECT r.id, r.path, r.attempts FROM millrace.http_requests r;
SELECT id, owner FROM millrace.http_failures;
RESET ROLE;
SELECT millrace.cancel_requests('regress_s3');

SELECT millrace.latency_quantile('{0,6,3,0,1}', 0.5), millrace.latency_quantile('{0,6,3,0,1}', 0.95), millrace.latency_quantile('{}', 0.5);

DELETE FROM millrace.http_failures;
DELETE FROM millrace.http_queues;
DROP SERVER regress_s3 CASCADE;
DROP SERVER regress_super;
DROP SERVER regress_k;
DROP SCHEMA regress_task CASCADE;
DROP ROLE regress_mill, regress_other;
