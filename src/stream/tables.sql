-- stream: sources, their offsets, their workers' state, and dead letters
--
-- Nothing here is granted for writing: SQL functions and workers write as the
-- extension's owner, and the rows of the target table as the source's owner.

CREATE TABLE millrace.sources (
	name        text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 63),
	server      text NOT NULL,
	topic       text NOT NULL CHECK (octet_length(topic) BETWEEN 1 AND 249),
	target      text NOT NULL,
	owner       text NOT NULL,
	options     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	state       text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'halted', 'finished', 'cancelled')),
	reason      text,
	sqlstate    text,
	state_since timestamptz NOT NULL DEFAULT now(),
	generation  bigint NOT NULL DEFAULT 1,
	bound_to    text NOT NULL,
	cluster_id  text,
	partitions  int,
	created_by  text NOT NULL DEFAULT session_user,
	created_at  timestamptz NOT NULL DEFAULT now(),
	workers_now int CHECK (workers_now > 0),
	workers_since timestamptz,
	workers_reason text,
	replay_of   text
);
COMMENT ON TABLE millrace.sources IS 'Kafka topics that are read into tables';
COMMENT ON COLUMN millrace.sources.name IS 'name of the source';
COMMENT ON COLUMN millrace.sources.server IS 'foreign server of wrapper millrace_kafka';
COMMENT ON COLUMN millrace.sources.topic IS 'Kafka topic';
COMMENT ON COLUMN millrace.sources.target IS 'qualified name of the table its messages are inserted into';
COMMENT ON COLUMN millrace.sources.owner IS 'role whose rights the workers have';
COMMENT ON COLUMN millrace.sources.options IS 'options given to create_source';
COMMENT ON COLUMN millrace.sources.state IS 'running; paused by a user; halted by a worker, for the reason beside it; of a replay also finished or cancelled';
COMMENT ON COLUMN millrace.sources.reason IS 'why it is paused or halted';
COMMENT ON COLUMN millrace.sources.sqlstate IS 'SQLSTATE of the reason, if an error was it';
COMMENT ON COLUMN millrace.sources.state_since IS 'when the state was set';
COMMENT ON COLUMN millrace.sources.generation IS 'raised by every change; a worker that holds another one ends';
COMMENT ON COLUMN millrace.sources.bound_to IS 'system identifier/database oid it may run in; elsewhere (restored, cloned) it counts as paused until resume_source';
COMMENT ON COLUMN millrace.sources.cluster_id IS 'Kafka cluster its offsets belong to';
COMMENT ON COLUMN millrace.sources.partitions IS 'partitions of the topic when it was first read: later ones start at their beginning, whatever option start says';
COMMENT ON COLUMN millrace.sources.created_by IS 'who called create_source';
COMMENT ON COLUMN millrace.sources.created_at IS 'when create_source was called';
COMMENT ON COLUMN millrace.sources.workers_now IS 'workers that share its partitions now; the supervisor sets it, from workers_min to workers_max';
COMMENT ON COLUMN millrace.sources.workers_since IS 'since when';
COMMENT ON COLUMN millrace.sources.workers_reason IS 'why so many, or why not more';
COMMENT ON COLUMN millrace.sources.replay_of IS 'this is a replay of that source: it reads a range of its topic into another table and ends';

