/*
 * broker.c
 *	  millrace-broker: a Kafka broker for demonstrations and tests.
 *
 * librdkafka's mock cluster in a process of its own.  It must never run inside
 * PostgreSQL: its thread leaves all signals open and would run the server's
 * handlers.  It keeps 5 MiB per partition and takes messages up to 1 MB, in
 * memory only; nothing survives its end.
 *
 *	  millrace-broker --topic name[:partitions] … [--file path] [--parent pid]
 *
 * Prints "host:port" (and writes it to the file) once clients can connect; ends
 * on SIGTERM or SIGINT, or when the process it was told of is gone.
 */
#include <errno.h>
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_TOPICS 64

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "millrace-broker: %s: %s\n", what, why);
	exit(1);
}

/* Create "name" or "name:partitions". */
static void
create_topic(rd_kafka_mock_cluster_t *cluster, char *spec)
{
	char	   *colon = strrchr(spec, ':');
	long		partitions = 1;
	char	   *end;
	rd_kafka_resp_err_t err;

	if (colon)
	{
		*colon = '\0';
		partitions = strtol(colon + 1, &end, 10);
		if (*end != '\0' || partitions < 1 || partitions > 1000)
			fail(spec, "the number of partitions must be 1 to 1000");
	}
	err = rd_kafka_mock_topic_create(cluster, spec, (int) partitions, 1);
	if (err)
		fail(spec, rd_kafka_err2str(err));
}

/* The address in the file appears whole or not at all. */
static void
write_address(const char *path, const char *address)
{
	char		aside[4096];
	FILE	   *f;

	if (snprintf(aside, sizeof(aside), "%s.new", path) >= (int) sizeof(aside))
		fail(path, "the name is too long");
	f = fopen(aside, "w");
	if (f == NULL || fprintf(f, "%s\n", address) < 0 || fclose(f) != 0 || rename(aside, path) != 0)
		fail(path, strerror(errno));
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"topic", required_argument, NULL, 't'}, {"file", required_argument, NULL, 'f'},
		{"parent", required_argument, NULL, 'p'}, {NULL, 0, NULL, 0}
	};
	char	   *topics[MAX_TOPICS];
	int			n_topics = 0;
	const char *file = NULL;
	long		parent = 0;
	int			c;
	sigset_t	stop;
	char		err[512];
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	rd_kafka_mock_cluster_t *cluster;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c)
		{
			case 't':
				if (n_topics == MAX_TOPICS)
					fail(optarg, "too many topics");
				topics[n_topics++] = optarg;
				break;
			case 'f':
				file = optarg;
				break;
			case 'p':
				parent = atol(optarg);
				break;
			default:
				fprintf(stderr, "usage: millrace-broker --topic name[:partitions] ... [--file path] [--parent pid]\n");
				return 2;
		}

	/* Blocked before any thread exists, so that sigtimedwait() below gets them. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);

	/* Its client connects to nothing, and says so at the level of a warning. */
	conf = rd_kafka_conf_new();
	rd_kafka_conf_set(conf, "log_level", "3", NULL, 0);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err, sizeof(err));
	if (rk == NULL)
		fail("cannot start", err);
	cluster = rd_kafka_mock_cluster_new(rk, 1);
	if (cluster == NULL)
		fail("cannot start", "no address to listen on");
	for (int i = 0; i < n_topics; i++)
		create_topic(cluster, topics[i]);
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	if (file)
		write_address(file, rd_kafka_mock_cluster_bootstraps(cluster));

	for (;;)
	{
		struct timespec second = {1, 0};

		if (sigtimedwait(&stop, NULL, &second) > 0)
			break;
		if (parent > 0 && kill((pid_t) parent, 0) != 0 && errno == ESRCH)
			break;
	}
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(rk);
	return 0;
}
