/*
 * outbox_claim_pg.c
 *	  What of an outbox has left, and what leaves next.
 *
 * Messages leave by ticks: a tick is what the snapshot `upto` sees and `done`
 * did not, so that a transaction that commits late is in the next one, whatever
 * its ids.  Of a tick, batches leave in the order of ids: (after_id, batch_id]
 * is the batch claimed last.  Claimed is committed, and flushed, before the
 * first byte goes to Kafka: a batch that may have left is read again as it was,
 * and no message leaves that a crash could still undo.
 *
 * Each function here is one transaction, made of fixed statements run as the
 * extension's owner; search_path is pg_catalog.  The fence: every write asks
 * for the epoch this worker took.
 */
#include "postgres.h"

#include "stream/worker/outbox_worker.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/failpoint.h"
#include "core/process_pg.h"
#include "core/spi_pg.h"
#include "stream/outbox.h"

#define FETCH_ROWS 1000

/* Messages that a snapshot $n did not see: few ids and one range, both by outbox_xid_idx. */
#define BEYOND(n) \
	"SELECT id FROM millrace.outbox WHERE server = $1 AND xid >= pg_snapshot_xmax(" n ") " \
	"UNION ALL SELECT id FROM millrace.outbox WHERE server = $1 AND xid = ANY (ARRAY(SELECT pg_snapshot_xip(" n ")))"

static void
fenced(const kfk_outbox *outbox)
{
	ereport(LOG, (errmsg("outbox of server \"%s\": another worker has taken over, or it was changed: this one ends", outbox->server)));
	proc_exit(0);
}

/* Column of the first row as text, palloc'd in the caller's context; NULL if null. */
static char *
text_column(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

static int64
number_column(int column, int64 if_null)
{
	bool		null;
	Datum		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &null);

	return null ? if_null : DatumGetInt64(d);
}

static bool
bool_column(int column)
{
	bool		null;

	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &null)) && !null;
}

/* Read the row and raise its epoch: whoever held it before is fenced. */
bool
kfk_outbox_load(kfk_outbox *outbox)
{
	static SPIPlanPtr read_plan = NULL;
	static SPIPlanPtr take_plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID, TEXTOID, INT4OID};
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(outbox->generation), 0, Int32GetDatum(MyProcPid)};
	mr_owner_save save;
	bool		found;

	MR_FAILPOINT("outbox.load");
	mr_begin("take over the outbox");
	args[2] = CStringGetTextDatum(mr_source_binding());
	mr_spi_begin(&save);
	mr_prepare(&read_plan,
			   "SELECT transactional_id, coalesce(options->>'progress_topic', '" KFK_OUTBOX_TOPIC "'), "
			   "(options->>'batch_rows')::int8, (options->>'batch_bytes')::int8 "
			   "FROM millrace.outboxes WHERE server = $1 AND generation = $2 AND bound_to = $3 AND state = 'running'", 3, types);
	SPI_execute_plan(read_plan, args, NULL, false, 1);
	found = SPI_processed == 1;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(outbox->cxt);

		outbox->id = text_column(1);
		outbox->progress_topic = text_column(2);
		outbox->batch_rows = (int) number_column(3, KFK_OUTBOX_ROWS);
		outbox->batch_bytes = number_column(4, KFK_OUTBOX_BYTES);
		MemoryContextSwitchTo(old);
		mr_prepare(&take_plan, "UPDATE millrace.outbox_progress SET epoch = epoch + 1, pid = $4 WHERE server = $1 RETURNING epoch", 4, types);
		SPI_execute_plan(take_plan, args, NULL, false, 0);
		found = SPI_processed == 1;
		if (found)
			outbox->epoch = number_column(1, 0);
	}
	mr_spi_end(&save);
	mr_commit();
	return found;
}

/* Is the row still as it was loaded?  And what of its topics? */
bool
kfk_outbox_unchanged(kfk_outbox *outbox)
{
	static SPIPlanPtr plan = NULL;
	mr_owner_save save;
	bool		unchanged;

	mr_begin("look at the outbox");
	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT EXISTS (SELECT FROM millrace.topics t WHERE t.server = $1 AND t.again_at <= clock_timestamp()), "
			   "(SELECT string_agg(format('topic \"%s\": %s', t.topic, t.reason), '; ' ORDER BY t.topic) FROM millrace.topics t WHERE t.server = $1 AND t.reason IS NOT NULL) "
			   "FROM millrace.outboxes WHERE server = $1 AND generation = $2 AND state = 'running'",
			   2, (const Oid[]) {TEXTOID, INT8OID});
	{
		Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(outbox->generation)};

		SPI_execute_plan(plan, args, NULL, true, 1);
	}
	unchanged = SPI_processed == 1;
	if (unchanged)
	{
		char	   *reason = text_column(2);

		outbox->topics_due = bool_column(1);
		strlcpy(outbox->topics_reason, reason ? reason : "", sizeof(outbox->topics_reason));
	}
	mr_spi_end(&save);
	mr_commit();
	return unchanged;
}

