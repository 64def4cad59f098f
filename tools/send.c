/*
 * send.c
 *	  millrace-send: photos of a folder, or lines, as Kafka messages, none faster than they are read.
 *
 *	  millrace-send --brokers host:port --topic name --source name --db conninfo [--max-side 512] folder
 *	  millrace-send --brokers host:port --topic name --source name --db conninfo --lines < file
 *	  millrace-send --brokers host:port --topic name --create partitions
 *
 * A message is {"image_id": path below the folder, "content": base64 of a JPEG or PNG}.
 * With --lines each line of standard input is one.
 * Photos with a longer side than --max-side are scaled down to it, since an embedded
 * broker takes messages of 1 MB and keeps 5 MiB per partition.  For the same reason the
 * sender looks into millrace.source_offsets and lets no more than 2 MiB per partition be
 * unread: a folder of any size arrives whole.  At the end it waits until all is read.
 */
#include <errno.h>
#include <fts.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "image/image.h"

#define WINDOW_BYTES (2 << 20)
#define MAX_MESSAGE 900000
#define MAX_PARTITIONS 1000
#define PATIENCE_SECONDS 60

/* A message that was sent and, as far as we know, not read yet. */
typedef struct flight
{
	int64_t		offset;
	size_t		bytes;
	struct flight *next;
} flight;

typedef struct partition
{
	flight	   *first,
			   *last;
	size_t		bytes;			/* unread, those without a delivery report included */
} partition;

static partition partitions[MAX_PARTITIONS];
static int	n_partitions;
static long undelivered;

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "millrace-send: %s: %s\n", what, why);
	exit(1);
}

/* Called from rd_kafka_poll(), in our thread. */
static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	partition  *p = &partitions[m->partition >= 0 ? m->partition : 0];
	flight	   *f;

	(void) rk;
	(void) opaque;
	undelivered--;
	if (m->err)
		fail("the broker refused a message", rd_kafka_err2str(m->err));
	f = malloc(sizeof(*f));
	if (f == NULL)
		fail("memory", strerror(errno));
	*f = (flight) {m->offset, m->len, NULL};
	if (p->last)
		p->last->next = f;
	else
		p->first = f;
	p->last = f;
}

/* Forget what the source has read.  Returns the number of messages still unread. */
static long
look_at_offsets(PGconn *db, const char *source)
{
	PGresult   *r = PQexecParams(db, "SELECT partition, next_offset FROM millrace.source_offsets WHERE source = $1",
								 1, NULL, &source, NULL, NULL, 0);
	long		unread = undelivered;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		fail("cannot read the offsets", PQerrorMessage(db));
	for (int i = 0; i < PQntuples(r); i++)
	{
		int			n = atoi(PQgetvalue(r, i, 0));
		int64_t		next = strtoll(PQgetvalue(r, i, 1), NULL, 10);

		if (n < 0 || n >= n_partitions)
			continue;
		while (partitions[n].first && partitions[n].first->offset < next)
		{
			flight	   *f = partitions[n].first;

			partitions[n].bytes -= f->bytes;
			partitions[n].first = f->next;
			if (f->next == NULL)
				partitions[n].last = NULL;
			free(f);
		}
	}
	PQclear(r);
	for (int n = 0; n < n_partitions; n++)
		for (flight *f = partitions[n].first; f; f = f->next)
			unread++;
	return unread;
}

/* Poll until `done`: fewer than the window's bytes in partition p, or, with p < 0, nothing unread. */
static void
wait_for_reader(rd_kafka_t *rk, PGconn *db, const char *source, int p)
{
	time_t		moved = time(NULL);
	long		last = -1;

	for (;;)
	{
		long		unread;

		rd_kafka_poll(rk, 0);
		unread = look_at_offsets(db, source);
		if (p >= 0 ? partitions[p].bytes < WINDOW_BYTES : unread == 0)
			return;
		if (unread != last)
			moved = time(NULL);
		last = unread;
		if (time(NULL) - moved > PATIENCE_SECONDS)
			fail(source, "nothing was read for a minute; look at millrace.source_status and the server's log");
		rd_kafka_poll(rk, 20);
	}
}

/* Create the topic on a real broker and wait until it is there. */
static void
create_topic(rd_kafka_t *rk, const char *topic, int n)
{
	char		err[512];
	rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, n, 1, err, sizeof(err));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		n_results;

	if (new_topic == NULL)
		fail(topic, err);
	rd_kafka_CreateTopics(rk, &new_topic, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, 30000);
	if (event == NULL)
		fail(topic, "the broker did not answer for 30 s");
	if (rd_kafka_event_error(event))
		fail(topic, rd_kafka_event_error_string(event));
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n_results);
	for (size_t i = 0; i < n_results; i++)
		if (rd_kafka_topic_result_error(results[i]))
			fail(topic, rd_kafka_topic_result_error_string(results[i]));
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy(new_topic);
}

