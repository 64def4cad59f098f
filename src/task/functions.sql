-- task: the wrapper

CREATE FUNCTION millrace.http_validator(options text[], catalog oid) RETURNS void
	LANGUAGE c STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_http_validator';
COMMENT ON FUNCTION millrace.http_validator(text[], oid) IS
	'checks the options of millrace_http servers and user mappings against an allow-list';

CREATE FOREIGN DATA WRAPPER millrace_http VALIDATOR millrace.http_validator;
COMMENT ON FOREIGN DATA WRAPPER millrace_http IS 'names servers that speak HTTP, object stores for now: servers carry url and limits, user mappings secrets';
GRANT USAGE ON FOREIGN DATA WRAPPER millrace_http TO millrace_admin;

-- task: requests.  Who may make them: roles with USAGE on the server, whom its owner lets.

CREATE FUNCTION millrace.fetch_object(server text, path text, deliver text, tag text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_fetch_object';
COMMENT ON FUNCTION millrace.fetch_object(text, text, text, text) IS
	'an object (bucket/key, or s3://bucket/key) is fetched once this transaction has committed, and function deliver(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) told what came of it; returns the request''s number';

CREATE FUNCTION millrace.put_object(server text, path text, content bytea, content_type text DEFAULT NULL,
		deliver text DEFAULT NULL, tag text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_put_object';
COMMENT ON FUNCTION millrace.put_object(text, text, bytea, text, text, text) IS
	'an object (bucket/key, or s3://bucket/key) is put into its store once this transaction has committed; function deliver, if named, is told what came of it, else failures stand in http_failures; returns the request''s number';

CREATE FUNCTION millrace.pause_requests(server text, reason text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_pause_requests';
COMMENT ON FUNCTION millrace.pause_requests(text, text) IS
	'no more requests to a server are begun, of those roles whom the caller is a member of; they are kept; returns how many queues that are';

CREATE FUNCTION millrace.resume_requests(server text) RETURNS bigint
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_resume_requests';
COMMENT ON FUNCTION millrace.resume_requests(text) IS
	'requests to a server go on: after a pause, after a restore or a clone of the database; returns how many queues that are';

CREATE FUNCTION millrace.cancel_requests(server text, ids bigint[] DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cancel_requests';
COMMENT ON FUNCTION millrace.cancel_requests(text, bigint[]) IS
	'requests to a server (all, or those of ids) are taken back, of those roles whom the caller is a member of; nobody is told of them, an answer that is on its way is dropped; returns how many';

CREATE FUNCTION millrace.retry_requests(server text, ids bigint[] DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_retry_requests';
COMMENT ON FUNCTION millrace.retry_requests(text, bigint[]) IS
	'requests in http_failures (all of a server, or those of ids) go back into their queue, with all their attempts before them; returns how many';

REVOKE EXECUTE ON FUNCTION millrace.fetch_object(text, text, text, text), millrace.put_object(text, text, bytea, text, text, text),
	millrace.pause_requests(text, text), millrace.resume_requests(text), millrace.cancel_requests(text, bigint[]),
	millrace.retry_requests(text, bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.fetch_object(text, text, text, text), millrace.put_object(text, text, bytea, text, text, text)
	TO millrace_admin, millrace_user;
GRANT EXECUTE ON FUNCTION millrace.pause_requests(text, text), millrace.resume_requests(text), millrace.cancel_requests(text, bigint[]),
	millrace.retry_requests(text, bigint[]) TO millrace_admin;

CREATE TRIGGER http_queues_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.http_queues
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.http_queues ENABLE ALWAYS TRIGGER http_queues_changed;
COMMENT ON TRIGGER http_queues_changed ON millrace.http_queues IS 'wakes supervisor and workers';

-- Upper bound, in milliseconds, of the class that holds the given part of all answers.
CREATE FUNCTION millrace.latency_quantile(latency bigint[], part double precision) RETURNS double precision
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT round((power(2, c.class / 2.0) / 1000)::numeric, 3)::double precision
	  FROM (SELECT k AS class, sum(n) OVER (ORDER BY k) AS upto, sum(n) OVER () AS total
			  FROM unnest(latency) WITH ORDINALITY AS l(n, k)) c
	 WHERE c.total > 0 AND c.upto >= part * c.total ORDER BY c.class LIMIT 1
$$;
COMMENT ON FUNCTION millrace.latency_quantile(bigint[], double precision) IS
	'of http_progress.latency: milliseconds within which this part of all answers came, exact to a factor of 1.42';

REVOKE EXECUTE ON FUNCTION millrace.latency_quantile(bigint[], double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.latency_quantile(bigint[], double precision) TO millrace_admin, millrace_monitor;
