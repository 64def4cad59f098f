-- stream: rows that leave for Kafka
--
-- An outbox belongs to a server of wrapper millrace_kafka.  publish() and the
-- triggers only append; nothing is updated or deleted, so that neither a held
-- snapshot nor a long backlog slows anybody.  What has left is known by
-- snapshots: a message is sent once its transaction shows in a newer one than
-- outbox_progress.done.  The three leaves take turns by the minute; the one
-- that comes next is truncated when everything in it has left.

CREATE TABLE millrace.outboxes (
	server           text PRIMARY KEY,
	owner            text NOT NULL,
	options          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	state            text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'halted')),
	reason           text,
	state_since      timestamptz NOT NULL DEFAULT now(),
	generation       bigint NOT NULL DEFAULT 1,
	bound_to         text NOT NULL,
	transactional_id text NOT NULL,
	created_by       text NOT NULL DEFAULT session_user,
	created_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE millrace.outboxes IS 'Kafka servers that messages leave for';
COMMENT ON COLUMN millrace.outboxes.server IS 'foreign server of wrapper millrace_kafka';
COMMENT ON COLUMN millrace.outboxes.owner IS 'role whose rights and user mapping the worker has';
COMMENT ON COLUMN millrace.outboxes.options IS 'options given to create_outbox';
COMMENT ON COLUMN millrace.outboxes.state IS 'running; paused by a user; halted by its worker, for the reason beside it';
COMMENT ON COLUMN millrace.outboxes.reason IS 'why it is paused or halted';
COMMENT ON COLUMN millrace.outboxes.state_since IS 'when the state was set';
COMMENT ON COLUMN millrace.outboxes.generation IS 'raised by every change; a worker that holds another one ends';
COMMENT ON COLUMN millrace.outboxes.bound_to IS 'system identifier/database oid it may run in; elsewhere (restored, cloned) it counts as paused until resume_outbox';
COMMENT ON COLUMN millrace.outboxes.transactional_id IS 'by which the brokers know its producer and fence an older one; also the key of its progress record';
COMMENT ON COLUMN millrace.outboxes.created_by IS 'who called create_outbox';
COMMENT ON COLUMN millrace.outboxes.created_at IS 'when create_outbox was called';