/* The progress record of a batch: the same bytes whenever it is made. */
static char *
make_mark(int64 number, int64 last_id, const char *upto)
{
	return psprintf("{\"batch\": " INT64_FORMAT ", \"last_id\": " INT64_FORMAT ", \"upto\": \"%s\"}", number, last_id, upto);
}

/* The record that the batch claimed last has, or would have, in the progress topic; NULL before the first. */
char *
kfk_outbox_last_mark(const kfk_outbox *outbox, int64 *batch, bool *confirmed, bool *adopt)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	char	   *mark = NULL;
	mr_owner_save save;

	mr_begin("look at the progress");
	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT batch, confirmed, adopt, batch_id, last_upto FROM millrace.outbox_progress WHERE server = $1 AND epoch = $2",
			   2, (const Oid[]) {TEXTOID, INT8OID});
	{
		Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(outbox->epoch)};

		SPI_execute_plan(plan, args, NULL, true, 1);
	}
	if (SPI_processed != 1)
		fenced(outbox);
	*batch = number_column(1, 0);
	*confirmed = bool_column(2);
	*adopt = bool_column(3);
	if (text_column(5) != NULL)
	{
		char	   *made = make_mark(*batch, number_column(4, 0), text_column(5));

		mark = MemoryContextStrdup(caller, made);
	}
	mr_spi_end(&save);
	mr_commit();
	return mark;
}

/* Go on after batch, whatever became of the one claimed: what it held is claimed again. */
void
kfk_outbox_adopt(const kfk_outbox *outbox, int64 batch)
{
	static SPIPlanPtr plan = NULL;
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(outbox->epoch), Int64GetDatum(batch)};
	mr_owner_save save;

	mr_begin("adopt the progress topic");
	mr_spi_begin(&save);
	mr_prepare(&plan, "UPDATE millrace.outbox_progress SET batch = greatest(batch, $3), confirmed = true, adopt = false, batch_id = NULL, last_upto = NULL "
			   "WHERE server = $1 AND epoch = $2", 3, (const Oid[]) {TEXTOID, INT8OID, INT8OID});
	SPI_execute_plan(plan, args, NULL, false, 0);
	if (SPI_processed != 1)
		fenced(outbox);
	mr_spi_end(&save);
	mr_commit();
}

/* ---- the next batch ---- */

/* A row of outbox_progress on its way to the next. */
typedef struct place
{
	int64		batch;
	bool		confirmed;
	char	   *done;
	char	   *upto;			/* NULL: no tick */
	char	   *last_upto;		/* of the batch claimed last */
	int64		after_id;
	int64		batch_id;
	int64		last_id;
	int64		batch_messages;
	int64		batch_bytes;
} place;

static void
read_place(const kfk_outbox *outbox, place *p)
{
	static SPIPlanPtr plan = NULL;
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(outbox->epoch)};

	mr_prepare(&plan, "SELECT batch, confirmed, done::text, upto::text, after_id, batch_id, last_id, last_upto, batch_messages, batch_bytes FROM millrace.outbox_progress "
			   "WHERE server = $1 AND epoch = $2", 2, (const Oid[]) {TEXTOID, INT8OID});
	SPI_execute_plan(plan, args, NULL, false, 1);
	if (SPI_processed != 1)
		fenced(outbox);
	p->batch = number_column(1, 0);
	p->confirmed = bool_column(2);
	p->done = text_column(3);
	p->upto = text_column(4);
	p->after_id = number_column(5, 0);
	p->batch_id = number_column(6, 0);
	p->last_id = number_column(7, 0);
	p->last_upto = text_column(8);
	p->batch_messages = number_column(9, 0);
	p->batch_bytes = number_column(10, 0);
}

