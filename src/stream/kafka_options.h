/*
 * kafka_options.h
 *	  The options a millrace_kafka server or user mapping may carry, each with
 *	  librdkafka's name of it.  What is not listed is refused: librdkafka knows
 *	  options that load libraries, run a shell or read files.
 *
 * Read by the validator (millrace.so, which does not link librdkafka) and by
 * the client (millrace_worker.so).
 */
#ifndef MILLRACE_KAFKA_OPTIONS_H
#define MILLRACE_KAFKA_OPTIONS_H

#include <stdbool.h>

typedef enum kfk_option_place
{
	KFK_ON_SERVER,				/* CREATE SERVER */
	KFK_ON_MAPPING				/* CREATE USER MAPPING: secrets and who we are */
} kfk_option_place;

typedef struct kfk_option
{
	const char *name;			/* in SQL */
	const char *property;		/* of librdkafka; NULL: our own */
	kfk_option_place place;
	bool		superuser;		/* only a superuser may set it: reads server files or weakens TLS */
	const char *values;			/* "a|b|c" where only these are allowed, else NULL */
} kfk_option;

static const kfk_option kfk_options[] = {
	{"brokers", "bootstrap.servers", KFK_ON_SERVER, false, NULL},
	{"security_protocol", "security.protocol", KFK_ON_SERVER, false, "plaintext|ssl|sasl_plaintext|sasl_ssl"},
	{"sasl_mechanism", "sasl.mechanism", KFK_ON_SERVER, false, "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512"},
	{"ssl_ca_pem", "ssl.ca.pem", KFK_ON_SERVER, false, NULL},
	{"ssl_ca_location", "ssl.ca.location", KFK_ON_SERVER, true, NULL},
	{"ssl_certificate_pem", "ssl.certificate.pem", KFK_ON_SERVER, false, NULL},
	{"ssl_verify", "enable.ssl.certificate.verification", KFK_ON_SERVER, true, "true|false"},
	{"ssl_endpoint_check", "ssl.endpoint.identification.algorithm", KFK_ON_SERVER, true, "none|https"},
	{"client_id", "client.id", KFK_ON_SERVER, false, NULL},
	{"client_rack", "client.rack", KFK_ON_SERVER, false, NULL},
	{"isolation_level", "isolation.level", KFK_ON_SERVER, false, "read_committed|read_uncommitted"},
	{"broker_address_family", "broker.address.family", KFK_ON_SERVER, false, "any|v4|v6"},
	{"socket_timeout_ms", "socket.timeout.ms", KFK_ON_SERVER, false, NULL},
	{"socket_connection_setup_timeout_ms", "socket.connection.setup.timeout.ms", KFK_ON_SERVER, false, NULL},
	{"reconnect_backoff_ms", "reconnect.backoff.ms", KFK_ON_SERVER, false, NULL},
	{"reconnect_backoff_max_ms", "reconnect.backoff.max.ms", KFK_ON_SERVER, false, NULL},
	{"fetch_wait_max_ms", "fetch.wait.max.ms", KFK_ON_SERVER, false, NULL},
	{"fetch_min_bytes", "fetch.min.bytes", KFK_ON_SERVER, false, NULL},
	{"allow_private", NULL, KFK_ON_SERVER, true, "true|false"},
	{"schema_registry", NULL, KFK_ON_SERVER, false, NULL},
	{"username", "sasl.username", KFK_ON_MAPPING, false, NULL},
	{"password", "sasl.password", KFK_ON_MAPPING, false, NULL},
	{"ssl_key_pem", "ssl.key.pem", KFK_ON_MAPPING, false, NULL},
	{"ssl_key_password", "ssl.key.password", KFK_ON_MAPPING, false, NULL},
	{"registry_username", NULL, KFK_ON_MAPPING, false, NULL},
	{"registry_password", NULL, KFK_ON_MAPPING, false, NULL},
};

#define KFK_N_OPTIONS ((int) (sizeof(kfk_options) / sizeof(kfk_options[0])))

#endif							/* MILLRACE_KAFKA_OPTIONS_H */
