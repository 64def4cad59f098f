/*
 * letter_topic_pg.c
 *	  Option dead_letter_topic: a dead letter is also published, as Kafka Connect
 *	  publishes its own (DeadLetterQueueReporter): the message's key, value, time
 *	  and headers, behind headers that tell where it came from and what was wrong.
 *
 * It is a row of the outbox in the transaction that puts the letter aside, so it
 * leaves once, and only if that commits.  A value that is not kept, or that the
 * brokers refuse for its size (outbox_state_pg.c), is left out, and a header says so.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/shared_pg.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/spi_pg.h"
#include "stream/outbox.h"
#include "stream/select.h"

/* Of a stack trace: brokers bound headers and value together. */
#define TRACE_BYTES 16384

/* name, value, ... */
typedef struct header_list
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	int			room;
} header_list;

static bool
add(void *arg, const char *name, const void *value, size_t len)
{
	header_list *list = arg;

	if (list->n + 2 > list->room)
	{
		list->room = list->room ? 2 * list->room : 32;
		list->values = list->values ? repalloc(list->values, sizeof(Datum) * (size_t) list->room) : palloc(sizeof(Datum) * (size_t) list->room);
		list->nulls = list->nulls ? repalloc(list->nulls, sizeof(bool) * (size_t) list->room) : palloc(sizeof(bool) * (size_t) list->room);
	}
	list->nulls[list->n] = false;
	list->values[list->n++] = kfk_bytea(name, strlen(name));
	list->nulls[list->n] = value == NULL;
	list->values[list->n++] = value ? kfk_bytea(value, len) : 0;
	return true;
}

/* Text of the database, as the UTF-8 that Kafka's readers expect; at most so many bytes. */
static void
add_text(header_list *list, const char *name, const char *text, int most)
{
	char	   *utf8;

	if (text == NULL)
	{
		add(list, name, NULL, 0);
		return;
	}
	utf8 = pg_server_to_any(text, pg_mbcliplen(text, (int) strlen(text), most), PG_UTF8);
	add(list, name, utf8, utf8 == text ? (size_t) pg_mbcliplen(text, (int) strlen(text), most) : strlen(utf8));
}

/* What was at work when the message failed. */
static const char *
at_work(const kfk_source *source, kfk_stage stage)
{
	switch (stage)
	{
		case KFK_AT_KEY:
			return source->key_format ? source->key_format->name : source->format->name;
		case KFK_AT_TRANSFORM:
			return kfk_is_select(source->transform) ? "SELECT" : source->transform;
		case KFK_AT_TARGET:
			return source->target;
		case KFK_AT_VALUE:
			break;
	}
	return source->format->name;
}

static Datum
headers_of(const kfk_source *source, const kfk_item *item, bool keep)
{
	const kfk_message *m = &item->message;
	header_list list = {0};
	char		number[32];
	char	   *trace = psprintf("%s: %s%s%s", item->sqlstate, item->error, item->detail ? "\n" : "", item->detail ? item->detail : "");
	int			dims[1];
	int			lower[1] = {1};

	add_text(&list, KFK_LETTER_HEADER, source->topic, TRACE_BYTES);
	snprintf(number, sizeof(number), "%d", m->partition);
	add_text(&list, "__connect.errors.partition", number, TRACE_BYTES);
	snprintf(number, sizeof(number), INT64_FORMAT, m->offset);
	add_text(&list, "__connect.errors.offset", number, TRACE_BYTES);
	add_text(&list, "__connect.errors.connector.name", source->name, TRACE_BYTES);
	snprintf(number, sizeof(number), "%d", source->worker);
	add_text(&list, "__connect.errors.task.id", number, TRACE_BYTES);
	add_text(&list, "__connect.errors.stage", kfk_stage_names[item->stage], TRACE_BYTES);
	add_text(&list, "__connect.errors.class.name", at_work(source, item->stage), TRACE_BYTES);
	add_text(&list, "__connect.errors.exception.class.name", item->sqlstate, TRACE_BYTES);
	add_text(&list, "__connect.errors.exception.message", item->error, TRACE_BYTES);
	add_text(&list, "__connect.errors.exception.stacktrace", trace, TRACE_BYTES);
	if (m->value != NULL && !keep)
	{
		snprintf(number, sizeof(number), "%zu", m->value_len);
		add_text(&list, KFK_OMITTED_HEADER, number, TRACE_BYTES);
	}
	kfk_headers(m, add, &list);
	dims[0] = list.n;
	return PointerGetDatum(construct_md_array(list.values, list.nulls, 1, dims, lower, BYTEAOID, -1, false, TYPALIGN_INT));
}

/*
 * Publish the item's message, a new dead letter.  Within mr_spi_begin().
 * ERROR, of a kind that is waited out, without an outbox or the right to use it.
 */
void
kfk_publish_letter(const kfk_source *source, const kfk_item *item)
{
	static SPIPlanPtr known = NULL;
	static SPIPlanPtr plans[MR_OUTBOX_LEAVES];
	static const Oid types[] = {TEXTOID, TEXTOID, BYTEAOID, BYTEAOID, BYTEAARRAYOID, TIMESTAMPTZOID};
	const kfk_message *m = &item->message;
	const char *server = source->dead_letter_server ? source->dead_letter_server : source->server;
	TimestampTz time = kfk_time(m->time_ms);
	bool		keep = m->value && (int64) m->value_len <= source->max_message_bytes;
	int			leaf = mr_outbox_leaf(GetCurrentTimestamp());
	Datum		args[] = {CStringGetTextDatum(server), CStringGetTextDatum(source->dead_letter_topic),
		m->key ? kfk_bytea(m->key, m->key_len) : 0, keep ? kfk_bytea(m->value, m->value_len) : 0,
	headers_of(source, item, keep), TimestampTzGetDatum(time)};
	char		nulls[] = "      ";

	if (compat_server_aclcheck(GetForeignServerByName(server, false)->serverid, GetSessionUserId(), ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server);
	mr_prepare(&known, "SELECT 1 FROM millrace.outboxes WHERE server OPERATOR(pg_catalog.=) $1", 1, types);
	SPI_execute_plan(known, args, NULL, true, 1);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" has no outbox for dead_letter_topic \"%s\"", server, source->dead_letter_topic)));
	nulls[2] = m->key ? ' ' : 'n';
	nulls[3] = keep ? ' ' : 'n';
	nulls[5] = TIMESTAMP_NOT_FINITE(time) ? 'n' : ' ';
	mr_prepare(&plans[leaf], psprintf(KFK_OUTBOX_INSERT, leaf, leaf), lengthof(types), types);
	SPI_execute_plan(plans[leaf], args, nulls, false, 0);
	mr_change_at_commit(MR_CHANGE_OUTBOX, MyDatabaseId);
}