/* messages and bytes: what is confirmed with this. */
static void
write_place(const kfk_outbox *outbox, const place *p, int64 messages, int64 bytes)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID, INT8OID, BOOLOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(outbox->epoch), Int64GetDatum(p->batch), BoolGetDatum(p->confirmed),
		CStringGetTextDatum(p->done), mr_text(p->upto), Int64GetDatum(p->after_id), Int64GetDatum(p->batch_id),
		Int64GetDatum(p->last_id), mr_text(p->last_upto), Int64GetDatum(p->batch_messages), Int64GetDatum(p->batch_bytes), Int64GetDatum(messages), Int64GetDatum(bytes)};

	if (mr_run(&plan, "UPDATE millrace.outbox_progress SET batch = $3, confirmed = $4, done = $5::pg_snapshot, upto = $6::pg_snapshot, after_id = $7, "
			   "batch_id = $8, last_id = $9, last_upto = $10, batch_messages = $11, batch_bytes = $12, messages = messages + $13, bytes = bytes + $14, "
			   "last_batch_at = CASE WHEN $13 > 0 THEN clock_timestamp() ELSE last_batch_at END WHERE server = $1 AND epoch = $2", lengthof(types), types, args) != 1)
		fenced(outbox);
}

/* Begin a tick with what has been committed since done.  False: nothing has. */
static bool
begin_tick(const kfk_outbox *outbox, place *p)
{
	static SPIPlanPtr plan = NULL;
	Datum		args[] = {CStringGetTextDatum(outbox->server), CStringGetTextDatum(p->done)};

	mr_prepare(&plan, "SELECT pg_current_snapshot()::text, min(id), max(id) FROM (" BEYOND("$2::pg_snapshot") ") m", 2, (const Oid[]) {TEXTOID, TEXTOID});
	SPI_execute_plan(plan, args, NULL, false, 1);
	if (number_column(3, -1) < 0)
		return false;
	p->upto = text_column(1);
	p->after_id = number_column(2, 0) - 1;
	p->last_id = number_column(3, 0);
	return true;
}

/*
 * bytea[] name, value, ... as headers of a record, and of one that leaves
 * without its value (of omitted bytes; -1: it does not) one more; in the current context.
 */
static void
read_headers(kfk_record *record, ArrayType *array, int64 omitted)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	kfk_header *headers;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	n /= 2;
	headers = palloc0(sizeof(kfk_header) * (size_t) (n + 1));
	for (int i = 0; i < n; i++)
	{
		headers[i].name = nulls[2 * i] ? "" : TextDatumGetCString(values[2 * i]);
		if (nulls[2 * i + 1])
			continue;
		headers[i].value = VARDATA_ANY(DatumGetPointer(values[2 * i + 1]));
		headers[i].len = VARSIZE_ANY_EXHDR(DatumGetPointer(values[2 * i + 1]));
	}
	if (omitted >= 0)
	{
		char	   *size = psprintf(INT64_FORMAT, omitted);

		headers[n++] = (kfk_header) {KFK_OMITTED_HEADER, size, strlen(size)};
	}
	record->headers = headers;
	record->n_headers = n;
}

/* A column of bytes, copied into the current context. */
static const void *
read_bytes(HeapTuple row, TupleDesc desc, int column, size_t *len)
{
	bool		null;
	Datum		d = SPI_getbinval(row, desc, column, &null);
	struct varlena *bytes;

	*len = 0;
	if (null)
		return NULL;
	bytes = PG_DETOAST_DATUM_COPY(d);
	*len = VARSIZE(bytes) - VARHDRSZ;
	return VARDATA(bytes);
}

static void
add_message(kfk_outbatch *batch, HeapTuple row, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);
	kfk_record *r = &batch->records[batch->n];
	int64		omitted;
	bool		null;
	Datum		d;

	memset(r, 0, sizeof(*r));
	batch->ids[batch->n] = DatumGetInt64(SPI_getbinval(row, desc, 1, &null));
	r->topic = SPI_getvalue(row, desc, 2);
	r->key = read_bytes(row, desc, 3, &r->key_len);
	r->value = read_bytes(row, desc, 4, &r->value_len);
	d = SPI_getbinval(row, desc, 7, &null);
	omitted = null ? -1 : DatumGetInt64(d);
	d = SPI_getbinval(row, desc, 5, &null);
	if (!null)
		read_headers(r, DatumGetArrayTypePCopy(d), omitted);
	d = SPI_getbinval(row, desc, 6, &null);
	r->time_ms = DatumGetTimestampTz(d) / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000);
	batch->bytes += (int64) (r->key_len + r->value_len);
	batch->n++;
	MemoryContextSwitchTo(old);
}

