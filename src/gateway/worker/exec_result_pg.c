/*
 * exec_result_pg.c
 *	  The result of a function becomes an answer, by its type.
 *
 * Rows are taken as the executor makes them, so that a set is cut off where it gets too large.
 *
 * Memory: the answer in the turn's context; what a row needs is forgotten with it.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "access/detoast.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#define COPY_PIECE (1 << 20)

typedef struct receiver
{
	DestReceiver pub;
	gw_turn    *turn;
	const gw_function *f;
	gw_answer  *answer;
	MemoryContext keep;			/* where the answer lies */
	MemoryContext row;
	StringInfoData text;
	uint64		rows;
	bool		null;			/* the last one */
} receiver;

void
gw_check_size(const gw_turn *turn, size_t len)
{
	if (len > (size_t) turn->request->max_response)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the result is larger than %d bytes", turn->request->max_response),
				 errhint("Setting millrace.http_max_response says how large it may be.")));
}

/* Text of the server as UTF-8; the same pointer where it is that already. */
const char *
gw_to_client(const char *text, size_t *len)
{
	char	   *converted;

	if (*len == 0 || GetDatabaseEncoding() == PG_UTF8)
		return text;
	converted = pg_server_to_any(text, (int) *len, PG_UTF8);
	if (converted != text)
		*len = strlen(converted);
	return converted;
}

/* Media type of bytes, by the first of them. */
const char *
gw_sniff(const unsigned char *b, size_t len)
{
	if (len >= 3 && memcmp(b, "\xFF\xD8\xFF", 3) == 0)
		return "image/jpeg";
	if (len >= 8 && memcmp(b, "\x89PNG\r\n\x1A\n", 8) == 0)
		return "image/png";
	if (len >= 6 && (memcmp(b, "GIF87a", 6) == 0 || memcmp(b, "GIF89a", 6) == 0))
		return "image/gif";
	if (len >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0)
		return "image/webp";
	if (len >= 5 && memcmp(b, "%PDF-", 5) == 0)
		return "application/pdf";
	return "application/octet-stream";
}

/* Append, if there is room for it. */
static void
append(receiver *r, const char *bytes, size_t len)
{
	gw_check_size(r->turn, (size_t) r->text.len + len);
	for (size_t at = 0; at < len; at += COPY_PIECE)
	{
		appendBinaryStringInfo(&r->text, bytes + at, (int) Min(len - at, COPY_PIECE));
		CHECK_FOR_INTERRUPTS();
	}
}

static void
append_value(receiver *r, Datum value)
{
	const char *bytes;
	size_t		len;

	if (r->f->shape == GW_AS_JSONB)
	{
		Jsonb	   *jb = DatumGetJsonbP(value);

		bytes = JsonbToCString(NULL, &jb->root, VARSIZE(jb));
		len = strlen(bytes);
	}
	else
	{
		text	   *t;

		/* its size is known before it is unpacked */
		gw_check_size(r->turn, r->f->shape == GW_AS_BYTES ? toast_raw_datum_size(value) - VARHDRSZ : 0);
		t = DatumGetTextPP(value);
		bytes = VARDATA_ANY(t);
		len = VARSIZE_ANY_EXHDR(t);
	}
	if (r->f->shape != GW_AS_BYTES)
		bytes = gw_to_client(bytes, &len);
	append(r, bytes, len);
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	receiver   *r = (receiver *) self;
	MemoryContext old = MemoryContextSwitchTo(r->row);
	bool		array = r->f->set && r->f->media == NULL;
	Datum		value;
	bool		null;

	r->turn->stage = GW_ANSWER;
	value = slot_getattr(slot, 1, &null);
	r->null = null;
	if (array)
		append(r, r->rows > 0 ? "," : "[", 1);
	if (null)
	{
		if (array)
			append(r, "null", 4);
	}
	else if (r->f->shape == GW_AS_RESPONSE)
	{
		MemoryContextSwitchTo(r->keep);
		gw_read_response(r->turn, value, r->answer);
	}
	else if (r->f->shape != GW_VOID)
		append_value(r, value);
	r->rows++;
	MemoryContextSwitchTo(old);
	MemoryContextReset(r->row);
	r->turn->stage = GW_RUN;
	return true;
}

static void
begin(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
end(DestReceiver *self)
{
}

/* What there is to say of the whole. */
static void
complete(receiver *r)
{
	gw_answer  *a = r->answer;
	const gw_function *f = r->f;

	if (f->shape == GW_VOID)
	{
		a->status = 204;
		return;
	}
	if (r->rows == 0 && !f->set)
		r->null = true;			/* cannot be, of a function that is no set */
	if (!f->set && r->null && r->turn->request->kind == GW_POLL)
		return;					/* not yet: status 0 */
	if (f->set && f->media == NULL)
		append(r, r->rows > 0 ? "]" : "[]", r->rows > 0 ? 1 : 2);
	else if (!f->set && r->null)
		append(r, "null", 4);
	else if (f->shape == GW_AS_RESPONSE)
		return;
	a->status = 200;
	a->body = r->text.data;
	a->len = r->text.len;
	if ((!f->set && r->null) || (f->media == NULL && (f->set || f->shape == GW_AS_JSON || f->shape == GW_AS_JSONB)))
		a->type = "application/json";
	else if (f->media)
		a->type = strncmp(f->media, "text/", 5) == 0 ? psprintf("%s; charset=utf-8", f->media) : f->media;
	else if (f->shape == GW_AS_BYTES)
		a->type = gw_sniff((const unsigned char *) a->body, a->len);
	else
		a->type = "text/plain; charset=utf-8";
}

void
gw_run_plan(gw_turn *turn, const gw_function *f, SPIPlanPtr plan, ParamListInfo params, gw_answer *answer)
{
	receiver	r = {
		.pub = {.receiveSlot = receive,.rStartup = begin,.rShutdown = end,.rDestroy = end,.mydest = DestNone},
		.turn = turn,.f = f,.answer = answer,.keep = CurrentMemoryContext
	};
	SPIExecuteOptions options = {.params = params,.dest = &r.pub};
	int			rc;

	r.row = AllocSetContextCreate(CurrentMemoryContext, "millrace row", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&r.text);
	SPI_connect();
	rc = SPI_execute_plan_extended(plan, &options);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(rc));
	SPI_finish();
	turn->stage = GW_ANSWER;
	complete(&r);
	MemoryContextDelete(r.row);
}
