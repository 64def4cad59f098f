-- stream: making Kafka topics

CREATE FUNCTION millrace.create_topic(server text, topic text, partitions int DEFAULT 1, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_create_topic';
COMMENT ON FUNCTION millrace.create_topic(text, text, int, jsonb) IS
	'has a Kafka topic made, if it is not there, by the worker of the server''s outbox: see millrace.topics; needs USAGE on the server; options: replication (the brokers'' default), config {"retention.ms": ...}';

CREATE FUNCTION millrace.forget_topic(server text, topic text) RETURNS boolean
	LANGUAGE c STRICT VOLATILE
	AS 'MODULE_PATHNAME', 'millrace_forget_topic';
COMMENT ON FUNCTION millrace.forget_topic(text, text) IS
	'takes create_topic() back: the topic stays in Kafka, but is not made again where it is missing; false: nobody had asked for it';

REVOKE EXECUTE ON FUNCTION millrace.create_topic(text, text, int, jsonb), millrace.forget_topic(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_topic(text, text, int, jsonb), millrace.forget_topic(text, text) TO millrace_admin;