/* Messages of the tick after after_id and up to last_id, as many as a batch may hold. */
static void
read_messages(const kfk_outbox *outbox, const place *p, int64 last_id, kfk_outbatch *batch)
{
	static SPIPlanPtr plan = NULL;
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(p->after_id), Int64GetDatum(last_id),
	CStringGetTextDatum(p->upto), CStringGetTextDatum(p->done)};
	Portal		portal;
	bool		full = false;

	MemoryContextReset(batch->cxt);
	batch->n = 0;
	batch->bytes = 0;
	batch->records = MemoryContextAlloc(batch->cxt, sizeof(kfk_record) * (size_t) outbox->batch_rows);
	batch->ids = MemoryContextAlloc(batch->cxt, sizeof(int64) * (size_t) outbox->batch_rows);
	mr_prepare(&plan, "SELECT m.id, m.topic, m.key, CASE WHEN d.id IS NULL THEN m.value END, m.headers, coalesce(m.ts, m.at), "
			   "CASE WHEN d.id IS NOT NULL THEN octet_length(m.value)::int8 END "
			   "FROM millrace.outbox m LEFT JOIN millrace.outbox_dead_letters d ON d.server = m.server AND d.id = m.id "
			   "WHERE m.server = $1 AND m.id > $2 AND m.id <= $3 "
			   "AND pg_visible_in_snapshot(m.xid, $4::pg_snapshot) AND NOT pg_visible_in_snapshot(m.xid, $5::pg_snapshot) "
			   "AND coalesce(d.shortened, true) ORDER BY m.id",
			   5, (const Oid[]) {TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID});
	portal = SPI_cursor_open(NULL, plan, args, NULL, false);
	while (!full)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed && !full; i++)
		{
			add_message(batch, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
			full = batch->n >= outbox->batch_rows || batch->bytes >= outbox->batch_bytes;
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
}

/* The batch that was claimed has left. */
static void
confirm_batch(place *p)
{
	p->confirmed = true;
	p->after_id = p->batch_id;
}

/*
 * Confirm the batch before, if that is to be said, and claim the next; or read
 * the one that is claimed and not confirmed once more.  False: nothing waits.
 */
bool
kfk_outbox_next(const kfk_outbox *outbox, bool confirm, kfk_outbatch *batch)
{
	place		p;
	mr_owner_save save;
	int64		messages = 0;
	int64		bytes = 0;
	bool		some = false;
	bool		moved = confirm;

	MR_FAILPOINT("outbox.before_claim");
	mr_begin("claim a batch");
	mr_spi_begin(&save);
	read_place(outbox, &p);
	if (!p.confirmed && !confirm)
	{
		read_messages(outbox, &p, p.batch_id, batch);
		some = batch->n > 0;
		if (!some)				/* the last of them became a dead letter */
		{
			confirm_batch(&p);
			moved = true;
		}
	}
	else if (confirm)
	{
		messages = p.batch_messages;
		bytes = p.batch_bytes;
		confirm_batch(&p);
	}
	while (!some && (p.upto || begin_tick(outbox, &p)))
	{
		moved = true;
		batch->n = 0;
		if (p.after_id < p.last_id)
			read_messages(outbox, &p, p.last_id, batch);
		some = batch->n > 0;
		if (some)
		{
			p.batch++;
			p.batch_id = batch->ids[batch->n - 1];
			p.last_upto = p.upto;
			p.confirmed = false;
		}
		else
		{
			p.done = p.upto;
			p.upto = NULL;
		}
	}
	if (some)
	{
		moved = moved || batch->n != p.batch_messages;	/* fewer, where one became a dead letter */
		p.batch_messages = batch->n;
		p.batch_bytes = batch->bytes;
		batch->number = p.batch;
		batch->mark = MemoryContextStrdup(batch->cxt, make_mark(p.batch, p.batch_id, p.last_upto));
	}
	if (moved)
		write_place(outbox, &p, messages, bytes);
	MR_FAILPOINT("outbox.claimed");
	mr_spi_end(&save);
	mr_commit();
	batch->confirmed = messages;
	batch->confirmed_bytes = bytes;
	if (some)
		MR_FAILPOINT("outbox.after_claim");
	return some;
}
