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

#include "core/server_pg.h"

static const mr_option kfk_options[] = {
	{"brokers", .place = MR_ON_SERVER, .property = "bootstrap.servers"},
	{"security_protocol", .place = MR_ON_SERVER, .words = "plaintext|ssl|sasl_plaintext|sasl_ssl", .property = "security.protocol"},
	{"sasl_mechanism", .place = MR_ON_SERVER, .words = "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512", .property = "sasl.mechanism"},
	{"ssl_ca_pem", .place = MR_ON_SERVER, .property = "ssl.ca.pem"},
	{"ssl_ca_location", .place = MR_ON_SERVER, .superuser = true, .property = "ssl.ca.location"},
	{"ssl_certificate_pem", .place = MR_ON_SERVER, .property = "ssl.certificate.pem"},
	{"ssl_verify", .place = MR_ON_SERVER, .superuser = true, .words = "true|false", .property = "enable.ssl.certificate.verification"},
	{"ssl_endpoint_check", .place = MR_ON_SERVER, .superuser = true, .words = "none|https", .property = "ssl.endpoint.identification.algorithm"},
	{"client_id", .place = MR_ON_SERVER, .property = "client.id"},
	{"client_rack", .place = MR_ON_SERVER, .property = "client.rack"},
	{"isolation_level", .place = MR_ON_SERVER, .words = "read_committed|read_uncommitted", .property = "isolation.level"},
	{"broker_address_family", .place = MR_ON_SERVER, .words = "any|v4|v6", .property = "broker.address.family"},
	{"socket_timeout_ms", .place = MR_ON_SERVER, .property = "socket.timeout.ms"},
	{"socket_connection_setup_timeout_ms", .place = MR_ON_SERVER, .property = "socket.connection.setup.timeout.ms"},
	{"reconnect_backoff_ms", .place = MR_ON_SERVER, .property = "reconnect.backoff.ms"},
	{"reconnect_backoff_max_ms", .place = MR_ON_SERVER, .property = "reconnect.backoff.max.ms"},
	{"fetch_wait_max_ms", .place = MR_ON_SERVER, .property = "fetch.wait.max.ms"},
	{"fetch_min_bytes", .place = MR_ON_SERVER, .property = "fetch.min.bytes"},
	{"allow_private", .place = MR_ON_SERVER, .superuser = true, .words = "true|false"},
	{"schema_registry", .place = MR_ON_SERVER},
	{"username", .place = MR_ON_MAPPING, .property = "sasl.username"},
	{"password", .place = MR_ON_MAPPING, .property = "sasl.password"},
	{"ssl_key_pem", .place = MR_ON_MAPPING, .property = "ssl.key.pem"},
	{"ssl_key_password", .place = MR_ON_MAPPING, .property = "ssl.key.password"},
	{"registry_username", .place = MR_ON_MAPPING},
	{"registry_password", .place = MR_ON_MAPPING},
};

#define KFK_N_OPTIONS ((int) (sizeof(kfk_options) / sizeof(kfk_options[0])))

#endif							/* MILLRACE_KAFKA_OPTIONS_H */