static int
count_partitions(rd_kafka_t *rk, const char *topic)
{
	const struct rd_kafka_metadata *md;
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, rkt, &md, 10000);
	int			n;

	if (err)
		fail(topic, rd_kafka_err2str(err));
	if (md->topic_cnt != 1 || md->topics[0].err)
		fail(topic, rd_kafka_err2str(md->topics[0].err));
	n = md->topics[0].partition_cnt;
	if (n > MAX_PARTITIONS)
		fail(topic, "it has too many partitions");
	rd_kafka_metadata_destroy(md);
	rd_kafka_topic_destroy(rkt);
	return n;
}

static bool
is_photo(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".png") == 0);
}

static unsigned char *
read_whole(const char *path, off_t size)
{
	FILE	   *f = fopen(path, "rb");
	unsigned char *bytes = malloc((size_t) size + 1);

	if (f == NULL || bytes == NULL || fread(bytes, 1, (size_t) size, f) != (size_t) size)
		fail(path, strerror(errno));
	fclose(f);
	return bytes;
}

/* Scale down to max_side where longer.  What cannot be decoded stays as it is: that is the pipeline's to say. */
static void
shrink(unsigned char **bytes, size_t *len, int max_side)
{
	const img_limits limits = {1u << 30, 200000000, 65500, 1000, 100000};
	const mr_env *env = &mr_env_malloc;
	mr_status	st;
	img_info	info;
	img_pixels	full,
				small;
	uint8_t    *file;
	size_t		file_len;
	int			w,
				h;

	if (img_probe(env, *bytes, *len, &limits, &info, &st) != MR_OK ||
		(info.width <= max_side && info.height <= max_side && *len * 4 / 3 + 1024 < MAX_MESSAGE))
		return;
	if (img_decode(env, *bytes, *len, &limits, max_side, max_side, &full, &st) != MR_OK)
		return;
	w = full.width >= full.height ? max_side : (int) ((long) max_side * full.width / full.height);
	h = full.height >= full.width ? max_side : (int) ((long) max_side * full.height / full.width);
	if (img_resize(env, &full, w > 0 ? w : 1, h > 0 ? h : 1, img_bilinear, NULL, &small, &st) == MR_OK)
	{
		if (img_encode_jpeg(env, &small, 92, &file, &file_len, &st) == MR_OK)
		{
			free(*bytes);
			*bytes = malloc(file_len);
			if (*bytes == NULL)
				fail("memory", strerror(errno));
			memcpy(*bytes, file, file_len);
			*len = file_len;
			mr_free(env, file);
		}
		img_free(env, &small);
	}
	img_free(env, &full);
}

/* {"image_id": …, "content": …}; the length is returned through len. */
static char *
make_message(const char *id, const unsigned char *bytes, size_t n, size_t *len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char	   *message = malloc(6 * strlen(id) + (n + 2) / 3 * 4 + 64);
	char	   *p = message;

	if (message == NULL)
		fail("memory", strerror(errno));
	p += sprintf(p, "{\"image_id\": \"");
	for (; *id; id++)
	{
		if (*id == '"' || *id == '\\')
			*p++ = '\\';
		if ((unsigned char) *id < 0x20)
			p += sprintf(p, "\\u%04x", *id);
		else
			*p++ = *id;
	}
	p += sprintf(p, "\", \"content\": \"");
	for (size_t i = 0; i < n; i += 3)
	{
		unsigned	v = (unsigned) bytes[i] << 16 | (i + 1 < n ? bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);

		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*p++ = i + 2 < n ? digits[v & 63] : '=';
	}
	p += sprintf(p, "\"}");
	*len = (size_t) (p - message);
	return message;
}

static int
by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Send a malloc'd message, which is librdkafka's from then on, when there is room for it; in turn to all partitions. */
static void
send_message(rd_kafka_t *rk, PGconn *db, const char *topic, const char *source, const char *key, char *message, size_t len)
{
	static long turn;
	int			p = (int) (turn++ % n_partitions);

	if (partitions[p].bytes + len > WINDOW_BYTES)
		wait_for_reader(rk, db, source, p);
	partitions[p].bytes += len;
	undelivered++;
	if (rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(p), RD_KAFKA_V_KEY(key, key ? strlen(key) : 0),
						  RD_KAFKA_V_VALUE(message, len), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_FREE), RD_KAFKA_V_END))
		fail(topic, rd_kafka_err2str(rd_kafka_last_error()));
	rd_kafka_poll(rk, 0);
}