-- Not dumped: snapshots mean something in one cluster only.
CREATE TABLE millrace.outbox_progress (
	server        text PRIMARY KEY,
	epoch         bigint NOT NULL DEFAULT 0,
	batch         bigint NOT NULL DEFAULT 0,
	confirmed     boolean NOT NULL DEFAULT true,
	adopt         boolean NOT NULL DEFAULT false,
	done          pg_snapshot NOT NULL,
	upto          pg_snapshot,
	after_id      bigint,
	batch_id      bigint,
	last_id       bigint,
	last_upto     text,
	batch_messages bigint NOT NULL DEFAULT 0,
	batch_bytes   bigint NOT NULL DEFAULT 0,
	messages      bigint NOT NULL DEFAULT 0,
	bytes         bigint NOT NULL DEFAULT 0,
	dead          bigint NOT NULL DEFAULT 0,
	last_batch_at timestamptz,
	pid           int NOT NULL DEFAULT 0,
	state         text NOT NULL DEFAULT 'stopped',
	reason        text,
	sqlstate      text,
	since         timestamptz NOT NULL DEFAULT now(),
	errors        bigint NOT NULL DEFAULT 0,
	last_error    text,
	last_error_at timestamptz
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE millrace.outbox_progress IS 'what of each outbox has left, and what its worker is doing';
COMMENT ON COLUMN millrace.outbox_progress.server IS 'server of the outbox';
COMMENT ON COLUMN millrace.outbox_progress.epoch IS 'raised by every worker that takes over: one that holds an older one can no longer claim';
COMMENT ON COLUMN millrace.outbox_progress.batch IS 'number of the batch claimed last; it stands in the Kafka transaction too';
COMMENT ON COLUMN millrace.outbox_progress.confirmed IS 'that batch is known to be in Kafka';
COMMENT ON COLUMN millrace.outbox_progress.adopt IS 'resume_outbox(accept_duplicates): whatever the progress topic says, go on from here';
COMMENT ON COLUMN millrace.outbox_progress.done IS 'every message of a transaction that this snapshot saw has left';
COMMENT ON COLUMN millrace.outbox_progress.upto IS 'the messages that this snapshot saw beyond done are leaving now';
COMMENT ON COLUMN millrace.outbox_progress.after_id IS 'of those, the ones up to this id have left';
COMMENT ON COLUMN millrace.outbox_progress.batch_id IS 'last id of the batch';
COMMENT ON COLUMN millrace.outbox_progress.last_id IS 'last id of them all';
COMMENT ON COLUMN millrace.outbox_progress.last_upto IS 'upto of the batch claimed last';
COMMENT ON COLUMN millrace.outbox_progress.batch_messages IS 'messages in it';
COMMENT ON COLUMN millrace.outbox_progress.batch_bytes IS 'their keys and values';
COMMENT ON COLUMN millrace.outbox_progress.messages IS 'messages that have left';
COMMENT ON COLUMN millrace.outbox_progress.bytes IS 'their keys and values';
COMMENT ON COLUMN millrace.outbox_progress.dead IS 'messages that the brokers refused';
COMMENT ON COLUMN millrace.outbox_progress.last_batch_at IS 'when a batch was last confirmed';
COMMENT ON COLUMN millrace.outbox_progress.pid IS 'process of the worker; 0: none';
COMMENT ON COLUMN millrace.outbox_progress.state IS 'what the worker is doing';
COMMENT ON COLUMN millrace.outbox_progress.reason IS 'why it waits or does not run';
COMMENT ON COLUMN millrace.outbox_progress.sqlstate IS 'SQLSTATE of the reason';
COMMENT ON COLUMN millrace.outbox_progress.since IS 'when it entered the state';
COMMENT ON COLUMN millrace.outbox_progress.errors IS 'errors its workers met';
COMMENT ON COLUMN millrace.outbox_progress.last_error IS 'the last of them';
COMMENT ON COLUMN millrace.outbox_progress.last_error_at IS 'when it happened';

CREATE SEQUENCE millrace.outbox_id_seq;
COMMENT ON SEQUENCE millrace.outbox_id_seq IS 'numbers messages of outboxes; the order in which one key leaves';

-- Not dumped either: what is on its way belongs to the cluster it was committed in.
CREATE TABLE millrace.outbox (
	leaf    smallint NOT NULL,
	server  text NOT NULL,
	id      bigint NOT NULL DEFAULT pg_catalog.nextval('millrace.outbox_id_seq'),
	xid     xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	topic   text NOT NULL,
	key     bytea,
	value   bytea,
	headers bytea[],
	at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	ts      timestamptz
) PARTITION BY LIST (leaf);
CREATE INDEX outbox_id_idx ON millrace.outbox (server, id);
CREATE INDEX outbox_xid_idx ON millrace.outbox (server, xid, id);
CREATE TABLE millrace.outbox_0 PARTITION OF millrace.outbox FOR VALUES IN (0);
CREATE TABLE millrace.outbox_1 PARTITION OF millrace.outbox FOR VALUES IN (1);
CREATE TABLE millrace.outbox_2 PARTITION OF millrace.outbox FOR VALUES IN (2);
COMMENT ON TABLE millrace.outbox IS 'messages on their way to Kafka; those that have left stay until their leaf is truncated';
COMMENT ON TABLE millrace.outbox_0 IS 'messages of every third minute';
COMMENT ON TABLE millrace.outbox_1 IS 'messages of every third minute';
COMMENT ON TABLE millrace.outbox_2 IS 'messages of every third minute';
COMMENT ON COLUMN millrace.outbox.leaf IS 'which of the three tables: the minute it was inserted in, modulo three';
COMMENT ON COLUMN millrace.outbox.server IS 'the outbox';
COMMENT ON COLUMN millrace.outbox.id IS 'number, rising; messages of one key leave in this order';
COMMENT ON COLUMN millrace.outbox.xid IS 'transaction that published it';
COMMENT ON COLUMN millrace.outbox.topic IS 'Kafka topic';
COMMENT ON COLUMN millrace.outbox.key IS 'message key; NULL: none';
COMMENT ON COLUMN millrace.outbox.value IS 'message value; NULL: a tombstone';
COMMENT ON COLUMN millrace.outbox.headers IS 'name, value, name, value, ... as bytes';
COMMENT ON COLUMN millrace.outbox.at IS 'when it was published';
COMMENT ON COLUMN millrace.outbox.ts IS 'timestamp of the Kafka message; NULL: when it was published';

CREATE TABLE millrace.outbox_dead_letters (
	server  text NOT NULL,
	id      bigint NOT NULL,
	topic   text NOT NULL,
	key     bytea,
	value   bytea,
	headers bytea[],
	at      timestamptz NOT NULL,
	error   text NOT NULL,
	refused_at timestamptz NOT NULL DEFAULT now(),
	shortened boolean NOT NULL DEFAULT false,
	PRIMARY KEY (server, id)
);
COMMENT ON TABLE millrace.outbox_dead_letters IS 'messages that the brokers will never take (too large, no such topic name), with the reason';
COMMENT ON COLUMN millrace.outbox_dead_letters.server IS 'the outbox';
COMMENT ON COLUMN millrace.outbox_dead_letters.id IS 'number of the message';
COMMENT ON COLUMN millrace.outbox_dead_letters.topic IS 'Kafka topic';
COMMENT ON COLUMN millrace.outbox_dead_letters.key IS 'message key';
COMMENT ON COLUMN millrace.outbox_dead_letters.value IS 'message value; not kept of one that is shortened';
COMMENT ON COLUMN millrace.outbox_dead_letters.headers IS 'name, value, name, value, ... as bytes';
COMMENT ON COLUMN millrace.outbox_dead_letters.at IS 'when it was published';
COMMENT ON COLUMN millrace.outbox_dead_letters.error IS 'what the broker or the library said';
COMMENT ON COLUMN millrace.outbox_dead_letters.refused_at IS 'when';
COMMENT ON COLUMN millrace.outbox_dead_letters.shortened IS 'a source''s dead letter (option dead_letter_topic), which has left without its value; the value is in dead_letters';

GRANT SELECT ON millrace.outboxes, millrace.outbox_progress TO millrace_admin, millrace_monitor;
GRANT SELECT ON millrace.outbox TO millrace_admin;
GRANT SELECT, DELETE ON millrace.outbox_dead_letters TO millrace_admin;

SELECT pg_catalog.pg_extension_config_dump('millrace.outboxes', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.outbox_dead_letters', '');
