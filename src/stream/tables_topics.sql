-- stream: Kafka topics that are to be there
--
-- A row is a wish.  The worker of the server's outbox carries it out (worker/outbox_topics_pg.c): before its first
-- batch, when the row is new, and again later where that did not succeed.  What is there is never altered.

CREATE TABLE millrace.topics (
	server       text NOT NULL,
	topic        text NOT NULL,
	partitions   int NOT NULL CHECK (partitions BETWEEN 1 AND 100000),
	options      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	state        text NOT NULL DEFAULT 'wanted' CHECK (state IN ('wanted', 'ready', 'too few partitions')),
	found        int,
	reason       text,
	failures     int NOT NULL DEFAULT 0,
	again_at     timestamptz DEFAULT clock_timestamp(),
	made_at      timestamptz,
	generation   bigint NOT NULL DEFAULT 1,
	created_by   text NOT NULL DEFAULT session_user,
	created_at   timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (server, topic)
);
COMMENT ON TABLE millrace.topics IS 'Kafka topics that create_topic() asked for, and whether they are there';
COMMENT ON COLUMN millrace.topics.server IS 'foreign server of wrapper millrace_kafka; the worker of its outbox makes the topic';
COMMENT ON COLUMN millrace.topics.topic IS 'its name';
COMMENT ON COLUMN millrace.topics.partitions IS 'how many it should have at least';
COMMENT ON COLUMN millrace.topics.options IS 'replication, config: what it is made with; a topic that is there already keeps its own';
COMMENT ON COLUMN millrace.topics.state IS 'wanted: not there yet; ready; too few partitions: it is there with fewer, which only you may change';
COMMENT ON COLUMN millrace.topics.found IS 'partitions it has; NULL: not known, or it is not there';
COMMENT ON COLUMN millrace.topics.reason IS 'why it is not ready, or could not be looked at; in millrace.status() too';
COMMENT ON COLUMN millrace.topics.failures IS 'attempts in a row that did not make it ready';
COMMENT ON COLUMN millrace.topics.again_at IS 'when it is tried next, after 1, 2, 4 ... 60 s; NULL: when the worker connects next';
COMMENT ON COLUMN millrace.topics.made_at IS 'when the worker made it; NULL: it was there';
COMMENT ON COLUMN millrace.topics.generation IS 'raised by every create_topic()';
COMMENT ON COLUMN millrace.topics.created_by IS 'who called create_topic first';
COMMENT ON COLUMN millrace.topics.created_at IS 'when';

GRANT SELECT ON millrace.topics TO millrace_admin, millrace_monitor;

SELECT pg_catalog.pg_extension_config_dump('millrace.topics', '');
