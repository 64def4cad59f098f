-- task: requests over HTTP, to object stores for now
--
-- A queue is a server and a role: what that role asked for by fetch_object() and
-- put_object().  One worker serves it, connected as the role.  A request's row is
-- inserted by the transaction that asks, updated once per attempt, deleted by the
-- transaction that delivers its result.  New rows are found by snapshots, others
-- by their id: nothing ever passes over rows that are dead (worker/claim_pg.c).

CREATE TABLE millrace.http_queues (
	id          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	server      text NOT NULL,
	owner       text NOT NULL,
	state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused')),
	reason      text,
	state_since timestamptz NOT NULL DEFAULT now(),
	generation  bigint NOT NULL DEFAULT 1,
	bound_to    text NOT NULL,
	created_at  timestamptz NOT NULL DEFAULT now(),
	UNIQUE (server, owner)
);
COMMENT ON TABLE millrace.http_queues IS 'whose requests go to which server; a queue is made by its first request';
COMMENT ON COLUMN millrace.http_queues.id IS 'number of the queue, and of its worker in status()';
COMMENT ON COLUMN millrace.http_queues.server IS 'foreign server of wrapper millrace_http';
COMMENT ON COLUMN millrace.http_queues.owner IS 'role that asks, whose rights and user mapping the worker has';
COMMENT ON COLUMN millrace.http_queues.state IS 'running, or paused by pause_requests()';
COMMENT ON COLUMN millrace.http_queues.reason IS 'why it is paused';
COMMENT ON COLUMN millrace.http_queues.state_since IS 'when the state was set';
COMMENT ON COLUMN millrace.http_queues.generation IS 'raised by every change; a worker that holds another one ends';
COMMENT ON COLUMN millrace.http_queues.bound_to IS 'the database it may run in; elsewhere (restored, cloned) it counts as paused until resume_requests()';
COMMENT ON COLUMN millrace.http_queues.created_at IS 'when its first request was made';