/* How many lines there were. */
static long
send_lines(rd_kafka_t *rk, PGconn *db, const char *topic, const char *source)
{
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		len;
	long		sent = 0;

	while ((len = getline(&line, &size, stdin)) >= 0)
	{
		if (len > 0 && line[len - 1] == '\n')
			len--;
		if (len > MAX_MESSAGE)
			fail("standard input", "a line is too long for one message");
		send_message(rk, db, topic, source, NULL, line, (size_t) len);
		line = NULL;
		size = 0;
		sent++;
	}
	free(line);
	return sent;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"brokers", required_argument, NULL, 'b'}, {"topic", required_argument, NULL, 't'},
		{"source", required_argument, NULL, 's'}, {"db", required_argument, NULL, 'd'},
		{"max-side", required_argument, NULL, 'm'}, {"create", required_argument, NULL, 'c'},
		{"lines", no_argument, NULL, 'l'},
		{NULL, 0, NULL, 0}
	};
	const char *brokers = NULL,
			   *topic = NULL,
			   *source = NULL,
			   *conninfo = NULL;
	int			max_side = 512;
	int			create = 0;
	bool		lines = false;
	int			c;
	char		err[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	PGconn	   *db;
	char	   *roots[2];
	FTS		   *walk;
	FTSENT	   *entry;
	size_t		root_len;
	long		sent = 0,
				skipped = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c)
		{
			case 'b':
				brokers = optarg;
				break;
			case 't':
				topic = optarg;
				break;
			case 's':
				source = optarg;
				break;
			case 'd':
				conninfo = optarg;
				break;
			case 'm':
				max_side = atoi(optarg);
				break;
			case 'c':
				create = atoi(optarg);
				break;
			case 'l':
				lines = true;
				break;
			default:
				return 2;
		}
	if (!brokers || !topic || max_side < 32 || (create < 1 && (!source || !conninfo || optind + !lines != argc)))
	{
		fprintf(stderr, "usage: millrace-send --brokers host:port --topic name --source name --db conninfo [--max-side 512] folder\n"
				"       millrace-send --brokers host:port --topic name --source name --db conninfo --lines < file\n"
				"       millrace-send --brokers host:port --topic name --create partitions\n");
		return 2;
	}
	if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, err, sizeof(err)) != RD_KAFKA_CONF_OK ||
		rd_kafka_conf_set(conf, "linger.ms", "5", err, sizeof(err)) != RD_KAFKA_CONF_OK)
		fail("configuration", err);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err, sizeof(err));
	if (rk == NULL)
		fail("cannot start a producer", err);
	if (create)
	{
		create_topic(rk, topic, create);
		rd_kafka_destroy(rk);
		return 0;
	}
	db = PQconnectdb(conninfo);
	if (PQstatus(db) != CONNECTION_OK)
		fail("cannot connect to the database", PQerrorMessage(db));
	n_partitions = count_partitions(rk, topic);
	if (lines)
	{
		sent = send_lines(rk, db, topic, source);
		wait_for_reader(rk, db, source, -1);
		printf("%ld messages sent and read\n", sent);
		rd_kafka_destroy(rk);
		PQfinish(db);
		return 0;
	}

	roots[0] = argv[optind];
	roots[1] = NULL;
	root_len = strlen(roots[0]);
	walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	if (walk == NULL)
		fail(roots[0], strerror(errno));
	while ((entry = fts_read(walk)) != NULL)
	{
		unsigned char *bytes;
		size_t		n = 0,
					len;
		char	   *message;
		const char *id = entry->fts_path + root_len;

		if (entry->fts_info != FTS_F || !is_photo(entry->fts_name) || entry->fts_statp->st_size == 0)
			continue;
		id += strspn(id, "/");
		n = (size_t) entry->fts_statp->st_size;
		bytes = read_whole(entry->fts_path, entry->fts_statp->st_size);
		shrink(&bytes, &n, max_side);
		message = make_message(id, bytes, n, &len);
		free(bytes);
		if (len > MAX_MESSAGE)
		{
			fprintf(stderr, "skipped %s: no image that could be scaled down, and %zu bytes are too many for one message\n", id, len);
			skipped++;
			free(message);
			continue;
		}
		send_message(rk, db, topic, source, id, message, len);
		sent++;
	}
	fts_close(walk);
	wait_for_reader(rk, db, source, -1);
	printf("%ld photos sent and read%s\n", sent, skipped ? ", some skipped" : "");
	rd_kafka_destroy(rk);
	PQfinish(db);
	return skipped ? 3 : 0;
}