-- One row a partition, updated by every batch: kept half empty for HOT.  No foreign key to
-- sources: a parallel restore loads an extension's tables in any order.  Claims lock the
-- source's row instead, and drop_source deletes both.
CREATE TABLE millrace.source_offsets (
	source         text NOT NULL,
	partition      int NOT NULL CHECK (partition >= 0),
	next_offset    bigint NOT NULL CHECK (next_offset >= 0),
	epoch          bigint NOT NULL DEFAULT 0,
	owner_pid      int,
	claimed_at     timestamptz,
	rewind_to      timestamptz,
	last_offset    bigint,
	last_time      timestamptz,
	last_crc       bigint,
	high_watermark bigint,
	rows           bigint NOT NULL DEFAULT 0,
	bytes          bigint NOT NULL DEFAULT 0,
	batches        bigint NOT NULL DEFAULT 0,
	dead           bigint NOT NULL DEFAULT 0,
	skipped        bigint NOT NULL DEFAULT 0,
	deleted        bigint NOT NULL DEFAULT 0,
	last_batch_at  timestamptz,
	from_offset    bigint,
	to_offset      bigint,
	to_time        timestamptz,
	PRIMARY KEY (source, partition)
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE millrace.source_offsets IS 'how far each partition has been read, and by whom; moves in the transaction of the rows';
COMMENT ON COLUMN millrace.source_offsets.source IS 'source';
COMMENT ON COLUMN millrace.source_offsets.partition IS 'partition of its topic';
COMMENT ON COLUMN millrace.source_offsets.next_offset IS 'first offset not yet committed';
COMMENT ON COLUMN millrace.source_offsets.epoch IS 'raised by every claim, pause and rewind: a worker that holds an older one can no longer commit';
COMMENT ON COLUMN millrace.source_offsets.owner_pid IS 'process that claimed the partition last';
COMMENT ON COLUMN millrace.source_offsets.claimed_at IS 'when it did';
COMMENT ON COLUMN millrace.source_offsets.rewind_to IS 'time asked for by rewind_source; the next claim turns it into an offset';
COMMENT ON COLUMN millrace.source_offsets.last_offset IS 'offset of the last message read; looked at again when a worker starts';
COMMENT ON COLUMN millrace.source_offsets.last_time IS 'its Kafka timestamp';
COMMENT ON COLUMN millrace.source_offsets.last_crc IS 'CRC-32C of its key and value: another one there means another topic';
COMMENT ON COLUMN millrace.source_offsets.high_watermark IS 'end of the partition when last heard of; lag is this less next_offset';
COMMENT ON COLUMN millrace.source_offsets.rows IS 'messages that became rows';
COMMENT ON COLUMN millrace.source_offsets.bytes IS 'bytes of keys and values read';
COMMENT ON COLUMN millrace.source_offsets.batches IS 'transactions committed';
COMMENT ON COLUMN millrace.source_offsets.dead IS 'messages written to dead_letters, less those that were redriven';
COMMENT ON COLUMN millrace.source_offsets.skipped IS 'messages passed over: without a value (tombstones), or without a row in it';
COMMENT ON COLUMN millrace.source_offsets.deleted IS 'tombstones whose keys were deleted';
COMMENT ON COLUMN millrace.source_offsets.last_batch_at IS 'start of the last transaction committed';
COMMENT ON COLUMN millrace.source_offsets.from_offset IS 'of a replay: where it began';
COMMENT ON COLUMN millrace.source_offsets.to_offset IS 'of a replay: where it ends; this offset is not read any more';
COMMENT ON COLUMN millrace.source_offsets.to_time IS 'of a replay: time asked for as its end; the first claim turns it into an offset';

CREATE TABLE millrace.source_workers (
	source     text NOT NULL,
	worker     int NOT NULL,
	workers    int NOT NULL,
	pid        int NOT NULL,
	state      text NOT NULL CHECK (state IN ('starting', 'running', 'waiting', 'stopped')),
	reason     text,
	sqlstate   text,
	since      timestamptz NOT NULL DEFAULT now(),
	errors     bigint NOT NULL DEFAULT 0,
	last_error text,
	last_error_at timestamptz,
	PRIMARY KEY (source, worker)
) WITH (fillfactor = 30);
COMMENT ON TABLE millrace.source_workers IS 'what each worker of a source is doing, as it says itself; millrace.status() also knows whether it lives';
COMMENT ON COLUMN millrace.source_workers.source IS 'source';
COMMENT ON COLUMN millrace.source_workers.worker IS 'its number, from 0: it reads every workers-th partition, from this one on; not less than sources.workers_now: it stands by, or has ended';
COMMENT ON COLUMN millrace.source_workers.workers IS 'workers of the source when it said so';
COMMENT ON COLUMN millrace.source_workers.pid IS 'its process; 0 where none could be started';
COMMENT ON COLUMN millrace.source_workers.state IS 'starting, running, waiting (retries by itself, for the reason beside it) or stopped';
COMMENT ON COLUMN millrace.source_workers.reason IS 'what it waits for or why it stopped';
COMMENT ON COLUMN millrace.source_workers.sqlstate IS 'SQLSTATE of the reason';
COMMENT ON COLUMN millrace.source_workers.since IS 'when it entered the state';
COMMENT ON COLUMN millrace.source_workers.errors IS 'errors met since it started, retried ones included';
COMMENT ON COLUMN millrace.source_workers.last_error IS 'the last of them';
COMMENT ON COLUMN millrace.source_workers.last_error_at IS 'when it happened';

CREATE TABLE millrace.dead_letters (
	id        bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	source    text NOT NULL,
	topic     text NOT NULL,
	partition int NOT NULL,
	"offset"  bigint NOT NULL,
	key       bytea,
	headers   jsonb,
	value     bytea,
	ts        timestamptz,
	sqlstate  text NOT NULL,
	error     text NOT NULL,
	detail    text,
	at        timestamptz NOT NULL DEFAULT now(),
	attempts  int NOT NULL DEFAULT 0,
	redrive_at timestamptz,
	stage     text,
	value_bytes bigint
);
ALTER TABLE millrace.dead_letters ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE INDEX dead_letters_place_idx ON millrace.dead_letters (source, partition, "offset");
CREATE INDEX dead_letters_redrive_idx ON millrace.dead_letters (source, partition, "offset") WHERE redrive_at IS NOT NULL;
COMMENT ON TABLE millrace.dead_letters IS 'messages that could not become rows, as they were received';
COMMENT ON COLUMN millrace.dead_letters.id IS 'number in the order they were met';
COMMENT ON COLUMN millrace.dead_letters.source IS 'source that met it';
COMMENT ON COLUMN millrace.dead_letters.topic IS 'its topic';
COMMENT ON COLUMN millrace.dead_letters.partition IS 'its partition';
COMMENT ON COLUMN millrace.dead_letters."offset" IS 'its offset';
COMMENT ON COLUMN millrace.dead_letters.key IS 'message key, raw';
COMMENT ON COLUMN millrace.dead_letters.headers IS 'headers in order: [{"key": name, "value": text or null}], or "hex" for a value that is no text';
COMMENT ON COLUMN millrace.dead_letters.value IS 'message value, raw; NULL of a tombstone, and where it exceeded max_message_bytes or dead_letter_value_bytes';
COMMENT ON COLUMN millrace.dead_letters.ts IS 'Kafka timestamp of the message';
COMMENT ON COLUMN millrace.dead_letters.sqlstate IS 'SQLSTATE of the error';
COMMENT ON COLUMN millrace.dead_letters.error IS 'what was wrong with it';
COMMENT ON COLUMN millrace.dead_letters.detail IS 'more about the error';
COMMENT ON COLUMN millrace.dead_letters.at IS 'when it was put aside';
COMMENT ON COLUMN millrace.dead_letters.attempts IS 'how often it was redriven and failed again; sqlstate, error and detail are those of the last time';
COMMENT ON COLUMN millrace.dead_letters.redrive_at IS 'when redrive_dead_letters asked for it to be run again; NULL: it is not waiting for that';
COMMENT ON COLUMN millrace.dead_letters.stage IS 'what it failed in, by Kafka Connect''s names: KEY_CONVERTER, VALUE_CONVERTER, TRANSFORMATION, TASK_PUT (the table and its triggers)';
COMMENT ON COLUMN millrace.dead_letters.value_bytes IS 'size of the value, kept or not; NULL: a tombstone';

CREATE TABLE millrace.avro_schemas (
	server text NOT NULL,
	id     bigint NOT NULL,
	schema text NOT NULL,
	at     timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (server, id)
);
COMMENT ON TABLE millrace.avro_schemas IS 'Avro schemas that messages refer to by id; add_avro_schema() adds one';
COMMENT ON COLUMN millrace.avro_schemas.server IS 'foreign server whose topics have such messages: ids are those of its registry';
COMMENT ON COLUMN millrace.avro_schemas.id IS 'id in Confluent''s wire format';
COMMENT ON COLUMN millrace.avro_schemas.schema IS 'the schema, in JSON; never changes';
COMMENT ON COLUMN millrace.avro_schemas.at IS 'when it was added';

GRANT SELECT, DELETE ON millrace.avro_schemas TO millrace_admin;
GRANT SELECT ON millrace.avro_schemas TO millrace_monitor;
GRANT SELECT ON millrace.sources, millrace.source_offsets, millrace.source_workers TO millrace_admin, millrace_monitor;
GRANT SELECT, DELETE ON millrace.dead_letters TO millrace_admin;

SELECT pg_catalog.pg_extension_config_dump('millrace.sources', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.source_offsets', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.avro_schemas', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.dead_letters_id_seq', '');
