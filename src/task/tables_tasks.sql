-- task: the task queue
--
-- A task waits in task_queue until it has ended, then stands in task_done; millrace.tasks shows both.  A queue is what limits
-- when its tasks begin: a role and a provider (lane call), or a role and the sql lane.  New rows are found by snapshots and
-- rows due again by time (worker/seek_pg.c): nothing ever passes over rows that are dead.  Leaves of all three tables are emptied
-- by TRUNCATE, so that what has ended leaves nothing behind, whatever snapshot is held.

CREATE TABLE millrace.task_pools (
	owner       text PRIMARY KEY,
	options     jsonb NOT NULL DEFAULT '{}',
	state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused')),
	reason      text,
	state_since timestamptz NOT NULL DEFAULT now(),
	generation  bigint NOT NULL DEFAULT 1,
	bound_to    text NOT NULL,
	created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE millrace.task_pools IS 'roles that have tasks, and the workers each may have; made by a role''s first task, changed by alter_task_pool()';
COMMENT ON COLUMN millrace.task_pools.owner IS 'role that submits tasks, whose rights its workers have';
COMMENT ON COLUMN millrace.task_pools.options IS 'workers_min, workers_max: processes of lane sql; max_tasks, memory: after which one makes room for a new one; slots: calls at once; lease_s';
COMMENT ON COLUMN millrace.task_pools.state IS 'running, or paused by pause_tasks()';
COMMENT ON COLUMN millrace.task_pools.reason IS 'why it is paused';
COMMENT ON COLUMN millrace.task_pools.state_since IS 'when the state was set';
COMMENT ON COLUMN millrace.task_pools.generation IS 'raised by every change; workers that hold another one end';
COMMENT ON COLUMN millrace.task_pools.bound_to IS 'the database it may run in; elsewhere (restored, cloned) it counts as paused until resume_tasks()';
COMMENT ON COLUMN millrace.task_pools.created_at IS 'when its first task was submitted';

CREATE TABLE millrace.task_queues (
	id    int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	owner text NOT NULL REFERENCES millrace.task_pools (owner) ON DELETE CASCADE,
	lane  text NOT NULL CHECK (lane IN ('call', 'sql')),
	name  text NOT NULL,
	UNIQUE (owner, lane, name)
);
COMMENT ON TABLE millrace.task_queues IS 'queues of tasks: for each role one a provider or server it calls, and those of lane sql; made by their first task';
COMMENT ON COLUMN millrace.task_queues.id IS 'number of the queue';
COMMENT ON COLUMN millrace.task_queues.owner IS 'whose tasks';
COMMENT ON COLUMN millrace.task_queues.lane IS 'call: sent to a server, many at once in one process; sql: run in the database, one at a time in each process';
COMMENT ON COLUMN millrace.task_queues.name IS 'foreign server of wrapper millrace_http; "sql" where none is needed';

CREATE TABLE millrace.task_kinds (
	kind     text PRIMARY KEY CHECK (kind <> ''),
	base     text NOT NULL CHECK (base IN ('llm', 'embed', 'fetch', 'sql')),
	function text,
	prompt   text,
	options  jsonb NOT NULL DEFAULT '{}',
	owner    text NOT NULL,
	CHECK ((base = 'sql' AND prompt IS NULL) OR (base <> 'sql' AND function IS NULL))
);
COMMENT ON TABLE millrace.task_kinds IS 'kinds of tasks: llm, embed, fetch and sql, and what create_task_kind() added';
COMMENT ON COLUMN millrace.task_kinds.kind IS 'name, first argument of submit_task()';
COMMENT ON COLUMN millrace.task_kinds.base IS 'what is done: a language model is asked, texts are embedded by a provider, an object or address is fetched, a function is called';
COMMENT ON COLUMN millrace.task_kinds.function IS 'base sql: function(jsonb) returns jsonb, called with the payload; NULL: the payload names it';
COMMENT ON COLUMN millrace.task_kinds.prompt IS 'base llm: text with {{name}} where the payload''s value of that name goes; NULL: the payload has prompt or messages';
COMMENT ON COLUMN millrace.task_kinds.options IS 'options of submit_task() that its tasks have unless they are given';
COMMENT ON COLUMN millrace.task_kinds.owner IS 'role that made it, and may drop it';
INSERT INTO millrace.task_kinds (kind, base, owner) SELECT k, k, CURRENT_USER FROM pg_catalog.unnest('{llm,embed,fetch,sql}'::text[]) k;

CREATE SEQUENCE millrace.task_seq MAXVALUE 1152921504606846975;
COMMENT ON SEQUENCE millrace.task_seq IS 'first half of a task''s id: ids are in the order of submission';
CREATE SEQUENCE millrace.task_lease_seq;
COMMENT ON SEQUENCE millrace.task_lease_seq IS 'lease tokens: each claim has a new one';

CREATE TABLE millrace.task_queue (
	leaf       smallint NOT NULL,
	id         uuid NOT NULL,
	xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	queue      int NOT NULL,
	priority   smallint NOT NULL DEFAULT 5,
	kind       text NOT NULL,
	base       text NOT NULL,
	payload    jsonb NOT NULL,
	tenant     text NOT NULL DEFAULT '',
	providers  text[],
	hop        smallint NOT NULL DEFAULT 0,
	weight     int NOT NULL DEFAULT 0,
	order_key  text,
	key        text,
	tag        text,
	deliver    text,
	watch      text,
	timeout_ms int,
	max_attempts smallint NOT NULL DEFAULT 11,
	deadline   timestamptz,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	attempts   smallint NOT NULL DEFAULT 0,
	tries      jsonb NOT NULL DEFAULT '{}',
	lease      bigint,
	due_at     timestamptz,
	started_at timestamptz,
	pid        int,
	class      text,
	sqlstate   text,
	error      text
) PARTITION BY LIST (leaf);
COMMENT ON TABLE millrace.task_queue IS 'tasks that wait or run; see view millrace.tasks';
COMMENT ON COLUMN millrace.task_queue.leaf IS 'partition it lies in: these take turns';
COMMENT ON COLUMN millrace.task_queue.id IS 'what submit_task() returned; in the order of submission';
COMMENT ON COLUMN millrace.task_queue.xid IS 'transaction that submitted it, or put it back';
COMMENT ON COLUMN millrace.task_queue.queue IS 'its queue: role, lane, provider';
COMMENT ON COLUMN millrace.task_queue.priority IS '9 first, 0 last; submit_task() checks it, once for all';
COMMENT ON COLUMN millrace.task_queue.kind IS 'its kind';
COMMENT ON COLUMN millrace.task_queue.base IS 'what is done';
COMMENT ON COLUMN millrace.task_queue.payload IS 'what it is done with';
COMMENT ON COLUMN millrace.task_queue.tenant IS 'whose limits it counts against';
COMMENT ON COLUMN millrace.task_queue.providers IS 'servers to be tried, one after the other';
COMMENT ON COLUMN millrace.task_queue.hop IS 'which of them it is at, from 0';
COMMENT ON COLUMN millrace.task_queue.weight IS 'tokens that a call is expected to take';
COMMENT ON COLUMN millrace.task_queue.order_key IS 'tasks of one owner and key run one after the other, in the order they were submitted in; NULL: in any';
COMMENT ON COLUMN millrace.task_queue.key IS 'idempotency key, see task_keys';
COMMENT ON COLUMN millrace.task_queue.tag IS 'the caller''s own mark, handed back';
COMMENT ON COLUMN millrace.task_queue.deliver IS 'function that is told how tasks ended; NULL: none';
COMMENT ON COLUMN millrace.task_queue.watch IS 'function that is told of failed attempts after which another follows; NULL: none';
COMMENT ON COLUMN millrace.task_queue.timeout_ms IS 'longest attempt; NULL: as the provider or the pool says';
COMMENT ON COLUMN millrace.task_queue.max_attempts IS 'attempts of all classes together';
COMMENT ON COLUMN millrace.task_queue.deadline IS 'no attempt begins after it, none lasts longer';
COMMENT ON COLUMN millrace.task_queue.created_at IS 'when it was submitted';
COMMENT ON COLUMN millrace.task_queue.attempts IS 'attempts begun';
COMMENT ON COLUMN millrace.task_queue.tries IS 'failed attempts by class of error';
COMMENT ON COLUMN millrace.task_queue.lease IS 'token of the worker that is at it; NULL: nobody';
COMMENT ON COLUMN millrace.task_queue.due_at IS 'waiting: not before, NULL at once; running: when the lease expires unless it is renewed';
COMMENT ON COLUMN millrace.task_queue.started_at IS 'when the last attempt began';
COMMENT ON COLUMN millrace.task_queue.pid IS 'process that is at it';
COMMENT ON COLUMN millrace.task_queue.class IS 'of the last attempt''s error: a row of retry_policies';
COMMENT ON COLUMN millrace.task_queue.sqlstate IS 'of the last attempt''s error';
COMMENT ON COLUMN millrace.task_queue.error IS 'of the last attempt';

CREATE TABLE millrace.task_done (
	leaf        smallint NOT NULL,
	id          uuid NOT NULL,
	owner       text NOT NULL,
	lane        text NOT NULL,
	queue       text NOT NULL,
	kind        text NOT NULL,
	payload     jsonb NOT NULL,
	priority    smallint NOT NULL,
	tenant      text NOT NULL,
	order_key   text,
	key         text,
	tag         text,
	deliver     text,
	watch       text,
	providers   text[],
	timeout_ms  int,
	max_attempts smallint,
	weight      int NOT NULL DEFAULT 0,
	state       text NOT NULL CHECK (state IN ('succeeded', 'failed', 'cancelled', 'expired')),
	result      jsonb,
	class       text,
	sqlstate    text,
	error       text,
	attempts    smallint NOT NULL,
	tries       jsonb NOT NULL,
	created_at  timestamptz NOT NULL,
	started_at  timestamptz,
	finished_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) PARTITION BY LIST (leaf);
COMMENT ON TABLE millrace.task_done IS 'tasks that have ended, kept for millrace.task_retention; see view millrace.tasks';

CREATE TABLE millrace.task_attempts (
	leaf        smallint NOT NULL,
	id          uuid NOT NULL,
	attempt     smallint NOT NULL,
	owner       text NOT NULL,
	queue       text NOT NULL,
	kind        text NOT NULL,
	tenant      text NOT NULL,
	pid         int,
	started_at  timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	class       text,
	status      smallint,
	sqlstate    text,
	error       text,
	retry_after interval,
	again_at    timestamptz,
	tokens_in   int,
	tokens_out  int,
	cost        numeric
) PARTITION BY LIST (leaf);
COMMENT ON TABLE millrace.task_attempts IS 'every attempt that has ended, one row each, written once; kept as task_done is';
COMMENT ON COLUMN millrace.task_attempts.class IS 'class of its error; NULL: it succeeded';
COMMENT ON COLUMN millrace.task_attempts.status IS 'HTTP status; NULL: none came';
COMMENT ON COLUMN millrace.task_attempts.retry_after IS 'what the server asked for';
COMMENT ON COLUMN millrace.task_attempts.again_at IS 'when the next attempt was due; NULL: this was the last';
COMMENT ON COLUMN millrace.task_attempts.cost IS 'by option cost_per_1k of the provider';

CREATE TABLE millrace.task_keys (
	owner      text NOT NULL,
	key        text NOT NULL,
	id         uuid NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (owner, key)
);
COMMENT ON TABLE millrace.task_keys IS 'idempotency keys: who submits a key again within millrace.task_key_retention gets the task it stands for';

CREATE TABLE millrace.task_cancels (
	id           uuid PRIMARY KEY,
	requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE millrace.task_cancels IS 'running tasks that cancel_task() was called for; the worker that is at one ends it';

DO $$ BEGIN
	FOR leaf IN 0 .. 3 LOOP
		EXECUTE pg_catalog.format('CREATE TABLE millrace.task_queue_%1$s PARTITION OF millrace.task_queue FOR VALUES IN (%1$s) '
			'WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05)', leaf);
		EXECUTE pg_catalog.format('COMMENT ON TABLE millrace.task_queue_%s IS ''leaf of task_queue''', leaf);
	END LOOP;
	FOR leaf IN 0 .. 7 LOOP
		EXECUTE pg_catalog.format('CREATE TABLE millrace.task_done_%1$s PARTITION OF millrace.task_done FOR VALUES IN (%1$s)', leaf);
		EXECUTE pg_catalog.format('COMMENT ON TABLE millrace.task_done_%s IS ''leaf of task_done''', leaf);
		EXECUTE pg_catalog.format('CREATE TABLE millrace.task_attempts_%1$s PARTITION OF millrace.task_attempts FOR VALUES IN (%1$s)', leaf);
		EXECUTE pg_catalog.format('COMMENT ON TABLE millrace.task_attempts_%s IS ''leaf of task_attempts''', leaf);
	END LOOP;
END $$;
ALTER TABLE millrace.task_queue ADD PRIMARY KEY (id, leaf);
CREATE INDEX task_queue_ready_idx ON millrace.task_queue (queue, priority, xid, id) WHERE lease IS NULL;
CREATE INDEX task_queue_due_idx ON millrace.task_queue (queue, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX task_queue_order_idx ON millrace.task_queue (order_key, id) WHERE order_key IS NOT NULL;
CREATE INDEX task_keys_created_idx ON millrace.task_keys (created_at);
CREATE INDEX task_done_id_idx ON millrace.task_done (id);
CREATE INDEX task_done_finished_idx ON millrace.task_done (finished_at);
CREATE INDEX task_attempts_id_idx ON millrace.task_attempts (id);
CREATE INDEX task_attempts_finished_idx ON millrace.task_attempts (finished_at);

-- What a failed attempt means for the next one.
CREATE TABLE millrace.retry_policies (
	class      text PRIMARY KEY CHECK (class <> ''),
	position   smallint NOT NULL,
	statuses   text[] NOT NULL DEFAULT '{}',
	sqlstates  text[] NOT NULL DEFAULT '{}',
	retries    int NOT NULL CHECK (retries BETWEEN 0 AND 100),
	backoff    text NOT NULL DEFAULT 'exponential' CHECK (backoff IN ('exponential', 'fixed')),
	base_s     double precision NOT NULL DEFAULT 1 CHECK (base_s >= 0 AND base_s <= 86400),
	jitter     double precision NOT NULL DEFAULT 0 CHECK (jitter BETWEEN 0 AND 10),
	max_s      double precision NOT NULL DEFAULT 3600 CHECK (max_s BETWEEN 0 AND 86400),
	slow_down  boolean NOT NULL DEFAULT false,
	pause      boolean NOT NULL DEFAULT false,
	built_in   boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE millrace.retry_policies IS 'classes of errors and what follows from them; edit the numbers, add classes: the first row by position whose statuses or sqlstates match an error is its class';
COMMENT ON COLUMN millrace.retry_policies.class IS 'name, as in tasks.class';
COMMENT ON COLUMN millrace.retry_policies.position IS 'order in which rows are compared';
COMMENT ON COLUMN millrace.retry_policies.statuses IS 'HTTP statuses: 429, or 5xx';
COMMENT ON COLUMN millrace.retry_policies.sqlstates IS 'SQLSTATEs, or their beginnings: 40001, 53';
COMMENT ON COLUMN millrace.retry_policies.retries IS 'attempts after the first that failed so';
COMMENT ON COLUMN millrace.retry_policies.backoff IS 'exponential: base_s * 2^n seconds after the nth failure of the class (n from 1); fixed: base_s';
COMMENT ON COLUMN millrace.retry_policies.base_s IS 'seconds';
COMMENT ON COLUMN millrace.retry_policies.jitter IS 'the pause is chance within [pause, (1 + jitter) * pause]';
COMMENT ON COLUMN millrace.retry_policies.max_s IS 'no pause is longer, Retry-After, which is the least pause, included';
COMMENT ON COLUMN millrace.retry_policies.slow_down IS 'such an answer also lowers the provider''s rate';
COMMENT ON COLUMN millrace.retry_policies.pause IS 'such an answer pauses the provider until resume_provider(); the task waits and its attempt does not count';
COMMENT ON COLUMN millrace.retry_policies.built_in IS 'shipped with the extension';
INSERT INTO millrace.retry_policies (class, position, statuses, sqlstates, retries, backoff, base_s, jitter, slow_down, pause, built_in) VALUES
	('overload',  1, '{429,503,529}',         '{HYT00}',                   3, 'exponential', 1,   0.25, true,  false, true),
	('quota',     2, '{402}',                 '{}',                        5, 'fixed',       60,  0,    false, false, true),
	('auth',      3, '{401,403}',             '{28}',                      0, 'fixed',       0,   0,    false, true,  true),
	('network',   4, '{408,409,425,5xx}',     '{08}',                      5, 'exponential', 0.5, 1,    false, false, true),
	('malformed', 5, '{}',                    '{22P02,22030,22032,2203F}', 2, 'fixed',       1,   0.25, false, false, true),
	('invalid',   6, '{4xx,3xx}',             '{54000}',                   0, 'fixed',       0,   0,    false, false, true),
	('lost',      7, '{}',                    '{MR001}',                   3, 'exponential', 0.5, 1,    false, false, true),
	('conflict',  8, '{}',                    '{40,55P03}',                5, 'exponential', 0.05, 1,   false, false, true),
	('resources', 9, '{}',                    '{53,57,58}',                5, 'exponential', 1,   0.25, false, false, true),
	('function', 10, '{}',                    '{}',                        0, 'fixed',       0,   0,    false, false, true);

CREATE TABLE millrace.provider_states (
	server   text PRIMARY KEY,
	paused   boolean NOT NULL DEFAULT false,
	reason   text,
	since    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE millrace.provider_states IS 'providers that were paused; see view millrace.stat_providers';
COMMENT ON COLUMN millrace.provider_states.server IS 'foreign server of wrapper millrace_http';
COMMENT ON COLUMN millrace.provider_states.paused IS 'by an answer of class auth, or by pause_provider()';
COMMENT ON COLUMN millrace.provider_states.reason IS 'why';
COMMENT ON COLUMN millrace.provider_states.since IS 'when that was';

GRANT SELECT ON millrace.task_pools, millrace.task_queues TO millrace_admin, millrace_monitor;
GRANT SELECT ON millrace.task_kinds TO millrace_admin, millrace_monitor, millrace_user;
GRANT SELECT ON millrace.task_queue, millrace.task_done, millrace.task_attempts, millrace.task_keys TO millrace_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON millrace.retry_policies TO millrace_admin;
GRANT SELECT ON millrace.retry_policies TO millrace_monitor, millrace_user;
GRANT SELECT ON millrace.provider_states TO millrace_admin, millrace_monitor;