-- Not dumped, nor are requests: what is on its way belongs to the cluster it was asked for in.
CREATE TABLE millrace.http_progress (
	queue          int PRIMARY KEY REFERENCES millrace.http_queues (id) ON DELETE CASCADE,
	epoch          bigint NOT NULL DEFAULT 0,
	idle           pg_snapshot,
	succeeded      bigint NOT NULL DEFAULT 0,
	failed         bigint NOT NULL DEFAULT 0,
	undelivered    bigint NOT NULL DEFAULT 0,
	retries        bigint NOT NULL DEFAULT 0,
	late           bigint NOT NULL DEFAULT 0,
	batches        bigint NOT NULL DEFAULT 0,
	bytes_in       bigint NOT NULL DEFAULT 0,
	bytes_out      bigint NOT NULL DEFAULT 0,
	faults         bigint[] NOT NULL DEFAULT '{}',
	latency        bigint[] NOT NULL DEFAULT '{}',
	latency_sum_us bigint NOT NULL DEFAULT 0,
	latency_max_us bigint NOT NULL DEFAULT 0,
	last_batch_at  timestamptz,
	pid            int NOT NULL DEFAULT 0,
	state          text NOT NULL DEFAULT 'stopped',
	reason         text,
	sqlstate       text,
	since          timestamptz NOT NULL DEFAULT now(),
	last_error     text,
	last_error_at  timestamptz
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE millrace.http_progress IS 'what became of each queue''s requests, and what its worker is doing';
COMMENT ON COLUMN millrace.http_progress.queue IS 'the queue';
COMMENT ON COLUMN millrace.http_progress.epoch IS 'raised by every worker that takes over; requests carry it while one works on them: the answers of an older one match none';
COMMENT ON COLUMN millrace.http_progress.idle IS 'nothing that this snapshot saw is waiting; NULL: something may be';
COMMENT ON COLUMN millrace.http_progress.succeeded IS 'requests carried out and delivered';
COMMENT ON COLUMN millrace.http_progress.failed IS 'requests that failed for good, the undelivered ones among them';
COMMENT ON COLUMN millrace.http_progress.undelivered IS 'requests in http_failures: nobody to tell, or who was told raised an error';
COMMENT ON COLUMN millrace.http_progress.retries IS 'attempts that failed and were followed, or will be, by another';
COMMENT ON COLUMN millrace.http_progress.late IS 'answers that came when the request was no longer this worker''s, and were dropped';
COMMENT ON COLUMN millrace.http_progress.batches IS 'transactions that delivered results';
COMMENT ON COLUMN millrace.http_progress.bytes_in IS 'contents fetched';
COMMENT ON COLUMN millrace.http_progress.bytes_out IS 'contents put';
COMMENT ON COLUMN millrace.http_progress.faults IS 'failed attempts by kind, in the order of stat_http.errors';
COMMENT ON COLUMN millrace.http_progress.latency IS 'answers by duration: element n counts those from 2^((n - 1) / 2) up to 2^(n / 2) microseconds';
COMMENT ON COLUMN millrace.http_progress.latency_sum_us IS 'their durations, added up';
COMMENT ON COLUMN millrace.http_progress.latency_max_us IS 'the longest of them';
COMMENT ON COLUMN millrace.http_progress.last_batch_at IS 'when results were last delivered';
COMMENT ON COLUMN millrace.http_progress.pid IS 'process of the worker; 0: none';
COMMENT ON COLUMN millrace.http_progress.state IS 'what the worker is doing';
COMMENT ON COLUMN millrace.http_progress.reason IS 'why it waits or does not run';
COMMENT ON COLUMN millrace.http_progress.sqlstate IS 'SQLSTATE of the reason';
COMMENT ON COLUMN millrace.http_progress.since IS 'when it entered the state';
COMMENT ON COLUMN millrace.http_progress.last_error IS 'the last fault of a request, or of the worker';
COMMENT ON COLUMN millrace.http_progress.last_error_at IS 'when it happened';

CREATE SEQUENCE millrace.http_request_id_seq;
COMMENT ON SEQUENCE millrace.http_request_id_seq IS 'numbers requests';

CREATE TABLE millrace.http_requests (
	id           bigint PRIMARY KEY DEFAULT pg_catalog.nextval('millrace.http_request_id_seq'),
	xid          xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	queue        int NOT NULL,
	method       text NOT NULL CHECK (method IN ('GET', 'PUT')),
	path         text NOT NULL,
	content      bytea,
	content_type text,
	deliver      text,
	tag          text,
	created_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	attempts     int NOT NULL DEFAULT 0,
	epoch        bigint,
	due_at       timestamptz,
	sqlstate     text,
	error        text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- Objects are compressed as a rule; and a row's new versions, one an attempt, shall carry a pointer only.
ALTER TABLE millrace.http_requests ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX http_requests_xid_idx ON millrace.http_requests (queue, xid, id);
COMMENT ON TABLE millrace.http_requests IS 'requests that wait, or are being carried out';
COMMENT ON COLUMN millrace.http_requests.id IS 'number, what fetch_object() and put_object() return';
COMMENT ON COLUMN millrace.http_requests.xid IS 'transaction that asked';
COMMENT ON COLUMN millrace.http_requests.queue IS 'its queue: server and owner';
COMMENT ON COLUMN millrace.http_requests.method IS 'GET or PUT';
COMMENT ON COLUMN millrace.http_requests.path IS 'bucket/key, not encoded';
COMMENT ON COLUMN millrace.http_requests.content IS 'what is to be put';
COMMENT ON COLUMN millrace.http_requests.content_type IS 'of what is to be put';
COMMENT ON COLUMN millrace.http_requests.deliver IS 'function that is told what became of it; NULL: none';
COMMENT ON COLUMN millrace.http_requests.tag IS 'the caller''s own mark, handed back';
COMMENT ON COLUMN millrace.http_requests.created_at IS 'when it was made';
COMMENT ON COLUMN millrace.http_requests.attempts IS 'attempts begun';
COMMENT ON COLUMN millrace.http_requests.epoch IS 'the lease: epoch of the worker that is at it; NULL: nobody';
COMMENT ON COLUMN millrace.http_requests.due_at IS 'not before; NULL: at once';
COMMENT ON COLUMN millrace.http_requests.sqlstate IS 'of the last attempt''s fault; before the first: it has failed, and is only to be delivered';
COMMENT ON COLUMN millrace.http_requests.error IS 'the last attempt''s fault';

CREATE TABLE millrace.http_failures (
	id           bigint PRIMARY KEY,
	server       text NOT NULL,
	owner        text NOT NULL,
	method       text NOT NULL,
	path         text NOT NULL,
	content      bytea,
	content_type text,
	deliver      text,
	tag          text,
	created_at   timestamptz NOT NULL,
	attempts     int NOT NULL,
	stage        text NOT NULL CHECK (stage IN ('request', 'delivery')),
	sqlstate     text NOT NULL,
	error        text NOT NULL,
	detail       text,
	failed_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
ALTER TABLE millrace.http_failures ALTER COLUMN content SET STORAGE EXTERNAL;
COMMENT ON TABLE millrace.http_failures IS 'failed requests that nobody was told of; retry_requests() puts them back into their queue';
COMMENT ON COLUMN millrace.http_failures.id IS 'number of the request';
COMMENT ON COLUMN millrace.http_failures.server IS 'foreign server';
COMMENT ON COLUMN millrace.http_failures.owner IS 'role that asked';
COMMENT ON COLUMN millrace.http_failures.method IS 'GET or PUT';
COMMENT ON COLUMN millrace.http_failures.path IS 'bucket/key';
COMMENT ON COLUMN millrace.http_failures.content IS 'what was to be put';
COMMENT ON COLUMN millrace.http_failures.content_type IS 'of what was to be put';
COMMENT ON COLUMN millrace.http_failures.deliver IS 'function that was to be told';
COMMENT ON COLUMN millrace.http_failures.tag IS 'the caller''s own mark';
COMMENT ON COLUMN millrace.http_failures.created_at IS 'when it was made';
COMMENT ON COLUMN millrace.http_failures.attempts IS 'attempts made';
COMMENT ON COLUMN millrace.http_failures.stage IS 'request: it failed, and had no function to be told; delivery: that function raised an error, or is gone';
COMMENT ON COLUMN millrace.http_failures.sqlstate IS 'of the fault';
COMMENT ON COLUMN millrace.http_failures.error IS 'the fault';
COMMENT ON COLUMN millrace.http_failures.detail IS 'more about it; for a delivery also what the request itself came to';
COMMENT ON COLUMN millrace.http_failures.failed_at IS 'when';

GRANT SELECT ON millrace.http_queues, millrace.http_progress TO millrace_admin, millrace_monitor;
GRANT SELECT ON millrace.http_requests TO millrace_admin;
GRANT SELECT, DELETE ON millrace.http_failures TO millrace_admin;

SELECT pg_catalog.pg_extension_config_dump('millrace.http_failures', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.http_request_id_seq', '');
