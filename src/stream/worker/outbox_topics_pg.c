/*
 * outbox_topics_pg.c
 *	  Topics that create_topic() asked for: looked at, and made where they are
 *	  missing.  What is there is never altered.
 *
 * All of a server's are looked at when its producer has been opened, so before
 * the first message; later those whose time has come (again_at).  No database
 * transaction is open while a broker is waited for, and between two topics the
 * server is answered.  One that does not come about holds up nothing but the
 * messages for it.
 *
 * Memory: the turn's context.  Locks: none between transactions.
 */
#include "postgres.h"

#include "stream/worker/outbox_worker.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "core/spi_pg.h"

#define ASK_MS 2000				/* for one answer of a broker */
#define SHOW_MS 2000			/* until a topic that was made shows */

/* A row of millrace.topics. */
typedef struct wish
{
	kfk_topic	topic;
	int64		generation;
} wish;

/* What came of it. */
typedef struct outcome
{
	const char *state;			/* as the table has it; NULL: nobody knows, so as it was */
	int			found;			/* partitions; -1: not known */
	bool		made;
	char		reason[512];	/* "": none */
} outcome;

/* {name, value, ...} as pairs, in the current context. */
static void
read_config(kfk_topic *topic, Datum array)
{
	const char *(*config)[2];
	Datum	   *texts;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	config = palloc(sizeof(*config) * (size_t) Max(n / 2, 1));
	for (int i = 0; i < n; i++)
		config[i / 2][i % 2] = TextDatumGetCString(texts[i]);
	topic->config = (const char *const (*)[2]) config;
	topic->n_config = n / 2;
}

/* Topics of the server that are due, or all of them; in the current context.  A transaction of its own. */
static wish *
read_wishes(const kfk_outbox *outbox, bool all, int *n)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, BOOLOID};
	Datum		args[] = {CStringGetTextDatum(outbox->server), BoolGetDatum(all)};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	mr_owner_save save;
	wish	   *wishes;

	mr_begin("look at topics");
	mr_spi_begin(&save);
	*n = (int) mr_run(&plan, "SELECT topic, partitions, COALESCE((options->>'replication')::int, -1), generation, "
					  "ARRAY(SELECT u FROM jsonb_each_text(options->'config') c, unnest(ARRAY[c.key, c.value]) u) "
					  "FROM millrace.topics WHERE server = $1 AND ($2 OR again_at <= clock_timestamp()) ORDER BY topic", lengthof(types), types, args);
	spi = MemoryContextSwitchTo(caller);
	wishes = palloc0(sizeof(wish) * (size_t) Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		null;

		wishes[i].topic.name = SPI_getvalue(row, desc, 1);
		wishes[i].topic.partitions = DatumGetInt32(SPI_getbinval(row, desc, 2, &null));
		wishes[i].topic.replication = DatumGetInt32(SPI_getbinval(row, desc, 3, &null));
		wishes[i].generation = DatumGetInt64(SPI_getbinval(row, desc, 4, &null));
		read_config(&wishes[i].topic, SPI_getbinval(row, desc, 5, &null));
	}
	MemoryContextSwitchTo(spi);
	mr_spi_end(&save);
	mr_commit();
	MemoryContextSwitchTo(caller);
	return wishes;
}

/* Note what came of a wish, unless it has been changed meanwhile; one that was ready, and is, leaves no dead row. */
static void
note(const kfk_outbox *outbox, const wish *w, const outcome *o)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT8OID, TEXTOID, INT4OID, TEXTOID, BOOLOID};
	Datum		args[] = {CStringGetTextDatum(outbox->server), CStringGetTextDatum(w->topic.name), Int64GetDatum(w->generation), mr_text(o->state),
	Int32GetDatum(o->found), mr_text(o->reason[0] ? o->reason : NULL), BoolGetDatum(o->made)};
	mr_owner_save save;

	mr_begin("note a topic");
	mr_spi_begin(&save);
	mr_run(&plan, "UPDATE millrace.topics SET state = COALESCE($4, state), found = CASE WHEN $4 IS NULL THEN found ELSE NULLIF($5, -1) END, reason = $6, "
		   "made_at = CASE WHEN $7 THEN now() ELSE made_at END, failures = CASE WHEN $6 IS NULL THEN 0 ELSE failures + 1 END, "
		   "again_at = CASE WHEN $6 IS NOT NULL THEN clock_timestamp() + LEAST(60, power(2, LEAST(failures, 6))) * interval '1 second' END "
		   "WHERE server = $1 AND topic = $2 AND generation = $3 AND (state, found, reason) IS DISTINCT FROM ('ready', $5, $6)", lengthof(types), types, args);
	mr_spi_end(&save);
	mr_commit();
}

/* Look at one topic and make it if it is missing. */
static void
carry_out(kfk_producer *producer, const kfk_topic *topic, outcome *o)
{
	int			n;

	*o = (outcome) {.found = -1};
	if (!kfk_producer_partitions(producer, topic->name, ASK_MS, &n, o->reason, sizeof(o->reason)))
		return;
	if (n == 0)
	{
		o->state = "wanted";
		if (!kfk_producer_make_topic(producer, topic, ASK_MS, &o->made, o->reason, sizeof(o->reason)))
			return;
		/* The producer must hear of it, too: to what it knows to be missing it sends nothing. */
		for (TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SHOW_MS);;)
		{
			mr_nap(50);
			if (kfk_producer_partitions(producer, topic->name, ASK_MS, &n, o->reason, sizeof(o->reason)) && n > 0)
				break;
			if (GetCurrentTimestamp() > end)
			{
				snprintf(o->reason, sizeof(o->reason), "it was made, and does not show yet");
				return;
			}
		}
	}
	o->found = n;
	o->state = n >= topic->partitions ? "ready" : "too few partitions";
	if (n >= topic->partitions)
		o->reason[0] = '\0';
	else
		snprintf(o->reason, sizeof(o->reason), "it has %d partitions, %d are wanted; adding them sends keys elsewhere, so it is left to you", n, topic->partitions);
}

void
kfk_outbox_topics(const kfk_outbox *outbox, kfk_producer *producer, bool all)
{
	int			n;
	wish	   *wishes = read_wishes(outbox, all, &n);

	for (int i = 0; i < n; i++)
	{
		outcome		o;

		carry_out(producer, &wishes[i].topic, &o);
		if (o.reason[0])
			strlcpy(o.reason, mr_plain(o.reason), sizeof(o.reason));
		if (o.made)
			ereport(LOG, (errmsg("outbox of server \"%s\": made topic \"%s\" with %d partitions", outbox->server, wishes[i].topic.name, wishes[i].topic.partitions)));
		note(outbox, &wishes[i], &o);
		mr_answer_server();
	}
}
