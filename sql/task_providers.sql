-- Providers: pausing them, and what is known of them; no worker runs here.
CREATE ROLE regress_admin IN ROLE millrace_admin;
CREATE ROLE regress_owner IN ROLE millrace_user;
CREATE ROLE regress_user IN ROLE millrace_user;
CREATE ROLE regress_monitor IN ROLE millrace_monitor;
CREATE SERVER regress_llm FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'ollama', url 'http://127.0.0.1:1', concurrency '4',
	requests_per_minute '60', tenant_requests_per_minute '6', cost_per_1k '0.5');
CREATE SERVER regress_store FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url 'http://127.0.0.1:1');
ALTER SERVER regress_llm OWNER TO regress_owner;
GRANT USAGE ON FOREIGN SERVER regress_llm TO regress_user;

-- The server's owner and admins may, who only uses it may not.
SET ROLE regress_user;
SELECT millrace.pause_provider('regress_llm');
SELECT millrace.resume_provider('regress_llm');
SET ROLE regress_monitor;
SELECT millrace.pause_provider('regress_llm');
SET ROLE regress_admin;
SELECT millrace.pause_provider('regress_llm', 'for the night');
SET ROLE regress_owner;
SELECT millrace.pause_provider('regress_llm', 'for the night');
SELECT millrace.pause_provider(NULL);
SELECT millrace.pause_provider('regress_none');
SET ROLE regress_monitor;
SELECT provider, tenant, api, state, reason, since <= now() AS since FROM millrace.stat_providers WHERE provider = 'regress_llm';
SET ROLE regress_owner;
SELECT millrace.resume_provider('regress_llm');
SELECT millrace.resume_provider('regress_llm');
SELECT * FROM millrace.stat_providers;
RESET ROLE;

-- The last hour's attempts, by class, and by tenant where there are some.
INSERT INTO millrace.task_attempts (leaf, id, attempt, owner, queue, kind, tenant, started_at, finished_at, class, tokens_in, tokens_out, cost)
SELECT 0, pg_catalog.gen_random_uuid(), 1, 'regress_owner', 'regress_llm', 'llm', CASE WHEN i % 4 = 0 THEN 'acme' ELSE '' END,
	pg_catalog.now() - i * interval '1 ms', pg_catalog.now(), CASE WHEN i % 10 = 0 THEN 'overload' WHEN i % 20 = 5 THEN 'network' END, 10, 20, 0.015
FROM pg_catalog.generate_series(1, 100) i;
INSERT INTO millrace.task_attempts (leaf, id, attempt, owner, queue, kind, tenant, started_at, finished_at)
VALUES (0, pg_catalog.gen_random_uuid(), 1, 'regress_owner', 'regress_llm', 'llm', '', pg_catalog.now() - interval '3 h', pg_catalog.now() - interval '2 h');
SELECT provider, tenant, state, concurrency, requests_per_minute, tokens_per_minute, attempts, succeeded, failed, tokens_in_1h, tokens_out_1h, cost_1h,
	p50_ms, p95_ms, p99_ms
FROM millrace.stat_providers WHERE provider = 'regress_llm' ORDER BY tenant NULLS FIRST;
TRUNCATE millrace.task_attempts;
DELETE FROM millrace.provider_states;

DROP SERVER regress_llm, regress_store;
DROP ROLE regress_admin, regress_owner, regress_user, regress_monitor;
